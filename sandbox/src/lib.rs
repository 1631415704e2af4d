//! A build container out of Linux namespaces.
//!
//! A [`Sandbox`] is a root filesystem of unpacked layers, mounts, a user and limits. A command runs in it as that user,
//! sees nothing else of the host, and leaves nothing behind.
