//! A text without its line breaks, which still knows where each byte stood.

use std::{borrow::Cow, ops::Range};

/// A text as values are looked for in it.
pub(super) struct Squeezed<'t> {
    text: Cow<'t, str>,
    /// Where each piece that was kept begins, here and in the original; none while they are equal.
    pieces: Vec<(usize, usize)>,
}

impl Squeezed<'_> {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a part of it stood.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        self.place(range.start)..self.place(range.end.saturating_sub(1)).saturating_add(1)
    }

    fn place(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|(here, _)| *here <= at);
        let piece = after.checked_sub(1).and_then(|before| self.pieces.get(before));
        piece.map_or(at, |(here, there)| there + (at - here))
    }
}

/// Takes out line breaks, also those that JSON and logs write as two characters.
pub(super) fn squeeze(text: &str) -> Squeezed<'_> {
    // Nothing can lie across a break at the end.
    let body = text.trim_end_matches(['\n', '\r']);
    let mut pieces = Vec::new();
    let mut out = String::new();
    let mut kept = 0;
    for range in breaks(body) {
        if pieces.is_empty() {
            out.reserve(body.len());
        }
        pieces.push((out.len(), kept));
        out.push_str(body.get(kept..range.start).unwrap_or_default());
        kept = range.end;
    }
    if pieces.is_empty() {
        return Squeezed { text: Cow::Borrowed(body), pieces };
    }
    pieces.push((out.len(), kept));
    out.push_str(body.get(kept..).unwrap_or_default());
    Squeezed { text: Cow::Owned(out), pieces }
}

/// The same without the places.
pub(super) fn plain(text: &str) -> String {
    squeeze(text).text.into_owned()
}

fn breaks(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let found =
                at + bytes.get(at..)?.iter().position(|b| matches!(b, b'\n' | b'\r' | b'\\'))?;
            let length = match (bytes.get(found), bytes.get(found + 1)) {
                (Some(b'\\'), Some(b'n' | b'r')) => 2,
                (Some(b'\\'), _) => 0,
                _ => 1,
            };
            at = found + length.max(1);
            if length > 0 {
                return Some(found..found + length);
            }
        }
    })
}
