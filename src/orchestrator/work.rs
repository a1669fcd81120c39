//! What a run's task holds between two commits, and what passes between it and them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::capabilities::Held;
use crate::{
    domain::{AgentDef, Bound, Grant, Message, RunId, ToolCall, ToolCallId, UserInput},
    llm::{Completion, LlmError, Request, ToolSchema},
    tools::{Invocation, Invoked},
};

use super::consent::Looked;

/// A run in progress, as its task holds it. All of it can be rebuilt from the store.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) id: RunId,
    /// Number of its last event, as of the last commit.
    pub(super) seq: u64,
    /// Working time that the run has left, as of the last commit.
    pub(super) time_left: Duration,
    /// The epoch under which it was claimed; none before the claim.
    pub(super) epoch: Option<u64>,
    pub(super) input: UserInput,
    pub(super) agent: Option<Arc<AgentDef>>,
    /// What the run may do, since it was claimed.
    pub(super) capability: Option<Held>,
    /// How often the daemon had been locked down before the run was taken up.
    pub(super) lockdowns: u64,
    pub(super) schemas: Arc<[ToolSchema]>,
    /// Whether a run whose messages stand in the history has read untrusted content.
    pub(super) is_heir_to_taint: bool,
    pub(super) history: Vec<Arc<Message>>,
    pub(super) calls: Vec<ToolCall>,
    /// Names of the model keys of which the trail says that this run uses them, since it was claimed.
    pub(super) keys: BTreeSet<String>,
    /// Since when its time is not yet counted.
    pub(super) counted: tokio::time::Instant,
}

/// What came back from the last effect.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// Nothing was in flight.
    Begin,
    /// The model's answer, or why there is none.
    Model(Result<Completion, LlmError>),
    /// What became of the call at this index.
    Tool(usize, Invoked),
    /// What a call would touch.
    Looked(Looked),
}

/// The next effect. Its intent is durable.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing: the run waits or has ended. The run that is ready because of it, if there is one.
    Leave(Option<RunId>),
    CallModel(Request),
    RunCall(Started),
    /// Find out what a call would touch: somebody has to be asked, or was.
    Look(Look),
}

/// A call to look at.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) call_id: ToolCallId,
    pub(super) invocation: Box<Invocation>,
    pub(super) grant: Arc<Grant>,
}

/// A call whose intent is durable.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) index: usize,
    pub(super) call_id: ToolCallId,
    pub(super) invocation: Box<Invocation>,
    pub(super) grant: Arc<Grant>,
    /// What a person was shown, if anybody was asked.
    pub(super) bound: Option<Arc<Bound>>,
    /// What the model is told if it fails.
    pub(super) note: Option<&'static str>,
}
