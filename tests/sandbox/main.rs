//! Attempts to get out of the sandbox, judged by what they do outside.
//!
//! Every attempt has a negative control: the same program, run without the sandbox, succeeds, so
//! that a probe which could never work proves nothing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::future_not_send,
    reason = "a test's helpers fail by panicking and run on one thread, as its tests do"
)]

mod attempt;
mod basics;
mod bound;
mod command_view;
mod crash;
mod escape_files;
mod escape_processes;
mod kept;
mod latency;
mod levels;
mod limits;
mod local;
mod network;
mod protected;
mod sessions;
mod support;
mod swap_race;
mod tool_calls;
