//! Bearer tokens that administrators made. Only a hash of each is here.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{PrincipalId, Timestamp, TokenId, TokenRecord};

/// Access to tokens.
#[derive(Debug)]
pub struct Tokens<'c> {
    pub(super) conn: &'c mut Conn,
}

macro_rules! columns {
    () => {
        "id, public_id, principal, label, role, scopes, created_at, created_by, expires_at, \
         last_used_at, revoked_at, revoked_by"
    };
}

impl Tokens<'_> {
    /// Those that may still be used, each with the hex of its hash. There are at most
    /// [`TOKENS_MAX`](crate::domain::limits::TOKENS_MAX).
    pub async fn live(&mut self, now: Timestamp) -> Result<Vec<(TokenRecord, String)>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            ", hash FROM tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)"
        ))
        .bind(now.as_micros())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the tokens"))?;
        let with_hash = |row: &Row| {
            let mut c = Cols::new(row);
            Ok((token(&mut c)?, c.text()?))
        };
        rows.iter().map(with_hash).collect()
    }

    /// One token.
    pub async fn get(&mut self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM tokens WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a token"))?;
        row.as_ref().map(|row| token(&mut Cols::new(row))).transpose()
    }

    /// Newest first; of one principal where given.
    pub async fn list(
        &mut self,
        principal: Option<PrincipalId>,
        page: &Page,
    ) -> Result<Paged<TokenRecord>, StoreError> {
        let rows = query(if principal.is_some() {
            concat!(
                "SELECT ",
                columns!(),
                " FROM tokens WHERE principal = $2 AND id < $1 ORDER BY id DESC LIMIT $3"
            )
        } else {
            concat!(
                "SELECT ",
                columns!(),
                " FROM tokens WHERE id < $1 AND ($2 IS NULL OR principal = $2) \
                 ORDER BY id DESC LIMIT $3"
            )
        })
        .bind(page.before())
        .bind(principal.map(|p| p.to_string()))
        .bind(page.rows())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list tokens"))?;
        let items = rows.iter().map(|row| token(&mut Cols::new(row)));
        Ok(page.cut(items.collect::<Result<Vec<_>, _>>()?, |t| t.id.to_string()))
    }

    /// How many may still be used.
    pub async fn count_live(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        let count: i64 = query(
            "SELECT count(*) FROM tokens WHERE revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $1)",
        )
        .bind(now.as_micros())
        .one_number(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("count the tokens"))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Stores a new token with the hex of its hash.
    pub async fn insert(&mut self, t: &TokenRecord, hash: &str) -> Result<(), StoreError> {
        query(
            "INSERT INTO tokens (id, public_id, principal, label, role, scopes, hash, created_at, \
             created_by, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(t.id.to_string())
        .bind(t.public_id.clone())
        .bind(t.principal.to_string())
        .bind(t.label.clone())
        .bind(t.role.as_str())
        .bind(cols::json(&t.scopes)?)
        .bind(hash.to_owned())
        .bind(t.created_at.as_micros())
        .bind(t.created_by.to_string())
        .bind(t.expires_at.map(Timestamp::as_micros))
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a token"))
    }

    /// Takes a token back; the first time counts.
    pub async fn revoke(
        &mut self,
        id: TokenId,
        by: PrincipalId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE tokens SET revoked_at = $2, revoked_by = $3 \
             WHERE id = $1 AND revoked_at IS NULL",
        )
        .bind(id.to_string())
        .bind(at.as_micros())
        .bind(by.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("revoke a token"))
    }

    /// Notes when a token was used last.
    pub async fn used(&mut self, id: TokenId, at: Timestamp) -> Result<(), StoreError> {
        query("UPDATE tokens SET last_used_at = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(at.as_micros())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("note the use of a token"))
    }

    /// Live ones that were not used since `cutoff`, and were made before it.
    pub async fn stale(
        &mut self,
        cutoff: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) \
             AND created_at < $1 AND (last_used_at IS NULL OR last_used_at < $1) \
             ORDER BY id LIMIT $3"
        ))
        .bind(cutoff.as_micros())
        .bind(now.as_micros())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for stale tokens"))?;
        rows.iter().map(|row| token(&mut Cols::new(row))).collect()
    }
}

fn token(c: &mut Cols<'_>) -> Result<TokenRecord, StoreError> {
    Ok(TokenRecord {
        id: c.parsed()?,
        public_id: c.text()?,
        principal: c.parsed()?,
        label: c.raw()?,
        role: c.parsed()?,
        scopes: c.json()?,
        created_at: c.time()?,
        created_by: c.parsed()?,
        expires_at: c.time_opt()?,
        last_used_at: c.time_opt()?,
        revoked_at: c.time_opt()?,
        revoked_by: c.parsed_opt()?,
    })
}
