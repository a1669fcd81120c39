//! The docker backend against a real engine: a private one, which `ops/docker-engine.sh start`
//! starts. Not part of a plain `cargo test`, which needs no engine; ops/test.sh runs it.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod confinement;
mod daemon;
mod lab;
mod life;
mod limits;
mod our_sandbox_inside;
