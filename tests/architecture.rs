//! The shape of the code, held against its sources: who may import whom, where each outside crate
//! lives, where `unsafe` may stand. See docs/ARCHITECTURE.md.

#![cfg(test)]
#![expect(clippy::string_slice, reason = "the scanner cuts only at characters it has seen")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each module and what it may import: only layers below it, and only what stands here.
const IMPORTS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("runtime", &[]),
    ("store", &["domain", "runtime"]),
    ("llm", &["domain", "runtime"]),
    ("sandbox", &["domain", "runtime"]),
    ("egress", &["domain", "runtime"]),
    ("auth", &["domain", "runtime", "store"]),
    ("tools", &["domain", "runtime", "sandbox", "egress"]),
    ("orchestrator", &["domain", "runtime", "store", "llm", "auth", "tools"]),
    ("http", &["domain", "runtime", "auth", "orchestrator"]),
    (
        "app",
        &[
            "domain",
            "runtime",
            "store",
            "llm",
            "sandbox",
            "egress",
            "auth",
            "tools",
            "orchestrator",
            "http",
        ],
    ),
];

/// Parts that are held tighter than their module: path below `src/`, what they may import beside
/// their own module.
const SUB_RULES: &[(&str, &[&str])] = &[
    ("auth/policy", &["domain"]),
    ("app/client", &["domain"]),
    ("orchestrator/step", &["domain"]),
];

/// Parts of one module that do not know each other: the public listener and the admin door share
/// nothing but the kit.
const STRANGERS: &[(&str, &str)] = &[("http/api", "admin"), ("http/admin", "api")];

/// Outside crates and the places, below `src/`, that may name them.
const WALLS: &[(&str, &[&str])] = &[
    ("sqlx", &["store/"]),
    ("reqwest", &["llm/", "app/client/"]),
    ("axum", &["http/"]),
    ("hyper", &["http/", "egress/"]),
    ("hyper_util", &["http/", "egress/"]),
    ("tower", &["http/"]),
    ("tower_http", &["http/"]),
    ("utoipa", &["http/"]),
    ("utoipa_axum", &["http/"]),
    ("utoipa_swagger_ui", &["http/"]),
    ("landlock", &["sandbox/"]),
    ("seccompiler", &["sandbox/"]),
    ("rustix", &["sandbox/"]),
    ("libc", &["sandbox/"]),
    ("clap", &["app/"]),
    ("dotenvy", &["app/"]),
    ("toml", &["app/", "auth/policy/language/"]),
    ("strsim", &["app/", "auth/policy/language/"]),
    ("anyhow", &["app/"]),
    ("tracing_subscriber", &["runtime/"]),
    ("metrics_exporter_prometheus", &["runtime/"]),
    // axum's WebSocket errors are this crate's.
    ("tokio_tungstenite", &["http/api/ws/"]),
    ("hickory_proto", &["egress/"]),
    ("hickory_resolver", &["egress/"]),
    ("httparse", &["egress/"]),
    ("tokio_rustls", &["egress/"]),
    ("webpki_roots", &["egress/"]),
    ("bech32", &["store/archive/"]),
    ("curve25519_dalek", &["store/archive/"]),
    ("flate2", &["store/archive/"]),
    ("ring", &["store/archive/"]),
    ("tar", &["store/archive/"]),
];

/// Pure parts: no I/O, no waiting, no clock of their own.
const PURE: &[&str] = &[
    "domain/",
    "auth/policy/",
    "orchestrator/step",
    "egress/address",
    "egress/dns",
    "egress/head",
    "egress/hello",
    "egress/template",
];

/// Words that pure code has no use for. Addresses of `std::net` are values and stay allowed.
const IMPURE: &[&str] = &[
    "async",
    "tokio",
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "UnixDatagram",
    "ToSocketAddrs",
];

/// The one file that may say `unsafe`.
const UNSAFE: &str = "sandbox/sys.rs";

/// Fewer files than this means that the test looks in the wrong place.
const FILES_MIN: usize = 100;

/// Parts that handle paths which a model has chosen: no file is opened there.
const HELD: &[&str] = &["tools/", "orchestrator/"];
/// Methods that look at a path on the disk, and what would let `std::fs` in under another name.
const OPENERS: &[&str] = &[
    "canonicalize",
    "symlink_metadata",
    "read_link",
    "read_dir",
    "exists",
    "try_exists",
    "is_file",
    "is_dir",
    "is_symlink",
    "fs",
];

#[test]
fn the_sources_keep_the_shape() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() >= FILES_MIN, "only {} files found", files.len());
    let mut wrong = Vec::new();
    let mut modules = BTreeSet::new();
    for file in &files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        modules.extend(path.split_once('/').map(|(module, _)| module.to_owned()));
        wrong.extend(violations(&path, &fs::read_to_string(file).unwrap()));
    }
    let known: BTreeSet<String> = IMPORTS.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(modules, known, "a module without a row, or a row without a module");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_kind_of_violation_is_caught() {
    for (path, text, wanted) in [
        ("domain/x.rs", "use crate::store::Store;", "domain/x.rs imports store"),
        (
            "http/x.rs",
            "use crate::{\n    domain::Run,\n    store::{self, Tx},\n};",
            "imports store",
        ),
        ("http/x.rs", "fn f() { crate::sandbox::run() }", "imports sandbox"),
        ("store/runs.rs", "use super::super::auth::Permit;", "imports auth"),
        ("store/mod.rs", "use super::{llm, domain};", "imports llm"),
        ("llm/x.rs", "use crate::store as s;", "imports store"),
        ("auth/policy/x.rs", "use crate::runtime::Stop;", "imports runtime"),
        ("app/client/x.rs", "use crate::store::Store;", "imports store"),
        ("http/x.rs", "use sqlx::Row;", "names sqlx"),
        ("auth/x.rs", "fn f() { reqwest::get(x) }", "names reqwest"),
        ("app/cli/x.rs", "use reqwest;", "names reqwest"),
        ("http/x.rs", "use {clap::Parser, axum::Router};", "names clap"),
        ("tools/x.rs", "use ::rustix::fs;", "names rustix"),
        ("sandbox/child.rs", "fn f() { unsafe { g() } }", "says unsafe"),
        ("domain/x.rs", "async fn f() {}", "is not pure"),
        ("auth/policy/x.rs", "fn f() { std::fs::read(p) }", "is not pure"),
        ("domain/x.rs", "use std::time::Instant;", "is not pure"),
        ("http/api/x.rs", "use crate::http::admin::Bounds;", "names admin"),
        ("http/api/x.rs", "use super::super::{admin::Bounds, kit};", "names admin"),
        ("http/admin/x.rs", "use crate::http::{kit, api::schema};", "names api"),
        ("http/admin/x.rs", "fn f() { super::super::api::access(p) }", "names api"),
        ("egress/head/x.rs", "use std::net::{IpAddr, TcpStream};", "is not pure"),
        ("egress/x.rs", "use crate::sandbox::Session;", "imports sandbox"),
        ("new/x.rs", "", "has no row"),
        ("tools/files.rs", "fn f(p: &Path) { std::fs::read(p) }", "opens files"),
        ("tools/x.rs", "use std::{fs, io};", "opens files"),
        ("tools/x.rs", "use tokio::fs::File;", "opens files"),
        ("tools/place.rs", "fn f(p: &Path) -> bool { p.exists() }", "opens files"),
        ("tools/x.rs", "fn f(p: &Path) { let f = File::open(p); }", "opens files"),
        ("orchestrator/x.rs", "fn f(p: &Path) { p.canonicalize() }", "opens files"),
    ] {
        let found = violations(path, text).join("\n");
        assert!(found.contains(wanted), "{path}: {text}: found `{found}`");
    }
}

#[test]
fn what_is_allowed_is_let_through() {
    for (path, text) in [
        ("store/x.rs", "use sqlx::Row;\nuse crate::{domain::Run, runtime::Tasks};"),
        (
            "store/x.rs",
            "// use crate::llm; unsafe\n/* reqwest:: */ const S: &str = \"sqlx::x unsafe\";",
        ),
        ("http/x.rs", "const S: &str = r#\"use crate::store; \" unsafe\"#; const C: char = '\"';"),
        ("sandbox/sys.rs", "unsafe fn f() {}"),
        ("sandbox/x.rs", "#![deny(unsafe_code)]"),
        ("http/x.rs", "use crate::http::api; use axum::{Router, http::StatusCode};"),
        ("llm/x.rs", "fn f<'a>(x: &'a str) { my_sqlx::f(); self::sqlx_like::g() }"),
        ("auth/authn/x.rs", "use super::super::domain; use super::store_of;"),
        ("http/mod.rs", "pub use api::Info; pub use admin::Bounds;"),
        ("http/admin/x.rs", "use crate::http::kit::Problem; fn f(api: u8) {}"),
        ("lib.rs", "pub mod store;"),
        ("tools/files_tests.rs", "fn f() { std::fs::write(p, x) }"),
        ("tools/x.rs", "use crate::sandbox::dir::Dir; fn f(d: &Dir) { d.read(p, 1) }"),
        ("domain/x.rs", "use std::net::IpAddr;"),
        ("egress/x.rs", "use std::net::TcpStream; use tokio::net::UdpSocket;"),
        ("main.rs", "fn main() { agent_runtime::app::main() }"),
    ] {
        assert_eq!(violations(path, text), [""; 0], "{path}: {text}");
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Everything that a source file does against the rules; `path` is relative to `src/`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_texts(text);
    let tokens = tokens(&code);
    let mut wrong = Vec::new();
    let Some((module, _)) = path.split_once('/') else { return wrong };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{path}: module {module} has no row in the import table")];
    };
    let tighter = SUB_RULES.iter().find(|(part, _)| {
        path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/') || rest.starts_with('.'))
    });
    let allowed = tighter.map_or(*allowed, |(_, allowed)| allowed);
    for name in imported(&tokens, depth(path)) {
        let is_module = IMPORTS.iter().any(|(module, _)| *module == name);
        if is_module && name != module && !allowed.contains(&name) {
            wrong.push(format!("{path} imports {name}"));
        }
    }
    for (part, stranger) in STRANGERS {
        let is_named = names_part(&tokens, stranger);
        if path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/')) && is_named {
            wrong.push(format!("{path} names {stranger}"));
        }
    }
    for (name, places) in WALLS {
        if names(&tokens, name) && !places.iter().any(|place| path.starts_with(place)) {
            wrong.push(format!("{path} names {name}"));
        }
    }
    if path != UNSAFE && tokens.contains(&"unsafe") {
        wrong.push(format!("{path} says unsafe"));
    }
    // What a model names is opened through `sandbox::dir` alone.
    let is_held = HELD.iter().any(|part| path.starts_with(part)) && !path.ends_with("_tests.rs");
    let opens = |words: &[&str]| {
        let is_file = |w: &[&str]| matches!(w, ["File" | "OpenOptions", ":", ":", _]);
        let is_fs = |w: &[&str]| matches!(w, ["std" | "tokio", ":", ":", "fs"]);
        words.windows(4).any(|w| is_file(w) || is_fs(w))
            || words.iter().any(|w| OPENERS.contains(w))
    };
    if is_held && opens(&tokens) {
        wrong.push(format!("{path} opens files by itself"));
    }
    let is_pure = PURE.iter().any(|part| path.starts_with(part)) && path != "domain/time.rs";
    if is_pure {
        let has = |word: &str| tokens.contains(&word);
        let std_io = tokens
            .windows(4)
            .any(|w| matches!(w, ["std", ":", ":", "fs" | "env" | "process" | "thread"]));
        if std_io || IMPURE.iter().any(|word| has(word)) {
            wrong.push(format!("{path} is not pure"));
        }
    }
    wrong
}

/// How many modules deep the file is: as many `super::` reach the root of the crate.
fn depth(path: &str) -> usize {
    let parts = path.split('/').count();
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The first names after `crate::`, and after enough `super::` to stand at the root.
fn imported<'t>(tokens: &[&'t str], depth: usize) -> Vec<&'t str> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut next = at;
        let mut supers = 0;
        while tokens[next..].starts_with(&["super", ":", ":"]) {
            supers += 1;
            next += 3;
        }
        let is_root = supers >= depth && supers > 0;
        if tokens[next..].starts_with(&["crate", ":", ":"]) {
            next += 3;
        } else if !is_root {
            at = next.max(at + 1);
            continue;
        }
        found.extend(first_names(&tokens[next..]));
        at = next.max(at + 1);
    }
    found
}

/// The name here, or each name of the group here.
fn first_names<'t>(tokens: &[&'t str]) -> Vec<&'t str> {
    if tokens.first() != Some(&"{") {
        return tokens.first().copied().into_iter().collect();
    }
    let mut found = Vec::new();
    let mut level = 0;
    let mut is_first = false;
    for token in tokens {
        match *token {
            "{" => level += 1,
            "}" => level -= 1,
            "," => {}
            name if is_first && level == 1 => found.push(name),
            _ => {}
        }
        if level == 0 {
            break;
        }
        is_first = level == 1 && matches!(*token, "{" | ",");
    }
    found
}

/// Whether the crate is named: `name::…`, `use name;` or `use name as …`, and not as a part of
/// another path.
fn names(tokens: &[&str], name: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        let before = |n: usize| at.checked_sub(n).map(|i| tokens[i]);
        let is_part = before(1) == Some(":")
            && before(3)
                .is_some_and(|t| t.chars().all(|c| c.is_alphanumeric() || c == '_') && t != "use");
        let is_path = tokens[at + 1..].starts_with(&[":", ":"]);
        let is_use = before(1) == Some("use");
        *token == name && !is_part && (is_path || is_use)
    })
}

/// Whether a path has this part: `…::name` or `name::…`, or a group that begins with it.
fn names_part(tokens: &[&str], name: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        let before = |n: usize| at.checked_sub(n).map(|i| tokens[i]);
        let is_after = before(1) == Some(":") && before(2) == Some(":");
        let is_in_group = matches!(before(1), Some("{" | ",")) && tokens.contains(&"use");
        let is_before = tokens[at + 1..].starts_with(&[":", ":"]);
        *token == name && (is_after || (is_in_group && is_before))
    })
}

/// Words and single signs.
fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(c) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            c.len_utf8()
        };
        let (token, tail) = rest.split_at(length);
        if !c.is_whitespace() {
            found.push(token);
        }
        rest = tail;
    }
    found
}

/// The source with comments, texts and character literals blanked.
fn without_comments_and_texts(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_text(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            0
        };
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.push(' ');
            rest = &rest[skipped..];
        }
    }
    out
}

/// The number of `#` of a raw text that begins here.
fn raw_text(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Length of a quoted text, quotes included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether a quote begins a character and not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    let first = chars.next();
    first == Some('\\') || chars.next() == Some('\'')
}
