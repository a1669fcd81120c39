//! `doctor`: what works on this machine, what does not, and how to mend it.
//!
//! Invariant: it changes nothing. The sandbox is tried in a directory of its own, never in the
//! data directory of a daemon that may be running.

mod secrets;
mod trail;

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    build,
    cli::{Context, Failure, Paint, out, starter},
    client::Client,
    config::{self, Problems, Settings, Starter, WorkerRuntime, secret_file},
};
use crate::{
    llm::Llm,
    runtime::{Stop, Tasks},
    sandbox::{self, Attestation, Finding, Sandbox, Shown, Status},
    store::{Database, ReadOnlyStore, database_file},
};

/// How an item turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Item {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Item {
    fn pass(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Pass, detail: detail.into(), fix: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, detail: detail.into(), fix: Some(fix.into()) }
    }
}

pub(super) async fn doctor(context: &Context, is_json: bool) -> Result<ExitCode, Failure> {
    let mut items = Vec::new();
    match context.load() {
        Ok(loaded) => {
            let file =
                loaded.file.map_or_else(|| "no file".to_owned(), |f| f.display().to_string());
            items.push(Item::pass("configuration", file));
            examine(&loaded.settings, &mut items).await;
        }
        Err(problems) => {
            let fix = "every setting is explained in config/agent-runtime.toml";
            items.push(Item::fail("configuration", problems.to_string(), fix));
        }
    }
    let is_good = items.iter().all(|i| i.verdict != Verdict::Fail);
    if is_json {
        out::json(&json!({ "ok": is_good, "items": items }));
    } else {
        show(&items, Paint::stdout(context.wants_no_colour()));
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(settings: &Settings, items: &mut Vec<Item>) {
    let running = running_daemon(settings).await;
    items.push(rules(settings));
    items.push(user());
    items.push(data_dir(settings));
    items.push(store(settings, running.is_some()).await);
    items.push(secrets::files(settings));
    items.push(secrets::permission(settings));
    items.push(secrets::ages(settings).await);
    items.push(trail::signed(settings).await);
    items.push(models(settings));
    items.push(commands(settings));
    items.push(port(settings, running.as_deref()));
    items.push(match try_sandbox(settings).await {
        Ok(status) => sandbox_item(settings, &status),
        Err(why) => Item::fail("sandbox", why, "see docs/SANDBOX.md"),
    });
}

/// The address of the daemon of this data directory, if one answers there.
async fn running_daemon(settings: &Settings) -> Option<String> {
    let address = fs::read_to_string(settings.address_file()).ok()?;
    let client = Client::new(&format!("http://{}", address.trim()), None).ok()?;
    client.get::<Value>("/healthz").await.ok()?;
    Some(address.trim().to_owned())
}

fn rules(settings: &Settings) -> Item {
    let mut problems = Problems::default();
    // Being root is an item of its own.
    config::gate(settings, Starter::User, &mut problems);
    if problems.list().is_empty() {
        return Item::pass("start rules", format!("{} may start", settings.mode.as_str()));
    }
    Item::fail("start rules", problems.to_string(), "change these settings; `serve` refuses them")
}

fn user() -> Item {
    match starter(false) {
        Starter::Root => Item::warn(
            "user",
            "you are root: `serve` needs --allow-root, and limits on processes hold for tools only",
            "run the daemon as an ordinary user",
        ),
        Starter::User | Starter::RootAllowed => Item::pass("user", "not root"),
    }
}

fn data_dir(settings: &Settings) -> Item {
    let path = &settings.data_dir;
    let shown = path.display();
    let Ok(meta) = fs::metadata(path) else {
        let parent = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        let is_writable = fs::metadata(parent).is_ok_and(|m| !m.permissions().readonly());
        return if is_writable {
            Item::pass("data directory", format!("{shown} will be made at the first start"))
        } else {
            Item::fail(
                "data directory",
                format!("{shown} cannot be made"),
                "choose another with --data-dir",
            )
        };
    };
    let uid = secret_file::effective_uid();
    if !meta.is_dir() {
        return Item::fail(
            "data directory",
            format!("{shown} is no directory"),
            "choose another with --data-dir",
        );
    }
    if meta.uid() != uid {
        let what = format!("{shown} belongs to uid {}, you are {uid}", meta.uid());
        return Item::fail("data directory", what, format!("chown -R {uid} {shown}"));
    }
    if meta.mode() & 0o077 != 0 {
        let what = format!("{shown} is open to others (mode {:o})", meta.mode() & 0o777);
        return Item::warn("data directory", what, format!("chmod 700 {shown}"));
    }
    Item::pass("data directory", format!("{shown}, yours alone"))
}

async fn store(settings: &Settings, is_running: bool) -> Item {
    if !settings.has_store() {
        return Item::pass("store", "none yet");
    }
    let place = match &settings.database {
        Database::Sqlite => database_file(&settings.data_dir).display().to_string(),
        Database::Postgres(server) => server.place(),
    };
    let fix = "stop the daemon, keep a copy of the data directory, restore a backup";
    let damage = match ReadOnlyStore::open(&settings.data_dir, &settings.database).await {
        Ok(store) => store.damage().await.map_err(|e| build::fault(e).to_string()),
        Err(error) => Err(build::fault(error).to_string()),
    };
    let user = if is_running { "in use by the running daemon" } else { "not in use" };
    match damage {
        Ok(None) => Item::pass("store", format!("{place} is whole, {user}")),
        Ok(Some(what)) => Item::fail("store", format!("{place} is damaged: {what}"), fix),
        Err(why) => Item::fail("store", why, fix),
    }
}

fn models(settings: &Settings) -> Item {
    let fix = "set AGENT_RUNTIME_LLM_PROVIDER, _MODEL and _API_KEY_FILE, or [models] in the file";
    let llm = match Llm::new(build::llm_options(settings)) {
        Ok(llm) => llm,
        Err(error) => return Item::fail("models", build::fault(error).to_string(), fix),
    };
    if let Err(why) = llm.ready() {
        return Item::fail("models", why, fix);
    }
    let is_stand_in = |m: &crate::llm::ModelOptions| m.provider == crate::llm::Provider::Builtin;
    if settings.models.values().all(is_stand_in) {
        let what = "only the built-in stand-in, which is no language model";
        return Item::warn("models", what, fix);
    }
    Item::pass("models", settings.models.keys().cloned().collect::<Vec<_>>().join(", "))
}

/// Programs that carry out what they are told: on a list they are everything inside the sandbox.
const INTERPRETERS: [&str; 22] = [
    "sh", "bash", "dash", "zsh", "python", "python3", "node", "deno", "bun", "perl", "ruby", "php",
    "lua", "java", "awk", "gawk", "mawk", "make", "npm", "npx", "cargo", "busybox",
];

fn commands(settings: &Settings) -> Item {
    let runs_anything = |command: &String| {
        let name = command.rsplit('/').next().unwrap_or(command);
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        command == "*" || INTERPRETERS.iter().any(|i| *i == name || *i == stem)
    };
    let found: Vec<String> = settings
        .agents
        .iter()
        .filter_map(|agent| {
            let listed = agent.allowed_commands.iter().filter(|c| runs_anything(c));
            let names = listed.cloned().collect::<Vec<_>>().join(", ");
            let name = &agent.name;
            let also = if agent.may_execute_files { " and files of its own" } else { "" };
            (!names.is_empty()).then(|| format!("{name} may run {names}{also}"))
        })
        .collect();
    if found.is_empty() {
        return Item::pass("commands", "no interpreter is among the commands that run unasked");
    }
    Item::warn(
        "commands",
        format!("{}: an interpreter is everything inside the sandbox", found.join("; ")),
        "list only what is needed in allowed_commands; see docs/SANDBOX.md, What does not hold",
    )
}

fn port(settings: &Settings, running: Option<&str>) -> Item {
    let wanted = settings.http_addr;
    if let Some(address) = running {
        return Item::pass("address", format!("the daemon answers at {address}"));
    }
    match TcpListener::bind(wanted) {
        Ok(_) => Item::pass("address", format!("{wanted} is free")),
        Err(error) => Item::fail(
            "address",
            format!("cannot listen on {wanted}: {error}"),
            "stop what listens there, or choose another with AGENT_RUNTIME_HTTP_ADDR",
        ),
    }
}

fn sandbox_item(settings: &Settings, status: &Status) -> Item {
    let level = status.level.as_str();
    let reason =
        status.reason.clone().unwrap_or_else(|| "every escape of the canary failed".to_owned());
    let detail = format!("level {level}: {reason}");
    if !settings.sandbox_enabled {
        return Item::warn(
            "sandbox",
            "turned off: process tools are refused",
            "sandbox.enabled = true",
        );
    }
    if !status.usable {
        let fix = match settings.worker_runtime {
            WorkerRuntime::Sandbox => {
                "allow user namespaces and Landlock for this user, or lower sandbox.min_level; \
                 see docs/SANDBOX.md"
            }
            WorkerRuntime::Docker => {
                "start the engine, let this user open its socket, see that the image is there \
                 (sandbox.docker); see docs/SANDBOX.md"
            }
            WorkerRuntime::Local => "use the backend `sandbox` or `docker` (sandbox.backend)",
        };
        return Item::fail("sandbox", detail, fix);
    }
    if status.reason.is_some() {
        let fix = match settings.worker_runtime {
            WorkerRuntime::Sandbox => "nothing need be done; outside a container it is full",
            WorkerRuntime::Docker => "nothing need be done; sandbox.backend = \"sandbox\" has more",
            WorkerRuntime::Local => "for development alone: sandbox.backend = \"sandbox\"",
        };
        return Item::warn("sandbox", detail, fix);
    }
    Item::pass("sandbox", detail)
}

/// Measures the confinement in a directory that is removed again.
async fn try_sandbox(settings: &Settings) -> Result<Status, String> {
    let scratch = Scratch::new()?;
    let tasks = Tasks::new(Stop::default());
    let start = Sandbox::start(options(settings, &scratch), &tasks);
    let sandbox = Box::pin(start).await.map_err(|e| e.to_string())?;
    let status = sandbox.status();
    tasks.stop().hard();
    Ok(status)
}

fn options(settings: &Settings, scratch: &Scratch) -> sandbox::Options {
    sandbox::Options {
        enabled: settings.sandbox_enabled,
        min_level: settings.sandbox_min_level,
        data_dir: scratch.0.clone(),
        processes_max: 2,
        sessions_max: 2,
        backend: super::build::backend(settings),
    }
}

/// Tries to get out of the sandbox, and shows that each attempt works without it.
pub(super) async fn attest(context: &Context, is_json: bool) -> Result<ExitCode, Failure> {
    let settings = context.load().map_err(|p| Failure::usage(p.to_string()))?.settings;
    let scratch = Scratch::new().map_err(Failure::fault)?;
    let tasks = Tasks::new(Stop::default());
    let attested = Box::pin(sandbox::attest(options(&settings, &scratch), &tasks)).await;
    tasks.stop().hard();
    let attested = attested.map_err(|e| Failure::fault(e.to_string()))?;
    let Attestation { status, findings } = &attested;
    if is_json {
        out::json(&json!({
            "ok": attested.is_good(),
            "level": status.level,
            "minimum": settings.sandbox_min_level,
            "reason": status.reason,
            "findings": findings,
        }));
    } else {
        show_attempts(status, findings, Paint::stdout(context.wants_no_colour()));
    }
    Ok(if attested.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_attempts(status: &Status, findings: &[Finding], paint: Paint) {
    for finding in findings {
        let (mark, note) = match finding.shown {
            Shown::Held => (paint.good("held  "), "works without the sandbox"),
            Shown::NotShown => (paint.warn("shows nothing"), "fails without the sandbox too"),
            Shown::Known => (paint.warn("open  "), "known at this level"),
            Shown::Escaped => (paint.bad("ESCAPED"), "the sandbox does not hold"),
        };
        out::line(format_args!("{mark}  {:<40}  {note}", finding.attempt));
    }
    let reason = status.reason.as_deref().unwrap_or("every attempt failed");
    out::line(format_args!("level {}: {}", status.level.as_str(), out::tame(reason)));
}

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        use std::os::unix::fs::DirBuilderExt;
        let mut random = [0_u8; 6];
        getrandom::fill(&mut random).map_err(|e| e.to_string())?;
        let name = format!("agent-runtime-doctor-{}", data_encoding::HEXLOWER.encode(&random));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn show(items: &[Item], paint: Paint) {
    let width = items.iter().map(|i| i.name.len()).max().unwrap_or(0);
    for item in items {
        let mark = match item.verdict {
            Verdict::Pass => paint.good("pass"),
            Verdict::Warn => paint.warn("warn"),
            Verdict::Fail => paint.bad("FAIL"),
        };
        out::line(format_args!(
            "{mark}  {:<width$}  {}",
            item.name,
            out::tame(&item.detail).replace('\n', "; ")
        ));
        if let Some(fix) = &item.fix {
            out::line(format_args!("      {:<width$}  → {fix}", ""));
        }
    }
}
