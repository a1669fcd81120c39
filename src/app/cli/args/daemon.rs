//! `serve`, `demo`, `init`, `chat`, `doctor`.

use clap::Args;

use super::{Connect, Output};

/// What to look at.
#[derive(Debug, Args, Clone, Copy)]
pub(crate) struct Doctor {
    /// Try to get out of the sandbox, and show that each attempt works without it
    #[arg(long)]
    pub(crate) attest: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Stops on Ctrl-C or SIGTERM after finishing the current steps; a second one drops them.
SIGHUP reloads the log level, the secrets, the policy and the hosts that agents may reach.

Examples:
  agent-runtime serve
  agent-runtime serve --http-addr 127.0.0.1:0 --data-dir /tmp/try
  AGENT_RUNTIME_LLM_PROVIDER=openai AGENT_RUNTIME_LLM_MODEL=small \\
    AGENT_RUNTIME_LLM_API_KEY_FILE=key agent-runtime serve")]
pub(crate) struct Serve {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) http_addr: Option<String>,
    /// error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Run as root all the same; tools still run under another uid
    #[arg(long)]
    pub(crate) allow_root: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Starts the real daemon in a fresh directory on a free port, speaks to it as any client would, and
removes everything afterwards. Needs no key and no network. Exit code 0 only if every step was seen.

Examples:
  agent-runtime demo            you answer the approvals
  agent-runtime demo --yes      answers them itself, for scripts
  agent-runtime demo --keep     leaves the data directory to look at")]
pub(crate) struct Demo {
    /// Answer every question with yes
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Leave the data directory
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes the configuration and, beside the data, a secret token that only you can read.

Examples:
  agent-runtime init
  agent-runtime init --production --config /etc/agent-runtime.toml --data-dir /var/lib/agent-runtime")]
pub(crate) struct Init {
    /// Write a production configuration
    #[arg(long)]
    pub(crate) production: bool,
    /// Replace what is there, secrets included
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Type a message; the answer streams. When the agent asks for permission, answer y or N.
Ctrl-C interrupts the run; once more leaves. /help lists the commands.

Examples:
  agent-runtime chat
  agent-runtime chat --agent coder
  echo 'list files' | agent-runtime chat")]
pub(crate) struct Chat {
    /// The agent to talk to
    #[arg(long, default_value = "default")]
    pub(crate) agent: String,
    /// Go on with this conversation
    #[arg(long, value_name = "CONV_ID")]
    pub(crate) conversation: Option<String>,
    #[command(flatten)]
    pub(crate) connect: Connect,
}
