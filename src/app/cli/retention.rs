//! `retention …` and `erase`: what is kept, and whose data is not. Speaks to the daemon's admin door.

use std::{process::ExitCode, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Context, Failure, args,
    door::{Door, read, refused},
    identities::{all, person_id},
    out,
    runs::encoded,
};
use crate::domain::HoldKind;

const RETENTION: &str = "/admin/v1/retention";
const HOLDS: &str = "/admin/v1/retention/holds";
const ERASURES: &str = "/admin/v1/erasures";
/// How often to look how far an erasure came.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
struct View {
    days: Map<String, Value>,
    configured: Map<String, Value>,
    holds: Vec<Hold>,
    last: Option<Report>,
}

#[derive(Debug, Deserialize)]
struct Hold {
    kind: String,
    subject: String,
    reason: Option<String>,
    at: String,
}

#[derive(Debug, Deserialize)]
struct Report {
    at: Option<String>,
    dry_run: bool,
    removed: Map<String, Value>,
    audit_cut: Option<u64>,
    held: u64,
    problems: Vec<String>,
    took_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Erasure {
    id: Option<String>,
    step: String,
    counts: Map<String, Value>,
    asked_at: String,
    ended_at: Option<String>,
    receipt: Option<Value>,
}

pub(super) async fn retention(
    context: &Context,
    command: args::Retention,
) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    match command {
        args::Retention::Show(output) => {
            let found: Value = door.client.get(RETENTION).await.map_err(refused)?;
            if output.json {
                out::json(&found);
            } else {
                show(&read(found)?);
            }
        }
        args::Retention::Set(set) => {
            let body = json!({ "class": set.class, "days": set.days.0 });
            let now: Value = door.client.put(RETENTION, &body).await.map_err(refused)?;
            if set.output.json {
                out::json(&now);
            } else {
                let days = now.get(set.class.as_str()).and_then(Value::as_u64).unwrap_or(0);
                out::line(format_args!("{}: {}", set.class, days_text(days)));
            }
        }
        args::Retention::Run(run) => {
            let body = json!({ "dry_run": run.dry_run });
            let path = format!("{RETENTION}/run");
            let report: Value = door.client.post(&path, &body).await.map_err(refused)?;
            if run.output.json {
                out::json(&report);
            } else {
                tell(&read(report)?);
            }
        }
        args::Retention::Hold(hold) => {
            let subject = subject(&door, hold.kind, &hold.subject).await?;
            let body = json!({ "kind": hold.kind, "subject": subject, "reason": hold.reason });
            let made: Value = door.client.post(HOLDS, &body).await.map_err(refused)?;
            if hold.output.json {
                out::json(&made);
            } else {
                out::line(format_args!("held     {} {subject}", hold.kind.as_str()));
            }
        }
        args::Retention::Lift(lift) => {
            let subject = subject(&door, lift.kind, &lift.subject).await?;
            let (kind, named) = (lift.kind.as_str(), encoded(&subject));
            let path = format!("{HOLDS}?kind={kind}&subject={named}");
            door.client.delete(&path).await.map_err(refused)?;
            if lift.output.json {
                out::json(&json!({ "kind": kind, "subject": subject, "lifted": true }));
            } else {
                out::line(format_args!("lifted   {kind} {subject}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn subject(door: &Door, kind: HoldKind, named: &str) -> Result<String, Failure> {
    match kind {
        HoldKind::Principal => person_id(door, named).await,
        HoldKind::Conversation => Ok(named.to_owned()),
    }
}

fn days_text(days: u64) -> String {
    if days == 0 { "kept for good".to_owned() } else { format!("{days} days") }
}

fn show(view: &View) {
    let number = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_u64);
    let row = |name: &String| {
        let days = number(&view.days, name).unwrap_or(0);
        let configured = number(&view.configured, name).unwrap_or(0);
        let from = if days == configured {
            "configuration".to_owned()
        } else {
            format!("set; configured: {}", days_text(configured))
        };
        [name.clone(), days_text(days), from]
    };
    let rows: Vec<_> = view.days.keys().map(row).collect();
    out::table(["CLASS", "KEPT", "FROM"], &rows);
    for Hold { kind, subject, reason, at } in &view.holds {
        let why = reason.as_ref().map_or_else(String::new, |r| format!(": {}", out::short(r, 200)));
        out::line(format_args!("held     {kind} {subject} since {at}{why}"));
    }
    if let Some(last) = &view.last {
        tell(last);
    }
}

fn tell(report: &Report) {
    let Report { at, dry_run, removed, audit_cut, held, problems, took_ms } = report;
    let what = if *dry_run { "would be removed" } else { "removed" };
    let at = at.as_deref().unwrap_or("-");
    if removed.is_empty() {
        out::line(format_args!("nothing {what}: nothing is old ({at}, {took_ms} ms)"));
    } else {
        out::line(format_args!("{what} ({at}, {took_ms} ms):"));
        let rows: Vec<_> = removed.iter().map(|(name, n)| [name.clone(), n.to_string()]).collect();
        out::table(["WHAT", "ROWS"], &rows);
    }
    if let Some(n) = audit_cut {
        out::line(format_args!("the audit trail is cut behind row {n}"));
    }
    if *held > 0 {
        out::line(format_args!("{held} old conversations are under a legal hold and stay"));
    }
    for problem in problems {
        out::note(out::tame(problem));
    }
}

pub(super) async fn erase(context: &Context, erase: args::Erase) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    if erase.list {
        let items = all(&door, ERASURES).await?;
        return super::identities::print(items, erase.output.json, |found: &[Erasure]| {
            let row = |e: &Erasure| {
                let id = e.id.clone().unwrap_or_default();
                let ended = e.ended_at.clone().unwrap_or_else(|| "-".to_owned());
                [id, e.step.clone(), e.asked_at.clone(), ended]
            };
            let rows: Vec<_> = found.iter().map(row).collect();
            out::table(["ID", "STEP", "ASKED", "DONE"], &rows);
        });
    }
    let started: Value = match (&erase.show, &erase.principal) {
        (Some(id), _) => {
            let found = door.client.get(&format!("{ERASURES}/{id}")).await.map_err(refused)?;
            out::json(&found);
            return Ok(ExitCode::SUCCESS);
        }
        (None, Some(whom)) => {
            let id = person_id(&door, whom).await?;
            let mut names = erase.also.clone();
            // A name of the configuration is no row that the daemon could find.
            names.extend((*whom != id).then(|| whom.clone()));
            let body = json!({
                "names": names, "workspaces": erase.empty_workspace, "dry_run": erase.dry_run,
            });
            let path = format!("/admin/v1/principals/{id}/erase");
            door.client.post(&path, &body).await.map_err(refused)?
        }
        (None, None) => return Err(Failure::usage("name whom to erase")),
    };
    if erase.dry_run {
        let view: Erasure = read(started.clone())?;
        if erase.output.json {
            out::json(&started);
        } else {
            let row = |(what, n): (&String, &Value)| [what.clone(), n.to_string()];
            let rows: Vec<_> = view.counts.iter().map(row).collect();
            out::table(["WOULD BE ERASED", "COUNT"], &rows);
        }
        return Ok(ExitCode::SUCCESS);
    }
    follow(&door, read(started)?).await
}

/// Waits for the receipt, which goes to standard output; how far it came to standard error.
async fn follow(door: &Door, started: Erasure) -> Result<ExitCode, Failure> {
    let id = started.id.unwrap_or_default();
    let mut told = String::new();
    loop {
        let found: Value = door.client.get(&format!("{ERASURES}/{id}")).await.map_err(refused)?;
        let view: Erasure = read(found)?;
        if let Some(receipt) = view.receipt {
            out::json(&receipt);
            return Ok(ExitCode::SUCCESS);
        }
        if view.step != told {
            out::note(format_args!("{id}: {}", view.step));
            told = view.step;
        }
        tokio::time::sleep(LOOK).await;
    }
}
