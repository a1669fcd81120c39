//! Several real daemons on one real Postgres: who takes over whom, what is in force where, and what
//! each of them sees of the others' runs.
#![cfg(test)]

#[path = "../kill/load.rs"]
mod load;
#[path = "../it/scenes.rs"]
mod scenes;
#[path = "../support/mod.rs"]
mod support;
#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "../it/web.rs"]
mod web;

mod backups;
mod changes;
mod deaths;
mod notices;
mod restarts;
mod seen;
mod set;
mod starts;
mod taken_back;
mod takeover;
