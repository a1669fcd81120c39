//! `run …`: start, watch and control runs.

use std::{io::Read, process::ExitCode};

use serde_json::{Value, json};

use super::{
    Context, Failure, args, connect,
    out::{self, Paint, short},
    render::Renderer,
};
use crate::{
    app::client::{Client, Live, Page, run_body},
    domain::{Run, RunId, RunState},
};

pub(super) async fn run(context: &Context, command: args::Run) -> Result<ExitCode, Failure> {
    match command {
        args::Run::Submit(submit) => self::submit(context, submit).await,
        args::Run::List(list) => self::list(context, list).await,
        args::Run::Show(one) => {
            let client = connect::client(context, &one.client.connect)?;
            show(&client.run(one.id).await?, one.client.output.json)
        }
        args::Run::Tail(tail) => {
            let client = connect::client(context, &tail.client.connect)?;
            watch(context, &client, tail.id, tail.after, tail.client.output.json).await
        }
        args::Run::Steer(steer) => {
            let if_ended = if steer.or_start { "start_new_run" } else { "fail" };
            let body = json!({ "input": steer.input, "if_ended": if_ended });
            let client = connect::client(context, &steer.client.connect)?;
            let accepted = client.control(steer.id, "steer", &body).await?;
            if steer.client.output.json {
                out::json(&accepted);
            } else {
                out::line(accepted.get("steer_id").and_then(Value::as_str).unwrap_or("accepted"));
            }
            Ok(ExitCode::SUCCESS)
        }
        args::Run::Interrupt(interrupt) => {
            let mode = if interrupt.hard { "hard" } else { "graceful" };
            let client = connect::client(context, &interrupt.client.connect)?;
            control(
                &client,
                interrupt.id,
                "interrupt",
                &json!({ "mode": mode }),
                interrupt.client.output.json,
            )
            .await
        }
        args::Run::Resume(resume) => {
            let body = resume.input.map_or_else(|| json!({}), |input| json!({ "input": input }));
            let client = connect::client(context, &resume.client.connect)?;
            control(&client, resume.id, "resume", &body, resume.client.output.json).await
        }
        args::Run::Cancel(cancel) => {
            let body =
                cancel.reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
            let client = connect::client(context, &cancel.client.connect)?;
            control(&client, cancel.id, "cancel", &body, cancel.client.output.json).await
        }
        args::Run::Retry(one) => {
            let client = connect::client(context, &one.client.connect)?;
            control(&client, one.id, "retry", &json!({}), one.client.output.json).await
        }
    }
}

async fn submit(context: &Context, submit: args::Submit) -> Result<ExitCode, Failure> {
    let input = if submit.input == "-" { standard_input()? } else { submit.input };
    let mut body = run_body(&submit.agent, &input);
    if let Some(body) = body.as_object_mut() {
        body.insert("on_busy".to_owned(), json!(submit.on_busy.as_str()));
        if let Some(conversation) = submit.conversation {
            body.insert("conversation_id".to_owned(), json!(conversation));
        }
    }
    let client = connect::client(context, &submit.client.connect)?;
    let run = client.create_run(&body).await?;
    if submit.detach {
        if submit.client.output.json {
            return show(&run, true);
        }
        out::line(run.id);
        return Ok(ExitCode::SUCCESS);
    }
    if !submit.client.output.json {
        out::note(format_args!("{}", run.id));
    }
    watch(context, &client, run.id, 0, submit.client.output.json).await
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let limit = u64::try_from(crate::domain::limits::MESSAGE_TEXT_BYTES_MAX).unwrap_or(u64::MAX);
    std::io::stdin()
        .take(limit + 1)
        .read_to_string(&mut text)
        .map_err(|e| Failure::usage(format!("standard input cannot be read: {e}")))?;
    Ok(text)
}

/// Prints what a run did and does until it ends or waits for a person. The exit code is the run's.
async fn watch(
    context: &Context,
    client: &Client,
    id: RunId,
    after: u64,
    is_json: bool,
) -> Result<ExitCode, Failure> {
    let mut follow = client.follow(id, after);
    let mut renderer = Renderer::new(Paint::stdout(context.wants_no_colour()), "");
    loop {
        let live = follow.next().await?;
        if is_json {
            if let Live::Event(event) = &live {
                out::line(serde_json::to_string(event).unwrap_or_default());
            }
        } else {
            renderer.show(&live);
        }
        let Live::Event(event) = live else { continue };
        if let Some(state) = settled(&event.body) {
            renderer.close();
            if state == RunState::AwaitingApproval && !is_json {
                out::note("waiting for an answer: `agent-runtime approval list`");
                continue;
            }
            if state.is_terminal() {
                let is_good = state == RunState::Succeeded;
                return Ok(if is_good {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(super::failure::FAULT)
                });
            }
        }
    }
}

/// The state that an event brings about, where it is one that a watcher must know of.
fn settled(body: &crate::domain::EventBody) -> Option<RunState> {
    use crate::domain::EventBody as E;
    match body {
        E::RunSucceeded { .. } => Some(RunState::Succeeded),
        E::RunFailed { .. } => Some(RunState::Failed),
        E::RunCancelled { .. } => Some(RunState::Cancelled),
        E::RunExpired { .. } => Some(RunState::Expired),
        E::ApprovalRequested { .. } => Some(RunState::AwaitingApproval),
        _ => None,
    }
}

async fn list(context: &Context, list: args::List) -> Result<ExitCode, Failure> {
    let mut path = format!("/api/v1/runs?limit={}", list.limit);
    for (name, value) in [
        ("state", &list.state),
        ("agent", &list.agent),
        ("conversation_id", &list.conversation),
        ("cursor", &list.cursor),
    ] {
        if let Some(value) = value {
            path.push('&');
            path.push_str(name);
            path.push('=');
            path.push_str(&encoded(value));
        }
    }
    let client = connect::client(context, &list.client.connect)?;
    if list.client.output.json {
        out::json(&client.get(&path).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let page: Page<Run> = client.get(&path).await?;
    let row = |run: &Run| {
        let reason = run.wait_reason.map_or_else(String::new, |r| format!(" ({})", r.as_str()));
        let state = format!("{}{reason}", run.state);
        [
            run.id.to_string(),
            state,
            run.agent.clone(),
            run.created_at.to_string(),
            short(&run.input.text(), 40),
        ]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    out::table(["RUN", "STATE", "AGENT", "CREATED", "INPUT"], &rows);
    if let Some(cursor) = page.next_cursor {
        out::note(format_args!("next: --cursor {cursor}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A query value; ids and names need nothing, anything else is encoded.
pub(super) fn encoded(text: &str) -> String {
    let byte = |b: u8| {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

async fn control(
    client: &Client,
    id: RunId,
    verb: &str,
    body: &Value,
    is_json: bool,
) -> Result<ExitCode, Failure> {
    let answer = client.control(id, verb, body).await?;
    if is_json {
        out::json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let run: Run = serde_json::from_value(answer)
        .map_err(|e| Failure::fault(format!("unexpected answer: {e}")))?;
    out::line(format_args!("{} {}", run.id, run.state));
    Ok(ExitCode::SUCCESS)
}

fn show(run: &Run, is_json: bool) -> Result<ExitCode, Failure> {
    if is_json {
        let value = serde_json::to_value(run).map_err(|e| Failure::fault(e.to_string()))?;
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let reason = run.wait_reason.map_or_else(String::new, |r| format!(" ({})", r.as_str()));
    let mut rows = vec![
        ["run".to_owned(), run.id.to_string()],
        ["state".to_owned(), format!("{}{reason}", run.state)],
        ["agent".to_owned(), run.agent.clone()],
        ["conversation".to_owned(), run.conversation_id.to_string()],
        ["input".to_owned(), short(&run.input.text(), 200)],
    ];
    let mut optional =
        |name: &str, value: Option<String>| rows.extend(value.map(|v| [name.to_owned(), v]));
    optional("output", run.output.as_deref().map(|o| short(o, 400)));
    optional(
        "error",
        run.error.as_ref().map(|e| format!("{} ({})", short(&e.message, 300), e.code)),
    );
    optional("confinement", run.confinement.map(|c| c.as_str().to_owned()));
    optional("retry of", run.retry_of.map(|id| id.to_string()));
    optional("created", Some(run.created_at.to_string()));
    optional("started", run.started_at.map(|t| t.to_string()));
    optional("ended", run.ended_at.map(|t| t.to_string()));
    let used = &run.usage;
    optional(
        "used",
        Some(format!(
            "{} model calls, {} tool calls, {} tokens, {} USD",
            used.llm_calls,
            used.tool_calls,
            used.tokens(),
            used.cost_usd
        )),
    );
    let width = rows.iter().map(|[name, _]| name.len()).max().unwrap_or(0);
    for [name, value] in rows {
        out::line(format_args!("{name:<width$}  {value}"));
    }
    Ok(ExitCode::SUCCESS)
}
