//! `egress …`.

use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Tools reach no machine that no rule allows. Rules stand in the configuration (allowed_domains and
denied_domains of each agent) and in this list, which is kept and works at once, also for calls under
way. Deny wins over allow, wherever it stands. Every change is in the audit trail.

Examples:
  agent-runtime egress list
  agent-runtime egress add api.example.com --agent default --note 'ticket 12'
  agent-runtime egress add '*.example.com:8443'            every host below it, for every agent
  agent-runtime egress add ads.example.com --deny
  agent-runtime egress add db.internal:5432 --allow-private --opaque --agent reports
  agent-runtime egress test api.example.com --agent default
  agent-runtime egress remove egr_01…

It speaks to the daemon over <data_dir>/admin.sock: run it as the daemon's user or as root, and name
the data directory with --data-dir or --config where it is not ./data.")]
pub(crate) enum Egress {
    /// List every rule, of the configuration and of the list; without a daemon as kept on disk
    List(EgressList),
    /// Add a rule to the list
    Add(EgressAdd),
    /// Remove a rule from the list; connections that only it allowed are cut
    Remove(EgressRemove),
    /// Say whether an agent may reach a host, why, and what would change it; connects to nothing
    Test(EgressTest),
}

#[derive(Debug, Args)]
pub(crate) struct EgressList {
    /// Only rules that count for this agent
    #[arg(long)]
    pub(crate) agent: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
HOST is a name (port 443), *.NAME for every host below it but not itself, * for every name, or an
address; with :PORT for another port. A rule that denies and names no port means every port.
--method and --path work for requests that can be seen: plain HTTP and http_request; such a rule
lets no TLS tunnel through.

Examples:
  agent-runtime egress add api.example.com
  agent-runtime egress add example.com:80 --method GET --path /docs/ --agent reader
  agent-runtime egress add '*.example.com' --deny --note 'incident 7'")]
pub(crate) struct EgressAdd {
    /// The host, or hosts
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) rule: String,
    /// The agent that it is for [default: every agent]
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Forbid instead of allow
    #[arg(long)]
    pub(crate) deny: bool,
    /// Only this HTTP method, such as GET; may be repeated
    #[arg(long = "method", value_name = "METHOD")]
    pub(crate) methods: Vec<String>,
    /// Only this path and those below it
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// The host may have an address of a private network
    #[arg(long)]
    pub(crate) allow_private: bool,
    /// A tunnel may carry something else than TLS that names this host
    #[arg(long)]
    pub(crate) opaque: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct EgressRemove {
    /// The rule's id, or the rule as `egress list` shows it where it stands there once
    #[arg(value_name = "ID|RULE")]
    pub(crate) rule: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 when it may, 1 when it may not, 2 when the question is wrong, 3 when no daemon answers.

Examples:
  agent-runtime egress test api.example.com
  agent-runtime egress test example.com:80 --agent reader --method GET --path /docs/a")]
pub(crate) struct EgressTest {
    /// The host
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) host: String,
    /// The agent
    #[arg(long, default_value = "default")]
    pub(crate) agent: String,
    /// Ask about an HTTP request with this method instead of a TLS tunnel
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Ask about an HTTP request with this path
    #[arg(long)]
    pub(crate) path: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}
