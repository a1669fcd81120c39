//! `secret …`: what the daemon keeps, over its admin door.

use std::{
    io::{IsTerminal, Read},
    process::ExitCode,
};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Context, Failure, args,
    door::{Door, refused},
    out,
};
use crate::domain::limits::SECRET_BYTES_MAX;

const SECRETS: &str = "/admin/v1/secrets";

pub(super) async fn secret(context: &Context, command: args::Secret) -> Result<ExitCode, Failure> {
    let door = || Door::open(context).map_err(Failure::from);
    match command {
        args::Secret::Set(set) => {
            let value = value()?;
            let body = json!({ "name": set.name, "value": value.as_str() });
            door()?.client.post_nothing(SECRETS, &body).await.map_err(refused)?;
            out::line(format_args!("stored {}; it is in force", set.name));
        }
        args::Secret::Remove(remove) => {
            door()?.client.delete(&format!("{SECRETS}/{}", remove.name)).await.map_err(refused)?;
            out::line(format_args!("removed {}", remove.name));
        }
        args::Secret::List(output) => {
            let page: Value = door()?.client.get(SECRETS).await.map_err(refused)?;
            list(&page, output.json);
        }
        args::Secret::RotateKey(output) => {
            let path = format!("{SECRETS}/rewrap");
            let done: Value = door()?.client.post(&path, &Value::Null).await.map_err(refused)?;
            if output.json {
                out::json(&done);
            } else {
                let count = done.get("sealed").map(ToString::to_string).unwrap_or_default();
                out::line(format_args!("{count} stored secrets were sealed anew"));
            }
        }
        args::Secret::Reload(output) => {
            let client = door()?;
            let done: Value =
                client.client.post("/admin/v1/reload", &Value::Null).await.map_err(refused)?;
            if output.json {
                out::json(&done);
            } else {
                out::line("configuration and secrets were read again and are in force");
                let fixed = done.get("needs_restart").and_then(Value::as_array);
                let fixed: Vec<&str> =
                    fixed.into_iter().flatten().filter_map(Value::as_str).collect();
                if !fixed.is_empty() {
                    let names = fixed.join(", ");
                    out::line(format_args!("changed, and in force only after a restart: {names}"));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The value, from standard input.
fn value() -> Result<Zeroizing<String>, Failure> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        return Err(Failure::usage("the value comes from standard input")
            .next("agent-runtime secret set NAME < FILE"));
    }
    let mut text = Zeroizing::new(String::new());
    let most = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(2);
    let read = input.by_ref().take(most).read_to_string(&mut text);
    read.map_err(|e| Failure::usage(format!("the value cannot be read: {e}")))?;
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    if text.is_empty() {
        return Err(Failure::usage("the value on standard input is empty"));
    }
    Ok(text)
}

fn list(page: &Value, is_json: bool) {
    if is_json {
        return out::json(page);
    }
    let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |item: &Value| {
        let text = |name: &str| match item.get(name) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        ["name", "source", "days", "last_used_at", "warning"].map(text)
    };
    let rows: Vec<_> = items.iter().map(row).collect();
    out::table(["NAME", "FROM", "DAYS", "LAST USED", "WARNING"], &rows);
}
