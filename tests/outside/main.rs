//! What comes from outside of the daemon and is nobody's fault: the power goes, the disk is full or
//! breaks, somebody holds the database, the clock jumps, clients do not read, and everybody asks at
//! once. After each the checker finds nothing wrong. docs/DURABILITY.md has the figures and the
//! commands that run each suite for long.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod crowd;
mod dice;
mod disk;
mod held;
mod load;
mod platter;
mod power;
mod shim;
mod slow;
