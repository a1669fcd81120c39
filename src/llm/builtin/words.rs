//! Taking lines apart: words, quotes, and where one instruction ends and the next begins.
//!
//! Invariant: any text is accepted without a panic.

/// The text split into words as a shell would split them: quotes group, a backslash takes the
/// next character as it is. Nothing is expanded.
pub(super) fn shell_words(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut in_word) = (Vec::new(), String::new(), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                in_word = true;
                take_quoted(&mut chars, '\'', &mut word)?;
            }
            '"' => {
                in_word = true;
                take_quoted(&mut chars, '"', &mut word)?;
            }
            '\\' => {
                in_word = true;
                word.push(chars.next().ok_or("nothing follows the last backslash")?);
            }
            c if c.is_whitespace() => {
                if std::mem::take(&mut in_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                in_word = true;
                word.push(c);
            }
        }
    }
    if in_word {
        words.push(word);
    }
    Ok(words)
}

fn take_quoted(
    chars: &mut std::str::Chars<'_>,
    quote: char,
    word: &mut String,
) -> Result<(), &'static str> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => break,
            },
            c => word.push(c),
        }
    }
    Err("a quote is not closed")
}

/// Whether the whole text stands in double quotes; the text within, escapes resolved.
pub(super) fn quoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(unescape(inner))
}

/// `\n` and `\t` become what they stand for; `\\` and `\"` lose their backslash.
pub(super) fn unescape(text: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some(c @ ('\\' | '"')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

/// The first word and what follows it.
pub(super) fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// Splits a line at every `then` outside quotes where `splits` agrees, given what stands before
/// and behind it. What goes before loses a trailing `and`, comma or semicolon.
pub(super) fn split_then(line: &str, splits: impl Fn(&str, &str) -> bool) -> Vec<&str> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    for at in bare_thens(line) {
        let after = line.get(at + THEN.len()..).unwrap_or_default();
        let before = line.get(from..at).unwrap_or_default();
        if splits(before, after.trim_start()) {
            pieces.push(before);
            from = at + THEN.len();
        }
    }
    pieces.push(line.get(from..).unwrap_or_default());
    pieces.into_iter().map(|p| tidy_end(p).trim_start()).filter(|p| !p.is_empty()).collect()
}

const THEN: &str = "then";

fn tidy_end(piece: &str) -> &str {
    let piece = piece.trim_end();
    let piece = piece.strip_suffix(" and").unwrap_or(piece);
    piece.trim_end_matches([',', ';', ' '])
}

/// Byte positions of the word `then` outside quotes.
fn bare_thens(line: &str) -> Vec<usize> {
    let (mut found, mut quote, mut before) = (Vec::new(), None, ' ');
    for (at, c) in line.char_indices() {
        match quote {
            Some(q) if c == q && before != '\\' => quote = None,
            Some(_) => {}
            None if c == '"' => quote = Some(c),
            // An apostrophe within a word opens nothing.
            None if c == '\'' && !before.is_alphanumeric() => quote = Some(c),
            None => {
                let rest = line.get(at..).unwrap_or_default();
                let is_word = before.is_whitespace() || matches!(before, ',' | ';');
                if is_word
                    && let Some(head) = rest.get(..THEN.len())
                    && head.eq_ignore_ascii_case(THEN)
                    && rest.get(THEN.len()..).is_some_and(|r| r.starts_with(char::is_whitespace))
                {
                    found.push(at);
                }
            }
        }
        before = c;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let words = shell_words(r#"sh -c 'echo "a b"' "c \"d\" \n" e\ f """#).unwrap();
        assert_eq!(words, ["sh", "-c", "echo \"a b\"", "c \"d\" \\n", "e f", ""]);
        assert_eq!(shell_words("a 'b"), Err("a quote is not closed"));
        shell_words("a \\").unwrap_err();
    }

    #[test]
    fn then_splits_only_before_an_instruction_and_outside_quotes() {
        let starts = |_: &str, s: &str| s.starts_with("read") || s.starts_with("list");
        assert_eq!(
            split_then("list, and then read a; THEN list \"x then read y\"", starts),
            ["list", "read a", "list \"x then read y\""]
        );
        assert_eq!(split_then("say don't then go", starts), ["say don't then go"]);
        assert_eq!(split_then("say 'a then read b'", starts), ["say 'a then read b'"]);
        assert_eq!(split_then("say don't then read b", starts), ["say don't", "read b"]);
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(quoted(r#""a\n\"b\\""#).as_deref(), Some("a\n\"b\\"));
        assert_eq!(quoted("\""), None);
        assert_eq!(unescape(r"a\tb\c\"), "a\tb\\c\\");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}|[\"' \\\\then,;é]{0,60}") {
            shell_words(&text).ok();
            unescape(&text);
            quoted(&text);
            prop_assert!(split_then(&text, |_, _| true).iter().all(|p| !p.is_empty()));
        }
    }
}
