//! Removing old backups.
//!
//! Invariant: a file goes only when enough newer ones lie in the same directory, each as long as it
//! was made, and the newest of them was just read and is byte for byte what was written. A record
//! alone counts for nothing: its file may be gone, cut, or in another machine's directory.

use std::path::{Path, PathBuf};

use super::{BackupOptions, Inner, row};
use crate::{
    domain::{BackupRecord, BackupState},
    orchestrator::transition::Actor,
    runtime::Tasks,
    store::{Durability, StoreError, archive},
};

/// Backups that are looked at, newest first: far more than anybody keeps.
const LOOKED_AT: u64 = 1_000;

/// What lies in the directory.
#[derive(Debug, Default)]
struct Lying {
    /// Whole as far as their length says, newest first.
    good: Vec<(BackupRecord, PathBuf)>,
    /// There, but not as they were made.
    bad: Vec<BackupRecord>,
}

impl Inner {
    /// Removes the files behind the newest ones that are kept.
    pub(super) async fn prune(&self) {
        self.prune_as(&self.backups).await;
    }

    /// The same with other options.
    pub(super) async fn prune_as(&self, options: &BackupOptions) {
        let keep = usize::try_from(options.keep).unwrap_or(usize::MAX);
        if keep == 0 {
            return;
        }
        let records = match self.store.read().await {
            Ok(mut reader) => reader.backups().newest(BackupState::Done, LOOKED_AT).await,
            Err(error) => Err(error),
        };
        let records = records.unwrap_or_else(|error| {
            tracing::warn!(%error, "old backups could not be listed");
            Vec::new()
        });
        let dir = options.dir.clone();
        let lying = Tasks::spawn_blocking(move || lying(&dir, records)).await.unwrap_or_default();
        for record in &lying.bad {
            self.failed(record, "its file is not as long as it was when it was made");
        }
        if lying.good.len() <= keep {
            return;
        }
        let Some((newest, file)) = lying.good.first().cloned() else { return };
        let read = Tasks::spawn_blocking(move || archive::files::look(&file)).await;
        let is_good =
            matches!(&read, Ok(Ok(found)) if Some(&found.sha256) == newest.sha256.as_ref());
        if !is_good {
            self.failed(
                &newest,
                "it cannot be read back as it was written: no older one is removed",
            );
            return;
        }
        for (record, file) in lying.good.into_iter().skip(keep).rev() {
            self.remove(record, file).await;
        }
    }

    async fn remove(&self, record: BackupRecord, file: PathBuf) {
        let removed = Tasks::spawn_blocking(move || archive::files::remove(&file)).await;
        if !matches!(removed, Ok(Ok(()))) {
            self.failed(&record, "an old backup could not be removed");
            return;
        }
        let stored = self.store.write(Durability::Normal, move |tx| {
            Box::pin(async move {
                tx.backups().pruned(record.id).await?;
                tx.audit(row(&Actor::system(), &record, "removed"));
                Ok::<_, StoreError>(())
            })
        });
        if let Err(error) = stored.await {
            tracing::warn!(%error, "the removal of a backup could not be recorded");
        }
    }
}

/// Which of these backups lie in a directory. Those that do not count for nothing.
fn lying(dir: &Path, records: Vec<BackupRecord>) -> Lying {
    let mut lying = Lying::default();
    for record in records {
        let Some(file) = archive::files::named(dir, &record.file) else { continue };
        match archive::files::bytes(&file) {
            Some(bytes) if bytes == record.bytes => lying.good.push((record, file)),
            Some(_) => lying.bad.push(record),
            None => {}
        }
    }
    lying
}
