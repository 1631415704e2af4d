//! The registry client against Debian's registry, and against one with faults.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod child;
mod debian;
mod faults;
mod mirrors;
mod proxies;
mod samples;
mod tls;
