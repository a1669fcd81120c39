//! Secrets that the daemon keeps: opens them, and puts them where the configuration names them.
//!
//! Invariant: every value is known to the redactor before it is given to anything.

use std::collections::BTreeMap;

use super::Keyring;
use crate::{
    app::{build::fault, cli::Failure, config::Settings},
    auth::{Purpose, seal::open},
    domain::{Secret, SecretName},
    egress::BoundSecret,
    orchestrator::secrets::{SecretMark, marks, reseal_old},
    runtime::Redactor,
    store::{Store, StoreError},
};

/// Stored secrets, opened.
pub(crate) type Opened = BTreeMap<SecretName, Secret<String>>;

/// At start: seals with the key in force what another one sealed, then opens everything.
///
/// # Errors
/// When the store cannot be read, or the permission secret of one of them is not known: starting
/// without it would be a daemon that fails later and elsewhere.
pub(crate) async fn at_start(
    store: &Store,
    keyring: &Keyring,
    redactor: &Redactor,
) -> Result<(Opened, Vec<SecretMark>), Failure> {
    let keys = keyring.all(Purpose::Sealing);
    let sealed = reseal_old(store, keys).await.map_err(|error| {
        fault(error).next(
            "name the permission secret that sealed it in auth.permission_secret_previous_file",
        )
    })?;
    if sealed > 0 {
        tracing::info!(sealed, "stored secrets were sealed with the permission secret in force");
    }
    // First: what is stored meanwhile is seen to be newer.
    let marks = marks(store).await.map_err(fault)?;
    Ok((open_all(store, keyring, redactor).await.map_err(fault)?, marks))
}

/// Opens every stored secret. One that does not open is told and left out: what names it goes
/// without.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn open_all(
    store: &Store,
    keyring: &Keyring,
    redactor: &Redactor,
) -> Result<Opened, StoreError> {
    let keys = keyring.all(Purpose::Sealing);
    let mut opened = Opened::new();
    for secret in store.read().await?.secrets().sealed().await? {
        match open(&keys, &secret.key_id, &secret.name, &secret.sealed) {
            Ok(value) => {
                redactor.register(value.expose());
                opened.insert(secret.name, value);
            }
            Err(error) => {
                tracing::error!(name = %secret.name, %error, "a stored secret cannot be opened");
            }
        }
    }
    Ok(opened)
}

/// The settings with the stored secrets that they name in their places.
pub(crate) fn resolve(settings: &Settings, opened: &Opened) -> Settings {
    let mut settings = settings.clone();
    let named = |name: &SecretName, place: &str| {
        let value = opened.get(name).cloned();
        if value.is_none() {
            tracing::warn!(
                name = %name,
                place,
                "no secret of this name is stored: `agent-runtime secret set` stores one"
            );
        }
        value
    };
    for (model, name) in &settings.model_secrets {
        if let Some(options) = settings.models.get_mut(model) {
            options.key_name = name.to_string();
            options.api_key = named(name, &format!("models.{model}.api_key_secret"));
        }
    }
    for binding in &settings.egress.sealed {
        let place = format!("egress.secrets.{}", binding.name);
        let value = binding.name.parse().ok().and_then(|name| named(&name, &place));
        settings.egress.secrets.extend(value.map(|value| BoundSecret { value, ..binding.clone() }));
    }
    settings
}
