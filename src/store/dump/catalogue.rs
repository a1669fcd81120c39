//! What the database itself says about its tables.

use super::{Column, ColumnKind, Table};
use crate::store::{
    StoreError,
    backend::{postgres, sqlite},
    db::{Conn, query},
};

/// Tables that say how the database was made; a target has its own.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

fn odd(what: String) -> StoreError {
    StoreError::Corrupt { what }
}

/// The number of the last migration.
pub(super) async fn schema(conn: &mut Conn) -> Result<i64, StoreError> {
    query("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success")
        .one_number(conn)
        .await
        .map_err(StoreError::unavailable("read the number of the schema"))
}

/// Every table, by name.
pub(super) async fn tables(conn: &mut Conn) -> Result<Vec<Table>, StoreError> {
    let text = if conn.is_shared() { postgres::CATALOGUE } else { sqlite::CATALOGUE };
    let rows =
        query(text).fetch_all(conn).await.map_err(StoreError::unavailable("read the catalogue"))?;
    let mut found = Vec::new();
    for row in &rows {
        let read = |e: sqlx::Error| odd(format!("the catalogue: {e}"));
        found.push(Found {
            table: row.column(0).map_err(read)?,
            column: row.column(1).map_err(read)?,
            kind: row.column(2).map_err(read)?,
            place_in_key: row.column(3).map_err(read)?,
        });
    }
    group(found)
}

/// A column, as the catalogue gives it.
struct Found {
    table: String,
    column: String,
    kind: String,
    /// From 1; 0: not part of the key.
    place_in_key: i64,
}

/// Puts columns that come ordered by table and name together.
fn group(found: Vec<Found>) -> Result<Vec<Table>, StoreError> {
    let mut tables: Vec<(Table, Vec<(i64, usize)>)> = Vec::new();
    for Found { table, column, kind, place_in_key } in found {
        if table == MIGRATIONS_TABLE {
            continue;
        }
        let kind = match kind.to_ascii_uppercase().as_str() {
            "TEXT" => ColumnKind::Text,
            "BIGINT" => ColumnKind::Number,
            other => return Err(odd(format!("column {column} of {table} is {other}"))),
        };
        if tables.last().is_none_or(|(last, _)| last.name != table) {
            let new = Table { name: table, columns: Vec::new(), key: Vec::new() };
            tables.push((new, Vec::new()));
        }
        if let Some((table, key)) = tables.last_mut() {
            if place_in_key > 0 {
                key.push((place_in_key, table.columns.len()));
            }
            table.columns.push(Column { name: column, kind });
        }
    }
    let with_key = |(mut table, mut key): (Table, Vec<(i64, usize)>)| {
        key.sort_unstable();
        table.key = key.into_iter().map(|(_, place)| place).collect();
        if table.key.is_empty() {
            return Err(odd(format!("table {} has no primary key", table.name)));
        }
        Ok(table)
    };
    tables.into_iter().map(with_key).collect()
}

/// A name of the catalogue as SQL takes it. Ours are plain words; anything else is refused.
pub(super) fn word(name: &str) -> Result<&str, StoreError> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !name.is_empty() && name.bytes().all(is_plain) {
        Ok(name)
    } else {
        Err(odd(format!("{name:?} is no name of a table or a column")))
    }
}
