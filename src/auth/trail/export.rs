//! An export: rows and checkpoints as JSON Lines, each checkpoint behind its row, and a last line
//! that says that this is the end.

use std::io::BufRead;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Report, Seal, TrailCheck};
use crate::{
    auth::keys::Key,
    domain::audit::{AuditRow, Checkpoint},
};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A row of the trail.
    Row(Box<AuditRow>),
    /// A signed checkpoint.
    Checkpoint {
        /// The checkpoint.
        checkpoint: Checkpoint,
    },
    /// Where the trail begins because what is older was removed; only as the first line.
    Cut {
        /// The last row that is gone.
        cut: Checkpoint,
    },
    /// The end; signed by whoever has the key, else with an empty key and signature.
    End {
        /// The last row.
        end: Checkpoint,
    },
}

impl Line {
    /// Reads a line that was written exactly like this one would be: an unknown or repeated name, or
    /// a number in another form, is something that nobody signed.
    fn read(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("no JSON: {e}"))?;
        let is_other = ["checkpoint", "cut", "end"].iter().any(|name| value.get(name).is_some());
        let line = if is_other {
            serde_json::from_value(value).map_err(|e| e.to_string())
        } else {
            // Not through the enum, whose error would say nothing.
            serde_json::from_value(value).map(Self::Row).map_err(|e| format!("no audit row: {e}"))
        }?;
        match serde_json::to_string(&line) {
            Ok(written) if written == text => Ok(line),
            _ => Err("the line was not written by an export".to_owned()),
        }
    }
}

/// Checks an export. Needs nothing else; with keys, signatures are checked too.
///
/// # Errors
/// When it cannot be read.
pub fn verify_export(lines: impl BufRead, keys: Option<&[Key]>) -> std::io::Result<Report> {
    let mut check = TrailCheck::new(keys);
    let mut has_ended = false;
    let mut is_first = true;
    for line in lines.split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        if has_ended {
            check.unreadable("there is more behind the end of the export");
            break;
        }
        let was_first = std::mem::replace(&mut is_first, false);
        match Line::read(&text) {
            Ok(Line::Cut { cut }) if was_first => check.begins_after(&cut),
            Ok(Line::Cut { .. }) => check.unreadable("a cut that is not the first line"),
            Ok(Line::Row(row)) => check.row(&row),
            Ok(Line::Checkpoint { checkpoint }) => check.checkpoint(&checkpoint, Seal::Checkpoint),
            Ok(Line::End { end }) => {
                has_ended = true;
                check.checkpoint(&end, Seal::ExportEnd);
            }
            Err(what) => check.unreadable(what),
        }
    }
    if !has_ended {
        check.cut_off();
    }
    Ok(check.finish())
}
