//! 1, 7 and 10: what clients were promised, what was said, and what streams delivered.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use agent_runtime::domain::{ApprovalState, Decision, Event, EventBody, Run, RunState};

use super::{Truth, Violation, Witness};

/// The label of a run that carries the idempotency key of its request, where a test sets one.
const KEY_LABEL: &str = "witness-key";

impl Truth {
    fn run_named(&self, id: &str) -> Option<&Run> {
        let id = id.parse().ok()?;
        self.runs.iter().find(|run| run.id == id)
    }

    /// 1: everything that was acknowledged is there, once.
    pub(super) fn lost_requests(&self, witness: &Witness) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let known: BTreeSet<String> = self.runs.iter().map(|r| r.id.to_string()).collect();
        let mut by_key: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, run) in &witness.created {
            if !known.contains(run) {
                let what = format!("{run}, acknowledged under key {key}, is not there");
                wrong.push(Violation::of(1, what));
            }
            let first = *by_key.entry(key).or_insert(run);
            if first != run {
                wrong.push(Violation::of(1, format!("key {key} gave {first} and then {run}")));
            }
        }
        let mut labelled: HashMap<&str, u32> = HashMap::new();
        for run in self.runs.iter().filter(|r| r.retry_of.is_none()) {
            if let Some(key) = run.metadata.get(KEY_LABEL) {
                *labelled.entry(key).or_default() += 1;
            }
        }
        for (key, count) in labelled.into_iter().filter(|(_, count)| *count > 1) {
            wrong.push(Violation::of(1, format!("key {key} made {count} runs")));
        }
        for (approval, decision) in &witness.decided {
            let found = self.approvals.iter().find(|a| a.id.to_string() == *approval);
            let kept = |yes: bool| {
                found.is_some_and(|a| {
                    let mut decisions = a.decisions.iter();
                    decisions.any(|d| (d.decision == Decision::Approve) == yes)
                        && (a.quorum > 1 || a.state != ApprovalState::Pending)
                })
            };
            if !kept(decision == "approve") {
                let what = format!("the acknowledged answer ({decision}) to {approval} is lost");
                wrong.push(Violation::of(1, what));
            }
        }
        for id in &witness.cancelled {
            let is_over = |run: &Run| run.state.is_terminal() || run.state == RunState::Cancelling;
            if !self.run_named(id).is_some_and(is_over) {
                wrong.push(Violation::of(1, format!("the acknowledged cancel of {id} is lost")));
            }
        }
        wrong
    }

    /// 7: messages are numbered 1..n in each thread, and each accepted steer stands once and was
    /// settled at most once. (Inbound updates and the outbox join here with the first connector.)
    pub(super) fn wrong_messages(&self, witness: &Witness) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for (thread, messages) in &self.threads {
            if thread.deleted_at.is_some() {
                continue;
            }
            let numbers = messages.iter().map(|m| m.seq);
            if !numbers.eq(1..=thread.last_seq) {
                let (count, last) = (messages.len(), thread.last_seq);
                let what = format!("{} has {count} messages, the last is {last}", thread.id);
                wrong.push(Violation::of(7, what));
            }
            let ids: BTreeSet<String> = messages.iter().map(|m| m.id.to_string()).collect();
            if ids.len() != messages.len() {
                wrong.push(Violation::of(7, format!("{} holds a message twice", thread.id)));
            }
        }
        for (run, steer) in &witness.steered {
            let id = run.parse().ok();
            let events = id.map_or(&[] as &[Event], |id| self.events_of(id));
            let accepted = events.iter().filter(|e| {
                matches!(&e.body, EventBody::SteerAccepted { steer_id, .. }
                    if steer_id.to_string() == *steer)
            });
            if accepted.count() != 1 {
                let what = format!("steer {steer} of {run} was accepted and does not stand once");
                wrong.push(Violation::of(7, what));
            }
        }
        for events in self.events.values() {
            let mut settled = BTreeSet::new();
            for event in events {
                if let EventBody::SteerApplied { steer_id, .. }
                | EventBody::SteerFailed { steer_id, .. } = &event.body
                    && !settled.insert(steer_id.to_string())
                {
                    let what = format!("steer {steer_id} was settled twice");
                    wrong.push(Violation::of(7, what));
                }
            }
        }
        wrong
    }

    /// 10: each client was sent each event once, in order, as it is stored.
    pub(super) fn wrong_deliveries(&self, witness: &Witness) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for ((client, run), seen) in &witness.seen {
            let id = run.parse().ok();
            let events = id.map_or(&[] as &[Event], |id| self.events_of(id));
            let mut last = None;
            for event in seen {
                if last.is_some_and(|last| event.seq != last + 1) {
                    let last = last.unwrap_or_default();
                    let what = format!("{client} was sent {run}/{} behind {last}", event.seq);
                    wrong.push(Violation::of(10, what));
                }
                last = Some(event.seq);
                let stored = events.iter().find(|e| e.seq == event.seq).map(|e| e.body.kind());
                if stored != Some(event.kind.as_str()) {
                    let what = format!(
                        "{client} was sent {run}/{} as {}, stored is {stored:?}",
                        event.seq, event.kind
                    );
                    wrong.push(Violation::of(10, what));
                }
            }
        }
        wrong
    }
}
