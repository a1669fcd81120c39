//! Everything that a store holds, as text that either database takes back: for backups and for
//! moving from one database to another.
//!
//! Invariants: a [`Snapshot`] is one moment of the database, however long it is read and whatever is
//! written meanwhile. Which tables, columns and keys there are is what the database's own catalogue
//! says, so that a new table cannot be forgotten; one that has no key, or a column that is neither
//! text nor a 64-bit number, stops the dump. What says who is at work on this database stays here
//! ([`Class`]), and a second store has an identity of its own ([`Purpose`]): neither can be taken for
//! the other. Rows come in the order of their primary key, which both databases order alike (bytes of
//! text, value of numbers), so that the same rows have the same hash on both. What is loaded is there
//! whole or not at all.

mod catalogue;
mod classes;
mod load;
mod read;
mod rows;

#[cfg(test)]
pub(super) use classes::known;
pub use classes::{Class, Purpose};
pub use load::{Target, TargetError};
pub use read::{Cursor, Snapshot};
pub use rows::{RowsHash, read_line};

/// What a column holds: nothing else is stored, so that both databases give back what they took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// `TEXT`.
    Text,
    /// `BIGINT`.
    Number,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

/// A row, in the order of its table's columns.
pub type RowCells = Vec<Cell>;

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// A table, as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, by name: the order in which they were added may differ from one database to
    /// another.
    pub columns: Vec<Column>,
    /// Places in `columns` of the primary key, in the key's order. Never empty.
    pub key: Vec<usize>,
}

/// What was read of a table, or is in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TableSum {
    /// The table.
    pub name: String,
    /// How many rows.
    pub rows: u64,
    /// SHA-256 over the rows' lines in the order of the key, as hex.
    pub sha256: String,
}
