//! Placeholders of secrets: `{{secret:NAME}}`, in the value of a header and nowhere else.
//!
//! Invariant: a placeholder is either replaced whole or reported; a text that only looks like one
//! never leaves. Pure: which secret a name stands for, and where it may go, is decided elsewhere.

use std::ops::Range;

/// How a placeholder begins.
const OPEN: &str = "{{secret:";
/// How it ends.
const CLOSE: &str = "}}";
/// Characters of a name.
const NAME_BYTES_MAX: usize = 64;
/// Placeholders in one value.
const PLACEHOLDERS_MAX: usize = 8;

/// A placeholder in a header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placeholder<'v> {
    /// Where it stands, braces included.
    pub(crate) range: Range<usize>,
    /// The secret that is meant.
    pub(crate) name: &'v str,
}

/// Why placeholders cannot be replaced. The texts hold no part of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// It has no end or a wrong name.
    #[error(
        "a secret is written {{{{secret:NAME}}}}, with a name of 1 to 64 capital letters, digits \
         and underscores"
    )]
    Malformed,
    /// More than 8 of them.
    #[error("a header holds at most {PLACEHOLDERS_MAX} secrets")]
    TooMany,
    /// It stands where no secret may stand.
    #[error("a secret may stand only in the value of a header")]
    Misplaced,
}

/// Finds the placeholders of a header's value, first to last.
///
/// # Errors
///
/// One of them is malformed, written with escapes or in another case, or there are too many.
pub(crate) fn placeholders(value: &str) -> Result<Vec<Placeholder<'_>>, TemplateError> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (name, tail) = after.split_once(CLOSE).ok_or(TemplateError::Malformed)?;
        let is_name = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !is_name || is_mentioned(before.as_bytes()) {
            return Err(TemplateError::Malformed);
        }
        if found.len() == PLACEHOLDERS_MAX {
            return Err(TemplateError::TooMany);
        }
        let start = at + before.len();
        let end = start + OPEN.len() + name.len() + CLOSE.len();
        found.push(Placeholder { range: start..end, name });
        at = end;
        rest = tail;
    }
    if is_mentioned(rest.as_bytes()) { Err(TemplateError::Malformed) } else { Ok(found) }
}

/// Puts values in the place of placeholders; `None` from `value_of` leaves the whole unwritten.
pub(crate) fn filled<'s>(
    value: &str,
    placeholders: &[Placeholder<'_>],
    value_of: impl Fn(&str) -> Option<&'s str>,
) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut at = 0;
    for placeholder in placeholders {
        out.push_str(value.get(at..placeholder.range.start)?);
        out.push_str(value_of(placeholder.name)?);
        at = placeholder.range.end;
    }
    out.push_str(value.get(at..)?);
    Some(out)
}

/// Checks a part in which no secret may stand: a host, path, query, header name or whole body.
/// Percent-encoding and case do not hide a placeholder.
///
/// # Errors
///
/// [`TemplateError::Misplaced`].
pub(crate) fn refuse_in(part: &[u8]) -> Result<(), TemplateError> {
    if is_mentioned(part) { Err(TemplateError::Misplaced) } else { Ok(()) }
}

fn is_mentioned(part: &[u8]) -> bool {
    let mut scanner = Scanner::default();
    scanner.feed(part) || {
        // Decoded once: what the server behind would see in a path, a query or a form.
        let mut scanner = Scanner::default();
        scanner.feed(&percent_decoded(part))
    }
}

fn percent_decoded(part: &[u8]) -> Vec<u8> {
    let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [first, tail @ ..] = rest {
        let encoded = match tail {
            [high, low, after @ ..] if *first == b'%' => {
                hex(high).zip(hex(low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        let (byte, after) = encoded.unwrap_or((*first, tail));
        out.push(byte);
        rest = after;
    }
    out
}

/// Looks for a placeholder in a body that arrives in pieces, as it stands there, in any case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scanner {
    /// How many bytes of the opening were seen last.
    matched: usize,
}

impl Scanner {
    /// Takes the next piece; true once a placeholder has begun.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> bool {
        let open = OPEN.as_bytes();
        for byte in piece {
            if self.matched == open.len() {
                break;
            }
            let byte = byte.to_ascii_lowercase();
            self.matched = match open.get(self.matched) {
                Some(wanted) if *wanted == byte => self.matched + 1,
                // The opening repeats only in its first two bytes: `{{{secret:` holds it too.
                _ if byte == b'{' => {
                    if self.matched == 2 {
                        2
                    } else {
                        1
                    }
                }
                _ => 0,
            };
        }
        self.matched == open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &str) -> Result<Vec<&str>, TemplateError> {
        placeholders(value).map(|found| found.into_iter().map(|p| p.name).collect())
    }

    #[test]
    fn a_placeholder_is_found_and_filled() {
        let value = "Bearer {{secret:API_KEY}}.{{secret:B2}}!";
        let found = placeholders(value).unwrap();
        assert_eq!(found.iter().map(|p| p.name).collect::<Vec<_>>(), ["API_KEY", "B2"]);
        let of = |name: &str| (name == "API_KEY").then_some("k").or(Some("{{secret:X}}"));
        // What a secret holds is not read again.
        assert_eq!(filled(value, &found, of).unwrap(), "Bearer k.{{secret:X}}!");
        assert_eq!(filled(value, &found, |name| (name == "B2").then_some("x")), None);
        assert_eq!(names("{{ something: else }} {secret:A} {{secre:A}}"), Ok(Vec::new()));
    }

    #[test]
    fn what_only_looks_like_a_placeholder_is_refused() {
        let long = format!("{{{{secret:{}}}}}", "A".repeat(65));
        for value in [
            "{{secret:}}",
            "{{secret:a.b}}",
            "{{secret:A",
            "{{secret:A}",
            "{{secret: A}}",
            "{{Secret:A}}",
            "{{secret:A}} {{SECRET:B}}",
            "%7b%7bsecret:A%7D%7D",
            "{{secret:A}}{{secret:b/c}}",
            &long,
        ] {
            assert_eq!(names(value), Err(TemplateError::Malformed), "{value}");
        }
        let many = "{{secret:A}}".repeat(PLACEHOLDERS_MAX);
        assert_eq!(names(&many).unwrap().len(), PLACEHOLDERS_MAX);
        assert_eq!(names(&format!("{many}{{{{secret:A}}}}")), Err(TemplateError::TooMany));
        assert_eq!(names("{{secret:A}"), Err(TemplateError::Malformed));
    }

    #[test]
    fn a_placeholder_elsewhere_is_misuse_however_it_is_written() {
        for part in ["/a/{{secret:A}}", "?q=%7B%7Bsecret%3AA%7D%7D", "{{{SECRET:x", "%7b{secret:"] {
            assert_eq!(refuse_in(part.as_bytes()), Err(TemplateError::Misplaced), "{part}");
        }
        for part in ["/a/{{secre", "{{ secret:A }}", "%7B%7Bsecre%", "100%", ""] {
            assert_eq!(refuse_in(part.as_bytes()), Ok(()), "{part}");
        }
    }

    #[test]
    fn a_placeholder_cut_into_pieces_is_found() {
        let text = b"x{{{{secret:A}}";
        for cut in 0..text.len() {
            let mut scanner = Scanner::default();
            let (first, second) = text.split_at(cut);
            let in_first = scanner.feed(first);
            assert!(scanner.feed(second), "{cut}");
            assert_eq!(in_first, cut >= 12, "{cut}");
        }
    }
}
