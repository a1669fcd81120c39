//! The entries of `fuzz/`, for it and for the tests that replay its corpus. Not part of any build
//! that is shipped.

pub use crate::{
    domain::host::fuzzing::host,
    egress::fuzzing::{client_hello, dns, http_head},
};

/// A fuzz entry by the name of its target.
type Entry = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Entry] =
    &[("client_hello", client_hello), ("dns", dns), ("host", host), ("http_head", http_head)];
