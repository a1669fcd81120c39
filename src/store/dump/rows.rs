//! Rows as lines of JSON: an array for each, its values in the order of the table's columns.

use sha2::{Digest, Sha256};

use super::{Cell, ColumnKind, RowCells, Table, TableSum};
use crate::store::StoreError;

/// Adds up the rows of one table.
#[derive(Clone, Debug, Default)]
pub struct RowsHash {
    hash: Sha256,
    rows: u64,
}

impl RowsHash {
    /// Adds a row and writes its line to the end of `out`.
    ///
    /// # Errors
    /// Never for rows that a store gave.
    pub fn add(&mut self, row: &RowCells, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let start = out.len();
        serde_json::to_writer(&mut *out, row)
            .map_err(|e| StoreError::Corrupt { what: format!("a row cannot be written: {e}") })?;
        out.push(b'\n');
        self.hash.update(out.get(start..).unwrap_or_default());
        self.rows += 1;
        Ok(())
    }

    /// How many rows were added.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The sum.
    pub fn finish(self, table: &str) -> TableSum {
        TableSum {
            name: table.to_owned(),
            rows: self.rows,
            sha256: data_encoding::HEXLOWER.encode(&self.hash.finalize()),
        }
    }
}

/// Reads a line that [`RowsHash::add`] wrote.
///
/// # Errors
/// When it is no row of this table.
pub fn read_line(table: &Table, line: &[u8]) -> Result<RowCells, StoreError> {
    let wrong =
        |what: String| StoreError::Corrupt { what: format!("table {}: {what}", table.name) };
    let row: RowCells = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
    if row.len() != table.columns.len() {
        return Err(wrong(format!("{} values for {} columns", row.len(), table.columns.len())));
    }
    for (cell, column) in row.iter().zip(&table.columns) {
        let fits = match (cell, column.kind) {
            (Cell::Null, _)
            | (Cell::Text(_), ColumnKind::Text)
            | (Cell::Number(_), ColumnKind::Number) => true,
            (Cell::Text(_), ColumnKind::Number) | (Cell::Number(_), ColumnKind::Text) => false,
        };
        if !fits {
            return Err(wrong(format!("column {} holds something else", column.name)));
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::dump::Column;

    fn table() -> Table {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind };
        Table {
            name: "t".to_owned(),
            columns: vec![column("a", ColumnKind::Text), column("b", ColumnKind::Number)],
            key: vec![0],
        }
    }

    #[test]
    fn every_value_comes_back_as_it_was_and_counts() {
        let texts =
            ["", "plain", "\"quoted\"\\\n\t\u{1}", "é \u{1f469}\u{200d}\u{1f4bb}", "null", "1"];
        let numbers = [0, 1, -1, i64::MAX, i64::MIN];
        let mut sums = std::collections::BTreeSet::new();
        for cells in texts
            .map(|t| vec![Cell::Text(t.to_owned()), Cell::Null])
            .into_iter()
            .chain(numbers.map(|n| vec![Cell::Null, Cell::Number(n)]))
        {
            let (mut hash, mut line) = (RowsHash::default(), Vec::new());
            hash.add(&cells, &mut line).unwrap();
            assert_eq!(line.iter().position(|b| *b == b'\n'), Some(line.len() - 1), "one line");
            assert_eq!(read_line(&table(), &line).unwrap(), cells);
            assert!(sums.insert(hash.finish("t").sha256), "another row, the same hash: {cells:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_row_of_the_table_is_refused() {
        for line in
            ["", "[]", "[1,2]", "[\"a\",\"b\"]", "[\"a\",1,2]", "{}", "[\"a\",1.5]", "[\"a\",true]"]
        {
            let refused = read_line(&table(), line.as_bytes());
            assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{line}: {refused:?}");
        }
    }
}
