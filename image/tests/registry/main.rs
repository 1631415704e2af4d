//! The registry client against Debian's registry, and against one with faults.

mod debian;
mod samples;
