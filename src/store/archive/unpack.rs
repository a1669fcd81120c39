//! Reading a backup: every part is checked against the manifest, whoever takes it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use flate2::read::GzDecoder;

use super::{
    ArchiveError, FORMAT, Progress,
    age::{Identity, Opener},
    manifest::{Head, Manifest, Signature, Signed, Sum},
};
use crate::store::dump::{RowCells, RowsHash, Table, TableSum, read_line};

/// Name of the head.
pub(super) const HEAD: &str = "backup.json";
/// What the names of rows begin with.
pub(super) const ROWS: &str = "database/";
/// Name of the manifest.
pub(super) const MANIFEST: &str = "manifest.json";
/// Name of its signature.
pub(super) const SIGNATURE: &str = "signature.json";
/// Bytes of one of the files above, or of one with rows, at most. A row has no more than some MiB.
const PART_MAX: u64 = 256 << 20;

/// Who takes the parts as they come. Nothing is to count before [`read`] has come to its end.
pub trait Taker {
    /// What the backup is of; comes first.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn head(&mut self, head: &Head) -> Result<(), ArchiveError>;

    /// Rows of a table.
    ///
    /// # Errors
    /// When they cannot be taken.
    fn rows(&mut self, table: &Table, rows: Vec<RowCells>) -> Result<(), ArchiveError>;

    /// A file; `name` has no part that leads elsewhere.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn file(
        &mut self,
        name: &Path,
        mode: u32,
        modified: u64,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError>;

    /// A directory.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn directory(&mut self, name: &Path, mode: u32) -> Result<(), ArchiveError>;

    /// A symbolic link, which may name anything.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn link(&mut self, name: &Path, target: &Path) -> Result<(), ArchiveError>;
}

/// Takes everything and keeps nothing: for who only checks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Taker for Nowhere {
    fn head(&mut self, _: &Head) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn rows(&mut self, _: &Table, _: Vec<RowCells>) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn file(&mut self, _: &Path, _: u32, _: u64, _: &mut dyn Read) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn directory(&mut self, _: &Path, _: u32) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn link(&mut self, _: &Path, _: &Path) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// A backup that was read to its end and is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it is of.
    pub head: Head,
    /// What it holds.
    pub manifest: Manifest,
    /// The manifest as it stands there, and its signature.
    pub signed: Signed,
}

/// Reads a backup from its first byte to its last and gives its parts to `taker`.
///
/// # Errors
/// When it is not for this identity, not whole, or `taker` refuses.
pub fn read(
    file: &Path,
    identity: &Identity,
    taker: &mut dyn Taker,
    progress: &Progress,
) -> Result<Checked, ArchiveError> {
    let doing = || format!("read {}", file.display());
    let from = File::open(file).map_err(ArchiveError::io(doing()))?;
    let mut archive = tar::Archive::new(GzDecoder::new(Opener::new(from, identity)?));
    let mut reading = Reading {
        taker,
        progress,
        sum: Sum::default(),
        files: 0,
        head: None,
        tables: BTreeMap::new(),
        last_table: None,
        manifest: None,
        signature: None,
    };
    for entry in archive.entries().map_err(ArchiveError::io(doing()))? {
        progress.check()?;
        let entry = entry.map_err(ArchiveError::io(doing()))?;
        reading.entry(entry)?;
    }
    // The end of the tar is not the end of the file: the last part says whether it was cut.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(ArchiveError::io(doing()))?;
    io::copy(&mut rest.into_inner(), &mut io::sink()).map_err(ArchiveError::io(doing()))?;
    reading.finish()
}

struct Reading<'r> {
    taker: &'r mut dyn Taker,
    progress: &'r Progress,
    sum: Sum,
    files: u64,
    head: Option<Head>,
    tables: BTreeMap<String, RowsHash>,
    last_table: Option<String>,
    manifest: Option<(Manifest, Vec<u8>, String)>,
    signature: Option<Signature>,
}

fn wrong(what: impl Into<String>) -> ArchiveError {
    ArchiveError::Wrong(what.into())
}

impl Reading<'_> {
    fn entry(&mut self, entry: tar::Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let name = entry.path().map_err(ArchiveError::io("read a name of the backup"))?;
        let name =
            within(&name).ok_or_else(|| wrong(format!("{} leads elsewhere", name.display())))?;
        let mode = entry.header().mode().unwrap_or(0) & 0o7777;
        let bytes = entry.size();
        let text = name.to_str().unwrap_or_default().to_owned();
        if self.manifest.is_some() && text != SIGNATURE {
            return Err(wrong(format!("{text} stands after its end")));
        }
        if self.head.is_none() && text != HEAD {
            return Err(wrong("it does not begin with what it is of"));
        }
        match entry.header().entry_type() {
            tar::EntryType::Regular => {
                if text != MANIFEST && text != SIGNATURE {
                    self.sum.begin('f', mode, bytes, name.as_os_str().as_bytes());
                }
                self.file(&name, &text, mode, entry)
            }
            tar::EntryType::Directory => {
                self.sum.begin('d', mode, 0, name.as_os_str().as_bytes());
                self.files += 1;
                self.taker.directory(&name, mode)
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name().ok().flatten();
                let target = target.ok_or_else(|| wrong("a link without a target"))?;
                let length = target.as_os_str().as_bytes().len() as u64;
                self.sum.begin('l', 0o777, length, name.as_os_str().as_bytes());
                self.sum.content(target.as_os_str().as_bytes());
                self.files += 1;
                self.taker.link(&name, &target)
            }
            other => Err(wrong(format!("{text} is of kind {other:?}"))),
        }
    }

    fn file(
        &mut self,
        name: &Path,
        text: &str,
        mode: u32,
        mut entry: tar::Entry<'_, impl Read>,
    ) -> Result<(), ArchiveError> {
        match text {
            HEAD => {
                let content = self.whole(&mut entry, true)?;
                let head: Head = parse(HEAD, &content)?;
                if head.format != FORMAT {
                    let what =
                        format!("it has layout {}, this version reads {FORMAT}", head.format);
                    return Err(wrong(what));
                }
                self.taker.head(&head)?;
                self.head = Some(head);
                Ok(())
            }
            MANIFEST => {
                let content = self.whole(&mut entry, false)?;
                let sum = std::mem::take(&mut self.sum).finish();
                self.manifest = Some((parse(MANIFEST, &content)?, content, sum));
                Ok(())
            }
            SIGNATURE if self.manifest.is_some() => {
                let content = self.whole(&mut entry, false)?;
                self.signature = Some(parse(SIGNATURE, &content)?);
                Ok(())
            }
            _ => {
                if let Some(rows) = text.strip_prefix(ROWS) {
                    let table = rows.split('/').next().unwrap_or_default().to_owned();
                    let content = self.whole(&mut entry, true)?;
                    return self.rows(&table, &content);
                }
                self.files += 1;
                self.progress.file();
                let modified = entry.header().mtime().unwrap_or(0);
                let mut summed = Summed { from: &mut entry, sum: &mut self.sum };
                self.taker.file(name, mode, modified, &mut summed)?;
                // Whatever the taker left of it counts too.
                let rest = io::copy(&mut summed, &mut io::sink());
                rest.map(drop).map_err(ArchiveError::io(format!("read {}", name.display())))
            }
        }
    }

    fn whole(&mut self, entry: &mut impl Read, counts: bool) -> Result<Vec<u8>, ArchiveError> {
        let mut content = Vec::new();
        let read = entry.take(PART_MAX + 1).read_to_end(&mut content);
        read.map_err(ArchiveError::io("read a part of the backup"))?;
        if content.len() as u64 > PART_MAX {
            return Err(wrong("a part of it is larger than any that is written"));
        }
        if counts {
            self.sum.content(&content);
        }
        self.progress.bytes(content.len());
        Ok(content)
    }

    fn rows(&mut self, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
        let head = self.head.as_ref();
        let table = head.and_then(|head| head.tables.iter().find(|t| t.name == name));
        let table =
            table.ok_or_else(|| wrong(format!("rows of a table {name} that it has not")))?;
        if self.last_table.as_deref() != Some(name) {
            self.progress.step(format!("table {name}"));
            self.last_table = Some(name.to_owned());
        }
        let hash = self.tables.entry(name.to_owned()).or_default();
        let mut rows = Vec::new();
        let mut again = Vec::new();
        for line in content.split_inclusive(|b| *b == b'\n') {
            let row = read_line(table, line)?;
            again.clear();
            hash.add(&row, &mut again)?;
            rows.push(row);
        }
        self.progress.rows(rows.len() as u64);
        self.taker.rows(table, rows)
    }

    fn finish(self) -> Result<Checked, ArchiveError> {
        let head = self.head.ok_or_else(|| wrong("it is empty"))?;
        let (manifest, text, sum) = self.manifest.ok_or_else(|| wrong("it has no manifest"))?;
        let mut tables = self.tables;
        let found: Vec<TableSum> = head
            .tables
            .iter()
            .map(|t| tables.remove(&t.name).unwrap_or_default().finish(&t.name))
            .collect();
        for (table, expected) in found.iter().zip(&manifest.tables) {
            if table != expected {
                let what =
                    format!("table {} has {} rows, or others than it had", table.name, table.rows);
                return Err(wrong(what));
            }
        }
        if found.len() != manifest.tables.len() || manifest.id != head.id {
            return Err(wrong("its manifest is that of another backup"));
        }
        if sum != manifest.sha256 || self.files != manifest.files {
            return Err(wrong("its files are not those of its manifest"));
        }
        let signed = Signed { text, signature: self.signature };
        Ok(Checked { head, manifest, signed })
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, content: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(content).map_err(|e| wrong(format!("{name}: {e}")))
}

/// A name that leads nowhere but below where it is put.
fn within(name: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

/// Adds up what is read.
struct Summed<'s, R> {
    from: R,
    sum: &'s mut Sum,
}

impl<R: Read> Read for Summed<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(to)?;
        self.sum.content(to.get(..count).unwrap_or_default());
        Ok(count)
    }
}
