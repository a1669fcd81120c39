//! Whether an audit trail is the one that was written: its chain, and the signed checkpoints that
//! stand in the database, outside of it and in exports.
//!
//! Invariants: nothing here reads a clock or a file; what cannot be understood is a finding, never
//! skipped. Without keys the chain and the checkpoints are held against each other; with them each
//! signature too, so that a trail which was replaced as a whole shows. Rows may lose a person's name,
//! and old rows may be removed: only by a row of the trail, or a record, that the daemon signed.

mod check;
mod export;
mod replaced;

use data_encoding::HEXLOWER;

pub use check::{Finding, Report, TrailCheck};
pub use export::{Line, verify_export};
pub use replaced::{Replaced, replaced_entry};

use super::keys::Key;
use crate::domain::{Timestamp, audit::Checkpoint};

/// What a signature is for: one meant for the database cannot stand at the end of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The trail had this row as its end.
    Checkpoint,
    /// An export ends with this row.
    ExportEnd,
    /// This row and all before it were removed because they were old.
    Cut,
    /// Rows up to this one were replaced; the hash is over the list of them.
    Replaced,
}

/// Signs the end of a trail.
pub fn sign(key: &Key, seal: Seal, n: u64, hash: &str, at: Timestamp) -> Checkpoint {
    // Signed as it will be read back: exports carry milliseconds.
    let at = Timestamp::from_micros(at.as_micros() / 1_000 * 1_000);
    let mut checkpoint =
        Checkpoint { n, hash: hash.to_owned(), at, key_id: key.id(), mac: String::new() };
    checkpoint.mac = HEXLOWER.encode(&key.mac(&message(seal, &checkpoint)));
    checkpoint
}

/// How a signature turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// One of the keys made it.
    Good,
    /// The key that it names did not make it.
    Forged,
    /// It names a key that is not here.
    OtherKey,
}

/// Checks a signature with the keys that are known.
pub fn signature(keys: &[Key], seal: Seal, checkpoint: &Checkpoint) -> Signature {
    let Some(key) = keys.iter().find(|key| key.id() == checkpoint.key_id) else {
        return Signature::OtherKey;
    };
    let mac = HEXLOWER.decode(checkpoint.mac.as_bytes()).unwrap_or_default();
    if key.verifies(&message(seal, checkpoint), &mac) { Signature::Good } else { Signature::Forged }
}

fn message(seal: Seal, checkpoint: &Checkpoint) -> Vec<u8> {
    let seal = match seal {
        Seal::Checkpoint => "checkpoint",
        Seal::ExportEnd => "export end",
        Seal::Cut => "cut",
        Seal::Replaced => "replaced",
    };
    let Checkpoint { n, hash, at, key_id, .. } = checkpoint;
    // Every field but the last two is of a fixed form without line breaks, and these are hex.
    format!("agent-runtime audit {seal} v1\n{n}\n{}\n{hash}\n{key_id}", at.as_micros()).into_bytes()
}

#[cfg(test)]
mod tests;
