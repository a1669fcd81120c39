//! The wire contract, held against the real daemon over real sockets.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod live;
mod rest;
mod socket;
