//! The phases of the Cloud Native Buildpacks lifecycle.
