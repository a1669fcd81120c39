//! Filling an empty store.

use std::path::{Path, PathBuf};

use super::{
    Cell, ColumnKind, Purpose, RowCells, Table, TableSum,
    catalogue::{self, word},
    classes, read,
};
use crate::store::{
    Database, OpenError, StoreError,
    backend::{self, postgres, sqlite},
    bulk, database_file,
    db::{Conn, built},
};

/// Rows of one statement.
const ROWS: usize = 32;
/// The one table in which a fresh schema has rows.
const COUNTERS: &str = "counters";

/// A new store that is being filled. Nothing of it counts before [`commit`](Self::commit).
#[derive(Debug)]
pub struct Target {
    conn: Conn,
    tables: Vec<Table>,
    /// Where the database is, if it is a file.
    pub(super) file: Option<PathBuf>,
}

/// Why a database was not taken to be filled.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Something is in it.
    #[error("the database holds something already: table {0} is not empty; choose an empty one")]
    NotEmpty(String),
    /// It cannot be opened or made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Target {
    /// Makes the database of a data directory that has none, or takes an empty one on a server,
    /// with the schema of this number, for a dump that was made for this purpose.
    ///
    /// # Errors
    /// When there is something in it, this version does not know the schema, or it cannot be made.
    pub async fn create(
        data_dir: &Path,
        database: &Database,
        schema: i64,
        purpose: Purpose,
    ) -> Result<Self, TargetError> {
        let file = matches!(database, Database::Sqlite).then(|| database_file(data_dir));
        let conn = backend::create(data_dir, database, schema).await?;
        Self::begin(conn, file, schema, purpose).await
    }

    async fn begin(
        mut conn: Conn,
        file: Option<PathBuf>,
        schema: i64,
        purpose: Purpose,
    ) -> Result<Self, TargetError> {
        let doing = "begin to fill the store";
        let begin = if conn.is_shared() {
            format!("{}; BEGIN; {}", postgres::UNHURRIED, postgres::lock_writers())
        } else {
            "BEGIN IMMEDIATE".to_owned()
        };
        conn.run(begin).await.map_err(StoreError::unavailable(doing))?;
        let found = catalogue::schema(&mut conn).await?;
        if found != schema {
            let what =
                format!("the database has schema {found}, and {schema} is to be put into it");
            return Err(StoreError::Corrupt { what }.into());
        }
        let mut tables = catalogue::tables(&mut conn).await?;
        for table in &tables {
            let is_used = if table.name == COUNTERS {
                read::starts(&mut conn).await? != 0
            } else {
                read::count(&mut conn, table).await? != 0
            };
            if is_used {
                return Err(TargetError::NotEmpty(table.name.clone()));
            }
        }
        tables.retain(|table| classes::of(&table.name).is_kept(purpose));
        // A fresh schema has rows of its own: those of the dump stand for them.
        let clear = built(format!("DELETE FROM {COUNTERS}")).execute(&mut conn).await;
        clear.map_err(StoreError::unavailable(doing))?;
        Ok(Self { conn, tables, file })
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
            let mut query = built(format!("INSERT INTO {name} ({columns}) VALUES {places}"));
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

    /// The sum of what was put into a table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn sum(&mut self, table: &Table) -> Result<TableSum, StoreError> {
        read::sum(&mut self.conn, table).await
    }

    /// Makes everything count, durably.
    ///
    /// # Errors
    /// When the database does not do it; then nothing of it counts.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let doing = "commit what fills the store";
        let commit = self.conn.run(sqlite::COMMIT.to_owned()).await;
        commit.map_err(StoreError::unavailable(doing))?;
        if self.file.is_some() {
            let fold = self.conn.run(sqlite::FOLD_LOG.to_owned()).await;
            fold.map_err(StoreError::unavailable("fold the log into the database"))?;
        }
        self.conn.close().await.map_err(StoreError::unavailable(doing))
    }
}
