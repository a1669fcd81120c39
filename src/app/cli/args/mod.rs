//! The command line, as `clap` reads it. The help texts are written for someone who has never seen
//! the program.

mod approvals;
mod audit;
mod backup;
mod budgets;
mod capabilities;
mod config;
mod daemon;
mod egress;
mod identities;
mod lockdown;
mod migrate;
mod policy;
mod policy_offline;
mod retention;
mod runs;
mod secret;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use approvals::{
    Approval, ApprovalList, Bounds, Decide, Patterns, Preview, RevokePattern, Scope,
};
pub(crate) use audit::{Audit, Query as AuditQuery};
pub(crate) use backup::{
    Backup, BackupCreate, BackupDrill, BackupKeygen, BackupRestore, BackupVerify,
};
pub(crate) use budgets::{Budget, BudgetClear, BudgetSet, BudgetShow, Usage};
pub(crate) use capabilities::{Capability, CapabilityList, CapabilityOne, CapabilityRevoke};
pub(crate) use config::Config;
pub(crate) use daemon::{Chat, Demo, Doctor, Init, Serve};
pub(crate) use egress::{Egress, EgressAdd, EgressList, EgressRemove, EgressTest};
pub(crate) use identities::{
    ApprovePairing, CreatePrincipal, CreateToken, DenyPairing, Link, ListPairings, ListTokens,
    Narrow, OnePrincipal, Pair, Principal, RequestPairing, ResolveLink, RevokeLink, RevokeToken,
    Stale, Token, UpdatePrincipal,
};
pub(crate) use lockdown::Lockdown;
pub(crate) use migrate::Migrate;
pub(crate) use policy::{
    Policy, PolicyActivate, PolicyExplain, PolicyPut, PolicyReplay, PolicyShow, PolicyVersions,
};
pub(crate) use policy_offline::{PolicyTest, PolicyValidate};
pub(crate) use retention::{Erase, Export, Retention};
pub(crate) use runs::{List, Run, Submit};
pub(crate) use secret::Secret;

const EXAMPLES: &str = "\
Start here:
  agent-runtime demo                     see the main job on real parts, in a minute
  agent-runtime serve                    start the daemon (it prints where it listens)
  agent-runtime chat                     talk to an agent from another terminal
  agent-runtime doctor                   what works on this machine and what does not

Client commands (chat, run, approval, health) find the daemon by AGENT_RUNTIME_URL and
AGENT_RUNTIME_TOKEN or AGENT_RUNTIME_TOKEN_FILE; without them they use the address and the
generated token in the data directory, so on the daemon's own machine nothing needs copying.

`egress`, `policy`, `budget`, `capability`, `lockdown`, `principal`, `token`, `pair`, `link`, `retention`
and `erase` change the daemon itself: they speak to <data_dir>/admin.sock, as the daemon's user or root.

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
    /// Make, check and put back encrypted backups
    #[command(subcommand)]
    Backup(Backup),
    /// Move the store from one database to another
    Migrate(Migrate),
    /// See, change and test which machines agents may reach
    #[command(subcommand)]
    Egress(Egress),
    /// See and change what may be used in a day, by everybody, an agent, a person, a conversation
    #[command(subcommand)]
    Budget(Budget),
    /// Show what was used: tokens, money, runs
    Usage(Usage),
    /// See, change, explain and replay the policy that decides tool calls
    #[command(subcommand)]
    Policy(Policy),
    /// See what runs and calls may do, and take it away
    #[command(subcommand)]
    Capability(Capability),
    /// Stop everything that agents do, and let them work again
    #[command(subcommand)]
    Lockdown(Lockdown),
    /// See, store and replace the secrets that the daemon keeps
    #[command(subcommand)]
    Secret(Secret),
    /// See and change who may act, and with which rights
    #[command(subcommand)]
    Principal(Principal),
    /// Make, list and revoke bearer tokens
    #[command(subcommand)]
    Token(Token),
    /// Link accounts of chat platforms to principals
    #[command(subcommand)]
    Pair(Pair),
    /// See and revoke linked accounts
    #[command(subcommand)]
    Link(Link),
    /// See and change how long things are kept, and what must be
    #[command(subcommand)]
    Retention(Retention),
    /// Erase a person's data
    Erase(Erase),
    /// Write everything that is stored about a person to files
    Export(Export),
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
