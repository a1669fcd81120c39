use proptest::prelude::*;

use super::*;

fn calls(text: &str) -> Vec<(&'static str, Value)> {
    script(text)
        .unwrap()
        .into_iter()
        .map(|step| match step.action {
            Action::Call { tool, args } => (tool, args),
            Action::Say(said) => ("say", Value::String(said)),
            Action::Help => ("help", Value::Null),
        })
        .collect()
}

#[test]
fn every_instruction_becomes_its_call() {
    for (text, tool, args) in [
        ("list", "list_files", json!({})),
        ("list the files in src", "list_files", json!({"path": "src"})),
        ("ls -r docs", "list_files", json!({"path": "docs", "recursive": true})),
        ("read notes.txt", "read_file", json!({"path": "notes.txt"})),
        ("Please read the file \"my notes.txt\"", "read_file", json!({"path": "my notes.txt"})),
        ("search TODO in src", "search_files", json!({"pattern": "TODO", "path": "src"})),
        ("search for \"a in b\"", "search_files", json!({"pattern": "a in b"})),
        (
            "edit a.txt: old => new",
            "edit_file",
            json!({"path": "a.txt", "old": "old", "new": "new"}),
        ),
        (
            "replace x with y in a.txt",
            "edit_file",
            json!({"path": "a.txt", "old": "x", "new": "y"}),
        ),
        ("run sh -c 'echo a | wc'", "exec", json!({"argv": ["sh", "-c", "echo a | wc"]})),
        (
            "shell ls | wc -l; if true; then list; fi",
            "shell",
            json!({"script": "ls | wc -l; if true; then list; fi"}),
        ),
        (
            "fetch https://example.com/",
            "http_request",
            json!({"method": "GET", "url": "https://example.com/"}),
        ),
        (
            "ask Which one? [red | green]",
            "ask_user",
            json!({"question": "Which one?", "options": ["red", "green"]}),
        ),
        ("ask Are you sure?", "ask_user", json!({"question": "Are you sure?"})),
        ("say hello there", "say", json!("hello there")),
        ("say first this then that", "say", json!("first this then that")),
        ("run echo \"a then b\"", "exec", json!({"argv": ["echo", "a then b"]})),
        ("hello", "help", Value::Null),
        ("", "help", Value::Null),
    ] {
        assert_eq!(calls(text), vec![(tool, args)], "{text}");
    }
}

#[test]
fn texts_are_written_in_every_form() {
    for (text, path, content, mode) in [
        ("write a.txt: one\\ntwo", "a.txt", "one\ntwo\n", "overwrite"),
        ("write a.txt: \"exact\"", "a.txt", "exact", "overwrite"),
        ("write \"the b.txt\": x", "the b.txt", "x\n", "overwrite"),
        ("create a.txt: x", "a.txt", "x\n", "create"),
        ("append a.txt: more: colons", "a.txt", "more: colons\n", "append"),
        ("add milk to list.txt", "list.txt", "milk\n", "append"),
        ("write a.txt <<END\none\n then read\nEND", "a.txt", "one\n then read\n", "overwrite"),
        ("write a.txt:\n```text\none\n```", "a.txt", "one\n", "overwrite"),
        ("write a.txt:", "a.txt", "", "overwrite"),
    ] {
        let args = json!({"path": path, "content": content, "mode": mode});
        assert_eq!(calls(text), vec![("write_file", args)], "{text}");
    }
}

#[test]
fn lines_markers_and_then_make_a_script() {
    let text = "1. list\n\n# a comment\n- read a, then read b\n* finally, say \"a then read b\"";
    let tools: Vec<&str> = calls(text).into_iter().map(|c| c.0).collect();
    assert_eq!(tools, ["list_files", "read_file", "read_file", "say"]);
}

#[test]
fn a_block_belongs_to_its_line_and_the_script_goes_on_behind_it() {
    let text = "shell <<EOF\nset -x\nls then read x\nEOF\nlist";
    assert_eq!(
        calls(text),
        vec![("shell", json!({"script": "set -x\nls then read x\n"})), ("list_files", json!({}))]
    );
}

#[test]
fn what_is_not_understood_is_named_with_a_reason() {
    for (text, word) in [
        ("list\nmake me a sandwich", "no instruction"),
        ("read a then make tea", "no instruction"),
        ("read", "read PATH"),
        ("run a | b", "shell SCRIPT"),
        ("run 'a", "quote"),
        ("write a.txt", "write PATH: TEXT"),
        ("write a.txt <<END\nx", "no end"),
        ("edit a.txt", "OLD => NEW"),
        ("say", "say TEXT"),
        ("ask", "ask QUESTION"),
        ("fetch", "fetch URL"),
        ("search", "PATTERN"),
        ("shell", "shell SCRIPT"),
    ] {
        let trouble = script(text).unwrap_err();
        assert!(trouble.why.contains(word), "{text}: {}", trouble.why);
    }
}

proptest! {
    #[test]
    fn no_text_panics(
        verb in "(list|read|write|append|edit|search|run|shell|fetch|ask|say|help|) ?",
        rest in "[ -~é\n\"':<>=\\[\\]|]{0,80}",
    ) {
        let text = verb + &rest;
        if let Ok(steps) = script(&text) {
            prop_assert!(!steps.is_empty());
        }
    }
}
