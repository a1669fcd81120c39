//! `approval …`.

use clap::{Args, Subcommand, ValueEnum};

use super::Client;
use crate::domain::ApprovalId;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  agent-runtime approval list
  agent-runtime approval show apr_01…
  agent-runtime approval approve apr_01…
  agent-runtime approval deny apr_01… --reason 'not on this machine'
  agent-runtime approval approve apr_01… --outcome happened     after a crash")]
pub(crate) enum Approval {
    /// List what waits for an answer
    List(ApprovalList),
    /// Show one question whole: what exactly would be done, and why it is asked
    Show(ApprovalOne),
    /// Say yes
    Approve(Decide),
    /// Say no; the reason goes to the agent
    Deny(Decide),
}

#[derive(Debug, Args)]
pub(crate) struct ApprovalList {
    /// pending, approved, denied, expired, voided, or all
    #[arg(long, default_value = "pending")]
    pub(crate) state: String,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct ApprovalOne {
    /// The approval
    pub(crate) id: ApprovalId,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// The approval
    pub(crate) id: ApprovalId,
    /// Why, for the record and the agent
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// How far a yes reaches
    #[arg(long, value_enum, default_value_t = Scope::Once)]
    pub(crate) scope: Scope,
    /// For a call whose result a crash hid: what happened, or what to do
    #[arg(long, value_enum)]
    pub(crate) outcome: Option<Outcome>,
    #[command(flatten)]
    pub(crate) client: Client,
}

/// How far a yes reaches.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scope {
    /// This call
    Once,
    /// The same call for the rest of the run
    Run,
}

impl Scope {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Run => "run",
        }
    }
}

/// What a person says about a call whose result a crash hid.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Outcome {
    /// It happened: go on as if it had returned
    Happened,
    /// It did not happen: run it
    Run,
    /// Leave it and tell the agent so
    Skip,
    /// End the run
    Abort,
}

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Happened => "happened",
            Self::Run => "run",
            Self::Skip => "skip",
            Self::Abort => "abort",
        }
    }
}
