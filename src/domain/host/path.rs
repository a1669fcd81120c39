//! The one spelling of a request path, for rules that name one.
//!
//! Servers disagree on `..`, `//`, `%2f`, `%25`, backslashes and `..;`: a path that holds one of
//! them could mean another one behind the rule. It is refused wherever a rule looks at the path.

use std::fmt::Write as _;

/// Why a path cannot be compared with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("a path begins with `/`")]
    Relative,
    /// `.`, `..`, or one of them before a `;`.
    #[error("the path holds `.` or `..`: write where it leads")]
    Dots,
    /// `//`, also with parameters between the slashes.
    #[error("the path holds an empty part, such as `//`: write a single slash")]
    EmptySegment,
    /// A percent sign without two hex digits.
    #[error("the path holds a `%` that begins no percent-encoded byte: write `%25`")]
    Percent,
    /// An encoded slash, backslash, percent sign, semicolon or control character.
    #[error("the path holds a percent-encoded `/`, `\\`, `%`, `;` or control character")]
    Encoded,
    /// A character that no path has.
    #[error("the path holds {0:?}: percent-encode it")]
    Character(char),
}

/// The path with unreserved characters decoded (RFC 3986 section 6.2.2.2) and other escapes in
/// upper case; what follows a `?` is left out.
///
/// # Errors
///
/// Everything that servers do not agree on.
pub fn canonical_path(text: &str) -> Result<String, PathError> {
    let path = text.split_once('?').map_or(text, |(path, _)| path);
    if !path.starts_with('/') {
        return Err(PathError::Relative);
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => {
                let mut digit = || rest.next().and_then(|c| c.to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(PathError::Percent);
                };
                let byte = u8::try_from(high * 16 + low).unwrap_or_default();
                match byte {
                    b'/' | b'\\' | b'%' | b';' | 0..0x20 | 0x7f => return Err(PathError::Encoded),
                    _ if is_unreserved(char::from(byte)) => out.push(char::from(byte)),
                    // Writing to a text cannot fail.
                    _ => write!(out, "%{byte:02X}").unwrap_or(()),
                }
            }
            _ if is_unreserved(c) || "!$&'()*+,;=:@/".contains(c) => out.push(c),
            _ => return Err(PathError::Character(c)),
        }
    }
    // The first piece is what stands before the leading slash, the last may be empty (`/v1/`).
    let mut segments = out.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(PathError::EmptySegment);
        }
        // Some servers cut parameters off a segment before they resolve it: `/a/..;x/b`.
        let name = segment.split(';').next().unwrap_or_default();
        if matches!(name, "." | "..") {
            return Err(PathError::Dots);
        }
        if name.is_empty() && !segment.is_empty() {
            return Err(PathError::EmptySegment);
        }
    }
    Ok(out)
}

/// Whether a canonical path is the prefix or lies below it.
pub(super) fn is_at_or_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// RFC 3986 section 2.3.
fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')
}
