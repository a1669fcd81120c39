//! The panic button: everything that agents do stops, and nothing starts until it is lifted.
//!
//! Invariants: memory is locked before the row is written, and unlocked after the row is gone, so
//! that a store that fails leaves the daemon locked. Whatever is on, the tools' gate is shut. The
//! answer to a lockdown comes when no call, no model call and no connection of a run is left, or
//! says what is.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Inner, Orchestrator,
    error::{CommandError, check_reason},
    masking::Masking,
    transition::Actor,
    views::Check,
};
use crate::{
    auth::{self, CallContext, LiftLockdown, Permit},
    domain::{AuditEntry, AuditKind, LockdownRecord, Revocation, RevokedFor},
    runtime::{TaskKind, tasks::lock},
    store::{StoreError, Tx},
    tools::{Halting, Tools},
};

/// How long the answer waits for what is being stopped: a killed process is gone in milliseconds, and
/// a file tool under way ends by itself.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Whether the daemon is locked down.
#[derive(Debug)]
pub(super) struct Lockdown {
    tools: Tools,
    state: Mutex<State>,
    /// As the state says; looked at before every start of anything.
    is_on: AtomicBool,
    /// Locked down, or without a lease: the tools' gate is shut.
    is_shut: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    record: Option<LockdownRecord>,
    /// Lockdowns that are being carried out: on, whatever the record says.
    closing: usize,
    /// How often it was locked down since the start.
    count: u64,
    /// It could not be stored: no other replica knows of it.
    is_only_here: bool,
    /// This replica's lease is over.
    is_fenced: bool,
}

impl Lockdown {
    pub(super) fn new(tools: Tools) -> Self {
        Self {
            tools,
            state: Mutex::default(),
            is_on: AtomicBool::new(false),
            is_shut: AtomicBool::new(false),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::SeqCst)
    }

    /// Whether it may be lifted by somebody who has seen it at `count`.
    fn may_lift(&self, count: u64) -> bool {
        let state = lock(&self.state);
        state.closing == 0 && state.count == count
    }

    /// Rises with every lockdown: whoever remembers a smaller number was locked down meanwhile.
    pub(super) fn count(&self) -> u64 {
        lock(&self.state).count
    }

    /// Locks down at once, before anything is stored; what is being stopped.
    fn close(&self) -> Halting {
        let mut state = lock(&self.state);
        state.closing += 1;
        state.count += 1;
        self.is_on.store(true, Ordering::SeqCst);
        self.is_shut.store(true, Ordering::SeqCst);
        self.tools.halt()
    }

    /// Shuts the tools' gate because this replica's lease is over; what is being stopped.
    pub(super) fn fence(&self) -> Halting {
        let mut state = lock(&self.state);
        state.is_fenced = true;
        self.is_shut.store(true, Ordering::SeqCst);
        self.tools.halt()
    }

    /// This replica has a lease again.
    pub(super) fn unfence(&self) {
        let mut state = lock(&self.state);
        state.is_fenced = false;
        self.obey(&state);
    }

    /// One lockdown was carried out.
    fn closed(&self) {
        let mut state = lock(&self.state);
        state.closing = state.closing.saturating_sub(1);
        self.obey(&state);
    }

    /// The lockdown as it is stored, or as it would be if the store took it.
    fn put(&self, record: LockdownRecord) {
        let mut state = lock(&self.state);
        state.record = Some(record);
        self.obey(&state);
    }

    /// It was lifted, unless it was locked down again since `count`.
    fn lift(&self, count: u64) {
        let mut state = lock(&self.state);
        if state.count == count {
            state.record = None;
            state.is_only_here = false;
            self.obey(&state);
        }
    }

    /// It was lifted elsewhere, unless one is being carried out here, or is known here alone.
    fn follow_lift(&self, count: u64) {
        let mut state = lock(&self.state);
        if state.count == count && state.closing == 0 && !state.is_only_here {
            state.record = None;
            self.obey(&state);
        }
    }

    /// Under the lock, so that two changes do not pass each other.
    fn obey(&self, state: &State) {
        let is_on = state.record.is_some() || state.closing > 0;
        self.is_on.store(is_on, Ordering::SeqCst);
        let is_shut = is_on || state.is_fenced;
        match (self.is_shut.swap(is_shut, Ordering::SeqCst), is_shut) {
            (true, false) => self.tools.resume(),
            // Nothing can be under way where it was not on before: this is the start.
            (false, true) => drop(self.tools.halt()),
            (true, true) | (false, false) => {}
        }
    }

    fn record(&self) -> Option<LockdownRecord> {
        lock(&self.state).record.clone()
    }
}

/// Whether the daemon is locked down, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockdownView {
    /// Whether it is.
    pub locked: bool,
    /// Since when, by whom and why.
    pub lockdown: Option<LockdownRecord>,
    /// What this request stopped; none where it only asked or lifted.
    pub stopped: Option<Stopped>,
}

/// What a lockdown stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Runs that were worked on.
    pub runs: usize,
    /// Tool calls under way.
    pub calls: usize,
    /// Sandboxes that no call used.
    pub idle_sandboxes: usize,
    /// Capabilities that were taken away.
    pub capabilities: u64,
    /// Whether nothing of it is left. If not, it is being stopped still; ask again.
    pub is_done: bool,
    /// Milliseconds from the request to the end of it.
    pub took_ms: u64,
}

impl Inner {
    /// As stored, before anything is recovered.
    pub(super) async fn load_lockdown(&self) -> Result<(), StoreError> {
        if let Some(record) = self.store.read().await?.lockdown().get().await? {
            tracing::warn!(since = %record.since, "the daemon is locked down: nothing starts");
            self.lockdown.put(record);
        }
        Ok(())
    }

    /// What another replica has done: locks down as if it had been done here, and comes back when
    /// nothing is left, or lifts it.
    pub(super) async fn follow_lockdown(&self) -> Result<(), StoreError> {
        let count = self.lockdown.count();
        let Some(record) = self.store.read().await?.lockdown().get().await? else {
            if self.lockdown.record().is_some() {
                self.lockdown.follow_lift(count);
                self.live.wake.notify_one();
            }
            return Ok(());
        };
        if self.lockdown.is_on() {
            return Ok(());
        }
        tracing::warn!(since = %record.since, "another replica locked down: nothing starts");
        let halting = self.lockdown.close();
        let closing = Closing(self);
        self.lockdown.put(record);
        self.live.lock_all();
        let stopping = async {
            tokio::join!(halting.done(), self.tools.is_idle(), self.live.all_left());
        };
        let is_done = tokio::time::timeout(STOP_WAIT, stopping).await.is_ok();
        drop(closing);
        if is_done {
            return Ok(());
        }
        // Whoever locked down waits for us, or for the end of our lease.
        Err(StoreError::Unavailable { doing: "stop everything that runs here", source: None })
    }

    /// For readiness: anybody may ask, so it says neither who nor why.
    pub(super) fn check_lockdown(&self) -> Option<Check> {
        let detail = "locked down: nothing starts until an overlord lifts it \
                      (`agent-runtime lockdown off`)";
        self.lockdown.is_on().then(|| Check { ok: false, detail: detail.to_owned() })
    }

    /// Refuses whatever would start something.
    pub(super) fn check_not_locked(&self) -> Result<(), CommandError> {
        if self.lockdown.is_on() { Err(CommandError::LockedDown) } else { Ok(()) }
    }
}

impl Orchestrator {
    /// Whether the daemon is locked down.
    pub fn lockdown(&self, _permit: &Permit<auth::Lockdown>) -> LockdownView {
        let record = self.inner.lockdown.record();
        LockdownView { locked: self.inner.lockdown.is_on(), lockdown: record, stopped: None }
    }

    /// Stops everything that agents do; the answer comes when it is done. Kept over restarts. Doing
    /// it again waits again and keeps the first reason. Goes on when the caller gives up.
    ///
    /// # Errors
    /// When it could not be stored: everything is stopped all the same, until the daemon ends.
    pub async fn lock_down(
        &self,
        permit: Permit<auth::Lockdown>,
        reason: Option<String>,
    ) -> Result<LockdownView, CommandError> {
        check_reason(reason.as_deref())?;
        let mut masking = self.inner.masking();
        let reason = masking.optional("reason", reason);
        let inner = Arc::clone(&self.inner);
        let (reply, answer) = oneshot::channel();
        self.inner.tasks.spawn(TaskKind::Helper, |_| async move {
            let done = lock_down(&inner, permit.context().clone(), reason, masking).await;
            // Nobody waits any more: it is done all the same.
            drop(reply.send(done));
        });
        let lost = |_| StoreError::Unavailable { doing: "lock down", source: None };
        answer.await.map_err(lost)?
    }

    /// Lets agents work again. Runs that it stopped wait for `resume`; those that were queued start.
    /// Where there is no lockdown nothing changes.
    ///
    /// # Errors
    /// When it could not be stored: the daemon stays locked down.
    pub async fn lift_lockdown(
        &self,
        permit: Permit<LiftLockdown>,
    ) -> Result<LockdownView, CommandError> {
        let (cx, inner) = (permit.context().clone(), Arc::clone(&self.inner));
        // On its own feet: who asked may go away between the commit and its taking effect.
        self.inner.detached(async move { lift(&inner, cx).await }).await
    }
}

async fn lift(inner: &Arc<Inner>, cx: CallContext) -> Result<LockdownView, CommandError> {
    let count = inner.lockdown.count();
    let (shared, by) = (Arc::clone(inner), cx.principal.id);
    inner
        .store
        .change(move |tx| {
            Box::pin(async move {
                if !shared.lockdown.may_lift(count) {
                    let detail = "it is being locked down just now; look at it, then try again";
                    return Err(CommandError::conflict("lockdown.busy", detail));
                }
                let before = tx.lockdown().get().await?;
                tx.lockdown().remove().await?;
                if before.is_some() {
                    let data = json!({ "what": "lifted", "before": before, "after": null });
                    tx.audit(entry(&Actor::from(&cx), data));
                }
                Ok(())
            })
        })
        .await?;
    inner.lockdown.lift(count);
    inner.live.wake.notify_one();
    inner.in_force_everywhere().await?;
    tracing::warn!(%by, "the lockdown was lifted");
    let record = inner.lockdown.record();
    Ok(LockdownView { locked: inner.lockdown.is_on(), lockdown: record, stopped: None })
}

/// Counts a lockdown as carried out when it ends, however it ends.
struct Closing<'i>(&'i Inner);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.lockdown.closed();
    }
}

async fn lock_down(
    inner: &Arc<Inner>,
    cx: CallContext,
    reason: Option<String>,
    masking: Masking,
) -> Result<LockdownView, CommandError> {
    let began = Instant::now();
    tracing::warn!(by = %cx.principal.id, "locking down");
    let halting = inner.lockdown.close();
    let closing = Closing(inner);
    let (runs, calls) = (inner.live.active_count(), halting.calls);
    let idle_sandboxes = halting.idle();
    inner.live.lock_all();
    let actor = Actor::from(&cx);
    let stored = inner
        .store
        .change({
            let (shared, reason) = (Arc::clone(inner), reason.clone());
            move |tx| {
                Box::pin(async move {
                    let stopped = put(tx, &shared, &actor, reason).await?;
                    masking.record(tx, &actor, None);
                    Ok::<_, CommandError>(stopped)
                })
            }
        })
        .await;
    let stopping = async {
        tokio::join!(halting.done(), inner.tools.is_idle(), inner.live.all_left());
    };
    let is_done = tokio::time::timeout(STOP_WAIT, stopping).await.is_ok();
    // Who has not followed by then has lost its lease, and its tools with it.
    let is_everywhere = stored.is_ok() && inner.in_force_everywhere().await.is_ok();
    let is_done = is_done && (is_everywhere || stored.is_err());
    let took = began.elapsed();
    if stored.is_err() {
        // It holds without the row, as long as this process lives.
        let (since, by) = (inner.clock.now(), cx.principal.id.to_string());
        inner.lockdown.put(LockdownRecord { since, by, reason });
        lock(&inner.lockdown.state).is_only_here = true;
    }
    drop(closing);
    let capabilities = stored.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the lockdown is not stored");
        let detail = "everything is stopped, but that could not be stored: a restart would lift \
                      it; lock down again once the store works";
        CommandError::conflict("lockdown.not_stored", detail)
    })?;
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let stopped = Stopped { runs, calls, idle_sandboxes, capabilities, is_done, took_ms };
    let data = json!({ "what": "stopped", "stopped": stopped });
    inner.store.audit(entry(&Actor::from(&cx), data)).await?;
    metrics::histogram!("agent_runtime_lockdown_seconds").record(took.as_secs_f64());
    tracing::warn!(runs, calls, took_ms, is_done, "locked down");
    let record = inner.lockdown.record();
    Ok(LockdownView { locked: true, lockdown: record, stopped: Some(stopped) })
}

async fn put(
    tx: &mut Tx,
    inner: &Inner,
    actor: &Actor,
    reason: Option<String>,
) -> Result<u64, CommandError> {
    // What other jobs of the group have given is taken away as well.
    tx.flush().await?;
    let before = tx.lockdown().get().await?;
    let (at, by, cause) = (tx.now(), actor.id.clone(), RevokedFor::Lockdown);
    let revocation = Revocation { at, by: by.clone(), cause, reason: reason.clone() };
    let revoked = tx.capabilities().revoke_all(&revocation).await?;
    let record = before.clone().unwrap_or(LockdownRecord { since: at, by, reason });
    if before.is_none() {
        tx.lockdown().put(&record).await?;
    }
    let data = json!({ "what": "locked", "before": before, "after": record, "revoked": revoked });
    tx.audit(entry(actor, data));
    inner.lockdown.put(record);
    Ok(revoked)
}

fn entry(actor: &Actor, data: Value) -> AuditEntry {
    AuditEntry {
        kind: AuditKind::Lockdown,
        actor: actor.id.clone(),
        surface: actor.surface,
        run_id: None,
        request_id: actor.request_id.clone(),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::Timestamp,
        runtime::{Redactor, Stop, Tasks},
    };

    fn record(reason: &str) -> LockdownRecord {
        let reason = Some(reason.to_owned());
        LockdownRecord { since: Timestamp::from_micros(0), by: "prn".to_owned(), reason }
    }

    #[tokio::test]
    async fn a_lockdown_ends_only_for_who_has_seen_the_last_one() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new(Stop::default()));
        let tools = Tools::without_processes(dir.path(), Redactor::default(), &tasks).await;
        let lockdown = Lockdown::new(tools);
        drop(lockdown.close());
        assert!(lockdown.is_on() && !lockdown.may_lift(lockdown.count()), "it is under way");
        lockdown.put(record("first"));
        lockdown.closed();
        let seen = lockdown.count();
        assert!(lockdown.is_on() && lockdown.may_lift(seen));
        // Somebody locks down again while it is being lifted.
        drop(lockdown.close());
        lockdown.lift(seen);
        lockdown.put(record("second"));
        lockdown.closed();
        assert!(lockdown.is_on() && !lockdown.may_lift(seen));
        assert_eq!(lockdown.record(), Some(record("second")));
        lockdown.lift(lockdown.count());
        assert!(!lockdown.is_on() && lockdown.record().is_none());
        // One that came to nothing: neither a row nor a record in memory.
        drop(lockdown.close());
        lockdown.closed();
        assert!(!lockdown.is_on());
        tasks.stop().hard();
    }
}
