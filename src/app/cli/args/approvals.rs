//! `approval …`.

use clap::{Args, Subcommand, ValueEnum};

use super::Client;
use crate::domain::{ApprovalId, PatternId};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  agent-runtime approval list
  agent-runtime approval show apr_01…
  agent-runtime approval approve apr_01…
  agent-runtime approval approve apr_01… apr_02… apr_03…       each is decided on its own
  agent-runtime approval deny apr_01… --reason 'not on this machine'
  agent-runtime approval approve apr_01… --outcome happened     after a crash

Calls like one that waits, for a while (the tool, the agent and what is not named stay as they are):
  agent-runtime approval preview apr_01… --argv-prefix git --argv-prefix log
  agent-runtime approval approve apr_01… --scope pattern --argv-prefix git --argv-prefix log --uses 20
  agent-runtime approval approve apr_01… --scope pattern --arg 'path=reports/*.md' --ttl-secs 7200
  agent-runtime approval patterns
  agent-runtime approval revoke-pattern pat_01…")]
pub(crate) enum Approval {
    /// List what waits for an answer
    List(ApprovalList),
    /// Show one question whole: what exactly would be done, and why it is asked
    Show(ApprovalOne),
    /// Say yes
    Approve(Decide),
    /// Say no; the reason goes to the agent
    Deny(Decide),
    /// How many calls of the last 30 days a pattern would have let through; decides nothing
    Preview(Preview),
    /// List the patterns of calls that are approved for a while
    Patterns(Patterns),
    /// Take a pattern back
    RevokePattern(RevokePattern),
}

#[derive(Debug, Args)]
pub(crate) struct ApprovalList {
    /// pending, approved, denied, expired, voided, or all
    #[arg(long, default_value = "pending")]
    pub(crate) state: String,
    /// Only what waits for an answer: the same as `--state pending`
    #[arg(long, conflicts_with = "state")]
    pub(crate) pending: bool,
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
    /// The approvals, one or more
    #[arg(required = true, value_name = "APPROVAL")]
    pub(crate) ids: Vec<ApprovalId>,
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
    pub(crate) bounds: Bounds,
    #[command(flatten)]
    pub(crate) client: Client,
}

/// How far a pattern reaches beyond the call on the card.
#[derive(Debug, Args)]
pub(crate) struct Bounds {
    /// The next of the words with which the command must begin; the rest may differ
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) argv_prefix: Vec<String>,
    /// An argument that may differ and its glob; `*` stays within a part of a path, `**` does not
    #[arg(long, value_name = "NAME=GLOB")]
    pub(crate) arg: Vec<String>,
    /// How long the pattern holds, in seconds, at most a day [default: 3600]
    #[arg(long, value_name = "SECS")]
    pub(crate) ttl_secs: Option<u64>,
    /// How many calls it lets through, at most 100 [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) uses: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Preview {
    /// The approval that the pattern would be made from
    pub(crate) id: ApprovalId,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Patterns {
    /// Those that are over too
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct RevokePattern {
    /// The pattern
    pub(crate) id: PatternId,
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
    /// Calls like it, for a while: see --argv-prefix, --arg, --ttl-secs and --uses
    Pattern,
}

impl Scope {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Run => "run",
            Self::Pattern => "pattern",
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
