//! Judges a data directory by the twelve invariants of docs/DURABILITY.md, beside or after a daemon.
//!
//! It opens the database read-only and writes nothing. The same code judges every fault suite.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(dead_code, clippy::expect_used, clippy::panic, reason = "it shares the code of tests")]
#![allow(clippy::indexing_slicing, reason = "it shares the code of tests")]

#[path = "../tests/support/checker/mod.rs"]
mod checker;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Holds a data directory against the twelve invariants of docs/DURABILITY.md.
///
/// Prints one line for each violation and ends with code 1 if there is one, 0 if there is none.
///
/// Examples:
///   cargo run --example checker -- /var/lib/agent-runtime
///   cargo run --example checker -- ./data --stopped
///   cargo run --example checker -- ./data --witness clients.log --executed workspaces/a/witness.log
#[derive(Debug, Parser)]
#[command(name = "checker", verbatim_doc_comment)]
struct Args {
    /// The daemon's data directory.
    data_dir: PathBuf,
    /// A witness log of clients or of the fake provider (JSON lines); may be given again.
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
    /// A file to which tools appended the ids of their calls; may be given again.
    #[arg(long, value_name = "FILE")]
    executed: Vec<PathBuf>,
    /// A file that holds a value which nothing may hold, such as a token; may be given again.
    #[arg(long, value_name = "FILE")]
    secret: Vec<PathBuf>,
    /// No daemon runs and none of its runs should be open: judges also that every run has ended or
    /// waits, and that no process or mount is left.
    #[arg(long)]
    stopped: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut witness = checker::Witness::default();
    for file in &args.witness {
        witness.add_log(file);
    }
    for file in &args.executed {
        witness.add_executions(file);
    }
    for file in &args.secret {
        match std::fs::read_to_string(file) {
            Ok(secret) => witness.secrets.push(secret.trim_end().to_owned()),
            Err(error) => {
                eprintln!("checker: {}: {error}", file.display());
                return ExitCode::from(2);
            }
        }
    }
    if !args.data_dir.is_dir() {
        eprintln!("checker: {} is no directory", args.data_dir.display());
        return ExitCode::from(2);
    }
    let truth = checker::Truth::read(&args.data_dir).await;
    let mut found = if args.stopped {
        let mut found = truth.violations(&witness);
        found.extend(checker::leftovers_of(&args.data_dir));
        found
    } else {
        truth.violations_so_far(&witness)
    };
    found.sort_by_key(|v| v.invariant);
    for violation in &found {
        println!("{violation}");
    }
    let events: usize = truth.events.values().map(Vec::len).sum();
    println!(
        "{} runs, {events} events, {} audit rows: {} violations",
        truth.runs.len(),
        truth.audit.len(),
        found.len()
    );
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
