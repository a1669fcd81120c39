//! Who may act: what administrators do to principals, tokens, links and requests for them, and how
//! what is stored comes into force.
//!
//! Invariants: what is in force is what is stored, as it stood at one moment; an older reading never
//! replaces a newer one. A change is in force when its command returns, also for connections that
//! are open. The moments of the last use are noted in memory and stored some at a time.

mod links;
mod pairings;
mod principals;
mod stale;
mod tokens;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

pub use links::LinkView;
pub use pairings::{Approved, NewLink, NewPairing, PairingKey, PairingMade, PairingView};
pub use principals::{NewPrincipal, PrincipalPatch, PrincipalSource, PrincipalView};
pub use stale::{StaleKind, StaleView};
pub use tokens::{NewToken, TokenMade, TokenView};

use super::{
    Inner,
    commands::{Done, Idempotency},
    error::CommandError,
    transition::Actor,
};
use crate::{
    auth::{CallContext, Denied, authn::TokenHash, pairing::Guesses},
    domain::{AuditEntry, AuditKind, Principal, limits},
    runtime::{Stop, TaskKind, tasks::lock},
    store::{Durability, JobFuture, StoreError, Tx},
};

/// How late the end of a token may reach connections that are open; requests see it at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two times that last uses are stored.
const LOOKS_PER_FLUSH: u32 = 20;
/// Pause before what could not be read is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the commands share.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// Numbers the readings in the order of the commits before them.
    readings: Arc<AtomicU64>,
    /// The reading that is in force.
    applied: Mutex<u64>,
    guesses: Guesses,
}

impl Inner {
    /// Reads what is stored and puts it in force. Call it after every change, and at start.
    pub(super) async fn refresh_access(&self) -> Result<(), StoreError> {
        let readings = Arc::clone(&self.access.readings);
        // In the writer's queue, so that the numbers follow the order of the commits.
        let (reading, principals, seen, tokens, links) = self
            .store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move {
                    let principals = tx.principals().all().await?;
                    let seen = tx.principals().seen().await?;
                    let now = tx.now();
                    let tokens = tx.tokens().live(now).await?;
                    let links = tx.links().live().await?;
                    let reading = readings.fetch_add(1, Ordering::Relaxed) + 1;
                    Ok::<_, StoreError>((reading, principals, seen, tokens, links))
                })
            })
            .await?;
        let hashed = tokens.into_iter().map(|(token, hash)| match TokenHash::from_hex(&hash) {
            Some(hash) => Ok((token, hash)),
            None => Err(StoreError::Corrupt { what: format!("the hash of {}", token.id) }),
        });
        let tokens = hashed.collect::<Result<Vec<_>, _>>()?;
        let mut applied = lock(&self.access.applied);
        if reading > *applied {
            *applied = reading;
            self.tokens.directory().load(principals, links, &seen);
            self.tokens.load(tokens);
        }
        Ok(())
    }

    /// Runs a command and puts what it changed in force, on its own feet: who asked may go away
    /// between the commit and that.
    async fn change_access<T, F>(
        self: &Arc<Self>,
        cx: &CallContext,
        idempotency: Option<Idempotency>,
        work: F,
    ) -> Result<Done<T>, CommandError>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, CommandError>> + Send + 'static,
        T: Serialize + Send + Sync + 'static,
    {
        let (inner, cx) = (Arc::clone(self), cx.clone());
        self.detached(async move {
            let done = inner.administer(&cx, idempotency, work).await?;
            inner.put_access_in_force().await?;
            inner.in_force_everywhere().await?;
            Ok(done)
        })
        .await
    }

    /// As [`refresh_access`](Self::refresh_access); tries again by itself until it is in force.
    async fn put_access_in_force(self: &Arc<Self>) -> Result<(), StoreError> {
        let done = self.refresh_access().await;
        if let Err(error) = &done {
            tracing::error!(%error, "a change of who may act is stored but not in force yet");
            let inner = Arc::clone(self);
            self.tasks.spawn(TaskKind::Helper, |stop| async move {
                loop {
                    // Both branches are cancel-safe.
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = stop.wait_soft() => return,
                    }
                    if inner.refresh_access().await.is_ok() {
                        return;
                    }
                }
            });
        }
        done
    }

    /// Stores who was here and which tokens were used since the last time.
    pub(super) async fn store_uses(&self) -> Result<(), StoreError> {
        let seen = self.tokens.directory().take_seen();
        let used = self.tokens.take_used();
        if seen.people.is_empty() && seen.links.is_empty() && used.is_empty() {
            return Ok(());
        }
        self.store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move {
                    for (id, at) in seen.people {
                        tx.principals().saw(id, at).await?;
                    }
                    for (id, at) in seen.links {
                        tx.links().saw(id, at).await?;
                    }
                    for (id, at) in used {
                        tx.tokens().used(id, at).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Ends requests whose time is over; writes nothing where none waits.
    async fn expire_pairings(&self) -> Result<(), StoreError> {
        if self.store.read().await?.pairings().count_pending().await? == 0 {
            return Ok(());
        }
        self.store
            .write(Durability::Normal, |tx| {
                Box::pin(async move {
                    let now = tx.now();
                    tx.pairings().expire(now).await
                })
            })
            .await
    }

    /// Refuses, and records that it did.
    fn refuse(&self, cx: &CallContext, action: &str, denied: Denied) -> CommandError {
        self.authorizer.record(cx, action, &denied);
        denied.into()
    }

    /// Turns a refusal that was found under way into a recorded one.
    fn allowed(
        &self,
        cx: &CallContext,
        action: &str,
        decided: Result<(), Denied>,
    ) -> Result<(), CommandError> {
        decided.map_err(|denied| self.refuse(cx, action, denied))
    }

    /// A name, a label, an account: a line of text that a person can read, and that is shown.
    fn check_text(&self, pointer: &'static str, text: &str) -> Result<(), CommandError> {
        check_text(pointer, text)?;
        if self.redactor.finds_secret(text) {
            return Err(invalid(pointer, "this holds a secret of the daemon: replace that secret"));
        }
        Ok(())
    }

    /// Somebody who may act now, by their id or, where that is clear, their name.
    fn known(&self, wanted: &str) -> Result<Principal, CommandError> {
        let directory = self.tokens.directory();
        let found = match wanted.parse() {
            Ok(id) => directory.current(id),
            Err(_) => directory.named(wanted),
        };
        found.ok_or_else(|| CommandError::Invalid {
            code: "principal.unknown",
            pointer: Some("/principal"),
            detail: format!(
                "nobody enabled is `{}`; `agent-runtime principal list` shows them",
                wanted.chars().take(100).collect::<String>()
            ),
        })
    }
}

/// Ends tokens whose time is over and stores last uses, until the daemon stops.
pub(super) async fn keep(inner: Arc<Inner>, stop: Stop) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = 0_u32;
    loop {
        // Both branches are cancel-safe.
        let is_last = tokio::select! {
            _ = look.tick() => false,
            () = stop.wait_soft() => true,
        };
        inner.tokens.end_expired(inner.clock.now());
        looks = (looks + 1) % LOOKS_PER_FLUSH;
        if looks == 0 || is_last {
            let done = inner.store_uses().await.and(inner.expire_pairings().await);
            if let Err(error) = done {
                tracing::warn!(%error, "last uses were not stored");
            }
        }
        if is_last {
            return;
        }
    }
}

/// A row of the audit trail about rights.
fn entry(kind: AuditKind, cx: &CallContext, data: Value) -> AuditEntry {
    let actor = Actor::from(cx);
    AuditEntry {
        kind,
        actor: actor.id,
        surface: actor.surface,
        run_id: None,
        request_id: actor.request_id,
        data,
    }
}

fn invalid(pointer: &'static str, detail: impl Into<String>) -> CommandError {
    let code = "request.invalid";
    CommandError::Invalid { code, pointer: Some(pointer), detail: detail.into() }
}

/// A name, a label, an account: a line of text that a person can read.
fn check_text(pointer: &'static str, text: &str) -> Result<(), CommandError> {
    let is_line = !text.trim().is_empty() && !text.chars().any(char::is_control);
    if text.len() > limits::NAME_BYTES_MAX || !is_line || text.trim() != text {
        let max = limits::NAME_BYTES_MAX;
        let detail = format!("one line of 1 to {max} bytes, without spaces around it");
        return Err(invalid(pointer, detail));
    }
    Ok(())
}
