//! Backups as the daemon is configured to make them, and what is done with their files.

pub(super) mod drill;
pub(super) mod restore;
mod source;

use std::sync::Arc;

use self::source::Beside;
use super::{config::Settings, secrets::Keyring};
use crate::{
    auth::Purpose, orchestrator::BackupOptions, runtime::Redactor, store::archive::Source,
};

/// What a backup of this data directory holds beside the database.
pub(super) fn source(settings: &Settings, redactor: &Redactor) -> Arc<dyn Source> {
    Arc::new(Beside::of(settings, redactor))
}

/// How the daemon makes backups.
pub(super) fn options(
    settings: &Settings,
    keyring: &Keyring,
    redactor: &Redactor,
) -> BackupOptions {
    let backup = &settings.backup;
    BackupOptions {
        recipients: backup.recipients.clone(),
        dir: backup.dir.clone(),
        schedule: backup.schedule,
        keep: backup.keep,
        after_command: backup.after_command.clone(),
        home: settings.data_dir.clone(),
        source: source(settings, redactor),
        key: keyring.current.key(Purpose::Backup),
    }
}
