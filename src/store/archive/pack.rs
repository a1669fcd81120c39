//! Writing the parts of a backup.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use super::{
    ArchiveError, Progress,
    age::{Recipient, Sealer},
    manifest::{LeftOut, Sum},
};

/// Bytes copied at once.
const PIECE: usize = 64 << 10;
/// Mode of files that this program makes.
const FILE_MODE: u32 = 0o600;

/// Counts and hashes what reaches the disk.
struct Disk {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A backup that is being written.
pub struct Pack {
    tar: tar::Builder<GzEncoder<Sealer<Disk>>>,
    sum: Sum,
    files: u64,
    left_out: LeftOut,
    progress: Progress,
}

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What stands on the disk.
pub(super) struct OnDisk {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Pack {
    pub(super) fn new(
        file: File,
        recipients: &[Recipient],
        progress: Progress,
    ) -> Result<Self, ArchiveError> {
        let disk = Disk { file: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
        // Text compresses well at any level, and a busy machine has better things to do.
        let gz = GzEncoder::new(Sealer::new(disk, recipients)?, Compression::fast());
        let tar = tar::Builder::new(gz);
        Ok(Self { tar, sum: Sum::default(), files: 0, left_out: LeftOut::default(), progress })
    }

    /// Adds a file of this program.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
        self.stream(Path::new(name), FILE_MODE, 0, content.len() as u64, content).map(drop)
    }

    /// Adds a file of this many bytes. One that is shorter meanwhile is filled up with zeros, one
    /// that is longer is cut: both count as changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn stream(
        &mut self,
        name: &Path,
        mode: u32,
        modified: u64,
        bytes: u64,
        from: impl Read,
    ) -> Result<(), ArchiveError> {
        self.progress.check()?;
        let doing = || format!("write {} into the backup", name.display());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_mtime(modified);
        header.set_size(bytes);
        self.sum.begin('f', mode, bytes, name.as_os_str().as_bytes());
        let mut exact = Exact { from, left: bytes, is_changed: false, pack: &mut self.sum };
        let written = self.tar.append_data(&mut header, name, &mut exact);
        written.map_err(ArchiveError::io(doing()))?;
        if exact.is_changed {
            self.left_out.changed += 1;
        }
        self.progress.bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(())
    }

    /// Counts a file beside the database.
    pub fn count_file(&mut self) {
        self.files += 1;
        self.progress.file();
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn directory(&mut self, name: &Path, mode: u32, modified: u64) -> Result<(), ArchiveError> {
        self.progress.check()?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_mtime(modified);
        header.set_size(0);
        self.sum.begin('d', mode, 0, name.as_os_str().as_bytes());
        self.count_file();
        let written = self.tar.append_data(&mut header, name, io::empty());
        written.map_err(ArchiveError::io("write a directory into the backup"))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn link(&mut self, name: &Path, target: &Path) -> Result<(), ArchiveError> {
        self.progress.check()?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        let bytes = target.as_os_str().as_bytes();
        self.sum.begin('l', 0o777, bytes.len() as u64, name.as_os_str().as_bytes());
        self.sum.content(bytes);
        self.count_file();
        let written = self.tar.append_link(&mut header, name, target);
        written.map_err(ArchiveError::io("write a link into the backup"))
    }

    /// Counts something that no backup holds.
    pub fn leave_out(&mut self, count: impl FnOnce(&mut LeftOut)) {
        count(&mut self.left_out);
    }

    /// What was added so far: how many files beside the database, the sum, what was left out.
    pub(super) fn so_far(&self) -> (u64, String, LeftOut) {
        (self.files, self.sum.clone().finish(), self.left_out.clone())
    }

    /// Ends the file; the disk has it when this returns.
    pub(super) fn finish(self) -> Result<OnDisk, ArchiveError> {
        let finished = || -> io::Result<OnDisk> {
            let Disk { file, hash, bytes } = self.tar.into_inner()?.finish()?.finish()?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            Ok(OnDisk { bytes, sha256: data_encoding::HEXLOWER.encode(&hash.finalize()) })
        };
        finished().map_err(ArchiveError::io("finish the backup"))
    }
}

/// Gives exactly so many bytes, whatever the file does meanwhile, and adds them up.
struct Exact<'p, R> {
    from: R,
    left: u64,
    is_changed: bool,
    pack: &'p mut Sum,
}

impl<R: Read> Read for Exact<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE).min(to.len());
        let Some(to) = to.get_mut(..most).filter(|to| !to.is_empty()) else { return Ok(0) };
        let mut count = self.from.read(to)?;
        if count == 0 {
            to.fill(0);
            count = to.len();
            self.is_changed = true;
        }
        self.pack.content(to.get(..count).unwrap_or_default());
        self.left -= count as u64;
        Ok(count)
    }
}
