//! The file tools on a real directory.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{Access, CommandRule, PathRule, ToolLimits},
    tools::{Invocation, parse, search},
};

struct Desk {
    base: tempfile::TempDir,
    grant: Grant,
}

impl Desk {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        for name in ["ws", "ro"] {
            crate::sandbox::prepare_workspace(&base.path().join(name)).unwrap();
        }
        std::fs::write(base.path().join("secret"), "outside").unwrap();
        std::fs::write(base.path().join("ro/fixed"), "needle fixed\n").unwrap();
        let grant = Grant {
            workspace: base.path().join("ws"),
            paths: vec![PathRule { path: base.path().join("ro"), access: Access::Ro }],
            commands: CommandRule::None,
            may_execute_files: true,
            hosts: std::sync::Arc::default(),
            same_host_only: false,
            egress: crate::domain::EgressLimits::default(),
            limits: ToolLimits::default(),
        };
        Self { base, grant }
    }

    fn call(&self, tool: &str, args: Value) -> Result<Told, String> {
        let bytes = 4_000;
        match parse(tool, &args).unwrap() {
            Invocation::ReadFile(c) => read(&self.grant, &c, bytes),
            Invocation::WriteFile(c) => write(&self.grant, &c, 10_000, None),
            Invocation::EditFile(c) => edit(&self.grant, &c, None),
            Invocation::ListFiles(c) => list(&self.grant, &c, bytes),
            Invocation::SearchFiles(c) => search::search(&self.grant, &c, bytes),
            other => panic!("{other:?}"),
        }
        .map_err(|e| e.to_string())
    }

    fn ok(&self, tool: &str, args: Value) -> String {
        self.call(tool, args).unwrap().text
    }

    fn err(&self, tool: &str, args: Value) -> String {
        self.call(tool, args).unwrap_err()
    }
}

#[test]
fn a_file_is_written_read_and_edited() {
    let desk = Desk::new();
    desk.ok("write_file", json!({"path": "a/b.txt", "content": "one\ntwo\n", "mode": "create"}));
    assert_eq!(desk.ok("read_file", json!({"path": "a/b.txt"})), "one\ntwo\n");
    let absolute = desk.base.path().join("ws/a/b.txt");
    assert_eq!(desk.ok("read_file", json!({"path": absolute, "offset": 2})), "two\n");
    assert_eq!(desk.ok("read_file", json!({"path": "a/b.txt", "limit": 1})), "one\n");
    assert!(desk.err("read_file", json!({"path": "a/b.txt", "offset": 3})).contains("2 lines"));
    desk.ok("edit_file", json!({"path": "a/b.txt", "old": "two", "new": "three"}));
    desk.ok("write_file", json!({"path": "a/b.txt", "content": "four\n", "mode": "append"}));
    assert_eq!(desk.ok("read_file", json!({"path": "a/b.txt"})), "one\nthree\nfour\n");
}

#[test]
fn repeating_what_a_crash_may_have_hidden_changes_nothing() {
    let desk = Desk::new();
    let create = json!({"path": "f", "content": "x = 1\n", "mode": "create"});
    desk.ok("write_file", create.clone());
    assert!(desk.ok("write_file", create).contains("already"));
    let other = json!({"path": "f", "content": "y", "mode": "create"});
    assert!(desk.err("write_file", other).contains("exists"));
    let edit = json!({"path": "f", "old": "x = 1", "new": "x = 10"});
    desk.ok("edit_file", edit.clone());
    assert!(desk.ok("edit_file", edit).contains("no change"));
    assert_eq!(desk.ok("read_file", json!({"path": "f"})), "x = 10\n");
}

#[test]
fn nothing_outside_is_read_or_written() {
    let desk = Desk::new();
    let ws = desk.base.path().join("ws");
    symlink("../secret", ws.join("link")).unwrap();
    symlink("..", ws.join("up")).unwrap();
    let secret = desk.base.path().join("secret");
    for path in ["../secret", "link", "up/secret", secret.to_str().unwrap(), "/etc/passwd"] {
        let error = desk.err("read_file", json!({"path": path}));
        assert!(error.contains("outside"), "{path}: {error}");
        let edit = json!({"path": path, "old": "outside", "new": "inside"});
        assert!(desk.err("edit_file", edit).contains("outside"), "{path}");
        desk.call("write_file", json!({"path": path, "content": "x", "mode": "overwrite"})).ok();
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "outside", "{path}");
    }
    assert!(desk.err("list_files", json!({"path": "up"})).contains("outside"));
    let found = desk.ok("search_files", json!({"pattern": "outside"}));
    assert_eq!(found, "(no match)\n");
}

#[test]
fn a_read_only_tree_is_read_and_not_written() {
    let desk = Desk::new();
    let path = desk.base.path().join("ro/fixed");
    assert_eq!(desk.ok("read_file", json!({"path": path})), "needle fixed\n");
    for (tool, args) in [
        ("write_file", json!({"path": path, "content": "x", "mode": "append"})),
        ("edit_file", json!({"path": path, "old": "fixed", "new": "broken"})),
    ] {
        assert!(desk.err(tool, args).contains("only be read"));
    }
}

#[test]
fn binary_files_are_told_and_long_ones_cut_with_where_to_go_on() {
    let desk = Desk::new();
    std::fs::write(desk.base.path().join("ws/bin"), b"\x7fELF\0\0").unwrap();
    assert!(desk.err("read_file", json!({"path": "bin"})).contains("not a text file"));
    let long = (1..=2_000).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    std::fs::write(desk.base.path().join("ws/long"), long).unwrap();
    let told = desk.call("read_file", json!({"path": "long"})).unwrap();
    assert!(told.is_truncated && told.text.len() <= 4_000);
    let (_, offset) = told.text.trim_end().trim_end_matches(']').rsplit_once(' ').unwrap();
    let offset: u64 = offset.parse().unwrap();
    let next = desk.ok("read_file", json!({"path": "long", "offset": offset, "limit": 1}));
    assert!(told.text.contains(&format!("line {}\n", offset - 1)));
    assert_eq!(next, format!("line {offset}\n"));
}

#[test]
fn listing_and_searching_go_deep_filter_and_stay_bounded() {
    let desk = Desk::new();
    for (path, content) in [
        ("src/main.rs", "fn needle() {}\n"),
        ("src/deep/x.md", "no\nneedle here\n"),
        ("z.rs", "hay\n"),
    ] {
        desk.ok("write_file", json!({"path": path, "content": content, "mode": "create"}));
    }
    symlink("src", desk.base.path().join("ws/again")).unwrap();
    let own = ".agent-runtime/\n.git/\n";
    let rest = "again  (link)\nsrc/\nz.rs  (4 bytes)\n";
    assert_eq!(desk.ok("list_files", json!({})), format!("{own}{rest}"));
    let deep = desk.ok("list_files", json!({"recursive": true, "glob": "*.rs"}));
    assert_eq!(deep, "src/main.rs  (15 bytes)\nz.rs  (4 bytes)\n");
    let found = desk.ok("search_files", json!({"pattern": "need.e"}));
    assert_eq!(found, "src/deep/x.md:2: needle here\nsrc/main.rs:1: fn needle() {}\n");
    let only = desk.ok("search_files", json!({"pattern": "needle", "path": "src", "glob": "*.md"}));
    assert_eq!(only, "src/deep/x.md:2: needle here\n");
    let one = desk.ok("search_files", json!({"pattern": "fn", "path": "src/main.rs"}));
    assert_eq!(one, "src/main.rs:1: fn needle() {}\n");
    assert!(desk.err("search_files", json!({"pattern": "("})).contains("not a valid pattern"));
    assert!(desk.err("list_files", json!({"glob": "["})).contains("not a valid pattern"));
    for n in 0..2_000 {
        std::fs::write(desk.base.path().join(format!("ws/f{n}")), "needle\n").unwrap();
    }
    for (tool, args) in [("list_files", json!({})), ("search_files", json!({"pattern": "needle"}))]
    {
        let told = desk.call(tool, args).unwrap();
        assert!(told.is_truncated && told.text.len() <= 4_000, "{tool}");
    }
}

#[test]
fn a_glob_that_cannot_be_compiled_is_refused_and_nothing_panics() {
    let desk = Desk::new();
    let nested = format!("{}a{}", "{".repeat(400), "}".repeat(400));
    for tool in ["list_files", "search_files"] {
        let args = if tool == "list_files" {
            json!({"glob": nested})
        } else {
            json!({"pattern": "x", "glob": nested})
        };
        let error = desk.err(tool, args);
        assert!(error.contains("not a valid pattern"), "{error}");
        // Deep enough to overflow a stack.
        let deep = "{".repeat(100_000);
        let parsed = parse("search_files", &json!({"pattern": "x", "glob": deep}));
        assert!(parsed.is_err());
    }
}

#[test]
fn an_edit_that_would_fill_the_memory_is_refused() {
    let desk = Desk::new();
    desk.ok("write_file", json!({"path": "f", "content": "a".repeat(9_000), "mode": "create"}));
    let new = "x".repeat(400 << 10);
    let args = json!({"path": "f", "old": "a", "new": new, "count": 9_000});
    let error = desk.err("edit_file", args);
    assert!(error.contains("is larger than"), "{error}");
    assert_eq!(std::fs::read(desk.base.path().join("ws/f")).unwrap(), vec![b'a'; 9_000]);
}

#[test]
fn a_search_ends_in_time_whatever_the_expression() {
    let mut desk = Desk::new();
    desk.grant.limits.wall_secs = 1;
    // Each line takes long, all of them take an hour.
    let line = "ab".repeat(4 << 10) + "\n";
    std::fs::write(desk.base.path().join("ws/f"), line.repeat(200)).unwrap();
    let began = tokio::time::Instant::now();
    let args = json!({"pattern": "(?:[ab]{1,90}a){1,30}[^a]{9}c"});
    let told = desk.call("search_files", args).unwrap();
    assert!(told.is_truncated && told.text.contains("time ran out"), "{told:?}");
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}
