//! `run …`.

use clap::{Args, Subcommand, ValueEnum};

use super::Client;
use crate::domain::RunId;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  agent-runtime run submit 'list files'            start a run and watch it
  agent-runtime run submit --detach 'list files'   print its id and return
  agent-runtime run list --state awaiting_approval
  agent-runtime run tail run_01…                   everything that happened, then live")]
pub(crate) enum Run {
    /// Start a run
    Submit(Submit),
    /// List runs, newest first
    List(List),
    /// Show one run
    Show(One),
    /// Print a run's events, then follow it to its end
    Tail(Tail),
    /// Give a run in progress a further message
    Steer(Steer),
    /// Pause a run at the next safe point; --hard kills its running tool
    Interrupt(Interrupt),
    /// Send a paused run on, with an answer if it asked a question
    Resume(Resume),
    /// End a run
    Cancel(Cancel),
    /// Start a failed run again
    Retry(One),
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// What the agent should do; `-` reads it from standard input
    pub(crate) input: String,
    /// The agent
    #[arg(long, default_value = "default")]
    pub(crate) agent: String,
    /// Go on with this conversation
    #[arg(long, value_name = "CONV_ID")]
    pub(crate) conversation: Option<String>,
    /// What to do if that conversation is busy
    #[arg(long, value_enum, default_value_t = Busy::Enqueue)]
    pub(crate) on_busy: Busy,
    /// Print the run and return, without watching it
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) client: Client,
}

/// What a new message does to a busy conversation.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Busy {
    /// Wait its turn
    Enqueue,
    /// Be refused
    Reject,
    /// Interrupt the active run, then follow it
    Interrupt,
    /// Become a message to the active run
    Steer,
}

impl Busy {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Reject => "reject",
            Self::Interrupt => "interrupt",
            Self::Steer => "steer",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only runs in this state, such as running or awaiting_approval
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Only runs of this agent
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Only runs of this conversation
    #[arg(long, value_name = "CONV_ID")]
    pub(crate) conversation: Option<String>,
    /// How many
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
    /// Where the next page begins: the `next` of the page before
    #[arg(long)]
    pub(crate) cursor: Option<String>,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The run
    pub(crate) id: RunId,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The run
    pub(crate) id: RunId,
    /// Begin after this event
    #[arg(long, default_value_t = 0)]
    pub(crate) after: u64,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Steer {
    /// The run
    pub(crate) id: RunId,
    /// The message
    pub(crate) input: String,
    /// Start a new run with it if this one has ended
    #[arg(long)]
    pub(crate) or_start: bool,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Interrupt {
    /// The run
    pub(crate) id: RunId,
    /// Kill the running tool as well
    #[arg(long)]
    pub(crate) hard: bool,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The run
    pub(crate) id: RunId,
    /// The answer to its question
    pub(crate) input: Option<String>,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The run
    pub(crate) id: RunId,
    /// Why, for the record
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) client: Client,
}
