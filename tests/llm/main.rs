//! The real client against a fake provider over real HTTP, in both wire formats.
#![cfg(test)]

mod breakers;
#[path = "../support/mod.rs"]
mod support;
mod talk;

use std::time::Duration;

use agent_runtime::{
    domain::{Author, Part, Secret, ToolStatus, limits},
    llm::{ErrorClass, LlmError, Options},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    support::fake_llm::{self, FakeLlm, Fault, Turn},
    talk::{BOTH, Talk, llm, model, options},
};

/// The class of a failed call.
fn class<T: std::fmt::Debug>(result: Result<T, LlmError>) -> ErrorClass {
    result.expect_err("a failure").class()
}

#[tokio::test]
async fn a_conversation_with_tools_goes_through_several_turns() {
    for wire in BOTH {
        let fake = FakeLlm::start();
        fake.script(
            "multi",
            [
                Turn::text("I look at two files.")
                    .and("read_file", &json!({"path": "a.txt"}))
                    .and("read_file", &json!({"path": "b \"é\".txt"})),
                Turn::call("list_files", &json!({})),
                Turn::text("Both files are fine."),
            ],
        );
        let mut talk = Talk::new(llm(options(&fake, wire)), "script:multi please");
        let (first, deltas) = talk.watch().await;
        let first = first.unwrap();
        assert_eq!(first.text, "I look at two files.");
        assert!(deltas.len() > 1, "{deltas:?}");
        assert_eq!(deltas.concat(), first.text);
        let args: Vec<Value> = first.calls.iter().map(|c| c.args.clone()).collect();
        assert_eq!(args, [json!({"path": "a.txt"}), json!({"path": "b \"é\".txt"})]);
        assert!(first.usage.reported && first.usage.input > 0 && first.usage.output > 0);

        let mut ids = talk.answer_calls(&first, ToolStatus::Ok);
        let second = talk.ask().await.unwrap();
        assert_eq!(second.calls[0].name, "list_files");
        ids.extend(talk.answer_calls(&second, ToolStatus::Error));
        talk.push(Author::User, vec![Part::Text { text: "and be quick".to_owned() }]);
        let third = talk.ask().await.unwrap();
        assert_eq!(third.text, "Both files are fine.");
        assert_eq!((third.calls.len(), third.model.as_str()), (0, "default"));

        let seen = fake.seen_of("multi");
        let turns: Vec<usize> = seen.iter().map(|s| s.turn).collect();
        assert_eq!(turns, [0, 1, 2]);
        let results = seen[2].results();
        let expected: Vec<(&str, String)> =
            ids.iter().map(String::as_str).zip((1..).map(|n| format!("result {n}"))).collect();
        assert!(results.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && a.1 == b.1));
        assert_eq!(results.len(), 3);
    }
}

#[tokio::test]
async fn failures_that_pass_are_retried() {
    let limit = Fault::Status(429, Some("0"), "rate_limit_error");
    let broken = Fault::Status(500, None, "api_error");
    for (name, faults) in [
        ("limit", vec![limit]),
        ("broken", vec![broken]),
        ("both", vec![broken, limit]),
        ("timeout", vec![Fault::Status(408, None, "timeout_error")]),
        ("cut", vec![Fault::CutStream(2)]),
        ("early", vec![Fault::EndEarly(2)]),
        ("malformed", vec![Fault::MalformedJson(2)]),
        ("error_frame", vec![Fault::ErrorFrame(2, "overloaded_error")]),
        ("stall", vec![Fault::Stall(2)]),
        ("hang", vec![Fault::Hang]),
    ] {
        for wire in BOTH {
            let fake = FakeLlm::start();
            fake.script(name, [Turn::text("It went well after all.").after(faults.clone())]);
            let talk = Talk::new(llm(options(&fake, wire)), &format!("script:{name}"));
            let done = talk.ask().await.unwrap();
            assert_eq!(done.text, "It went well after all.", "{name}");
            assert_eq!(fake.seen().len(), faults.len() + 1, "{name} {wire:?}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_up_to_a_bound() {
    for wire in BOTH {
        let fake = FakeLlm::start();
        let limit = |secs| Turn::text("ok").after([Fault::Status(429, Some(secs), "x")]);
        fake.script("short", [limit("1")]);
        fake.script("long", [limit("3600")]);
        let llm = llm(options(&fake, wire));
        let start = Instant::now();
        Talk::new(llm.clone(), "script:short").ask().await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(1));

        let start = Instant::now();
        let error = Talk::new(llm, "script:long").ask().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::RateLimit);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
        assert!(error.is_retryable() && start.elapsed() < Duration::from_secs(1));
        assert_eq!(fake.seen_of("long").len(), 1);
    }
}

#[tokio::test]
async fn failures_that_stay_are_named_and_not_retried() {
    for (status, kind, expected) in [
        (401, "authentication_error", ErrorClass::Auth),
        (402, "billing_error", ErrorClass::Billing),
        (429, "insufficient_quota", ErrorClass::Billing),
        (400, "context_length_exceeded", ErrorClass::ContextOverflow),
        (400, "invalid_request_error", ErrorClass::BadRequest),
        (307, "moved", ErrorClass::BadRequest),
    ] {
        for wire in BOTH {
            let fake = FakeLlm::start();
            fake.script("fail", [Turn::text("never").after([Fault::Status(status, None, kind)])]);
            let talk = Talk::new(llm(options(&fake, wire)), "script:fail");
            assert_eq!(class(talk.ask().await), expected, "{status} {kind}");
            assert_eq!(fake.seen().len(), 1, "{status} {kind}");
        }
    }
}

#[tokio::test]
async fn failures_that_do_not_pass_end_with_their_class() {
    for (fault, expected) in [
        (Fault::MalformedJson(1), ErrorClass::Format),
        (Fault::CutStream(3), ErrorClass::Format),
        (Fault::Status(503, None, "overloaded"), ErrorClass::Overloaded),
        (Fault::Stall(1), ErrorClass::Timeout),
    ] {
        for wire in BOTH {
            let fake = FakeLlm::start();
            fake.script("fail", [Turn::text("never").after([fault; 9])]);
            let talk = Talk::new(llm(options(&fake, wire)), "script:fail");
            assert_eq!(class(talk.ask().await), expected, "{fault:?}");
            assert_eq!(fake.seen().len(), 3, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn the_next_model_of_the_list_is_asked_when_one_fails() {
    for faults in [
        vec![Fault::Status(529, None, "overloaded_error"); 9],
        vec![Fault::MalformedJson(0); 9],
        vec![Fault::Status(401, None, "authentication_error")],
    ] {
        for wire in BOTH {
            let (bad, good) = (FakeLlm::start(), FakeLlm::start());
            bad.script("x", [Turn::text("never").after(faults.clone())]);
            good.script("x", [Turn::text("from the second")]);
            let mut options = options(&bad, wire);
            options.models.insert("second".to_owned(), model(&good, wire));
            options.models.get_mut("default").unwrap().fallbacks = vec!["second".to_owned()];
            let done = Talk::new(llm(options), "script:x").ask().await.unwrap();
            assert_eq!((done.text.as_str(), done.model.as_str()), ("from the second", "second"));
            assert!(!bad.seen().is_empty() && good.seen().len() == 1);
        }
    }
}

#[tokio::test]
async fn slow_bytes_are_waited_for_while_each_comes_in_time() {
    for wire in BOTH {
        let fake = FakeLlm::start();
        let slow = |millis| Turn::text("slowly").after([Fault::SlowBytes(millis); 3]);
        fake.script("within", [slow(Duration::from_millis(40))]);
        fake.script("beyond", [slow(Duration::from_secs(5))]);
        let llm = llm(options(&fake, wire));
        let done = Talk::new(llm.clone(), "script:within").ask().await.unwrap();
        assert_eq!(done.text, "slowly");
        let failed = Talk::new(llm, "script:beyond").ask().await;
        assert_eq!(class(failed), ErrorClass::Timeout);
        assert_eq!(fake.seen_of("beyond").len(), 3);
    }
}

#[tokio::test]
async fn an_attempt_has_an_end_even_when_bytes_keep_coming() {
    let fake = FakeLlm::start();
    fake.script(
        "x",
        [Turn::text("slowly").after([Fault::SlowBytes(Duration::from_millis(90)); 9])],
    );
    let total_timeout = Duration::from_millis(200);
    let talk = Talk::new(llm(Options { total_timeout, ..options(&fake, BOTH[0]) }), "script:x");
    assert_eq!(class(talk.ask().await), ErrorClass::Timeout);
}

#[tokio::test]
async fn a_cancelled_call_returns_at_once() {
    for wire in BOTH {
        let fake = FakeLlm::start();
        fake.script("mid", [Turn::text("a few words before silence").after([Fault::Stall(4)])]);
        fake.script("hang", [Turn::text("never").after([Fault::Hang])]);
        let patient = Options { timeout: Duration::from_secs(20), ..options(&fake, wire) };
        let llm = llm(patient);
        for script in ["mid", "hang"] {
            let stop = CancellationToken::new();
            let talk = Talk::new(llm.clone(), &format!("script:{script}"));
            let (sender, mut deltas) = tokio::sync::mpsc::channel(64);
            let call = llm.complete(talk.request(), Some(sender), None, stop.clone());
            let cancel = async {
                if script == "mid" {
                    deltas.recv().await.expect("the stream has begun");
                } else {
                    while fake.seen_of("hang").is_empty() {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
                stop.cancel();
                Instant::now()
            };
            let (failed, cancelled_at) = tokio::join!(call, cancel);
            assert_eq!(class(failed), ErrorClass::Cancelled);
            assert!(cancelled_at.elapsed() < Duration::from_millis(200));
        }
        // Before anything was sent, too.
        let (before, stop) = (fake.seen().len(), CancellationToken::new());
        stop.cancel();
        let talk = Talk::new(llm.clone(), "script:mid");
        assert_eq!(
            class(llm.complete(talk.request(), None, None, stop).await),
            ErrorClass::Cancelled
        );
        assert_eq!(fake.seen().len(), before);
    }
}

#[tokio::test]
async fn wrong_arguments_arrive_as_text_and_go_back_as_an_object() {
    for wire in BOTH {
        let fake = FakeLlm::start();
        let wrong = Turn::text("").and_raw("read_file", "{\"path\": ");
        fake.script("wrong", [wrong.and_raw("read_file", ""), Turn::text("sorry")]);
        let mut talk = Talk::new(llm(options(&fake, wire)), "script:wrong");
        let first = talk.ask().await.unwrap();
        let args: Vec<&Value> = first.calls.iter().map(|c| &c.args).collect();
        assert_eq!(args, [&json!("{\"path\": "), &json!({})]);
        talk.answer_calls(&first, ToolStatus::Error);
        assert_eq!(talk.ask().await.unwrap().text, "sorry");
    }
}

#[tokio::test]
async fn a_huge_answer_is_refused_and_not_asked_for_again() {
    for wire in BOTH {
        let fake = FakeLlm::start();
        let huge = Fault::Huge(limits::MODEL_ANSWER_BYTES_MAX);
        fake.script("huge", [Turn::text("and more").after([huge])]);
        let error = Talk::new(llm(options(&fake, wire)), "script:huge").ask().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Format);
        assert!(error.to_string().contains("too large"), "{error}");
        assert_eq!(fake.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_key_can_be_replaced_while_running_and_never_shows() {
    for wire in BOTH {
        let key = Some("sk-second".to_owned());
        let fake = FakeLlm::start_with(fake_llm::Options { key, ..Default::default() });
        fake.script("key", [Turn::text("welcome")]);
        let llm = llm(options(&fake, wire));
        let talk = Talk::new(llm.clone(), "script:key");
        let error = talk.ask().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Auth);
        assert!(!format!("{error} {error:?} {llm:?}").contains("sk-"));
        assert!(llm.set_key("default", Some(Secret::new("sk-second".to_owned()))));
        assert!(!llm.set_key("none", None));
        assert_eq!(talk.ask().await.unwrap().text, "welcome");
        let keys: Vec<_> = fake.seen().into_iter().filter_map(|s| s.key).collect();
        assert_eq!(keys, ["sk-test", "sk-second"]);
    }
}

#[tokio::test]
async fn tokens_are_estimated_when_the_provider_does_not_count() {
    for wire in BOTH {
        let hides = fake_llm::Options { hides_usage: true, ..Default::default() };
        let fake = FakeLlm::start_with(hides);
        fake.script("count", [Turn::text("twelve bytes")]);
        let llm = llm(options(&fake, wire));
        let talk = Talk::new(llm.clone(), "script:count");
        let usage = talk.ask().await.unwrap().usage;
        assert!(!usage.reported);
        assert_eq!(usage.input, llm.estimate_input_tokens(&talk.request()));
        assert_eq!(usage.output, 4);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_network_failure() {
    let fake = FakeLlm::start();
    let gone = options(&fake, BOTH[0]);
    drop(fake);
    let error = Talk::new(llm(gone), "x").ask().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn the_witness_file_tells_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let witness = dir.path().join("witness.jsonl");
    let recorded = fake_llm::Options { witness: Some(witness.clone()), ..Default::default() };
    let fake = FakeLlm::start_with(recorded);
    fake.script("w", [Turn::call("read_file", &json!({"path": "a"})), Turn::text("ok")]);
    let mut talk = Talk::new(llm(options(&fake, BOTH[1])), "script:w run 1");
    let first = talk.ask().await.unwrap();
    let ids = talk.answer_calls(&first, ToolStatus::Ok);
    talk.ask().await.unwrap();
    // Asked again, as after a crash: the same turn.
    assert_eq!(talk.ask().await.unwrap().text, "ok");
    let text = std::fs::read_to_string(&witness).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[2],
        json!({
            "script": "w", "conversation": "script:w run 1", "turn": 1, "attempt": 1,
            "calls": [{"id": ids[0], "name": "read_file", "args": {"path": "a"}}],
            "results": [{"id": ids[0], "text": "result 1"}],
        })
    );
}
