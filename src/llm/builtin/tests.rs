use serde_json::json;

use super::*;
use crate::{
    domain::ToolStatus,
    llm::testing::{assistant, tool, user},
};

fn tools() -> Vec<ToolSchema> {
    [
        "exec",
        "shell",
        "read_file",
        "write_file",
        "edit_file",
        "list_files",
        "search_files",
        "ask_user",
    ]
    .map(|name| ToolSchema {
        name: name.to_owned(),
        description: String::new(),
        parameters: json!({}),
    })
    .to_vec()
}

/// Plays a script: every call gets the next of `results`; returns the calls and the last text.
fn play(
    mut messages: Vec<Arc<Message>>,
    results: &[(ToolStatus, &str)],
) -> (Vec<(String, Value)>, String) {
    let mut calls = Vec::new();
    for (n, (status, text)) in (1..).zip(results) {
        let reply = reply(&messages, &tools());
        let (name, args) = reply.call.expect("another call");
        messages.push(assistant(&reply.text, &[(n, &name, args.clone())]));
        messages.push(tool(&[(n, *status, text)]));
        calls.push((name, args));
    }
    let last = reply(&messages, &tools());
    assert_eq!(last, reply(&messages, &tools()), "the reply is a pure function");
    assert_eq!(last.call, None, "the script is over");
    (calls, last.text)
}

#[test]
fn a_script_is_followed_step_by_step_and_summed_up() {
    let script = "write a.txt: hello then read a.txt\nread /etc/shadow\nsay bye";
    let results = [
        (ToolStatus::Ok, "written"),
        (ToolStatus::Ok, "hello\n"),
        (ToolStatus::Error, "denied: outside the workspace"),
    ];
    let (calls, text) = play(vec![user(script)], &results);
    let names: Vec<&str> = calls.iter().map(|c| c.0.as_str()).collect();
    assert_eq!(names, ["write_file", "read_file", "read_file"]);
    assert_eq!(calls[0].1, json!({"path": "a.txt", "content": "hello\n", "mode": "overwrite"}));
    assert!(text.starts_with("Done: 3 of 4 steps succeeded, 1 did not.\n"), "{text}");
    assert!(text.contains("2. read a.txt — ok\n   | hello\n"), "{text}");
    assert!(text.contains("   | denied: outside the workspace\n"), "{text}");
    assert!(text.contains("4. bye\n"), "{text}");
    assert!(text.contains("not a language model"), "{text}");
}

#[test]
fn the_first_call_says_who_speaks() {
    let reply = reply(&[user("list then read x")], &tools());
    assert!(reply.text.contains("not a language model"));
    assert!(reply.text.ends_with("Step 1 of 2: list the workspace"), "{}", reply.text);
    assert_eq!(reply.call, Some(("list_files".to_owned(), json!({}))));
}

#[test]
fn a_new_message_replaces_the_rest_of_the_script() {
    let mut messages = vec![
        user("read a then read b then read c"),
        assistant("", &[(101, "read_file", json!({"path": "a"}))]),
        tool(&[(101, ToolStatus::Ok, "A")]),
        user("list src"),
    ];
    let next = reply(&messages, &tools());
    assert_eq!(next.call, Some(("list_files".to_owned(), json!({"path": "src"}))));
    messages.push(assistant("", &[(102, "list_files", json!({"path": "src"}))]));
    messages.push(tool(&[(102, ToolStatus::Ok, "lib.rs")]));
    let last = reply(&messages, &tools());
    assert_eq!(last.call, None);
    assert!(last.text.starts_with("Your new message replaced the rest"), "{}", last.text);
    assert!(last.text.contains("lib.rs") && !last.text.contains("read a"), "{}", last.text);
}

#[test]
fn a_word_to_go_on_continues_the_script() {
    let mut messages = vec![
        user("read a then read b"),
        assistant("", &[(1, "read_file", json!({"path": "a"}))]),
        tool(&[(1, ToolStatus::Ok, "A")]),
        user("Continue."),
    ];
    let next = reply(&messages, &tools());
    assert_eq!(next.call, Some(("read_file".to_owned(), json!({"path": "b"}))));
    messages.truncate(1);
    messages.remove(0);
    messages.push(user("go on"));
    assert!(reply(&messages, &tools()).text.contains("one per line"));
}

#[test]
fn an_answer_to_a_question_is_not_taken_for_instructions() {
    let messages = vec![
        user("ask Which colour? then say thanks"),
        assistant("", &[(1, "ask_user", json!({"question": "Which colour?"}))]),
        tool(&[(1, ToolStatus::Ok, "the person was asked")]),
        user("blue"),
    ];
    let last = reply(&messages, &tools());
    assert!(last.text.contains("1. ask Which colour? — answered\n   | blue\n"), "{}", last.text);
    assert!(last.text.contains("2. thanks"), "{}", last.text);
}

#[test]
fn a_tool_that_the_agent_lacks_is_said_to_be_lacking() {
    let (calls, text) = play(vec![user("fetch http://x/ then list")], &[(ToolStatus::Ok, "")]);
    assert_eq!(calls.len(), 1);
    assert!(text.contains("1. fetch http://x/ — not possible"), "{text}");
    let mut tools = tools();
    tools.push(ToolSchema { name: "http_request".into(), ..tools[0].clone() });
    let next = reply(&[user("fetch http://x/")], &tools);
    assert_eq!(
        next.call,
        Some(("http_request".to_owned(), json!({"method": "GET", "url": "http://x/"})))
    );
}

#[test]
fn what_is_not_understood_runs_nothing_and_explains() {
    let reply = reply(&[user("list\nwhat is love?")], &tools());
    assert_eq!(reply.call, None);
    for word in ["not a language model", "what is love?", "Nothing was done", "write PATH: TEXT"] {
        assert!(reply.text.contains(word), "{word}: {}", reply.text);
    }
}

#[test]
fn a_single_step_quotes_its_output_at_length_and_a_long_output_is_cut() {
    let long = "line\n".repeat(300);
    let (_, text) = play(vec![user("read a")], &[(ToolStatus::Ok, &long)]);
    assert!(text.starts_with("read a — ok\n   | line\n"), "{text}");
    assert!(text.contains("   | … and 100 more lines\n"), "{text}");
    let wide = "é".repeat(10_000);
    let (_, text) = play(vec![user("read a")], &[(ToolStatus::Ok, &wide)]);
    assert!(text.len() < 9_000 && text.contains('…'));
}

#[test]
fn earlier_runs_of_the_conversation_do_not_count() {
    let messages = vec![
        user("read a"),
        assistant("", &[(101, "read_file", json!({"path": "a"}))]),
        tool(&[(101, ToolStatus::Ok, "A")]),
        assistant("read a — ok", &[]),
        user("read b"),
    ];
    let next = reply(&messages, &tools());
    assert_eq!(next.call, Some(("read_file".to_owned(), json!({"path": "b"}))));
}
