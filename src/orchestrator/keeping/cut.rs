//! The old end of the audit trail: removed behind a signed cut.
//!
//! Invariants: the cut is stored and recorded before the first row goes, and never moves back; it is
//! the row of a signed checkpoint, and not of the newest one.

use serde_json::json;

use super::{Inner, Pace, entry, retention::RetentionReport};
use crate::{
    auth::trail::{Seal, sign},
    domain::{AuditKind, Timestamp, audit::Checkpoint},
    store::{Durability, Reader, StoreError},
};

/// Checkpoints that are looked at in one go.
const PAGE: u32 = 200;

impl Inner {
    /// Cuts the audit trail behind the last signed row that is old, and removes what is before.
    pub(super) async fn cut_trail(
        &self,
        before: Timestamp,
        report: &mut RetentionReport,
    ) -> Result<(), StoreError> {
        let mut reader = self.store.read().await?;
        let cut = reader.checkpoints().cut().await?;
        let newest = reader.checkpoints().last().await?.map_or(0, |newest| newest.n);
        let next = next_cut(&mut reader, cut.as_ref(), before, newest).await?;
        drop(reader);
        let begin = cut.as_ref().map_or(0, |cut| cut.n);
        let end = next.as_ref().map_or(begin, |next| next.n);
        if report.dry_run {
            report.audit_cut = next.map(|next| next.n);
            report.add("audit", end - begin);
            return Ok(());
        }
        if let Some(next) = next {
            let Some(key) = self.signer.keys().first().cloned() else { return Ok(()) };
            report.audit_cut = Some(next.n);
            self.store
                .write(Durability::Full, move |tx| {
                    Box::pin(async move {
                        let cut = sign(&key, Seal::Cut, next.n, &next.hash, tx.now());
                        // Another replica may have cut off more meanwhile.
                        if tx.checkpoints().put_cut(&cut).await? {
                            let data = json!({ "what": "audit trail cut", "cut": cut });
                            tx.audit(entry(AuditKind::Retention, None, data));
                        }
                        Ok::<_, StoreError>(())
                    })
                })
                .await?;
        }
        // Also what a crash has left of the last cut.
        let mut pace = Pace::new();
        loop {
            let limit = pace.begin();
            let rows = self
                .store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move { tx.keeping().remove_cut_rows(end, limit).await })
                })
                .await?;
            report.add("audit", rows);
            pace.end().await;
            if rows < u64::from(limit) {
                break;
            }
        }
        Ok(())
    }
}

/// The newest checkpoint whose row may go: it is old, and not the newest of all, so that the file
/// outside always names a row that is there.
async fn next_cut(
    reader: &mut Reader,
    cut: Option<&Checkpoint>,
    before: Timestamp,
    newest: u64,
) -> Result<Option<Checkpoint>, StoreError> {
    let mut after = cut.map_or(0, |cut| cut.n);
    let mut found = None;
    loop {
        let page = reader.checkpoints().after(after, PAGE).await?;
        if page.is_empty() {
            return Ok(found);
        }
        for checkpoint in page {
            // A checkpoint is younger than every row that it covers.
            if checkpoint.at >= before || checkpoint.n >= newest {
                return Ok(found);
            }
            after = checkpoint.n;
            found = Some(checkpoint);
        }
    }
}
