//! Which level of confinement there is, found out by letting the canary loose.
//!
//! Invariants: an attempt that gets through makes the level `none`, whatever weaker level might be
//! had; the level `landlock` is tried only where the operator has asked for no more.

use std::path::Path;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    CANARY_WALL, End, SandboxError, Status,
    call::{self, Ended},
    canary::{self, Bait, Found},
    output::Capture,
    parent::Helper,
    plan::{self, Plan, Program},
    prepare_workspace,
    session::Kept,
    watch::Watch,
};
use crate::domain::{CommandRule, Confinement, Grant};

/// Bytes of findings kept.
const FINDINGS_BYTES: usize = 32 << 10;

/// A level, and why it is not a better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) level: Confinement,
    pub(super) shortfall: Option<String>,
}

/// Why a level is not reached.
enum Miss {
    /// Something that it is made of cannot be had.
    Unavailable(String),
    /// Something got through, or cannot be judged.
    Untrusted(String),
}

/// Lets the canary loose at each level that will do, best first.
pub(super) async fn measure(
    helper: &Helper,
    watch: &Watch,
    data_dir: &Path,
    minimum: Confinement,
) -> Result<Measured, String> {
    let ground = Ground::new(data_dir)?;
    let mut shortfall = None;
    for level in [Confinement::Full, Confinement::FullNoproc, Confinement::Landlock] {
        // What falls short of the minimum is measured all the same, so that it can be told; but
        // running without namespaces is for those who asked for it.
        if level == Confinement::Landlock && !level.reaches(minimum) {
            continue;
        }
        match ground.try_level(helper, watch, level).await {
            Ok(_) => return Ok(Measured { level, shortfall }),
            Err(Miss::Untrusted(why)) => return Err(why),
            Err(Miss::Unavailable(why)) => {
                shortfall.get_or_insert(why);
            }
        }
    }
    Err(shortfall.unwrap_or_default())
}

/// What the canary finds at a level that was measured before; nothing of it is judged.
pub(super) async fn findings(
    helper: &Helper,
    watch: &Watch,
    data_dir: &Path,
    level: Confinement,
) -> Result<Vec<Found>, String> {
    let ground = Ground::new(data_dir)?;
    let ended = ground.run(helper, watch, level).await.map_err(|e| e.to_string())?;
    canary::findings(&ended.output).map_err(str::to_owned)
}

/// Where the canary runs.
pub(super) struct Ground {
    grant: Grant,
    plan: Plan,
    pub(super) bait: Bait,
}

impl Ground {
    pub(super) fn new(data_dir: &Path) -> Result<Self, String> {
        let directory = data_dir.join("canary");
        let workspace = directory.join("workspace");
        prepare_workspace(&workspace).map_err(|e| e.to_string())?;
        let grant = Grant::new(workspace, CommandRule::Any);
        let plan = plan::plan(&grant, data_dir).map_err(|e| e.to_string())?;
        let bait =
            Bait::new(&directory).map_err(|e| format!("the canary cannot be prepared: {e}"))?;
        Ok(Self { grant, plan, bait })
    }

    async fn try_level(
        &self,
        helper: &Helper,
        watch: &Watch,
        level: Confinement,
    ) -> Result<Vec<Found>, Miss> {
        let ended = match self.run(helper, watch, level).await {
            Ok(ended) => ended,
            Err(SandboxError::Setup { failure }) => {
                return Err(Miss::Unavailable(failure.to_string()));
            }
            Err(SandboxError::Lost) => return Err(Miss::Untrusted(helper.failure())),
            Err(error) => return Err(Miss::Untrusted(error.to_string())),
        };
        if ended.end != End::Exited(0) {
            return Err(Miss::Untrusted(format!("the canary ended with {:?}", ended.end)));
        }
        let findings =
            canary::findings(&ended.output).map_err(|why| Miss::Untrusted(why.to_owned()))?;
        let known = canary::remainder(level);
        let escapes: Vec<&str> = findings
            .iter()
            .filter(|f| f.has_escaped && !known.contains(&f.attempt.as_str()))
            .map(|f| f.attempt.as_str())
            .collect();
        if !escapes.is_empty() {
            return Err(Miss::Untrusted(format!("the canary could {}", escapes.join(", "))));
        }
        match self.bait.touched() {
            None => Ok(findings),
            Some(seen) => Err(Miss::Untrusted(seen.to_owned())),
        }
    }

    /// Runs the canary beside a sibling that it must not reach.
    async fn run(
        &self,
        helper: &Helper,
        watch: &Watch,
        level: Confinement,
    ) -> Result<Ended, SandboxError> {
        let mut plan = self.plan.clone();
        shape(&mut plan, level);
        let attempts = self.bait.attempts().clone();
        let (canary, _) = Kept::build(helper, plan.clone()).await?;
        let (sibling, _) = Kept::build(helper, plan).await?;
        let (told, mut ready) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let request = |kept: &Kept, program, live| -> Result<call::Request, SandboxError> {
            Ok(call::Request {
                program: None,
                plan: plan::with_program(&self.grant, &kept.plan, "", program)?,
                stdin: Vec::new(),
                wall: CANARY_WALL,
                capture: Capture::new(FINDINGS_BYTES, live),
                limits: self.grant.limits,
            })
        };
        let standing = request(&sibling, Program::Sibling(attempts.clone()), Some(told))?;
        let standing = call::run(&sibling, watch, standing, &stop);
        tokio::pin!(standing);
        let ended_early = || SandboxError::Unavailable {
            reason: "the canary's sibling ended before the canary".to_owned(),
        };
        // Both branches are cancel-safe: a channel, and a call that goes on when polled again.
        tokio::select! {
            _ = ready.recv() => {}
            ended = &mut standing => return Err(ended.err().unwrap_or_else(ended_early)),
        }
        let trying = request(&canary, Program::Canary(attempts), None)?;
        let trying = Box::pin(call::run(&canary, watch, trying, &stop));
        tokio::select! {
            ended = trying => ended,
            ended = &mut standing => Err(ended.err().unwrap_or_else(ended_early)),
        }
    }
}

/// Makes a plan one of this level.
pub(super) fn shape(plan: &mut Plan, level: Confinement) {
    plan.has_namespaces = level.reaches(Confinement::FullNoproc);
    plan.has_proc = level == Confinement::Full;
    // Without a network namespace there is nothing that listeners could be in.
    plan.has_network &= plan.has_namespaces;
}

pub(super) fn unusable(reason: String) -> Status {
    Status { level: Confinement::None, usable: false, reason: Some(reason) }
}

/// Compares what was measured with what is asked for.
pub(super) fn judge(measured: Result<Measured, String>, minimum: Confinement) -> Status {
    let Measured { level, shortfall } = match measured {
        Ok(measured) => measured,
        Err(reason) => return unusable(reason),
    };
    let why = match level {
        Confinement::Full => None,
        Confinement::FullNoproc => {
            Some("no private /proc can be mounted here (a container masks its own)".to_owned())
        }
        // The others are not measured here.
        Confinement::Landlock | Confinement::Docker | Confinement::Local | Confinement::None => {
            Some("no namespaces can be had here: Landlock and seccomp alone".to_owned())
        }
    };
    let why = why.map(|why| match shortfall {
        Some(failure) => format!("{why}; {failure}"),
        None => why,
    });
    if level.reaches(minimum) {
        return Status { level, usable: true, reason: why };
    }
    let asked = format!(
        "the level reached is `{}`, the configuration asks for `{}`",
        level.as_str(),
        minimum.as_str()
    );
    let reason = why.map_or_else(|| asked.clone(), |why| format!("{asked} ({why})"));
    Status { level, usable: false, reason: Some(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(level: Confinement) -> Measured {
        Measured { level, shortfall: Some("mount proc: refused".to_owned()) }
    }

    #[test]
    fn a_level_below_the_minimum_is_refused_and_says_both() {
        let status = judge(Ok(measured(Confinement::FullNoproc)), Confinement::Full);
        assert!(!status.usable);
        let reason = status.reason.unwrap();
        assert!(reason.contains("full-noproc") && reason.contains("`full`"), "{reason}");
        assert!(reason.contains("mount proc: refused"), "{reason}");
        assert!(judge(Ok(measured(Confinement::FullNoproc)), Confinement::FullNoproc).usable);
        assert!(judge(Ok(measured(Confinement::Landlock)), Confinement::Landlock).usable);
        assert!(!judge(Ok(measured(Confinement::Landlock)), Confinement::FullNoproc).usable);
        assert!(!judge(Err("no namespaces".to_owned()), Confinement::None).usable);
    }
}
