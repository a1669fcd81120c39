//! Reading a row column by column, in the order of the query. A value that cannot be is
//! [`StoreError::Corrupt`], never a guess.

use std::str::FromStr;

use super::{
    db::{Column, Row},
    error::StoreError,
};
use crate::domain::Timestamp;
use serde::de::DeserializeOwned;

pub(super) struct Cols<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Cols<'r> {
    pub(super) const fn new(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn raw<T: Column<'r>>(&mut self) -> Result<T, StoreError> {
        let column = self.next;
        self.next += 1;
        self.row.column(column).map_err(|error| corrupt(column, &error))
    }

    /// A column by its place, as it is.
    pub(super) fn at<T: Column<'r>>(&mut self, column: usize) -> Result<T, StoreError> {
        self.next = column;
        self.raw()
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        self.raw()
    }

    /// Text that names a value of a type: an id, a state, a role.
    pub(super) fn parsed<T: FromStr>(&mut self) -> Result<T, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        let column = self.next;
        let text: &str = self.raw()?;
        text.parse().map_err(|error| corrupt(column, &error))
    }

    pub(super) fn parsed_opt<T: FromStr>(&mut self) -> Result<Option<T>, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        let column = self.next;
        let text: Option<&str> = self.raw()?;
        text.map(|t| t.parse().map_err(|error| corrupt(column, &error))).transpose()
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let column = self.next;
        let text: &str = self.raw()?;
        serde_json::from_str(text).map_err(|error| corrupt(column, &error))
    }

    pub(super) fn json_opt<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        let column = self.next;
        let text: Option<&str> = self.raw()?;
        text.map(|t| serde_json::from_str(t).map_err(|error| corrupt(column, &error))).transpose()
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError>
    where
        T::Error: std::fmt::Display,
    {
        let column = self.next;
        let value: i64 = self.raw()?;
        T::try_from(value).map_err(|error| corrupt(column, &error))
    }

    pub(super) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.raw::<i64>()? != 0)
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_micros(self.raw()?))
    }

    pub(super) fn time_opt(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.raw::<Option<i64>>()?.map(Timestamp::from_micros))
    }
}

fn corrupt(column: usize, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("column {column}: {error}") }
}

/// A count as the database holds it. Counts stay far below the bound; past it they stick there.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// JSON text of a value of ours.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Corrupt { what: format!("cannot write JSON: {error}") })
}
