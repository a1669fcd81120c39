//! The store and the daemon on a real Postgres that goes away, comes back, hangs and lies.
//!
//! `AGENT_RUNTIME_TEST_ROUNDS` and `AGENT_RUNTIME_TEST_SEED` make the fault suite longer or
//! different; the seed is printed.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod moving;
mod partition;
mod plans;
mod server;

// What every run goes through, word for word as on SQLite: see `support::daemon`.
#[path = "../it/approvals.rs"]
mod approvals;
#[path = "../it/backup.rs"]
mod backup;
#[path = "../it/budgets.rs"]
mod budgets;
#[path = "../it/capabilities.rs"]
mod capabilities;
#[path = "../it/roles.rs"]
mod roles;
#[path = "../it/runs.rs"]
mod runs;
#[path = "../it/scenes.rs"]
mod scenes;
#[path = "../it/streams.rs"]
mod streams;
#[path = "../it/unknown.rs"]
mod unknown;
#[path = "../it/verbs.rs"]
mod verbs;
#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "../it/web.rs"]
mod web;
