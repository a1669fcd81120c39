//! How old each secret is, when it was last used, and warnings about old ones.
//!
//! Invariant: of a value only a keyed fingerprint is kept, from which it cannot be guessed without
//! the permission secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Keyring, vault::Opened};
use crate::{
    app::config::Settings,
    auth::Purpose,
    domain::{Clock, SecretAge, SecretSource, SystemClock, Timestamp},
    runtime::{TaskKind, Tasks, tasks::lock},
    store::{Durability, Store, StoreError},
};

/// How often uses are written down.
const NOTE: Duration = Duration::from_secs(60);
/// How often old secrets are warned of.
const WARN: Duration = Duration::from_secs(24 * 3_600);

/// When secrets were put into requests since the last note. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uses(Arc<Mutex<BTreeMap<String, Timestamp>>>);

impl Uses {
    /// A secret of this name was used.
    pub(crate) fn used(&self, name: &str) {
        lock(&self.0).insert(name.to_owned(), SystemClock.now());
    }

    fn take(&self) -> BTreeMap<String, Timestamp> {
        std::mem::take(&mut lock(&self.0))
    }
}

/// A secret as it is now.
struct Present {
    name: String,
    source: SecretSource,
    /// Under the key in force first, then under those of older permission secrets.
    fingerprints: Vec<String>,
}

/// Every secret of the configuration and the store.
fn present(settings: &Settings, opened: &Opened, keyring: &Keyring) -> Vec<Present> {
    let keys = keyring.all(Purpose::Fingerprint);
    let fingerprints = |name: &str, value: &str| -> Vec<String> {
        let text = format!("{name}\n{value}");
        keys.iter().map(|key| data_encoding::HEXLOWER.encode(&key.mac(text.as_bytes()))).collect()
    };
    let configured = settings.secrets.iter().map(|secret| Present {
        fingerprints: fingerprints(&secret.key, secret.value.expose()),
        name: secret.key.clone(),
        source: secret.source,
    });
    let stored = opened.iter().map(|(name, value)| Present {
        fingerprints: fingerprints(name.as_str(), value.expose()),
        name: name.to_string(),
        source: SecretSource::Store,
    });
    configured.chain(stored).collect()
}

/// Notes since when each secret has its present value.
///
/// # Errors
/// When the store cannot be written.
pub(crate) async fn note(
    store: &Store,
    settings: &Settings,
    opened: &Opened,
    keyring: &Keyring,
) -> Result<(), StoreError> {
    let present = present(settings, opened, keyring);
    store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let known = tx.secrets().ages().await?;
                let names: BTreeSet<&str> = present.iter().map(|p| p.name.as_str()).collect();
                for gone in known.iter().filter(|age| !names.contains(age.name.as_str())) {
                    tx.secrets().forget_age(&gone.name).await?;
                }
                for Present { name, source, fingerprints } in &present {
                    let before = known.iter().find(|age| age.name == *name);
                    // Another permission secret makes no secret younger.
                    let is_same = before.is_some_and(|b| fingerprints.contains(&b.fingerprint));
                    let fingerprint = fingerprints.first().cloned().unwrap_or_default();
                    let age = SecretAge {
                        name: name.clone(),
                        source: *source,
                        fingerprint,
                        since: before.filter(|_| is_same).map_or(tx.now(), |b| b.since),
                        last_used_at: before.and_then(|b| b.last_used_at),
                    };
                    if before != Some(&age) {
                        tx.secrets().put_age(&age).await?;
                    }
                }
                Ok(())
            })
        })
        .await
}

/// Writes uses down, and warns of old secrets, now and every day.
pub(crate) fn watch(store: Store, uses: Uses, tasks: &Tasks) {
    tasks.spawn(TaskKind::Helper, |stop| async move {
        let mut warned: Option<tokio::time::Instant> = None;
        loop {
            if warned.is_none_or(|at| at.elapsed() >= WARN) {
                warned = Some(tokio::time::Instant::now());
                if let Err(error) = warn(&store).await {
                    tracing::error!(%error, "the ages of secrets cannot be read");
                }
            }
            // Both are cancel-safe.
            let is_over = tokio::select! {
                () = tokio::time::sleep(NOTE) => false,
                () = stop.wait_soft() => true,
            };
            if let Err(error) = write_down(&store, uses.take()).await {
                tracing::error!(%error, "the last uses of secrets could not be noted");
            }
            if is_over {
                return;
            }
        }
    });
}

async fn warn(store: &Store) -> Result<(), StoreError> {
    let now = SystemClock.now();
    for age in store.read().await?.secrets().ages().await? {
        let days = age.days(now);
        let gauge = metrics::gauge!("agent_runtime_secret_age_days", "secret" => age.name.clone());
        gauge.set(f64::from(u32::try_from(days).unwrap_or(u32::MAX)));
        if age.is_old(now) {
            let most = age.days_max();
            tracing::warn!(
                secret = age.name,
                days,
                "a secret is older than {most} days: replace it"
            );
        }
    }
    Ok(())
}

async fn write_down(store: &Store, uses: BTreeMap<String, Timestamp>) -> Result<(), StoreError> {
    if uses.is_empty() {
        return Ok(());
    }
    store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                for age in tx.secrets().ages().await? {
                    // A binding of the configuration has the name within its key.
                    let own = age.name.strip_prefix("egress.secrets.");
                    let own = own.and_then(|n| n.strip_suffix(".value")).unwrap_or(&age.name);
                    if let Some(at) = uses.get(own) {
                        let noted = SecretAge { last_used_at: Some(*at), ..age };
                        tx.secrets().put_age(&noted).await?;
                    }
                }
                Ok(())
            })
        })
        .await
}
