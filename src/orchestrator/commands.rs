//! What every command has in common: one transaction, repeatable under an idempotency key.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Inner, error::CommandError};
use crate::{
    auth::{CallContext, Scope},
    domain::{PrincipalId, RunId},
    store::{Durability, JobFuture, RunCore, StoreError, StoredAnswer, Tx},
};

/// A client's promise that two requests are the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's key; its own per principal.
    pub key: String,
    /// Hash of method, path and body: the same key with another one is refused.
    pub fingerprint: String,
}

/// What a command gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Done<T> {
    /// It was carried out now.
    Fresh(T),
    /// It had been carried out before; this is the answer that it was given then.
    Replayed(Value),
}

impl Inner {
    /// Runs a command as one durable transaction; under a key that was used before, returns the
    /// first answer instead.
    pub(super) async fn command<T, F>(
        &self,
        cx: &CallContext,
        idempotency: Option<Idempotency>,
        work: F,
    ) -> Result<Done<T>, CommandError>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, CommandError>> + Send + 'static,
        T: Serialize + Send + Sync + 'static,
    {
        let job = repeatable(cx.principal.id, self.keyed(idempotency), work);
        self.store.write(Durability::Full, job).await
    }

    /// The same for what administers: nobody else writes meanwhile, and every replica reads again
    /// what it holds in memory.
    pub(super) async fn administer<T, F>(
        &self,
        cx: &CallContext,
        idempotency: Option<Idempotency>,
        work: F,
    ) -> Result<Done<T>, CommandError>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, CommandError>> + Send + 'static,
        T: Serialize + Send + Sync + 'static,
    {
        self.store.change(repeatable(cx.principal.id, self.keyed(idempotency), work)).await
    }
}

fn repeatable<T, F>(
    principal: PrincipalId,
    idempotency: Option<Idempotency>,
    work: F,
) -> impl for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<Done<T>, CommandError>> + Send + 'static
where
    F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, CommandError>> + Send + 'static,
    T: Serialize + Send + Sync + 'static,
{
    move |tx| {
        Box::pin(async move {
            let Some(Idempotency { key, fingerprint }) = idempotency else {
                return work(tx).await.map(Done::Fresh);
            };
            if let Some(first) = tx.idempotency().get(principal, &key).await? {
                if first.fingerprint != fingerprint {
                    return Err(CommandError::IdempotencyMismatch);
                }
                return serde_json::from_str(&first.response)
                    .map(Done::Replayed)
                    .map_err(|e| corrupt(&e));
            }
            let value = work(tx).await?;
            let response = serde_json::to_string(&value).map_err(|e| corrupt(&e))?;
            let (answer, now) = (StoredAnswer { fingerprint, response }, tx.now());
            tx.idempotency().put(principal, &key, &answer, now).await?;
            Ok(Done::Fresh(value))
        })
    }
}

impl Inner {
    /// A client chooses its keys, and they are stored: one that holds a secret is known by its hash.
    fn keyed(&self, given: Option<Idempotency>) -> Option<Idempotency> {
        let given = given?;
        if !self.redactor.finds_secret(&given.key) {
            return Some(given);
        }
        let key = data_encoding::HEXLOWER.encode(&Sha256::digest(given.key.as_bytes()));
        Some(Idempotency { key, ..given })
    }
}

fn corrupt(error: &serde_json::Error) -> CommandError {
    StoreError::Corrupt { what: format!("a stored answer: {error}") }.into()
}

/// The run, if it exists for this scope.
pub(super) async fn visible_run(
    tx: &mut Tx,
    scope: Scope,
    id: RunId,
) -> Result<RunCore, CommandError> {
    tx.runs()
        .core(id)
        .await?
        .filter(|run| is_visible(&scope, run))
        .ok_or(CommandError::NotFound { what: "the run" })
}

/// Whether a run exists for this scope.
pub(super) fn is_visible(scope: &Scope, run: &RunCore) -> bool {
    scope.includes_run(run.principal, &run.agent, run.conversation_id)
}
