//! Sealed secrets, and how old each secret of the daemon is.

use super::{
    cols::Cols,
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::{SealedSecret, SecretAge, SecretName, Timestamp};

/// Access to both tables.
#[derive(Debug)]
pub struct Secrets<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Secrets<'_> {
    /// Every stored secret, by name. There are at most
    /// [`SECRETS_MAX`](crate::domain::limits::SECRETS_MAX).
    pub async fn sealed(&mut self) -> Result<Vec<SealedSecret>, StoreError> {
        let rows = query(
            "SELECT name, sealed, key_id, created_at, changed_at, changed_by FROM sealed_secrets \
             ORDER BY name",
        )
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the stored secrets"))?;
        rows.iter().map(sealed_secret).collect()
    }

    /// Stores a secret in the place of one with its name.
    pub async fn put(&mut self, secret: &SealedSecret) -> Result<(), StoreError> {
        query(
            "INSERT INTO sealed_secrets (name, sealed, key_id, created_at, changed_at, changed_by) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO UPDATE SET sealed = $2, \
             key_id = $3, changed_at = $5, changed_by = $6",
        )
        .bind(secret.name.to_string())
        .bind(secret.sealed.clone())
        .bind(secret.key_id.clone())
        .bind(secret.created_at.as_micros())
        .bind(secret.changed_at.as_micros())
        .bind(secret.changed_by.clone())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a secret"))
    }

    /// Removes a stored secret; whether it was there.
    pub async fn remove(&mut self, name: &SecretName) -> Result<bool, StoreError> {
        query("DELETE FROM sealed_secrets WHERE name = $1")
            .bind(name.to_string())
            .execute(&mut *self.conn)
            .await
            .map(|done| done > 0)
            .map_err(StoreError::unavailable("remove a secret"))
    }

    /// What is known about every secret, by name.
    pub async fn ages(&mut self) -> Result<Vec<SecretAge>, StoreError> {
        let rows = query(
            "SELECT name, source, fingerprint, since, last_used_at FROM secret_ages ORDER BY name",
        )
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the ages of secrets"))?;
        rows.iter().map(secret_age).collect()
    }

    /// Notes what is known about one.
    pub async fn put_age(&mut self, age: &SecretAge) -> Result<(), StoreError> {
        query(
            "INSERT INTO secret_ages (name, source, fingerprint, since, last_used_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET source = $2, \
             fingerprint = $3, since = $4, last_used_at = $5",
        )
        .bind(age.name.clone())
        .bind(age.source.as_str())
        .bind(age.fingerprint.clone())
        .bind(age.since.as_micros())
        .bind(age.last_used_at.map(Timestamp::as_micros))
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("note the age of a secret"))
    }

    /// Forgets one that is gone.
    pub async fn forget_age(&mut self, name: &str) -> Result<(), StoreError> {
        query("DELETE FROM secret_ages WHERE name = $1")
            .bind(name.to_owned())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("forget the age of a secret"))
    }
}

fn sealed_secret(row: &Row) -> Result<SealedSecret, StoreError> {
    let mut c = Cols::new(row);
    Ok(SealedSecret {
        name: c.parsed()?,
        sealed: c.text()?,
        key_id: c.text()?,
        created_at: c.time()?,
        changed_at: c.time()?,
        changed_by: c.text()?,
    })
}

fn secret_age(row: &Row) -> Result<SecretAge, StoreError> {
    let mut c = Cols::new(row);
    Ok(SecretAge {
        name: c.text()?,
        source: c.parsed()?,
        fingerprint: c.text()?,
        since: c.time()?,
        last_used_at: c.time_opt()?,
    })
}
