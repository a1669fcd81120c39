//! Failpoints: named places before and after every commit, spawn, send and acknowledgement, where
//! tests make the daemon crash, fail or wait.
//!
//! Invariants: they exist in builds with debug assertions alone. In a release build [`reach`] and
//! [`pass`] are empty, [`Injected`] has no value, and no name of a point is in the binary
//! (`a_release_build_holds_no_failpoint`). No point changes anything unless the variable
//! `FAILPOINTS` named it when the process started.
//!
//! ```text
//! FAILPOINTS='store.commit.before=crash@3'   the third time: the process aborts
//! FAILPOINTS='llm.send.after=error@1'        the first time: as if the effect had failed
//! FAILPOINTS='sandbox.call.before=delay'     every time: 150 ms more
//! FAILPOINTS_LOG=/a/file                     gets a line for each point that is reached
//! ```
//!
//! `tests/failpoints/main.rs` goes through all of them and fails where a write path has none.

#[cfg(debug_assertions)]
#[path = "failpoint/armed.rs"]
mod armed;

/// A place that a fault can be put in. Each stands exactly where its name says.
#[cfg_attr(debug_assertions, derive(PartialEq, Eq, PartialOrd, Ord))]
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it, and `name` says them again")]
pub enum Point {
    StoreOpenBefore,
    StoreOpenAfter,
    StoreBeginBefore,
    StoreCommitBefore,
    StoreCommitAfter,
    HelperSpawnBefore,
    HelperSpawnAfter,
    SandboxBuildBefore,
    SandboxBuildAfter,
    SandboxCallBefore,
    SandboxCallAfter,
    FileWriteBefore,
    FileWriteAfter,
    LlmSendBefore,
    LlmSendAfter,
    EgressDialBefore,
    EgressDialAfter,
    HttpAnswerBefore,
    SseSendBefore,
    SseSendAfter,
    SocketSendBefore,
    SocketSendAfter,
    ApprovalDecideBefore,
    ApprovalDecideAfter,
    CheckpointAppendBefore,
    CheckpointAppendAfter,
    OwnFileBefore,
    OwnFileAfter,
}

/// The fault that a test put in. In a release build there is none.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected {
    pub(self) _private: (),
}

/// The fault that a test put in. There is none.
#[cfg(not(debug_assertions))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {}

impl std::fmt::Display for Injected {
    #[cfg(debug_assertions)]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a fault was injected")
    }

    #[cfg(not(debug_assertions))]
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Injected {}

impl From<Injected> for std::io::Error {
    fn from(injected: Injected) -> Self {
        Self::other(injected)
    }
}

/// Says that a place was reached, between two awaits.
///
/// # Errors
/// When a test asked for a failure here.
#[cfg(debug_assertions)]
pub async fn reach(point: Point) -> Result<(), Injected> {
    armed::reach(point).await
}

/// Says that a place was reached, where nothing can be awaited; a delay blocks the thread.
///
/// # Errors
/// When a test asked for a failure here.
#[cfg(debug_assertions)]
pub fn pass(point: Point) -> Result<(), Injected> {
    armed::pass(point)
}

/// Says that a place was reached: nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[expect(clippy::inline_always, clippy::unused_async, reason = "nothing of it shall be left")]
pub async fn reach(_point: Point) -> Result<(), Injected> {
    Ok(())
}

/// Says that a place was reached: nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "nothing of it shall be left")]
pub const fn pass(_point: Point) -> Result<(), Injected> {
    Ok(())
}
