//! The network as tools see it: real sockets on loopback stand for the listeners that a sandbox
//! makes, real servers for the internet, and a name server that remembers what it was asked.
//!
//! Every attack has a negative control: the same bytes, where they are allowed, get through, so
//! that an attack which could never work proves nothing.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking"
)]

mod bounds;
mod connect;
mod fetch;
mod life;
mod names;
mod plain;
mod secrets;
mod servers;
mod support;
mod transparent;
mod upstream;
