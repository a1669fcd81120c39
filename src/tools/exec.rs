//! The process tools: a program, or a shell script.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    invoke::CallContext,
    parse::{Exec, Shell},
    sessions::{Place, Sessions},
};
use crate::{
    domain::{CommandRule, Grant, ToolOutcome, ToolStatus, event::OutputStream},
    runtime::Redactor,
    sandbox::{End, Failure, Job, Live, Outcome, SandboxError},
};

/// The variable that carries the call's id: the idempotency key of its effect.
const CALL_ID: &str = "AGENT_RUNTIME_CALL_ID";
/// Live pieces that wait for redaction; more are dropped.
const PIECES_MAX: usize = 64;

/// Exit codes with which shells, `env` and others say that a program could not be run.
const CODE_REFUSED: i32 = 126;
const CODE_NOT_FOUND: i32 = 127;
/// Where nothing is executed, and what to do about it.
const NOT_EXECUTED: &str = "files in the workspace, in writable trees and in /tmp are not \
                            executed; run an interpreter on them, or the operator can set \
                            `may_execute_files`";
/// ENOENT and EACCES, the same on every architecture.
const NOT_FOUND: i32 = 2;
const REFUSED: i32 = 13;
/// Characters of names in a reason.
const NAMES_CHARS_MAX: usize = 300;

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

/// Runs it in one of the run's sandboxes. A sandbox that died before the call began is replaced.
pub(super) async fn run(
    sessions: &Sessions,
    place: &Place,
    redactor: &Redactor,
    process: Process,
    grant: Arc<Grant>,
    cx: &CallContext,
) -> (ToolOutcome, Option<String>) {
    let wall_secs = process.timeout_secs.unwrap_or(u64::MAX).min(grant.limits.wall_secs);
    let programs = Programs::of(&grant);
    let (pieces, live) = mpsc::channel(PIECES_MAX);
    let pieces = cx.output.as_ref().map(|_| pieces);
    let run = async {
        let job = |pieces| process.job(&grant, cx, Duration::from_secs(wall_secs), pieces);
        match attempt(sessions, place, job(pieces.clone()), cx).await {
            Err(SandboxError::Gone) => attempt(sessions, place, job(pieces), cx).await,
            other => {
                drop(pieces);
                other
            }
        }
    };
    // The forwarding ends with the run, which holds its senders; both make progress together.
    let (result, ()) = tokio::join!(run, forward(live, redactor, cx));
    match result {
        Ok(outcome) => (told(outcome, wall_secs, &programs), None),
        Err(SandboxError::NotExecuted { failure }) => (not_executed(&failure, &programs), None),
        Err(error @ SandboxError::Changed(_)) => (refused(&error), Some(error.to_string())),
        Err(error) => (refused(&error), None),
    }
}

async fn attempt(
    sessions: &Sessions,
    place: &Place,
    job: Job,
    cx: &CallContext,
) -> Result<Outcome, SandboxError> {
    let lease = sessions.lease(place, &job.grant, &cx.stop).await?;
    let result = Box::pin(lease.housed.session.run(job, cx.stop.clone())).await;
    match result {
        // Dead or dying: the next call gets another.
        Err(SandboxError::Gone | SandboxError::Lost) => drop(lease),
        _ => sessions.give_back(lease),
    }
    result
}

impl Process {
    /// The program's name or path.
    pub(super) fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Where it works, as the call says it.
    pub(super) fn cwd(&self) -> &str {
        &self.cwd
    }

    fn job(
        &self,
        grant: &Arc<Grant>,
        cx: &CallContext,
        wall: Duration,
        output: Option<Live>,
    ) -> Job {
        let mut env = self.env.clone();
        env.retain(|(name, _)| name != CALL_ID);
        env.push((CALL_ID.to_owned(), cx.call_id.to_string()));
        Job {
            grant: Arc::clone(grant),
            argv: self.argv.clone(),
            env,
            // `./x` and `.` are relative to the workspace; the plan takes no dots.
            cwd: plain(&self.cwd),
            bound: cx.bound.clone(),
            stdin: self.stdin.clone(),
            wall,
            output,
        }
    }
}

async fn forward(
    mut live: mpsc::Receiver<(OutputStream, String)>,
    redactor: &Redactor,
    cx: &CallContext,
) {
    let tell = |stream, text: String| {
        if let Some(output) = cx.output.as_ref().filter(|_| !text.is_empty()) {
            output.try_send((stream, text)).ok();
        }
    };
    // One for each: a value may lie across two pieces of the same stream.
    let (mut out, mut err) = (redactor.stream(), redactor.stream());
    while let Some((stream, piece)) = live.recv().await {
        let clean = match stream {
            OutputStream::Stdout => out.push(&piece),
            OutputStream::Stderr => err.push(&piece),
        };
        tell(stream, clean);
    }
    tell(OutputStream::Stdout, out.finish());
    tell(OutputStream::Stderr, err.finish());
}

fn plain(cwd: &str) -> String {
    std::path::Path::new(cwd)
        .components()
        .filter(|c| !matches!(c, std::path::Component::CurDir))
        .collect::<std::path::PathBuf>()
        .display()
        .to_string()
}

/// What could be started at all, for the words about what could not.
struct Programs {
    listed: Option<Vec<String>>,
    may_execute_files: bool,
}

impl Programs {
    fn of(grant: &Grant) -> Self {
        let listed = match &grant.commands {
            CommandRule::Only(names) => Some(names.clone()),
            CommandRule::None | CommandRule::Any => None,
        };
        Self { listed, may_execute_files: grant.may_execute_files }
    }

    /// What a program that could not run another may want to know, by its exit code.
    fn about(&self, code: i32) -> Option<String> {
        match code {
            CODE_NOT_FOUND => self.missing(),
            CODE_REFUSED if !self.may_execute_files => Some(NOT_EXECUTED.to_owned()),
            _ => None,
        }
    }

    /// Why a program may be missing, if a list is why.
    fn missing(&self) -> Option<String> {
        let names: String =
            self.listed.as_ref()?.join(", ").chars().take(NAMES_CHARS_MAX).collect();
        Some(format!(
            "in this sandbox exist only: {names}; the operator can list more in `allowed_commands`"
        ))
    }
}

/// The program could not be started: says which, and what would have to be different.
fn not_executed(failure: &Failure, programs: &Programs) -> ToolOutcome {
    let name: String = failure.step.chars().take(NAMES_CHARS_MAX).collect();
    let is_listed = programs.listed.as_ref().is_none_or(|listed| listed.contains(&failure.step));
    let why = match failure.errno {
        NOT_FOUND if is_listed => Some(format!("`{name}` is not installed on this machine")),
        NOT_FOUND => programs.missing(),
        REFUSED if !programs.may_execute_files => Some(NOT_EXECUTED.to_owned()),
        _ => None,
    };
    let text = format!("cannot run {failure}");
    let text = why.map_or_else(|| text.clone(), |why| format!("{text}; {why}"));
    ToolOutcome::message(ToolStatus::Error, text)
}

fn told(outcome: Outcome, wall_secs: u64, programs: &Programs) -> ToolOutcome {
    let mut output = String::from_utf8_lossy(&outcome.output).into_owned();
    let mut note = |text: String| {
        if !output.is_empty() && !output.ends_with('\n') {
            output.push('\n');
        }
        output.push_str(&text);
    };
    let killed_for = outcome.end.limit();
    // A program that succeeded has lived with its limits; of one that failed they may be the
    // reason, which it seldom says itself.
    if outcome.end != End::Exited(0) {
        for limit in outcome.limits_reached.iter().filter(|limit| Some(**limit) != killed_for) {
            note(format!("[the limit `{limit}` was reached]"));
        }
    }
    let (status, exit_code) = match outcome.end {
        End::Exited(0) => (ToolStatus::Ok, Some(0)),
        End::Exited(code) => {
            if let Some(about) = programs.about(code) {
                note(format!("[{about}]"));
            }
            (ToolStatus::Error, Some(code))
        }
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
        | SandboxError::Changed(_)
        | SandboxError::Protected(_)
        | SandboxError::Gone
        | SandboxError::OtherProfile
        | SandboxError::Lock(_) => ToolOutcome::message(ToolStatus::Error, error.to_string()),
    }
}
