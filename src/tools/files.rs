//! The file tools: read, write, edit, list.
//!
//! Invariants: every operation goes through a held directory (`sandbox::dir`); sizes and counts are
//! bounded; what would be done twice after a crash is recognised. Blocking: run off the async
//! threads.

use std::path::Path;

use globset::{Glob, GlobSet};

use super::{
    edit::{self, Edited},
    parse::{EditFile, ListFiles, ReadFile, WriteFile, WriteMode},
    place::{self, PlaceError},
};
use crate::{
    domain::{Bound, Grant},
    sandbox::dir::{Dir, DirError, Kind},
};

/// Largest file that is read or edited.
pub(super) const FILE_BYTES_MAX: u64 = 8 << 20;
/// Entries of one directory that are looked at.
pub(super) const ENTRIES_MAX: usize = 10_000;
/// Entries that are told.
const LISTED_MAX: usize = 1_000;
/// Directories and files that one walk visits.
pub(super) const VISITED_MAX: usize = 50_000;
/// Entries that one walk holds in memory.
const PENDING_MAX: usize = 100_000;
/// Nesting that one walk follows.
pub(super) const DEPTH_MAX: usize = 64;
/// Characters of a reason why a pattern is refused; it may quote all of it.
const REASON_CHARS_MAX: usize = 200;
/// Bytes at the beginning of a file in which a NUL byte means that it is no text.
const SNIFFED_BYTES: usize = 8_192;

/// Why a file tool did not do what it was asked. The text is for the model.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error("{path} is not a text file ({bytes} bytes, binary)")]
    Binary { path: String, bytes: usize },
    #[error("{path} has {lines} lines; `offset` is beyond its end")]
    BeyondEnd { path: String, lines: usize },
    #[error("`old` does not occur in {path}; read the file and copy the text exactly")]
    NotFound { path: String },
    #[error(
        "`old` occurs {found} times in {path}, `count` says {count}; give more of the text around \
         it, or the right `count`"
    )]
    Count { path: String, found: usize, count: usize },
    #[error(
        "in {path} the result would hold `old` again where it meets its surroundings; give more of \
         the text around it"
    )]
    NotRepeatable { path: String },
    #[error("`{pattern}` is not a valid pattern: {reason}")]
    BadPattern { pattern: String, reason: String },
}

/// What a file tool tells the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) text: String,
    pub(super) is_truncated: bool,
}

impl Told {
    fn all(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_truncated: false }
    }
}

/// The file's text, or some of its lines, at most `bytes_max` bytes.
pub(super) fn read(grant: &Grant, call: &ReadFile, bytes_max: usize) -> Result<Told, FileError> {
    let place = place::find(grant, &call.path)?;
    let text = text_of(&call.path, place.open()?.read(&place.path, FILE_BYTES_MAX)?)?;
    let (first, limit) = (call.offset.unwrap_or(1), call.limit.unwrap_or(usize::MAX));
    let wanted: String = text.split_inclusive('\n').skip(first - 1).take(limit).collect();
    if wanted.is_empty() && first > 1 {
        return Err(FileError::BeyondEnd { path: call.path.clone(), lines: text.lines().count() });
    }
    if wanted.len() <= bytes_max {
        return Ok(Told::all(wanted));
    }
    // Whole lines, and where to go on.
    let mut shown = String::new();
    let mut next = first;
    for line in wanted.split_inclusive('\n') {
        if shown.len() + line.len() > bytes_max.saturating_sub(120) {
            break;
        }
        shown.push_str(line);
        next += 1;
    }
    if shown.is_empty() {
        let cut = wanted.floor_char_boundary(bytes_max.saturating_sub(120));
        shown = format!("{}\n", wanted.get(..cut).unwrap_or_default());
    }
    let note = format!("[cut: the file goes on; read again with offset {next}]\n");
    Ok(Told { text: shown + &note, is_truncated: true })
}

fn text_of(path: &str, content: Vec<u8>) -> Result<String, FileError> {
    let bytes = content.len();
    let is_binary = content.iter().take(SNIFFED_BYTES).any(|b| *b == 0);
    match String::from_utf8(content) {
        Ok(text) if !is_binary => Ok(text),
        _ => Err(FileError::Binary { path: path.to_owned(), bytes }),
    }
}

/// Writes a file.
pub(super) fn write(
    grant: &Grant,
    call: &WriteFile,
    bytes_max: u64,
    bound: Option<&Bound>,
) -> Result<Told, FileError> {
    let place = place::find_writable(grant, &call.path)?;
    let dir = place.open_writable(grant, bound)?;
    let content = call.content.as_bytes();
    let done = |verb: &str| Told::all(format!("{verb} {} ({} bytes)", call.path, content.len()));
    match call.mode {
        WriteMode::Overwrite => {
            dir.replace(&place.path, content)?;
            Ok(done("wrote"))
        }
        WriteMode::Append => {
            dir.append(&place.path, content, bytes_max)?;
            Ok(done("appended to"))
        }
        WriteMode::Create => match dir.create(&place.path, content) {
            // After a crash the file may be there because this very call has made it.
            Err(DirError::Exists(_)) if has_content(dir.dir(), &place.path, content) => {
                Ok(Told::all(format!("{} is there already with this content", call.path)))
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(done("created")),
        },
    }
}

fn has_content(dir: &Dir, path: &Path, content: &[u8]) -> bool {
    dir.read(path, content.len() as u64).is_ok_and(|found| found == content)
}

/// Replaces text in a file.
pub(super) fn edit(
    grant: &Grant,
    call: &EditFile,
    bound: Option<&Bound>,
) -> Result<Told, FileError> {
    let place = place::find_writable(grant, &call.path)?;
    let dir = place.open_writable(grant, bound)?;
    let text = text_of(&call.path, dir.dir().read(&place.path, FILE_BYTES_MAX)?)?;
    let count = call.count.unwrap_or(1);
    let path = call.path.clone();
    let bytes_max = FILE_BYTES_MAX.min(grant.limits.file_bytes);
    let size_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    match edit::edit(&text, &call.old, &call.new, count, size_max) {
        Edited::Changed(changed) => {
            dir.replace(&place.path, changed.as_bytes())?;
            Ok(Told::all(format!("edited {path} ({count} replaced)")))
        }
        Edited::AlreadyDone => Ok(Told::all(format!(
            "{path} needs no change: `old` does not occur, and `new` is there already"
        ))),
        Edited::NotFound => Err(FileError::NotFound { path }),
        Edited::Count(found) => Err(FileError::Count { path, found, count }),
        Edited::NotRepeatable => Err(FileError::NotRepeatable { path }),
        Edited::TooLarge => Err(DirError::TooLarge { path: place.path, bytes_max }.into()),
    }
}

/// Lists a directory, or a whole tree.
pub(super) fn list(grant: &Grant, call: &ListFiles, bytes_max: usize) -> Result<Told, FileError> {
    let place = place::find(grant, &call.path)?;
    let dir = place.open()?;
    let glob = call.glob.as_deref().map(matcher).transpose()?;
    let mut text = String::new();
    let mut listed = 0;
    let mut walk = Walk::new(&dir, &place.path, if call.recursive { DEPTH_MAX } else { 0 });
    while let Some(entry) = walk.next()? {
        let beneath = entry.path.strip_prefix(&place.path).unwrap_or(&entry.path);
        if !glob.as_ref().is_none_or(|g| is_match(g, beneath)) {
            continue;
        }
        let name = place.name(&entry.path);
        let line = match entry.kind {
            Kind::Directory => format!("{}/\n", name.display()),
            Kind::File => format!("{}  ({} bytes)\n", name.display(), entry.bytes),
            Kind::Link => format!("{}  (link)\n", name.display()),
            Kind::Other => format!("{}  (special)\n", name.display()),
        };
        if listed >= LISTED_MAX || text.len() + line.len() > bytes_max.saturating_sub(120) {
            walk.is_cut = true;
            break;
        }
        text.push_str(&line);
        listed += 1;
    }
    if walk.is_cut {
        text.push_str("[cut: there is more; list a subdirectory or give a `glob`]\n");
    } else if text.is_empty() {
        text.push_str("(nothing)\n");
    }
    Ok(Told { text, is_truncated: walk.is_cut })
}

/// A compiled glob.
pub(super) struct Matcher {
    set: GlobSet,
    is_of_paths: bool,
}

/// Compiles a glob; one without a slash is matched against names, another against paths. A set of
/// one, since compiling a single glob panics where its expression is too large or too deep.
pub(super) fn matcher(pattern: &str) -> Result<Matcher, FileError> {
    let set = Glob::new(pattern).and_then(|glob| GlobSet::new([glob]));
    let set = set.map_err(|error| FileError::BadPattern {
        pattern: pattern.to_owned(),
        reason: error.kind().to_string().chars().take(REASON_CHARS_MAX).collect(),
    })?;
    Ok(Matcher { set, is_of_paths: pattern.contains('/') })
}

pub(super) fn is_match(glob: &Matcher, beneath: &Path) -> bool {
    if glob.is_of_paths {
        return glob.set.is_match(beneath);
    }
    beneath.file_name().is_some_and(|name| glob.set.is_match(name))
}

/// A bounded walk in order of names that follows no link.
pub(super) struct Walk<'d> {
    dir: &'d Dir,
    pending: Vec<crate::sandbox::dir::Entry>,
    start: Option<std::path::PathBuf>,
    base_depth: usize,
    depth_max: usize,
    visited: usize,
    /// Whether something was left out.
    pub(super) is_cut: bool,
}

impl<'d> Walk<'d> {
    pub(super) fn new(dir: &'d Dir, start: &Path, depth_max: usize) -> Self {
        Self {
            dir,
            pending: Vec::new(),
            start: Some(start.to_owned()),
            base_depth: start.components().count(),
            depth_max,
            visited: 0,
            is_cut: false,
        }
    }

    /// The next entry: a directory before what lies in it.
    pub(super) fn next(&mut self) -> Result<Option<crate::sandbox::dir::Entry>, DirError> {
        if let Some(start) = self.start.take() {
            // What the call names itself may be reached over links beneath the tree.
            let (entries, has_more) = self.dir.list(&start, ENTRIES_MAX)?;
            self.is_cut |= has_more;
            self.pending.extend(entries.into_iter().rev());
        }
        let Some(entry) = self.pending.pop() else { return Ok(None) };
        self.visited += 1;
        if self.visited > VISITED_MAX {
            self.is_cut = true;
            return Ok(None);
        }
        let depth = entry.path.components().count().saturating_sub(self.base_depth);
        let may_enter = depth <= self.depth_max && self.pending.len() < PENDING_MAX;
        if entry.kind == Kind::Directory && may_enter {
            // A directory that vanished or may not be read is shown without content.
            if let Ok((entries, has_more)) = self.dir.list_no_links(&entry.path, ENTRIES_MAX) {
                self.is_cut |= has_more;
                self.pending.extend(entries.into_iter().rev());
            }
        } else if entry.kind == Kind::Directory && self.depth_max > 0 {
            self.is_cut = true;
        }
        Ok(Some(entry))
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
