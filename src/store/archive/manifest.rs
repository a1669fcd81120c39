//! What a backup says about itself.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::dump::{Table, TableSum};
use crate::domain::Timestamp;

/// Its first file: what it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of the layout.
    pub format: u32,
    /// The backup's id.
    pub id: String,
    /// The moment.
    pub made_at: Timestamp,
    /// The version of the program that wrote it.
    pub version: String,
    /// Number of the database's schema.
    pub schema: i64,
    /// The tables, as the database described them.
    pub tables: Vec<Table>,
}

/// Things in trees of files that no backup holds, because they are no content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Sockets, pipes and devices.
    pub special: u64,
    /// Files and directories that could not be read.
    pub unreadable: u64,
    /// Files that were changed while they were read: their length is that of the beginning.
    pub changed: u64,
}

/// Its last file but one: the sums of everything before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The backup's id.
    pub id: String,
    /// What each table held.
    pub tables: Vec<TableSum>,
    /// How many files, directories and links there are beside the database.
    pub files: u64,
    /// SHA-256 over the name, kind, mode and content of everything before this file, as hex.
    pub sha256: String,
    /// What was left out.
    pub left_out: LeftOut,
}

/// Its last file: a keyed hash over the manifest, by a key that is derived from the permission
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key.
    pub key_id: String,
    /// HMAC-SHA256, as hex.
    pub mac: String,
}

/// A manifest as it is written, and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The bytes that are signed.
    pub text: Vec<u8>,
    /// The signature; none where there was no permission secret.
    pub signature: Option<Signature>,
}

/// Adds up everything that a backup holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum(Sha256);

impl Sum {
    /// A thing begins: its kind, mode, length and name.
    pub(super) fn begin(&mut self, kind: char, mode: u32, bytes: u64, name: &[u8]) {
        self.0.update(format!("{kind} {mode:o} {bytes} {} ", name.len()));
        self.0.update(name);
        self.0.update(b"\n");
    }

    /// Its content.
    pub(super) fn content(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum as hex.
    pub(super) fn finish(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0.finalize())
    }
}
