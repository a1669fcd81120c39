//! The store and the daemon on a real Postgres that goes away, comes back, hangs and lies.
//!
//! `AGENT_RUNTIME_TEST_ROUNDS` and `AGENT_RUNTIME_TEST_SEED` make the fault suite longer or
//! different; the seed is printed.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod moving;
mod partition;
mod server;
