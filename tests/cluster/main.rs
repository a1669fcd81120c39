//! Several real daemons on one real Postgres: who takes over whom, what is in force where, and what
//! each of them sees of the others' runs.
#![cfg(test)]

#[path = "../it/scenes.rs"]
mod scenes;
#[path = "../support/mod.rs"]
mod support;

mod backups;
mod changes;
mod restarts;
mod seen;
mod set;
mod starts;
mod takeover;
