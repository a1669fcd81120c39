//! The audit trail without a person: rows lose the name, and a signed row vouches for them.

use std::collections::{BTreeMap, BTreeSet};

use super::{entry, words::Person};
use crate::{
    auth::{keys::Key, trail::replaced_entry},
    domain::{AuditKind, Erasure, RunId, RunState, audit::AuditRow},
    orchestrator::Inner,
    store::{AuditFilter, Durability, StoreError, audit::hash},
};

/// Rows that are read at once; so many are replaced in one transaction at most.
const PAGE: u32 = 200;

/// What a person did to a run of somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Steers that they sent.
    pub(super) steers: BTreeSet<String>,
    /// They ended it, with words of their own perhaps.
    pub(super) cancelled: bool,
    /// They answered a question of it.
    pub(super) answered: bool,
}

/// A page of the trail, looked through.
pub(super) struct Looked {
    /// Rows that must be replaced, without the person.
    pub(super) rows: Vec<AuditRow>,
    /// Runs of others that the person did something to.
    pub(super) touched: BTreeMap<RunId, Touched>,
    /// The last row of the page; none at the end.
    pub(super) last: Option<u64>,
}

impl Inner {
    /// Looks through the next rows after `after`. `own` are runs of the person, as the rows before said:
    /// some are gone, and only the trail tells of them still.
    pub(super) async fn look_through(
        &self,
        person: &Person,
        after: u64,
        own: &mut BTreeSet<RunId>,
    ) -> Result<Looked, StoreError> {
        let mut reader = self.store.read().await?;
        let begin = reader.checkpoints().cut().await?.map_or(0, |cut| cut.n);
        let filter = AuditFilter { after: after.max(begin), ..AuditFilter::default() };
        let page = reader.audit().query(&filter, PAGE).await?;
        let mut looked =
            Looked { rows: Vec::new(), touched: BTreeMap::new(), last: page.last().map(|r| r.n) };
        let mut owners: BTreeMap<RunId, Option<bool>> = BTreeMap::new();
        let (id, pseudonym) = (person.id.to_string(), person.pseudonym.to_string());
        for mut row in page {
            let is_by = row.actor == id;
            if let Some(run) = row.run_id.filter(|_| is_by || row.actor == pseudonym)
                && is_beginning(&row)
            {
                own.insert(run);
            }
            let whose = match row.run_id {
                Some(run) if !owners.contains_key(&run) => {
                    let theirs = reader.erasures().is_theirs(run, person.id).await?;
                    owners.insert(run, theirs);
                    theirs
                }
                Some(run) => owners.get(&run).copied().flatten(),
                None => None,
            };
            let whose = whose.or_else(|| own.contains(&row.run_id?).then_some(true));
            if let (true, Some(run), Some(false)) = (is_by, row.run_id, whose) {
                looked.touched.entry(run).or_default().note(&row);
            }
            // A list of replaced rows vouches for them: its numbers and hashes stay.
            let list = row.data.as_object_mut().and_then(|data| data.remove("replaced"));
            let mut is_changed = person.scrub_json(&mut row.data, is_by || whose == Some(true));
            if let (Some(list), Some(data)) = (list, row.data.as_object_mut()) {
                data.insert("replaced".to_owned(), list);
            }
            if is_by {
                row.actor = person.pseudonym.to_string();
                is_changed = true;
            }
            if is_changed {
                looked.rows.push(row);
            }
        }
        Ok(looked)
    }

    /// Replaces rows, with the row that vouches for them, and stores how far the erasure came: one
    /// transaction.
    pub(super) async fn replace_rows(
        &self,
        rows: Vec<AuditRow>,
        erasure: Erasure,
    ) -> Result<(), StoreError> {
        let key = self.signer.keys().first().cloned();
        self.store
            .write(Durability::Full, move |tx| {
                Box::pin(async move {
                    let mut list = Vec::with_capacity(rows.len());
                    for row in &rows {
                        let data = row.data.to_string();
                        tx.erasures().replace_audit_row(row.n, &row.actor, &data).await?;
                        list.push((row.n, hash(row)));
                    }
                    if !list.is_empty() {
                        let key: Key = key.ok_or(StoreError::Unavailable {
                            doing: "sign the replaced rows of the audit trail",
                            source: None,
                        })?;
                        let data = replaced_entry(&key, &erasure.id.to_string(), list, tx.now());
                        tx.audit(entry(AuditKind::Erase, None, data));
                    }
                    tx.erasures().save(&erasure).await
                })
            })
            .await
    }
}

/// Whether a row says that a run was created.
fn is_beginning(row: &AuditRow) -> bool {
    let text = |name: &str| row.data.get(name).and_then(serde_json::Value::as_str);
    row.kind == AuditKind::RunState.as_str()
        && text("from").is_none()
        && text("to") == Some(RunState::Queued.as_str())
}

impl Touched {
    fn note(&mut self, row: &AuditRow) {
        let text = |name: &str| row.data.get(name).and_then(serde_json::Value::as_str);
        match text("verb") {
            Some("steer") => self.steers.extend(text("steer_id").map(str::to_owned)),
            Some("cancel") => self.cancelled = true,
            Some("resume") => self.answered |= text("reason") == Some("input"),
            Some(_) | None => {}
        }
    }
}
