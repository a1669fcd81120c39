//! The steps of an erasure, in their order.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{Pace, entry, erase::held, words::Person};
use crate::{
    domain::{AuditKind, Erasure, PrincipalId, RunId},
    orchestrator::{Inner, error::CommandError, transition::Actor, verbs::cancel},
    runtime::{LineFate, Tasks},
    store::{Durability, StoreError, archive::files},
};

/// Work of the person ends, and nothing new begins.
pub(super) const FIRST: &str = "stop";
/// Files that their runs wrote.
const FILES: &str = "files";
/// The audit trail, and with it what they did to runs of others.
const TRAIL: &str = "trail";
/// Copies of what they said in conversations of others.
const COPIES: &str = "copies";
/// Their conversations, with everything in them.
const CONVERSATIONS: &str = "conversations";
/// Their runs in conversations of others.
const RUNS: &str = "runs";
/// Who they are, and where they stand in rows that stay.
const ROWS: &str = "rows";
/// Rows of the audit trail that came meanwhile.
const TAIL: &str = "tail";
/// The log file.
const LOG: &str = "log";
/// The database file without what was removed. From here on nobody knows whom it was about.
const COMPACT: &str = "compact";
/// Over.
const DONE: &str = "done";

pub(super) const STEPS: [&str; 11] =
    [FIRST, FILES, TRAIL, COPIES, CONVERSATIONS, RUNS, ROWS, TAIL, LOG, COMPACT, DONE];

/// Rows that are read at once.
pub(super) const PAGE: u32 = 200;
/// How often to look whether runs that were cancelled have ended.
const LOOK: Duration = Duration::from_millis(50);

impl Inner {
    /// Does what is left of an erasure.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        mut erasure: Erasure,
    ) -> Result<(), CommandError> {
        // What the trail said of their runs; after a restart it is read again.
        let mut own = None;
        while erasure.step != DONE {
            if let Some(person) = erasure.principal
                && self.store.read().await?.keeping().is_held_person(person).await?
            {
                return Err(held());
            }
            metrics::counter!("agent_runtime_erasure_steps_total", "step" => erasure.step.clone())
                .increment(1);
            self.step(&mut erasure, &mut own).await?;
            let at = STEPS.iter().position(|step| *step == erasure.step).unwrap_or(0);
            STEPS.get(at + 1).copied().unwrap_or(DONE).clone_into(&mut erasure.step);
            erasure.place.clear();
            if erasure.step == DONE {
                return Ok(self.conclude_erasure(erasure).await?);
            }
            if erasure.step == COMPACT {
                // Whom it was about is forgotten here, with the next save.
                erasure.principal = None;
                erasure.names.clear();
            }
            self.save_erasure(&erasure).await?;
        }
        Ok(())
    }

    pub(super) async fn step(
        self: &Arc<Self>,
        erasure: &mut Erasure,
        own: &mut Option<BTreeSet<RunId>>,
    ) -> Result<(), CommandError> {
        if erasure.step == COMPACT {
            let is_compacted = self.compact().await?;
            note(erasure, "database_compacted", json!(is_compacted));
            return Ok(());
        }
        let id = erasure.principal.ok_or_else(|| StoreError::Corrupt {
            what: format!("{} does not say whom it is about", erasure.id),
        })?;
        let person = Person::new(id, erasure.pseudonym, &erasure.names);
        match erasure.step.as_str() {
            FIRST => self.stop_work(id).await,
            FILES => Ok(self.erase_files(&person, erasure).await?),
            TRAIL | TAIL => self.erase_trail(&person, erasure, own).await,
            COPIES => {
                let masked = self.mask_copies(&person).await?;
                count(erasure, "messages of others' conversations masked", masked);
                Ok(())
            }
            CONVERSATIONS => self.erase_conversations(id, erasure).await,
            RUNS => self.erase_runs(id, erasure).await,
            ROWS => self.erase_rows(&person, erasure).await,
            LOG => {
                self.erase_log(person, erasure).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn save_erasure(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let erasure = erasure.clone();
        self.store
            .write(Durability::Full, move |tx| {
                Box::pin(async move { tx.erasures().save(&erasure).await })
            })
            .await
    }

    /// Nobody acts as the person any more, nothing new begins in their conversations, and what is
    /// under way ends.
    async fn stop_work(self: &Arc<Self>, id: PrincipalId) -> Result<(), CommandError> {
        self.store
            .change(move |tx| {
                Box::pin(async move {
                    if let Some(mut row) = tx.principals().get(id).await? {
                        row.disabled_at = row.disabled_at.or(Some(tx.now()));
                        tx.principals().put(&row).await?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .await?;
        self.refresh_access().await?;
        self.in_force_everywhere().await?;
        // Nobody comes as the person any more: what is noted of their last visit is stored now, and
        // goes with the rest.
        self.store_uses().await?;
        self.mark_conversations(id).await?;
        loop {
            let runs = self.store.read().await?.erasures().unended(id, PAGE).await?;
            if runs.is_empty() {
                return Ok(());
            }
            for run in runs {
                self.cancel_for_good(run).await?;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn mark_conversations(&self, id: PrincipalId) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let page = self.store.read().await?.erasures().conversations(id, &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.to_string();
            self.store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move {
                        let now = tx.now();
                        for id in page {
                            tx.keeping().mark_deleted(id, now).await?;
                        }
                        Ok::<_, StoreError>(())
                    })
                })
                .await?;
        }
    }

    async fn cancel_for_good(self: &Arc<Self>, run: RunId) -> Result<(), CommandError> {
        let inner = Arc::clone(self);
        let done = self
            .store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move {
                    let Some(mut run) = tx.runs().core(run).await? else { return Ok(()) };
                    cancel(tx, &inner, &mut run, None, &Actor::system()).await
                })
            })
            .await;
        match done {
            // It ended by itself, or somebody was faster: the next look says.
            Err(CommandError::Terminal | CommandError::Conflict { .. }) => Ok(()),
            other => other,
        }
    }

    /// Nothing is changed in a run whose conversation is held.
    async fn check_free(&self, run: RunId) -> Result<(), CommandError> {
        let mut reader = self.store.read().await?;
        let Some(core) = reader.runs().core(run).await? else { return Ok(()) };
        if reader.keeping().is_held(core.conversation_id).await? { Err(held()) } else { Ok(()) }
    }

    /// Rows of the audit trail from where the last pass ended, and runs of others that they tell of.
    async fn erase_trail(
        &self,
        person: &Person,
        erasure: &mut Erasure,
        own: &mut Option<BTreeSet<RunId>>,
    ) -> Result<(), CommandError> {
        // The tail goes on where the trail ended.
        let mut after = if own.is_some() { seen(erasure) } else { 0 };
        let own = own.get_or_insert_default();
        loop {
            let looked = self.look_through(person, after, own).await?;
            let Some(last) = looked.last else { return Ok(()) };
            after = last;
            for (run, touched) in &looked.touched {
                self.check_free(*run).await?;
                let rows = self.mask_in_run(person, *run, touched).await?;
                count(erasure, "rows of others' runs masked", rows);
            }
            count(erasure, "audit rows replaced", looked.rows.len() as u64);
            note(erasure, "trail", json!(after));
            self.replace_rows(looked.rows, erasure.clone()).await?;
            tokio::time::sleep(Pace::PAUSE).await;
        }
    }

    async fn erase_conversations(
        self: &Arc<Self>,
        id: PrincipalId,
        erasure: &mut Erasure,
    ) -> Result<(), CommandError> {
        loop {
            let page = self.store.read().await?.erasures().conversations(id, "", PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for conversation in page {
                match self.remove_conversation(conversation, &mut erasure.counts).await {
                    // Somebody holds it from now on, or began something between: that ends like the
                    // rest.
                    Err(StoreError::Stale { .. }) => {
                        if self.store.read().await?.keeping().is_held(conversation).await? {
                            return Err(held());
                        }
                        self.stop_work(id).await?;
                    }
                    other => other?,
                }
                self.save_erasure(erasure).await?;
            }
        }
    }

    /// What is left: runs in conversations of others, whose messages are masked by now.
    async fn erase_runs(
        self: &Arc<Self>,
        id: PrincipalId,
        erasure: &mut Erasure,
    ) -> Result<(), CommandError> {
        loop {
            let page = self.store.read().await?.erasures().runs(id, "", PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for run in page {
                let conversation = run.conversation;
                match self.remove_run(run.id, conversation, &mut erasure.counts).await {
                    Err(StoreError::Stale { .. }) => {
                        if self.store.read().await?.keeping().is_held(conversation).await? {
                            return Err(held());
                        }
                        self.stop_work(id).await?;
                        continue;
                    }
                    other => other?,
                }
                self.store
                    .write(Durability::Normal, move |tx| {
                        Box::pin(async move { tx.erasures().drop_head(conversation).await })
                    })
                    .await?;
            }
            self.save_erasure(erasure).await?;
        }
    }

    async fn erase_log(&self, person: Person, erasure: &mut Erasure) {
        let Some(log) = self.keeper.options.log.clone() else {
            let elsewhere = "the log goes to standard output: whoever collects it must erase there";
            return note(erasure, "log", json!(elsewhere));
        };
        let fate = move |line: &str| match person.scrub(line) {
            Some(clean) => LineFate::Replace(clean),
            None => LineFate::Keep,
        };
        let done = Tasks::spawn_blocking(move || log.rewrite(fate)).await;
        match done.map_err(|e| e.to_string()).and_then(|done| done.map_err(|e| e.to_string())) {
            Ok(done) => count(erasure, "log lines", done.replaced),
            Err(error) => note(erasure, "log", json!(error)),
        }
    }

    /// Writes the database anew, so that nothing is left of removed rows in its file. Other writers
    /// wait for it.
    async fn compact(&self) -> Result<bool, StoreError> {
        let (done, answer) = oneshot::channel();
        self.store
            .write(Durability::Full, move |tx| {
                Box::pin(async move {
                    tx.compact_after_commit(done);
                    Ok::<_, StoreError>(())
                })
            })
            .await?;
        Ok(answer.await.unwrap_or(false))
    }

    async fn conclude_erasure(&self, mut erasure: Erasure) -> Result<(), StoreError> {
        let dir = self.backups.dir.clone();
        let backups = match Tasks::spawn_blocking(move || files::list(&dir)).await {
            Ok(Ok(lying)) => json!(lying),
            Ok(Err(error)) => json!({ "not listed": error.to_string() }),
            Err(panicked) => json!({ "not listed": panicked.to_string() }),
        };
        let notes = erasure.receipt.take().unwrap_or_default();
        let part = |name: &str| notes.get(name).cloned().unwrap_or(Value::Null);
        let now = self.clock.now();
        erasure.ended_at = Some(now);
        let receipt = json!({
            "erasure": erasure.id,
            "pseudonym": erasure.pseudonym,
            "asked_at": erasure.asked_at,
            "ended_at": now,
            "counts": erasure.counts,
            "files_left": part("files_left"),
            "workspaces_to_look_through": part("workspaces_to_look_through"),
            "other_replicas": part("other_replicas"),
            "log": part("log"),
            "database_compacted": part("database_compacted"),
            // They were made before, so that they may hold the person until they are too old.
            "backups": backups,
        });
        erasure.receipt = Some(receipt.clone());
        tracing::info!(erasure = %erasure.id, "a person was erased");
        metrics::counter!("agent_runtime_erasures_total").increment(1);
        self.store
            .write(Durability::Full, move |tx| {
                Box::pin(async move {
                    tx.erasures().save(&erasure).await?;
                    let data = json!({ "what": "done", "receipt": receipt });
                    tx.audit(entry(AuditKind::Erase, None, data));
                    Ok(())
                })
            })
            .await
    }
}

pub(super) fn count(erasure: &mut Erasure, what: &str, rows: u64) {
    if rows > 0 {
        *erasure.counts.entry(what.to_owned()).or_default() += rows;
    }
}

/// Keeps something for the receipt, or for a later step.
pub(super) fn note(erasure: &mut Erasure, name: &str, value: Value) {
    let notes = erasure.receipt.get_or_insert_with(|| Value::Object(Map::new()));
    if let Some(notes) = notes.as_object_mut() {
        notes.insert(name.to_owned(), value);
    }
}

/// The last row of the audit trail that was looked at.
fn seen(erasure: &Erasure) -> u64 {
    erasure.receipt.as_ref().and_then(|notes| notes.get("trail")?.as_u64()).unwrap_or(0)
}

pub(super) fn asked_to_empty(erasure: &Erasure) -> Vec<String> {
    let list = erasure.receipt.as_ref().and_then(|notes| notes.get("empty")?.as_array());
    let names = list.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}
