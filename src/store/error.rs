//! What can go wrong with the store, by what the caller would do about it.

use std::path::PathBuf;

use crate::runtime::failpoint::Injected;

/// A failed read or write.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed the row first, or the epoch is no longer ours: stop and re-read.
    #[error("{what} was changed by someone else")]
    Stale {
        /// Which row.
        what: String,
    },
    /// A row that must exist does not.
    #[error("{what} does not exist")]
    Missing {
        /// Which row.
        what: String,
    },
    /// A row that cannot be: never guessed at.
    #[error("the store holds a value that cannot be: {what}")]
    Corrupt {
        /// Which column and why.
        what: String,
    },
    /// Somebody else was writing the same: try again in a moment.
    #[error("the store is busy")]
    Busy,
    /// Another replica has taken over what this one was doing: stop, and kill what runs.
    #[error("this replica's lease is over: another one has taken over its runs")]
    Fenced,
    /// The database did not do it: disk full, read-only, I/O error. Nothing was changed.
    #[error("cannot {doing}")]
    Unavailable {
        /// The step that failed.
        doing: &'static str,
        /// Why.
        #[source]
        source: Option<sqlx::Error>,
    },
}

impl From<Injected> for StoreError {
    fn from(_: Injected) -> Self {
        Self::Unavailable { doing: "write to the store", source: None }
    }
}

impl StoreError {
    pub(super) fn unavailable(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| match source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .as_deref()
        {
            // Serialization failure, deadlock, lock not available: somebody else was first, and
            // the same thing may be done again. https://www.postgresql.org/docs/15/errcodes-appendix.html
            Some("40001" | "40P01" | "55P03") => Self::Busy,
            _ => Self::Unavailable { doing, source: Some(source) },
        }
    }

    /// Whether trying the same thing later can succeed.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy | Self::Fenced | Self::Unavailable { .. })
    }
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error(
        "another daemon is using {dir} (lock file {file}); stop it or choose another data directory",
        dir = dir.display(), file = file.display()
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The lock.
        file: PathBuf,
    },
    /// The directory cannot be written.
    #[error("cannot write to the data directory {dir}: {source}", dir = dir.display())]
    Directory {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no database, or a damaged one.
    #[error(
        "the database {place} is damaged ({detail}); it was not changed: move it aside or restore a backup"
    )]
    Damaged {
        /// The database.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// A newer version of this program has changed it.
    #[error(
        "the database {place} was written by a newer version (schema {found}; this version knows {known}); it was not changed: start that version or a later one, or restore a backup of the older one"
    )]
    Newer {
        /// The database.
        place: String,
        /// The newest migration that it has.
        found: i64,
        /// The newest one that this program knows.
        known: u64,
    },
    /// Its history is not that of this program.
    #[error("the database {place} does not fit this version: {detail}")]
    Version {
        /// The database.
        place: String,
        /// What is different.
        detail: String,
    },
    /// Anything else that the database says.
    #[error("cannot {doing} {place}")]
    Unavailable {
        /// The step that failed.
        doing: &'static str,
        /// The database.
        place: String,
        /// Why, where the database said it.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// Somebody else holds what a start needs.
    #[error("the database {place} is busy; nothing was changed: try again in a moment")]
    Busy {
        /// The database.
        place: String,
    },
}

impl OpenError {
    /// What a failed read or write means for a start: only a value that cannot be is damage.
    pub(super) fn at(place: &str, error: StoreError) -> Self {
        let place = place.to_owned();
        match error {
            StoreError::Unavailable { doing, source } => Self::Unavailable { doing, place, source },
            StoreError::Busy => Self::Busy { place },
            StoreError::Stale { .. }
            | StoreError::Missing { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Fenced => Self::Damaged { place, detail: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_found_the_database_busy_or_away_does_not_speak_of_damage() {
        let said = |error| OpenError::at("here", error).to_string();
        assert!(said(StoreError::Busy).contains("try again"));
        let away = StoreError::Unavailable { doing: "write to the store", source: None };
        assert_eq!(said(away), "cannot write to the store here");
        let wrong = StoreError::Corrupt { what: "a date".to_owned() };
        assert!(said(wrong).contains("damaged"));
    }
}
