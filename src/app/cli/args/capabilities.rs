//! `capability …`.

use clap::{Args, Subcommand};

use super::Output;
use crate::domain::{CapabilityId, RunId};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
When a run is taken up it is given a capability: signed words about the tools, files, programs and
hosts that it may use, no more than its agent's definition allows, for no longer than it may work.
Each tool call runs under a part of it. Revoking a run's capability kills its running call and fails
the run; revoking a call's capability kills that call alone.

Examples:
  agent-runtime capability list --live
  agent-runtime capability list --run run_01…
  agent-runtime capability show cap_01…
  agent-runtime capability revoke cap_01… --reason 'it reads what it should not'

It speaks to the daemon over <data_dir>/admin.sock: run it as the daemon's user or as root, and name
the data directory with --data-dir or --config where it is not ./data. To stop everything at once:
`agent-runtime lockdown on`.")]
pub(crate) enum Capability {
    /// List what runs and calls were given, newest first
    List(CapabilityList),
    /// Show one: what it allows, for how long, and whether its signature holds
    Show(CapabilityOne),
    /// Take one away, with all that was made out of it; what runs under it is killed
    Revoke(CapabilityRevoke),
}

#[derive(Debug, Args)]
pub(crate) struct CapabilityList {
    /// Only those of this run
    #[arg(long)]
    pub(crate) run: Option<RunId>,
    /// Only those of this agent
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Only those that can be used now
    #[arg(long)]
    pub(crate) live: bool,
    /// How many, at most 500
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    /// Where the next page begins, as the page before says
    #[arg(long)]
    pub(crate) cursor: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct CapabilityOne {
    /// The capability
    pub(crate) id: CapabilityId,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct CapabilityRevoke {
    /// The capability
    pub(crate) id: CapabilityId,
    /// Why, for the record and for the people whose run it is
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}
