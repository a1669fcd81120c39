//! Many rows in few statements: what a group commit gathered is written here.

use sqlx::{AssertSqlSafe, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::error::StoreError;

/// Rows of one bulk insert at most; each width is a statement that stays prepared.
pub(super) const BULK: usize = 16;

pub(super) type Bound<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

/// Inserts rows, up to [`BULK`] to a statement: few enough widths for all of them to stay in the
/// connection's cache.
pub(super) async fn bulk<R: Sync>(
    conn: &mut SqliteConnection,
    insert: &str,
    columns: usize,
    rows: &[R],
    mut bind: impl for<'q> FnMut(Bound<'q>, &R) -> Result<Bound<'q>, StoreError> + Send,
) -> Result<(), StoreError> {
    for chunk in rows.chunks(BULK) {
        insert_rows(conn, insert, columns, chunk, &mut bind).await?;
    }
    Ok(())
}

async fn insert_rows<R: Sync>(
    conn: &mut SqliteConnection,
    insert: &str,
    columns: usize,
    rows: &[R],
    bind: &mut (impl for<'q> FnMut(Bound<'q>, &R) -> Result<Bound<'q>, StoreError> + Send),
) -> Result<(), StoreError> {
    // Only our own constant text and place holders: every value is bound.
    let sql = AssertSqlSafe(format!("{insert}{}", places(columns, rows.len())));
    let mut query = sqlx::query(sql);
    for row in rows {
        query = bind(query, row)?;
    }
    query.execute(conn).await.map(drop).map_err(StoreError::unavailable("append to the store"))
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
