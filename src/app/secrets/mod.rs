//! The secrets of this daemon: where its own keys come from, how stored ones are kept, how old each
//! is.

pub(super) mod ages;
mod permission;
pub(super) mod vault;

pub(super) use self::permission::{Keyring, existing_keyring, keyring};
use super::{build::fault, cli::Failure, config::Settings};
use crate::{
    auth::Purpose,
    orchestrator::{AuditOptions, SecretOptions, secrets::SecretMark},
    runtime::{Redactor, Tasks, reload::Reloader},
    store::Store,
};

/// At start: opens what the daemon keeps and puts it where the settings name it, notes ages, and
/// watches over both from then on.
pub(super) async fn at_start(
    settings: &Settings,
    store: &Store,
    keyring: &Keyring,
    redactor: &Redactor,
    tasks: &Tasks,
) -> Result<AtStart, Failure> {
    let (opened, marks) = vault::at_start(store, keyring, redactor).await?;
    let settings = vault::resolve(settings, &opened);
    ages::note(store, &settings, &opened, keyring).await.map_err(fault)?;
    let uses = ages::Uses::default();
    ages::watch(store.clone(), uses.clone(), tasks);
    Ok(AtStart { settings, uses, marks })
}

/// What the daemon begins with.
pub(super) struct AtStart {
    /// With every secret in its place.
    pub(super) settings: Settings,
    pub(super) uses: ages::Uses,
    /// The stored secrets that were opened.
    pub(super) marks: Vec<SecretMark>,
}

/// What signs the audit trail.
pub(super) fn audit_options(settings: &Settings, keyring: &Keyring) -> AuditOptions {
    AuditOptions {
        keys: keyring.all(Purpose::Checkpoint),
        checkpoint_file: settings.checkpoint_file(),
    }
}

/// What seals stored secrets.
pub(super) fn secret_options(
    keyring: &Keyring,
    reloader: &Reloader,
    opened: Vec<SecretMark>,
) -> SecretOptions {
    SecretOptions { sealing: keyring.all(Purpose::Sealing), reloader: reloader.clone(), opened }
}
