//! `config …`.

use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  agent-runtime config check
  agent-runtime config show | less
  agent-runtime config show --json")]
pub(crate) enum Config {
    /// Print every setting in force and where it came from; secrets are not shown
    Show(Output),
    /// Say what is wrong with the configuration, if anything
    Check(ConfigCheck),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    /// As `serve --allow-root`
    #[arg(long)]
    pub(crate) allow_root: bool,
}
