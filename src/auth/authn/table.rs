//! The tokens in force: those of the configuration and those that administrators made.
//!
//! Invariants: only hashes are here. A token gives no more than its own role and scopes, and no more
//! than its principal has now. What is compared in constant time is the hash; a stored token is
//! found by the part of it that is no secret.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::sync::watch;

use super::{
    super::directory::{Directory, Seen},
    token::{TOKEN_BYTES_MAX, TokenEntry, TokenHash, token_id},
};
use crate::domain::{Principal, PrincipalId, Role, Scopes, Timestamp, TokenId, TokenRecord};

/// Somebody who presented a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who.
    pub principal: Principal,
    /// By which token: long-lived connections ask again whether it still stands.
    pub token: TokenRef,
}

/// A token that was presented, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRef {
    hash: TokenHash,
    public_id: Option<Arc<str>>,
}

/// The tokens in force, as hashes. Clones share them, so that a change reaches everybody.
#[derive(Clone)]
pub struct TokenTable {
    inner: Arc<Inner>,
}

struct Inner {
    configured: RwLock<Arc<[Known]>>,
    /// By public id.
    stored: RwLock<HashMap<String, Stored>>,
    directory: Directory,
}

struct Known {
    hash: TokenHash,
    principal: PrincipalId,
    role: Role,
}

struct Stored {
    id: TokenId,
    hash: TokenHash,
    principal: PrincipalId,
    role: Role,
    scopes: Scopes,
    expires_at: Option<Timestamp>,
    used: Seen,
}

impl Stored {
    fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenTable").field("tokens", &self.configured().len()).finish()
    }
}

impl TokenTable {
    /// Hashes the tokens of the configuration and forgets them; its directory holds whom they stand
    /// for.
    pub fn new(entries: Vec<TokenEntry>) -> Self {
        let directory = Directory::new(principals(&entries));
        let (configured, stored) = (RwLock::new(hashed(entries)), RwLock::default());
        Self { inner: Arc::new(Inner { configured, stored, directory }) }
    }

    /// Who may act.
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// Puts other tokens of the configuration in force, and wakes whoever watches: connections
    /// whose token is gone or whose rights shrank are closed.
    pub fn replace(&self, entries: Vec<TokenEntry>) {
        let principals = principals(&entries);
        *self.inner.configured.write().unwrap_or_else(PoisonError::into_inner) = hashed(entries);
        self.inner.directory.configure(principals);
    }

    /// Puts the stored tokens in force, and wakes whoever watches. Revoked ones are left out.
    pub fn load(&self, tokens: Vec<(TokenRecord, TokenHash)>) {
        {
            let mut stored = self.inner.stored.write().unwrap_or_else(PoisonError::into_inner);
            let older = std::mem::take(&mut *stored);
            for (token, hash) in tokens.into_iter().filter(|(t, _)| t.revoked_at.is_none()) {
                let used = Seen::new(token.last_used_at);
                if let Some(older) = older.get(&token.public_id) {
                    used.inherit(&older.used);
                }
                let TokenRecord { id, public_id, principal, role, scopes, expires_at, .. } = token;
                let entry = Stored { id, hash, principal, role, scopes, expires_at, used };
                stored.insert(public_id, entry);
            }
        }
        self.inner.directory.wake();
    }

    /// Forgets the stored tokens whose time is over; wakes whoever watches where there are any.
    pub fn end_expired(&self, now: Timestamp) {
        let ended = {
            let mut stored = self.inner.stored.write().unwrap_or_else(PoisonError::into_inner);
            let before = stored.len();
            stored.retain(|_, token| !token.has_ended(now));
            before - stored.len()
        };
        if ended > 0 {
            self.inner.directory.wake();
        }
    }

    /// Which stored tokens were used since this was asked last, to be stored.
    pub fn take_used(&self) -> Vec<(TokenId, Timestamp)> {
        let stored = self.inner.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.values().filter_map(|token| Some((token.id, token.used.take()?))).collect()
    }

    /// When a stored token in force was used last.
    pub fn last_used(&self, public_id: &str) -> Option<Timestamp> {
        let stored = self.inner.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.get(public_id)?.used.last()
    }

    /// Wakes at each change of tokens and of people.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.directory.watch()
    }

    /// Who presents this token. Of the configuration's tokens it takes the same time whether and
    /// which one matches; of stored ones, whether the secret does.
    pub fn verify(&self, presented: &str, now: Timestamp) -> Option<Verified> {
        if presented.is_empty() || presented.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let public_id = token_id(presented).map(Arc::from);
        let token = TokenRef { hash: TokenHash::of(presented), public_id };
        self.current(&token, now).map(|principal| Verified { principal, token })
    }

    /// Whom a token that was valid before stands for now.
    pub fn current(&self, token: &TokenRef, now: Timestamp) -> Option<Principal> {
        let (id, role, scopes) = self.find(token, now)?;
        let principal = self.inner.directory.arrives(id, now)?;
        Some(principal.narrowed(role, &scopes))
    }

    fn find(&self, token: &TokenRef, now: Timestamp) -> Option<(PrincipalId, Role, Scopes)> {
        let configured = self.configured();
        let (mut found, mut index) = (Choice::from(0), 0_u64);
        for (n, entry) in (0_u64..).zip(configured.iter()) {
            let is_equal = entry.hash.0.ct_eq(&token.hash.0);
            index.conditional_assign(&n, is_equal & !found);
            found |= is_equal;
        }
        if bool::from(found) {
            let entry = configured.get(usize::try_from(index).ok()?)?;
            return Some((entry.principal, entry.role, Scopes::default()));
        }
        let stored = self.inner.stored.read().unwrap_or_else(PoisonError::into_inner);
        let entry = stored.get(token.public_id.as_deref()?)?;
        if !bool::from(entry.hash.0.ct_eq(&token.hash.0)) || entry.has_ended(now) {
            return None;
        }
        entry.used.note(now);
        Some((entry.principal, entry.role, entry.scopes.clone()))
    }

    fn configured(&self) -> Arc<[Known]> {
        Arc::clone(&self.inner.configured.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn hashed(entries: Vec<TokenEntry>) -> Arc<[Known]> {
    let hash = |e: TokenEntry| Known {
        hash: TokenHash::of(e.token.expose()),
        principal: e.principal,
        role: e.role,
    };
    // An empty token would be matched by nobody's mistake but ours.
    entries.into_iter().filter(|e| !e.token.expose().is_empty()).map(hash).collect()
}

fn principals(entries: &[TokenEntry]) -> Vec<Principal> {
    let principal = |e: &TokenEntry| Principal {
        id: e.principal,
        name: e.name.clone(),
        role: e.role,
        scopes: Scopes::default(),
    };
    entries.iter().map(principal).collect()
}

#[cfg(test)]
mod tests;
