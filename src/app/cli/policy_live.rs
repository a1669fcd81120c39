//! `policy …` of a running daemon: what is in force, its versions, why a call was decided as it was, and
//! what another policy would have decided.

use std::{fs, io::IsTerminal, path::Path, process::ExitCode};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Failure, Paint,
    args::{
        self, PolicyActivate, PolicyExplain, PolicyPut, PolicyReplay, PolicyShow, PolicyVersions,
    },
    door::{self, Door, read},
    failure::FAULT,
    out::{self, short},
    policy, policy_words as words,
    runs::encoded,
};
use crate::app::client::{ClientError, Page, Problem};

/// Where the policy is.
const POLICY: &str = "/admin/v1/policy";
/// No policy is longer; a wrong file such as a disk image must not be sent.
const BYTES_MAX: u64 = 1 << 20;

/// A version, as the daemon shows it.
#[derive(Debug, Deserialize)]
struct Stored {
    n: u64,
    version: String,
    note: Option<String>,
    created_at: String,
    created_by: String,
    #[serde(default)]
    active: bool,
    #[serde(default)]
    in_force: Option<Activation>,
    #[serde(default)]
    source: String,
}

#[derive(Debug, Deserialize)]
struct Activation {
    origin: String,
    at: String,
    done_by: String,
}

/// What a change came to.
#[derive(Debug, Deserialize)]
struct Change {
    version: String,
    stored: bool,
    before: Option<String>,
    activation: Option<Value>,
}

/// A page of a replay.
#[derive(Debug, Deserialize)]
struct Replayed {
    policy_version: String,
    counts: words::Counts,
    items: Vec<Value>,
    next_cursor: Option<String>,
    total: Option<u64>,
}

pub(super) async fn policy(context: &Context, command: args::Policy) -> Result<ExitCode, Failure> {
    match command {
        args::Policy::Validate(validate) => policy::validate(&validate),
        args::Policy::Test(test) => policy::test(context, &test),
        args::Policy::Show(show) => self::show(context, show).await,
        args::Policy::Put(put) => self::put(context, put).await,
        args::Policy::Versions(versions) => self::versions(context, versions).await,
        args::Policy::Activate(activate) => self::activate(context, activate).await,
        args::Policy::Explain(explain) => self::explain(context, explain).await,
        args::Policy::Replay(replay) => self::replay(context, replay).await,
    }
}

async fn show(context: &Context, show: PolicyShow) -> Result<ExitCode, Failure> {
    let path = show.version.map_or_else(
        || POLICY.to_owned(),
        |version| format!("{POLICY}/versions/{}", encoded(&version)),
    );
    let value: Value = Door::open(context)?.client.get(&path).await.map_err(refused)?;
    if show.output.json {
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let found: Stored = read(value)?;
    let note = found.note.as_deref().map_or_else(String::new, |n| format!(" ({})", short(n, 80)));
    out::note(format_args!(
        "version {} (number {}), stored {} by {}{note}",
        found.version, found.n, found.created_at, found.created_by
    ));
    match &found.in_force {
        Some(now) => out::note(format_args!(
            "in force since {}, put there by {} ({})",
            now.at, now.done_by, now.origin
        )),
        None => out::note("not in force"),
    }
    out::part(out::tame(&found.source));
    Ok(ExitCode::SUCCESS)
}

async fn put(context: &Context, put: PolicyPut) -> Result<ExitCode, Failure> {
    let source = text(&put.file)?;
    let body = json!({
        "source": source, "note": put.note, "activate": !put.no_activate, "base": put.base,
    });
    let door = Door::open(context)?;
    let value: Value =
        door.client.put(POLICY, &body).await.map_err(|e| wrong_file(e, &put.file))?;
    changed(value, put.output.json)
}

async fn activate(context: &Context, activate: PolicyActivate) -> Result<ExitCode, Failure> {
    let body = json!({ "version": activate.version, "note": activate.note });
    let door = Door::open(context)?;
    let path = format!("{POLICY}/activate");
    let value: Value = door.client.post(&path, &body).await.map_err(refused)?;
    changed(value, activate.output.json)
}

fn changed(value: Value, is_json: bool) -> Result<ExitCode, Failure> {
    if is_json {
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let Change { version, stored, before, activation } = read(value)?;
    let is_new = if stored { "new" } else { "known" };
    out::line(format_args!("version {version} ({is_new})"));
    let before = before.as_deref().map_or("nothing", words::short_version);
    match activation {
        Some(_) => out::line(format_args!("in force now, instead of {before}")),
        None if before == words::short_version(&version) => {
            out::line("it was in force already: nothing was changed");
        }
        None => out::line(format_args!("stored; {before} stays in force")),
    }
    Ok(ExitCode::SUCCESS)
}

async fn versions(context: &Context, versions: PolicyVersions) -> Result<ExitCode, Failure> {
    let path = format!("{POLICY}/versions?limit={}", versions.limit);
    let value: Value = Door::open(context)?.client.get(&path).await.map_err(refused)?;
    if versions.output.json {
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let page: Page<Stored> = read(value)?;
    let row = |v: &Stored| {
        [
            v.n.to_string(),
            words::short_version(&v.version).to_owned(),
            if v.active { "in force" } else { "-" }.to_owned(),
            v.created_at.clone(),
            v.created_by.clone(),
            v.note.as_deref().map_or_else(|| "-".to_owned(), |note| short(note, 60)),
        ]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    out::table(["NUMBER", "VERSION", "STATE", "STORED", "BY", "NOTE"], &rows);
    if page.next_cursor.is_some() {
        out::note("there are more: use --limit");
    }
    Ok(ExitCode::SUCCESS)
}

async fn explain(context: &Context, explain: PolicyExplain) -> Result<ExitCode, Failure> {
    let source = explain.with.as_deref().map(text).transpose()?;
    let body = match (&explain.call, &explain.tool) {
        (Some(call), _) => {
            json!({ "call_id": call, "source": source, "version": explain.version })
        }
        (None, tool) => {
            let (tool, args) = match tool {
                Some(tool) => (tool.as_str(), arguments(explain.args.as_deref())?),
                None if explain.argv.is_empty() => {
                    return Err(Failure::usage("nothing is asked").next(
                        "name a past call, or a program after `--`, or a tool with --tool and --args",
                    ));
                }
                None => ("exec", json!({ "argv": explain.argv })),
            };
            json!({
                "agent": explain.agent, "tool": tool, "args": args, "role": explain.role,
                "surface": explain.surface, "tainted": explain.tainted,
                "source": source, "version": explain.version,
            })
        }
    };
    let door = Door::open(context)?;
    let file = explain.with.as_deref().unwrap_or(Path::new("the policy"));
    let path = format!("{POLICY}/explain");
    let value: Value = door.client.post(&path, &body).await.map_err(|e| wrong_file(e, file))?;
    let is_denied = value.pointer("/now/verdict").and_then(Value::as_str) == Some("deny");
    if explain.output.json {
        out::json(&value);
    } else {
        words::answer(&read(value)?, Paint::stdout(context.wants_no_colour()));
    }
    Ok(if is_denied { ExitCode::from(FAULT) } else { ExitCode::SUCCESS })
}

fn arguments(text: Option<&str>) -> Result<Value, Failure> {
    let parsed = text.map_or_else(|| Ok(json!({})), serde_json::from_str);
    parsed.map_err(|error| Failure::usage(format!("--args is not JSON: {error}")))
}

async fn replay(context: &Context, replay: PolicyReplay) -> Result<ExitCode, Failure> {
    let source = replay.with.as_deref().map(text).transpose()?;
    let file = replay.with.as_deref().unwrap_or(Path::new("the policy"));
    let door = Door::open(context)?;
    let progress = Progress::new();
    let mut counts = words::Counts::default();
    let (mut shown, mut cursor, mut total): (Vec<Value>, Option<String>, _) =
        (Vec::new(), None, None);
    let version = loop {
        let body = json!({
            "days": replay.days, "source": source, "version": replay.version, "cursor": cursor,
            "limit": 500,
        });
        let path = format!("{POLICY}/replay");
        let answer: Value =
            door.client.post(&path, &body).await.map_err(|e| wrong_file(e, file))?;
        let page: Replayed = read(answer)?;
        counts.add(&page.counts);
        total = total.or(page.total);
        let room = replay.show.saturating_sub(shown.len());
        let wanted = |item: &Value| replay.rules || words::changes_verdict(item);
        shown.extend(page.items.into_iter().filter(wanted).take(room));
        progress.show(counts.examined, total);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break page.policy_version;
        }
    };
    progress.end();
    let differs = counts.stricter + counts.looser > 0;
    if replay.output.json {
        out::json(&json!({
            "policy_version": version, "days": replay.days, "counts": counts, "items": shown,
        }));
    } else {
        words::replayed(&version, replay.days, &counts, shown)?;
    }
    Ok(if differs { ExitCode::from(FAULT) } else { ExitCode::SUCCESS })
}

/// One line on a terminal that says how far a long replay is.
struct Progress(bool);

impl Progress {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal())
    }

    fn show(&self, examined: u64, total: Option<u64>) {
        if self.0 {
            let of = total.map_or_else(String::new, |total| format!(" of {total}"));
            out::progress(format_args!("{examined}{of} decisions"));
        }
    }

    fn end(&self) {
        if self.0 {
            out::progress("");
        }
    }
}

/// The text of a policy's file.
fn text(file: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("{} cannot be read: {error}", file.display()))
    };
    let found = fs::metadata(file).map_err(unreadable)?;
    if found.len() > BYTES_MAX {
        return Err(Failure::usage(format!("{} is larger than {BYTES_MAX} bytes", file.display())));
    }
    fs::read_to_string(file).map_err(unreadable)
}

fn refused(error: ClientError) -> Failure {
    match error {
        ClientError::Problem(problem) if problem.code == "policy.not_found" => Failure::fault(
            problem.to_string(),
        )
        .next("`agent-runtime policy versions` lists the versions; decisions are kept for 30 days"),
        other => door::refused(other),
    }
}

/// As [`refused`]; a text that is no policy is told line by line.
fn wrong_file(error: ClientError, file: &Path) -> Failure {
    match error {
        ClientError::Problem(Problem { code, errors, .. }) if code == "policy.invalid" => {
            let lines: Vec<String> = errors.iter().map(|e| format!("  {}", e.detail)).collect();
            let what = format!("{} is no policy\n{}", file.display(), lines.join("\n"));
            Failure::usage(what).next("nothing was changed; the language: docs/POLICY.md")
        }
        other => refused(other),
    }
}
