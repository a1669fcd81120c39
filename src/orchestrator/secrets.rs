//! Secrets that the daemon keeps: list, store, remove, seal anew.
//!
//! Invariants: a value comes in and never goes out; it is known to the redactor before anything
//! else is done with it; every change is in the audit trail, by name.

use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Inner, Orchestrator, error::CommandError, transition::Actor};
use crate::{
    auth::{
        ChangeSecrets, Permit, SeeSecrets,
        keys::Key,
        seal::{open, seal},
    },
    domain::{
        AuditEntry, AuditKind, SealedSecret, Secret, SecretAge, SecretName, SecretSource,
        Timestamp,
        limits::{SECRET_BYTES_MAX, SECRETS_MAX},
    },
    runtime::{redact::SECRET_BYTES_MIN, reload::Reloader, tasks::lock},
    store::{Store, StoreError, Tx},
};

/// What seals secrets, and what puts changed ones in force.
#[derive(Clone, Debug)]
pub struct SecretOptions {
    /// The key that seals first, then those that only open.
    pub sealing: Vec<Key>,
    /// Reads configuration and secrets again.
    pub reloader: Reloader,
    /// The stored secrets that were opened at start.
    pub opened: Vec<SecretMark>,
}

/// A stored secret as it was when it was opened: its name, since when it has its value, and the key
/// that sealed it.
pub type SecretMark = (SecretName, Timestamp, String);

/// How the stored secrets are that are in force.
#[derive(Debug, Default)]
pub(super) struct SecretMarks(Mutex<Vec<SecretMark>>);

impl SecretMarks {
    pub(super) const fn new(marks: Vec<SecretMark>) -> Self {
        Self(Mutex::new(marks))
    }

    pub(super) fn are(&self, marks: &[SecretMark]) -> bool {
        lock(&self.0).as_slice() == marks
    }

    pub(super) fn set(&self, marks: Vec<SecretMark>) {
        *lock(&self.0) = marks;
    }
}

/// The stored secrets as they are now.
///
/// # Errors
/// When the store cannot be read.
pub async fn marks(store: &Store) -> Result<Vec<SecretMark>, StoreError> {
    let sealed = store.read().await?.secrets().sealed().await?;
    Ok(sealed.into_iter().map(|s| (s.name, s.changed_at, s.key_id)).collect())
}

/// A secret, for those who run the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretView {
    /// The setting that holds it, or the name of a stored one.
    pub name: String,
    /// Where its value comes from.
    pub source: SecretSource,
    /// Since when it has this value, as far as this daemon knows.
    pub since: Timestamp,
    /// Days since then.
    pub days: u64,
    /// When it was last put into a request; none: never, or it is of a kind that is not counted.
    pub last_used_at: Option<Timestamp>,
    /// What should be done about it.
    pub warning: Option<String>,
}

impl SecretView {
    /// What is known about a secret, seen now.
    pub fn of(age: SecretAge, now: Timestamp) -> Self {
        let (days, most) = (age.days(now), age.days_max());
        let warning = age.is_old(now).then(|| format!("older than {most} days: replace it"));
        let SecretAge { name, source, since, last_used_at, .. } = age;
        Self { name, source, since, days, last_used_at, warning }
    }
}

impl Orchestrator {
    /// Every secret, of the configuration and stored; never a value.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn secrets(
        &self,
        _permit: &Permit<SeeSecrets>,
    ) -> Result<Vec<SecretView>, CommandError> {
        let now = self.inner.clock.now();
        let ages = self.inner.store.read().await?.secrets().ages().await?;
        Ok(ages.into_iter().map(|age| SecretView::of(age, now)).collect())
    }

    /// Stores a secret, sealed, in the place of one with its name. It is in force when this returns.
    ///
    /// # Errors
    /// When the value is too short or too long, or there are too many; when it is stored but could
    /// not be put in force, with the reason.
    pub async fn set_secret(
        &self,
        permit: Permit<ChangeSecrets>,
        name: SecretName,
        value: Secret<String>,
    ) -> Result<(), CommandError> {
        self.inner.redactor.register(value.expose());
        let bytes = value.expose().len();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes) {
            let detail = format!(
                "a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes; shorter ones could \
                 not be kept out of what is shown"
            );
            return Err(invalid("/value", detail));
        }
        let key = self.inner.sealing_key()?.clone();
        let actor = Actor::from(permit.context());
        let inner = Arc::clone(&self.inner);
        // On its own feet: who asked may go away between the commit and its taking effect.
        let work = async move {
            let done = inner.change_secrets(move |tx| {
                Box::pin(async move {
                    let all = tx.secrets().sealed().await?;
                    let before = all.iter().find(|s| s.name == name);
                    if before.is_none() && all.len() >= SECRETS_MAX {
                        return Err(invalid("/name", format!("there are {SECRETS_MAX} already")));
                    }
                    let sealed = seal(&key, &name, &value).map_err(broken)?;
                    let now = tx.now();
                    let secret = SealedSecret {
                        sealed,
                        key_id: key.id(),
                        created_at: before.map_or(now, |s| s.created_at),
                        changed_at: now,
                        changed_by: actor.id.clone(),
                        name,
                    };
                    tx.secrets().put(&secret).await?;
                    let what = if before.is_some() { "replaced" } else { "stored" };
                    let before = before.map(|s| json!({ "changed_at": s.changed_at }));
                    let after = json!({ "changed_at": now });
                    note(
                        tx,
                        actor,
                        json!({
                            "what": what, "name": secret.name, "before": before, "after": after,
                        }),
                    );
                    Ok(())
                })
            });
            done.await?;
            inner.reload_secrets().await?;
            inner.in_force_everywhere().await
        };
        self.inner.detached(work).await
    }

    /// Removes a stored secret. What used it goes without when this returns.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn remove_secret(
        &self,
        permit: Permit<ChangeSecrets>,
        name: SecretName,
    ) -> Result<(), CommandError> {
        let actor = Actor::from(permit.context());
        let inner = Arc::clone(&self.inner);
        let work = async move {
            let done = inner.change_secrets(move |tx| {
                Box::pin(async move {
                    if !tx.secrets().remove(&name).await? {
                        return Ok(false);
                    }
                    note(
                        tx,
                        actor,
                        json!({
                            "what": "removed", "name": name, "before": true, "after": null,
                        }),
                    );
                    Ok(true)
                })
            });
            let was_there = done.await?;
            // Also when it was gone before: whoever asks again wants it out of force.
            inner.reload_secrets().await?;
            inner.in_force_everywhere().await?;
            if was_there { Ok(()) } else { Err(CommandError::NotFound { what: "the secret" }) }
        };
        self.inner.detached(work).await
    }

    /// Seals every stored secret anew, under the key in force; how many.
    ///
    /// # Errors
    /// When one of them cannot be opened; then nothing changes.
    pub async fn reseal_secrets(
        &self,
        permit: Permit<ChangeSecrets>,
    ) -> Result<usize, CommandError> {
        let actor = Actor::from(permit.context());
        let keys = self.inner.secrets.sealing.clone();
        self.inner
            .change_secrets(move |tx| {
                Box::pin(async move { reseal(tx, &keys, actor, false).await.map_err(Into::into) })
            })
            .await
    }

    /// Reads the configuration and every secret again and puts them in force; the settings that have
    /// changed and need a restart.
    ///
    /// # Errors
    /// What is wrong with them; then nothing changes.
    pub async fn reload(
        &self,
        _permit: Permit<ChangeSecrets>,
    ) -> Result<Vec<String>, CommandError> {
        self.inner.reload().await
    }
}

/// Seals stored secrets with the first key: all of them, or `only_old` those that another key sealed.
/// How many it were.
///
/// # Errors
/// When one of them cannot be opened.
async fn reseal(
    tx: &mut Tx,
    keys: &[Key],
    actor: Actor,
    only_old: bool,
) -> Result<usize, StoreError> {
    let corrupt = |name: &SecretName, error| StoreError::Corrupt {
        what: format!("the stored secret `{name}`: {error}"),
    };
    let Some(key) = keys.first() else { return Ok(0) };
    let id = key.id();
    let mut names = Vec::new();
    for secret in tx.secrets().sealed().await? {
        if only_old && secret.key_id == id {
            continue;
        }
        let name = &secret.name;
        let value =
            open(keys, &secret.key_id, name, &secret.sealed).map_err(|e| corrupt(name, e))?;
        let sealed = seal(key, name, &value).map_err(|e| corrupt(name, e))?;
        names.push(name.clone());
        tx.secrets().put(&SealedSecret { sealed, key_id: id.clone(), ..secret }).await?;
    }
    if !names.is_empty() {
        note(tx, actor, json!({ "what": "sealed anew", "names": names, "key_id": id }));
    }
    Ok(names.len())
}

/// At start: what an older permission secret sealed is sealed with the one in force.
///
/// # Errors
/// When one cannot be opened with any key that is known.
pub async fn reseal_old(store: &Store, keys: Vec<Key>) -> Result<usize, StoreError> {
    store
        .change(move |tx| Box::pin(async move { reseal(tx, &keys, Actor::system(), true).await }))
        .await
}

impl Inner {
    async fn reload(&self) -> Result<Vec<String>, CommandError> {
        let done = self.secrets.reloader.reload().await;
        done.map_err(|why| CommandError::conflict("reload.refused", why))
    }

    async fn reload_secrets(&self) -> Result<(), CommandError> {
        self.reload().await.map(drop)
    }

    fn sealing_key(&self) -> Result<&Key, CommandError> {
        let none = StoreError::Unavailable { doing: "seal a secret", source: None };
        self.secrets.sealing.first().ok_or_else(|| none.into())
    }

    async fn change_secrets<T, F>(&self, job: F) -> Result<T, CommandError>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> crate::store::JobFuture<'t, Result<T, CommandError>>
            + Send
            + 'static,
        T: Send + 'static,
    {
        self.store.change(job).await
    }
}

fn note(tx: &mut Tx, actor: Actor, data: Value) {
    let Actor { id, surface, request_id } = actor;
    let kind = AuditKind::SecretChanged;
    tx.audit(AuditEntry { kind, actor: id, surface, run_id: None, request_id, data });
}

fn invalid(pointer: &'static str, detail: String) -> CommandError {
    CommandError::Invalid { code: "secret.invalid", pointer: Some(pointer), detail }
}

fn broken(error: crate::auth::seal::SealError) -> CommandError {
    StoreError::Corrupt { what: error.to_string() }.into()
}
