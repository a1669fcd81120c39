//! Filling an empty store.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::{
    Cell, ColumnKind, RowCells, Table,
    catalogue::{self, word},
};
use crate::store::{OpenError, StoreError, backend, bulk};

/// Rows of one statement.
const ROWS: usize = 32;

/// A new store that is being filled. Nothing of it counts before [`commit`](Self::commit).
#[derive(Debug)]
pub struct Target {
    conn: SqliteConnection,
    tables: Vec<Table>,
}

impl Target {
    /// Makes the database of a data directory that has none, with the schema of this number.
    ///
    /// # Errors
    /// When there is a database, this version does not know the schema, or it cannot be made.
    pub async fn create(data_dir: &Path, schema: i64) -> Result<Self, OpenError> {
        let conn = backend::create(data_dir, schema).await?;
        Self::begin(conn).await.map_err(|error| OpenError::Damaged {
            file: backend::database_file(data_dir),
            detail: error.to_string(),
        })
    }

    async fn begin(mut conn: SqliteConnection) -> Result<Self, StoreError> {
        let tables = catalogue::tables(&mut conn).await?;
        let doing = "begin to fill the store";
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut conn)
            .await
            .map_err(StoreError::unavailable(doing))?;
        // A fresh schema has rows of its own, such as counters: those of the dump stand for them.
        for table in &tables {
            let sql = format!("DELETE FROM {}", word(&table.name)?);
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut conn)
                .await
                .map_err(StoreError::unavailable(doing))?;
        }
        Ok(Self { conn, tables })
    }

    /// Its tables, which must be those of the dump.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Puts rows into a table.
    ///
    /// # Errors
    /// When the database does not take them.
    pub async fn insert(&mut self, table: &Table, rows: &[RowCells]) -> Result<(), StoreError> {
        let columns = table.columns.iter().map(|c| word(&c.name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?.join(", ");
        let name = word(&table.name)?;
        for some in rows.chunks(ROWS) {
            let places = bulk::places(table.columns.len(), some.len());
            let sql = format!("INSERT INTO {name} ({columns}) VALUES {places}");
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (cell, column) in some.iter().flat_map(|row| row.iter().zip(&table.columns)) {
                query = match (cell, column.kind) {
                    (Cell::Text(text), _) => query.bind(text.clone()),
                    (Cell::Number(number), _) => query.bind(*number),
                    (Cell::Null, ColumnKind::Text) => query.bind(None::<String>),
                    (Cell::Null, ColumnKind::Number) => query.bind(None::<i64>),
                };
            }
            query
                .execute(&mut self.conn)
                .await
                .map_err(StoreError::unavailable("fill a table of the store"))?;
        }
        Ok(())
    }

    /// Makes everything count, durably.
    ///
    /// # Errors
    /// When the database does not do it; then nothing of it counts.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let doing = "commit what fills the store";
        sqlx::query("COMMIT")
            .execute(&mut self.conn)
            .await
            .map_err(StoreError::unavailable(doing))?;
        backend::fold_log(&mut self.conn).await?;
        self.conn.close().await.map_err(StoreError::unavailable(doing))
    }
}
