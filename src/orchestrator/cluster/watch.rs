//! Looks at what other replicas did: when the database says that something was committed, and once
//! a second in any case.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    super::{Inner, recovery, secrets},
    remote::Remote,
};
use crate::{
    domain::{RunId, limits},
    orchestrator::error::CommandError,
    runtime::Stop,
    store::StoreError,
};

/// How often to look in any case, give or take a quarter: replicas should not do so at once.
const POLL_MS: u64 = 1_000;
/// Least time between two looks.
const REST: Duration = Duration::from_millis(20);
/// Looks take one part of three of the time at most, most of it waiting for answers.
const REST_PER_COST: u32 = 2;
/// Pause before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

const CANNOT_FOLLOW: &str =
    "this replica cannot put in force what was changed elsewhere: it stopped its work";

/// What is known from the last look.
struct Seen {
    remote: Remote,
    /// Whether others live: without them nothing needs to be looked at but whether some have come.
    has_others: bool,
    generation: u64,
    /// Runs of this replica that had no task at the last look.
    idle: HashSet<RunId>,
    /// Since when what was changed cannot be put in force here.
    stuck_since: Option<Instant>,
}

/// Looks until the hard stop. Only where others may work on the same store.
pub(in crate::orchestrator) async fn keep(inner: Arc<Inner>, entered: u64, stop: Stop) {
    // What was stored between the opening of secrets and the entry is looked at first of all.
    let is_all = secrets::marks(&inner.store).await.is_ok_and(|now| inner.secret_marks.are(&now));
    let generation = if is_all { entered } else { 0 };
    let mut seen = Seen {
        remote: Remote::default(),
        has_others: true,
        generation,
        idle: HashSet::new(),
        stuck_since: None,
    };
    let mut wakeups = inner.store.wakeups();
    let mut poll = Instant::now();
    let mut polls = 0_u64;
    loop {
        // Every branch is cancel-safe: a look that is dropped is made again from the start.
        tokio::select! {
            () = sleep_until(poll) => {}
            () = wakeups.next() => {
                if !seen.has_others {
                    // What was written here is known here.
                    continue;
                }
            }
            () = inner.membership.shared.changed.notified() => {}
            () = inner.membership.is_fenced() => {
                start_again(&inner, &mut seen, &stop).await;
                continue;
            }
            () = stop.wait_hard() => return,
        }
        let began = Instant::now();
        let is_poll = began >= poll;
        if is_poll {
            polls = polls.wrapping_add(1);
            poll = began + pause(inner.store.boot_epoch(), polls);
        }
        let look = async {
            if is_poll {
                look_at_others(&inner, &mut seen).await?;
            }
            look(&inner, &mut seen).await
        };
        tokio::select! {
            done = look => if let Err(error) = done {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot see what other replicas did; trying again"
                );
            },
            () = inner.membership.is_fenced() => continue,
            () = stop.wait_hard() => return,
        }
        let rest = (began.elapsed() * REST_PER_COST).clamp(REST, AGAIN);
        tokio::select! {
            () = sleep(rest) => {}
            () = inner.membership.is_fenced() => {}
            () = stop.wait_hard() => return,
        }
    }
}

/// Time until the next look: a second, give or take a quarter, otherwise for each replica.
fn pause(boot_epoch: u64, polls: u64) -> Duration {
    // Any numbers without a common divisor would do: two replicas do not stay in step.
    let spread =
        boot_epoch.wrapping_mul(7_919).wrapping_add(polls.wrapping_mul(331)) % (POLL_MS / 2);
    Duration::from_millis(POLL_MS * 3 / 4 + spread)
}

/// What was changed, what was written to runs here, what those who listen here lack.
async fn look(inner: &Arc<Inner>, seen: &mut Seen) -> Result<(), CommandError> {
    let mut beside = inner.store.beside().await?;
    let generation = beside.replicas().generation().await?;
    if seen.has_others {
        // First: a change may have written to runs as well.
        seen.remote.look(inner, &mut beside).await?;
    }
    if generation == seen.generation {
        return Ok(());
    }
    let followed = async {
        inner.follow().await?;
        inner.follow_secrets().await
    };
    if let Err(error) = followed.await {
        let since = *seen.stuck_since.get_or_insert_with(Instant::now);
        if since.elapsed() > limits::REPLICA_FENCE {
            inner.membership.fence(CANNOT_FOLLOW);
        }
        return Err(error);
    }
    seen.stuck_since = None;
    seen.generation = generation;
    beside.replicas().saw(inner.store.boot_epoch(), generation).await?;
    Ok(())
}

/// Who else lives, and whose runs nobody works on any more.
async fn look_at_others(inner: &Arc<Inner>, seen: &mut Seen) -> Result<(), CommandError> {
    let own = inner.store.boot_epoch();
    let mut beside = inner.store.beside().await?;
    let now = beside.now().await?;
    let live = beside.replicas().live().await?;
    let is_left = !beside.replicas().unrecovered().await?.is_empty();
    drop(beside);
    seen.has_others = live.iter().any(|replica| replica.boot_epoch != own);
    let gauge = metrics::gauge!("agent_runtime_replicas");
    gauge.set(f64::from(u32::try_from(live.len()).unwrap_or(u32::MAX)));
    if !inner.membership.is_member() {
        return Ok(());
    }
    let mut is_mine = false;
    for replica in live.iter().filter(|r| r.boot_epoch != own && r.expires_at < now) {
        let epoch = replica.boot_epoch;
        let ended = inner.store.change(move |tx| {
            Box::pin(async move {
                let now = tx.database_now().await?;
                tx.replicas().end_expired(epoch, now).await
            })
        });
        let ended: Result<bool, StoreError> = ended.await;
        if ended? {
            is_mine = true;
            metrics::counter!("agent_runtime_replica_takeovers_total").increment(1);
            tracing::warn!(
                boot_epoch = epoch,
                name = replica.about.name,
                "took over a replica that is gone"
            );
        }
    }
    if is_mine || is_left {
        recovery::recover(inner).await?;
    }
    look_at_own(inner, seen).await
}

/// What this replica has claimed: each of its runs has a task that knows what people want. After a
/// database that failed in the wrong moment it may have neither.
async fn look_at_own(inner: &Arc<Inner>, seen: &mut Seen) -> Result<(), CommandError> {
    let claimed = inner.store.read().await?.runs().of_owner(inner.store.boot_epoch()).await?;
    let mut idle = HashSet::new();
    for (run, is_cancelled) in claimed {
        if inner.live.remind(run, is_cancelled) {
            continue;
        }
        // One that has just ended or begun is no longer, or not yet, what was read.
        if seen.idle.contains(&run) {
            tracing::warn!(run.id = %run, "nobody works on a run that was claimed here");
            recovery::recover_one(inner, run).await?;
        } else {
            idle.insert(run);
        }
    }
    seen.idle = idle;
    Ok(())
}

/// The lease is over: ends everything that runs here, then joins again as another replica.
async fn start_again(inner: &Arc<Inner>, seen: &mut Seen, stop: &Stop) {
    let halting = inner.lockdown.fence();
    inner.live.fence_all();
    let stopped = async {
        tokio::join!(halting.done(), inner.tools.is_idle(), inner.live.all_left());
    };
    tokio::select! {
        () = stopped => {}
        () = stop.wait_hard() => return,
    }
    tokio::select! {
        () = join_again(inner) => {}
        () = stop.wait_hard() => return,
    }
    // Secrets are looked at with the next look.
    seen.generation = 0;
    seen.stuck_since = None;
    seen.remote = Remote::default();
    inner.lockdown.unfence();
    if let Err(error) = recovery::recover(inner).await {
        tracing::error!(%error, "what this replica left behind is not recovered yet");
    }
    inner.live.look();
}

/// Joins under another number, and reads what is in force until that succeeds.
async fn join_again(inner: &Arc<Inner>) {
    let mut has_joined = false;
    loop {
        let done = if has_joined && !inner.membership.is_lost() {
            inner.enter().await.map(|_| true)
        } else {
            has_joined = true;
            inner.membership.join_again().await.map(|()| false).map_err(CommandError::from)
        };
        match done {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                has_joined &= !inner.membership.is_lost();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "this replica cannot join again yet"
                );
                sleep(AGAIN).await;
            }
        }
    }
}

impl Inner {
    /// Reads everything until nothing was changed meanwhile; then this replica works. The generation
    /// that is in force here.
    pub(in crate::orchestrator) async fn enter(self: &Arc<Self>) -> Result<u64, CommandError> {
        if !self.membership.is_shared() {
            return Ok(0);
        }
        loop {
            let generation = self.store.read().await?.replicas().generation().await?;
            self.follow().await?;
            let own = self.store.boot_epoch();
            let entered = self.store.write(crate::store::Durability::Full, move |tx| {
                Box::pin(async move { tx.replicas().enter(own, generation).await })
            });
            let entered: Result<bool, StoreError> = entered.await;
            if entered? {
                self.membership.enter();
                return Ok(generation);
            }
        }
    }
}
