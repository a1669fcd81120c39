//! Attempts to get out of the sandbox, judged by what they do outside.
//!
//! Every attempt has a negative control: the same program, run without the sandbox, succeeds, so
//! that a probe which could never work proves nothing.

mod basics;
mod support;
