//! `lockdown …`: the panic button. Speaks to the daemon's admin door.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Failure, Paint, args,
    door::{Door, read, refused},
    failure::FAULT,
    out::{self, short},
};

const LOCKDOWN: &str = "/admin/v1/lockdown";
/// Characters of a reason that are shown.
const REASON_CHARS: usize = 300;

/// Whether the daemon is locked down, as it says.
#[derive(Debug, Deserialize)]
struct View {
    locked: bool,
    lockdown: Option<Record>,
    stopped: Option<Stopped>,
}

#[derive(Debug, Deserialize)]
struct Record {
    since: String,
    by: String,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Stopped {
    runs: usize,
    calls: usize,
    capabilities: u64,
    is_done: bool,
    took_ms: u64,
}

pub(super) async fn lockdown(
    context: &Context,
    command: args::Lockdown,
) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    let (value, output): (Value, _) = match command {
        args::Lockdown::On(on) => {
            let body = json!({ "reason": on.reason });
            (door.client.post(LOCKDOWN, &body).await.map_err(refused)?, on.output)
        }
        args::Lockdown::Status(output) => {
            (door.client.get(LOCKDOWN).await.map_err(refused)?, output)
        }
        args::Lockdown::Off(output) => {
            door.client.delete(LOCKDOWN).await.map_err(refused)?;
            (door.client.get(LOCKDOWN).await.map_err(refused)?, output)
        }
    };
    let view: View = read(value.clone())?;
    if output.json {
        out::json(&value);
    } else {
        show(&view, Paint::stdout(context.wants_no_colour()));
    }
    Ok(match &view.stopped {
        // Asked to lock down: done is what was asked for.
        Some(stopped) if stopped.is_done => ExitCode::SUCCESS,
        None if !view.locked => ExitCode::SUCCESS,
        Some(_) | None => ExitCode::from(FAULT),
    })
}

fn show(view: &View, paint: Paint) {
    if !view.locked {
        out::line(format_args!("{}: agents may work", paint.good("not locked down")));
        return;
    }
    out::line(format_args!("{}: nothing starts", paint.bad("locked down")));
    if let Some(Record { since, by, reason }) = &view.lockdown {
        out::line(format_args!("  since    {since}, by {by}"));
        if let Some(reason) = reason {
            out::line(format_args!("  why      {}", short(reason, REASON_CHARS)));
        }
    }
    if let Some(stopped) = &view.stopped {
        let Stopped { runs, calls, capabilities, is_done, took_ms } = stopped;
        let done = if *is_done { "all gone" } else { "NOT all gone yet: run it again" };
        out::line(format_args!(
            "  stopped  {calls} calls of {runs} runs, {capabilities} capabilities: {done} after {took_ms} ms"
        ));
    }
    out::line(format_args!("  lift     {}", paint.dim("agent-runtime lockdown off")));
}
