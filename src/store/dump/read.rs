//! Reading one moment of a store.

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};

use super::{
    Cell, ColumnKind, RowCells, RowsHash, Table, TableSum,
    catalogue::{self, word},
};
use crate::store::{ReadOnlyStore, Store, StoreError, bulk};

/// Rows of the first batch of a table; later ones grow or shrink with what rows weigh.
const ROWS_FIRST: usize = 64;
/// Rows of a batch at most.
const ROWS_MAX: usize = 2_048;
/// Bytes of a batch that are too many: the next one is smaller.
const BATCH_BYTES: usize = 1 << 20;

/// One moment of a store, read over a connection of its own. While it lives, SQLite keeps the log
/// of what is written meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    conn: SqliteConnection,
    schema: i64,
    tables: Vec<Table>,
}

impl Store {
    /// This moment of the store.
    ///
    /// # Errors
    /// When it cannot be read, or holds a table that no dump can hold.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::begin(&self.readers).await
    }
}

impl ReadOnlyStore {
    /// This moment of the store.
    ///
    /// # Errors
    /// When it cannot be read, or holds a table that no dump can hold.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::begin(&self.readers).await
    }
}

impl Snapshot {
    async fn begin(pool: &sqlx::SqlitePool) -> Result<Self, StoreError> {
        let doing = "begin to read a moment of the store";
        let options = pool.connect_options();
        let mut conn = options.connect().await.map_err(StoreError::unavailable(doing))?;
        // A deferred transaction that only reads: its first read fixes the moment.
        sqlx::query("BEGIN").execute(&mut conn).await.map_err(StoreError::unavailable(doing))?;
        let schema = catalogue::schema(&mut conn).await?;
        let tables = catalogue::tables(&mut conn).await?;
        Ok(Self { conn, schema, tables })
    }

    /// The number of the schema.
    pub const fn schema(&self) -> i64 {
        self.schema
    }

    /// Every table.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// How often a daemon has opened the store; 0: it is as it was made.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn starts(&mut self) -> Result<i64, StoreError> {
        sqlx::query_scalar("SELECT value FROM counters WHERE name = 'boot_epoch'")
            .fetch_one(&mut self.conn)
            .await
            .map_err(StoreError::unavailable("read how often the store was opened"))
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        let sql = format!("SELECT COUNT(*) FROM {}", word(&table.name)?);
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut self.conn)
            .await
            .map_err(StoreError::unavailable("count the rows of a table"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Begins to read a table.
    pub fn rows(&self, table: &Table) -> Cursor {
        Cursor { table: table.clone(), last: None, limit: ROWS_FIRST, hash: RowsHash::default() }
    }

    /// The next rows of a table as lines, at the end of `out`; false at its end.
    ///
    /// # Errors
    /// When they cannot be read, or a value is not what its column says.
    pub async fn next(
        &mut self,
        cursor: &mut Cursor,
        out: &mut Vec<u8>,
    ) -> Result<bool, StoreError> {
        let rows = cursor.batch(&mut self.conn).await?;
        let start = out.len();
        for row in &rows {
            cursor.hash.add(row, out)?;
        }
        let is_whole = rows.len() == cursor.limit;
        cursor.limit = match out.len() - start {
            bytes if bytes > BATCH_BYTES => (cursor.limit / 2).max(1),
            bytes if bytes < BATCH_BYTES / 4 => (cursor.limit * 2).min(ROWS_MAX),
            _ => cursor.limit,
        };
        cursor.last = rows.into_iter().next_back().or_else(|| cursor.last.take());
        Ok(is_whole)
    }

    /// The sum of a table, its rows read once more or for this alone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn sum(&mut self, table: &Table) -> Result<TableSum, StoreError> {
        let mut cursor = self.rows(table);
        let mut lines = Vec::new();
        while self.next(&mut cursor, &mut lines).await? {
            lines.clear();
        }
        Ok(cursor.finish())
    }

    /// Lets go of the moment.
    pub async fn end(self) {
        self.conn.close().await.unwrap_or_default();
    }
}

/// How far a table was read.
#[derive(Debug)]
pub struct Cursor {
    table: Table,
    last: Option<RowCells>,
    limit: usize,
    hash: RowsHash,
}

impl Cursor {
    /// Rows read so far.
    pub const fn rows(&self) -> u64 {
        self.hash.rows()
    }

    /// The sum of what was read.
    pub fn finish(self) -> TableSum {
        self.hash.finish(&self.table.name)
    }

    async fn batch(&self, conn: &mut SqliteConnection) -> Result<Vec<RowCells>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(self.text()?));
        for place in self.last.iter().flat_map(|_| &self.table.key) {
            query = match self.last.as_ref().and_then(|row| row.get(*place)) {
                Some(Cell::Text(text)) => query.bind(text.clone()),
                Some(Cell::Number(number)) => query.bind(*number),
                Some(Cell::Null) | None => {
                    let what = format!("a row of {} whose key is empty", self.table.name);
                    return Err(StoreError::Corrupt { what });
                }
            };
        }
        let rows = query
            .fetch_all(conn)
            .await
            .map_err(StoreError::unavailable("read the rows of a table"))?;
        rows.iter().map(|row| self.cells(row)).collect()
    }

    /// The statement for the next rows: those after the last key.
    fn text(&self) -> Result<String, StoreError> {
        let names = |places: &[usize]| {
            let name = |place: &usize| self.table.columns.get(*place).map(|c| word(&c.name));
            places.iter().filter_map(name).collect::<Result<Vec<_>, _>>().map(|n| n.join(", "))
        };
        let all: Vec<usize> = (0..self.table.columns.len()).collect();
        let (columns, key) = (names(&all)?, names(&self.table.key)?);
        let after = match &self.last {
            Some(_) => format!(" WHERE ({key}) > {}", bulk::places(self.table.key.len(), 1)),
            None => String::new(),
        };
        let (table, limit) = (word(&self.table.name)?, self.limit);
        Ok(format!("SELECT {columns} FROM {table}{after} ORDER BY {key} LIMIT {limit}"))
    }

    fn cells(&self, row: &sqlx::sqlite::SqliteRow) -> Result<RowCells, StoreError> {
        let columns = self.table.columns.iter().enumerate();
        columns
            .map(|(place, column)| {
                let cell = match column.kind {
                    ColumnKind::Text => row
                        .try_get::<Option<String>, _>(place)
                        .map(|text| text.map_or(Cell::Null, Cell::Text)),
                    ColumnKind::Number => row
                        .try_get::<Option<i64>, _>(place)
                        .map(|number| number.map_or(Cell::Null, Cell::Number)),
                };
                cell.map_err(|error| StoreError::Corrupt {
                    what: format!("column {} of {}: {error}", column.name, self.table.name),
                })
            })
            .collect()
    }
}
