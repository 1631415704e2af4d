//! Cloud Native Buildpacks file formats, labels and API versions.
