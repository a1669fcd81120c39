//! One daemon among several on one database.
//!
//! Invariants: a replica works while the database has confirmed within ten seconds that it lives,
//! by this process's own monotonic clock; nobody takes it over before fifteen have passed by the
//! database's. When it is not confirmed in time it stops by itself: no claim, no model call, no tool
//! is left before it joins again, under another number. A duty has one holder. A change is in force
//! at every replica that lives when its answer comes. Where one daemon owns the database all of this
//! holds by itself, and nothing is asked or written.

mod beat;
mod force;
mod list;
mod remote;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};

use tokio::{
    sync::{Notify, watch as channel},
    time::Instant,
};

use super::{Orchestrator, views::Check};
use crate::{
    domain::limits,
    runtime::{TaskKind, Tasks, tasks::lock},
    store::{Store, StoreError},
    tools::Tools,
};
pub use list::ReplicaView;
pub(super) use watch::keep;

/// What one replica does for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Signs the end of the audit trail from time to time.
    Checkpoints,
    /// Removes what is old.
    Forgetting,
    /// Erases persons.
    Erasures,
    /// Makes the backups of the schedule.
    Backups,
}

impl Duty {
    /// Every duty.
    pub const ALL: [Self; 4] = [Self::Checkpoints, Self::Forgetting, Self::Erasures, Self::Backups];

    /// Its name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoints => "audit_checkpoints",
            Self::Forgetting => "forgetting",
            Self::Erasures => "erasures",
            Self::Backups => "backups",
        }
    }
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has not read everything yet.
    Starting,
    /// It works.
    Member,
    /// It stopped by itself, or was taken over; for this reason.
    Fenced(&'static str),
}

/// This daemon's place among the replicas. Clones share it.
#[derive(Clone, Debug)]
pub struct Membership {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    /// Other replicas may work on the same store.
    has_company: bool,
    state: Mutex<State>,
    standing: channel::Sender<Standing>,
    tools: OnceLock<Tools>,
    /// Something was changed here that others must follow.
    changed: Notify,
    /// There is something new to say.
    beat: Notify,
}

#[derive(Debug)]
struct State {
    /// When the last beat that was confirmed had been sent.
    confirmed: Instant,
    /// Where this replica answers, as it is told to people.
    address: String,
    is_draining: bool,
    /// Until when each duty is ours for certain, and its epoch.
    duties: BTreeMap<Duty, Instant>,
}

impl Membership {
    /// Begins to say that this daemon lives, where others may work on the same store. From now on
    /// the lease is kept until the daemon's hard stop.
    ///
    /// # Errors
    /// When the database does not confirm it.
    pub async fn start(store: Store, tasks: &Tasks) -> Result<Self, StoreError> {
        let has_company = store.is_shared();
        let membership = Self::of(store, has_company);
        if has_company {
            membership.say().await?;
            let keeping = membership.clone();
            tasks.spawn(TaskKind::Cluster, |stop| keeping.keep(stop));
        }
        Ok(membership)
    }

    /// On whatever store, without beats and without looks at others.
    #[cfg(test)]
    pub(super) fn alone(store: Store) -> Self {
        Self::of(store, false)
    }

    fn of(store: Store, has_company: bool) -> Self {
        let state = State {
            confirmed: Instant::now(),
            address: String::new(),
            is_draining: false,
            duties: BTreeMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                store,
                has_company,
                state: Mutex::new(state),
                standing: channel::Sender::new(Standing::Starting),
                tools: OnceLock::new(),
                changed: Notify::new(),
                beat: Notify::new(),
            }),
        }
    }

    /// Where this replica answers, for those who list them.
    pub fn announce(&self, address: String) {
        lock(&self.shared.state).address = address;
        self.shared.beat.notify_one();
    }

    /// Whether other replicas may work on the same store.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.has_company
    }

    /// Whether this replica may work now.
    pub(super) fn is_member(&self) -> bool {
        !self.shared.has_company
            || (*self.shared.standing.borrow() == Standing::Member && self.is_confirmed())
    }

    fn is_confirmed(&self) -> bool {
        lock(&self.shared.state).confirmed.elapsed() < limits::REPLICA_FENCE
    }

    /// Whether a duty is this replica's now.
    pub(super) fn has(&self, duty: Duty) -> bool {
        let until = lock(&self.shared.state).duties.get(&duty).copied();
        !self.shared.has_company || until.is_some_and(|until| Instant::now() < until)
    }

    /// For readiness: anybody may ask.
    pub(super) fn check(&self) -> Option<Check> {
        let detail = match *self.shared.standing.borrow() {
            Standing::Member if self.is_confirmed() || !self.shared.has_company => return None,
            Standing::Member => {
                "the database has not confirmed for too long that this replica lives"
            }
            Standing::Starting if !self.shared.has_company => return None,
            Standing::Starting => "this replica reads what is in force",
            Standing::Fenced(why) => why,
        };
        Some(Check { ok: false, detail: detail.to_owned() })
    }

    /// From now on these tools die without a lease that is confirmed.
    ///
    /// # Errors
    /// When the kernel gives no timer for that.
    pub(super) fn guard(&self, tools: Tools) -> Result<(), StoreError> {
        if !self.shared.has_company {
            return Ok(());
        }
        let kept = self.shared.tools.get_or_init(|| tools);
        let confirmed = lock(&self.shared.state).confirmed;
        kept.let_live(confirmed).map_err(|error| {
            tracing::error!(%error, "the sandbox cannot be bound to the lease of this replica");
            StoreError::Unavailable { doing: "bind the sandbox to the lease", source: None }
        })
    }

    /// Everything was read: this replica works from now on.
    fn enter(&self) {
        self.shared.standing.send_if_modified(|standing| {
            let enters = *standing == Standing::Starting;
            if enters {
                *standing = Standing::Member;
            }
            enters
        });
    }

    /// This replica stops: whatever it does from now on is not its own any more.
    fn fence(&self, why: &'static str) {
        let is_new = self.shared.standing.send_if_modified(|standing| {
            let is_new = !matches!(standing, Standing::Fenced(_));
            if is_new {
                *standing = Standing::Fenced(why);
            }
            is_new
        });
        if !is_new {
            return;
        }
        lock(&self.shared.state).duties.clear();
        metrics::counter!("agent_runtime_replica_fenced_total").increment(1);
        tracing::error!(why, "this replica stops its work and will join again");
    }

    /// Joins again under another number. Nothing of the old one is left here.
    async fn join_again(&self) -> Result<(), StoreError> {
        let sent = Instant::now();
        let boot_epoch = self.shared.store.join_again().await?;
        tracing::warn!(boot_epoch, "joined the replicas again");
        lock(&self.shared.state).confirmed = sent;
        self.shared.standing.send_replace(Standing::Starting);
        self.shared.beat.notify_one();
        Ok(())
    }

    /// Whether this replica is fenced.
    fn is_lost(&self) -> bool {
        matches!(*self.shared.standing.borrow(), Standing::Fenced(_))
    }

    /// Waits until this replica is fenced. Cancel-safe.
    async fn is_fenced(&self) {
        let mut standing = self.shared.standing.subscribe();
        // Fails only when the sender is gone, and we hold it.
        let fenced = standing.wait_for(|standing| matches!(standing, Standing::Fenced(_))).await;
        fenced.map(drop).unwrap_or_default();
    }
}

impl Orchestrator {
    /// Says to all that this replica has ended, so that nobody waits for its lease: the last thing
    /// that it does, once its writer, its runs and its tools are gone.
    pub async fn leave(&self) {
        let membership = &self.inner.membership;
        let store = &membership.shared.store;
        if !membership.is_shared() {
            return;
        }
        let left = async {
            let mut beside = store.beside().await?;
            let (now, own) = (beside.now().await?, store.boot_epoch());
            beside.leases().release(own).await?;
            // A hard stop leaves runs behind that have no task: whoever looks next finds out.
            beside.replicas().leave(own, now).await
        };
        if let Err(error) = left.await {
            tracing::warn!(%error, "this replica could not say that it leaves");
        }
    }
}
