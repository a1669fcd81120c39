//! Reading one moment of a store.

use super::{
    Cell, ColumnKind, Purpose, RowCells, RowsHash, Table, TableSum,
    catalogue::{self, word},
    classes,
};
use crate::{
    domain::Clock,
    store::{
        ReadOnlyStore, Store, StoreError,
        backend::{Pool, postgres},
        beside::database_now,
        bulk,
        db::{Conn, Row, built, query},
    },
};

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
    conn: Conn,
    schema: i64,
    tables: Vec<Table>,
    /// Older schemas know of one daemon alone.
    has_replicas: bool,
}

impl Store {
    /// This moment of the store, for a second one.
    ///
    /// # Errors
    /// When it cannot be read, or holds a table that no dump can hold.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::begin(&self.readers, Purpose::Copy).await
    }
}

impl ReadOnlyStore {
    /// This moment of the store.
    ///
    /// # Errors
    /// When it cannot be read, or holds a table that no dump can hold.
    pub async fn snapshot(&self, purpose: Purpose) -> Result<Snapshot, StoreError> {
        Snapshot::begin(&self.readers, purpose).await
    }
}

impl Snapshot {
    async fn begin(pool: &Pool, purpose: Purpose) -> Result<Self, StoreError> {
        let doing = "begin to read a moment of the store";
        let mut conn = pool.own().await?;
        let begin = if conn.is_shared() {
            format!("{}; {}", postgres::UNHURRIED, postgres::MOMENT)
        } else {
            // A deferred transaction that only reads: its first read fixes the moment.
            "BEGIN".to_owned()
        };
        conn.run(begin).await.map_err(StoreError::unavailable(doing))?;
        let schema = catalogue::schema(&mut conn).await?;
        let mut tables = catalogue::tables(&mut conn).await?;
        let has_replicas = tables.iter().any(|table| table.name == "replicas");
        tables.retain(|table| classes::of(&table.name).is_kept(purpose));
        Ok(Self { conn, schema, tables, has_replicas })
    }

    /// The number of the schema.
    pub const fn schema(&self) -> i64 {
        self.schema
    }

    /// Every table that goes along.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// How often a daemon has opened the store; 0: it is as it was made.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn starts(&mut self) -> Result<i64, StoreError> {
        starts(&mut self.conn).await
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        count(&mut self.conn, table).await
    }

    /// How many daemons are at work on the store, as far as it says. On a server its clock counts,
    /// not `clock`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn at_work(&mut self, clock: &dyn Clock) -> Result<u64, StoreError> {
        if !self.has_replicas {
            return Ok(0);
        }
        let now = database_now(&mut self.conn, clock).await?;
        let text = "SELECT COUNT(*) FROM replicas WHERE ended_at IS NULL AND expires_at > $1";
        let live = query(text).bind(now.as_micros()).one_number(&mut self.conn).await;
        let live = live.map_err(StoreError::unavailable("read which daemons are at work"))?;
        Ok(u64::try_from(live).unwrap_or(0))
    }

    /// Begins to read a table.
    pub fn rows(&self, table: &Table) -> Cursor {
        Cursor::new(table)
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
        cursor.next(&mut self.conn, out).await
    }

    /// The sum of a table, its rows read once more or for this alone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn sum(&mut self, table: &Table) -> Result<TableSum, StoreError> {
        sum(&mut self.conn, table).await
    }

    /// Lets go of the moment: the database need not remember it any longer.
    pub async fn end(&mut self) {
        // A connection that is gone has let go already.
        self.conn.run("ROLLBACK".to_owned()).await.map(drop).unwrap_or_default();
    }
}

pub(super) async fn starts(conn: &mut Conn) -> Result<i64, StoreError> {
    query("SELECT value FROM counters WHERE name = 'boot_epoch'")
        .one_number(conn)
        .await
        .map_err(StoreError::unavailable("read how often the store was opened"))
}

pub(super) async fn count(conn: &mut Conn, table: &Table) -> Result<u64, StoreError> {
    let count = built(format!("SELECT COUNT(*) FROM {}", word(&table.name)?)).one_number(conn);
    let count = count.await.map_err(StoreError::unavailable("count the rows of a table"))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) async fn sum(conn: &mut Conn, table: &Table) -> Result<TableSum, StoreError> {
    let mut cursor = Cursor::new(table);
    let mut lines = Vec::new();
    while cursor.next(conn, &mut lines).await? {
        lines.clear();
    }
    Ok(cursor.finish())
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
    fn new(table: &Table) -> Self {
        Self { table: table.clone(), last: None, limit: ROWS_FIRST, hash: RowsHash::default() }
    }

    async fn next(&mut self, conn: &mut Conn, out: &mut Vec<u8>) -> Result<bool, StoreError> {
        let rows = self.batch(conn).await?;
        let start = out.len();
        for row in &rows {
            self.hash.add(row, out)?;
        }
        let is_whole = rows.len() == self.limit;
        self.limit = match out.len() - start {
            bytes if bytes > BATCH_BYTES => (self.limit / 2).max(1),
            bytes if bytes < BATCH_BYTES / 4 => (self.limit * 2).min(ROWS_MAX),
            _ => self.limit,
        };
        self.last = rows.into_iter().next_back().or_else(|| self.last.take());
        Ok(is_whole)
    }

    /// Rows read so far.
    pub const fn rows(&self) -> u64 {
        self.hash.rows()
    }

    /// The sum of what was read.
    pub fn finish(self) -> TableSum {
        self.hash.finish(&self.table.name)
    }

    async fn batch(&self, conn: &mut Conn) -> Result<Vec<RowCells>, StoreError> {
        let mut query = built(self.text()?);
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

    fn cells(&self, row: &Row) -> Result<RowCells, StoreError> {
        let columns = self.table.columns.iter().enumerate();
        columns
            .map(|(place, column)| {
                let cell = match column.kind {
                    ColumnKind::Text => row
                        .column::<Option<String>>(place)
                        .map(|text| text.map_or(Cell::Null, Cell::Text)),
                    ColumnKind::Number => row
                        .column::<Option<i64>>(place)
                        .map(|number| number.map_or(Cell::Null, Cell::Number)),
                };
                cell.map_err(|error| StoreError::Corrupt {
                    what: format!("column {} of {}: {error}", column.name, self.table.name),
                })
            })
            .collect()
    }
}
