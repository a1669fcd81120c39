//! Requests to link an account of a chat platform. Only a hash of each code is here.

use super::{
    cols::Cols,
    db::{Conn, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{PairingId, PairingRecord, PairingState, Platform, Timestamp};

/// Access to requests.
#[derive(Debug)]
pub struct Pairings<'c> {
    pub(super) conn: &'c mut Conn,
}

macro_rules! columns {
    () => {
        "id, platform, account, display, state, created_at, expires_at, decided_at, decided_by, \
         reason"
    };
}

impl Pairings<'_> {
    /// One request.
    pub async fn get(&mut self, id: PairingId) -> Result<Option<PairingRecord>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM pairings WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a pairing"))?;
        row.as_ref().map(pairing).transpose()
    }

    /// The request that waits with this code.
    pub async fn with_code(&mut self, hash: &str) -> Result<Option<PairingRecord>, StoreError> {
        let row = query(concat!(
            "SELECT ",
            columns!(),
            " FROM pairings WHERE code_hash = $1 AND state = 'pending'"
        ))
        .bind(hash.to_owned())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a pairing"))?;
        row.as_ref().map(pairing).transpose()
    }

    /// Newest first; in one state where given.
    pub async fn list(
        &mut self,
        state: Option<PairingState>,
        page: &Page,
    ) -> Result<Paged<PairingRecord>, StoreError> {
        let rows = query(if state.is_some() {
            concat!(
                "SELECT ",
                columns!(),
                " FROM pairings WHERE state = $2 AND id < $1 ORDER BY id DESC LIMIT $3"
            )
        } else {
            concat!(
                "SELECT ",
                columns!(),
                " FROM pairings WHERE id < $1 AND ($2 IS NULL OR state = $2) \
                 ORDER BY id DESC LIMIT $3"
            )
        })
        .bind(page.before())
        .bind(state.map(PairingState::as_str))
        .bind(page.rows())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list pairings"))?;
        let items = rows.iter().map(pairing).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |p| p.id.to_string()))
    }

    /// How many wait.
    pub async fn count_pending(&mut self) -> Result<usize, StoreError> {
        let count: i64 = query("SELECT count(*) FROM pairings WHERE state = 'pending'")
            .one_number(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("count the pairings"))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Ends the time of requests that nobody decided.
    pub async fn expire(&mut self, now: Timestamp) -> Result<(), StoreError> {
        query("UPDATE pairings SET state = 'expired' WHERE state = 'pending' AND expires_at <= $1")
            .bind(now.as_micros())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("end old pairings"))
    }

    /// Makes an account's request that waits void; whether there was one.
    pub async fn void(&mut self, platform: &Platform, account: &str) -> Result<bool, StoreError> {
        query(
            "UPDATE pairings SET state = 'voided' \
             WHERE platform = $1 AND account = $2 AND state = 'pending'",
        )
        .bind(platform.to_string())
        .bind(account.to_owned())
        .execute(&mut *self.conn)
        .await
        .map(|done| done > 0)
        .map_err(StoreError::unavailable("void a pairing"))
    }

    /// Stores a new request with the hash of its code. The account must have no other that waits.
    pub async fn insert(&mut self, p: &PairingRecord, code_hash: &str) -> Result<(), StoreError> {
        query(
            "INSERT INTO pairings (id, platform, account, display, code_hash, state, created_at, \
             expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(p.id.to_string())
        .bind(p.platform.to_string())
        .bind(p.account.clone())
        .bind(p.display.clone())
        .bind(code_hash.to_owned())
        .bind(p.state.as_str())
        .bind(p.created_at.as_micros())
        .bind(p.expires_at.as_micros())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a pairing"))
    }

    /// Stores what was decided about a request that waits. Its code is worth nothing from then on.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when it does not wait any more.
    pub async fn decide(&mut self, p: &PairingRecord) -> Result<(), StoreError> {
        let done = query(
            "UPDATE pairings SET state = $2, decided_at = $3, decided_by = $4, reason = $5 \
             WHERE id = $1 AND state = 'pending'",
        )
        .bind(p.id.to_string())
        .bind(p.state.as_str())
        .bind(p.decided_at.map(Timestamp::as_micros))
        .bind(p.decided_by.map(|id| id.to_string()))
        .bind(p.reason.clone())
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("decide a pairing"))?;
        if done == 0 {
            return Err(StoreError::Stale { what: p.id.to_string() });
        }
        Ok(())
    }
}

fn pairing(row: &Row) -> Result<PairingRecord, StoreError> {
    let mut c = Cols::new(row);
    Ok(PairingRecord {
        id: c.parsed()?,
        platform: c.parsed()?,
        account: c.text()?,
        display: c.raw()?,
        state: c.parsed()?,
        created_at: c.time()?,
        expires_at: c.time()?,
        decided_at: c.time_opt()?,
        decided_by: c.parsed_opt()?,
        reason: c.raw()?,
    })
}
