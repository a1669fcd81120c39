//! Answers that a repeated request gets again.

use super::{
    cols::{self, Cols},
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{PrincipalId, Timestamp};

/// The answer that a key was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Hash of method, path and body of the first request.
    pub fingerprint: String,
    /// JSON text of the answer.
    pub response: String,
}

/// Access to idempotency keys.
#[derive(Debug)]
pub struct IdempotencyKeys<'c> {
    pub(super) conn: &'c mut Conn,
}

impl IdempotencyKeys<'_> {
    /// The answer that this principal's key was given.
    pub async fn get(
        &mut self,
        principal: PrincipalId,
        key: &str,
    ) -> Result<Option<StoredAnswer>, StoreError> {
        let row = query(
            "SELECT fingerprint, response FROM idempotency WHERE principal = $1 AND idem_key = $2",
        )
        .bind(principal.to_string())
        .bind(key.to_owned())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read an idempotency key"))?;
        row.map(|row| {
            let mut c = Cols::new(&row);
            Ok(StoredAnswer { fingerprint: c.text()?, response: c.text()? })
        })
        .transpose()
    }

    /// Stores an answer, in the same transaction as what it answers.
    pub async fn put(
        &mut self,
        principal: PrincipalId,
        key: &str,
        answer: &StoredAnswer,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let done = query(
            "INSERT INTO idempotency (principal, idem_key, fingerprint, response, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(principal.to_string())
        .bind(key.to_owned())
        .bind(answer.fingerprint.clone())
        .bind(answer.response.clone())
        .bind(at.as_micros())
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("store an idempotency key"))?;
        // Another replica was first with the same key: a repetition gets its answer.
        if done == 1 { Ok(()) } else { Err(StoreError::Busy) }
    }

    /// Forgets keys from before `cutoff`, some at a time.
    pub async fn forget_before(&mut self, cutoff: Timestamp) -> Result<u64, StoreError> {
        query(
            "DELETE FROM idempotency WHERE (principal, idem_key) IN \
             (SELECT principal, idem_key FROM idempotency WHERE created_at < $1 LIMIT $2)",
        )
        .bind(cutoff.as_micros())
        .bind(cols::int(1_000))
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("forget idempotency keys"))
    }
}
