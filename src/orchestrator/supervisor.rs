//! Starts a task for every run that is ready, and looks at what is due.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tracing::Instrument;

use super::{
    Inner, approvals,
    ending::{End, finish},
    error::CommandError,
    live::Entered,
    run_task,
    transition::Actor,
    verbs::send_on,
};
use crate::{
    domain::{CapabilityId, RunId, RunState, Timestamp, ToolCallId, WaitReason, limits},
    runtime::{Stop, TaskKind},
    store::{Durability, StoreError},
};

/// How often timers are looked at, and how long a lost hint can delay a run.
const TICK: Duration = Duration::from_secs(1);
/// Batches of old rows of one kind that are forgotten in one go: more than a busy minute makes.
const OLD_BATCHES_MAX: u32 = 100;
/// Old decisions that are forgotten in one go: a statement of a few milliseconds.
const DECISION_BATCH: u32 = 500;
/// How often in a row: more than a busy minute makes.
const DECISION_BATCHES_MAX: u32 = 200;
/// Rows looked at in one go.
const PAGE: u32 = 512;

/// Runs until the soft stop.
pub(super) async fn supervise(inner: Arc<Inner>, stop: Stop) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks_again = true;
    loop {
        while let Some(run_id) = inner.live.take_hint() {
            // Locked down: what is ready is looked for again once that is lifted.
            looks_again |= inner.lockdown.is_on() || !try_start(&inner, run_id);
        }
        looks_again |= inner.live.take_look();
        let has_room = inner.live.active_count() < inner.options.active_max;
        if looks_again && has_room && !inner.lockdown.is_on() {
            match claim(&inner).await {
                Ok(found_all) => looks_again = !found_all,
                Err(error) => report("look for runs", &error),
            }
        }
        // Every branch is cancel-safe: a notification that is not taken stays.
        tokio::select! {
            () = inner.live.wake.notified() => {}
            _ = tick.tick() => {
                looks_again = true;
                if let Err(error) = timers(&inner).await {
                    report("look at timers", &error);
                }
            }
            () = stop.wait_soft() => return,
        }
    }
}

fn report(doing: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, doing, "the supervisor will try again");
}

/// Starts tasks for claimable runs; false when there may be more.
async fn claim(inner: &Arc<Inner>) -> Result<bool, StoreError> {
    let ready = inner.store.read().await?.runs().claimable(PAGE).await?;
    let is_all = ready.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
    let mut has_room = true;
    for run_id in ready {
        has_room &= try_start(inner, run_id);
    }
    Ok(is_all && has_room)
}

/// Starts a task for a run; false when there was no room.
fn try_start(inner: &Arc<Inner>, run_id: RunId) -> bool {
    let wishes = match inner.live.enter(run_id, inner.options.active_max) {
        Entered::New(wishes) => wishes,
        Entered::Already => return true,
        Entered::Full => return false,
    };
    let shared = Arc::clone(inner);
    let span = tracing::info_span!("run", run.id = %run_id);
    inner.tasks.spawn(TaskKind::Run, |stop| {
        async move {
            let leaver = Leaver { inner: Arc::clone(&shared), run_id };
            let next = run_task::drive(&shared, run_id, wishes, stop).await;
            drop(leaver);
            if let Some(next) = next {
                shared.live.hint(next);
            }
        }
        .instrument(span)
    });
    true
}

/// Ends what the run keeps for its tools and frees its place, even when its task panics. A run
/// that waits for a person keeps nothing: neither processes nor a place in memory.
struct Leaver {
    inner: Arc<Inner>,
    run_id: RunId,
}

impl Drop for Leaver {
    fn drop(&mut self) {
        self.inner.tools.end_run(self.run_id);
        self.inner.live.leave(self.run_id);
    }
}

pub(super) async fn timers(inner: &Arc<Inner>) -> Result<(), CommandError> {
    let now = inner.clock.now();
    let mut reader = inner.store.read().await?;
    let overdue = reader.approvals().overdue(now, PAGE).await?;
    let due = reader.runs().due(now, PAGE).await?;
    drop(reader);
    // Together, so that they share commits; each alone, so that a damaged row delays no other.
    let expired = join_all(overdue.into_iter().map(|id| approvals::expire(inner, id))).await;
    let woken = join_all(due.into_iter().map(|id| wake_up(inner, id))).await;
    for error in expired.into_iter().chain(woken).filter_map(Result::err) {
        report("obey a timer", &error);
    }
    forget_old(inner).await?;
    Ok(())
}

/// A run's timer is due: the end of a backoff resumes it, the end of a wait expires it.
async fn wake_up(inner: &Arc<Inner>, id: RunId) -> Result<(), CommandError> {
    let shared = Arc::clone(inner);
    inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let Some(mut run) = tx.runs().core(id).await? else { return Ok(()) };
                if run.wake_at.is_none_or(|at| at > tx.now()) {
                    return Ok(());
                }
                let actor = Actor::system();
                match run.state {
                    RunState::Paused if run.wait_reason == Some(WaitReason::Backoff) => {
                        send_on(tx, &shared, &mut run, &actor).await?;
                    }
                    RunState::Queued | RunState::Paused | RunState::AwaitingApproval => {
                        finish(tx, &shared, &mut run, End::Expired, None, &actor).await?;
                    }
                    RunState::Running
                    | RunState::Cancelling
                    | RunState::Succeeded
                    | RunState::Failed
                    | RunState::Cancelled
                    | RunState::Expired => run.wake_at = None,
                }
                let epoch = run.epoch;
                tx.runs().save(&run, epoch).await?;
                Ok(())
            })
        })
        .await
}

/// Removes what is old, a few rows at a time, so that no run waits behind it: idempotency keys,
/// decisions of policy, capabilities.
async fn forget_old(inner: &Arc<Inner>) -> Result<(), StoreError> {
    // Once a minute is often enough; the tick counts seconds.
    if inner.clock.now().as_micros() / 1_000_000 % 60 != 0 {
        return Ok(());
    }
    forget_keys(inner).await?;
    forget_decisions(inner).await?;
    forget_capabilities(inner).await
}

/// The moment that lies this long back.
fn before(inner: &Inner, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(inner.clock.now().as_micros().saturating_sub(span))
}

async fn forget_decisions(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let first = ToolCallId::first_at(before(inner, limits::DECISIONS_KEPT));
    for _ in 0..DECISION_BATCHES_MAX {
        let forget = inner.store.write(Durability::Normal, move |tx| {
            Box::pin(async move { tx.decisions().forget_before(first, DECISION_BATCH).await })
        });
        if forget.await? < u64::from(DECISION_BATCH) {
            break;
        }
    }
    Ok(())
}

async fn forget_capabilities(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let now = inner.clock.now();
    let first = CapabilityId::first_at(before(inner, limits::CAPABILITIES_KEPT));
    for _ in 0..OLD_BATCHES_MAX {
        let forget = inner.store.write(Durability::Normal, move |tx| {
            Box::pin(async move { tx.capabilities().forget_before(first, now, PAGE).await })
        });
        if forget.await? == 0 {
            break;
        }
    }
    Ok(())
}

async fn forget_keys(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let cutoff = before(inner, limits::IDEMPOTENCY_KEPT);
    for _ in 0..OLD_BATCHES_MAX {
        let forget = inner.store.write(Durability::Normal, move |tx| {
            Box::pin(async move { tx.idempotency().forget_before(cutoff).await })
        });
        if forget.await? == 0 {
            break;
        }
    }
    Ok(())
}
