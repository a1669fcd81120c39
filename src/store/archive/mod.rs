//! A backup: one file that holds a moment of the store and the files beside it, for those who have
//! the key.
//!
//! The file is an [`age`] file around a compressed tar, so that it opens without this program too:
//! `age -d -i KEY FILE | tar tz`. In it, in this order: `backup.json` (what it is of), files beside
//! the database, `database/<table>/<n>.jsonl` (rows, see [`dump`](super::dump)), trees of files, and
//! `manifest.json` with the sums of everything before it, which the daemon's own key signs: whoever
//! knows the recipient could write a file for it, but not sign it.
//!
//! Invariants: a file is there whole, under its name, or not at all; the parts that name the moment
//! (checkpoints of the audit trail) are read before the moment begins, so that none of them is ahead
//! of it; nothing that was read from a file of others is trusted before its end was checked.

pub mod age;
pub mod files;
mod manifest;
mod pack;
mod unpack;
mod write;

pub use manifest::{Head, LeftOut, Manifest, Signature, Signed};
pub use pack::Pack;
pub use unpack::{Checked, Nowhere, Taker, read};
pub use write::{Job, Sign, SmallFile, Source, Written, create};

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::StoreError;
use crate::runtime::tasks::lock;

/// Number of the layout described above.
pub const FORMAT: u32 = 1;
/// How file names end.
pub const SUFFIX: &str = ".tar.gz.age";
/// How the name of a file ends that is not whole yet.
pub const PARTIAL: &str = ".partial";

/// Why a backup was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file cannot be read or written.
    #[error("cannot {doing}")]
    Io {
        /// The step.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store cannot be read or filled.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be sealed or opened.
    #[error(transparent)]
    Age(#[from] age::AgeError),
    /// The file opened, but what it holds cannot be.
    #[error("the backup is not whole: {0}")]
    Wrong(String),
    /// It was told to end.
    #[error("it was stopped before its end")]
    Stopped,
}

impl ArchiveError {
    /// Attaches the step to an error.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            // What the seal found is said as such.
            match source.get_ref().and_then(|e| e.downcast_ref::<age::AgeError>()) {
                Some(age::AgeError::Changed(what)) => Self::Age(age::AgeError::Changed(what)),
                _ => Self::Io { doing: doing.into(), source },
            }
        }
    }
}

/// How far the work is, for those who watch. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    step: Mutex<String>,
    rows: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    is_stopped: AtomicBool,
}

/// What [`Progress`] says at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reached {
    /// What is being done, for people.
    pub step: String,
    /// Rows of the database so far.
    pub rows: u64,
    /// Files so far.
    pub files: u64,
    /// Bytes of both so far, before compression.
    pub bytes: u64,
}

impl Progress {
    /// How far it is.
    pub fn reached(&self) -> Reached {
        Reached {
            step: lock(&self.0.step).clone(),
            rows: self.0.rows.load(Ordering::Relaxed),
            files: self.0.files.load(Ordering::Relaxed),
            bytes: self.0.bytes.load(Ordering::Relaxed),
        }
    }

    /// Ends the work at its next step.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to end.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Relaxed)
    }

    /// Says what is being done.
    pub fn step(&self, step: impl Into<String>) {
        *lock(&self.0.step) = step.into();
    }

    /// Counts rows.
    pub fn rows(&self, more: u64) {
        self.0.rows.fetch_add(more, Ordering::Relaxed);
    }

    fn file(&self) {
        self.0.files.fetch_add(1, Ordering::Relaxed);
    }

    fn bytes(&self, more: usize) {
        self.0.bytes.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// # Errors
    /// When it is to end.
    pub fn check(&self) -> Result<(), ArchiveError> {
        if self.is_stopped() { Err(ArchiveError::Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
