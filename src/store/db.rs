//! Statements and rows, whichever database it is: the same text runs on SQLite and on Postgres.
//!
//! Values are text and 64-bit integers only: both databases know them alike. Only our own constant
//! text and place holders reach a database as SQL; every value is bound.

use std::time::Duration;

use super::{bulk::Bulk, error::StoreError};
use sqlx::{
    AssertSqlSafe, Database, Decode, Postgres, Row as _, SqlStr, Sqlite, Type,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};

/// A connection of one's own, or one that goes back to its pool.
pub(super) enum Hold<D: Database> {
    Own(D::Connection),
    Lent(PoolConnection<D>),
}

impl<D: Database> Hold<D> {
    pub(super) fn get(&mut self) -> &mut D::Connection {
        match self {
            Self::Own(own) => own,
            Self::Lent(lent) => lent,
        }
    }
}

/// How long an answer to a reader may take: longer than the server's own bound, so that it is
/// reached only when the answer is lost on its way.
const ANSWER_MAX: Duration = Duration::from_secs(17);

/// Waits for an answer of Postgres. A connection on which none came is not used again; the writer
/// has a bound of its own for its groups.
macro_rules! in_time {
    ($hold:expr, |$conn:ident| $ask:expr) => {
        match $hold {
            Hold::Own($conn) => $ask.await,
            Hold::Lent(lent) => {
                let $conn = &mut **lent;
                match tokio::time::timeout(ANSWER_MAX, $ask).await {
                    Ok(answer) => answer,
                    Err(late) => {
                        lent.close_on_drop();
                        Err(sqlx::Error::Io(late.into()))
                    }
                }
            }
        }
    };
}

/// A connection to either database.
pub(super) enum Conn {
    Sqlite(Hold<Sqlite>),
    Postgres(Hold<Postgres>),
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "Sqlite",
            Self::Postgres(_) => "Postgres",
        })
    }
}

impl Conn {
    /// Whether others may write at the same time.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Ends it; what it holds is on the disk then.
    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(Hold::Own(own)) => sqlx::Connection::close(own).await,
            Self::Postgres(Hold::Own(own)) => sqlx::Connection::close(own).await,
            Self::Sqlite(Hold::Lent(_)) | Self::Postgres(Hold::Lent(_)) => Ok(()),
        }
    }

    /// Runs texts without values, separated by `;`, in one trip.
    pub(super) async fn run(&mut self, texts: String) -> Result<Vec<Row>, sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(texts));
        match self {
            Self::Sqlite(conn) => {
                Ok(sql.fetch_all(conn.get()).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(conn) => {
                Ok(sql.fetch_all(conn.get()).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }
}

/// A row of either database.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What both databases can give.
pub(super) trait Column<'r>:
    Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>
{
}

impl<'r, T> Column<'r> for T where
    T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>
{
}

impl Row {
    /// A column by its place.
    pub(super) fn column<'r, T: Column<'r>>(&'r self, place: usize) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(place),
            Self::Postgres(row) => row.try_get(place),
        }
    }
}

/// A value for a place in a statement.
pub(super) enum Value {
    Text(String),
    Name(&'static str),
    Number(i64),
    NoText,
    NoNumber,
    /// A column of many rows, for Postgres alone.
    Texts(Vec<Option<String>>),
    /// The same of numbers.
    Numbers(Vec<Option<i64>>),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&'static str> for Value {
    fn from(name: &'static str) -> Self {
        Self::Name(name)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::NoText, Self::Text)
    }
}

impl From<Option<&'static str>> for Value {
    fn from(name: Option<&'static str>) -> Self {
        name.map_or(Self::NoText, Self::Name)
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::NoNumber, Self::Number)
    }
}

/// What is done with the rows that are read, where others may write at the same time. SQLite has
/// one writer, for whom nothing changes under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lock {
    /// Nothing: they are only looked at.
    #[default]
    None,
    /// They are about to be changed: nobody else does before the end of the transaction.
    Update,
    /// The same; those that somebody else is changing are left out.
    SkipLocked,
}

impl Lock {
    /// [`Update`](Self::Update) in a transaction that may change what it reads.
    pub(super) const fn when(changes: bool) -> Self {
        if changes { Self::Update } else { Self::None }
    }

    /// <https://www.postgresql.org/docs/15/sql-select.html#SQL-FOR-UPDATE-SHARE>
    const fn words(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Update => " FOR UPDATE",
            Self::SkipLocked => " FOR UPDATE SKIP LOCKED",
        }
    }
}

enum Text {
    Fixed(&'static str),
    Built(String),
}

/// A statement and the values of its places.
pub(super) struct Query {
    text: Text,
    values: Vec<Value>,
    lock: Lock,
}

/// A statement of constant text.
pub(super) const fn query(text: &'static str) -> Query {
    Query { text: Text::Fixed(text), values: Vec::new(), lock: Lock::None }
}

/// A statement put together from constant texts, as many rows of places for example.
pub(super) const fn built(text: String) -> Query {
    Query { text: Text::Built(text), values: Vec::new(), lock: Lock::None }
}

impl Query {
    /// The value of the next place.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// What is done with the rows.
    pub(super) const fn lock(mut self, lock: Lock) -> Self {
        self.lock = lock;
        self
    }

    pub(super) fn with_text(self, text: String) -> Self {
        Self { text: Text::Built(text), ..self }
    }

    /// The values of many rows, one after the other, as one array for each column.
    /// <https://www.postgresql.org/docs/15/functions-array.html> (`unnest` of several arrays)
    pub(super) fn transpose(self, bulk: Bulk) -> Result<Self, StoreError> {
        let odd = || StoreError::Corrupt { what: "rows of different columns".to_owned() };
        let mut columns: Vec<Value> = Vec::with_capacity(bulk.columns);
        let mut values = self.values.into_iter().peekable();
        while values.peek().is_some() {
            for place in 0..bulk.columns {
                let value = values.next().ok_or_else(odd)?;
                if columns.len() == place {
                    columns.push(match &value {
                        Value::Number(_) | Value::NoNumber => Value::Numbers(Vec::new()),
                        _ => Value::Texts(Vec::new()),
                    });
                }
                match (columns.get_mut(place), value) {
                    (Some(Value::Texts(all)), Value::Text(text)) => all.push(Some(text)),
                    (Some(Value::Texts(all)), Value::Name(name)) => all.push(Some(name.to_owned())),
                    (Some(Value::Texts(all)), Value::NoText) => all.push(None),
                    (Some(Value::Numbers(all)), Value::Number(number)) => all.push(Some(number)),
                    (Some(Value::Numbers(all)), Value::NoNumber) => all.push(None),
                    _ => return Err(odd()),
                }
            }
        }
        let arrays = columns.iter().zip(1_usize..).map(|(column, n)| match column {
            Value::Numbers(_) => format!("${n}::BIGINT[]"),
            _ => format!("${n}::TEXT[]"),
        });
        let names = (1..=bulk.columns).map(|n| format!("column{n}"));
        let text = format!(
            "{}SELECT * FROM UNNEST({}) AS u({}){}",
            bulk.before,
            arrays.collect::<Vec<_>>().join(", "),
            names.collect::<Vec<_>>().join(", "),
            bulk.after
        );
        Ok(Self { text: Text::Built(text), values: columns, lock: Lock::None })
    }

    fn for_sqlite(self) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
        let mut query = match self.text {
            Text::Fixed(text) => sqlx::query(SqlStr::from_static(text)),
            Text::Built(text) => sqlx::query(AssertSqlSafe(text)),
        };
        for value in self.values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Name(name) => query.bind(name),
                Value::Number(number) => query.bind(number),
                Value::NoText | Value::Texts(_) => query.bind(None::<String>),
                Value::NoNumber | Value::Numbers(_) => query.bind(None::<i64>),
            };
        }
        query
    }

    fn for_postgres(self) -> sqlx::query::Query<'static, Postgres, PgArguments> {
        let mut query = match (self.text, self.lock) {
            (Text::Fixed(text), Lock::None) => sqlx::query(SqlStr::from_static(text)),
            (Text::Fixed(text), lock) => {
                sqlx::query(AssertSqlSafe(format!("{text}{}", lock.words())))
            }
            (Text::Built(text), lock) => sqlx::query(AssertSqlSafe(text + lock.words())),
        };
        for value in self.values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Name(name) => query.bind(name),
                Value::Number(number) => query.bind(number),
                Value::NoText => query.bind(None::<String>),
                Value::NoNumber => query.bind(None::<i64>),
                Value::Texts(texts) => query.bind(texts),
                Value::Numbers(numbers) => query.bind(numbers),
            };
        }
        query
    }

    /// Runs it; how many rows it changed.
    pub(super) async fn execute(self, conn: &mut Conn) -> Result<u64, sqlx::Error> {
        match conn {
            Conn::Sqlite(conn) => Ok(self.for_sqlite().execute(conn.get()).await?.rows_affected()),
            Conn::Postgres(conn) => {
                let query = self.for_postgres();
                Ok(in_time!(conn, |c| query.execute(c))?.rows_affected())
            }
        }
    }

    /// Its rows.
    pub(super) async fn fetch_all(self, conn: &mut Conn) -> Result<Vec<Row>, sqlx::Error> {
        match conn {
            Conn::Sqlite(conn) => {
                let rows = self.for_sqlite().fetch_all(conn.get()).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Conn::Postgres(conn) => {
                let query = self.for_postgres();
                let rows = in_time!(conn, |c| query.fetch_all(c))?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Its first row.
    pub(super) async fn fetch_optional(self, conn: &mut Conn) -> Result<Option<Row>, sqlx::Error> {
        match conn {
            Conn::Sqlite(conn) => {
                Ok(self.for_sqlite().fetch_optional(conn.get()).await?.map(Row::Sqlite))
            }
            Conn::Postgres(conn) => {
                let query = self.for_postgres();
                let row = in_time!(conn, |c| query.fetch_optional(c))?;
                Ok(row.map(Row::Postgres))
            }
        }
    }

    /// Its first row, which there must be.
    pub(super) async fn fetch_one(self, conn: &mut Conn) -> Result<Row, sqlx::Error> {
        self.fetch_optional(conn).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The number in the first column of its first row.
    pub(super) async fn number(self, conn: &mut Conn) -> Result<Option<i64>, sqlx::Error> {
        self.fetch_optional(conn).await?.map(|row| row.column(0)).transpose()
    }

    /// The same where there must be one.
    pub(super) async fn one_number(self, conn: &mut Conn) -> Result<i64, sqlx::Error> {
        self.number(conn).await?.ok_or(sqlx::Error::RowNotFound)
    }
}
