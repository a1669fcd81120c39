//! `lockdown …`.

use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
The panic button. `on` stops everything that agents do: tool calls and model calls under way are
killed, connections are cut, sandboxes end, capabilities are revoked, nothing new starts. It answers
when that is done. The daemon stays locked over restarts and crashes, and `/readyz` says so; people can
still look at everything. Runs that were stopped wait as `paused (lockdown)`.

`off` lets agents work again: queued runs start; each run that was stopped waits for
`agent-runtime run resume`, so that somebody looks at it first.

Examples:
  agent-runtime lockdown on --reason 'an agent talks to a host that nobody knows'
  agent-runtime lockdown status
  agent-runtime lockdown off

It speaks to the daemon over <data_dir>/admin.sock: run it as the daemon's user or as root, and name
the data directory with --data-dir or --config where it is not ./data.")]
pub(crate) enum Lockdown {
    /// Stop everything that agents do, now; exit code 1 if something did not stop in time
    On(LockdownOn),
    /// Say whether the daemon is locked down; exit code 1 if it is
    Status(Output),
    /// Let agents work again (overlord)
    Off(Output),
}

#[derive(Debug, Args)]
pub(crate) struct LockdownOn {
    /// Why, for the record
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}
