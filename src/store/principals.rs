//! People and programs that were made while the daemon ran, what was changed about those of the
//! configuration, and when each was here last.

use std::collections::HashMap;

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::{PrincipalId, PrincipalRecord, Timestamp};

/// Access to principals.
#[derive(Debug)]
pub struct Principals<'c> {
    pub(super) conn: &'c mut Conn,
}

macro_rules! columns {
    () => {
        "id, name, role, scopes, configured, disabled_at, created_at, created_by"
    };
}

impl Principals<'_> {
    /// Every row, oldest first. There are at most
    /// [`PRINCIPALS_MAX`](crate::domain::limits::PRINCIPALS_MAX).
    pub async fn all(&mut self) -> Result<Vec<PrincipalRecord>, StoreError> {
        let rows = query(concat!("SELECT ", columns!(), " FROM principals ORDER BY id"))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the principals"))?;
        rows.iter().map(principal).collect()
    }

    /// One row.
    pub async fn get(&mut self, id: PrincipalId) -> Result<Option<PrincipalRecord>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM principals WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a principal"))?;
        row.as_ref().map(principal).transpose()
    }

    /// The row with this name.
    pub async fn named(&mut self, name: &str) -> Result<Option<PrincipalRecord>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM principals WHERE name = $1"))
            .bind(name.to_owned())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("look for a principal"))?;
        row.as_ref().map(principal).transpose()
    }

    /// How many rows there are.
    pub async fn count(&mut self) -> Result<usize, StoreError> {
        let count: i64 = query("SELECT count(*) FROM principals")
            .one_number(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("count the principals"))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Stores a row, in the place of an older one with its id. No other may have its name.
    pub async fn put(&mut self, p: &PrincipalRecord) -> Result<(), StoreError> {
        query(
            "INSERT INTO principals (id, name, role, scopes, configured, disabled_at, created_at, \
             created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (id) DO UPDATE SET role = excluded.role, scopes = excluded.scopes, \
             disabled_at = excluded.disabled_at",
        )
        .bind(p.id.to_string())
        .bind(p.name.clone())
        .bind(p.role.as_str())
        .bind(cols::json(&p.scopes)?)
        .bind(i64::from(p.configured))
        .bind(p.disabled_at.map(Timestamp::as_micros))
        .bind(p.created_at.as_micros())
        .bind(p.created_by.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a principal"))
    }

    /// When each was here last.
    pub async fn seen(&mut self) -> Result<HashMap<PrincipalId, Timestamp>, StoreError> {
        let rows = query("SELECT principal, at FROM principal_seen")
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read when principals were here"))?;
        let seen = |row: &Row| {
            let mut c = Cols::new(row);
            Ok((c.parsed()?, c.time()?))
        };
        rows.iter().map(seen).collect()
    }

    /// Notes when somebody was here last.
    pub async fn saw(&mut self, id: PrincipalId, at: Timestamp) -> Result<(), StoreError> {
        query(
            "INSERT INTO principal_seen (principal, at) VALUES ($1, $2) \
             ON CONFLICT (principal) DO UPDATE SET at = excluded.at",
        )
        .bind(id.to_string())
        .bind(at.as_micros())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("note when somebody was here"))
    }
}

fn principal(row: &Row) -> Result<PrincipalRecord, StoreError> {
    let mut c = Cols::new(row);
    Ok(PrincipalRecord {
        id: c.parsed()?,
        name: c.text()?,
        role: c.parsed()?,
        scopes: c.json()?,
        configured: c.flag()?,
        disabled_at: c.time_opt()?,
        created_at: c.time()?,
        created_by: c.parsed()?,
    })
}
