//! The process tools: a program, or a shell script.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    invoke::CallContext,
    parse::{Exec, Shell},
};
use crate::{
    domain::{Grant, ToolOutcome, ToolStatus, event::OutputStream},
    runtime::Redactor,
    sandbox::{End, Job, Outcome, Sandbox, SandboxError},
};

/// The variable that carries the call's id: the idempotency key of its effect.
const CALL_ID: &str = "AGENT_RUNTIME_CALL_ID";
/// Live pieces that wait for redaction; more are dropped.
const PIECES_MAX: usize = 64;

/// A process tool's arguments, brought together.
#[derive(Debug)]
pub(super) struct Process {
    argv: Vec<String>,
    cwd: String,
    stdin: Vec<u8>,
    timeout_secs: Option<u64>,
    env: Vec<(String, String)>,
}

impl From<&Exec> for Process {
    fn from(call: &Exec) -> Self {
        Self {
            argv: call.argv.clone(),
            cwd: call.cwd.clone(),
            stdin: call.stdin.clone().into_bytes(),
            timeout_secs: call.timeout_secs,
            env: call.env.iter().map(|(n, v)| (n.clone(), v.clone())).collect(),
        }
    }
}

impl From<&Shell> for Process {
    fn from(call: &Shell) -> Self {
        let argv = ["/bin/sh", "-eu", "-c", &call.script].map(str::to_owned).to_vec();
        Self {
            argv,
            cwd: call.cwd.clone(),
            stdin: Vec::new(),
            timeout_secs: call.timeout_secs,
            env: Vec::new(),
        }
    }
}

/// Runs it.
pub(super) async fn run(
    sandbox: &Sandbox,
    redactor: &Redactor,
    process: Process,
    grant: Arc<Grant>,
    cx: &CallContext,
) -> ToolOutcome {
    let wall_secs = process.timeout_secs.unwrap_or(u64::MAX).min(grant.limits.wall_secs);
    let mut env = process.env;
    env.retain(|(name, _)| name != CALL_ID);
    env.push((CALL_ID.to_owned(), cx.call_id.to_string()));
    let (pieces, live) = mpsc::channel(PIECES_MAX);
    let job = Job {
        grant,
        argv: process.argv,
        env,
        // `./x` and `.` are relative to the workspace; the plan takes no dots.
        cwd: plain(&process.cwd),
        stdin: process.stdin,
        wall: Duration::from_secs(wall_secs),
        output: cx.output.as_ref().map(|_| pieces),
    };
    let run = sandbox.run(job, cx.stop.clone());
    // The forwarding ends with the run, which holds its sender; both make progress together.
    let (result, ()) = tokio::join!(run, forward(live, redactor, cx));
    match result {
        Ok(outcome) => told(outcome, wall_secs),
        Err(error) => refused(&error),
    }
}

async fn forward(
    mut live: mpsc::Receiver<(OutputStream, String)>,
    redactor: &Redactor,
    cx: &CallContext,
) {
    while let Some((stream, piece)) = live.recv().await {
        if let Some(output) = &cx.output {
            output.try_send((stream, redactor.redact(&piece).into_owned())).ok();
        }
    }
}

fn plain(cwd: &str) -> String {
    std::path::Path::new(cwd)
        .components()
        .filter(|c| !matches!(c, std::path::Component::CurDir))
        .collect::<std::path::PathBuf>()
        .display()
        .to_string()
}

fn told(outcome: Outcome, wall_secs: u64) -> ToolOutcome {
    let mut output = String::from_utf8_lossy(&outcome.output).into_owned();
    let mut note = |text: String| {
        if !output.is_empty() && !output.ends_with('\n') {
            output.push('\n');
        }
        output.push_str(&text);
    };
    let killed_for = match outcome.end {
        End::Limit(limit) => Some(limit),
        _ => None,
    };
    // A program that succeeded has lived with its limits; of one that failed they may be the
    // reason, which it seldom says itself.
    if outcome.end != End::Exited(0) {
        for limit in outcome.limits_reached.iter().filter(|limit| Some(**limit) != killed_for) {
            note(format!("[the limit `{limit}` was reached]"));
        }
    }
    let (status, exit_code) = match outcome.end {
        End::Exited(0) => (ToolStatus::Ok, Some(0)),
        End::Exited(code) => (ToolStatus::Error, Some(code)),
        End::Signaled(signal) => {
            note(format!("[ended by signal {signal}]"));
            (ToolStatus::Killed, None)
        }
        End::TimedOut => {
            note(format!("[killed after {wall_secs} s]"));
            (ToolStatus::Timeout, None)
        }
        End::Stopped => {
            note("[killed: the run was stopped]".to_owned());
            (ToolStatus::Killed, None)
        }
        End::Limit(limit) => {
            note(format!("[killed: it exceeded the limit `{limit}`]"));
            (ToolStatus::Limit, None)
        }
    };
    ToolOutcome {
        status,
        exit_code,
        output,
        truncated: outcome.truncated,
        duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        confinement: Some(outcome.level),
    }
}

fn refused(error: &SandboxError) -> ToolOutcome {
    match error {
        SandboxError::Unavailable { .. } => ToolOutcome::message(
            ToolStatus::Error,
            format!("{error}; ask the operator to run `agent-runtime doctor`"),
        ),
        // Lost: the program may have run in part, as a killed one does.
        SandboxError::Stopped | SandboxError::Lost => {
            ToolOutcome::message(ToolStatus::Killed, error.to_string())
        }
        SandboxError::Plan(_)
        | SandboxError::NotGranted
        | SandboxError::Setup { .. }
        | SandboxError::NotExecuted { .. }
        | SandboxError::Gone
        | SandboxError::OtherProfile
        | SandboxError::Lock(_) => ToolOutcome::message(ToolStatus::Error, error.to_string()),
    }
}
