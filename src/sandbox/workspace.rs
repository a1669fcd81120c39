//! Directories that belong to tools.

use std::{
    fs::{DirBuilder, Permissions},
    io,
    marker::PhantomData,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::fchown,
    process::{Gid, Uid, geteuid, getgroups},
    thread::set_thread_groups,
};

use super::{sys, zygote::TOOL_UID};

/// A workspace cannot be made ready.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare workspace {path}", path = path.display())]
pub struct WorkspaceError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Makes a workspace, readable and writable by tools and by the daemon only. Under root the
/// directory goes to the tools' uid unless it belongs to somebody else already; what lies in it is
/// left as it is.
pub fn prepare_workspace(path: &Path) -> Result<(), WorkspaceError> {
    prepare(path).map_err(|source| WorkspaceError { path: path.to_owned(), source })
}

fn prepare(path: &Path) -> io::Result<()> {
    let is_new = !path.exists();
    if is_new {
        DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    }
    let found = std::fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if is_new {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    if geteuid().is_root() && found.uid() == 0 {
        lchown(path, Some(TOOL_UID), Some(TOOL_UID))?;
    }
    Ok(())
}

/// Gives an open file or directory to the tools' uid, so that a tool can change what the daemon
/// or an operator's command has made. Does nothing unless the daemon is root.
pub fn give_to_tools(file: impl AsFd) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    fchown(file, Some(Uid::from_raw(TOOL_UID)), Some(Gid::from_raw(TOOL_UID)))?;
    Ok(())
}

/// While it lives, this thread may do with files what tools may do, and no more: under root the
/// kernel checks as the tools' user, without groups. Bound to its thread.
#[derive(Debug)]
pub(super) struct AsTools {
    /// Root's groups, if it was root.
    groups: Option<Vec<Gid>>,
    _thread: PhantomData<*const ()>,
}

impl AsTools {
    /// From here on as the tools' user.
    ///
    /// # Errors
    /// When the ids cannot be changed: nothing may be done then.
    pub(super) fn enter() -> io::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { groups: None, _thread: PhantomData });
        }
        let groups = getgroups()?;
        if !groups.is_empty() {
            set_thread_groups(&[])?;
        }
        let guard = Self { groups: Some(groups), _thread: PhantomData };
        sys::set_thread_fs_ids(TOOL_UID, TOOL_UID)?;
        Ok(guard)
    }
}

impl Drop for AsTools {
    fn drop(&mut self) {
        let Some(groups) = &self.groups else { return };
        let restored = sys::set_thread_fs_ids(0, 0)
            .and_then(|()| if groups.is_empty() { Ok(()) } else { Ok(set_thread_groups(groups)?) });
        if let Err(error) = restored {
            // Weaker than before, never stronger.
            tracing::error!(%error, "a thread keeps the rights of tools");
        }
    }
}
