//! `audit …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;
use crate::domain::RunId;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Reads the data directory, beside a running daemon or without one; `verify` also reads an export.

Examples:
  agent-runtime audit verify
  agent-runtime audit query --kind tool_denied --limit 20
  agent-runtime audit export > audit.jsonl
  agent-runtime audit verify --file audit.jsonl")]
pub(crate) enum Audit {
    /// Check that no row was changed, removed or put in
    Verify(Verify),
    /// Read rows
    Query(Query),
    /// Write every row as JSON Lines to standard output
    Export,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Check an export instead of the data directory
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Only rows of this kind, such as tool_denied or approval_decided
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only rows of this principal
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only rows of this run
    #[arg(long)]
    pub(crate) run: Option<RunId>,
    /// Only rows after this number
    #[arg(long, default_value_t = 0)]
    pub(crate) after: u64,
    /// How many
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}
