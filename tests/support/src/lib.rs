//! What the end-to-end tests stand on: a registry with faults, image builders.
