//! `migrate`.

use clap::Args;

use super::Output;

#[derive(Debug, Args)]
#[command(after_help = "\
Moves every row and checks the copy: counts and hashes of each table, read from both databases. The
daemon must be stopped first; the source is only read and stays as it is. Workspaces and other files
stay in the data directory. docs/BACKUP.md has the steps from one machine to several.

Addresses: sqlite:///var/lib/agent-runtime/agent-runtime.db (the file of a data directory) and
postgres://user@host:5432/name. A password does not belong on a command line: PGPASSWORD or ~/.pgpass.

Examples:
  agent-runtime migrate --from sqlite:///var/lib/agent-runtime/agent-runtime.db \\
      --to postgres://agent_runtime@db.example/agents
  agent-runtime migrate --from postgres://agent_runtime@db.example/agents --to sqlite:///srv/new/agent-runtime.db")]
pub(crate) struct Migrate {
    /// The database that is read
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The database that is filled; it must be empty
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Copy one moment of a source that is in use: what is written afterwards stays behind
    #[arg(long)]
    pub(crate) snapshot: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}
