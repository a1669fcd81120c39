//! Why a model call gave no answer. Never carries a body, a key or an address: a provider's error
//! text is hostile input and may quote the key.

use std::{fmt, time::Duration};

/// What kind of failure it was; decides about retries and fallbacks, and names the failure to
/// people (SECURITY.md lists the classes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The key is missing or refused.
    Auth,
    /// Too many requests.
    RateLimit,
    /// The account has no credit.
    Billing,
    /// No answer in time.
    Timeout,
    /// The connection could not be made or broke.
    Network,
    /// The answer was not what the protocol says, was cut, or was too large.
    Format,
    /// The conversation does not fit the model.
    ContextOverflow,
    /// The provider is overloaded or failed.
    Overloaded,
    /// The provider refused the request itself.
    BadRequest,
    /// The caller asked to stop.
    Cancelled,
}

impl ErrorClass {
    /// The name in events, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::RateLimit => "rate_limit",
            Self::Billing => "billing",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Format => "format",
            Self::ContextOverflow => "context_overflow",
            Self::Overloaded => "overloaded",
            Self::BadRequest => "bad_request",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether an answer that was lost in this way may have been billed: a refusal costs nothing.
    const fn may_cost(self) -> bool {
        match self {
            Self::Timeout | Self::Network | Self::Format | Self::Cancelled => true,
            Self::Auth
            | Self::RateLimit
            | Self::Billing
            | Self::ContextOverflow
            | Self::Overloaded
            | Self::BadRequest => false,
        }
    }

    /// Whether the same request may succeed a little later.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::RateLimit | Self::Timeout | Self::Network | Self::Format | Self::Overloaded => {
                true
            }
            Self::Auth
            | Self::Billing
            | Self::ContextOverflow
            | Self::BadRequest
            | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub class: ErrorClass,
    /// What happened, as a sentence without its full stop.
    pub what: &'static str,
    /// HTTP status, when there was one.
    pub status: Option<u16>,
    /// The provider's own code, when it looks like an identifier.
    pub code: Option<String>,
    /// How long the provider asked us to wait.
    pub retry_after: Option<Duration>,
    /// Whether another attempt with the same model makes sense.
    pub retryable: bool,
    /// The transport's own words, for the log only.
    pub cause: Option<String>,
    /// The model was not asked: it rests after failures of this class.
    pub is_resting: bool,
    /// Whether the provider may have answered, and billed the answer, all the same.
    pub may_cost: bool,
}

impl Failure {
    pub(super) const fn new(class: ErrorClass, what: &'static str) -> Self {
        Self {
            class,
            what,
            status: None,
            code: None,
            retry_after: None,
            retryable: class.is_retryable(),
            cause: None,
            is_resting: false,
            may_cost: class.may_cost(),
        }
    }

    /// Nothing was sent.
    pub(super) const fn unsent(class: ErrorClass, what: &'static str) -> Self {
        let mut failure = Self::new(class, what);
        failure.may_cost = false;
        failure
    }

    /// The model was not asked.
    pub(super) const fn resting(class: ErrorClass, rests: Duration) -> Self {
        let mut failure = Self::lasting(class, "it rests after failures and was not asked");
        failure.retry_after = Some(rests);
        failure.is_resting = true;
        failure.may_cost = false;
        failure
    }

    /// A failure that another attempt would only repeat.
    pub(super) const fn lasting(class: ErrorClass, what: &'static str) -> Self {
        let mut failure = Self::new(class, what);
        failure.retryable = false;
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}", self.what, self.class)?;
        if let Some(status) = self.status {
            write!(f, ", status {status}")?;
        }
        if let Some(code) = &self.code {
            write!(f, ", code {code}")?;
        }
        if let Some(rests) = self.retry_after.filter(|_| self.is_resting) {
            write!(f, ", try again in {} s", rests.as_secs().max(1))?;
        }
        f.write_str("]")
    }
}

/// Why a model call, or the set-up of the models, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LlmError {
    /// The caller asked to stop.
    #[error("the model call was cancelled")]
    Cancelled,
    /// The request names a model that is not configured.
    #[error("no model `{model}` is configured")]
    UnknownModel {
        /// The name that was asked for.
        model: String,
    },
    /// The configuration cannot work.
    #[error("model `{model}`: {reason}")]
    Config {
        /// Which entry.
        model: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// Every attempt failed; this is the last failure.
    #[error("model `{model}` gave no answer: {failure}")]
    Failed {
        /// The entry that was tried last.
        model: String,
        /// What happened.
        failure: Failure,
    },
}

impl LlmError {
    /// What kind of failure it was.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Cancelled => ErrorClass::Cancelled,
            Self::UnknownModel { .. } | Self::Config { .. } => ErrorClass::BadRequest,
            Self::Failed { failure, .. } => failure.class,
        }
    }

    /// Whether the last attempt may have been billed.
    pub const fn may_cost(&self) -> bool {
        match self {
            Self::Cancelled => true,
            Self::UnknownModel { .. } | Self::Config { .. } => false,
            Self::Failed { failure, .. } => failure.may_cost,
        }
    }

    /// Whether the whole call may succeed a little later. The client has already tried several
    /// times; this is for a caller that pauses the run and comes back.
    pub const fn is_retryable(&self) -> bool {
        self.class().is_retryable()
    }

    /// How long the provider asked us to wait, where it did.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed { failure, .. } => failure.retry_after,
            Self::Cancelled | Self::UnknownModel { .. } | Self::Config { .. } => None,
        }
    }
}
