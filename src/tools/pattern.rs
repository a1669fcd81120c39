//! Which calls a pattern lets through.
//!
//! Invariants: pure. A pattern can only let differ what it names, and nothing that decides what a
//! program does by itself: scripts, standard input, variables, and the arguments of programs that
//! run what they are given.

use globset::{GlobBuilder, GlobMatcher};
use serde_json::{Map, Value};

use crate::domain::{PatternBounds, ToolName, limits};

/// Arguments that say what is run: never left open.
const FIXED: [&str; 7] = ["argv", "script", "stdin", "env", "method", "headers", "network"];
/// Programs that run what their arguments say: for these the whole command must be the card's.
const RUNNERS: [&str; 34] = [
    "sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox", "toybox", "env", "xargs", "find",
    "nohup", "nice", "timeout", "time", "setsid", "sudo", "su", "doas", "watch", "awk", "gawk",
    "sed", "perl", "ruby", "node", "deno", "bun", "php", "lua", "ssh", "make", "docker",
];
/// Interpreters that carry a version in their name.
const VERSIONED: [&str; 3] = ["python", "pypy", "nodejs"];
/// Bytes of one glob.
const GLOB_BYTES_MAX: usize = 1_000;

/// Why a pattern is refused, and which field of it is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct PatternError {
    /// JSON pointer within the decision.
    pub pointer: &'static str,
    /// What is wrong, and what to do instead.
    pub detail: String,
}

fn wrong(pointer: &'static str, detail: impl Into<String>) -> PatternError {
    PatternError { pointer, detail: detail.into() }
}

/// A checked pattern of calls of one tool.
#[derive(Debug)]
pub struct CallPattern {
    tool: String,
    card: Value,
    argv_prefix: Option<Vec<String>>,
    globs: Vec<(String, GlobMatcher)>,
}

impl CallPattern {
    /// A pattern made from a card: its tool, its arguments, and what may differ.
    ///
    /// # Errors
    /// [`PatternError`] says which field is wrong.
    pub fn new(tool: &str, card: &Value, bounds: &PatternBounds) -> Result<Self, PatternError> {
        let args =
            card.as_object().ok_or_else(|| wrong("/pattern", "this card has no arguments"))?;
        check_bounds(bounds)?;
        if let Some(prefix) = &bounds.argv_prefix {
            check_prefix(tool, args, prefix)?;
        }
        let globs = bounds.args.iter().map(|(name, glob)| glob_of(args, name, glob));
        Ok(Self {
            tool: tool.to_owned(),
            card: card.clone(),
            argv_prefix: bounds.argv_prefix.clone(),
            globs: globs.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it lets a call through, as far as its arguments go.
    pub fn matches(&self, tool: &str, args: &Value) -> bool {
        let (Some(card), Some(args)) = (self.card.as_object(), args.as_object()) else {
            return false;
        };
        tool == self.tool
            && card.len() == args.len()
            && args.iter().all(|(name, value)| {
                card.get(name).is_some_and(|of_card| self.lets(name, value, of_card))
            })
    }

    /// Whether the argument of that name may differ from the card's.
    pub fn leaves_open(&self, name: &str) -> bool {
        self.globs.iter().any(|(glob, _)| glob == name)
    }

    fn lets(&self, name: &str, value: &Value, of_card: &Value) -> bool {
        if let Some(prefix) = self.argv_prefix.as_ref().filter(|_| name == "argv") {
            let Some(argv) = value.as_array() else { return false };
            let words = argv.iter().map(Value::as_str);
            return argv.len() >= prefix.len()
                && words.zip(prefix).all(|(word, wanted)| word == Some(wanted.as_str()));
        }
        match self.globs.iter().find(|(glob, _)| glob == name) {
            Some((_, glob)) => {
                value.as_str().is_some_and(|text| !climbs(text) && glob.is_match(text))
            }
            None => value == of_card,
        }
    }
}

/// A glob says nothing about where `..` leads.
fn climbs(text: &str) -> bool {
    text.split('/').any(|part| part == "..")
}

fn check_bounds(bounds: &PatternBounds) -> Result<(), PatternError> {
    let (ttl_max, uses_max) = (limits::PATTERN_TTL_SECS_MAX, limits::PATTERN_USES_MAX);
    if !(1..=ttl_max).contains(&bounds.ttl_secs) {
        return Err(wrong(
            "/pattern/ttl_secs",
            format!("a pattern holds for 1 to {ttl_max} seconds"),
        ));
    }
    if !(1..=uses_max).contains(&bounds.uses) {
        return Err(wrong("/pattern/uses", format!("a pattern has 1 to {uses_max} uses")));
    }
    Ok(())
}

fn check_prefix(
    tool: &str,
    args: &Map<String, Value>,
    prefix: &[String],
) -> Result<(), PatternError> {
    let at = "/pattern/argv_prefix";
    if tool != ToolName::Exec.as_str() {
        return Err(wrong(at, "`argv_prefix` is for the tool `exec`; name an argument in `args`"));
    }
    let of_card = args.get("argv").and_then(Value::as_array).into_iter().flatten();
    let words: Vec<&str> = of_card.filter_map(Value::as_str).collect();
    let begins = words.iter().zip(prefix).all(|(word, wanted)| word == wanted);
    if prefix.is_empty() || prefix.len() > words.len() || !begins {
        return Err(wrong(
            at,
            "give the first words of the card's own `argv`, at least the program",
        ));
    }
    let program = prefix.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    if runs_its_arguments(program) {
        let detail = format!(
            "`{program}` runs what its arguments say, so they cannot be left open: leave out \
             `argv_prefix`, then the whole command must be the card's"
        );
        return Err(wrong(at, detail));
    }
    Ok(())
}

fn runs_its_arguments(program: &str) -> bool {
    RUNNERS.contains(&program) || VERSIONED.iter().any(|name| program.starts_with(name))
}

fn glob_of(
    args: &Map<String, Value>,
    name: &str,
    glob: &str,
) -> Result<(String, GlobMatcher), PatternError> {
    let at = "/pattern/args";
    if FIXED.contains(&name) {
        return Err(wrong(at, format!("`{name}` decides what is done and cannot be left open")));
    }
    let Some(own) = args.get(name).and_then(Value::as_str) else {
        return Err(wrong(at, format!("the card has no text argument `{name}`")));
    };
    if glob.len() > GLOB_BYTES_MAX {
        return Err(wrong(at, format!("a glob has at most {GLOB_BYTES_MAX} bytes")));
    }
    // Compiled in a set first: a single glob that is too large panics where it is compiled.
    let built = GlobBuilder::new(glob).literal_separator(true).build().and_then(|glob| {
        globset::GlobSet::new([glob.clone()])?;
        Ok(glob.compile_matcher())
    });
    let matcher = built.map_err(|error| {
        let reason: String = error.kind().to_string().chars().take(200).collect();
        wrong(at, format!("`{name}`: this is no glob: {reason}"))
    })?;
    if !matcher.is_match(own) {
        return Err(wrong(at, format!("`{name}`: the glob does not match the card's own value")));
    }
    Ok((name.to_owned(), matcher))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bounds(prefix: Option<&[&str]>, args: &[(&str, &str)]) -> PatternBounds {
        PatternBounds {
            argv_prefix: prefix.map(|p| p.iter().map(|w| (*w).to_owned()).collect()),
            args: args.iter().map(|(n, g)| ((*n).to_owned(), (*g).to_owned())).collect(),
            ttl_secs: 60,
            uses: 3,
        }
    }

    #[test]
    fn a_prefix_lets_more_words_through_and_nothing_else() {
        let card = json!({"argv": ["git", "log", "-1"], "cwd": "."});
        let pattern = CallPattern::new("exec", &card, &bounds(Some(&["git", "log"]), &[])).unwrap();
        for argv in [json!(["git", "log"]), json!(["git", "log", "--stat", "x"])] {
            assert!(pattern.matches("exec", &json!({"argv": argv, "cwd": "."})));
        }
        for args in [
            json!({"argv": ["git", "push"], "cwd": "."}),
            json!({"argv": ["git"], "cwd": "."}),
            json!({"argv": ["git", "log"]}),
            json!({"argv": ["git", "log"], "cwd": "x"}),
            json!({"argv": ["git", "log"], "cwd": ".", "env": {"GIT_PAGER": "sh"}}),
            json!({"argv": [["git"], "log"], "cwd": "."}),
        ] {
            assert!(!pattern.matches("exec", &args), "{args}");
        }
        assert!(!pattern.matches("shell", &card));
    }

    #[test]
    fn a_glob_stays_within_its_parts_and_never_climbs() {
        let card = json!({"path": "reports/a.md", "content": "x", "mode": "overwrite"});
        let open = [("path", "reports/*.md"), ("content", "**")];
        let pattern = CallPattern::new("write_file", &card, &bounds(None, &open)).unwrap();
        let call = |path: &str, mode: &str| json!({"path": path, "content": "y/z", "mode": mode});
        assert!(pattern.matches("write_file", &call("reports/b.md", "overwrite")));
        for (path, mode) in [
            ("reports/x/b.md", "overwrite"),
            ("reports/../b.md", "overwrite"),
            ("reports/b.md", "append"),
            ("b.md", "overwrite"),
        ] {
            assert!(!pattern.matches("write_file", &call(path, mode)), "{path} {mode}");
        }
        // `**` crosses parts, but `..` is not a name.
        let card = json!({"path": "a/b"});
        let deep =
            CallPattern::new("read_file", &card, &bounds(None, &[("path", "a/**")])).unwrap();
        assert!(deep.matches("read_file", &json!({"path": "a/b/c"})));
        assert!(!deep.matches("read_file", &json!({"path": "a/../../etc/passwd"})));
    }

    #[test]
    fn what_would_leave_everything_open_is_refused() {
        let exec = |argv: Value| json!({"argv": argv});
        let (sh, git) = (exec(json!(["sh", "-c", "ls"])), exec(json!(["git", "log"])));
        let python = exec(json!(["/usr/bin/python3.11", "-c", "1"]));
        let refused = |tool: &str, card: &Value, bounds: PatternBounds, pointer: &str| {
            let error = CallPattern::new(tool, card, &bounds).unwrap_err();
            assert_eq!(error.pointer, pointer, "{error}");
        };
        let at = "/pattern/argv_prefix";
        refused("exec", &sh, bounds(Some(&["sh"]), &[]), at);
        refused("exec", &sh, bounds(Some(&["sh", "-c"]), &[]), at);
        refused("exec", &python, bounds(Some(&["/usr/bin/python3.11"]), &[]), at);
        refused("exec", &git, bounds(Some(&[]), &[]), at);
        refused("exec", &git, bounds(Some(&["git", "push"]), &[]), at);
        refused("exec", &git, bounds(Some(&["git", "log", "x"]), &[]), at);
        refused("shell", &json!({"script": "ls"}), bounds(Some(&["ls"]), &[]), at);
        refused(
            "shell",
            &json!({"script": "ls"}),
            bounds(None, &[("script", "*")]),
            "/pattern/args",
        );
        refused("exec", &git, bounds(None, &[("cwd", "*")]), "/pattern/args");
        let read = json!({"path": "a"});
        refused("read_file", &read, bounds(None, &[("path", "b*")]), "/pattern/args");
        refused("read_file", &read, bounds(None, &[("path", "[")]), "/pattern/args");
        let longer = |ttl_secs, uses| PatternBounds { ttl_secs, uses, ..bounds(None, &[]) };
        refused("read_file", &read, longer(0, 1), "/pattern/ttl_secs");
        refused("read_file", &read, longer(86_401, 1), "/pattern/ttl_secs");
        refused("read_file", &read, longer(1, 0), "/pattern/uses");
        refused("read_file", &read, longer(1, 101), "/pattern/uses");
        refused("exec", &sh, bounds(Some(&["sh", "-c", "ls"]), &[]), at);
        // Without a prefix the whole command of a shell must be the card's.
        let whole = CallPattern::new("exec", &sh, &bounds(None, &[])).unwrap();
        assert!(whole.matches("exec", &sh));
        assert!(!whole.matches("exec", &exec(json!(["sh", "-c", "ls", "x"]))));
    }
}
