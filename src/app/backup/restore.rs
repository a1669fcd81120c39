//! Putting a backup back.
//!
//! Invariants: the whole file is checked before anything is made; everything is put into a directory
//! beside the target, checked there, and given its name in one step: the target is there whole or not
//! at all, and what stands there is never replaced. Nothing that stands in the file leads out of that
//! directory: files are made first, then links, none of them through another, and only inside an
//! agent's workspace, where nobody but tools follows them. What comes back is a second store: it has
//! a name of its own and believes in no daemon of the first.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::runtime::Handle;

use super::source::{CHECKPOINTS, PKI, WORKSPACES};
use crate::{
    auth::Key,
    orchestrator::backups::verifies,
    runtime::Tasks,
    sandbox::give_to_tools,
    store::{
        Database, StoreError,
        archive::{self, ArchiveError, Checked, Head, Nowhere, Progress, Taker, age::Identity},
        dump::{Purpose, RowCells, Table, Target, TargetError},
    },
};

/// Name of the directory, in the restored one, with what was configured.
pub(crate) const CONFIGURED: &str = "restored-configuration";
/// Parts of the path of a workspace itself: what is in it has more.
const OF_A_WORKSPACE: usize = 2;
/// Mode bits that are put back: none that give rights of others.
const MODE: u32 = 0o777;

/// Why a backup was not put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// There is something already.
    #[error("{path} is not empty: a backup is put into a new directory alone", path = .0.display())]
    NotEmpty(PathBuf),
    /// The file is no good.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The database cannot be made, or is not empty.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The database cannot be read again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was put back is not what the backup holds.
    #[error("what was put back is not what the backup holds: {0}")]
    Differs(String),
}

fn io_error(doing: String) -> impl FnOnce(io::Error) -> RestoreError {
    move |source| ArchiveError::Io { doing, source }.into()
}

/// What the signature of a backup says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// A key of this daemon made it.
    Ours,
    /// There is none: it was made without the permission secret.
    Missing,
    /// It was made with a key that is not here.
    Unknown,
    /// It was made by nobody who has the key that it names.
    Forged,
}

/// Looks who signed it.
pub(crate) fn signed(checked: &Checked, keys: &[Key]) -> Signed {
    match &checked.signed.signature {
        None => Signed::Missing,
        Some(signature) => match verifies(keys, signature, &checked.signed.text) {
            None => Signed::Unknown,
            Some(true) => Signed::Ours,
            Some(false) => Signed::Forged,
        },
    }
}

/// Reads a backup to its end and keeps nothing.
///
/// # Errors
/// When it is not whole, or not for this identity.
pub(crate) async fn check(
    file: &Path,
    identity: &Identity,
    progress: &Progress,
) -> Result<Checked, RestoreError> {
    let (file, identity, progress) = (file.to_owned(), identity.clone(), progress.clone());
    let read = move || archive::read(&file, &identity, &mut Nowhere, &progress);
    Ok(Tasks::spawn_blocking(read).await.unwrap_or_else(|_| Err(panicked()))?)
}

fn panicked() -> ArchiveError {
    ArchiveError::Wrong("the work ended unexpectedly".to_owned())
}

/// Where a backup goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    /// The data directory, which must not exist or be empty.
    pub(crate) data_dir: &'p Path,
    /// The database: one in that directory, or an empty one on a server.
    pub(crate) database: &'p Database,
}

/// What stands there now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Links outside of agents' workspaces, which were not made, and what they named.
    pub(crate) not_made: Vec<(PathBuf, PathBuf)>,
}

/// Puts a backup that was checked into a place.
///
/// # Errors
/// When it is not the one that was checked, or anything cannot be made; then nothing of it is there.
pub(crate) async fn restore(
    file: &Path,
    identity: &Identity,
    checked: &Checked,
    place: Place<'_>,
    progress: &Progress,
) -> Result<Restored, RestoreError> {
    check_empty(place.data_dir)?;
    let temporary = beside(place.data_dir)?;
    let filled = fill(file, identity, checked, (&temporary, place.database), progress).await;
    let restored = match filled {
        Ok((target, restored)) => name(target, &temporary, place).await.map(|()| restored),
        Err(error) => Err(error),
    };
    if restored.is_err() {
        fs::remove_dir_all(&temporary).unwrap_or_default();
    }
    restored
}

/// The last step: the directory gets its name, the database counts.
async fn name(target: Target, temporary: &Path, place: Place<'_>) -> Result<(), RestoreError> {
    let to = place.data_dir;
    let rename = || -> io::Result<()> {
        fs::rename(temporary, to)?;
        File::open(to.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    let doing = format!("give {} its name", to.display());
    if let Database::Sqlite = place.database {
        target.commit().await?;
        return rename().map_err(io_error(doing));
    }
    // The other way round on a server: a directory can be taken back, a commit cannot.
    rename().map_err(io_error(doing))?;
    let committed = target.commit().await;
    if committed.is_err() {
        fs::remove_dir_all(to).unwrap_or_default();
    }
    Ok(committed?)
}

/// # Errors
/// When there is something.
pub(crate) fn check_empty(target: &Path) -> Result<(), RestoreError> {
    match fs::read_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(format!("read {}", target.display()))(error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(RestoreError::NotEmpty(target.to_owned())),
        },
    }
}

/// A new directory beside the target, for nobody else to look into.
fn beside(target: &Path) -> Result<PathBuf, RestoreError> {
    let parent = target.parent().unwrap_or(Path::new("/"));
    let name = target.file_name().and_then(|name| name.to_str()).unwrap_or("data");
    let path = parent.join(format!(".{name}.restoring-{}", std::process::id()));
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .and_then(|()| DirBuilder::new().mode(0o700).create(&path));
    made.map_err(io_error(format!("make {}", path.display())))?;
    Ok(path)
}

async fn fill(
    file: &Path,
    identity: &Identity,
    checked: &Checked,
    (temporary, database): (&Path, &Database),
    progress: &Progress,
) -> Result<(Target, Restored), RestoreError> {
    let schema = checked.head.schema;
    let target = Target::create(temporary, database, schema, Purpose::Copy).await?;
    if target.tables() != checked.head.tables {
        let what = "its tables are not those of its schema in this version".to_owned();
        return Err(RestoreError::Differs(what));
    }
    let mut placing = Placing {
        top: temporary.to_owned(),
        handle: Handle::current(),
        target,
        links: BTreeMap::new(),
        not_made: Vec::new(),
        modes: Vec::new(),
    };
    let (file, identity, own) = (file.to_owned(), identity.clone(), progress.clone());
    let work =
        move || archive::read(&file, &identity, &mut placing, &own).map(|read| (read, placing));
    let (read, placing) = Tasks::spawn_blocking(work).await.unwrap_or_else(|_| Err(panicked()))?;
    if read != *checked {
        return Err(RestoreError::Differs("the file was replaced meanwhile".to_owned()));
    }
    let (mut target, restored) = placing.finish()?;
    verify(&mut target, checked, progress).await?;
    Ok((target, restored))
}

/// Reads every row again.
async fn verify(
    target: &mut Target,
    checked: &Checked,
    progress: &Progress,
) -> Result<(), RestoreError> {
    for (table, expected) in checked.head.tables.iter().zip(&checked.manifest.tables) {
        progress.step(format!("checking table {}", table.name));
        let found = target.sum(table).await?;
        if found != *expected {
            let what = format!("table {} has {} rows of {}", table.name, found.rows, expected.rows);
            return Err(RestoreError::Differs(what));
        }
    }
    Ok(())
}

/// Puts everything below a directory that nobody else knows.
struct Placing {
    top: PathBuf,
    handle: Handle,
    target: Target,
    /// Made last: until then no name leads anywhere else.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Those that are not made.
    not_made: Vec<(PathBuf, PathBuf)>,
    /// Modes of directories, given last: one may forbid to write in it.
    modes: Vec<(PathBuf, u32)>,
}

impl Placing {
    /// Where something goes.
    fn at(&self, name: &Path) -> PathBuf {
        let first = name.components().next().map(|part| part.as_os_str().to_owned());
        let is_data = first.is_some_and(|first| first == PKI || first == WORKSPACES);
        if is_data || name == Path::new(CHECKPOINTS) {
            self.top.join(name)
        } else {
            self.top.join(CONFIGURED).join(name)
        }
    }

    fn parents(path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(parent)
    }

    /// What tools work with belongs to them.
    fn is_of_tools(&self, path: &Path) -> bool {
        path.parent().is_some_and(|parent| parent.starts_with(self.top.join(WORKSPACES)))
    }

    fn finish(self) -> Result<(Target, Restored), RestoreError> {
        for (path, target) in &self.links {
            if path.ancestors().skip(1).any(|above| self.links.contains_key(above)) {
                let what = format!("{} leads through a link", path.display());
                return Err(ArchiveError::Wrong(what).into());
            }
            let made = Self::parents(path).and_then(|()| symlink(target, path));
            made.map_err(io_error(format!("make the link {}", path.display())))?;
        }
        for (path, mode) in self.modes.iter().rev() {
            let given = fs::set_permissions(path, Permissions::from_mode(*mode));
            given.map_err(io_error(format!("set the mode of {}", path.display())))?;
        }
        Ok((self.target, Restored { not_made: self.not_made }))
    }
}

impl Taker for Placing {
    fn head(&mut self, _: &Head) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn rows(&mut self, table: &Table, rows: Vec<RowCells>) -> Result<(), ArchiveError> {
        Ok(self.handle.block_on(self.target.insert(table, &rows))?)
    }

    fn file(
        &mut self,
        name: &Path,
        mode: u32,
        modified: u64,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let path = self.at(name);
        let mut write = || -> io::Result<()> {
            Self::parents(&path)?;
            let mut file =
                OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
            io::copy(content, &mut file)?;
            if self.is_of_tools(&path) {
                give_to_tools(&file)?;
            }
            file.set_permissions(Permissions::from_mode(mode & MODE))?;
            if modified > 0 {
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(modified))?;
            }
            file.sync_all()
        };
        write().map_err(ArchiveError::io(format!("write {}", path.display())))
    }

    fn directory(&mut self, name: &Path, mode: u32) -> Result<(), ArchiveError> {
        let path = self.at(name);
        let make = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            if self.is_of_tools(&path) {
                give_to_tools(File::open(&path)?)?;
            }
            Ok(())
        };
        make().map_err(ArchiveError::io(format!("make {}", path.display())))?;
        self.modes.push((path, mode & MODE));
        Ok(())
    }

    fn link(&mut self, name: &Path, target: &Path) -> Result<(), ArchiveError> {
        let (name, target) = (name.to_owned(), target.to_owned());
        // What the daemon itself opens must be where its name says.
        if !name.starts_with(WORKSPACES) || name.components().count() <= OF_A_WORKSPACE {
            self.not_made.push((name, target));
        } else if self.links.insert(self.at(&name), target).is_some() {
            return Err(ArchiveError::Wrong(format!("{} stands in it twice", name.display())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
