//! 3 and 5: what ran, how often, and who let it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use agent_runtime::domain::{
    ApprovalKind, ApprovalState, Effect, EventBody, ToolCallId, UnknownOutcome,
};

use super::{Truth, Violation, Witness};

/// What the store says about the executions of a call.
#[derive(Default)]
struct Told {
    is_unsafe: bool,
    started: u32,
    /// Times that a person said "run it".
    released: u32,
    has_result: bool,
}

impl Truth {
    /// 3: an unsafe call ran at most once, and once more for each recorded "run it"; nothing ran
    /// whose intent was not stored; the provider was shown no result that is not.
    pub(super) fn wrong_effects(&self, witness: &Witness) -> Vec<Violation> {
        let mut wrong = self.restarts();
        let told = self.told();
        let mut ran: BTreeMap<ToolCallId, u32> = BTreeMap::new();
        for line in witness.executed.iter().filter(|l| !l.starts_with("overlap ")) {
            match line.parse() {
                Ok(id) => *ran.entry(id).or_default() += 1,
                Err(error) => {
                    wrong.push(Violation::of(3, format!("witness {line:?}: {error}")));
                }
            }
        }
        for (call, times) in ran {
            let nothing = Told::default();
            let told = told.get(&call).unwrap_or(&nothing);
            if times > told.started {
                let what = format!("{call} ran {times} times with {} stored intents", told.started);
                wrong.push(Violation::of(3, what));
            }
            let allowed = 1 + told.released;
            if told.is_unsafe && times > allowed {
                let what = format!("unsafe {call} ran {times} times, {allowed} allowed");
                wrong.push(Violation::of(3, what));
            }
        }
        let shown: BTreeSet<ToolCallId> =
            witness.shown.iter().filter_map(|id| id.parse().ok()).collect();
        for call in shown {
            if !told.get(&call).is_some_and(|t| t.has_result) {
                let what = format!("the model was shown a result of {call} that is not stored");
                wrong.push(Violation::of(3, what));
            }
        }
        wrong
    }

    fn told(&self) -> BTreeMap<ToolCallId, Told> {
        let mut all: BTreeMap<ToolCallId, Told> = BTreeMap::new();
        for event in self.events.values().flatten() {
            match &event.body {
                EventBody::ToolRequested { call_id, effect, .. } => {
                    all.entry(*call_id).or_default().is_unsafe = *effect == Effect::Unsafe;
                }
                EventBody::ToolStarted { call_id, .. } => {
                    all.entry(*call_id).or_default().started += 1;
                }
                EventBody::ApprovalDecided { call_id: Some(call_id), decision, .. }
                    if decision.outcome == Some(UnknownOutcome::Run) =>
                {
                    all.entry(*call_id).or_default().released += 1;
                }
                _ => {}
            }
        }
        for call in self.calls.values() {
            all.entry(call.id).or_default().has_result = call.outcome.is_some();
        }
        // What ended a run stands in for results that the next run of its thread is shown.
        for (_, messages) in &self.threads {
            for part in messages.iter().flat_map(|m| &m.content) {
                if let agent_runtime::domain::Part::ToolCall { call_id, .. } = part {
                    let run_ended = |call: &agent_runtime::domain::ToolCall| {
                        let run = self.runs.iter().find(|r| r.id == call.run_id);
                        run.is_some_and(|r| r.state.is_terminal())
                    };
                    if self.calls.get(call_id).is_some_and(run_ended) {
                        all.entry(*call_id).or_default().has_result = true;
                    }
                }
            }
        }
        all
    }

    /// The same by the store alone: an unsafe call that a crash left open starts again only behind
    /// a person's word.
    fn restarts(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for events in self.events.values() {
            let mut unsafe_calls = BTreeSet::new();
            let mut open = BTreeSet::new();
            let mut undecided = BTreeSet::new();
            for event in events {
                match &event.body {
                    EventBody::ToolRequested { call_id, effect: Effect::Unsafe, .. } => {
                        unsafe_calls.insert(*call_id);
                    }
                    EventBody::ToolStarted { call_id, .. } => {
                        if undecided.contains(call_id) {
                            let what = format!("unsafe {call_id} started again after a crash");
                            wrong.push(Violation::of(3, what));
                        }
                        if unsafe_calls.contains(call_id) {
                            open.insert(*call_id);
                        }
                    }
                    EventBody::ToolCompleted { call_id, .. } => {
                        open.remove(call_id);
                        undecided.remove(call_id);
                    }
                    EventBody::ApprovalRequested { approval } => {
                        // It did not run: what was approved was no longer there.
                        if approval.kind == ApprovalKind::Tool
                            && let Some(call) = approval.call_id
                        {
                            open.remove(&call);
                        }
                    }
                    EventBody::ApprovalDecided { call_id: Some(call), decision, .. }
                        if decision.outcome == Some(UnknownOutcome::Run) =>
                    {
                        open.remove(call);
                        undecided.remove(call);
                    }
                    EventBody::RunRecovered { .. } => undecided.extend(open.iter().copied()),
                    _ => {}
                }
            }
        }
        wrong
    }

    /// 5: no gated call ran without a valid, unexpired decision over the same arguments.
    pub(super) fn ungated_calls(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for events in self.events.values() {
            let mut gates: HashMap<ToolCallId, (ApprovalState, String)> = HashMap::new();
            let mut expiry = HashMap::new();
            for event in events {
                match &event.body {
                    EventBody::ApprovalRequested { approval } => {
                        expiry.insert(approval.id, approval.expires_at);
                        if let (ApprovalKind::Tool, Some(call)) = (approval.kind, approval.call_id)
                        {
                            let gate = (ApprovalState::Pending, approval.args_hash.clone());
                            gates.insert(call, gate);
                        }
                    }
                    EventBody::ApprovalDecided { approval_id, call_id, state, decision } => {
                        if expiry.get(approval_id).is_none_or(|until| decision.at > *until) {
                            let what = format!("{approval_id} was decided too late");
                            wrong.push(Violation::of(5, what));
                        }
                        if let Some(gate) = call_id.and_then(|call| gates.get_mut(&call)) {
                            gate.0 = *state;
                        }
                    }
                    EventBody::ApprovalExpired { call_id: Some(call), .. } => {
                        if let Some(gate) = gates.get_mut(call) {
                            gate.0 = ApprovalState::Expired;
                        }
                    }
                    EventBody::ApprovalVoided { call_id: Some(call), .. } => {
                        if let Some(gate) = gates.get_mut(call) {
                            gate.0 = ApprovalState::Voided;
                        }
                    }
                    EventBody::ToolStarted { call_id, .. } => {
                        let Some((state, args_hash)) = gates.get(call_id) else { continue };
                        if *state != ApprovalState::Approved {
                            let state = state.as_str();
                            let what = format!("{call_id} ran while its question was {state}");
                            wrong.push(Violation::of(5, what));
                        }
                        if self.calls.get(call_id).is_none_or(|c| c.args_hash != *args_hash) {
                            let what = format!("{call_id} ran with other arguments than approved");
                            wrong.push(Violation::of(5, what));
                        }
                    }
                    _ => {}
                }
            }
        }
        for call in self.calls.values() {
            if agent_runtime::tools::args_hash(&call.tool, &call.args) != call.args_hash {
                let what = format!("the arguments of {} are not those of its hash", call.id);
                wrong.push(Violation::of(5, what));
            }
        }
        wrong
    }
}
