//! `backup …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A backup is one encrypted file with everything that a daemon needs to go on: database, workspaces,
certificates, what was configured (without secrets), checkpoints of the audit trail. The daemon has
only the public key; the secret one stays with you, on another machine: without it no backup can be
read. docs/BACKUP.md has worked examples.

Examples:
  agent-runtime backup keygen --out backup-key.txt   once; then set backup.recipients
  agent-runtime backup create                        now, while the daemon works
  agent-runtime backup list
  agent-runtime backup verify FILE --identity backup-key.txt
  agent-runtime backup drill FILE --identity backup-key.txt
  agent-runtime backup restore FILE --identity backup-key.txt --data-dir NEW")]
pub(crate) enum Backup {
    /// Make a pair of keys: the public one for the daemon, the secret one for you
    Keygen(BackupKeygen),
    /// Make a backup now, beside the running daemon or without one
    Create(BackupCreate),
    /// Check a backup: everything with the secret key, what can be checked without
    Verify(BackupVerify),
    /// Put a backup into a new data directory
    Restore(BackupRestore),
    /// Put a backup into a temporary directory, check it there as a daemon would, and remove it
    Drill(BackupDrill),
    /// List backups: the files that are here, and what daemons recorded
    List(Output),
}

#[derive(Debug, Args)]
pub(crate) struct BackupKeygen {
    /// Where the secret key goes; it must not exist yet
    #[arg(long, value_name = "FILE", default_value = "backup-key.txt")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct BackupCreate {
    /// Without a daemon: the file to write, instead of one in the directory for backups
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct BackupVerify {
    /// The backup
    pub(crate) file: PathBuf,
    /// The file with the secret key
    #[arg(long, value_name = "KEY")]
    pub(crate) identity: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct BackupRestore {
    /// The backup
    pub(crate) file: PathBuf,
    /// The file with the secret key
    #[arg(long, value_name = "KEY")]
    pub(crate) identity: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct BackupDrill {
    /// The backup
    pub(crate) file: PathBuf,
    /// The file with the secret key
    #[arg(long, value_name = "KEY")]
    pub(crate) identity: PathBuf,
    /// A directory with room for everything that the backup holds; the temporary one when none
    #[arg(long, value_name = "DIR")]
    pub(crate) within: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}
