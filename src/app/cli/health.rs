//! `health`: one line and an exit code, for the health check of a container.

use std::process::ExitCode;

use serde_json::Value;

use super::{Context, Failure, args::Connect, connect, out};

pub(super) async fn health(context: &Context, connect: &Connect) -> Result<ExitCode, Failure> {
    let client = connect::client(context, connect)?;
    let ready: Value = client.get("/readyz").await?;
    let status = ready.get("status").and_then(Value::as_str).unwrap_or("unknown");
    out::line(format_args!("{status} {}", client.base()));
    Ok(if status == "ready" { ExitCode::SUCCESS } else { ExitCode::from(super::failure::FAULT) })
}
