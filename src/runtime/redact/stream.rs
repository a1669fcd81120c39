//! Text that comes in pieces.

use super::Redactor;

/// Masks values in a stream of text. What could be the beginning of a value is held back until the
/// next piece shows that it is one or is not; everything else goes on at once.
#[derive(Debug)]
pub struct RedactedStream {
    redactor: Redactor,
    held: String,
}

impl RedactedStream {
    pub(super) const fn new(redactor: Redactor) -> Self {
        Self { redactor, held: String::new() }
    }

    /// What may be shown now that this piece has come; may be empty.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let known = self.redactor.known();
        // A whole value is masked before anything of it could count as the beginning of another.
        let pending = known.pending(&self.held);
        let found = known.find(&self.held);
        // A value that reaches into what is held back stays whole.
        let cut = found.iter().find(|r| r.start < pending && r.end > pending);
        let cut = cut.map_or(pending, |range| range.start);
        let rest = self.held.split_off(cut);
        let ready = std::mem::replace(&mut self.held, rest);
        match self.redactor.redact(&ready) {
            std::borrow::Cow::Borrowed(_) => ready,
            std::borrow::Cow::Owned(clean) => clean,
        }
    }

    /// The end: what was held back.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        self.redactor.redact(&rest).into_owned()
    }
}
