//! Are secrets where nobody else reads them, and are they fresh?

use super::Item;
use crate::{
    app::config::{Settings, secret_file},
    domain::{Clock, SystemClock},
    store::ReadOnlyStore,
};

/// Files that hold secrets.
pub(super) fn files(settings: &Settings) -> Item {
    const NAME: &str = "secrets";
    // Files named in the configuration were checked when it was read.
    let generated = [settings.bootstrap_token_file(), settings.permission_secret_file()];
    for file in generated.iter().filter(|file| file.exists()) {
        if let Err(error) = secret_file::check(file) {
            return Item::fail(NAME, error.to_string(), format!("chmod 600 {}", file.display()));
        }
    }
    if !settings.tokens.is_empty() {
        let count = settings.secrets.len();
        return Item::pass(NAME, format!("{count} configured, each readable by you alone"));
    }
    if settings.bootstrap_token_file().exists() {
        let file = settings.bootstrap_token_file();
        return Item::pass(NAME, format!("the token in {} is yours alone", file.display()));
    }
    Item::pass(NAME, "no token is configured: one is generated at the first start")
}

/// What the daemon's keys are made from.
pub(super) fn permission(settings: &Settings) -> Item {
    const NAME: &str = "permission secret";
    let fix = "make one with `agent-runtime init`, or name a file in auth.permission_secret_file";
    if settings.permission_secret_previous.is_some() {
        let what = "an earlier one is named too: what it sealed is sealed anew at the next start";
        return Item::warn(NAME, what, "remove it when no signature of its time is checked");
    }
    if settings.permission_secret.is_some() {
        return Item::pass(NAME, "configured");
    }
    let file = settings.permission_secret_file();
    let shown = file.display();
    if file.exists() {
        return Item::warn(NAME, format!("generated, in {shown}: is there a copy elsewhere?"), fix);
    }
    Item::warn(NAME, format!("the first start will generate one into {shown}"), fix)
}

/// Secrets that should have been replaced.
pub(super) async fn ages(settings: &Settings) -> Item {
    const NAME: &str = "ages of secrets";
    if !settings.has_store() {
        return Item::pass(NAME, "counted from the first start on");
    }
    let read = async {
        let store = ReadOnlyStore::open(&settings.data_dir, &settings.database)
            .await
            .map_err(|e| e.to_string())?;
        let mut reader = store.read().await.map_err(|e| e.to_string())?;
        reader.secrets().ages().await.map_err(|e| e.to_string())
    };
    let now = SystemClock.now();
    match read.await {
        Err(why) => Item::warn(NAME, why, "see the item `store`"),
        Ok(ages) => {
            let old = ages.iter().filter(|age| age.is_old(now));
            let old: Vec<_> =
                old.map(|age| format!("{} ({} days)", age.name, age.days(now))).collect();
            if old.is_empty() {
                return Item::pass(NAME, format!("none of {} is old", ages.len()));
            }
            Item::warn(NAME, old.join(", "), "replace them; docs/SECRETS.md says how")
        }
    }
}
