//! The directory in which backups lie.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};

use crate::domain::Timestamp;

use super::{
    ArchiveError, PARTIAL, SUFFIX,
    age::{self, Shape},
};

/// Age after which a file that is not whole was left by a daemon that ended.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A file of the directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lying {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
}

/// What can be checked of a backup without the secret key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Outside {
    /// Bytes of the file.
    pub bytes: u64,
    /// Its SHA-256, as hex.
    pub sha256: String,
    /// What its head says.
    pub shape: Shape,
}

/// Backups that lie in a directory, by name; none when there is no directory.
///
/// # Errors
/// When it cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Lying>, ArchiveError> {
    let read = || -> io::Result<Vec<Lying>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let meta = entry.metadata()?;
            if name.ends_with(SUFFIX) && meta.is_file() {
                found.push(Lying { name, bytes: meta.len() });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    };
    read().map_err(ArchiveError::io(format!("list {}", dir.display())))
}

/// A file of the directory by its name; none when the name leads elsewhere.
pub fn named(dir: &Path, name: &str) -> Option<PathBuf> {
    let is_plain = name.ends_with(SUFFIX) && !name.contains('/') && !name.starts_with('.');
    is_plain.then(|| dir.join(name))
}

/// How long a file is; none when there is no such file.
pub fn bytes(file: &Path) -> Option<u64> {
    fs::symlink_metadata(file).ok().filter(fs::Metadata::is_file).map(|found| found.len())
}

/// Removes a backup. One that is gone is no error.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(file: &Path) -> Result<(), ArchiveError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(ArchiveError::io(format!("remove {}", file.display()))),
    }
}

/// Removes what daemons that ended have left unfinished long ago.
pub fn sweep(dir: &Path, now: Timestamp) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_partial = entry.file_name().to_str().is_some_and(|name| name.ends_with(PARTIAL));
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let written = modified.ok().and_then(|then| then.duration_since(UNIX_EPOCH).ok());
        let written = written.and_then(|then| i64::try_from(then.as_micros()).ok());
        let is_old =
            written.is_some_and(|then| now.since(Timestamp::from_micros(then)) > PARTIAL_AGE);
        if is_partial && is_old {
            fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

/// Checks a file as far as that goes without the secret key.
///
/// # Errors
/// When it cannot be read, or is no whole file of this kind.
pub fn look(file: &Path) -> Result<Outside, ArchiveError> {
    let doing = || format!("read {}", file.display());
    let mut opened = File::open(file).map_err(ArchiveError::io(doing()))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    let mut piece = vec![0; PIECE];
    loop {
        let count = opened.read(&mut piece).map_err(ArchiveError::io(doing()))?;
        if count == 0 {
            break;
        }
        hash.update(piece.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
    let again = File::open(file).map_err(ArchiveError::io(doing()))?;
    let shape = age::shape(again, bytes)?;
    Ok(Outside { bytes, sha256: data_encoding::HEXLOWER.encode(&hash.finalize()), shape })
}
