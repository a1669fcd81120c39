//! `approval preview`, `approval patterns`, `approval revoke-pattern`: calls like one that waits.

use std::{collections::BTreeMap, process::ExitCode};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Failure,
    args::{Bounds, Patterns, Preview, RevokePattern},
    connect,
    out::{self, short},
};
use crate::{
    app::client::Page,
    domain::{ApprovalPattern, PatternBounds},
};

/// What holds where nothing is said.
const TTL_SECS: u64 = 3_600;
const USES: u32 = 10;
/// Characters of a call in a table.
const CALL_CHARS: usize = 60;

/// Whether any bound was given.
pub(super) fn is_given(bounds: &Bounds) -> bool {
    let Bounds { argv_prefix, arg, ttl_secs, uses } = bounds;
    !argv_prefix.is_empty() || !arg.is_empty() || ttl_secs.is_some() || uses.is_some()
}

/// The bounds as the API takes them.
pub(super) fn body(bounds: &Bounds) -> Result<Value, Failure> {
    let mut args = BTreeMap::new();
    for pair in &bounds.arg {
        let Some((name, glob)) = pair.split_once('=') else {
            return Err(Failure::usage(format!("`{pair}` is no NAME=GLOB"))
                .next("such as --arg 'path=reports/*.md'"));
        };
        args.insert(name.to_owned(), glob.to_owned());
    }
    let prefix = &bounds.argv_prefix;
    let pattern = PatternBounds {
        argv_prefix: (!prefix.is_empty()).then(|| prefix.clone()),
        args,
        ttl_secs: bounds.ttl_secs.unwrap_or(TTL_SECS),
        uses: bounds.uses.unwrap_or(USES),
    };
    serde_json::to_value(pattern).map_err(|e| Failure::fault(e.to_string()))
}

/// What a pattern would have let through, as the daemon says it.
#[derive(Debug, Deserialize)]
struct Shown {
    days: u64,
    calls: u64,
    matched: u64,
    is_complete: bool,
    examples: Vec<Value>,
}

pub(super) async fn preview(context: &Context, preview: Preview) -> Result<ExitCode, Failure> {
    let Preview { id, bounds, client } = preview;
    let body = body(&bounds)?;
    let path = format!("/api/v1/approvals/{id}/pattern-preview");
    let answer: Value = connect::client(context, &client.connect)?.post(&path, &body).await?;
    if client.output.json {
        out::json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let shown: Shown = serde_json::from_value(answer).map_err(|e| Failure::fault(e.to_string()))?;
    let Shown { days, calls, matched, is_complete, examples } = shown;
    let newest = if is_complete { "" } else { ", the newest" };
    out::line(format_args!(
        "it would have let {matched} of {calls} calls through (last {days} days{newest})"
    ));
    for example in examples {
        out::line(format_args!("    {}", short(&example.to_string(), 200)));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(context: &Context, list: Patterns) -> Result<ExitCode, Failure> {
    let client = connect::client(context, &list.client.connect)?;
    let path = format!("/api/v1/approval-patterns?all={}&limit=200", list.all);
    if list.client.output.json {
        out::json(&client.get(&path).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let page: Page<ApprovalPattern> = client.get(&path).await?;
    let row = |p: &ApprovalPattern| {
        let open = p.pattern.args.iter().map(|(name, glob)| format!("{name}={glob}"));
        let begins = p.pattern.argv_prefix.iter().map(|words| format!("{} …", words.join(" ")));
        let reach: Vec<_> = begins.chain(open).collect();
        let reach = if reach.is_empty() { format!("exactly {}", p.args) } else { reach.join(", ") };
        let until = match p.revoked_at {
            Some(at) => format!("revoked {at}"),
            None => p.expires_at.to_string(),
        };
        [
            p.id.to_string(),
            p.agent.clone(),
            p.tool.clone(),
            short(&reach, CALL_CHARS),
            format!("{}/{}", p.uses_left, p.pattern.uses),
            until,
        ]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    out::table(["PATTERN", "AGENT", "TOOL", "CALLS", "LEFT", "UNTIL"], &rows);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn revoke(context: &Context, revoke: RevokePattern) -> Result<ExitCode, Failure> {
    let RevokePattern { id, client } = revoke;
    let connected = connect::client(context, &client.connect)?;
    connected.delete(&format!("/api/v1/approval-patterns/{id}")).await?;
    if client.output.json {
        out::json(&json!({ "id": id, "revoked": true }));
    } else {
        out::line(format_args!("revoked {id}; it lets nothing more through"));
    }
    Ok(ExitCode::SUCCESS)
}
