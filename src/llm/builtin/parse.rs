//! Plain instructions become steps.
//!
//! Invariant: any text is accepted without a panic; a script with a line that is not understood
//! is refused as a whole, so that nothing runs by half.

use serde_json::{Value, json};

use super::words::{first_word, quoted, shell_words, split_then, unescape};

/// One step of a script.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// What it does, in a few words.
    pub(super) title: String,
    /// What it does.
    pub(super) action: Action,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Asks for a tool.
    Call {
        /// Its name.
        tool: &'static str,
        /// Its arguments.
        args: Value,
    },
    /// Says something.
    Say(String),
    /// Explains what is understood.
    Help,
}

/// A line that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) line: String,
    pub(super) why: String,
}

/// The instructions, whatever word they were given with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    List,
    Read,
    Write,
    Append,
    Edit,
    Search,
    Run,
    Shell,
    Fetch,
    Ask,
    Say,
    Help,
}

fn verb(word: &str) -> Option<Verb> {
    Some(match word.trim_end_matches([':', '!', '.', ',']).to_ascii_lowercase().as_str() {
        "list" | "ls" | "dir" => Verb::List,
        "read" | "cat" | "show" | "open" | "view" => Verb::Read,
        "write" | "create" | "save" => Verb::Write,
        "append" | "add" => Verb::Append,
        "edit" | "replace" | "change" => Verb::Edit,
        "search" | "grep" | "find" => Verb::Search,
        "run" | "exec" | "execute" => Verb::Run,
        "shell" | "sh" => Verb::Shell,
        "fetch" | "get" | "download" => Verb::Fetch,
        "ask" => Verb::Ask,
        "say" | "print" | "reply" => Verb::Say,
        "help" | "?" | "hello" | "hi" => Verb::Help,
        _ => return None,
    })
}

/// The steps of a script: one per line, or several joined with `then`.
pub(super) fn script(text: &str) -> Result<Vec<Step>, Trouble> {
    let mut steps = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = without_marker(line);
        if line.is_empty() || line.starts_with('#') || line == "```" {
            continue;
        }
        let pieces = split_then(line, |before, after| splits(verb_of(before), verb_of(after)));
        for piece in pieces {
            steps.push(step(without_marker(piece), &mut lines)?);
        }
    }
    if steps.is_empty() {
        return Ok(vec![Step { title: "help".to_owned(), action: Action::Help }]);
    }
    Ok(steps)
}

fn verb_of(piece: &str) -> Option<Verb> {
    verb(first_word(without_marker(piece)).0)
}

/// Whether `then` between the two ends the first. After a free text it does only where an
/// instruction follows; elsewhere always, so that what follows is refused if it is none.
const fn splits(before: Option<Verb>, after: Option<Verb>) -> bool {
    match before {
        // The rest of a shell line belongs to the shell.
        Some(Verb::Shell) => false,
        Some(Verb::List | Verb::Read | Verb::Run | Verb::Fetch | Verb::Help) | None => true,
        Some(Verb::Write | Verb::Append | Verb::Edit | Verb::Search | Verb::Ask | Verb::Say) => {
            after.is_some()
        }
    }
}

/// The line without `1.`, `-`, `*`, and words of politeness or order before the instruction.
fn without_marker(line: &str) -> &str {
    let mut line = line.trim();
    loop {
        let (word, rest) = first_word(line);
        let number = word.trim_end_matches(['.', ')']);
        let is_number = !number.is_empty()
            && number.len() < word.len()
            && number.bytes().all(|b| b.is_ascii_digit());
        let plain = word.trim_end_matches([',', ':']).to_ascii_lowercase();
        let is_filler =
            matches!(plain.as_str(), "please" | "first" | "then" | "next" | "finally" | "and");
        if rest.is_empty() || !(is_number || is_filler || matches!(word, "-" | "*")) {
            return line;
        }
        line = rest;
    }
}

fn step(piece: &str, lines: &mut std::str::Lines<'_>) -> Result<Step, Trouble> {
    let trouble = |why: &str| Trouble { line: short(piece), why: why.to_owned() };
    let (word, rest) = first_word(piece);
    let verb = verb(word).ok_or_else(|| trouble("it begins with no instruction that I know"))?;
    let (rest, block) = block(rest, verb, lines).map_err(trouble)?;
    match verb {
        Verb::List => Ok(list(rest)),
        Verb::Read => read(rest),
        Verb::Write | Verb::Append => write(word, verb, rest, block),
        Verb::Edit => edit(rest),
        Verb::Search => search(rest),
        Verb::Run => run(rest),
        Verb::Shell => shell(rest, block),
        Verb::Fetch => fetch(rest),
        Verb::Ask => ask(rest),
        Verb::Say if rest.is_empty() => Err("say what? Write `say TEXT`"),
        Verb::Say => {
            let said = quoted(rest).unwrap_or_else(|| rest.to_owned());
            Ok(Step { title: "say".to_owned(), action: Action::Say(said) })
        }
        Verb::Help => Ok(Step { title: "help".to_owned(), action: Action::Help }),
    }
    .map_err(trouble)
}

/// A block of lines that follows: `<<END … END`, or a fence of three backticks after a colon.
fn block<'t>(
    rest: &'t str,
    verb: Verb,
    lines: &mut std::str::Lines<'_>,
) -> Result<(&'t str, Option<String>), &'static str> {
    if !matches!(verb, Verb::Write | Verb::Append | Verb::Shell) {
        return Ok((rest, None));
    }
    let here = rest.rsplit_once("<<").and_then(|(head, end)| {
        let end = end.trim().trim_matches(['\'', '"']);
        let is_word =
            !end.is_empty() && end.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_word.then_some((head.trim_end(), end))
    });
    if let Some((head, end)) = here {
        // For the shell a here-document is the script's own when something stands before it.
        if verb == Verb::Shell && !head.is_empty() {
            return Ok((rest, None));
        }
        return Ok((head, Some(take_until(lines, end)?)));
    }
    let mut ahead = lines.clone();
    let is_fence = ahead.next().is_some_and(|l| l.trim_start().starts_with("```"));
    if is_fence && (rest.ends_with(':') || rest.is_empty()) {
        *lines = ahead;
        return Ok((rest, Some(take_until(lines, "```")?)));
    }
    Ok((rest, None))
}

fn take_until(lines: &mut std::str::Lines<'_>, end: &str) -> Result<String, &'static str> {
    let mut text = String::new();
    for line in lines {
        if line.trim() == end {
            return Ok(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    Err("its block of lines has no end")
}

fn call(tool: &'static str, title: String, args: Value) -> Step {
    Step { title: short(&title), action: Action::Call { tool, args } }
}

/// A path without quotes and without the words that people put before one.
fn path(text: &str) -> String {
    if let Some(path) = quoted(text) {
        return path;
    }
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let is_filler = |w: &str| {
        ["the", "all", "file", "files", "directory", "folder", "contents", "of", "in"]
            .contains(&w.to_ascii_lowercase().as_str())
    };
    while words.first().is_some_and(|w| is_filler(w)) {
        words.remove(0);
    }
    words.join(" ").trim_matches(['"', '`', '\'']).to_owned()
}

fn list(rest: &str) -> Step {
    let is_flag = |w: &str| matches!(w, "-r" | "-R" | "recursively" | "everything");
    let recursive = rest.split_whitespace().any(is_flag);
    let words: Vec<&str> = rest.split_whitespace().filter(|w| !is_flag(w)).collect();
    let path = path(&words.join(" "));
    let (title, mut args) = if path.is_empty() || path == "." {
        ("list the workspace".to_owned(), json!({}))
    } else {
        (format!("list {path}"), json!({ "path": path }))
    };
    if let (true, Some(map)) = (recursive, args.as_object_mut()) {
        map.insert("recursive".to_owned(), Value::Bool(true));
    }
    call("list_files", title, args)
}

fn read(rest: &str) -> Result<Step, &'static str> {
    let path = path(rest);
    if path.is_empty() {
        return Err("read what? Write `read PATH`");
    }
    Ok(call("read_file", format!("read {path}"), json!({ "path": path })))
}

fn write(word: &str, verb: Verb, rest: &str, block: Option<String>) -> Result<Step, &'static str> {
    const HOW: &str = "write it as `write PATH: TEXT` (or `append PATH: TEXT`)";
    let (path, content) = match block {
        Some(text) => (path(rest.trim_end_matches(':')), text),
        None => split_target(rest).ok_or(HOW)?,
    };
    if path.is_empty() {
        return Err(HOW);
    }
    let (mode, title) = match (verb, word.to_ascii_lowercase().as_str()) {
        (Verb::Append, _) => ("append", format!("append to {path}")),
        (_, "create") => ("create", format!("create {path}")),
        _ => ("overwrite", format!("write {path}")),
    };
    let args = json!({ "path": path, "content": content, "mode": mode });
    Ok(call("write_file", title, args))
}

/// `PATH: TEXT`, or `TEXT to PATH`. A text without quotes gets the line end that a text file has.
fn split_target(rest: &str) -> Option<(String, String)> {
    let content = |text: &str| {
        let text = text.trim();
        quoted(text)
            .unwrap_or_else(|| if text.is_empty() { String::new() } else { unescape(text) + "\n" })
    };
    if !rest.starts_with('"')
        && let Some((target, text)) = rest.split_once(": ")
    {
        return Some((path(target), content(text)));
    }
    if let Some((target, text)) = rest.split_once("\": ") {
        return Some((unescape(target.trim_start_matches('"')), content(text)));
    }
    if let Some(target) = rest.strip_suffix(':') {
        return Some((path(target), String::new()));
    }
    let (text, target) = rest.rsplit_once(" to ").or_else(|| rest.rsplit_once(" into "))?;
    Some((path(target), content(text)))
}

fn edit(rest: &str) -> Result<Step, &'static str> {
    let (target, old, new) = split_edit(rest)
        .ok_or("write it as `edit PATH: OLD => NEW` or `replace OLD with NEW in PATH`")?;
    let plain = |text: &str| quoted(text.trim()).unwrap_or_else(|| unescape(text.trim()));
    let (path, old, new) = (path(target), plain(old), plain(new));
    if path.is_empty() || old.is_empty() {
        return Err("write it as `edit PATH: OLD => NEW`; neither PATH nor OLD may be empty");
    }
    let args = json!({ "path": path, "old": old, "new": new });
    Ok(call("edit_file", format!("edit {path}"), args))
}

fn split_edit(rest: &str) -> Option<(&str, &str, &str)> {
    if let Some((path, change)) = rest.split_once(": ")
        && let Some((old, new)) = change.split_once("=>")
    {
        return Some((path, old, new));
    }
    let (change, path) = rest.rsplit_once(" in ")?;
    let (old, new) = change.split_once(" with ")?;
    Some((path, old, new))
}

fn search(rest: &str) -> Result<Step, &'static str> {
    let rest = rest.strip_prefix("for ").unwrap_or(rest);
    let (pattern, place) = match rest.rsplit_once(" in ") {
        // The last ` in ` may stand within the quotes of the pattern.
        Some((pattern, place)) if quoted(rest).is_none() => (pattern, path(place)),
        Some(_) | None => (rest, String::new()),
    };
    let pattern = quoted(pattern.trim()).unwrap_or_else(|| pattern.trim().to_owned());
    if pattern.is_empty() {
        return Err("search for what? Write `search PATTERN in PATH`");
    }
    Ok(if place.is_empty() {
        call("search_files", format!("search for {pattern}"), json!({ "pattern": pattern }))
    } else {
        let title = format!("search for {pattern} in {place}");
        call("search_files", title, json!({ "pattern": pattern, "path": place }))
    })
}

fn run(rest: &str) -> Result<Step, &'static str> {
    let argv = shell_words(rest)?;
    if argv.is_empty() {
        return Err("run what? Write `run PROGRAM ARGUMENTS…`");
    }
    let is_operator = |w: &String| matches!(w.as_str(), "|" | ">" | ">>" | "<" | "&&" | "||" | ";");
    // A quoted operator is an argument like any other.
    if argv.iter().any(is_operator) && !rest.contains(['"', '\'', '\\']) {
        return Err("`run` starts one program without a shell, so pipes and redirections mean \
                    nothing there; use `shell SCRIPT`");
    }
    Ok(call("exec", format!("run {rest}"), json!({ "argv": argv })))
}

fn shell(rest: &str, block: Option<String>) -> Result<Step, &'static str> {
    let script = block.unwrap_or_else(|| rest.to_owned());
    let Some(first) = script.lines().find(|l| !l.trim().is_empty()) else {
        return Err("which script? Write `shell SCRIPT`");
    };
    Ok(call("shell", format!("shell {}", first.trim()), json!({ "script": script })))
}

fn fetch(rest: &str) -> Result<Step, &'static str> {
    let url = path(rest);
    if url.is_empty() || url.contains(char::is_whitespace) {
        return Err("fetch what? Write `fetch URL`");
    }
    Ok(call("http_request", format!("fetch {url}"), json!({ "method": "GET", "url": url })))
}

fn ask(rest: &str) -> Result<Step, &'static str> {
    // `ask Which one? [red | green]` offers choices.
    let (question, options) = match rest.strip_suffix(']').and_then(|r| r.rsplit_once('[')) {
        Some((question, options)) => {
            let options = options.split('|').map(str::trim).filter(|o| !o.is_empty());
            (question.trim(), options.collect())
        }
        None => (rest, Vec::new()),
    };
    let question = quoted(question).unwrap_or_else(|| question.to_owned());
    if question.is_empty() {
        return Err("ask what? Write `ask QUESTION`");
    }
    let title = format!("ask {question}");
    Ok(if options.is_empty() {
        call("ask_user", title, json!({ "question": question }))
    } else {
        call("ask_user", title, json!({ "question": question, "options": options }))
    })
}

/// At most 80 characters of one line.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 80 {
        return line.to_owned();
    }
    line.chars().take(79).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
