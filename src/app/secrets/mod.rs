//! The secrets of this daemon: where its own keys come from, how stored ones are kept, how old each
//! is.

pub(super) mod ages;
mod permission;
pub(super) mod vault;

pub(super) use self::permission::{Keyring, existing_keyring, keyring};
use super::config::Settings;
use crate::{
    auth::Purpose,
    orchestrator::{AuditOptions, SecretOptions},
    runtime::reload::Reloader,
};

/// What signs the audit trail.
pub(super) fn audit_options(settings: &Settings, keyring: &Keyring) -> AuditOptions {
    AuditOptions {
        keys: keyring.all(Purpose::Checkpoint),
        checkpoint_file: settings.checkpoint_file(),
    }
}

/// What seals stored secrets.
pub(super) fn secret_options(keyring: &Keyring, reloader: &Reloader) -> SecretOptions {
    SecretOptions { sealing: keyring.all(Purpose::Sealing), reloader: reloader.clone() }
}
