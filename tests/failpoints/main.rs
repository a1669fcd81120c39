//! Fault suite (b): a fault at every commit, spawn, send and acknowledgement.
//!
//! The real daemon runs a scenario (a pure tool, an unsafe one, an approval, a cancel, a request to a
//! site, live clients) with one failpoint armed: it crashes, fails or waits there. Then it is started
//! without faults, and the checker judges what it left. Every point is taken with every fault.
//!
//! `AGENT_RUNTIME_TEST_FAILPOINTS=all` takes every time that a point is reached instead of one,
//! `=all:store.commit` or `=store.commit` only of points whose name begins so, `=sample` each point
//! with one fault; `AGENT_RUNTIME_TEST_SEED` chooses others, and is printed.
//! `AGENT_RUNTIME_TEST_STORE=postgres`: each daemon has a database of a server that the test starts.
#![cfg(test)]
#![cfg(debug_assertions)]

#[path = "../support/mod.rs"]
mod support;

mod release;
mod scenario;
mod sources;
mod streams;
mod suite;
