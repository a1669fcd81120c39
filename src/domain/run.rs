//! A run: one execution of an agent, and the one function that says what may happen to it.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    ids::{BundleId, ConversationId, PrincipalId, RunId},
    message::UserInput,
    money::Usd,
    principal::Surface,
    time::Timestamp,
};

/// Where a run stands. The last four are terminal and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits to be claimed.
    Queued,
    /// Claimed by a daemon under the current epoch.
    Running,
    /// A gated tool call waits for a person. No task exists.
    AwaitingApproval,
    /// Stopped at a safe point for the reason in `wait_reason`.
    Paused,
    /// A cancel was accepted; the running work is being stopped.
    Cancelling,
    /// The agent gave its final answer.
    Succeeded,
    /// Ended by an error or a limit.
    Failed,
    /// Ended by a person.
    Cancelled,
    /// Waited past its deadline.
    Expired,
}

/// What can happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunInput {
    /// A daemon takes it, under a new epoch.
    Claim,
    /// A gated call asks a person.
    Gate,
    /// The approval was decided, or expired (which counts as deny).
    Decide,
    /// Stops at a safe point.
    Pause,
    /// A person or timer sends it on.
    Resume,
    /// A person wants it ended.
    RequestCancel,
    /// It is ended.
    Cancel,
    /// Final answer.
    Succeed,
    /// Error or limit.
    Fail,
    /// Deadline passed while it waited.
    Expire,
    /// Its owner died; it goes back to the queue.
    Recover,
    /// Its owner died with an unsafe effect undecided, after an interrupt, or too often: a person
    /// must look.
    RecoverPaused,
}

impl RunInput {
    /// Every input, for exhaustive tests.
    pub const ALL: [Self; 12] = [
        Self::Claim,
        Self::Gate,
        Self::Decide,
        Self::Pause,
        Self::Resume,
        Self::RequestCancel,
        Self::Cancel,
        Self::Succeed,
        Self::Fail,
        Self::Expire,
        Self::Recover,
        Self::RecoverPaused,
    ];
}

impl RunState {
    /// Every state, for exhaustive tests and for the store.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::AwaitingApproval,
        Self::Paused,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The state after `input`, or `None` where it is not legal. Pure and total: the daemon, the
    /// property tests and the invariant checker all use this one function.
    #[must_use]
    pub const fn after(self, input: RunInput) -> Option<Self> {
        use RunInput as I;
        match self {
            Self::Queued => match input {
                I::Claim => Some(Self::Running),
                I::RequestCancel | I::Cancel => Some(Self::Cancelled),
                I::Expire => Some(Self::Expired),
                I::Gate
                | I::Decide
                | I::Pause
                | I::Resume
                | I::Succeed
                | I::Fail
                | I::Recover
                | I::RecoverPaused => None,
            },
            Self::Running => match input {
                I::Gate => Some(Self::AwaitingApproval),
                I::Pause | I::RecoverPaused => Some(Self::Paused),
                I::RequestCancel => Some(Self::Cancelling),
                I::Cancel => Some(Self::Cancelled),
                I::Succeed => Some(Self::Succeeded),
                I::Fail => Some(Self::Failed),
                I::Recover => Some(Self::Queued),
                I::Claim | I::Decide | I::Resume | I::Expire => None,
            },
            Self::AwaitingApproval => match input {
                I::Decide => Some(Self::Queued),
                I::RequestCancel | I::Cancel => Some(Self::Cancelled),
                I::Expire => Some(Self::Expired),
                I::Claim
                | I::Gate
                | I::Pause
                | I::Resume
                | I::Succeed
                | I::Fail
                | I::Recover
                | I::RecoverPaused => None,
            },
            Self::Paused => match input {
                I::Resume => Some(Self::Queued),
                I::RequestCancel | I::Cancel => Some(Self::Cancelled),
                I::Fail => Some(Self::Failed),
                I::Expire => Some(Self::Expired),
                I::Claim
                | I::Gate
                | I::Decide
                | I::Pause
                | I::Succeed
                | I::Recover
                | I::RecoverPaused => None,
            },
            Self::Cancelling => match input {
                I::RequestCancel => Some(Self::Cancelling),
                I::Cancel => Some(Self::Cancelled),
                I::Claim
                | I::Gate
                | I::Decide
                | I::Pause
                | I::Resume
                | I::Succeed
                | I::Fail
                | I::Expire
                | I::Recover
                | I::RecoverPaused => None,
            },
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => match input {
                I::Claim
                | I::Gate
                | I::Decide
                | I::Pause
                | I::Resume
                | I::RequestCancel
                | I::Cancel
                | I::Succeed
                | I::Fail
                | I::Expire
                | I::Recover
                | I::RecoverPaused => None,
            },
        }
    }

    /// Whether nothing can change any more.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
            Self::Queued
            | Self::Running
            | Self::AwaitingApproval
            | Self::Paused
            | Self::Cancelling => false,
        }
    }

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text named no value of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}")]
pub struct UnknownName {
    /// What was expected, such as "run state".
    pub what: &'static str,
}

impl FromStr for RunState {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or(UnknownName { what: "run state" })
    }
}

/// Why a paused run waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A person interrupted it.
    Interrupted,
    /// A crash left an unsafe effect undecided; an approval asks what happened.
    EffectUnknown,
    /// A budget of the run is used up; an approval asks to raise it.
    Budget,
    /// The agent asked a question; `resume` with input answers it.
    Input,
    /// It crashed the daemon too often; an operator must look.
    Operator,
    /// The model provider fails; a timer resumes it.
    Backoff,
    /// The daemon was locked down while it worked; `resume` sends it on once that is lifted.
    Lockdown,
}

impl WaitReason {
    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::EffectUnknown => "effect_unknown",
            Self::Budget => "budget",
            Self::Input => "input",
            Self::Operator => "operator",
            Self::Backoff => "backoff",
            Self::Lockdown => "lockdown",
        }
    }
}

impl FromStr for WaitReason {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        [
            Self::Interrupted,
            Self::EffectUnknown,
            Self::Budget,
            Self::Input,
            Self::Operator,
            Self::Backoff,
            Self::Lockdown,
        ]
        .into_iter()
        .find(|s| s.as_str() == text)
        .ok_or(UnknownName { what: "wait reason" })
    }
}

/// How an interrupt treats the work in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptMode {
    /// Aborts the model stream; lets a running unsafe tool finish or time out.
    Graceful,
    /// Kills the running tool as well.
    Hard,
}

/// What a new message does to a conversation whose run is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// Waits its turn.
    #[default]
    Enqueue,
    /// Is refused with 409.
    Reject,
    /// Interrupts the active run, then follows it.
    Interrupt,
    /// Becomes a steer of the active run.
    Steer,
}

/// How well tool processes are confined, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// Namespaces, private `/proc`, Landlock, seccomp, limits.
    Full,
    /// As full, with a masked `/proc` (inside containers).
    FullNoproc,
    /// A container of a Docker engine. Namespaces, no network, no capability, limits; but the whole
    /// image is there to be run, and the engine runs as root.
    Docker,
    /// Landlock and seccomp without namespaces.
    Landlock,
    /// Plain processes: nothing was confined, in development.
    Local,
    /// Nothing was confined, or nothing may run.
    None,
}

impl Confinement {
    /// Every level, best first.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::FullNoproc, Self::Docker, Self::Landlock, Self::Local, Self::None];
    /// Those that our own sandbox reaches, best first: what a minimum can be.
    pub const MEASURED: [Self; 4] = [Self::Full, Self::FullNoproc, Self::Landlock, Self::None];

    /// The name on the wire and in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::FullNoproc => "full-noproc",
            Self::Docker => "docker",
            Self::Landlock => "landlock",
            Self::Local => "local",
            Self::None => "none",
        }
    }

    /// The weaker of two levels.
    #[must_use]
    pub fn weaker(self, other: Self) -> Self {
        if self.reaches(other) { other } else { self }
    }

    /// Whether this level is at least as strong as `minimum`.
    pub fn reaches(self, minimum: Self) -> bool {
        let rank = |c| Self::ALL.iter().position(|x| *x == c);
        rank(self) <= rank(minimum)
    }
}

impl FromStr for Confinement {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or(UnknownName {
            what: "confinement level (full, full-noproc, docker, landlock, local, none)",
        })
    }
}

/// Bounds of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunLimits {
    /// Seconds of work, waiting for people not counted in.
    pub timeout_secs: u64,
    /// Model calls.
    pub max_steps: u32,
    /// Tool calls.
    pub max_tool_calls: u32,
    /// Tokens, input and output together.
    pub max_tokens: u64,
    /// Money.
    pub max_cost_usd: Usd,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            timeout_secs: 600,
            max_steps: 50,
            max_tool_calls: 100,
            max_tokens: 200_000,
            max_cost_usd: Usd::from_nanos(1_000_000_000),
        }
    }
}

/// What a run has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read by models.
    pub input_tokens: u64,
    /// Tokens written by models.
    pub output_tokens: u64,
    /// Money, by the prices of the configuration.
    pub cost_usd: Usd,
    /// Model calls.
    pub llm_calls: u32,
    /// Tool calls executed or denied.
    pub tool_calls: u32,
}

impl Usage {
    /// Tokens, input and output together.
    pub const fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// Why a run failed, was cancelled or expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// Stable code, `<area>.<reason>`.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
}

/// One execution of an agent, as stored and as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Id.
    pub id: RunId,
    /// The thread it belongs to.
    pub conversation_id: ConversationId,
    /// Name of its agent.
    pub agent: String,
    /// Where it stands.
    pub state: RunState,
    /// Why it is paused.
    pub wait_reason: Option<WaitReason>,
    /// What was asked.
    pub input: UserInput,
    /// The final answer.
    pub output: Option<String>,
    /// Why it ended badly.
    pub error: Option<RunError>,
    /// Sequence number of its last event.
    pub seq: u64,
    /// Fencing epoch: rises with every claim and recovery.
    pub epoch: u64,
    /// What it has used.
    pub usage: Usage,
    /// The weakest level that one of its tools ran under, once one did.
    pub confinement: Option<Confinement>,
    /// Whether it has read untrusted content.
    pub tainted: bool,
    /// The run that started it.
    pub parent_run_id: Option<RunId>,
    /// The failed run that it repeats.
    pub retry_of: Option<RunId>,
    /// Who started it.
    pub principal: PrincipalId,
    /// Where it was started.
    pub surface: Surface,
    /// The caller's own labels.
    pub metadata: BTreeMap<String, String>,
    /// Its bounds.
    pub limits: RunLimits,
    /// The bundle that it was asked to continue, or else its conversation's newest at that time.
    pub base_bundle_id: Option<BundleId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it reached a terminal state.
    pub ended_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests;
