//! What all replicas must have in common, checked before anything else is done: the permission
//! secret, and the directory of the agents' workspaces.
//!
//! Invariant: a replica that has another one does not start. It would sign what no other accepts, or
//! work on files that no other sees.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::{
    build::fault,
    cli::Failure,
    config::{Settings, WorkerRuntime},
    secrets::Keyring,
};
use crate::{
    auth::{Key, Purpose},
    runtime::{
        Tasks,
        failpoint::{Point, pass},
    },
    store::{ClusterIdentity, Store, StoreError},
};

/// The file in the directory of the workspaces, beside them: no tool sees it.
pub(super) const MARKER: &str = ".agent-runtime-cluster";

/// Compares this replica with the others, where there may be some.
pub(super) async fn check(
    settings: &Settings,
    store: &Store,
    keyring: &Keyring,
) -> Result<(), Failure> {
    if !store.is_shared() {
        return Ok(());
    }
    if settings.sandbox_enabled && settings.worker_runtime != WorkerRuntime::Sandbox {
        let backend = settings.worker_runtime.as_str();
        return Err(Failure::usage(format!(
            "`sandbox.backend = \"{backend}\"` cannot be used with a database that replicas share: \
             only our own sandbox ends its tools when this daemon stands still and another one takes \
             over its runs"
        ))
        .next("set sandbox.backend = \"sandbox\", or use SQLite with one daemon"));
    }
    let keys = keyring.all(Purpose::Cluster);
    // Every replica reads again after a change: none is made where nothing changes.
    let stored = store.read().await.map_err(fault)?.cluster().get().await.map_err(fault)?;
    let is_known = |identity: &ClusterIdentity| {
        let message = secret_message(&identity.id);
        keys.first().is_some_and(|key| is_mac(key, &message, &identity.secret_mac))
    };
    let common = match stored.filter(is_known) {
        Some(identity) => Common::Same(identity),
        None => compare_and_store(store, keys.clone()).await?,
    };
    let Common::Same(identity) = common else {
        return Err(Failure::usage(
            "the permission secret is not the one that the other replicas of this database have",
        )
        .next(
            "give every replica the same AGENT_RUNTIME_PERMISSION_SECRET_FILE; to change it, see \
             docs/SCALING.md",
        ));
    };
    let dir = settings.workspaces_dir.clone();
    let marked = identity.has_workspaces;
    let id = identity.id.clone();
    let found = Tasks::spawn_blocking(move || mark(&dir, &id, &keys, marked)).await;
    let dir = settings.workspaces_dir.display();
    let found = found.map_err(fault)?.map_err(|error| {
        Failure::fault(format!("the directory of the workspaces {dir} cannot be used: {error}"))
    })?;
    let (other, next) = match found {
        Mark::Ours => return Ok(()),
        Mark::New if is_first(store).await.map_err(fault)? => return Ok(()),
        Mark::New => {
            // Another replica was first, in another directory.
            fs::remove_file(settings.workspaces_dir.join(MARKER)).ok();
            ("is not the one of the other replicas", None)
        }
        Mark::Missing(line) => {
            ("is not the one of the other replicas: it lacks their mark", Some(line))
        }
        Mark::Another => ("belongs to another cluster", None),
    };
    let failure = Failure::usage(format!("the directory of the workspaces {dir} {other}"));
    Err(match next {
        None => failure.next("set workspaces_dir to the directory that all replicas share"),
        Some(line) => failure.next(format!(
            "set workspaces_dir to the directory that all replicas share; if this is it and its mark \
             was lost, put this line into {dir}/{MARKER}: {line}"
        )),
    })
}

/// What the database says of the permission secret.
enum Common {
    Same(ClusterIdentity),
    Another,
}

async fn compare_and_store(store: &Store, keys: Vec<Key>) -> Result<Common, Failure> {
    let compared = store.change(move |tx| Box::pin(async move { compare(tx, &keys).await }));
    compared.await.map_err(|error: StoreError| fault(error))
}

async fn compare(tx: &mut crate::store::Tx, keys: &[Key]) -> Result<Common, StoreError> {
    let missing = || StoreError::Missing { what: "the identity of the cluster".to_owned() };
    let identity = tx.cluster().get().await?.ok_or_else(missing)?;
    let message = secret_message(&identity.id);
    let known = keys.iter().position(|key| is_mac(key, &message, &identity.secret_mac));
    match (known, keys.first()) {
        (Some(0), _) => Ok(Common::Same(identity)),
        // The first replica, or the first one with a new secret that knows the old one.
        (found, Some(key)) if found.is_some() || identity.secret_mac.is_empty() => {
            let identity = ClusterIdentity { secret_mac: mac(key, &message), ..identity };
            tx.cluster().put(&identity).await?;
            Ok(Common::Same(identity))
        }
        _ => Ok(Common::Another),
    }
}

/// Notes that there is a marked directory; whether nobody else has done so before.
async fn is_first(store: &Store) -> Result<bool, StoreError> {
    store.change(|tx| Box::pin(async move { tx.cluster().mark_workspaces().await })).await
}

/// What stands in the directory of the workspaces.
enum Mark {
    /// The mark of this cluster.
    Ours,
    /// There was none in any directory, and now it stands here.
    New,
    /// There is one, elsewhere. What would stand here.
    Missing(String),
    /// Something else.
    Another,
}

fn mark(dir: &Path, id: &str, keys: &[Key], is_marked: bool) -> io::Result<Mark> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(dir)?;
    let file = dir.join(MARKER);
    let message = workspaces_message(id);
    let line = keys.first().map(|key| format!("{id} {}", mac(key, &message))).unwrap_or_default();
    match fs::read_to_string(&file) {
        Ok(text) => {
            let Some((found, code)) = text.trim().split_once(' ') else { return Ok(Mark::Another) };
            let is_ours = found == id && keys.iter().any(|key| is_mac(key, &message, code));
            Ok(if is_ours { Mark::Ours } else { Mark::Another })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_marked => {
            Ok(Mark::Missing(line))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            pass(Point::OwnFileBefore)?;
            let mut new =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
            io::Write::write_all(&mut new, format!("{line}\n").as_bytes())?;
            new.sync_all()?;
            pass(Point::OwnFileAfter)?;
            Ok(Mark::New)
        }
        Err(error) => Err(error),
    }
}

fn secret_message(id: &str) -> String {
    format!("permission secret\n{id}")
}

fn workspaces_message(id: &str) -> String {
    format!("workspaces\n{id}")
}

fn mac(key: &Key, message: &str) -> String {
    data_encoding::HEXLOWER.encode(&key.mac(message.as_bytes()))
}

fn is_mac(key: &Key, message: &str, code: &str) -> bool {
    let bytes = data_encoding::HEXLOWER.decode(code.as_bytes());
    bytes.is_ok_and(|bytes| key.verifies(message.as_bytes(), &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::Keys, domain::Secret};

    fn key(letter: &str) -> Key {
        Keys::new(&Secret::new(letter.repeat(32))).unwrap().key(Purpose::Cluster)
    }

    #[test]
    fn a_directory_is_marked_once_and_known_by_its_cluster_and_secret_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let keys = [key("k")];
        assert!(matches!(mark(&one, "c1", &keys, false), Ok(Mark::New)));
        assert!(matches!(mark(&one, "c1", &keys, true), Ok(Mark::Ours)));
        assert!(matches!(mark(&one, "c2", &keys, true), Ok(Mark::Another)), "another cluster's");
        assert!(matches!(mark(&one, "c1", &[key("x")], true), Ok(Mark::Another)), "forged");
        let both = [key("x"), key("k")];
        assert!(matches!(mark(&one, "c1", &both, true), Ok(Mark::Ours)), "a former secret's");
        // A directory that is not the others' one; and the way out when their mark was lost.
        let Ok(Mark::Missing(line)) = mark(&other, "c1", &keys, true) else { panic!("it passed") };
        assert!(!other.join(MARKER).exists());
        fs::write(other.join(MARKER), line).unwrap();
        assert!(matches!(mark(&other, "c1", &keys, true), Ok(Mark::Ours)));
        fs::write(other.join(MARKER), "nonsense").unwrap();
        assert!(matches!(mark(&other, "c1", &keys, true), Ok(Mark::Another)));
    }
}
