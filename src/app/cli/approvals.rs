//! `approval …`: see and answer what agents ask permission for.

use std::{process::ExitCode, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Failure,
    args::{self, Scope},
    connect,
    failure::FAULT,
    out::{self, short, tame},
    patterns,
    render::approval_lines,
    runs::encoded,
};
use crate::{
    app::client::{Page, Problem},
    domain::{Approval, ApprovalId, BoundFile, Clock as _, SystemClock, Timestamp},
};

/// Characters of a call and of a reason in a table.
const CALL_CHARS: usize = 60;
const REASON_CHARS: usize = 60;
/// Characters of what a card binds.
const BOUND_CHARS: usize = 200;

pub(super) async fn approval(
    context: &Context,
    command: args::Approval,
) -> Result<ExitCode, Failure> {
    match command {
        args::Approval::List(list) => self::list(context, list).await,
        args::Approval::Show(one) => {
            let client = connect::client(context, &one.client.connect)?;
            show(&client.approval(one.id).await?, one.client.output.json)
        }
        args::Approval::Approve(decide) => self::decide(context, decide, "approve").await,
        args::Approval::Deny(decide) => self::decide(context, decide, "deny").await,
        args::Approval::Preview(preview) => patterns::preview(context, preview).await,
        args::Approval::Patterns(list) => patterns::list(context, list).await,
        args::Approval::RevokePattern(revoke) => patterns::revoke(context, revoke).await,
    }
}

async fn list(context: &Context, list: args::ApprovalList) -> Result<ExitCode, Failure> {
    let filter = if list.state == "all" && !list.pending {
        String::new()
    } else {
        format!("state={}&", encoded(if list.pending { "pending" } else { &list.state }))
    };
    let path = format!("/api/v1/approvals?{filter}limit=200");
    let client = connect::client(context, &list.client.connect)?;
    if list.client.output.json {
        out::json(&client.get(&path).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let page: Page<Approval> = client.get(&path).await?;
    let now = SystemClock.now();
    let row = |a: &Approval| {
        let yes = a.approvers().len();
        let state = if a.quorum > 1 {
            format!("{} {yes}/{}", a.state.as_str(), a.quorum)
        } else {
            a.state.as_str().to_owned()
        };
        let taint = if a.tainted { ", tainted" } else { "" };
        [
            a.id.to_string(),
            a.run_id.to_string(),
            state,
            format!("{}{taint}", a.risk),
            a.required_role.to_string(),
            age(now.since(a.created_at)),
            short(&format!("{} {}", a.tool, a.args), CALL_CHARS),
            short(&a.reasons.join("; "), REASON_CHARS),
        ]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    let head = ["APPROVAL", "RUN", "STATE", "RISK", "DECIDES", "AGE", "CALL", "BECAUSE"];
    out::table(head, &rows);
    Ok(ExitCode::SUCCESS)
}

/// A span in its largest whole unit.
fn age(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        _ => format!("{} h", secs / 3_600),
    }
}

/// What became of one of several.
#[derive(Debug, Deserialize)]
struct One {
    id: ApprovalId,
    approval: Option<Approval>,
    problem: Option<Problem>,
}

async fn decide(
    context: &Context,
    decide: args::Decide,
    decision: &str,
) -> Result<ExitCode, Failure> {
    let mut body = json!({ "decision": decision, "scope": decide.scope.as_str() });
    let pattern = match decide.scope {
        Scope::Pattern => Some(patterns::body(&decide.bounds)?),
        Scope::Once | Scope::Run if patterns::is_given(&decide.bounds) => {
            let text = "--argv-prefix, --arg, --ttl-secs and --uses bound a pattern";
            return Err(Failure::usage(text).next("add `--scope pattern`"));
        }
        Scope::Once | Scope::Run => None,
    };
    if let Some(body) = body.as_object_mut() {
        body.extend(pattern.map(|p| ("pattern".to_owned(), p)));
        body.extend(decide.reason.map(|r| ("reason".to_owned(), json!(r))));
        body.extend(decide.outcome.map(|o| ("outcome".to_owned(), json!(o.as_str()))));
    }
    let client = connect::client(context, &decide.client.connect)?;
    if let [id] = decide.ids.as_slice() {
        let approval = client.decide(*id, &body).await?;
        if decide.client.output.json {
            return show(&approval, true);
        }
        out::line(decided(&approval));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(body) = body.as_object_mut().filter(|b| !b.contains_key("outcome")) else {
        return Err(Failure::usage("`--outcome` is about one call").next("decide one at a time"));
    };
    if body.contains_key("pattern") {
        return Err(Failure::usage("a pattern is made from one card").next("decide one at a time"));
    }
    body.insert("ids".to_owned(), json!(decide.ids));
    let answer: Value = client.post("/api/v1/approvals/decisions", &json!(body)).await?;
    let unread = |e: serde_json::Error| Failure::fault(e.to_string());
    let items = answer.get("items").cloned().unwrap_or_default();
    let items: Vec<One> = serde_json::from_value(items).map_err(unread)?;
    if decide.client.output.json {
        out::json(&answer);
    } else {
        for One { id, approval, problem } in &items {
            match (approval, problem) {
                (Some(approval), _) => out::line(decided(approval)),
                (None, Some(problem)) => {
                    out::line(format_args!("{id} not decided: {}", tame(&problem.to_string())));
                }
                (None, None) => out::line(format_args!("{id} not decided")),
            }
        }
    }
    let all = items.iter().all(|one| one.approval.is_some());
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(FAULT) })
}

/// One line about where it stands now.
fn decided(approval: &Approval) -> String {
    let (yes, quorum) = (approval.approvers().len(), approval.quorum);
    let state = approval.state.as_str();
    let more = if state == "pending" {
        format!(": {yes} of {quorum} people have approved it")
    } else {
        String::new()
    };
    format!("{} {state}{more}", approval.id)
}

fn show(approval: &Approval, is_json: bool) -> Result<ExitCode, Failure> {
    if is_json {
        let value: Value =
            serde_json::to_value(approval).map_err(|e| Failure::fault(e.to_string()))?;
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    approval_lines(approval).iter().for_each(out::line);
    out::line(format_args!("    in {}", short(&approval.cwd, 200)));
    if approval.tainted {
        out::line("    the run has read untrusted content");
    }
    for host in &approval.egress {
        out::line(format_args!("    may reach {}", short(host, BOUND_CHARS)));
    }
    bound_lines(approval).iter().for_each(out::line);
    out::line(format_args!("    {}; expires {}", approval.state.as_str(), approval.expires_at));
    if approval.quorum > 1 {
        let yes = approval.approvers().len();
        out::line(format_args!("    {yes} of {} different people have approved", approval.quorum));
    }
    for record in &approval.decisions {
        let reason =
            record.reason.as_deref().map_or_else(String::new, |r| format!(": {}", short(r, 200)));
        out::line(format_args!(
            "    {:?} ({:?}) by {} at {}{reason}",
            record.decision, record.scope, record.principal, record.at
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the answer binds, part by part.
fn bound_lines(approval: &Approval) -> Vec<String> {
    let bound = &approval.bound;
    let mut lines = Vec::new();
    if let Some(cwd) = &bound.cwd {
        let path = short(&cwd.path, BOUND_CHARS);
        lines.push(format!("directory  {path} (device {}, inode {})", cwd.dev, cwd.ino));
    }
    if let Some(program) = &bound.executable {
        let path = short(&program.path, BOUND_CHARS);
        lines.push(format!("program    {path} ({})", of_file(&program.file)));
        let sha256 = program.sha256.as_deref();
        lines.extend(sha256.map(|sha256| format!("           SHA-256 {}", short(sha256, 64))));
    }
    if let Some(target) = &bound.target {
        let path = short(&target.path, BOUND_CHARS);
        let file = target.file.as_ref().map_or_else(|| "new".to_owned(), of_file);
        lines.push(format!("file       {path} ({file})"));
        let directory = short(&target.directory.path, BOUND_CHARS);
        let (dev, ino) = (target.directory.dev, target.directory.ino);
        lines.push(format!("below      {directory} (device {dev}, inode {ino})"));
    }
    if !bound.profile.is_empty() {
        lines.push(format!("profile    {}", short(&bound.profile, 16)));
    }
    lines.push(format!("arguments  {}", short(&approval.args_hash, 16)));
    lines.push(format!("policy     {}", short(&approval.policy_version, 16)));
    if !approval.binding.is_empty() {
        lines.push(format!("together   {}", short(&approval.binding, 64)));
    }
    lines.into_iter().map(|line| format!("    binds {line}")).collect()
}

fn of_file(file: &BoundFile) -> String {
    let changed = Timestamp::from_micros(file.ctime_ns / 1_000);
    let BoundFile { dev, ino, bytes, .. } = file;
    format!("device {dev}, inode {ino}, {bytes} bytes, changed {changed}")
}
