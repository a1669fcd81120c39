//! Accounts of chat platforms that stand for principals.

use super::{
    cols::Cols,
    db::{Conn, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{LinkId, LinkRecord, Platform, PrincipalId, Timestamp};

/// Access to links.
#[derive(Debug)]
pub struct Links<'c> {
    pub(super) conn: &'c mut Conn,
}

macro_rules! columns {
    () => {
        "id, platform, account, display, principal, role, created_at, created_by, last_seen_at, \
         revoked_at, revoked_by"
    };
}

impl Links<'_> {
    /// Those that stand. There are at most [`LINKS_MAX`](crate::domain::limits::LINKS_MAX).
    pub async fn live(&mut self) -> Result<Vec<LinkRecord>, StoreError> {
        let rows = query(concat!("SELECT ", columns!(), " FROM links WHERE revoked_at IS NULL"))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the links"))?;
        rows.iter().map(link).collect()
    }

    /// One link.
    pub async fn get(&mut self, id: LinkId) -> Result<Option<LinkRecord>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM links WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a link"))?;
        row.as_ref().map(link).transpose()
    }

    /// The link of an account that stands.
    pub async fn of_account(
        &mut self,
        platform: &Platform,
        account: &str,
    ) -> Result<Option<LinkRecord>, StoreError> {
        let row = query(concat!(
            "SELECT ",
            columns!(),
            " FROM links WHERE platform = $1 AND account = $2 AND revoked_at IS NULL"
        ))
        .bind(platform.to_string())
        .bind(account.to_owned())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a link"))?;
        row.as_ref().map(link).transpose()
    }

    /// Newest first; revoked ones too.
    pub async fn list(&mut self, page: &Page) -> Result<Paged<LinkRecord>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM links WHERE id < $1 ORDER BY id DESC LIMIT $2"
        ))
        .bind(page.before())
        .bind(page.rows())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list links"))?;
        let items = rows.iter().map(link).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |l| l.id.to_string()))
    }

    /// How many stand.
    pub async fn count_live(&mut self) -> Result<usize, StoreError> {
        let count: i64 = query("SELECT count(*) FROM links WHERE revoked_at IS NULL")
            .one_number(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("count the links"))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Stores a new link. Its account must have no other.
    pub async fn insert(&mut self, l: &LinkRecord) -> Result<(), StoreError> {
        query(
            "INSERT INTO links (id, platform, account, display, principal, role, created_at, \
             created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(l.id.to_string())
        .bind(l.platform.to_string())
        .bind(l.account.clone())
        .bind(l.display.clone())
        .bind(l.principal.to_string())
        .bind(l.role.as_str())
        .bind(l.created_at.as_micros())
        .bind(l.created_by.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a link"))
    }

    /// Takes a link back; the first time counts.
    pub async fn revoke(
        &mut self,
        id: LinkId,
        by: PrincipalId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE links SET revoked_at = $2, revoked_by = $3 \
             WHERE id = $1 AND revoked_at IS NULL",
        )
        .bind(id.to_string())
        .bind(at.as_micros())
        .bind(by.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("revoke a link"))
    }

    /// Notes when something came from an account last.
    pub async fn saw(&mut self, id: LinkId, at: Timestamp) -> Result<(), StoreError> {
        query("UPDATE links SET last_seen_at = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(at.as_micros())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("note the use of a link"))
    }

    /// Those that stand from which nothing came since `cutoff`, and that are older.
    pub async fn stale(
        &mut self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<LinkRecord>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM links WHERE revoked_at IS NULL AND created_at < $1 \
             AND (last_seen_at IS NULL OR last_seen_at < $1) ORDER BY id LIMIT $2"
        ))
        .bind(cutoff.as_micros())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for stale links"))?;
        rows.iter().map(link).collect()
    }
}

fn link(row: &Row) -> Result<LinkRecord, StoreError> {
    let mut c = Cols::new(row);
    Ok(LinkRecord {
        id: c.parsed()?,
        platform: c.parsed()?,
        account: c.text()?,
        display: c.raw()?,
        principal: c.parsed()?,
        role: c.parsed()?,
        created_at: c.time()?,
        created_by: c.parsed()?,
        last_seen_at: c.time_opt()?,
        revoked_at: c.time_opt()?,
        revoked_by: c.parsed_opt()?,
    })
}
