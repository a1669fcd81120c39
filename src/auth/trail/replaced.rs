//! Rows whose content was replaced when a person was erased.
//!
//! A row keeps its number, its hash and its place in the chain; what it says about the person is
//! replaced. A later row of the trail lists the rows and the hashes of what they hold now, and is
//! signed over that list: the chain vouches for the row that lists, the signature for the list. A row
//! that holds something else than its hash says, and is on no such list, was tampered with.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Seal, sign};
use crate::{
    auth::keys::Key,
    domain::{
        Timestamp,
        audit::{AuditKind, AuditRow, Checkpoint},
    },
};

/// A list of replaced rows, as the row that vouches for them holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// Numbers of the rows, and the hash (hex) of what each holds now.
    pub rows: Vec<(u64, String)>,
    /// The signature over them.
    pub seal: Checkpoint,
}

impl Replaced {
    /// The list of a row, if it holds one.
    pub(super) fn of(row: &AuditRow) -> Option<Result<Self, serde_json::Error>> {
        if row.kind != AuditKind::Erase.as_str() {
            return None;
        }
        row.data.get("replaced").map(|list| serde_json::from_value(list.clone()))
    }

    /// Whether the signature is about these rows.
    pub(super) fn is_about_its_rows(&self) -> bool {
        let last = self.rows.iter().map(|(n, _)| *n).max().unwrap_or(0);
        self.seal.n == last && self.seal.hash == digest(&self.rows)
    }
}

/// What the row that vouches for replaced rows holds: `what` was done under which erasure, the rows,
/// and the signature.
pub fn replaced_entry(key: &Key, erasure: &str, rows: Vec<(u64, String)>, at: Timestamp) -> Value {
    let last = rows.iter().map(|(n, _)| *n).max().unwrap_or(0);
    let seal = sign(key, Seal::Replaced, last, &digest(&rows), at);
    json!({ "what": "rows replaced", "erasure": erasure, "replaced": Replaced { rows, seal } })
}

fn digest(rows: &[(u64, String)]) -> String {
    let mut digest = Sha256::new();
    for (n, hash) in rows {
        // Numbers have no space, hashes are hex: no two lists give the same bytes.
        digest.update(format!("{n} {}:{hash}\n", hash.len()));
    }
    data_encoding::HEXLOWER.encode(&digest.finalize())
}
