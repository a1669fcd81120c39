//! Files that hold secrets: ours alone, or refused.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    domain::Secret,
    runtime::{
        durable,
        failpoint::{Point, pass},
    },
};

/// No secret is longer; a wrong path such as a disk image must not be read whole.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read it.
    #[error("{path} can be read by others: run `chmod 600 {path}`", path = path.display())]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// Others could change it.
    #[error("{path} can be written by others: run `chmod 600 {path}`", path = path.display())]
    Writable {
        /// Which.
        path: PathBuf,
    },
    /// It belongs to someone else.
    #[error("{path} belongs to uid {owner}, not to you: run `chown {uid} {path}`", path = path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// There is nothing in it, or too much.
    #[error("{path} is empty, or too large for a secret", path = path.display())]
    Size {
        /// Which.
        path: PathBuf,
    },
}

/// Reads a secret; a line break at its end does not count.
pub(crate) fn read(path: &Path) -> Result<Secret<String>, SecretFileError> {
    let text = read_private(path, SECRET_BYTES_MAX)?;
    let text = text.expose().trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(SecretFileError::Size { path: path.to_owned() });
    }
    Ok(Secret::new(text.to_owned()))
}

/// The text of a file that may hold secrets, at most `bytes_max` of it. What is checked is the file
/// that is read, whatever its name leads to in between.
fn read_private(path: &Path, bytes_max: u64) -> Result<Secret<String>, SecretFileError> {
    let unreadable = |source| SecretFileError::Unreadable { path: path.to_owned(), source };
    // Opening a pipe would wait for somebody to write.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let file = fs::File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    check_meta(path, &meta)?;
    if meta.len() > bytes_max {
        return Err(SecretFileError::Size { path: path.to_owned() });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(bytes_max).read_to_string(&mut text).map_err(unreadable)?;
    Ok(Secret::new(std::mem::take(&mut *text)))
}

/// Checks that a file which holds a secret is ours (or root's) and that nobody else can read it.
pub(crate) fn check(path: &Path) -> Result<(), SecretFileError> {
    let unreadable = |source| SecretFileError::Unreadable { path: path.to_owned(), source };
    check_meta(path, &fs::metadata(path).map_err(unreadable)?)
}

/// Checks that nobody else can change a file that decides what the daemon does. Reading it is
/// another matter: it may hold no secret. A file that is not there is the reader's to complain of.
pub(crate) fn check_integrity(path: &Path) -> Result<(), SecretFileError> {
    let Ok(meta) = fs::metadata(path) else { return Ok(()) };
    let uid = effective_uid();
    if meta.uid() != uid && meta.uid() != 0 {
        return Err(SecretFileError::Foreign { path: path.to_owned(), owner: meta.uid(), uid });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(SecretFileError::Writable { path: path.to_owned() });
    }
    Ok(())
}

fn check_meta(path: &Path, meta: &fs::Metadata) -> Result<(), SecretFileError> {
    let uid = effective_uid();
    if meta.uid() != uid && meta.uid() != 0 {
        return Err(SecretFileError::Foreign { path: path.to_owned(), owner: meta.uid(), uid });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(SecretFileError::Open { path: path.to_owned() });
    }
    Ok(())
}

/// Writes a file that only we can read, replacing an older one as a whole.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    pass(Point::OwnFileBefore)?;
    let mut file =
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    durable::sync_name(path)?;
    Ok(pass(Point::OwnFileAfter)?)
}

/// A new secret: 32 random bytes, as hex.
pub(crate) fn random() -> io::Result<Secret<String>> {
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(Secret::new(data_encoding::HEXLOWER.encode(&random)))
}

/// Who we are. The kernel shows the owner of a process as the owner of its directory in `/proc`.
pub(crate) fn effective_uid() -> u32 {
    fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.uid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write(&path, "a secret\n").unwrap();
        assert_eq!(read(&path).unwrap().expose(), "a secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path), Err(SecretFileError::Open { .. })));
        assert!(matches!(read(&dir.path().join("none")), Err(SecretFileError::Unreadable { .. })));
    }
}
