//! Keeps registered secret values out of everything that leaves.
//!
//! Only known values and their common encodings are looked for; shapes are never guessed. Line
//! breaks do not count, in values and in text: `base64` and `xxd` wrap what they write.
//!
//! Invariants: a value that was registered once is masked until the process ends, also after it was
//! replaced: what was written with it may still turn up. One pass over a text finds every value.

mod forms;
mod squeeze;
mod stream;

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use aho_corasick::AhoCorasick;
use serde_json::Value;
use zeroize::Zeroizing;

pub use stream::RedactedStream;

/// What stands where a secret stood.
pub const MASK: &str = "[redacted]";
/// Shorter values would redact half of every text.
pub const SECRET_BYTES_MIN: usize = 8;

/// The registered secrets. Clones share them.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Arc<Known>>>,
}

/// Every form of every value, without line breaks, and the automaton that looks for them all.
#[derive(Default)]
struct Known {
    /// In order, so that what begins like one of them is found by halving.
    forms: Vec<Zeroizing<String>>,
    finder: Option<AhoCorasick>,
    /// Bytes of the longest form.
    longest: usize,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(…)")
    }
}

impl Redactor {
    /// Registers a secret value: from now on it and its encodings are masked. Values under
    /// [`SECRET_BYTES_MIN`] bytes are ignored.
    pub fn register(&self, secret: &str) {
        if secret.len() < SECRET_BYTES_MIN {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut forms = known.forms.clone();
        for form in forms::of(secret) {
            let form = squeeze::plain(&form);
            // What is short without its line breaks would redact half of every text too.
            if form.len() >= SECRET_BYTES_MIN
                && let Err(at) = forms.binary_search_by(|known| known.as_str().cmp(&form))
            {
                forms.insert(at, Zeroizing::new(form));
            }
        }
        if forms.len() > known.forms.len() {
            *known = Arc::new(Known::new(forms));
        }
    }

    /// The text with every registered value masked.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let found = self.known().find(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = 0;
        for range in found {
            out.push_str(text.get(rest..range.start).unwrap_or_default());
            out.push_str(MASK);
            rest = range.end;
        }
        out.push_str(text.get(rest..).unwrap_or_default());
        Cow::Owned(out)
    }

    /// The value with every registered secret masked, in texts, names and numbers. Its shape stays,
    /// but a number that is a secret becomes a text.
    pub fn redact_json(&self, value: Value) -> Value {
        let known = self.known();
        if known.finder.is_none() {
            return value;
        }
        self.redact_value(value)
    }

    fn redact_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => match self.redact(&text) {
                Cow::Borrowed(_) => Value::String(text),
                Cow::Owned(clean) => Value::String(clean),
            },
            Value::Array(items) => items.into_iter().map(|v| self.redact_value(v)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, v)| (self.redact(&name).into_owned(), self.redact_value(v)))
                .collect(),
            Value::Number(number) if self.finds_secret(&number.to_string()) => {
                Value::String(MASK.to_owned())
            }
            other => other,
        }
    }

    /// Whether the text holds a registered value.
    pub fn finds_secret(&self, text: &str) -> bool {
        !self.known().find(text).is_empty()
    }

    /// The text with every value masked, also those of which only a part is left where the middle
    /// of the text was cut out: `gap` is what stands there.
    pub fn redact_around(&self, text: &str, gap: &str) -> String {
        let Some((head, tail)) = text.split_once(gap) else {
            return self.redact(text).into_owned();
        };
        let known = self.known();
        let head = self.redact(head);
        let kept = head.get(..known.pending(&head)).unwrap_or_default();
        let after = if kept.len() < head.len() { MASK } else { "" };
        let ended = known.ended(tail);
        let before = if ended > 0 { MASK } else { "" };
        let tail = self.redact(tail.get(ended..).unwrap_or_default());
        format!("{kept}{after}{gap}{before}{tail}")
    }

    /// Masks a text that comes in pieces, also values that lie across two of them.
    pub fn stream(&self) -> RedactedStream {
        RedactedStream::new(self.clone())
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn new(forms: Vec<Zeroizing<String>>) -> Self {
        let finder = AhoCorasick::new(forms.iter().map(|form| form.as_bytes()));
        if let Err(error) = &finder {
            // Only for gigabytes of secrets.
            tracing::error!(%error, "secrets cannot be looked for: nothing is masked");
        }
        let longest = forms.iter().map(|form| form.len()).max().unwrap_or(0);
        Self { forms, finder: finder.ok(), longest }
    }

    /// Where values stand, in order and apart from each other.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let Some(finder) = &self.finder else { return Vec::new() };
        let squeezed = squeeze::squeeze(text);
        let mut found: Vec<Range<usize>> = Vec::new();
        // They come in the order of their ends; one may lie within or across another.
        for hit in finder.find_overlapping_iter(squeezed.text()) {
            let range = squeezed.original(hit.range());
            let mut start = range.start;
            while let Some(last) = found.pop_if(|last| last.end > range.start) {
                start = start.min(last.start);
            }
            found.push(start..range.end);
        }
        found
    }

    /// How much of the beginning of the text could be the end of a value.
    fn ended(&self, text: &str) -> usize {
        // A shorter end says next to nothing, and would be found everywhere.
        const LEAST: usize = 4;
        let ends = |form: &Zeroizing<String>| {
            let starts = (1..form.len().saturating_sub(LEAST - 1)).filter_map(|at| form.get(at..));
            starts.filter(|end| text.starts_with(end)).map(str::len).max()
        };
        self.forms.iter().filter_map(ends).max().unwrap_or(0)
    }

    /// Where the end of the text begins that could be the beginning of a value.
    fn pending(&self, text: &str) -> usize {
        // Half of an escaped line break may stand at the end.
        let body = text.strip_suffix('\\').unwrap_or(text);
        let squeezed = squeeze::squeeze(body);
        let bytes = squeezed.text();
        let first = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        let starts = (first..bytes.len()).filter(|at| bytes.is_char_boundary(*at));
        let mut starts = starts.filter_map(|at| Some((at, bytes.get(at..)?)));
        let begins = |end: &str| {
            let after = self.forms.partition_point(|form| form.as_str() < end);
            self.forms.get(after).is_some_and(|form| form.starts_with(end))
        };
        match starts.find(|(_, end)| begins(end)) {
            Some((at, _)) => squeezed.original(at..at + 1).start,
            None => text.len(),
        }
    }
}

#[cfg(test)]
mod tests;
