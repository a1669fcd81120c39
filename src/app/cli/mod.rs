//! The commands. Each is a client of the public API, a reader of the data directory, or starts the
//! daemon; none holds logic of its own.

mod approvals;
mod args;
mod ask;
mod audit;
mod backup;
mod budgets;
mod capabilities;
mod chat;
mod configuration;
mod connect;
mod door;
mod egress;
mod export;
mod failure;
mod health;
mod identities;
mod init;
mod lockdown;
mod migrate;
pub(crate) mod out;
mod pairing;
mod patterns;
mod policy;
mod policy_live;
mod policy_words;
#[cfg(test)]
mod reach;
mod render;
mod retention;
mod runs;
mod secret;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

pub(crate) use self::{
    ask::{decision, question},
    audit::verify as verify_audit,
    failure::Failure,
    out::Paint,
    render::Renderer,
};
use super::{
    config::{self, Environment, Loaded, Override, Problems, Request, Starter, secret_file},
    demo,
};
use crate::store::Database;
use args::{Cli, Command};

/// What every command is given: the options that all share, and the environment.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) file: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    /// With what `.env` added.
    pub(crate) environment: Environment,
    pub(crate) overrides: Vec<Override>,
}

impl Context {
    /// Reads the configuration.
    pub(crate) fn load(&self) -> Result<Loaded, Problems> {
        config::load(&Request {
            file: self.file.clone(),
            environment: self.environment.clone(),
            dotenv: None,
            overrides: self.overrides.clone(),
        })
    }

    /// The data directory, also when the rest of the configuration is wrong.
    pub(crate) fn data_dir(&self) -> PathBuf {
        let named = self.data_dir.clone();
        let variable = || self.environment.text("AGENT_RUNTIME_DATA_DIR").map(PathBuf::from);
        let loaded = || self.load().ok().map(|l| l.settings.data_dir);
        named.or_else(loaded).or_else(variable).unwrap_or_else(|| PathBuf::from("./data"))
    }

    /// The database of the daemon that the configuration describes.
    pub(crate) fn database(&self) -> Database {
        self.load().ok().map(|l| l.settings.database).unwrap_or_default()
    }

    /// Whether colours are unwanted (<https://no-color.org>).
    pub(crate) fn wants_no_colour(&self) -> bool {
        self.environment.get("NO_COLOR").is_some()
    }
}

/// Who starts the daemon.
pub(crate) fn starter(allow_root: bool) -> Starter {
    match (secret_file::effective_uid(), allow_root) {
        (0, true) => Starter::RootAllowed,
        (0, false) => Starter::Root,
        _ => Starter::User,
    }
}

/// Runs the command that the command line names.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().unwrap_or_default();
            let is_fault = error.use_stderr();
            return ExitCode::from(if is_fault { failure::USAGE } else { 0 });
        }
    };
    let mut environment = Environment::of_process();
    let mut problems = Problems::default();
    environment.add_dotenv(Path::new(".env"), &mut problems);
    if !problems.list().is_empty() {
        return Failure::from(problems).report();
    }
    let mut context =
        Context { file: cli.config, data_dir: cli.data_dir, environment, overrides: Vec::new() };
    context.override_with(
        "data_dir",
        "--data-dir",
        context.data_dir.as_ref().map(|d| d.display().to_string()),
    );
    match dispatch(context, cli.command) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

impl Context {
    fn override_with(&mut self, key: &'static str, option: &'static str, value: Option<String>) {
        self.overrides.extend(value.map(|value| Override { key, option, value }));
    }
}

fn dispatch(mut context: Context, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(serve) => {
            context.override_with("http.addr", "--http-addr", serve.http_addr);
            context.override_with("log.level", "--log-level", serve.log_level);
            super::serve::serve(context, starter(serve.allow_root))
        }
        Command::Demo(options) => {
            client(demo::run(&context, demo::Options { yes: options.yes, keep: options.keep }))
        }
        Command::Init(options) => init::init(&context, &options),
        Command::Chat(chat) => client(chat::chat(&context, chat)),
        Command::Run(run) => client(runs::run(&context, run)),
        Command::Approval(approval) => client(approvals::approval(&context, approval)),
        Command::Audit(audit) => client(audit::audit(&context, audit)),
        Command::Backup(command) => client(backup::backup(&context, command)),
        Command::Migrate(command) => client(migrate::migrate(&context, command)),
        Command::Egress(command) => client(egress::egress(&context, command)),
        Command::Budget(command) => client(budgets::budget(&context, command)),
        Command::Usage(usage) => client(budgets::usage(&context, usage)),
        Command::Policy(command) => client(policy_live::policy(&context, command)),
        Command::Capability(command) => client(capabilities::capability(&context, command)),
        Command::Lockdown(command) => client(lockdown::lockdown(&context, command)),
        Command::Secret(command) => client(secret::secret(&context, command)),
        Command::Principal(command) => client(identities::principal(&context, command)),
        Command::Token(command) => client(identities::token(&context, command)),
        Command::Pair(command) => client(pairing::pair(&context, command)),
        Command::Link(command) => client(pairing::link(&context, command)),
        Command::Retention(command) => client(retention::retention(&context, command)),
        Command::Erase(erase) => client(retention::erase(&context, erase)),
        Command::Export(export) => client(export::export(&context, export)),
        Command::Config(command) => configuration::configuration(&context, command),
        Command::Doctor(options) if options.attest => {
            client(super::doctor::attest(&context, options.output.json))
        }
        Command::Doctor(options) => client(super::doctor::doctor(&context, options.output.json)),
        Command::Health(connect) => client(health::health(&context, &connect)),
        Command::Version(output) => {
            version(output.json);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn version(is_json: bool) {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    if is_json {
        out::json(&serde_json::json!({ "name": name, "version": version }));
    } else {
        out::line(format_args!("{name} {version}"));
    }
}

/// Runs a command that waits for others, on one thread.
fn client(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    super::install_tls();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::fault(format!("cannot start: {e}")))?;
    let result = runtime.block_on(work);
    // A thread may still wait for a line of standard input; nobody will read it.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_explains_itself() {
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
        }
    }

    #[test]
    fn wrong_usage_is_told_apart_from_help() {
        assert!(
            Cli::try_parse_from(["agent-runtime", "run", "show", "nonsense"])
                .unwrap_err()
                .use_stderr()
        );
        assert!(!Cli::try_parse_from(["agent-runtime", "--help"]).unwrap_err().use_stderr());
    }
}
