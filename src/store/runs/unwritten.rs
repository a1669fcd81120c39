//! Runs that a group has inserted or changed: their rows are written together, at the end of the
//! group or before something in it reads them by another way than by their id.
//!
//! Invariants: a change is checked against the epoch that the row has when it is made, and again by
//! the statement that writes it; a row that was written in a job that fails counts as not written
//! again, with what it held before the job.

use std::collections::BTreeMap;

use super::{
    super::{
        bulk::Bulk,
        cols,
        db::{Conn, Query},
        error::StoreError,
    },
    Ending, RunCore, interrupt_name,
};
use crate::domain::{Confinement, Run, RunId, Timestamp, WaitReason};

/// A row as the group leaves it.
#[derive(Clone, Debug)]
struct Changed {
    core: RunCore,
    /// The epoch of the row as it stands in the database.
    stored_epoch: u64,
    /// The fixed columns of a run that has no row yet.
    new: Option<Run>,
    /// By the job under way.
    is_written: bool,
}

/// The runs, and what was there before each change of the job under way.
#[derive(Debug, Default)]
pub(in crate::store) struct Unwritten {
    runs: BTreeMap<RunId, Changed>,
    before: Vec<(RunId, Option<Changed>)>,
}

const INSERT: Bulk = Bulk::insert(
    "INSERT INTO runs (id, conversation_id, agent, agent_version, principal, surface, state, \
     wait_reason, epoch, owner, seq, step, ready, recoveries, backoffs, interrupt, \
     steers_waiting, input_tokens, output_tokens, cost_nanos, llm_calls, tool_calls, \
     held_tokens, held_nanos, limits, worked_ms, wake_at, confinement, tainted, head_bundle_id, \
     created_at, started_at, ended_at, held_day, input, output, error, metadata, parent_run_id, \
     retry_of, base_bundle_id) ",
    41,
);

const UPDATE: Bulk = Bulk {
    before: "UPDATE runs SET state = v.column3, wait_reason = v.column4, epoch = v.column5, \
        owner = v.column6, seq = v.column7, step = v.column8, ready = v.column9, \
        recoveries = v.column10, backoffs = v.column11, interrupt = v.column12, \
        steers_waiting = v.column13, input_tokens = v.column14, output_tokens = v.column15, \
        cost_nanos = v.column16, llm_calls = v.column17, tool_calls = v.column18, \
        held_tokens = v.column19, held_nanos = v.column20, limits = v.column21, \
        worked_ms = v.column22, wake_at = v.column23, confinement = v.column24, \
        tainted = v.column25, head_bundle_id = v.column26, started_at = v.column27, \
        ended_at = v.column28, held_day = v.column29, \
        output = COALESCE(v.column30, runs.output), error = COALESCE(v.column31, runs.error) \
        FROM (",
    columns: 31,
    after: ") AS v WHERE runs.id = v.column1 AND runs.epoch = v.column2",
};

impl Unwritten {
    /// A run as the group has left it so far.
    pub(in crate::store) fn core(&self, id: RunId) -> Option<&RunCore> {
        self.runs.get(&id).map(|changed| &changed.core)
    }

    pub(super) fn insert(&mut self, core: &RunCore, run: &Run) {
        let (core, new) = (core.clone(), Some(run.clone()));
        let changed = Changed { stored_epoch: core.epoch, core, new, is_written: false };
        self.put(changed);
    }

    /// `stored_epoch`: what the row has, where this group has not changed it yet.
    pub(super) fn save(&mut self, core: &RunCore, stored_epoch: u64) {
        let mut changed = match self.runs.get(&core.id) {
            Some(earlier) => earlier.clone(),
            None => Changed { core: core.clone(), stored_epoch, new: None, is_written: false },
        };
        let ended = changed.core.ending.take();
        changed.core = core.clone();
        if changed.core.ending.is_none() {
            changed.core.ending = ended;
        }
        changed.is_written = false;
        self.put(changed);
    }

    fn put(&mut self, changed: Changed) {
        let id = changed.core.id;
        let before = self.runs.insert(id, changed);
        self.before.push((id, before));
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when a row has another epoch than it had when it was read: somebody
    /// else has written what only this group may write.
    pub(in crate::store) async fn write(&mut self, conn: &mut Conn) -> Result<(), StoreError> {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for run in self.runs.values().filter(|run| !run.is_written) {
            match &run.new {
                Some(fixed) => new.push((run, fixed)),
                None => changed.push(run),
            }
        }
        if new.is_empty() && changed.is_empty() {
            return Ok(());
        }
        INSERT.run(conn, &new, |query, (run, fixed)| inserted(query, &run.core, fixed)).await?;
        let done = UPDATE.count(conn, &changed, |query, run| updated(query, run)).await?;
        if done != u64::try_from(changed.len()).unwrap_or(u64::MAX) {
            return Err(StoreError::Stale { what: "a run".to_owned() });
        }
        for (id, run) in &mut self.runs {
            if !run.is_written {
                self.before.push((*id, Some(run.clone())));
                (run.stored_epoch, run.new, run.is_written) = (run.core.epoch, None, true);
                run.core.ending = None;
            }
        }
        Ok(())
    }

    /// A job begins. What the one before it wrote stands.
    pub(in crate::store) fn begin_job(&mut self) {
        self.before.clear();
        self.runs.retain(|_, run| !run.is_written);
    }

    /// The job failed: what it wrote was undone.
    pub(in crate::store) fn abandon_job(&mut self) {
        while let Some((id, before)) = self.before.pop() {
            match before {
                Some(before) => self.runs.insert(id, before),
                None => self.runs.remove(&id),
            };
        }
    }
}

/// What changes about a run while it is worked on, in the order of both statements.
fn worked_on(query: Query, core: &RunCore) -> Result<Query, StoreError> {
    Ok(query
        .bind(core.state.as_str())
        .bind(core.wait_reason.map(WaitReason::as_str))
        .bind(cols::int(core.epoch))
        .bind(core.owner.map(cols::int))
        .bind(cols::int(core.seq))
        .bind(i64::from(core.step))
        .bind(i64::from(core.ready))
        .bind(i64::from(core.recoveries))
        .bind(i64::from(core.backoffs))
        .bind(core.interrupt.map(interrupt_name))
        .bind(i64::from(core.steers_waiting))
        .bind(cols::int(core.usage.input_tokens))
        .bind(cols::int(core.usage.output_tokens))
        .bind(core.usage.cost_usd.as_nanos())
        .bind(i64::from(core.usage.llm_calls))
        .bind(i64::from(core.usage.tool_calls))
        .bind(cols::int(core.held_tokens))
        .bind(core.held_cost.as_nanos())
        .bind(cols::json(&core.limits)?)
        .bind(cols::int(core.worked_ms))
        .bind(core.wake_at.map(Timestamp::as_micros))
        .bind(core.confinement.map(Confinement::as_str))
        .bind(i64::from(core.tainted))
        .bind(core.head_bundle_id.map(|id| id.to_string())))
}

fn inserted(query: Query, core: &RunCore, run: &Run) -> Result<Query, StoreError> {
    let ended = core.ending.clone().unwrap_or_default();
    let Ending { output, error } = ended;
    let query = query
        .bind(core.id.to_string())
        .bind(core.conversation_id.to_string())
        .bind(core.agent.clone())
        .bind(core.agent_version.clone())
        .bind(core.principal.to_string())
        .bind(core.surface.as_str());
    Ok(worked_on(query, core)?
        .bind(core.created_at.as_micros())
        .bind(core.started_at.map(Timestamp::as_micros))
        .bind(core.ended_at.map(Timestamp::as_micros))
        .bind(i64::from(core.held_day.number()))
        .bind(cols::json(&run.input)?)
        .bind(output.or_else(|| run.output.clone()))
        .bind(error.as_ref().or(run.error.as_ref()).map(cols::json).transpose()?)
        .bind(cols::json(&run.metadata)?)
        .bind(run.parent_run_id.map(|id| id.to_string()))
        .bind(run.retry_of.map(|id| id.to_string()))
        .bind(run.base_bundle_id.map(|id| id.to_string())))
}

fn updated(query: Query, changed: &Changed) -> Result<Query, StoreError> {
    let core = &changed.core;
    let end = core.ending.as_ref();
    let query = query.bind(core.id.to_string()).bind(cols::int(changed.stored_epoch));
    Ok(worked_on(query, core)?
        .bind(core.started_at.map(Timestamp::as_micros))
        .bind(core.ended_at.map(Timestamp::as_micros))
        .bind(i64::from(core.held_day.number()))
        .bind(end.and_then(|e| e.output.clone()))
        .bind(end.and_then(|e| e.error.as_ref()).map(cols::json).transpose()?))
}
