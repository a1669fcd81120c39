//! Where commands print: standard output, one place, and quiet when the reader has gone away.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use serde_json::Value;

/// Prints a line.
pub(crate) fn line(text: impl Display) {
    put(format_args!("{text}\n"));
}

/// Prints without a line break, at once.
pub(crate) fn part(text: impl Display) {
    put(format_args!("{text}"));
}

/// Prints JSON, indented.
pub(crate) fn json(value: &Value) {
    line(format_args!("{value:#}"));
}

/// A reader that went away (`| head`) is no fault, and nothing else can be done about it here.
fn put(text: std::fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).unwrap_or_default();
}

/// Prints a line for people to standard error.
pub(crate) fn note(text: impl Display) {
    writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
}

/// Shows how far something is, in the one last line of standard error, which must be a terminal.
/// Nothing takes the line away.
pub(crate) fn progress(text: impl Display) {
    let mut errors = io::stderr().lock();
    write!(errors, "\r\x1b[2K{text}").and_then(|()| errors.flush()).unwrap_or_default();
}

/// Colours, on a terminal that wants them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// For standard output.
    pub(crate) fn stdout(wants_none: bool) -> Self {
        Self(io::stdout().is_terminal() && !wants_none)
    }

    fn code(self, code: &str, text: impl Display) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.code("2", text)
    }

    pub(crate) fn bold(self, text: impl Display) -> String {
        self.code("1", text)
    }

    pub(crate) fn good(self, text: impl Display) -> String {
        self.code("32", text)
    }

    pub(crate) fn bad(self, text: impl Display) -> String {
        self.code("31", text)
    }

    pub(crate) fn warn(self, text: impl Display) -> String {
        self.code("33", text)
    }
}

/// Prints a table: a head, then rows, columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let show = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    show(head);
    for row in rows {
        show(row.each_ref().map(String::as_str));
    }
}

/// Text of a model, a tool or a stranger, fit for a terminal: no control character but line break
/// and tab, and nothing that turns the direction of text or takes no room, so that it cannot move
/// the cursor, hide what it says or show an approval another command than the one that will run.
pub(crate) fn tame(text: &str) -> String {
    let is_tame = |c: char| c == '\n' || c == '\t' || !(c.is_control() || is_deceptive(c));
    text.chars().map(|c| if is_tame(c) { c } else { '\u{fffd}' }).collect()
}

/// Directional formatting, separators that some terminals break lines at, invisible letters and
/// tags (UTS #36, section 2.10). The joiners stay: emoji and several scripts need them.
const fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}')
}

/// One line of at most `max` characters.
pub(crate) fn short(text: &str, max: usize) -> String {
    let tamed = tame(text).replace(['\n', '\t'], " ");
    let mut chars = tamed.chars();
    let head: String = chars.by_ref().take(max).collect();
    if chars.next().is_some() { format!("{head}…") } else { head }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_drive_the_terminal() {
        assert_eq!(tame("a\x1b[2Jb\r\nc\td"), "a\u{fffd}[2Jb\u{fffd}\nc\td");
        for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{2028}', '\u{e0041}'] {
            assert_eq!(tame(&format!("rm {hidden}fr")), "rm \u{fffd}fr", "{:x}", u32::from(hidden));
        }
        assert_eq!(tame("שלום 👩\u{200d}💻"), "שלום 👩\u{200d}💻");
        assert_eq!(short("one\ntwo three", 5), "one t…");
        assert_eq!(short("one", 5), "one");
    }
}
