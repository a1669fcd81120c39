//! Attempts to get out of the sandbox, judged by what they do outside.
//!
//! Every attempt has a negative control: the same program, run without the sandbox, succeeds, so
//! that a probe which could never work proves nothing.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its tests do")]

mod basics;
mod latency;
mod support;
