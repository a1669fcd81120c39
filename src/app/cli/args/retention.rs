//! `retention …`, `erase` and `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;
use crate::domain::{ErasureId, HoldKind, RetentionClass};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Classes: access (ways in that are over), app (the rest of deleted conversations, use of budgets, the
log), error (errors of the log), audit (the audit trail, sums of use), conversations (users' work: kept
for good unless you say otherwise). docs/RETENTION.md says what belongs to which. The daemon removes
what is old every hour, a few rows at a time; what is under a legal hold stays.

Examples:
  agent-runtime retention show
  agent-runtime retention set conversations 365
  agent-runtime retention set conversations default
  agent-runtime retention run --dry-run
  agent-runtime retention hold principal prn_01… --reason 'case 17'
  agent-runtime retention lift principal prn_01…

It speaks to the daemon over <data_dir>/admin.sock: run it as the daemon's user or as root.")]
pub(crate) enum Retention {
    /// Show how long things are kept, what is held, what was removed last
    Show(Output),
    /// Set the days of a class; 0: for good; `default`: as the configuration says
    Set(RetentionSet),
    /// Remove what is old now
    Run(RetentionRun),
    /// Hold everything of a principal, or a conversation: nothing of it is removed or erased
    Hold(SetHold),
    /// Lift a legal hold
    Lift(LiftHold),
}

#[derive(Debug, Args)]
pub(crate) struct RetentionSet {
    /// access, app, error, audit or conversations
    pub(crate) class: RetentionClass,
    /// Days, 0 for good, or `default`
    pub(crate) days: Days,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Days, or those of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Days(pub(crate) Option<u32>);

impl std::str::FromStr for Days {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" {
            return Ok(Self(None));
        }
        text.parse().map(|days| Self(Some(days)))
    }
}

#[derive(Debug, Args)]
pub(crate) struct RetentionRun {
    /// Remove nothing, and say what would be
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct SetHold {
    /// principal or conversation
    pub(crate) kind: HoldKind,
    /// Its id; a principal also by name
    pub(crate) subject: String,
    /// For the record
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct LiftHold {
    /// principal or conversation
    pub(crate) kind: HoldKind,
    /// Its id; a principal also by name
    pub(crate) subject: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Their work is cancelled first. Then their conversations, runs, files that their runs wrote, tokens, links
and budgets go; in conversations of others what they said is masked; sums of use and the audit trail
keep a pseudonym that nobody can resolve, and `agent-runtime audit verify` still passes. It goes on after a
restart, and ends with a receipt that also lists the backups that may still hold the person.
docs/RETENTION.md says what goes, what stays and why.

Examples:
  agent-runtime erase ann --dry-run
  agent-runtime erase ann --also 'Ann Smith' --also ann@example.com > receipt.json
  agent-runtime erase prn_01… --empty-workspace builder
  agent-runtime erase --list
  agent-runtime erase --show era_01…")]
pub(crate) struct Erase {
    /// Whom: an id or a name
    #[arg(required_unless_present_any = ["list", "show"])]
    pub(crate) principal: Option<String>,
    /// A further name by which they are known; may stand more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) also: Vec<String>,
    /// Empty the workspace of this agent as a whole; one that nobody else uses
    #[arg(long, value_name = "AGENT")]
    pub(crate) empty_workspace: Vec<String>,
    /// Erase nothing, and say what would be
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// List erasures
    #[arg(long, conflicts_with_all = ["principal", "show"])]
    pub(crate) list: bool,
    /// Show an erasure, and its receipt once it is done
    #[arg(long, value_name = "ID", conflicts_with = "principal")]
    pub(crate) show: Option<ErasureId>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes a directory: one JSON Lines file for each kind of thing (conversations, messages, runs, events, …),
the files that their runs wrote, and README.md, which says what is what.

Examples:
  agent-runtime export ann --out ann-2026-01-31
  agent-runtime export prn_01… --out /srv/requests/17")]
pub(crate) struct Export {
    /// Whose data: an id or a name
    pub(crate) principal: String,
    /// A directory that does not exist yet
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}
