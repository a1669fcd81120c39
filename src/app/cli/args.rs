//! The command line, as `clap` reads it. The help texts are written for someone who has never seen
//! the program.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::domain::{ApprovalId, RunId};

const EXAMPLES: &str = "\
Start here:
  agent-runtime demo                     see the main job on real parts, in a minute
  agent-runtime serve                    start the daemon (it prints where it listens)
  agent-runtime chat                     talk to an agent from another terminal
  agent-runtime doctor                   what works on this machine and what does not

Client commands (chat, run, approval, health) find the daemon by AGENT_RUNTIME_URL and
AGENT_RUNTIME_TOKEN or AGENT_RUNTIME_TOKEN_FILE; without them they use the address and the
generated token in the data directory, so on the daemon's own machine nothing needs copying.

`egress` changes the daemon itself: it speaks to <data_dir>/admin.sock, as the daemon's user or root.

Exit codes: 0 done; 1 it failed, or the run did; 2 wrong usage or configuration; 3 no daemon
answers, or it does not accept the token.";

/// One daemon that lets a team use LLM agents safely: durable runs, kernel sandbox, human
/// approvals, tamper-evident audit.
#[derive(Debug, Parser)]
#[command(name = "agent-runtime", version, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Cli {
    /// The configuration file [default: config/agent-runtime.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the daemon keeps everything [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the daemon
    Serve(Serve),
    /// Show the main job on real parts: a daemon, an agent, the sandbox, an approval, a crash
    Demo(Demo),
    /// Write a configuration and strong secrets for a new installation
    Init(Init),
    /// Talk to an agent in the terminal
    Chat(Chat),
    /// Start, watch and control runs
    #[command(subcommand)]
    Run(Run),
    /// See and answer what agents ask permission for
    #[command(subcommand)]
    Approval(Approval),
    /// Check, read and export the audit trail of the data directory
    #[command(subcommand)]
    Audit(Audit),
    /// See, change and test which machines agents may reach
    #[command(subcommand)]
    Egress(Egress),
    /// Show the settings in force, or check them
    #[command(subcommand)]
    Config(Config),
    /// Say what works on this machine and how to mend what does not
    Doctor(Doctor),
    /// Ask the daemon whether it is ready; for health checks of containers
    Health(Connect),
    /// Print the version
    Version(Output),
}

/// Whom to speak to.
#[derive(Debug, Args, Clone)]
pub(super) struct Connect {
    /// The daemon's address, such as http://127.0.0.1:8080 [env: AGENT_RUNTIME_URL]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// A file (0600) that holds the bearer token [env: AGENT_RUNTIME_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// Whom to speak to, and for whom to print.
#[derive(Debug, Args, Clone)]
pub(super) struct Client {
    #[command(flatten)]
    pub(super) connect: Connect,
    #[command(flatten)]
    pub(super) output: Output,
}

/// For people or for programs.
#[derive(Debug, Args, Clone, Copy)]
pub(super) struct Output {
    /// Print JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

/// What to look at.
#[derive(Debug, Args, Clone, Copy)]
pub(super) struct Doctor {
    /// Try to get out of the sandbox, and show that each attempt works without it
    #[arg(long)]
    pub(super) attest: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Stops on Ctrl-C or SIGTERM after finishing the current steps; a second one drops them.
SIGHUP reloads the log level, the secrets and the hosts that agents may reach.

Examples:
  agent-runtime serve
  agent-runtime serve --http-addr 127.0.0.1:0 --data-dir /tmp/try
  AGENT_RUNTIME_LLM_PROVIDER=openai AGENT_RUNTIME_LLM_MODEL=small \\
    AGENT_RUNTIME_LLM_API_KEY_FILE=key agent-runtime serve")]
pub(super) struct Serve {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub(super) http_addr: Option<String>,
    /// error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    /// Run as root all the same; tools still run under another uid
    #[arg(long)]
    pub(super) allow_root: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Starts the real daemon in a fresh directory on a free port, speaks to it as any client would, and
removes everything afterwards. Needs no key and no network. Exit code 0 only if every step was seen.

Examples:
  agent-runtime demo            you answer the approvals
  agent-runtime demo --yes      answers them itself, for scripts
  agent-runtime demo --keep     leaves the data directory to look at")]
pub(super) struct Demo {
    /// Answer every question with yes
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Leave the data directory
    #[arg(long)]
    pub(super) keep: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes the configuration and, beside the data, a secret token that only you can read.

Examples:
  agent-runtime init
  agent-runtime init --production --config /etc/agent-runtime.toml --data-dir /var/lib/agent-runtime")]
pub(super) struct Init {
    /// Write a production configuration
    #[arg(long)]
    pub(super) production: bool,
    /// Replace what is there, secrets included
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Type a message; the answer streams. When the agent asks for permission, answer y or N.
Ctrl-C interrupts the run; once more leaves. /help lists the commands.

Examples:
  agent-runtime chat
  agent-runtime chat --agent coder
  echo 'list files' | agent-runtime chat")]
pub(super) struct Chat {
    /// The agent to talk to
    #[arg(long, default_value = "default")]
    pub(super) agent: String,
    /// Go on with this conversation
    #[arg(long, value_name = "CONV_ID")]
    pub(super) conversation: Option<String>,
    #[command(flatten)]
    pub(super) connect: Connect,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  agent-runtime run submit 'list files'            start a run and watch it
  agent-runtime run submit --detach 'list files'   print its id and return
  agent-runtime run list --state awaiting_approval
  agent-runtime run tail run_01…                   everything that happened, then live")]
pub(super) enum Run {
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
pub(super) struct Submit {
    /// What the agent should do; `-` reads it from standard input
    pub(super) input: String,
    /// The agent
    #[arg(long, default_value = "default")]
    pub(super) agent: String,
    /// Go on with this conversation
    #[arg(long, value_name = "CONV_ID")]
    pub(super) conversation: Option<String>,
    /// What to do if that conversation is busy
    #[arg(long, value_enum, default_value_t = Busy::Enqueue)]
    pub(super) on_busy: Busy,
    /// Print the run and return, without watching it
    #[arg(long)]
    pub(super) detach: bool,
    #[command(flatten)]
    pub(super) client: Client,
}

/// What a new message does to a busy conversation.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Busy {
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
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Reject => "reject",
            Self::Interrupt => "interrupt",
            Self::Steer => "steer",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only runs in this state, such as running or awaiting_approval
    #[arg(long)]
    pub(super) state: Option<String>,
    /// Only runs of this agent
    #[arg(long)]
    pub(super) agent: Option<String>,
    /// Only runs of this conversation
    #[arg(long, value_name = "CONV_ID")]
    pub(super) conversation: Option<String>,
    /// How many
    #[arg(long, default_value_t = 20)]
    pub(super) limit: u32,
    /// Where the next page begins: the `next` of the page before
    #[arg(long)]
    pub(super) cursor: Option<String>,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The run
    pub(super) id: RunId,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    /// The run
    pub(super) id: RunId,
    /// Begin after this event
    #[arg(long, default_value_t = 0)]
    pub(super) after: u64,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Args)]
pub(super) struct Steer {
    /// The run
    pub(super) id: RunId,
    /// The message
    pub(super) input: String,
    /// Start a new run with it if this one has ended
    #[arg(long)]
    pub(super) or_start: bool,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Args)]
pub(super) struct Interrupt {
    /// The run
    pub(super) id: RunId,
    /// Kill the running tool as well
    #[arg(long)]
    pub(super) hard: bool,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    /// The run
    pub(super) id: RunId,
    /// The answer to its question
    pub(super) input: Option<String>,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The run
    pub(super) id: RunId,
    /// Why, for the record
    #[arg(long)]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  agent-runtime approval list
  agent-runtime approval show apr_01…
  agent-runtime approval approve apr_01…
  agent-runtime approval deny apr_01… --reason 'not on this machine'
  agent-runtime approval approve apr_01… --outcome happened     after a crash")]
pub(super) enum Approval {
    /// List what waits for an answer
    List(ApprovalList),
    /// Show one question whole: what exactly would be done, and why it is asked
    Show(ApprovalOne),
    /// Say yes
    Approve(Decide),
    /// Say no; the reason goes to the agent
    Deny(Decide),
}

#[derive(Debug, Args)]
pub(super) struct ApprovalList {
    /// pending, approved, denied, expired, voided, or all
    #[arg(long, default_value = "pending")]
    pub(super) state: String,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Args)]
pub(super) struct ApprovalOne {
    /// The approval
    pub(super) id: ApprovalId,
    #[command(flatten)]
    pub(super) client: Client,
}

#[derive(Debug, Args)]
pub(super) struct Decide {
    /// The approval
    pub(super) id: ApprovalId,
    /// Why, for the record and the agent
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// How far a yes reaches
    #[arg(long, value_enum, default_value_t = Scope::Once)]
    pub(super) scope: Scope,
    /// For a call whose result a crash hid: what happened, or what to do
    #[arg(long, value_enum)]
    pub(super) outcome: Option<Outcome>,
    #[command(flatten)]
    pub(super) client: Client,
}

/// How far a yes reaches.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Scope {
    /// This call
    Once,
    /// The same call for the rest of the run
    Run,
}

impl Scope {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Run => "run",
        }
    }
}

/// What a person says about a call whose result a crash hid.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Outcome {
    /// It happened: go on as if it had returned
    Happened,
    /// It did not happen: run it
    Run,
    /// Leave it and tell the agent so
    Skip,
    /// End the run
    Abort,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Happened => "happened",
            Self::Run => "run",
            Self::Skip => "skip",
            Self::Abort => "abort",
        }
    }
}

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
pub(super) enum Egress {
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
pub(super) struct EgressList {
    /// Only rules that count for this agent
    #[arg(long)]
    pub(super) agent: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
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
pub(super) struct EgressAdd {
    /// The host, or hosts
    #[arg(value_name = "HOST[:PORT]")]
    pub(super) rule: String,
    /// The agent that it is for [default: every agent]
    #[arg(long)]
    pub(super) agent: Option<String>,
    /// Forbid instead of allow
    #[arg(long)]
    pub(super) deny: bool,
    /// Only this HTTP method, such as GET; may be repeated
    #[arg(long = "method", value_name = "METHOD")]
    pub(super) methods: Vec<String>,
    /// Only this path and those below it
    #[arg(long)]
    pub(super) path: Option<String>,
    /// The host may have an address of a private network
    #[arg(long)]
    pub(super) allow_private: bool,
    /// A tunnel may carry something else than TLS that names this host
    #[arg(long)]
    pub(super) opaque: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(super) note: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct EgressRemove {
    /// The rule's id, or the rule as `egress list` shows it where it stands there once
    #[arg(value_name = "ID|RULE")]
    pub(super) rule: String,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 when it may, 1 when it may not, 2 when the question is wrong, 3 when no daemon answers.

Examples:
  agent-runtime egress test api.example.com
  agent-runtime egress test example.com:80 --agent reader --method GET --path /docs/a")]
pub(super) struct EgressTest {
    /// The host
    #[arg(value_name = "HOST[:PORT]")]
    pub(super) host: String,
    /// The agent
    #[arg(long, default_value = "default")]
    pub(super) agent: String,
    /// Ask about an HTTP request with this method instead of a TLS tunnel
    #[arg(long)]
    pub(super) method: Option<String>,
    /// Ask about an HTTP request with this path
    #[arg(long)]
    pub(super) path: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Reads the data directory, beside a running daemon or without one; `verify` also reads an export.

Examples:
  agent-runtime audit verify
  agent-runtime audit query --kind tool_denied --limit 20
  agent-runtime audit export > audit.jsonl
  agent-runtime audit verify --file audit.jsonl")]
pub(super) enum Audit {
    /// Check that no row was changed, removed or put in
    Verify(Verify),
    /// Read rows
    Query(Query),
    /// Write every row as JSON Lines to standard output
    Export,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Check an export instead of the data directory
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Query {
    /// Only rows of this kind, such as tool_denied or approval_decided
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Only rows of this principal
    #[arg(long)]
    pub(super) actor: Option<String>,
    /// Only rows of this run
    #[arg(long)]
    pub(super) run: Option<RunId>,
    /// Only rows after this number
    #[arg(long, default_value_t = 0)]
    pub(super) after: u64,
    /// How many
    #[arg(long, default_value_t = 50)]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  agent-runtime config check
  agent-runtime config show | less
  agent-runtime config show --json")]
pub(super) enum Config {
    /// Print every setting in force and where it came from; secrets are not shown
    Show(Output),
    /// Say what is wrong with the configuration, if anything
    Check(ConfigCheck),
}

#[derive(Debug, Args)]
pub(super) struct ConfigCheck {
    /// As `serve --allow-root`
    #[arg(long)]
    pub(super) allow_root: bool,
}
