//! `capability …`: what runs and calls were given. Speaks to the daemon's admin door.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Failure, Paint,
    args::{self, CapabilityList, CapabilityOne, CapabilityRevoke},
    door::{Door, read, refused},
    out::{self, short},
    runs::encoded,
};
use crate::app::client::Page;

const CAPABILITIES: &str = "/admin/v1/capabilities";
/// Characters of a text that a line shows.
const TEXT_CHARS: usize = 200;

/// A capability, as the daemon shows it.
#[derive(Debug, Deserialize)]
struct View {
    id: String,
    parent: Option<String>,
    run_id: String,
    call_id: Option<String>,
    agent: String,
    state: String,
    permissions: Vec<String>,
    is_signed: bool,
    issued_at: String,
    expires_at: String,
    revoked: Option<Revocation>,
}

#[derive(Debug, Deserialize)]
struct Revocation {
    at: String,
    by: String,
    reason: Option<String>,
}

pub(super) async fn capability(
    context: &Context,
    command: args::Capability,
) -> Result<ExitCode, Failure> {
    match command {
        args::Capability::List(list) => self::list(context, list).await,
        args::Capability::Show(one) => self::show(context, one).await,
        args::Capability::Revoke(revoke) => self::revoke(context, revoke).await,
    }
}

async fn list(context: &Context, list: CapabilityList) -> Result<ExitCode, Failure> {
    let CapabilityList { run, agent, live, limit, cursor, output } = list;
    let part = |name: &str, value: Option<String>| {
        value.map_or_else(String::new, |value| format!("&{name}={}", encoded(&value)))
    };
    let (run, agent) = (part("run", run.map(|run| run.to_string())), part("agent", agent));
    let query = format!("?limit={limit}&live={live}{run}{agent}{}", part("cursor", cursor));
    let door = Door::open(context)?;
    let page: Value = door.client.get(&format!("{CAPABILITIES}{query}")).await.map_err(refused)?;
    if output.json {
        out::json(&page);
        return Ok(ExitCode::SUCCESS);
    }
    let next = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
    let page: Page<View> = read(page)?;
    let row = |view: &View| {
        [
            view.id.clone(),
            view.state.clone(),
            view.agent.clone(),
            view.call_id.clone().unwrap_or_else(|| view.run_id.clone()),
            view.expires_at.clone(),
        ]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    out::table(["ID", "STATE", "AGENT", "FOR", "UNTIL"], &rows);
    if let Some(next) = next {
        out::note(format_args!("there are more: --cursor {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(context: &Context, one: CapabilityOne) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    let value: Value =
        door.client.get(&format!("{CAPABILITIES}/{}", one.id)).await.map_err(refused)?;
    print(context, value, one.output.json)
}

async fn revoke(context: &Context, revoke: CapabilityRevoke) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    let path = format!("{CAPABILITIES}/{}/revoke", revoke.id);
    let body = json!({ "reason": revoke.reason });
    let value: Value = door.client.post(&path, &body).await.map_err(refused)?;
    print(context, value, revoke.output.json)
}

fn print(context: &Context, value: Value, as_json: bool) -> Result<ExitCode, Failure> {
    if as_json {
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let view: View = read(value)?;
    let paint = Paint::stdout(context.wants_no_colour());
    let state = if view.state == "live" { paint.good("live") } else { paint.bad(&view.state) };
    out::line(format_args!("{}  {state}", paint.bold(&view.id)));
    let call = view.call_id.map_or_else(String::new, |call| format!(", {call}"));
    out::line(format_args!("  for      {} of agent {}{call}", view.run_id, view.agent));
    if let Some(parent) = view.parent {
        out::line(format_args!("  part of  {parent}"));
    }
    out::line(format_args!("  holds    {} to {}", view.issued_at, view.expires_at));
    if let Some(Revocation { at, by, reason }) = view.revoked {
        let reason = reason.map_or_else(String::new, |r| format!(": {}", short(&r, TEXT_CHARS)));
        out::line(format_args!("  revoked  {at}, by {by}{reason}"));
    }
    if !view.is_signed {
        let what = "its signature does not hold: the row was changed, or the key was";
        out::line(format_args!("  {}", paint.bad(what)));
    }
    for permission in &view.permissions {
        out::line(format_args!("  allows   {}", short(permission, TEXT_CHARS)));
    }
    Ok(ExitCode::SUCCESS)
}
