//! Starts a task for every run that is ready, and looks at what is due.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tracing::Instrument;

use super::{
    Inner, approvals, budgets,
    cluster::Duty,
    ending::{End, finish},
    error::CommandError,
    live::Entered,
    run_task,
    transition::Actor,
    verbs::send_on,
};
use crate::{
    domain::{
        CapabilityId, PrincipalId, RunId, RunState, Timestamp, ToolCallId, WaitReason, limits,
    },
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
/// Runs of one principal that may have a task already and are not claimed in the store yet.
const STARTING: u32 = 64;

/// Runs until the soft stop.
pub(super) async fn supervise(inner: Arc<Inner>, stop: Stop) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks_again = true;
    let mut turn = None;
    loop {
        while let Some(run_id) = inner.live.take_hint() {
            // While others wait for a place, a new run waits for its principal's turn too; locked
            // down, what is ready is looked for again once that is lifted.
            looks_again =
                looks_again || !may_start(&inner) || try_start(&inner, run_id) == Start::Full;
        }
        looks_again |= inner.live.take_look();
        while looks_again
            && may_start(&inner)
            && inner.live.active_count() < inner.options.active_max
        {
            match claim(&inner, &mut turn).await {
                Ok(claimed) => {
                    looks_again = !claimed.is_all;
                    if claimed.started == 0 {
                        break;
                    }
                }
                Err(error) => {
                    report("look for runs", &error);
                    break;
                }
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

/// Neither locked down nor without a lease.
fn may_start(inner: &Inner) -> bool {
    !inner.lockdown.is_on() && inner.membership.is_member()
}

fn report(doing: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, doing, "the supervisor will try again");
}

/// Starts tasks for claimable runs, principal by principal from the one whose `turn` it is, oldest
/// first, so that nobody waits for all of somebody else's.
async fn claim(inner: &Arc<Inner>, turn: &mut Option<PrincipalId>) -> Result<Claimed, StoreError> {
    let room = inner.options.active_max.saturating_sub(inner.live.active_count()).max(1);
    let mut reader = inner.store.read().await?;
    let limit = u32::try_from(room).unwrap_or(PAGE).min(PAGE);
    let mut who = reader.runs().claimants(*turn, limit).await?;
    let mut is_all = turn.is_none() && who.len() < usize::try_from(limit).unwrap_or(usize::MAX);
    if who.is_empty() && turn.is_some() {
        // Everybody had their turn.
        who = reader.runs().claimants(None, limit).await?;
        is_all = who.len() < usize::try_from(limit).unwrap_or(usize::MAX);
    }
    if who.is_empty() {
        *turn = None;
        return Ok(Claimed { is_all: true, started: 0 });
    }
    let share = room.div_ceil(who.len());
    let mut all_started = 0;
    let page = u32::try_from(share).unwrap_or(PAGE).saturating_add(STARTING).min(PAGE);
    for principal in who {
        let ready = reader.runs().claimable(principal, page).await?;
        is_all &= ready.len() < usize::try_from(page).unwrap_or(usize::MAX);
        let mut started = 0;
        for run_id in ready {
            match try_start(inner, run_id) {
                Start::Started => {
                    started += 1;
                    all_started += 1;
                }
                Start::Already => {}
                Start::Full => return Ok(Claimed { is_all: false, started: all_started }),
            }
            if started == share {
                is_all = false;
                break;
            }
        }
        *turn = Some(principal);
    }
    Ok(Claimed { is_all, started: all_started })
}

/// What a look for runs came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claimed {
    /// Every run that was ready has a task.
    is_all: bool,
    started: usize,
}

/// What became of an attempt to start a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Started,
    /// It has one.
    Already,
    /// There was no room.
    Full,
}

/// Starts a task for a run.
fn try_start(inner: &Arc<Inner>, run_id: RunId) -> Start {
    let wishes = match inner.live.enter(run_id, inner.options.active_max) {
        Entered::New(wishes) => wishes,
        Entered::Already => return Start::Already,
        Entered::Full => return Start::Full,
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
    Start::Started
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
                    RunState::Paused if budgets::admin::waits_for_the_day(tx, &run).await? => {
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
/// decisions of policy, capabilities, definitions.
async fn forget_old(inner: &Arc<Inner>) -> Result<(), StoreError> {
    // Once a minute is often enough; the tick counts seconds.
    if inner.clock.now().as_micros() / 1_000_000 % 60 != 0
        || !inner.membership.has(Duty::Forgetting)
    {
        return Ok(());
    }
    forget_replicas(inner).await?;
    forget_keys(inner).await?;
    forget_decisions(inner).await?;
    forget_capabilities(inner).await?;
    forget_definitions(inner).await
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

/// Definitions that no decision and no capability names any more. Young ones stay: a row that names one
/// may be on its way.
async fn forget_definitions(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let cutoff = before(inner, limits::CAPABILITIES_KEPT);
    let forget = inner.store.write(Durability::Normal, move |tx| {
        Box::pin(async move { tx.definitions().forget_unused(cutoff, PAGE).await })
    });
    forget.await.map(drop)
}

async fn forget_replicas(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let end = before(inner, limits::REPLICAS_KEPT);
    let forget = inner.store.write(Durability::Normal, move |tx| {
        Box::pin(async move { tx.replicas().forget_before(end).await })
    });
    forget.await.map(drop)
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
