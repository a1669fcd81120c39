//! The search tool: a regular expression over the lines of text files.
//!
//! Invariants: links are not followed; files, bytes, matches and line lengths are bounded; the
//! expression runs in linear time (the `regex` crate) and its compiled size is bounded. That time
//! is the product of both, which can be hours for a hostile expression, so the clock is looked at
//! before each line.

use std::time::Duration;

use regex::{Regex, RegexBuilder};

use tokio::time::Instant;

use super::{
    files::{DEPTH_MAX, FileError, Told, Walk, is_match, matcher},
    parse::SearchFiles,
    place::{self, Place},
};
use crate::{
    domain::Grant,
    sandbox::dir::{Dir, Kind},
};

/// Compiled size of an expression.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Larger files are passed over.
const FILE_BYTES_MAX: u64 = 2 << 20;
/// Bytes read in one search.
const READ_BYTES_MAX: u64 = 64 << 20;
/// Matches told.
const MATCHES_MAX: usize = 500;
/// Bytes of a line that are looked at: an expression cannot be stopped within a line.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Longest search, if the grant does not say less.
const WALL_MAX: Duration = Duration::from_secs(10);
/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 300;

/// Searches a file or a tree.
pub(super) fn search(
    grant: &Grant,
    call: &SearchFiles,
    bytes_max: usize,
) -> Result<Told, FileError> {
    let regex =
        RegexBuilder::new(&call.pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
            FileError::BadPattern { pattern: call.pattern.clone(), reason: error.to_string() }
        })?;
    let glob = call.glob.as_deref().map(matcher).transpose()?;
    let place = place::find(grant, &call.path)?;
    let dir = place.open()?;
    let deadline = Instant::now() + grant.limits.wall().min(WALL_MAX);
    let mut found = Found {
        text: String::new(),
        matches: 0,
        bytes_max,
        deadline,
        is_full: false,
        is_late: false,
        is_cut: false,
    };
    if dir.kind(&place.path)? == Kind::File {
        let content = dir.read(&place.path, FILE_BYTES_MAX)?;
        found.add(&regex, &place, &place.path, content);
        return Ok(found.told(false));
    }
    let mut walk = Walk::new(&dir, &place.path, DEPTH_MAX);
    let mut budget = READ_BYTES_MAX;
    while let Some(entry) = walk.next()? {
        let beneath = entry.path.strip_prefix(&place.path).unwrap_or(&entry.path);
        let is_wanted =
            entry.kind == Kind::File && glob.as_ref().is_none_or(|g| is_match(g, beneath));
        if !is_wanted {
            continue;
        }
        if entry.bytes > FILE_BYTES_MAX || entry.bytes > budget {
            walk.is_cut = true;
            continue;
        }
        budget -= entry.bytes;
        let Some(content) = content(&dir, &entry.path) else { continue };
        found.add(&regex, &place, &entry.path, content);
        if found.is_full || found.is_late {
            break;
        }
    }
    Ok(found.told(walk.is_cut))
}

/// Gone, unreadable or a link meanwhile: passed over.
fn content(dir: &Dir, path: &std::path::Path) -> Option<Vec<u8>> {
    dir.read_no_links(path, FILE_BYTES_MAX).ok()
}

struct Found {
    text: String,
    matches: usize,
    bytes_max: usize,
    deadline: Instant,
    is_full: bool,
    /// Time ran out.
    is_late: bool,
    /// A line was looked at in part.
    is_cut: bool,
}

impl Found {
    fn add(&mut self, regex: &Regex, place: &Place, path: &std::path::Path, content: Vec<u8>) {
        let Ok(content) = String::from_utf8(content) else { return };
        if content.contains('\0') {
            return;
        }
        let name = place.name(path);
        for (number, line) in content.lines().enumerate() {
            if Instant::now() > self.deadline {
                self.is_late = true;
                return;
            }
            let head = line.get(..line.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or(line);
            self.is_cut |= head.len() < line.len();
            if !regex.is_match(head) {
                continue;
            }
            let shown: String = line.chars().take(LINE_CHARS_MAX).collect();
            let told = format!("{}:{}: {shown}\n", name.display(), number + 1);
            if self.matches >= MATCHES_MAX
                || self.text.len() + told.len() > self.bytes_max.saturating_sub(120)
            {
                self.is_full = true;
                return;
            }
            self.text.push_str(&told);
            self.matches += 1;
        }
    }

    fn told(mut self, is_cut: bool) -> Told {
        if self.is_full {
            self.text.push_str("[cut: there are more matches; narrow the pattern, path or glob]\n");
        } else if self.is_late {
            self.text
                .push_str("[cut: time ran out; use a simpler pattern, or narrow path or glob]\n");
        } else if is_cut || self.is_cut {
            self.text.push_str("[some files or lines were too large or too many to search]\n");
        } else if self.matches == 0 {
            self.text.push_str("(no match)\n");
        }
        Told {
            text: self.text,
            is_truncated: self.is_full || self.is_late || self.is_cut || is_cut,
        }
    }
}
