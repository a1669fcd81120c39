use std::{collections::BTreeSet, fs, path::Path};

use serde_json::json;

use super::*;

#[test]
fn a_problem_is_written_as_the_contract_says() {
    let problem = Problem::invalid("/limits/timeout_secs", "expected a number");
    assert_eq!(
        serde_json::to_value(problem.written("req-1")).unwrap(),
        json!({
            "type": "urn:agent-runtime:problem:request.invalid",
            "title": "A field is not valid",
            "status": 422,
            "detail": "expected a number",
            "code": "request.invalid",
            "request_id": "req-1",
            "errors": [{"pointer": "/limits/timeout_secs", "detail": "expected a number"}],
        })
    );
    let full = Problem::new(&code::QUEUE_FULL, "full").retry_after(Duration::from_millis(1_200));
    let written = serde_json::to_value(full.written("r")).unwrap();
    assert_eq!((written.get("retry_after"), written.get("errors")), (Some(&json!(2)), None));
}

#[test]
fn headers_say_when_to_come_back_and_how_to_sign_in() {
    let response = Problem::new(&code::LOCKED, "x").retry_after(Duration::ZERO).into_response();
    assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "1");
    let response = Problem::new(&code::UNAUTHENTICATED, "x").into_response();
    assert_eq!(response.headers().get(header::WWW_AUTHENTICATE).unwrap(), "Bearer");
    let content_type = response.headers().get(header::CONTENT_TYPE).unwrap();
    assert_eq!(content_type, "application/problem+json");
}

#[test]
fn a_long_detail_is_cut() {
    let problem = Problem::invalid("/x", "y".repeat(1 << 20));
    assert_eq!(problem.detail.len(), DETAIL_CHARS_MAX);
    assert_eq!(problem.errors.first().unwrap().detail.len(), DETAIL_CHARS_MAX);
}

/// Codes that sources give as text, such as `code: "run.stale"` or `conflict("run.stale", …)`.
fn codes_in(dir: &Path, found: &mut BTreeSet<String>) {
    let pattern = r#"(?:code: |conflict\(\s*|failed\(\s*|not_in_state\(\w+, )"([a-z_]+\.[a-z_]+)""#;
    let pattern = regex::Regex::new(pattern).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(pattern.captures_iter(&text).map(|c| c[1].to_owned()));
        }
    }
}

#[test]
fn every_code_is_explained_in_docs_errors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut codes: BTreeSet<String> = code::ALL.iter().map(|c| c.name.to_owned()).collect();
    for dir in ["src/http", "src/orchestrator"] {
        codes_in(&root.join(dir), &mut codes);
    }
    let page = fs::read_to_string(root.join("docs/errors/README.md")).unwrap();
    let missing: Vec<_> =
        codes.iter().filter(|code| !page.contains(&format!("<a id=\"{code}\"></a>"))).collect();
    assert!(codes.len() >= code::ALL.len() && missing.is_empty(), "not explained: {missing:?}");
}

#[test]
fn codes_are_named_once() {
    let names: BTreeSet<_> = code::ALL.iter().map(|c| c.name).collect();
    assert_eq!(names.len(), code::ALL.len());
}
