//! The top: reads configuration, builds every part, waits for the end; and the command line.
//!
//! Invariant: no logic of its own. What decides lies below; here it is wired, started and stopped.

mod backup;
mod build;
mod cli;
mod client;
mod clock;
mod cluster;
mod config;
mod demo;
mod doctor;
mod limits;
mod network;
mod reload;
mod secrets;
mod serve;
mod trail;

use std::process::ExitCode;

/// The program: runs the command that the command line names.
pub fn main() -> ExitCode {
    cli::main()
}

/// Chooses the one TLS implementation, before anything opens a connection.
fn install_tls() {
    // A second call finds it installed, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
}
