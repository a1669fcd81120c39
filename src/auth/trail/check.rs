//! Goes through a trail row by row.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{Seal, Signature, signature};
use crate::{
    auth::keys::Key,
    domain::{
        Timestamp,
        audit::{AuditRow, Checkpoint},
    },
    store::audit::{ChainError, Verifier},
};

/// Findings that are listed; more are only counted.
const FINDINGS_MAX: usize = 20;
/// Rows older than this, seen from the newest row, must be signed: the daemon does so every minute,
/// and at once when it starts or stops.
const UNSIGNED_MAX: Duration = Duration::from_secs(300);

/// Something that a trail as it was written does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The chain is broken.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A row or line cannot be read, or was not written by us.
    #[error("after row {after}: {what}")]
    Unreadable {
        /// The last good row.
        after: u64,
        /// What is wrong.
        what: String,
    },
    /// There were more rows once.
    #[error("rows were cut off: a checkpoint names row {n}, the trail ends with row {end}")]
    Cut {
        /// The row that was signed.
        n: u64,
        /// Where the trail ends.
        end: u64,
    },
    /// The row is not the one that was signed.
    #[error("row {n} is not the row that its checkpoint names: the trail was replaced")]
    Replaced {
        /// The row.
        n: u64,
    },
    /// A signature is false.
    #[error("the checkpoint at row {n} is forged: its signature does not hold")]
    Forged {
        /// The row.
        n: u64,
    },
    /// A signature cannot be checked although there are keys.
    #[error(
        "the checkpoint at row {n} was signed with the key {key_id}, which is not here: name the \
         permission secret of that time as the previous one"
    )]
    OtherKey {
        /// The row.
        n: u64,
        /// The key's id.
        key_id: String,
    },
    /// A key that was replaced has signed again.
    #[error(
        "the checkpoint at row {n} was signed with the key {key_id} after another one had taken its \
         place: who has the old key has written here"
    )]
    OldKey {
        /// The row.
        n: u64,
        /// The key's id.
        key_id: String,
    },
    /// The key in force has signed nothing.
    #[error(
        "the newest checkpoint, at row {n}, was not signed with the key in force: if the permission \
         secret was changed just now start the daemon once, otherwise the trail was replaced"
    )]
    NotCurrent {
        /// The row.
        n: u64,
    },
    /// Checkpoints are missing where there must be some.
    #[error("{rows} rows after row {after} are not signed, though they are old enough to be")]
    Unsigned {
        /// The last row that is signed.
        after: u64,
        /// How many rows.
        rows: u64,
    },
    /// The database and the file outside of it do not hold the same checkpoints.
    #[error("the checkpoint at row {n} stands outside the database and not in it")]
    Missing {
        /// The row.
        n: u64,
    },
    /// An export does not end as exports do.
    #[error("the export ends after row {after} without its last line: it was cut off")]
    NoEnd {
        /// The last row.
        after: u64,
    },
}

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing was found.
    pub ok: bool,
    /// Good rows.
    pub rows: u64,
    /// Hash (hex) of the last good one.
    pub hash: String,
    /// Checkpoints that agree with the rows.
    pub checkpoints: u64,
    /// Checkpoints whose signature was checked and holds; none when there was no key.
    pub signed: Option<u64>,
    /// Good rows after the last checkpoint: nothing but the chain vouches for them.
    pub unsigned_rows: u64,
    /// What is wrong, the first twenty.
    pub problems: Vec<String>,
}

/// A check in progress.
#[derive(Debug)]
pub struct TrailCheck<'k> {
    keys: Option<&'k [Key]>,
    verifier: Verifier,
    /// Checkpoints by their row.
    expected: BTreeMap<u64, Vec<Checkpoint>>,
    findings: Vec<Finding>,
    /// The chain is broken: rows behind it say nothing.
    is_broken: bool,
    checkpoints: u64,
    signed: u64,
    /// The key in force has signed: older ones may not any more.
    is_current: bool,
    /// It is the trail of a daemon and no export: the key in force must have signed its end.
    is_own: bool,
    /// The last row with a good checkpoint, and when the first row behind it was written.
    covered: u64,
    first_unsigned: Option<Timestamp>,
    newest: Option<Timestamp>,
}

impl<'k> TrailCheck<'k> {
    /// Without keys signatures are not looked at.
    pub fn new(keys: Option<&'k [Key]>) -> Self {
        Self {
            keys,
            verifier: Verifier::default(),
            expected: BTreeMap::new(),
            findings: Vec::new(),
            is_broken: false,
            checkpoints: 0,
            signed: 0,
            is_current: false,
            is_own: false,
            covered: 0,
            first_unsigned: None,
            newest: None,
        }
    }

    /// Names the checkpoints of the database and those outside of it, before the rows.
    pub fn expect(&mut self, stored: Vec<Checkpoint>, outside: Vec<Checkpoint>) {
        self.is_own = true;
        for checkpoint in stored {
            self.expected.entry(checkpoint.n).or_default().push(checkpoint);
        }
        for checkpoint in outside {
            let known = self.expected.entry(checkpoint.n).or_default();
            if known.is_empty() {
                self.findings.push(Finding::Missing { n: checkpoint.n });
            }
            if !known.contains(&checkpoint) {
                known.push(checkpoint);
            }
        }
    }

    /// Checks the next row.
    pub fn row(&mut self, row: &AuditRow) {
        if self.is_broken {
            return;
        }
        if let Err(error) = self.verifier.check(row) {
            self.is_broken = true;
            self.findings.push(error.into());
            return;
        }
        self.newest = self.newest.max(Some(row.at));
        self.first_unsigned = self.first_unsigned.or(Some(row.at));
        for checkpoint in self.expected.remove(&row.n).unwrap_or_default() {
            self.checkpoint(&checkpoint, Seal::Checkpoint);
        }
    }

    /// Checks a checkpoint of the row that was just read.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint, seal: Seal) {
        let n = checkpoint.n;
        let (end, hash) = self.verifier.end();
        if self.is_broken {
            return;
        }
        if n > end {
            return self.findings.push(Finding::Cut { n, end });
        }
        if n < end || hash != checkpoint.hash {
            return self.findings.push(Finding::Replaced { n });
        }
        if let Some(keys) = self.keys {
            match signature(keys, seal, checkpoint) {
                Signature::Good => {
                    let is_current = keys.first().is_some_and(|k| k.id() == checkpoint.key_id);
                    if self.is_current && !is_current {
                        let key_id = checkpoint.key_id.clone();
                        return self.findings.push(Finding::OldKey { n, key_id });
                    }
                    self.is_current |= is_current;
                    self.signed += 1;
                }
                Signature::Forged => return self.findings.push(Finding::Forged { n }),
                Signature::OtherKey => {
                    let key_id = checkpoint.key_id.clone();
                    return self.findings.push(Finding::OtherKey { n, key_id });
                }
            }
        }
        self.checkpoints += 1;
        self.covered = n;
        self.first_unsigned = None;
    }

    /// Something that cannot be read stands where a row should.
    pub fn unreadable(&mut self, what: impl Into<String>) {
        if !self.is_broken {
            let after = self.verifier.end().0;
            self.findings.push(Finding::Unreadable { after, what: what.into() });
            self.is_broken = true;
        }
    }

    /// The number of the last good row.
    pub fn end(&self) -> u64 {
        self.verifier.end().0
    }

    pub(super) fn cut_off(&mut self) {
        let after = self.end();
        self.findings.push(Finding::NoEnd { after });
    }

    /// The end of the rows.
    pub fn finish(mut self) -> Report {
        let (rows, hash) = (self.end(), self.verifier.end().1.to_owned());
        if !self.is_broken {
            let missing = std::mem::take(&mut self.expected).into_keys();
            self.findings.extend(missing.map(|n| Finding::Cut { n, end: rows }));
            let age =
                self.newest.zip(self.first_unsigned).map(|(newest, first)| newest.since(first));
            if self.is_own && self.signed > 0 && !self.is_current {
                self.findings.push(Finding::NotCurrent { n: self.covered });
            }
            if self.keys.is_some() && age.is_some_and(|age| age > UNSIGNED_MAX) {
                let (after, rows) = (self.covered, rows - self.covered);
                self.findings.push(Finding::Unsigned { after, rows });
            }
        }
        let shown = self.findings.iter().take(FINDINGS_MAX).map(ToString::to_string);
        let mut problems: Vec<String> = shown.collect();
        if let Some(more) = self.findings.len().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
            problems.push(format!("and {more} more"));
        }
        Report {
            ok: self.findings.is_empty(),
            rows,
            hash,
            checkpoints: self.checkpoints,
            signed: self.keys.map(|_| self.signed),
            unsigned_rows: rows.saturating_sub(self.covered),
            problems,
        }
    }
}
