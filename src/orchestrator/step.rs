//! What happens next in a run. Pure and total: no clock, no store, no randomness.

use crate::domain::{CallState, InterruptMode, RunState, WaitReason};

/// Everything that the decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states of one thing")]
pub(super) struct Facts {
    /// Where the run stands.
    pub(super) state: RunState,
    /// An interrupt that was asked for and not yet obeyed.
    pub(super) interrupt: Option<InterruptMode>,
    /// The daemon is locked down, or was since the run was taken up.
    pub(super) is_locked: bool,
    /// What the run was given was taken away.
    pub(super) is_revoked: bool,
    /// The daemon is stopping.
    pub(super) is_stopping: bool,
    /// The run has worked as long as it may.
    pub(super) is_out_of_time: bool,
    /// Somebody wants to say something before the next model call.
    pub(super) has_steers: bool,
    /// The model's last answer asked for no tool and is not yet followed by anything.
    pub(super) has_final_answer: bool,
    /// The tool calls of the current step, in order.
    pub(super) calls: Vec<CallState>,
    /// Model calls that are left.
    pub(super) steps_left: u32,
    /// Tool calls that are left.
    pub(super) calls_left: u32,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: the run is not ours to work on now.
    Leave,
    /// Give the run back to the queue for the next daemon.
    Release,
    /// Ask the model.
    CallModel,
    /// Let policy decide on the call at this index and, if it may, start it.
    Decide(usize),
    /// Skip every call that has not begun: a person said something new.
    SkipRest,
    /// Stop here and wait.
    Pause(WaitReason),
    /// End.
    Finish(Finish),
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// With the model's answer.
    Succeeded,
    /// A person cancelled it.
    Cancelled,
    /// It ran out of time.
    OutOfTime,
    /// It used up its model calls.
    OutOfSteps,
    /// It used up its tool calls.
    OutOfCalls,
    /// What it was given was taken away.
    Revoked,
}

/// Decides what happens next. Called whenever nothing of the run is in flight.
pub(super) fn next(facts: &Facts) -> Step {
    match facts.state {
        RunState::Queued
        | RunState::AwaitingApproval
        | RunState::Paused
        | RunState::Succeeded
        | RunState::Failed
        | RunState::Cancelled
        | RunState::Expired => return Step::Leave,
        RunState::Cancelling => return Step::Finish(Finish::Cancelled),
        RunState::Running => {}
    }
    if facts.calls.contains(&CallState::Unknown) {
        return Step::Pause(WaitReason::EffectUnknown);
    }
    // First: a lockdown takes away what every run was given, and lets it wait.
    if facts.is_locked {
        return Step::Pause(WaitReason::Lockdown);
    }
    if facts.is_revoked {
        return Step::Finish(Finish::Revoked);
    }
    if facts.interrupt.is_some() {
        return Step::Pause(WaitReason::Interrupted);
    }
    if facts.is_out_of_time {
        return Step::Finish(Finish::OutOfTime);
    }
    if facts.is_stopping {
        return Step::Release;
    }
    match facts.calls.iter().position(|state| *state != CallState::Done) {
        Some(index) => next_call(facts, index),
        // A steer that came too late for another model call does not undo the answer.
        None if facts.has_final_answer && (!facts.has_steers || facts.steps_left == 0) => {
            Step::Finish(Finish::Succeeded)
        }
        None if facts.steps_left == 0 => Step::Finish(Finish::OutOfSteps),
        None => Step::CallModel,
    }
}

fn next_call(facts: &Facts, index: usize) -> Step {
    let has_begun = index > 0;
    match facts.calls.get(index) {
        Some(CallState::Proposed | CallState::Approved) => {
            if facts.has_steers && has_begun {
                Step::SkipRest
            } else if facts.calls_left == 0 {
                Step::Finish(Finish::OutOfCalls)
            } else {
                Step::Decide(index)
            }
        }
        // A question that was asked and is not answered: whoever answers it queues the run again.
        Some(CallState::Gated) => Step::Pause(WaitReason::Operator),
        // A started call is in flight or was settled by recovery; it is never found here.
        Some(CallState::Started | CallState::Unknown) => Step::Pause(WaitReason::EffectUnknown),
        Some(CallState::Done) | None => Step::CallModel,
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
