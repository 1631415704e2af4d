//! The project descriptor.
