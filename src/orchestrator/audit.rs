//! The audit trail for those who read it, and its signed checkpoints.
//!
//! Invariants: rows that are a minute old, or a thousand behind, are signed; at start and at the
//! daemon's end every row is. A checkpoint stands in the database and in a file outside of it; what
//! cannot be written there is tried again and told, never dropped silently.

use std::{path::PathBuf, sync::Mutex, time::Duration};

use serde_json::json;

use super::{Inner, Orchestrator, cluster::Duty, error::CommandError, transition::Actor};
use crate::{
    auth::{
        Permit, ReadAudit,
        keys::Key,
        trail::{Line, Report, Seal, TrailCheck, sign},
    },
    domain::{
        AuditEntry, AuditKind, Timestamp,
        audit::{AuditRow, Checkpoint},
    },
    runtime::{Stop, Tasks, tasks::lock},
    store::{AuditFilter, Durability, Reader, StoreError, outside},
};

/// Rows that are signed at once when so many wait.
const ROWS_MAX: u64 = 1_000;
/// Time after which rows are signed however few they are.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often to look.
const LOOK: Duration = Duration::from_secs(1);
/// Rows read at once.
const PAGE: u32 = 500;

/// What signs the trail, and where to.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The key in force first, then those of before.
    pub keys: Vec<Key>,
    /// The file outside the database; it is appended to.
    pub checkpoint_file: PathBuf,
}

/// Signs the trail.
#[derive(Debug)]
pub(super) struct Signer {
    options: AuditOptions,
    /// Checkpoints that are not outside yet.
    waiting: Mutex<Vec<Checkpoint>>,
}

/// One page of rows.
#[derive(Debug, serde::Serialize)]
pub struct AuditPage {
    /// The rows, oldest first.
    pub items: Vec<AuditRow>,
    /// Where the next page begins; none at the end.
    pub next_cursor: Option<String>,
}

impl Signer {
    pub(super) fn new(options: AuditOptions) -> Self {
        Self { options, waiting: Mutex::default() }
    }
}

impl Orchestrator {
    /// Signs the end of the trail, if anything was written since the last time.
    ///
    /// # Errors
    /// When the store cannot be written, or the file outside of it.
    pub async fn sign_trail(&self) -> Result<Option<Checkpoint>, CommandError> {
        self.inner.sign_trail(None).await
    }

    /// The same because somebody asked; their asking is the row that is signed.
    ///
    /// # Errors
    /// As [`sign_trail`](Self::sign_trail).
    pub async fn checkpoint(&self, permit: Permit<ReadAudit>) -> Result<Checkpoint, CommandError> {
        let cx = Actor::from(permit.context());
        let entry = AuditEntry {
            kind: AuditKind::Checkpoint,
            actor: cx.id,
            surface: cx.surface,
            run_id: None,
            request_id: cx.request_id,
            data: json!({ "what": "asked for" }),
        };
        let made = self.inner.sign_trail(Some(entry)).await?;
        made.ok_or_else(|| {
            StoreError::Unavailable { doing: "sign the audit trail", source: None }.into()
        })
    }

    /// A page of rows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit_page(
        &self,
        _permit: &Permit<ReadAudit>,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<AuditPage, CommandError> {
        let mut reader = self.inner.store.read().await?;
        let mut items = reader.audit().query(filter, limit.saturating_add(1)).await?;
        let has_more = items.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next_cursor = items.last().filter(|_| has_more).map(|row| row.n.to_string());
        Ok(AuditPage { items, next_cursor })
    }

    /// Checks the whole trail with the keys of this daemon.
    ///
    /// # Errors
    /// When the store or the file outside of it cannot be read.
    pub async fn verify_trail(&self, _permit: &Permit<ReadAudit>) -> Result<Report, CommandError> {
        let options = &self.inner.signer.options;
        let outside = options.checkpoint_file.clone();
        let outside = Tasks::spawn_blocking(move || outside::read(&outside)).await;
        let outside = outside.ok().and_then(Result::ok).ok_or(StoreError::Unavailable {
            doing: "read the checkpoints outside the database",
            source: None,
        })?;
        let mut reader = self.inner.store.read().await?;
        Ok(verify_trail(&mut reader, outside, Some(&options.keys)).await?)
    }

    /// The next lines of an export, from after this row on; the last ones end with the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn export_trail(
        &self,
        _permit: &Permit<ReadAudit>,
        after: u64,
    ) -> Result<Exported, CommandError> {
        let mut reader = self.inner.store.read().await?;
        let key = self.inner.signer.options.keys.first();
        Ok(export_trail(&mut reader, after, key, self.inner.clock.now()).await?)
    }
}

/// A piece of an export.
#[derive(Debug)]
pub struct Exported {
    /// Its lines.
    pub lines: Vec<Line>,
    /// Where the next piece begins; none at the end.
    pub next: Option<u64>,
}

impl Exported {
    /// Its lines as they are written.
    ///
    /// # Errors
    /// Never, unless a row cannot be written as JSON.
    pub fn text(&self) -> Result<String, CommandError> {
        let mut text = String::new();
        for line in &self.lines {
            let line = serde_json::to_string(line);
            text +=
                &line.map_err(|e| StoreError::Corrupt { what: format!("an audit row: {e}") })?;
            text.push('\n');
        }
        Ok(text)
    }
}

/// Checks the trail of a store: rows, checkpoints, and those `outside` of it.
///
/// # Errors
/// When the store cannot be read at all; a row that makes no sense is a finding.
pub async fn verify_trail(
    reader: &mut Reader,
    outside: outside::Found,
    keys: Option<&[Key]>,
) -> Result<Report, StoreError> {
    let mut check = TrailCheck::new(keys);
    let mut stored = Vec::new();
    loop {
        let after = stored.last().map_or(0, |c: &Checkpoint| c.n);
        let page = reader.checkpoints().after(after, PAGE).await?;
        if page.is_empty() {
            break;
        }
        stored.extend(page);
    }
    check.expect(stored, outside.checkpoints);
    loop {
        let filter = AuditFilter { after: check.end(), ..AuditFilter::default() };
        match reader.audit().query(&filter, PAGE).await {
            Ok(rows) if rows.is_empty() => break,
            Ok(rows) => {
                let before = check.end();
                for row in &rows {
                    check.row(row);
                }
                if check.end() == before {
                    break;
                }
            }
            Err(StoreError::Corrupt { what }) => {
                check.unreadable(what);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(what) = outside.unreadable {
        check.unreadable(what);
    }
    Ok(check.finish())
}

/// The next lines of an export, from after a row on.
///
/// # Errors
/// When the store cannot be read.
pub async fn export_trail(
    reader: &mut Reader,
    after: u64,
    key: Option<&Key>,
    now: Timestamp,
) -> Result<Exported, StoreError> {
    let filter = AuditFilter { after, ..AuditFilter::default() };
    let rows = reader.audit().query(&filter, PAGE).await?;
    let mut checkpoints = reader.checkpoints().after(after, PAGE).await?.into_iter().peekable();
    let mut lines = Vec::new();
    let mut last = None;
    for row in rows {
        let n = row.n;
        last = Some((n, row.hash.clone()));
        lines.push(Line::Row(Box::new(row)));
        while let Some(checkpoint) = checkpoints.next_if(|c| c.n <= n) {
            lines.push(Line::Checkpoint { checkpoint });
        }
    }
    if let Some((n, _)) = last
        && lines.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX)
    {
        return Ok(Exported { lines, next: Some(n) });
    }
    let end = match last {
        Some(end) => Some(end),
        // The page before ended with the last row.
        None if after > 0 => {
            let filter = AuditFilter { after: after - 1, ..AuditFilter::default() };
            reader.audit().query(&filter, 1).await?.pop().map(|row| (row.n, row.hash))
        }
        None => None,
    };
    let (n, hash) = end.unwrap_or_else(|| (0, "0".repeat(64)));
    let end = match key {
        Some(key) => sign(key, Seal::ExportEnd, n, &hash, now),
        None => Checkpoint { n, hash, at: now, key_id: String::new(), mac: String::new() },
    };
    lines.push(Line::End { end });
    Ok(Exported { lines, next: None })
}

impl Inner {
    /// Signs from time to time, until the daemon stops; its very end is signed by who stops it.
    pub(super) async fn keep_signing(self: std::sync::Arc<Self>, stop: Stop) {
        self.look_at_the_end().await;
        let mut since = tokio::time::Instant::now();
        loop {
            let (last, signed) = match self.ends().await {
                Ok(ends) => ends,
                Err(error) => {
                    tracing::error!(%error, "the audit trail cannot be looked at");
                    (0, 0)
                }
            };
            let rows = last.saturating_sub(signed);
            if rows == 0 {
                since = tokio::time::Instant::now();
            }
            let is_due = rows >= ROWS_MAX || (rows > 0 && since.elapsed() >= INTERVAL);
            let is_due = is_due && self.membership.has(Duty::Checkpoints);
            if is_due || !lock(&self.signer.waiting).is_empty() {
                // Told where it fails.
                self.sign_trail(None).await.map(drop).unwrap_or_default();
                since = tokio::time::Instant::now();
            }
            // Both are cancel-safe.
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.wait_soft() => return,
            }
        }
    }

    /// At start: signs what an older daemon left unsigned, and says so where the trail does not
    /// reach as far as its checkpoints do.
    async fn look_at_the_end(&self) {
        let file = self.signer.options.checkpoint_file.clone();
        let read = Tasks::spawn_blocking(move || outside::read(&file)).await;
        let outside = match read {
            Ok(Ok(found)) => found.checkpoints.into_iter().max_by_key(|c| c.n),
            Ok(Err(error)) => {
                tracing::error!(%error, "the checkpoints outside the database cannot be read");
                None
            }
            Err(_) => None,
        };
        if let Some(newest) = outside {
            let filter =
                AuditFilter { after: newest.n.saturating_sub(1), ..AuditFilter::default() };
            let row = match self.store.read().await {
                Ok(mut reader) => reader.audit().query(&filter, 1).await,
                Err(error) => Err(error),
            };
            let is_there = row.is_ok_and(|rows| {
                rows.first().is_some_and(|row| row.n == newest.n && row.hash == newest.hash)
            });
            if !is_there {
                let what = "the audit trail does not hold the row of its last checkpoint: run \
                            `agent-runtime audit verify`";
                metrics::counter!("agent_runtime_audit_broken_total").increment(1);
                tracing::error!(row = newest.n, "{what}");
                let entry = AuditEntry {
                    kind: AuditKind::Alert,
                    actor: "system".to_owned(),
                    surface: crate::domain::Surface::System,
                    run_id: None,
                    request_id: None,
                    data: json!({ "alert": "audit", "what": what, "row": newest.n }),
                };
                if let Err(error) = self.store.audit(entry).await {
                    tracing::error!(%error, "the alert could not be recorded");
                }
            }
        }
        self.sign_trail(None).await.map(drop).unwrap_or_default();
    }

    /// The last row, and the last one that is signed.
    async fn ends(&self) -> Result<(u64, u64), StoreError> {
        let mut reader = self.store.read().await?;
        let last = reader.audit().last().await?.map_or(0, |(n, _)| n);
        let signed = reader.checkpoints().last().await?.map_or(0, |c| c.n);
        Ok((last, signed))
    }

    async fn sign_trail(
        &self,
        asked: Option<AuditEntry>,
    ) -> Result<Option<Checkpoint>, CommandError> {
        let Some(key) = self.signer.options.keys.first().cloned() else { return Ok(None) };
        let made = self
            .store
            .write(Durability::Full, move |tx| {
                Box::pin(async move {
                    if let Some(entry) = asked {
                        tx.audit(entry);
                    }
                    tx.flush_trail().await?;
                    let (n, hash) = tx.trail_end();
                    let signed = tx.checkpoints().last().await?.map_or(0, |c| c.n);
                    if n <= signed {
                        return Ok::<_, StoreError>(None);
                    }
                    let checkpoint = sign(&key, Seal::Checkpoint, n, &hash, tx.now());
                    tx.checkpoints().insert(&checkpoint).await?;
                    Ok(Some(checkpoint))
                })
            })
            .await;
        match &made {
            Ok(Some(checkpoint)) => {
                metrics::counter!("agent_runtime_audit_checkpoints_total").increment(1);
                lock(&self.signer.waiting).push(checkpoint.clone());
            }
            Ok(None) => {}
            Err(error) => failed(error),
        }
        self.write_outside().await?;
        Ok(made?)
    }

    /// Appends what is not outside yet. What fails stays and is tried again.
    async fn write_outside(&self) -> Result<(), StoreError> {
        let waiting = lock(&self.signer.waiting).clone();
        if waiting.is_empty() {
            return Ok(());
        }
        let file = self.signer.options.checkpoint_file.clone();
        let count = waiting.len();
        let written = Tasks::spawn_blocking(move || outside::append(&file, &waiting)).await;
        let written = written.unwrap_or_else(|_| Err(std::io::Error::other("the writer panicked")));
        match written {
            Ok(()) => {
                lock(&self.signer.waiting).drain(..count);
                Ok(())
            }
            Err(error) => {
                failed(&error);
                let doing = "write the checkpoint outside the database";
                Err(StoreError::Unavailable { doing, source: None })
            }
        }
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) {
    metrics::counter!("agent_runtime_audit_checkpoint_failures_total").increment(1);
    tracing::error!(error, "the audit trail could not be signed; it is tried again");
}
