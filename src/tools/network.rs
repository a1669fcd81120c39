//! A call's use of the network: when it begins and ends, what it is told of refusals, whether there
//! is any at all.

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use crate::{
    domain::{EgressRecord, EgressVia, HostPolicy, ToolCallId, ToolOutcome},
    egress::{Channel, Traffic},
};

/// Refusals that a model is told of.
const TOLD_MAX: usize = 5;

/// What the check at start found out about the network of process tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkStatus {
    /// Nobody has looked, or there is nothing to look at: no process tool runs.
    Unchecked,
    /// Every way out leads to the doors, and they refuse what no rule allows.
    Held,
    /// A way out was found, or the check could not be made. `is_enforced`: process tools get no
    /// network.
    Failed {
        /// What was found.
        reason: String,
        /// Whether calls are refused for it.
        is_enforced: bool,
    },
}

/// The status, set once at start.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    status: Arc<OnceLock<NetworkStatus>>,
}

impl Network {
    pub(super) fn status(&self) -> NetworkStatus {
        self.status.get().cloned().unwrap_or(NetworkStatus::Unchecked)
    }

    pub(super) fn set(&self, status: NetworkStatus) {
        // The first finding stands.
        self.status.set(status).ok();
    }

    /// Why process tools get no network, if they get none.
    pub(super) fn refusal(&self) -> Option<String> {
        match self.status() {
            NetworkStatus::Failed { reason, is_enforced: true } => Some(format!(
                "not executed: the network of tools is refused, since the check at start failed \
                 ({reason}); call again with `network`: false, or ask the operator"
            )),
            NetworkStatus::Unchecked | NetworkStatus::Held | NetworkStatus::Failed { .. } => None,
        }
    }
}

/// A call under way on a channel. Ends with it, also when the call is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'c> {
    channel: Option<&'c Channel>,
}

impl<'c> UnderWay<'c> {
    pub(super) fn begin(
        channel: &'c Channel,
        call_id: ToolCallId,
        policy: Arc<HostPolicy>,
    ) -> Self {
        channel.begin(call_id, policy);
        Self { channel: Some(channel) }
    }

    /// Cuts what it has open; what it did.
    pub(super) fn end(mut self) -> Traffic {
        self.channel.take().map(Channel::end).unwrap_or_default()
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(channel) = self.channel {
            channel.end();
        }
    }
}

/// Whether something came in that others have written. Answers to name lookups are ours.
pub(super) fn brought_in(record: &EgressRecord) -> bool {
    record.allowed && record.bytes_down > 0 && record.via != EgressVia::Dns
}

/// Tells the model what was refused: a program may only have said that a connection broke.
pub(super) fn note(outcome: &mut ToolOutcome, traffic: &Traffic) {
    let mut told: Vec<String> = Vec::new();
    for record in traffic.records.iter().filter(|r| !r.allowed) {
        let line = format!("{}:{} ({})", record.host, record.port, record.reason);
        if !told.contains(&line) {
            told.push(line);
        }
    }
    if told.is_empty() {
        return;
    }
    let more = told.len().saturating_sub(TOLD_MAX);
    told.truncate(TOLD_MAX);
    let out = &mut outcome.output;
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    // Writing to a string cannot fail.
    write!(out, "[refused on the network: {}", told.join(", ")).ok();
    if more > 0 {
        write!(out, " and {more} more").ok();
    }
    out.push_str("; only the hosts that this agent is allowed can be reached]");
}
