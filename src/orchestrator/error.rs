//! Why a command was refused, by what the caller would do about it.

use std::time::Duration;

use super::policy::PolicyFault;
use crate::{
    auth::Denied,
    domain::{UserInput, limits},
    store::StoreError,
};

/// Why runs cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No policy can be put in force: without one nothing runs.
    #[error(transparent)]
    Policy(#[from] PolicyFault),
    /// What is in force everywhere cannot be put in force at this replica.
    #[error("this replica cannot put in force what is in force at the others")]
    Behind(#[from] CommandError),
}

/// A refused command. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It does not exist, or not for this principal.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// It exists, but this principal may not do that.
    #[error("{0}")]
    Forbidden(String),
    /// The run has ended.
    #[error("the run has ended; it cannot be changed any more")]
    Terminal,
    /// The thing is not in a state that allows it.
    #[error("{detail}")]
    Conflict {
        /// Stable code.
        code: &'static str,
        /// What is in the way and what to do next.
        detail: String,
    },
    /// The request is well-formed but wrong.
    #[error("{detail}")]
    Invalid {
        /// Stable code.
        code: &'static str,
        /// JSON pointer (RFC 6901) of the field.
        pointer: Option<&'static str>,
        /// What is wrong.
        detail: String,
    },
    /// The idempotency key was used for another request.
    #[error("this Idempotency-Key was used for a different request; use a new key")]
    IdempotencyMismatch,
    /// Too much waits already.
    #[error("{what} is full; try again later")]
    Full {
        /// Which queue.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// They ask more often than they may.
    #[error("{detail}")]
    TooOften {
        /// What the bound is.
        detail: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Nothing is started while the daemon is locked down.
    #[error(
        "the daemon is locked down: nothing starts until an overlord lifts it with \
         `agent-runtime lockdown off`"
    )]
    LockedDown,
    /// Too many failed attempts of who asks.
    #[error("too many failed attempts; try again in {} s", retry_after.as_secs())]
    Locked {
        /// When to try again.
        retry_after: Duration,
    },
    /// The store did not do it.
    #[error("the store is not available; nothing was changed, try again")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A bug or a damaged row.
    #[error("the request failed inside the daemon")]
    Internal {
        /// Why.
        #[source]
        source: StoreError,
    },
}

impl CommandError {
    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Conflict { code, detail: detail.into() }
    }

    pub(super) const QUEUE_FULL: Self =
        Self::Full { what: "the queue of runs", retry_after: Duration::from_secs(2) };
    pub(super) const OWN_QUEUE_FULL: Self =
        Self::Full { what: "your part of the queue of runs", retry_after: Duration::from_secs(2) };
    pub(super) const STEERS_FULL: Self =
        Self::Full { what: "the run's queue of steers", retry_after: Duration::from_secs(2) };
}

impl From<StoreError> for CommandError {
    fn from(source: StoreError) -> Self {
        match source {
            StoreError::Stale { what } => {
                Self::conflict("run.stale", format!("{what} changed meanwhile; read it again"))
            }
            source if source.is_temporary() => {
                Self::Unavailable { retry_after: Duration::from_secs(1), source }
            }
            source => Self::Internal { source },
        }
    }
}

impl From<Denied> for CommandError {
    fn from(denied: Denied) -> Self {
        Self::Forbidden(denied.to_string())
    }
}

/// Checks what a person says to a run.
pub(super) fn check_input(input: &UserInput) -> Result<(), CommandError> {
    input.check().map_err(|error| CommandError::Invalid {
        code: "run.invalid",
        pointer: Some("/input"),
        detail: error.to_string(),
    })
}

/// Checks a reason that a person gives.
pub(super) fn check_reason(reason: Option<&str>) -> Result<(), CommandError> {
    check_reason_at("/reason", reason)
}

/// As [`check_reason`], where the field is called otherwise.
pub(super) fn check_reason_at(
    pointer: &'static str,
    reason: Option<&str>,
) -> Result<(), CommandError> {
    match reason {
        Some(text) if text.len() > limits::REASON_BYTES_MAX => Err(CommandError::Invalid {
            code: "request.too_long",
            pointer: Some(pointer),
            detail: format!("at most {} bytes", limits::REASON_BYTES_MAX),
        }),
        Some(_) | None => Ok(()),
    }
}
