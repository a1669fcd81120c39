//! Erasing a person: the durable jobs, and the rows of a person wherever they stand.
//!
//! Invariants: every statement takes a bounded number of rows, found by a key or in a table that is
//! small by a limit; doing it again changes nothing. What is to be masked is decided above: here
//! texts come and go as they are stored.

mod person;
mod texts;
mod traces;

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{Erasure, ErasureId, Timestamp};
pub use person::{FileCall, RunOfPerson};
pub use texts::{Texts, TextsOf};

/// Access to erasures and to what is stored about a person.
#[derive(Debug)]
pub struct Erasures<'c> {
    pub(super) conn: &'c mut Conn,
}

macro_rules! columns {
    () => {
        "id, principal, names, pseudonym, step, place, counts, asked_at, asked_by, ended_at, receipt"
    };
}

impl Erasures<'_> {
    /// Stores a new erasure. There must be no open one of the person.
    pub async fn insert(&mut self, e: &Erasure) -> Result<(), StoreError> {
        query(concat!(
            "INSERT INTO erasures (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        ))
        .bind(e.id.to_string())
        .bind(e.principal.map(|id| id.to_string()))
        .bind(cols::json(&e.names)?)
        .bind(e.pseudonym.to_string())
        .bind(e.step.clone())
        .bind(e.place.clone())
        .bind(cols::json(&e.counts)?)
        .bind(e.asked_at.as_micros())
        .bind(e.asked_by.to_string())
        .bind(e.ended_at.map(Timestamp::as_micros))
        .bind(e.receipt.as_ref().map(cols::json).transpose()?)
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store an erasure"))
    }

    /// Stores how far an erasure came, and whom it is about as long as it says so.
    pub async fn save(&mut self, e: &Erasure) -> Result<(), StoreError> {
        query(
            "UPDATE erasures SET principal = $2, names = $3, step = $4, place = $5, counts = $6, \
             ended_at = $7, receipt = $8 WHERE id = $1",
        )
        .bind(e.id.to_string())
        .bind(e.principal.map(|id| id.to_string()))
        .bind(e.principal.map(|_| cols::json(&e.names)).transpose()?)
        .bind(e.step.clone())
        .bind(e.place.clone())
        .bind(cols::json(&e.counts)?)
        .bind(e.ended_at.map(Timestamp::as_micros))
        .bind(e.receipt.as_ref().map(cols::json).transpose()?)
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store an erasure"))
    }

    /// One erasure.
    pub async fn get(&mut self, id: ErasureId) -> Result<Option<Erasure>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM erasures WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read an erasure"))?;
        row.as_ref().map(erasure).transpose()
    }

    /// The erasures that are not done, oldest first.
    pub async fn open(&mut self) -> Result<Vec<Erasure>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM erasures WHERE ended_at IS NULL ORDER BY id"
        ))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the erasures"))?;
        rows.iter().map(erasure).collect()
    }

    /// Erasures, newest first.
    pub async fn list(&mut self, page: &Page) -> Result<Paged<Erasure>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM erasures WHERE id < $1 ORDER BY id DESC LIMIT $2"
        ))
        .bind(page.before())
        .bind(page.rows())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list erasures"))?;
        let items = rows.iter().map(erasure).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |e| e.id.to_string()))
    }
}

fn erasure(row: &Row) -> Result<Erasure, StoreError> {
    let mut c = Cols::new(row);
    Ok(Erasure {
        id: c.parsed()?,
        principal: c.parsed_opt()?,
        names: c.json_opt::<Vec<String>>()?.unwrap_or_default(),
        pseudonym: c.parsed()?,
        step: c.text()?,
        place: c.text()?,
        counts: c.json()?,
        asked_at: c.time()?,
        asked_by: c.parsed()?,
        ended_at: c.time_opt()?,
        receipt: c.json_opt()?,
    })
}
