//! Shows that the confinement holds, and that each attempt on it would work without.
//!
//! Invariant: an attempt whose control does not succeed proves nothing, and is told as such.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, time::timeout};

use super::{
    OWN_PROGRAM, Options, Sandbox, SandboxError, Status,
    canary::{self, Found, Sibling},
    levels::{self, Ground},
    parent,
};
use crate::runtime::Tasks;

/// How long the controls may take.
const CONTROL_WAIT: Duration = Duration::from_secs(15);
/// Bytes of findings read from the control.
const FINDINGS_BYTES_MAX: u64 = 32 << 10;

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// It failed confined and succeeded without.
    Held,
    /// It failed both ways: for this user, on this machine, it proves nothing.
    NotShown,
    /// It succeeded, and is known to at this level.
    Known,
    /// It got through.
    Escaped,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was tried.
    pub attempt: String,
    /// What became of it.
    pub shown: Shown,
}

/// What [`attest`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// The level, as at a daemon's start.
    pub status: Status,
    /// Each attempt; none if nothing could be run.
    pub findings: Vec<Finding>,
}

impl Attestation {
    /// Whether tools would run, and nothing got through.
    pub fn is_good(&self) -> bool {
        self.status.usable
            && !self.findings.is_empty()
            && self.findings.iter().all(|f| f.shown != Shown::Escaped)
    }
}

/// Makes every attempt of the canary confined, and again without confinement. The data directory
/// of the options must be one of its own: a running daemon holds the lock of its.
///
/// # Errors
/// As [`Sandbox::start`]; and `Unavailable` when the attempts cannot be made.
pub async fn attest(options: Options, tasks: &Tasks) -> Result<Attestation, SandboxError> {
    attest_with_helper(options, PathBuf::from(OWN_PROGRAM), tasks).await
}

/// As [`attest`], with another program as helper: see [`Sandbox::start_with_helper`].
pub async fn attest_with_helper(
    options: Options,
    program: PathBuf,
    tasks: &Tasks,
) -> Result<Attestation, SandboxError> {
    let start = Sandbox::start_with_helper(options, program.clone(), tasks);
    let sandbox = Box::pin(start).await?;
    let status = sandbox.status();
    let Some(helper) = sandbox.inner.helper.as_ref().filter(|_| status.usable) else {
        return Ok(Attestation { status, findings: Vec::new() });
    };
    let unavailable = |reason: String| SandboxError::Unavailable { reason };
    let data_dir = &sandbox.inner.options.data_dir;
    let findings = levels::findings(helper, &sandbox.inner.watch, data_dir, status.level);
    let confined = Box::pin(findings).await.map_err(unavailable)?;
    let ground = Ground::new(data_dir).map_err(unavailable)?;
    let free = control(&program, &ground).await.map_err(unavailable)?;
    let known = canary::remainder(status.level);
    let findings = confined
        .into_iter()
        .map(|found| {
            let works = free.iter().any(|f| f.attempt == found.attempt && f.has_escaped);
            let shown = match (found.has_escaped, works) {
                (true, _) if known.contains(&found.attempt.as_str()) => Shown::Known,
                (true, _) => Shown::Escaped,
                (false, true) => Shown::Held,
                (false, false) => Shown::NotShown,
            };
            Finding { attempt: found.attempt, shown }
        })
        .collect();
    Ok(Attestation { status, findings })
}

/// The same attempts by a plain process of the same user.
async fn control(program: &std::path::Path, ground: &Ground) -> Result<Vec<Found>, String> {
    let attempts = ground.bait.attempts();
    let sibling = Sibling::new(attempts);
    let input = serde_json::to_vec(attempts).map_err(|e| e.to_string())?;
    let mut process = parent::spawn_control(program, &input).map_err(|e| e.to_string())?;
    let output = process.stdout.take().ok_or("the control has no output")?;
    let output = Receiver::from_owned_fd(output.into()).map_err(|e| e.to_string())?;
    let mut json = Vec::new();
    let mut output = output.take(FINDINGS_BYTES_MAX);
    let read = timeout(CONTROL_WAIT, output.read_to_end(&mut json)).await;
    if read.is_err() {
        process.kill().ok();
    }
    // Its output has ended or it was killed, so that this only collects the status.
    process.wait().map_err(|e| e.to_string())?;
    drop(sibling);
    canary::findings(&json).map_err(str::to_owned)
}
