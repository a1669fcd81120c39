//! `budget …`, at the daemon's admin door, and `usage`, over its API.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Failure,
    args::{self, BudgetClear, BudgetSet, BudgetShow},
    connect,
    door::{Door, read, refused},
    out,
    runs::encoded,
};
use crate::{
    app::client::Page,
    domain::{BudgetScope, BudgetSubject, Usd},
};

/// Where budgets are.
const BUDGETS: &str = "/admin/v1/budgets";

/// A budget, as the daemon shows it.
#[derive(Debug, Deserialize)]
struct Row {
    scope: BudgetScope,
    subject: String,
    usd_per_day: Option<Usd>,
    tokens_per_day: Option<u64>,
    layer: String,
    used_usd: Usd,
    used_tokens: u64,
    held_tokens: u64,
}

/// A sum of what was used, as the daemon shows it.
#[derive(Debug, Deserialize)]
struct Sum {
    #[serde(default)]
    key: String,
    runs: u64,
    llm_calls: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_usd: Usd,
}

#[derive(Debug, Deserialize)]
struct Report {
    from: String,
    to: String,
    items: Vec<Sum>,
    total: Sum,
}

pub(super) async fn budget(context: &Context, command: args::Budget) -> Result<ExitCode, Failure> {
    match command {
        args::Budget::Show(show) => self::show(context, show).await,
        args::Budget::Set(set) => self::set(context, set).await,
        args::Budget::Clear(clear) => self::clear(context, clear).await,
    }
}

async fn show(context: &Context, show: BudgetShow) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    let scope = show.scope.map_or_else(String::new, |scope| format!("&scope={scope}"));
    let page: Value =
        door.client.get(&format!("{BUDGETS}?limit=500{scope}")).await.map_err(refused)?;
    if show.output.json {
        out::json(&page);
        return Ok(ExitCode::SUCCESS);
    }
    let page: Page<Row> = read(page)?;
    let rows: Vec<_> = page.items.iter().map(cells).collect();
    out::table(["SCOPE", "SUBJECT", "USD TODAY", "TOKENS TODAY", "HELD", "FROM"], &rows);
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Row) -> [String; 6] {
    let of = |used: String, limit: Option<String>| match limit {
        Some(limit) => format!("{used} of {limit}"),
        None => used,
    };
    let subject = if row.subject.is_empty() { "-" } else { &row.subject };
    [
        row.scope.to_string(),
        subject.to_owned(),
        of(row.used_usd.to_string(), row.usd_per_day.map(|usd| usd.to_string())),
        of(row.used_tokens.to_string(), row.tokens_per_day.map(|tokens| tokens.to_string())),
        row.held_tokens.to_string(),
        row.layer.clone(),
    ]
}

async fn set(context: &Context, set: BudgetSet) -> Result<ExitCode, Failure> {
    let subject = set.whose.subject();
    if set.usd_per_day.is_none() && set.tokens_per_day.is_none() {
        return Err(Failure::usage("nothing to set")
            .next("give --usd-per-day, --tokens-per-day or both; `none` for no bound"));
    }
    let door = Door::open(context)?;
    let now = current(&door, &subject).await?;
    let usd = set.usd_per_day.map_or(now.as_ref().and_then(|r| r.usd_per_day), |bound| bound.0);
    let tokens =
        set.tokens_per_day.map_or(now.as_ref().and_then(|r| r.tokens_per_day), |bound| bound.0);
    let body = json!({
        "scope": subject.scope, "subject": subject.subject, "usd_per_day": usd,
        "tokens_per_day": tokens,
    });
    let value: Value = door.client.put(BUDGETS, &body).await.map_err(refused)?;
    if set.output.json {
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let row: Row = read(value)?;
    let [_, _, usd, tokens, ..] = cells(&row);
    out::line(format_args!("set  {subject}  USD {usd}, tokens {tokens} today"));
    Ok(ExitCode::SUCCESS)
}

/// The budget as it is in force, so that what is not named stays as it is.
async fn current(door: &Door, subject: &BudgetSubject) -> Result<Option<Row>, Failure> {
    let mut cursor = String::new();
    loop {
        let path = format!("{BUDGETS}?limit=500&scope={}{cursor}", subject.scope);
        let page: Page<Row> = door.client.get(&path).await.map_err(refused)?;
        let found = page.items.into_iter().find(|row| row.subject == subject.subject);
        match (found, page.next_cursor) {
            (Some(row), _) => return Ok(Some(row)),
            (None, Some(next)) => cursor = format!("&cursor={}", encoded(&next)),
            (None, None) => return Ok(None),
        }
    }
}

async fn clear(context: &Context, clear: BudgetClear) -> Result<ExitCode, Failure> {
    let subject = clear.whose.subject();
    let door = Door::open(context)?;
    let query = format!("?scope={}&subject={}", subject.scope, encoded(&subject.subject));
    door.client.delete(&format!("{BUDGETS}{query}")).await.map_err(refused)?;
    if clear.output.json {
        let BudgetSubject { scope, subject } = subject;
        out::json(&json!({ "scope": scope, "subject": subject, "cleared": true }));
    } else {
        out::line(format_args!("cleared  {subject}: what the configuration says is in force"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn usage(context: &Context, usage: args::Usage) -> Result<ExitCode, Failure> {
    let client = connect::client(context, &usage.client.connect)?;
    let from = usage.from.map_or_else(String::new, |day| format!("&from={day}"));
    let to = usage.to.map_or_else(String::new, |day| format!("&to={day}"));
    let path = format!("/api/v1/usage?limit=500&by={}{from}{to}", usage.by);
    let value: Value = client.get(&path).await?;
    if usage.client.output.json {
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let report: Report = read(value)?;
    let row = |name: &str, sum: &Sum| {
        [
            name.to_owned(),
            sum.runs.to_string(),
            sum.llm_calls.to_string(),
            sum.input_tokens.to_string(),
            sum.output_tokens.to_string(),
            sum.cost_usd.to_string(),
        ]
    };
    let mut rows: Vec<_> = report.items.iter().map(|sum| row(&sum.key, sum)).collect();
    rows.push(row("total", &report.total));
    let head = usage.by.to_ascii_uppercase();
    out::line(format_args!("{} to {}", report.from, report.to));
    out::table([head.as_str(), "RUNS", "MODEL CALLS", "TOKENS IN", "TOKENS OUT", "USD"], &rows);
    Ok(ExitCode::SUCCESS)
}
