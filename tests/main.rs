//! End-to-end tests, through the binary, one module per area.
