//! Export into a local store.
