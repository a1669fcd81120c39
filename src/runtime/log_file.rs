//! The log file: lines are appended, and can be taken out again.
//!
//! Invariant: a rewrite loses no line that is written meanwhile, and writers wait only for the lines
//! that came while it read. A crash leaves the old file or the new one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::tasks::lock;

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFate {
    /// It stays.
    Keep,
    /// It goes.
    Drop,
    /// This stands in its place, without a line break.
    Replace(String),
}

/// What a rewrite did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Lines that went.
    pub dropped: u64,
    /// Lines that were replaced.
    pub replaced: u64,
}

/// The file that log lines go to. Clones share it.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    /// Opens it to append.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(append_to(path)?)) })
    }

    pub(super) fn append(&self, line: &[u8]) -> io::Result<()> {
        lock(&self.file).write_all(line)
    }

    /// Goes through every line and keeps, drops or replaces it. Blocking; for the time of the last
    /// lines nobody can write.
    ///
    /// # Errors
    /// When the file cannot be read, or the new one beside it not be written; then nothing changed.
    pub fn rewrite(&self, mut fate: impl FnMut(&str) -> LineFate) -> io::Result<Rewritten> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".rewriting");
        let beside = PathBuf::from(beside);
        let mut old = BufReader::new(File::open(&self.path)?);
        let new =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        let mut new = BufWriter::new(new);
        let mut done = Rewritten::default();
        let mut half = Vec::new();
        copy(&mut old, &mut new, &mut half, &mut fate, &mut done)?;
        let mut file = lock(&self.file);
        copy(&mut old, &mut new, &mut half, &mut fate, &mut done)?;
        new.write_all(&half)?;
        if done == Rewritten::default() {
            fs::remove_file(&beside)?;
            return Ok(done);
        }
        new.flush()?;
        new.get_ref().sync_all()?;
        fs::rename(&beside, &self.path)?;
        *file = append_to(&self.path)?;
        drop(file);
        Ok(done)
    }
}

/// Copies whole lines; what has no end yet stays in `half`.
fn copy(
    old: &mut impl BufRead,
    new: &mut impl Write,
    half: &mut Vec<u8>,
    fate: &mut impl FnMut(&str) -> LineFate,
    done: &mut Rewritten,
) -> io::Result<()> {
    while old.read_until(b'\n', half)? > 0 {
        if half.last() != Some(&b'\n') {
            return Ok(());
        }
        let line = String::from_utf8_lossy(half);
        match fate(line.trim_end_matches('\n')) {
            LineFate::Keep => new.write_all(half)?,
            LineFate::Drop => done.dropped += 1,
            LineFate::Replace(text) => {
                done.replaced += 1;
                new.write_all(text.as_bytes())?;
                new.write_all(b"\n")?;
            }
        }
        half.clear();
    }
    Ok(())
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dropped_and_replaced_and_later_ones_are_appended_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = LogFile::open(&path).unwrap();
        for line in ["old\n", "ann came\n", "bob came\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        let fate = |line: &str| match line {
            "old" => LineFate::Drop,
            line if line.contains("ann") => LineFate::Replace(line.replace("ann", "somebody")),
            _ => LineFate::Keep,
        };
        assert_eq!(log.rewrite(fate).unwrap(), Rewritten { dropped: 1, replaced: 1 });
        log.append(b"later\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody came\nbob came\nlater\n");
        // Nothing to do leaves the file as it is.
        assert_eq!(log.rewrite(|_| LineFate::Keep).unwrap(), Rewritten::default());
        log.append(b"last\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn lines_that_are_written_meanwhile_are_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::open(&dir.path().join("log")).unwrap();
        log.append(b"x 0\nx 1\n").unwrap();
        let writer = log.clone();
        let mut more = (2..50).map(|n| format!("x {n}\n"));
        let done = log.rewrite(|line| {
            // Comes while the first part is read.
            if !line.ends_with('9')
                && let Some(line) = more.next()
                && let Ok(mut file) = writer.file.try_lock()
            {
                file.write_all(line.as_bytes()).unwrap();
            }
            LineFate::Replace(line.replace('x', "y"))
        });
        assert!(done.unwrap().replaced >= 2);
        let text = fs::read_to_string(dir.path().join("log")).unwrap();
        let numbers: Vec<_> =
            text.lines().map(|l| l.split_once(' ').unwrap().1.parse::<u32>().unwrap()).collect();
        let expected: Vec<u32> = (0..u32::try_from(numbers.len()).unwrap()).collect();
        assert_eq!(numbers, expected);
        assert!(text.lines().all(|line| line.starts_with('y')));
    }
}
