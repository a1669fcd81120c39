//! `policy …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Output, PolicyTest, PolicyValidate};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
The policy decides each tool call: it runs, a person is asked, or it is denied. Deny wins over ask, ask
over allow, and no rule gives an agent what its definition does not. The language: docs/POLICY.md.

Without a daemon:
  agent-runtime policy validate policy.toml               every problem at once, each with its line
  agent-runtime policy test policy.toml -- git push       what would become of a call, and why

A changed policy is tried on what has happened before it is put in force:
  agent-runtime policy show > policy.toml                 begin with what is in force
  agent-runtime policy replay --days 7 --with policy.toml which past calls would be decided otherwise
  agent-runtime policy put policy.toml --note 'ticket 12' in force at once, without a restart
  agent-runtime policy versions                           what was in force before
  agent-runtime policy activate 9f86d081                  go back to one of them

Why a call was decided as it was, and what would change it:
  agent-runtime policy explain call_01…
  agent-runtime policy explain --agent default -- rm -rf build

The others speak to the daemon over <data_dir>/admin.sock: run them as the daemon's user or as root, and name
the data directory with --data-dir or --config where it is not ./data.")]
pub(crate) enum Policy {
    /// Say what is wrong with a policy's file, if anything; needs no daemon
    Validate(PolicyValidate),
    /// Say what a policy would do with a call, why, and what would change it; needs no daemon
    Test(Box<PolicyTest>),
    /// Print the policy in force, or a stored version of it
    Show(PolicyShow),
    /// Store a policy and put it in force
    Put(PolicyPut),
    /// List the versions, newest first
    Versions(PolicyVersions),
    /// Put a stored version in force again
    Activate(PolicyActivate),
    /// Say why a call was or would be allowed, asked about or denied, and what would change it
    Explain(PolicyExplain),
    /// Decide past calls again under another policy; changes nothing
    Replay(PolicyReplay),
}

#[derive(Debug, Args)]
#[command(after_help = "\
The text goes to standard output, what is known about it to standard error.

Examples:
  agent-runtime policy show > policy.toml
  agent-runtime policy show 9f86d081
  agent-runtime policy show builtin")]
pub(crate) struct PolicyShow {
    /// A version, its first digits (six or more), or `builtin` [default: the one in force]
    #[arg(value_name = "VERSION")]
    pub(crate) version: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The policy decides every call from then on, also those that were approved and have not started: their
approvals are asked for again. A wrong file changes nothing. The same text is the same version.

Examples:
  agent-runtime policy put policy.toml --note 'no pushes on Fridays'
  agent-runtime policy put policy.toml --base 9f86d081…   only if that version is still in force
  agent-runtime policy put policy.toml --no-activate      store it for later")]
pub(crate) struct PolicyPut {
    /// The file
    pub(crate) file: PathBuf,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// Store it, but leave in force what is
    #[arg(long)]
    pub(crate) no_activate: bool,
    /// Change nothing unless this version is in force (all 64 digits)
    #[arg(long, value_name = "VERSION")]
    pub(crate) base: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyVersions {
    /// At most so many
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  agent-runtime policy activate 9f86d081 --note 'roll back'
  agent-runtime policy activate builtin                   no rules but the program's own")]
pub(crate) struct PolicyActivate {
    /// The version, its first digits (six or more), or `builtin`
    pub(crate) version: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A past call is explained under the version that decided it and under the one in force. A call that nobody
has made is looked at as the agent is defined now; with --with or --version also under that policy.

Exit code: 0 when it runs or a person is asked (under the policy in force), 1 when it is denied, 2 when
the question is wrong, 3 when no daemon answers.

Examples:
  agent-runtime policy explain call_01890a5d-ac96-774b-bcce-b302099a8057
  agent-runtime policy explain --agent default -- git push origin main
  agent-runtime policy explain --tool http_request --args '{\"method\":\"GET\",\"url\":\"https://a.example/\"}'
  agent-runtime policy explain --role operator --tainted --with policy.toml -- curl https://a.example/")]
pub(crate) struct PolicyExplain {
    /// A past call
    #[arg(value_name = "CALL", conflicts_with_all = ["tool", "argv"])]
    pub(crate) call: Option<String>,
    /// The agent whose call it would be
    #[arg(long, default_value = "default")]
    pub(crate) agent: String,
    /// The tool, with --args
    #[arg(long, conflicts_with = "argv")]
    pub(crate) tool: Option<String>,
    /// Its arguments, as JSON
    #[arg(long, value_name = "JSON", requires = "tool")]
    pub(crate) args: Option<String>,
    /// The role of whoever started the run
    #[arg(long, default_value = "member")]
    pub(crate) role: String,
    /// Where the run was started
    #[arg(long, default_value = "api")]
    pub(crate) surface: String,
    /// The run has read untrusted content
    #[arg(long)]
    pub(crate) tainted: bool,
    /// Ask this file, too
    #[arg(long, value_name = "FILE", conflicts_with = "version")]
    pub(crate) with: Option<PathBuf>,
    /// Ask this stored version, too
    #[arg(long)]
    pub(crate) version: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// A program and its arguments, as `exec` gets them
    #[arg(last = true, value_name = "ARGV")]
    pub(crate) argv: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Every decision that was recorded in these days is made again, by the very engine that decides live, with
everything that it looked at then: the agent's definition, its hosts, the call, taint, role and surface.
Decisions are kept for 30 days.

Exit code: 0 when no verdict would differ, 1 when some would, 2 when the policy is wrong.

Examples:
  agent-runtime policy replay --days 7 --with policy.toml
  agent-runtime policy replay --days 30 --version 9f86d081 --json")]
pub(crate) struct PolicyReplay {
    /// Calls of so many days, 1 to 30
    #[arg(long, default_value_t = 7)]
    pub(crate) days: u32,
    /// The policy, in a file
    #[arg(long, value_name = "FILE", conflicts_with = "version")]
    pub(crate) with: Option<PathBuf>,
    /// The policy, as a stored version or `builtin`; the one in force when neither is given
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Show calls too whose verdict stays and only the rule differs
    #[arg(long)]
    pub(crate) rules: bool,
    /// Show at most so many calls; all are counted
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) show: usize,
    #[command(flatten)]
    pub(crate) output: Output,
}
