//! `audit …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;
use crate::domain::{RunId, Timestamp, audit::AuditKind};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Reads the data directory, beside a running daemon or without one; `verify` also reads an export, on
any machine. Every row covers the one before it, and the daemon signs the end of the trail every
minute, also into a file outside the database: docs/AUDIT.md says what shows and what does not.

Examples:
  agent-runtime audit verify
  agent-runtime audit query --kind tool_denied --since 2026-01-31T00:00:00Z
  agent-runtime audit export > audit.jsonl
  agent-runtime audit verify --file audit.jsonl
  agent-runtime audit verify --file audit.jsonl --key-file permission-secret
  agent-runtime audit checkpoint                     ask the running daemon to sign now")]
pub(crate) enum Audit {
    /// Check that no row was changed, removed or put in
    Verify(Verify),
    /// Read rows
    Query(Query),
    /// Write every row and checkpoint as JSON Lines to standard output
    Export,
    /// Let the daemon sign the end of the trail now
    Checkpoint(Output),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Signatures are checked where the permission secret can be read: of the configuration, of the data
directory, or the file that --key-file names. Without it the chain of the rows and the checkpoints
are held against each other, which finds every change but a trail replaced as a whole.

Exit code: 0 when nothing is wrong, 1 when something is.")]
pub(crate) struct Verify {
    /// Check an export instead of the data directory
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A file (0600) with the permission secret that signed; may be repeated
    #[arg(long = "key-file", value_name = "FILE")]
    pub(crate) key_files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Rows come oldest first. The number of the last one is the --after of the next page.

Examples:
  agent-runtime audit query --run run_01… --json
  agent-runtime audit query --actor prn_01… --since 2026-01-31T08:00:00Z --until 2026-01-31T09:00:00Z")]
pub(crate) struct Query {
    /// Only rows of this kind, such as tool_denied or approval_decided
    #[arg(long)]
    pub(crate) kind: Option<AuditKind>,
    /// Only rows of this principal
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only rows of this run
    #[arg(long)]
    pub(crate) run: Option<RunId>,
    /// Only rows of this moment or later
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Only rows before this moment
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// Only rows after this number
    #[arg(long, default_value_t = 0)]
    pub(crate) after: u64,
    /// How many
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}
