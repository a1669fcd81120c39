//! The permission secret, which the daemon's own keys are made from.
//!
//! Invariant: what was generated once is never replaced here: without it, what was signed and sealed
//! means nothing any more.

use crate::{
    app::{
        build::fault,
        cli::Failure,
        config::{Mode, Settings, secret_file},
    },
    auth::keys::{Key, Keys, Purpose},
    domain::Secret,
    runtime::Redactor,
};

/// The daemon's keys, and those from before the permission secret was changed.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    /// Sign and seal.
    pub(crate) current: Keys,
    /// Only check and open.
    pub(crate) previous: Vec<Keys>,
}

impl Keyring {
    /// The keys for a purpose, the one in force first.
    pub(crate) fn all(&self, purpose: Purpose) -> Vec<Key> {
        std::iter::once(&self.current).chain(&self.previous).map(|k| k.key(purpose)).collect()
    }
}

/// The keys of this data directory. Makes a permission secret when none is set, except in
/// production.
///
/// # Errors
/// When a file cannot be read or made.
pub(crate) fn keyring(settings: &Settings, redactor: &Redactor) -> Result<Keyring, Failure> {
    let file = settings.permission_secret_file();
    let configured = settings.permission_secret.as_ref();
    // A generated one stays good for what it sealed when another is configured later.
    let generated = match configured {
        _ if file.exists() => Some(secret_file::read(&file).map_err(fault)?),
        None if settings.mode == Mode::Production => None,
        None => Some(generate(settings)?),
        Some(_) => None,
    };
    let mut secrets = configured
        .into_iter()
        .chain(&generated)
        .chain(settings.permission_secret_previous.as_ref());
    let known = secrets.clone();
    known.for_each(|secret| redactor.register(secret.expose()));
    let Some(current) = secrets.next() else {
        return Err(Failure::usage("no permission secret is set")
            .next("set AGENT_RUNTIME_PERMISSION_SECRET_FILE; `agent-runtime init` makes one"));
    };
    let keys = |secret: &Secret<String>| Keys::new(secret).map_err(fault);
    let previous = secrets.map(keys).collect::<Result<_, _>>()?;
    let keyring = Keyring { current: keys(current)?, previous };
    let ids: Vec<_> = keyring.all(Purpose::Sealing).iter().map(Key::id).collect();
    tracing::info!(?ids, "keys that open stored secrets; the first one seals");
    Ok(keyring)
}

/// The keys of this data directory as far as they are there; makes nothing.
pub(crate) fn existing_keyring(settings: &Settings) -> Option<Keyring> {
    let file = settings.permission_secret_file();
    let generated = secret_file::read(&file).ok();
    let configured = settings.permission_secret.iter().chain(&generated);
    let mut keys = configured
        .chain(&settings.permission_secret_previous)
        .filter_map(|secret| Keys::new(secret).ok());
    Some(Keyring { current: keys.next()?, previous: keys.collect() })
}

fn generate(settings: &Settings) -> Result<Secret<String>, Failure> {
    let file = settings.permission_secret_file();
    let made = secret_file::random()
        .and_then(|secret| secret_file::write(&file, secret.expose()).map(|()| secret));
    let secret =
        made.map_err(|e| Failure::fault(format!("cannot make {}: {e}", file.display())))?;
    tracing::warn!(
        file = %file.display(),
        "no permission secret is configured: generated one; keep a copy of it elsewhere, stored \
         secrets cannot be read without it"
    );
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::{Environment, Request, load};

    fn settings(dir: &std::path::Path, env: &[(&str, &str)]) -> Settings {
        let dir = dir.to_str().unwrap();
        let environment = Environment::of(&[env, &[("AGENT_RUNTIME_DATA_DIR", dir)]].concat());
        let request = Request { file: None, environment, dotenv: None, overrides: Vec::new() };
        load(&request).unwrap().settings
    }

    #[test]
    fn a_generated_permission_secret_is_kept_and_stays_good_when_another_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let redactor = Redactor::default();
        let first = keyring(&settings(dir.path(), &[]), &redactor).unwrap();
        let again = keyring(&settings(dir.path(), &[]), &redactor).unwrap();
        let id = |keys: &Keys| keys.key(Purpose::Sealing).id();
        assert_eq!(id(&first.current), id(&again.current));
        let text = std::fs::read_to_string(dir.path().join("permission-secret")).unwrap();
        assert!(redactor.finds_secret(&text), "it is not registered");
        let other = "another-secret-of-more-than-32-characters";
        let env = [("PERMISSION_SECRET", other)];
        let later = keyring(&settings(dir.path(), &env), &redactor).unwrap();
        assert_ne!(id(&later.current), id(&first.current));
        assert_eq!(later.previous.iter().map(id).collect::<Vec<_>>(), [id(&first.current)]);
        assert!(redactor.finds_secret(other));
    }

    #[test]
    fn production_generates_no_permission_secret() {
        let dir = tempfile::tempdir().unwrap();
        let env = [("AGENT_RUNTIME_ENV", "production")];
        assert!(keyring(&settings(dir.path(), &env), &Redactor::default()).is_err());
        assert!(!dir.path().join("permission-secret").exists());
    }
}
