//! The audit trail: append-only rows, each hash covering the row before it.

use super::{
    backend::postgres,
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::{
    domain::{AuditEntry, EventId, RunId, Timestamp, audit::AuditRow},
    runtime::Redactor,
};
use sha2::{Digest, Sha256};

/// What the first row's `prev_hash` is.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The end of the chain, and where it stood at the last commit.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    n: u64,
    hash: String,
    kept: (u64, String),
}

impl Chain {
    fn new(n: u64, hash: String) -> Self {
        Self { n, hash: hash.clone(), kept: (n, hash) }
    }

    /// The end of the chain as stored.
    pub(super) async fn load(conn: &mut Conn) -> Result<Self, StoreError> {
        let row = query("SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1")
            .fetch_optional(conn)
            .await
            .map_err(StoreError::unavailable("read the end of the audit trail"))?;
        Self::behind(row.as_ref())
    }

    /// The same where others write too: nobody else appends before the end of the transaction.
    pub(super) async fn lock(conn: &mut Conn) -> Result<Self, StoreError> {
        let rows = conn.run(postgres::lock_trail()).await;
        let rows = rows.map_err(StoreError::unavailable("lock the end of the audit trail"))?;
        // The first is the lock's.
        Self::behind(rows.get(1))
    }

    fn behind(last: Option<&Row>) -> Result<Self, StoreError> {
        let Some(row) = last else { return Ok(Self::new(0, GENESIS.to_owned())) };
        let mut c = Cols::new(row);
        Ok(Self::new(c.number()?, c.text()?))
    }

    /// Makes the next row; also its `data` as the text that the hash covers.
    pub(super) fn append(
        &mut self,
        id: EventId,
        at: Timestamp,
        entry: AuditEntry,
        redactor: &Redactor,
    ) -> Result<(AuditRow, String), StoreError> {
        let value = redactor.redact_json(entry.data);
        let text = cols::json(&value)?;
        // Exports carry milliseconds; the hash must be the same there.
        let at = Timestamp::from_micros(at.as_micros() / 1_000 * 1_000);
        let mut row = AuditRow {
            n: self.n + 1,
            id,
            at,
            kind: entry.kind.as_str().to_owned(),
            actor: redactor.redact(&entry.actor).into_owned(),
            surface: entry.surface.as_str().to_owned(),
            run_id: entry.run_id,
            // A client chooses it.
            request_id: entry.request_id.map(|id| redactor.redact(&id).into_owned()),
            data: value,
            prev_hash: self.hash.clone(),
            hash: String::new(),
        };
        row.hash = hash(&row);
        self.n = row.n;
        self.hash.clone_from(&row.hash);
        Ok((row, text))
    }

    /// The number and the hash of the last row, those of this group included.
    pub(super) fn end(&self) -> (u64, String) {
        (self.n, self.hash.clone())
    }

    pub(super) fn keep(&mut self) {
        self.kept = (self.n, self.hash.clone());
    }

    pub(super) fn abandon(&mut self) {
        (self.n, self.hash) = self.kept.clone();
    }
}

/// The hash of a row: SHA-256 over every other field, each preceded by its length, so that no two
/// different rows give the same bytes.
pub fn hash(row: &AuditRow) -> String {
    let mut digest = Sha256::new();
    let run = row.run_id.map(|id| id.to_string());
    let data = row.data.to_string();
    let (n, id, at) = (row.n.to_string(), row.id.to_string(), row.at.as_micros().to_string());
    for field in [
        Some(row.prev_hash.as_str()),
        Some(n.as_str()),
        Some(id.as_str()),
        Some(at.as_str()),
        Some(row.kind.as_str()),
        Some(row.actor.as_str()),
        Some(row.surface.as_str()),
        run.as_deref(),
        row.request_id.as_deref(),
        Some(data.as_str()),
    ] {
        let length = field.map_or(u64::MAX, |f| u64::try_from(f.len()).unwrap_or(u64::MAX));
        digest.update(length.to_be_bytes());
        digest.update(field.unwrap_or_default());
    }
    data_encoding::HEXLOWER.encode(&digest.finalize())
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A row is missing, repeated or out of order.
    #[error("row {found} stands where row {expected} should")]
    Order {
        /// The number that should follow.
        expected: u64,
        /// The number that was found.
        found: u64,
    },
    /// A row does not name the hash of the row before it.
    #[error("row {n} does not follow the row before it")]
    Broken {
        /// The row.
        n: u64,
    },
    /// A row was changed.
    #[error("row {n} was changed after it was written")]
    Changed {
        /// The row.
        n: u64,
    },
}

/// Checks rows in order, from the first one on; needs nothing but the rows.
#[derive(Clone, Debug)]
pub struct Verifier {
    n: u64,
    hash: String,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { n: 0, hash: GENESIS.to_owned() }
    }
}

impl Verifier {
    /// Rows checked so far, and the hash of the last.
    pub fn end(&self) -> (u64, &str) {
        (self.n, &self.hash)
    }

    /// Checks the next row.
    pub fn check(&mut self, row: &AuditRow) -> Result<(), ChainError> {
        let expected = self.n + 1;
        if row.n != expected {
            return Err(ChainError::Order { expected, found: row.n });
        }
        if row.prev_hash != self.hash {
            return Err(ChainError::Broken { n: row.n });
        }
        if row.hash != hash(row) {
            return Err(ChainError::Changed { n: row.n });
        }
        self.n = row.n;
        self.hash.clone_from(&row.hash);
        Ok(())
    }
}

/// Which rows to read.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Rows after this number.
    pub after: u64,
    /// Only those of this moment or later.
    pub since: Option<Timestamp>,
    /// Only those before this moment.
    pub until: Option<Timestamp>,
    /// Only those of one kind.
    pub kind: Option<String>,
    /// Only those of one actor.
    pub actor: Option<String>,
    /// Only those of one run.
    pub run_id: Option<RunId>,
}

/// Access to the audit trail.
#[derive(Debug)]
pub struct Audit<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Audit<'_> {
    /// The number of the last row and when it was written; none in an empty trail.
    pub async fn last(&mut self) -> Result<Option<(u64, Timestamp)>, StoreError> {
        let row = query("SELECT n, at FROM audit ORDER BY n DESC LIMIT 1")
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the end of the audit trail"))?;
        let Some(row) = row else { return Ok(None) };
        let mut c = Cols::new(&row);
        Ok(Some((c.number()?, c.time()?)))
    }

    /// Rows in order.
    pub async fn query(
        &mut self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let sql = if filter.run_id.is_some() {
            "SELECT n, id, at, kind, actor, surface, run_id, request_id, data, prev_hash, hash \
             FROM audit WHERE run_id = $4 AND n > $1 AND ($2 IS NULL OR kind = $2) \
             AND ($3 IS NULL OR actor = $3) AND ($6 IS NULL OR at >= $6) \
             AND ($7 IS NULL OR at < $7) ORDER BY n LIMIT $5"
        } else {
            "SELECT n, id, at, kind, actor, surface, run_id, request_id, data, prev_hash, hash \
             FROM audit WHERE n > $1 AND ($2 IS NULL OR kind = $2) \
             AND ($3 IS NULL OR actor = $3) AND ($4 IS NULL OR run_id = $4) \
             AND ($6 IS NULL OR at >= $6) AND ($7 IS NULL OR at < $7) ORDER BY n LIMIT $5"
        };
        let rows = query(sql)
            .bind(cols::int(filter.after))
            .bind(filter.kind.clone())
            .bind(filter.actor.clone())
            .bind(filter.run_id.map(|id| id.to_string()))
            .bind(i64::from(limit))
            .bind(filter.since.map(Timestamp::as_micros))
            .bind(filter.until.map(Timestamp::as_micros))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the audit trail"))?;
        rows.iter().map(audit_row).collect()
    }
}

/// A row must be written exactly as we write it: what is read back in another way, such as a name
/// that stands twice in `data`, was not written by us, and the hash would not cover it.
fn audit_row(row: &Row) -> Result<AuditRow, StoreError> {
    let found = read(row)?;
    let mut c = Cols::new(row);
    let texts: (String, Option<String>, String) = (c.at(1)?, c.at(6)?, c.at(8)?);
    let run_id = found.run_id.map(|id| id.to_string());
    if texts != (found.id.to_string(), run_id, found.data.to_string()) {
        return Err(StoreError::Corrupt {
            what: format!("audit row {} was not written by us", found.n),
        });
    }
    Ok(found)
}

fn read(row: &Row) -> Result<AuditRow, StoreError> {
    let mut c = Cols::new(row);
    Ok(AuditRow {
        n: c.number()?,
        id: c.parsed()?,
        at: c.time()?,
        kind: c.text()?,
        actor: c.text()?,
        surface: c.text()?,
        run_id: c.parsed_opt()?,
        request_id: c.raw()?,
        data: c.json()?,
        prev_hash: c.text()?,
        hash: c.text()?,
    })
}
