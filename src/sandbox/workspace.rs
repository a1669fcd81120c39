//! Directories that belong to tools.

use std::{
    fs::{DirBuilder, Permissions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::fchown,
    process::{Gid, Uid, geteuid},
};

use super::zygote::TOOL_UID;

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

/// Gives an open file or directory to the tools' uid, so that a tool can change what a file tool
/// or an operator's command has made. Does nothing unless the daemon is root.
pub fn give_to_tools(file: impl AsFd) -> io::Result<()> {
    give_to(file, None)
}

/// As [`give_to_tools`], to this uid and gid if there is one to be kept.
pub(super) fn give_to(file: impl AsFd, owner: Option<(u32, u32)>) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = owner.unwrap_or((TOOL_UID, TOOL_UID));
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(())
}
