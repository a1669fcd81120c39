//! Joins the replicas of a database, again after this daemon had to stop, and after another daemon
//! on the same directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    NewReplica, Replicas, Store,
    backend::newest_migration,
    beside::database_now,
    db::{Conn, query},
    error::StoreError,
    identity::ClusterIdentities,
    waiting,
};
use crate::{
    domain::{Clock, EventId, IdSource},
    runtime::{
        Tasks,
        failpoint::{Point, pass},
    },
};

/// The file that names the last replica of a data directory.
const FILE: &str = "replica";

/// Which replica this daemon is. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The start that counts now.
    pub(super) boot_epoch: Arc<AtomicU64>,
    about: NewReplica,
    cluster: String,
    file: PathBuf,
    /// The last replica of this directory, where it was one of the same database.
    previous: Option<u64>,
}

impl Member {
    pub(super) fn epoch(&self) -> u64 {
        self.boot_epoch.load(Ordering::Acquire)
    }
}

/// Counts this start, and notes that it lives. Its number is the owner of what it claims.
pub(super) async fn register(
    conn: &mut Conn,
    clock: &dyn Clock,
    ids: &IdSource,
    data_dir: &Path,
) -> Result<Member, StoreError> {
    let cluster = cluster_id(conn, ids).await?;
    let file = data_dir.join(FILE);
    let previous = previous(&file, &cluster);
    let about = NewReplica::of_this_process();
    let epoch = join(conn, clock, &about).await?;
    if !conn.is_shared() {
        // The directory's lock proves that nobody else has the database.
        let now = clock.now();
        Replicas { conn: &mut *conn }.end_others(epoch, now).await?;
    }
    if conn.is_shared() {
        let counted = waiting::recount(conn).await;
        counted.map_err(StoreError::unavailable("count the queue"))?;
    }
    let member =
        Member { boot_epoch: Arc::new(AtomicU64::new(epoch)), about, cluster, file, previous };
    Ok(member)
}

impl NewReplica {
    fn of_this_process() -> Self {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            name: name.trim().to_owned(),
            address: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: newest_migration(),
        }
    }
}

async fn join(conn: &mut Conn, clock: &dyn Clock, about: &NewReplica) -> Result<u64, StoreError> {
    let number =
        query("UPDATE counters SET value = value + 1 WHERE name = 'boot_epoch' RETURNING value")
            .one_number(conn)
            .await
            .map_err(StoreError::unavailable("count this start"))?;
    let epoch = u64::try_from(number).unwrap_or(0);
    let now = database_now(conn, clock).await?;
    Replicas { conn: &mut *conn }.join(epoch, about, now).await?;
    Ok(epoch)
}

/// What names the database for good; made by whoever comes first.
async fn cluster_id(conn: &mut Conn, ids: &IdSource) -> Result<String, StoreError> {
    query(
        "INSERT INTO cluster (id, cluster_id, secret_mac, has_workspaces) VALUES (1, $1, '', 0) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(EventId::new(ids).to_string())
    .execute(conn)
    .await
    .map_err(StoreError::unavailable("name the cluster"))?;
    let identity = ClusterIdentities { conn: &mut *conn }.get().await?;
    identity
        .map(|identity| identity.id)
        .ok_or_else(|| StoreError::Missing { what: "the name of the cluster".to_owned() })
}

fn previous(file: &Path, cluster: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let (id, epoch) = text.trim().split_once(' ')?;
    // Another database counts its starts for itself.
    (id == cluster).then(|| epoch.parse().ok()).flatten()
}

impl Store {
    /// Which start of a daemon this is: the owner of a claim. Another one once it has
    /// [joined again](Self::join_again).
    pub fn boot_epoch(&self) -> u64 {
        self.member.epoch()
    }

    /// Ends the replica that was here before this one, in the same directory: call it once nothing
    /// of that daemon lives, its tools included. Whoever looks next recovers its runs. Then notes
    /// which one is here now.
    ///
    /// # Errors
    /// When the store or the directory cannot be written.
    pub async fn succeed(&self) -> Result<(), StoreError> {
        if let Some(previous) = self.member.previous.filter(|epoch| *epoch != self.boot_epoch()) {
            let ended: Result<(), StoreError> = self
                .change(move |tx| {
                    Box::pin(async move {
                        let now = tx.database_now().await?;
                        tx.replicas().leave(previous, now).await
                    })
                })
                .await;
            ended?;
        }
        self.note(self.boot_epoch()).await
    }

    /// Joins as another replica: the one before has ended with this. Nothing of it may be left here:
    /// what it worked on is recovered like that of any other.
    ///
    /// # Errors
    /// When the database or the directory cannot be written; then nothing has changed.
    pub async fn join_again(&self) -> Result<u64, StoreError> {
        let before = self.boot_epoch();
        let mut conn = self.beside.get().await?;
        let epoch = join(&mut conn, &*self.clock, &self.member.about).await?;
        let now = database_now(&mut conn, &*self.clock).await?;
        Replicas { conn: &mut conn }.leave(before, now).await?;
        drop(conn);
        self.note(epoch).await?;
        self.member.boot_epoch.store(epoch, Ordering::Release);
        Ok(epoch)
    }

    async fn note(&self, epoch: u64) -> Result<(), StoreError> {
        let (file, text) = (self.member.file.clone(), format!("{} {epoch}\n", self.member.cluster));
        let written = Tasks::spawn_blocking(move || write(&file, &text)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the number of this replica cannot be noted in its directory");
                Err(StoreError::Unavailable { doing: "note this replica", source: None })
            }
            Err(_) => Err(StoreError::Unavailable { doing: "note this replica", source: None }),
        }
    }
}

/// In one step: half a line would name another replica.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    pass(Point::OwnFileBefore)?;
    fs::write(&new, text)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, file)?;
    Ok(pass(Point::OwnFileAfter)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_names_its_last_replica_of_the_same_database_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(FILE);
        assert_eq!(previous(&file, "one"), None);
        write(&file, "one 7\n").expect("a file");
        assert_eq!(previous(&file, "one"), Some(7));
        assert_eq!(previous(&file, "two"), None, "its numbers mean other replicas there");
        write(&file, "one x\n").expect("a file");
        assert_eq!(previous(&file, "one"), None);
    }
}
