//! Many rows in few statements: what a group commit gathered is written here.

use super::{
    db::{Conn, Query, built},
    error::StoreError,
};

/// Rows of one statement at most on SQLite; each width is a statement that stays prepared. Postgres
/// takes columns as arrays: one statement whatever the width.
const BULK: usize = 16;
/// Rows of one statement at most on Postgres: a bound for the memory of a trip.
const BULK_OF_ARRAYS: usize = 1_024;

/// A statement about many rows: what stands before and after them. In between the rows are columns
/// `column1`, `column2` and so on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bulk {
    pub(super) before: &'static str,
    pub(super) columns: usize,
    pub(super) after: &'static str,
}

impl Bulk {
    /// An insert; `before` ends behind the names of the columns.
    pub(super) const fn insert(before: &'static str, columns: usize) -> Self {
        Self { before, columns, after: "" }
    }

    /// Runs it for all rows.
    pub(super) async fn run<R: Sync>(
        self,
        conn: &mut Conn,
        rows: &[R],
        bind: impl FnMut(Query, &R) -> Result<Query, StoreError> + Send,
    ) -> Result<(), StoreError> {
        self.count(conn, rows, bind).await.map(drop)
    }

    /// The same; how many it changed.
    pub(super) async fn count<R: Sync>(
        self,
        conn: &mut Conn,
        rows: &[R],
        mut bind: impl FnMut(Query, &R) -> Result<Query, StoreError> + Send,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        let width = if conn.is_shared() { BULK_OF_ARRAYS } else { BULK };
        for chunk in rows.chunks(width) {
            let mut values = built(String::new());
            for row in chunk {
                values = bind(values, row)?;
            }
            let query = if conn.is_shared() {
                values.transpose(self)?
            } else {
                let places = places(self.columns, chunk.len());
                values.with_text(format!("{}VALUES {places}{}", self.before, self.after))
            };
            let done = query.execute(conn).await;
            changed += done.map_err(StoreError::unavailable("write rows to the store"))?;
        }
        Ok(changed)
    }
}

/// `($1, $2), ($3, $4)` for two columns and two rows.
pub(super) fn places(columns: usize, rows: usize) -> String {
    let tuple = |row: usize| {
        let places: Vec<String> =
            (1..=columns).map(|c| format!("${}", row * columns + c)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(tuple).collect::<Vec<_>>().join(", ")
}
