//! Backups while the daemon works: asked for, or every day at a time.
//!
//! Invariants: one at a time, and one for each moment of the schedule: the replica with that duty
//! begins it, and the record's own indexes decide where two believe to have it. A record that runs has
//! somebody at work who says so every few seconds, by the database's clock; one that nobody speaks for
//! is ended as failed. What fails is told, and a scheduled one is tried again. The daemon knows the
//! public half of the key alone.

mod prune;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::json;

use super::{
    Inner, Orchestrator,
    alerts::AlertKind,
    cluster::Duty,
    commands::{Done, Idempotency},
    error::CommandError,
    transition::Actor,
};
use crate::{
    auth::{Key, ManageBackups, Permit},
    domain::{AuditEntry, AuditKind, BackupId, BackupRecord, BackupState, DailyTime, Timestamp},
    runtime::{Stop, TaskKind, Tasks, hook},
    store::{
        Durability, Page, Paged, StoreError, Tx,
        archive::{self, ArchiveError, Job, Progress, Signature, Source, age::Recipient},
    },
};

/// How often to say that a backup is still being made.
const BEAT: Duration = Duration::from_secs(5);
/// Time after which one that nobody spoke for counts as abandoned.
const SILENCE: Duration = Duration::from_secs(60);
/// How often to look whether one is due.
const LOOK: Duration = Duration::from_secs(10);
/// Time between two tries for one moment of the schedule.
const RETRY: Duration = Duration::from_secs(30 * 60);
/// Time for the program that carries a backup away.
const AFTER_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Digits of its id in a file's name: two that begin in one second differ.
const ID_DIGITS: usize = 8;

/// How backups are made.
#[derive(Clone)]
pub struct BackupOptions {
    /// Who can open them; nobody: none are made.
    pub recipients: Vec<Recipient>,
    /// Where they lie.
    pub dir: PathBuf,
    /// When one is made every day; none: only when somebody asks.
    pub schedule: Option<DailyTime>,
    /// Whole ones that are kept; 0: all.
    pub keep: u64,
    /// Started with the path of each new one.
    pub after_command: Vec<String>,
    /// The home directory of that program.
    pub home: PathBuf,
    /// What they hold beside the database.
    pub source: Arc<dyn Source>,
    /// Signs them.
    pub key: Key,
}

impl fmt::Debug for BackupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupOptions").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What was found about a file without its secret key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupCheck {
    /// The backup.
    pub backup: BackupRecord,
    /// Whether everything that could be checked is as it was.
    pub ok: bool,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What was not checked, and how it can be.
    pub unchecked: String,
}

/// Why nothing could be checked but the file itself.
pub const UNCHECKED: &str = "what is inside was not read: the daemon does not have the secret key. \
                             Where it is kept: `agent-runtime backup verify FILE --identity KEY`";

/// A signature over a manifest.
pub fn sign(key: &Key, text: &[u8]) -> Signature {
    Signature { key_id: key.id(), mac: data_encoding::HEXLOWER.encode(&key.mac(text)) }
}

/// Whether one of the keys made this signature; none when none of them is the key that it names.
pub fn verifies(keys: &[Key], signature: &Signature, text: &[u8]) -> Option<bool> {
    let key = keys.iter().find(|key| key.id() == signature.key_id)?;
    let mac = data_encoding::HEXLOWER.decode(signature.mac.as_bytes());
    Some(mac.is_ok_and(|mac| key.verifies(text, &mac)))
}

/// The name of a backup's file. In the order of their names they are in the order of their times.
pub fn file_name(at: Timestamp, id: BackupId) -> String {
    let time = at.to_string();
    let (secs, rest) = time.split_once('.').unwrap_or((time.trim_end_matches('Z'), ""));
    let millis: String =
        rest.chars().chain(std::iter::repeat('0')).filter(char::is_ascii_digit).take(3).collect();
    let time: String = secs.chars().filter(|c| *c != '-' && *c != ':').collect();
    let id = id.to_string();
    let digits = id.chars().rev().take(ID_DIGITS).collect::<Vec<_>>();
    let digits: String = digits.into_iter().rev().collect();
    format!("backup-{time}.{millis}Z-{digits}{}", archive::SUFFIX)
}

impl Orchestrator {
    /// Begins a backup. It is being made when this returns; its record says how far it is.
    ///
    /// # Errors
    /// When there is no recipient, or one is being made already.
    pub async fn create_backup(
        &self,
        permit: Permit<ManageBackups>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<BackupRecord>, CommandError> {
        let inner = &self.inner;
        if inner.backups.recipients.is_empty() {
            let what = "no recipient is configured: `agent-runtime backup keygen` makes a pair of \
                        keys; put the public one into backup.recipients";
            return Err(CommandError::conflict("backup.no_recipient", what));
        }
        let actor = Actor::from(permit.context());
        inner.give_up(None).await?;
        let done = inner.command(permit.context(), idempotency, move |tx| {
            Box::pin(async move {
                let new = new_backup(tx, actor.id.clone(), None);
                let now = tx.database_now().await?;
                if !tx.backups().begin(&new, now).await? {
                    let what =
                        "a backup is being made already; `agent-runtime backup list` shows it";
                    return Err(CommandError::conflict("backup.running", what));
                }
                tx.audit(row(&actor, &new, "began"));
                Ok(new)
            })
        });
        let done = done.await?;
        if let Done::Fresh(record) = &done {
            let (inner, record) = (Arc::clone(inner), record.clone());
            let tasks = inner.tasks.clone();
            tasks.spawn(TaskKind::Helper, |stop| async move { inner.back_up(record, stop).await });
        }
        Ok(done)
    }

    /// Backups that were made or tried, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn backups(
        &self,
        _permit: &Permit<ManageBackups>,
        page: &Page,
    ) -> Result<Paged<BackupRecord>, CommandError> {
        Ok(self.inner.store.read().await?.backups().list(page).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub async fn backup(
        &self,
        _permit: &Permit<ManageBackups>,
        id: BackupId,
    ) -> Result<BackupRecord, CommandError> {
        let found = self.inner.store.read().await?.backups().get(id).await?;
        found.ok_or(CommandError::NotFound { what: "the backup" })
    }

    /// Checks a file as far as that goes without its secret key: that it is there, whole, and byte
    /// for byte what was written.
    ///
    /// # Errors
    /// When there is no such backup, or its file is not here.
    pub async fn verify_backup(
        &self,
        permit: &Permit<ManageBackups>,
        id: BackupId,
    ) -> Result<BackupCheck, CommandError> {
        let backup = self.backup(permit, id).await?;
        if backup.state != BackupState::Done {
            let what = format!("the backup is {}: there is no file to check", backup.state);
            return Err(CommandError::conflict("backup.no_file", what));
        }
        let file = archive::files::named(&self.inner.backups.dir, &backup.file);
        let file = file.ok_or(CommandError::NotFound { what: "the backup's file" })?;
        let looked = Tasks::spawn_blocking(move || archive::files::look(&file)).await;
        let mut problems = Vec::new();
        match looked {
            Ok(Ok(found)) => {
                if backup.sha256.as_ref() != Some(&found.sha256) {
                    problems.push("the file is not the one that was written".to_owned());
                }
            }
            Ok(Err(error)) => problems.push(chain(&error)),
            Err(_) => problems.push("the file could not be looked at".to_owned()),
        }
        let unchecked = UNCHECKED.to_owned();
        Ok(BackupCheck { backup, ok: problems.is_empty(), problems, unchecked })
    }
}

fn before(now: Timestamp, time: Duration) -> Timestamp {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(micros))
}

fn row(actor: &Actor, backup: &BackupRecord, what: &str) -> AuditEntry {
    AuditEntry {
        kind: AuditKind::Backup,
        actor: actor.id.clone(),
        surface: actor.surface,
        run_id: None,
        request_id: actor.request_id.clone(),
        data: json!({
            "what": what, "backup": backup.id, "file": backup.file, "due": backup.due,
            "bytes": backup.bytes, "sha256": backup.sha256, "error": backup.error,
        }),
    }
}

fn new_backup(tx: &Tx, asked_by: String, due: Option<Timestamp>) -> BackupRecord {
    let (now, id) = (tx.now(), BackupId::new(tx.ids()));
    BackupRecord {
        id,
        state: BackupState::Running,
        due,
        asked_by,
        file: file_name(now, id),
        started_at: now,
        ended_at: None,
        step: "begins".to_owned(),
        rows: 0,
        files: 0,
        bytes: 0,
        sha256: None,
        error: None,
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Inner {
    /// Ends those that were being made when the daemon ended, before anybody asks for another one.
    pub(super) async fn give_up_those_of_before(&self) {
        // Who has the store alone made none before its start: one that runs is of a daemon that was
        // killed.
        let since = (!self.membership.is_shared()).then(|| self.clock.now());
        if let Err(error) = self.give_up(since).await {
            tracing::error!(error = chain(&error), "backups of before could not be looked at");
        }
    }

    /// Makes one whenever it is due, until the daemon stops.
    pub(super) async fn keep_backing_up(self: Arc<Self>, stop: Stop) {
        let Some(time) = self.backups.schedule.filter(|_| !self.backups.recipients.is_empty())
        else {
            return;
        };
        loop {
            match self.begin_due(time).await {
                Ok(Some(record)) => Arc::clone(&self).back_up(record, stop.clone()).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(error = chain(&error), "the schedule of backups stands still");
                    let data = json!({ "what": "the schedule stands still" });
                    self.alerts.raise(AlertKind::BackupFailed, "schedule", data);
                }
            }
            // Both are cancel-safe.
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.wait_soft() => return,
            }
        }
    }

    /// Ends those that nobody has spoken for since then, or in a while: who made them is gone.
    async fn give_up(&self, since: Option<Timestamp>) -> Result<(), StoreError> {
        let silent = self.store.read().await?.backups().running().await?;
        let Some(silent) = silent else { return Ok(()) };
        let gone = silent.clone();
        let given_up = self.store.write(Durability::Full, move |tx| {
            Box::pin(async move {
                let now = tx.database_now().await?;
                let since = since.unwrap_or_else(|| before(now, SILENCE));
                if tx.backups().abandon(since, now).await? == 0 {
                    return Ok::<_, StoreError>(false);
                }
                tx.audit(row(&Actor::system(), &gone, "abandoned"));
                Ok(true)
            })
        });
        if given_up.await? {
            self.failed(&silent, "the daemon that made it ended");
        }
        Ok(())
    }

    /// Takes the last moment of the schedule upon itself, where that is its duty, unless somebody has
    /// it.
    async fn begin_due(&self, time: DailyTime) -> Result<Option<BackupRecord>, StoreError> {
        if !self.membership.has(Duty::Backups) {
            return Ok(None);
        }
        self.give_up(None).await?;
        let now = self.clock.now();
        let due = time.last(now);
        let last = self.store.read().await?.backups().of_moment(due).await?;
        let is_to_do = match &last {
            None => true,
            Some(last) if last.state == BackupState::Failed => {
                last.ended_at.is_none_or(|ended| now.since(ended) >= RETRY)
            }
            Some(_) => false,
        };
        if !is_to_do {
            return Ok(None);
        }
        self.store
            .write(Durability::Full, move |tx| {
                Box::pin(async move {
                    let new = new_backup(tx, "system".to_owned(), Some(due));
                    let now = tx.database_now().await?;
                    if !tx.backups().begin(&new, now).await? {
                        return Ok(None);
                    }
                    tx.audit(row(&Actor::system(), &new, "began"));
                    Ok::<_, StoreError>(Some(new))
                })
            })
            .await
    }

    /// Makes a backup that was begun, records its end and does what follows.
    async fn back_up(self: Arc<Self>, mut record: BackupRecord, stop: Stop) {
        let progress = Progress::default();
        let made = self.make(&mut record, &progress, stop).await;
        let options = &self.backups;
        record.ended_at = Some(self.clock.now());
        match &made {
            Ok(written) => {
                record.state = BackupState::Done;
                record.bytes = written.bytes;
                record.sha256 = Some(written.sha256.clone());
                record.rows = written.manifest.tables.iter().map(|t| t.rows).sum();
                record.files = written.manifest.files;
                "whole".clone_into(&mut record.step);
            }
            Err(error) => {
                record.state = BackupState::Failed;
                record.error = Some(chain(error));
            }
        }
        let ended = record.clone();
        let stored = self.store.write(Durability::Full, move |tx| {
            Box::pin(async move {
                let now = tx.database_now().await?;
                let is_ours = tx.backups().save(&ended, now).await?;
                let what = match (ended.state, is_ours) {
                    (BackupState::Done, true) => "made",
                    (BackupState::Done, false) => "made too late",
                    _ => "failed",
                };
                tx.audit(row(&Actor::system(), &ended, what));
                Ok::<_, StoreError>(is_ours)
            })
        });
        let recorded = stored.await;
        if let Err(error) = &made {
            self.failed(&record, &chain(error));
        }
        let is_recorded = matches!(recorded, Ok(true));
        match recorded {
            Ok(true) => {}
            // Others count it as failed: the file stays, and nothing is removed on its account.
            Ok(false) => self.failed(&record, "it was given up before it ended"),
            Err(error) => {
                let why = format!("its end could not be recorded: {}", chain(&error));
                self.failed(&record, &why);
            }
        }
        if made.is_err() || !is_recorded {
            return;
        }
        tracing::info!(backup.id = %record.id, file = record.file, bytes = record.bytes, "backup made");
        metrics::counter!("agent_runtime_backups_total", "result" => "made").increment(1);
        let ended = record.ended_at.unwrap_or(record.started_at);
        let seconds = |micros: i64| {
            std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
        };
        metrics::gauge!("agent_runtime_backup_last_success_seconds")
            .set(seconds(ended.as_micros()));
        metrics::gauge!("agent_runtime_backup_duration_seconds")
            .set(ended.since(record.started_at).as_secs_f64());
        let bytes = u32::try_from(record.bytes >> 10).unwrap_or(u32::MAX);
        metrics::gauge!("agent_runtime_backup_kilobytes").set(f64::from(bytes));
        if !options.after_command.is_empty() {
            self.carry_away(&record).await;
        }
        self.prune().await;
    }

    fn failed(&self, record: &BackupRecord, why: &str) {
        tracing::error!(backup.id = %record.id, why, "a backup failed");
        metrics::counter!("agent_runtime_backups_total", "result" => "failed").increment(1);
        let data = json!({ "backup": record.id, "file": record.file, "why": why });
        self.alerts.raise(AlertKind::BackupFailed, &record.file, data);
    }

    async fn make(
        &self,
        record: &mut BackupRecord,
        progress: &Progress,
        stop: Stop,
    ) -> Result<archive::Written, ArchiveError> {
        let options = &self.backups;
        let file = archive::files::named(&options.dir, &record.file)
            .ok_or_else(|| ArchiveError::Wrong("the name leads elsewhere".to_owned()))?;
        let (dir, now) = (options.dir.clone(), self.clock.now());
        Tasks::spawn_blocking(move || archive::files::sweep(&dir, now)).await.unwrap_or_default();
        let key = options.key.clone();
        let job = Job {
            id: record.id.to_string(),
            made_at: record.started_at,
            file,
            recipients: options.recipients.clone(),
            source: Arc::clone(&options.source),
            sign: Arc::new(move |text| Some(sign(&key, text))),
            progress: progress.clone(),
        };
        let mut work = Box::pin(archive::create(job, self.store.snapshot()));
        loop {
            // The work goes on where it was, whatever comes first; the others are cancel-safe.
            tokio::select! {
                written = &mut work => return written,
                () = tokio::time::sleep(BEAT) => self.beat(record, progress).await,
                () = stop.wait_soft(), if !progress.is_stopped() => progress.stop(),
            }
        }
    }

    async fn beat(&self, record: &mut BackupRecord, progress: &Progress) {
        let reached = progress.reached();
        record.step = reached.step;
        (record.rows, record.files, record.bytes) = (reached.rows, reached.files, reached.bytes);
        let beat = record.clone();
        let stored = self.store.write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let now = tx.database_now().await?;
                tx.backups().save(&beat, now).await
            })
        });
        match stored.await {
            Ok(true) => {}
            // Somebody took it for abandoned: two must not go on.
            Ok(false) => progress.stop(),
            Err(error) => tracing::warn!(%error, "how far the backup is could not be recorded"),
        }
    }

    /// Starts the operator's program with the path of the new backup.
    async fn carry_away(&self, record: &BackupRecord) {
        let options = &self.backups;
        let argv = options.after_command.clone();
        let path = options.dir.join(&record.file).to_string_lossy().into_owned();
        let home = options.home.to_string_lossy().into_owned();
        let ran =
            Tasks::spawn_blocking(move || hook::run(&argv, &path, &home, AFTER_TIMEOUT)).await;
        let why = match ran {
            Ok(Ok(())) => {
                metrics::counter!("agent_runtime_backups_total", "result" => "carried_away")
                    .increment(1);
                return;
            }
            Ok(Err(error)) => format!("backup.after_command: {error}"),
            Err(_) => "backup.after_command could not be started".to_owned(),
        };
        self.failed(record, &why);
        let (id, error, noted) =
            (record.id, self.redactor.redact(&why).into_owned(), record.clone());
        let stored = self.store.write(Durability::Full, move |tx| {
            Box::pin(async move {
                tx.backups().note(id, &error).await?;
                let failed = BackupRecord { error: Some(error), ..noted };
                tx.audit(row(&Actor::system(), &failed, "not carried away"));
                Ok::<_, StoreError>(())
            })
        });
        if let Err(error) = stored.await {
            tracing::error!(%error, "what followed a backup could not be recorded");
        }
    }
}

#[cfg(test)]
pub(super) mod file_tests;
