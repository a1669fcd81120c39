//! Who may act now: the principals of the configuration, those that were made while the daemon ran,
//! and the accounts that are linked to them.
//!
//! Invariants: who is not here may do nothing. A stored row never gives somebody of the
//! configuration more than that says, and gives nothing once the configuration has them no more.
//! The local operator is always here, so that no change locks everybody out.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::sync::watch;

use super::authn::local_operator;
use crate::domain::{
    LinkId, LinkRecord, Platform, Principal, PrincipalId, PrincipalRecord, Role, Scopes, Timestamp,
};

/// What a moment is before there was one.
const NEVER: i64 = i64::MIN;

/// The live table. Clones share it.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    state: RwLock<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    configured: HashMap<PrincipalId, Principal>,
    stored: HashMap<PrincipalId, PrincipalRecord>,
    /// What follows from both: who may act, and when they did last.
    entries: HashMap<PrincipalId, Entry>,
    links: HashMap<(Platform, String), Link>,
}

/// Who was here, and when last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// People and programs.
    pub people: Vec<(PrincipalId, Timestamp)>,
    /// Linked accounts.
    pub links: Vec<(LinkId, Timestamp)>,
}

struct Entry {
    /// None: disabled.
    principal: Option<Principal>,
    seen: Seen,
}

struct Link {
    id: LinkId,
    principal: PrincipalId,
    role: Role,
    seen: Seen,
}

/// A moment that is noted without a lock and written to the store later.
#[derive(Debug)]
pub(super) struct Seen {
    at: AtomicI64,
    written: AtomicI64,
}

impl Seen {
    pub(super) fn new(at: Option<Timestamp>) -> Self {
        let micros = at.map_or(NEVER, Timestamp::as_micros);
        Self { at: AtomicI64::new(micros), written: AtomicI64::new(micros) }
    }

    pub(super) fn note(&self, now: Timestamp) {
        self.at.fetch_max(now.as_micros(), Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        let micros = self.at.load(Ordering::Relaxed);
        (micros != NEVER).then(|| Timestamp::from_micros(micros))
    }

    /// The moment, where it is newer than what was taken before.
    pub(super) fn take(&self) -> Option<Timestamp> {
        let at = self.at.load(Ordering::Relaxed);
        let before = self.written.swap(at, Ordering::Relaxed);
        (at > before).then(|| Timestamp::from_micros(at))
    }

    /// Goes on from an older table's entry: what it noted and did not write yet.
    pub(super) fn inherit(&self, older: &Self) {
        self.at.fetch_max(older.at.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("principals", &self.read().entries.len()).finish()
    }
}

impl Directory {
    /// A directory of the configuration's principals.
    pub fn new(configured: Vec<Principal>) -> Self {
        let inner = Inner { state: RwLock::default(), changed: watch::channel(0).0 };
        let directory = Self { inner: Arc::new(inner) };
        directory.configure(configured);
        directory
    }

    /// Who this is now, with their role and scopes; none when unknown or disabled.
    pub fn current(&self, id: PrincipalId) -> Option<Principal> {
        self.read().entries.get(&id)?.principal.clone()
    }

    /// Who is called this now; none also where two are, since a name decides nothing.
    pub fn named(&self, name: &str) -> Option<Principal> {
        let state = self.read();
        let mut found =
            state.entries.values().filter_map(|e| e.principal.as_ref()).filter(|p| p.name == name);
        match (found.next(), found.next()) {
            (Some(one), None) => Some(one.clone()),
            (_, _) => None,
        }
    }

    /// As [`current`](Self::current), and notes that they were here.
    pub fn arrives(&self, id: PrincipalId, now: Timestamp) -> Option<Principal> {
        let state = self.read();
        let entry = state.entries.get(&id)?;
        let principal = entry.principal.clone()?;
        entry.seen.note(now);
        Some(principal)
    }

    /// Whom an account of a chat platform stands for, with no more than the link's role, and notes
    /// that something came from it. None when it is not linked, or who it stands for may not act.
    pub fn resolve(&self, platform: &Platform, account: &str, now: Timestamp) -> Option<Principal> {
        let state = self.read();
        let link = state.links.get(&(platform.clone(), account.to_owned()))?;
        let entry = state.entries.get(&link.principal)?;
        let principal = entry.principal.clone()?.narrowed(link.role, &Scopes::default());
        entry.seen.note(now);
        link.seen.note(now);
        Some(principal)
    }

    /// Everybody of the configuration as that says, disabled ones and the local operator too.
    pub fn configured(&self) -> Vec<Principal> {
        self.read().configured.values().cloned().collect()
    }

    /// When somebody was here last.
    pub fn last_seen(&self, id: PrincipalId) -> Option<Timestamp> {
        self.read().entries.get(&id)?.seen.last()
    }

    /// When something came from a link last.
    pub fn link_last_seen(&self, id: LinkId) -> Option<Timestamp> {
        self.read().links.values().find(|link| link.id == id)?.seen.last()
    }

    /// Wakes at each change; a long-lived connection then asks whether its rights still stand.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Wakes whoever watches.
    pub fn wake(&self) {
        self.inner.changed.send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    /// Puts other principals of the configuration in force.
    pub fn configure(&self, configured: Vec<Principal>) {
        {
            let mut state = self.write();
            state.configured.clear();
            for principal in configured.into_iter().chain([local_operator()]) {
                // Of two entries with one name the higher counts; each token keeps its own role.
                let is_higher =
                    state.configured.get(&principal.id).is_none_or(|p| p.role < principal.role);
                if is_higher {
                    state.configured.insert(principal.id, principal);
                }
            }
            state.derive(&HashMap::new());
        }
        self.wake();
    }

    /// Puts what is stored in force. `seen` says when each was here last, as far as that is stored.
    pub fn load(
        &self,
        principals: Vec<PrincipalRecord>,
        links: Vec<LinkRecord>,
        seen: &HashMap<PrincipalId, Timestamp>,
    ) {
        {
            let mut state = self.write();
            state.stored = principals.into_iter().map(|p| (p.id, p)).collect();
            state.derive(seen);
            let older = std::mem::take(&mut state.links);
            for link in links.into_iter().filter(|link| link.revoked_at.is_none()) {
                let key = (link.platform, link.account);
                let seen = Seen::new(link.last_seen_at);
                if let Some(older) = older.get(&key).filter(|older| older.id == link.id) {
                    seen.inherit(&older.seen);
                }
                let link = Link { id: link.id, principal: link.principal, role: link.role, seen };
                state.links.insert(key, link);
            }
        }
        self.wake();
    }

    /// Who was here since this was asked last, to be stored.
    pub fn take_seen(&self) -> Arrivals {
        let state = self.read();
        let people = state.entries.iter().filter_map(|(id, e)| Some((*id, e.seen.take()?)));
        let links = state.links.values().filter_map(|link| Some((link.id, link.seen.take()?)));
        Arrivals { people: people.collect(), links: links.collect() }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn derive(&mut self, seen: &HashMap<PrincipalId, Timestamp>) {
        let older = std::mem::take(&mut self.entries);
        let ids = self.configured.keys().chain(self.stored.keys()).copied();
        let ids: std::collections::HashSet<PrincipalId> = ids.collect();
        for id in ids {
            let entry = Entry {
                principal: effective(self.configured.get(&id), self.stored.get(&id)),
                seen: Seen::new(seen.get(&id).copied()),
            };
            if let Some(older) = older.get(&id) {
                entry.seen.inherit(&older.seen);
            }
            self.entries.insert(id, entry);
        }
    }
}

/// What configuration and store say together.
fn effective(
    configured: Option<&Principal>,
    stored: Option<&PrincipalRecord>,
) -> Option<Principal> {
    let local = local_operator();
    match (configured, stored) {
        // Whoever holds the disk holds everything: no row takes that from them.
        (Some(own), _) if own.id == local.id => Some(local),
        (_, Some(row)) if row.disabled_at.is_some() => None,
        (Some(own), Some(row)) => Some(own.clone().narrowed(row.role, &row.scopes)),
        (Some(own), None) => Some(own.clone()),
        (None, Some(row)) if row.configured => None,
        (None, Some(row)) => Some(Principal {
            id: row.id,
            name: row.name.clone(),
            role: row.role,
            scopes: row.scopes.clone(),
        }),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
