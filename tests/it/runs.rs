//! Runs from end to end: what is stored, streamed, listed, limited and charged.

use std::{collections::BTreeSet, time::Duration};

use agent_runtime::domain::{Event, RunState, event::fold};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{approval_of, event, kinds, provider, sh, until_heard, verb},
    support::{
        checker::Truth,
        daemon::{ADMIN, ALICE, Answer, Daemon},
        fake_llm::{FakeLlm, Options, Turn},
        live::Sse,
    },
};

async fn create(daemon: &Daemon, query: &str, key: Option<&str>, body: &Value) -> Answer {
    let url = format!("{}/api/v1/runs{query}", daemon.base());
    let mut request = daemon.http().post(url).bearer_auth(ADMIN).json(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    Daemon::answer(request).await.expect("an answer")
}

#[tokio::test]
async fn a_run_calls_tools_and_answers_and_its_events_tell_all_of_it() {
    let fake = provider();
    let write = json!({"path": "note.txt", "content": "hello", "mode": "create"});
    fake.script(
        "whole",
        [
            Turn::call("write_file", &write)
                .and("exec", &sh("cat note.txt; echo seen >&2; exit 3")),
            Turn::call("read_file", &json!({"path": "note.txt"})),
            Turn::text("It says hello."),
        ],
    );
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let body = json!({"agent": "open", "input": "script:whole please", "metadata": {"k": "v"}});
    let answer = create(&daemon, "", None, &body).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let created = answer.expect(202);
    let id = created["id"].as_str().unwrap();
    assert_eq!(location, format!("/api/v1/runs/{id}"));
    assert!(
        id.starts_with("run_") && created["conversation_id"].as_str().unwrap().starts_with("conv_")
    );
    let run = daemon.wait_for(id, &["succeeded", "failed"]).await;
    assert_eq!(run["output"], "It says hello.");
    assert_eq!(run["state"], "succeeded");
    assert_eq!(run["metadata"], json!({"k": "v"}));
    assert_eq!(run["error"], Value::Null);
    assert_eq!(run["confinement"].as_str().map(|c| c.starts_with("full")), Some(true));
    assert_eq!((&run["usage"]["llm_calls"], &run["usage"]["tool_calls"]), (&json!(3), &json!(3)));
    for time in ["created_at", "started_at", "ended_at"] {
        let text = run[time].as_str().unwrap();
        assert!(text.ends_with('Z') && text.len() == "2026-01-01T00:00:00.000Z".len(), "{text}");
    }
    let events = daemon.events(id).await;
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "run.created",
            "run.started",
            "message.completed",
            "tool.requested",
            "tool.requested",
            "tool.started",
            "tool.completed",
            "tool.started",
            "tool.completed",
            "message.completed",
            "tool.requested",
            "tool.started",
            "tool.completed",
            "message.completed",
            "bundle.committed",
            "run.succeeded",
        ]
    );
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], json!(n + 1));
        assert_eq!((&event["run_id"], &event["epoch"].is_u64()), (&json!(id), &true));
    }
    let typed: Vec<Event> =
        events.iter().map(|e| serde_json::from_value(e.clone()).expect("an event")).collect();
    assert_eq!(fold(&typed), Ok(RunState::Succeeded));
    let exec = &events[8]["data"];
    assert_eq!((&exec["status"], &exec["exit_code"]), (&json!("error"), &json!(3)));
    let output = exec["output"].as_str().unwrap();
    assert!(output.contains("hello") && output.contains("seen"), "{output}");
    // The model saw exactly that.
    let seen = fake.seen_of("whole");
    assert!(seen[1].results()[1].1.contains("hello"), "{:?}", seen[1].results());
    assert!(seen[2].results()[2].1.contains("hello"));
    let path =
        format!("/api/v1/conversations/{}/messages", run["conversation_id"].as_str().unwrap());
    let messages = daemon.get(&path).await.expect(200)["items"].clone();
    let roles: Vec<_> = messages.as_array().unwrap().iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "tool", "assistant"]);
    let dir = daemon.data_dir();
    assert_eq!(daemon.stop().await, Some(0));
    let truth = Truth::read(&dir).await;
    truth.check_events();
    truth.check_audit();
}

#[tokio::test]
async fn an_etag_spares_a_second_reading_until_something_changes() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:ask etag").await;
    daemon.wait_for(&id, &["paused"]).await;
    let read = async |tag: Option<&str>| {
        let url = format!("{}/api/v1/runs/{id}", daemon.base());
        let mut request = daemon.http().get(url).bearer_auth(ADMIN);
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        Daemon::answer(request).await.expect("an answer")
    };
    let first = read(None).await;
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    let run = first.expect(200);
    assert_eq!(tag, format!("\"{}.{}\"", run["epoch"], run["seq"]));
    let again = read(Some(&tag)).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    assert_eq!(read(Some(&format!("\"x\", W/{tag}"))).await.status.as_u16(), 304);
    assert_eq!(verb(&daemon, &id, "resume", &json!({"input": "red"})).await.0, 202);
    assert_eq!(read(Some(&tag)).await.status.as_u16(), 200);
}

#[tokio::test]
async fn wait_answers_as_soon_as_the_run_settles() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let ask = async |agent: &str, input: &str, query: &str| {
        create(&daemon, query, None, &json!({"agent": agent, "input": input})).await
    };
    let done = ask("open", "script:say wait", "?wait=30").await.expect(200);
    assert_eq!((&done["state"], &done["output"]), (&json!("succeeded"), &json!("All is well.")));
    let asks = ask("careful", "script:exec wait", "?wait=30").await.expect(200);
    assert_eq!(asks["state"], "awaiting_approval");
    let paused = ask("open", "script:ask wait", "?wait=30").await.expect(200);
    assert_eq!((&paused["state"], &paused["wait_reason"]), (&json!("paused"), &json!("input")));
    let started = Instant::now();
    let busy = ask("open", "script:stuck wait", "?wait=1").await.expect(202);
    assert_eq!(busy["state"], "running");
    assert!(started.elapsed() >= Duration::from_secs(1));
    let refused = ask("open", "script:say wait", "?wait=61").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "request.invalid".to_owned()));
}

#[tokio::test]
async fn a_post_that_accepts_a_stream_gets_the_new_runs_events() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let request = daemon
        .http()
        .post(format!("{}/api/v1/runs", daemon.base()))
        .bearer_auth(ADMIN)
        .header("accept", "text/event-stream")
        .json(&json!({"agent": "open", "input": "script:exec stream"}));
    let mut stream = Sse::of(request).await;
    let location = stream.response().headers()["location"].to_str().unwrap().to_owned();
    let mut durable = Vec::new();
    while let Some(event) = stream.next().await {
        if event.id.is_some() {
            assert_eq!(event.data["type"], json!(event.kind));
            durable.push(event.data);
        } else {
            assert!(event.data["after_seq"].is_u64(), "{event:?}");
        }
    }
    let id = location.rsplit('/').next().unwrap();
    assert_eq!(durable, daemon.events(id).await, "every event once, then the end");
    // Whoever knows all of an ended run is told not to come back.
    let request = daemon
        .http()
        .get(format!("{}/api/v1/runs/{id}/events?after={}", daemon.base(), durable.len()))
        .bearer_auth(ADMIN)
        .header("accept", "text/event-stream");
    assert_eq!(Daemon::answer(request).await.expect("an answer").status.as_u16(), 204);
}

#[tokio::test]
async fn lists_filter_and_page_without_gap_or_repeat() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let mut expected = Vec::new();
    for n in 0..7 {
        let id = daemon.submit("open", &format!("script:say list {n}")).await;
        daemon.wait_for(&id, &["succeeded"]).await;
        expected.push(id);
    }
    let failed = daemon.submit("reader", "script:loop list").await;
    let reader = daemon.wait_for(&failed, &["failed"]).await;
    expected.push(failed.clone());
    expected.reverse();
    let items = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|r| r["id"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut found = Vec::new();
    let mut path = "/api/v1/runs?limit=3".to_owned();
    loop {
        let page = daemon.get(&path).await.expect(200);
        assert!(items(&page).len() <= 3);
        found.extend(items(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/runs?limit=3&cursor={cursor}");
    }
    assert_eq!(found, expected, "newest first, each once");
    let only =
        async |query: &str| items(&daemon.get(&format!("/api/v1/runs?{query}")).await.expect(200));
    assert_eq!(only("state=failed").await, [failed.as_str()]);
    assert_eq!(only("agent=reader").await, [failed.as_str()]);
    assert_eq!(only("agent=nobody").await, [""; 0]);
    assert_eq!(only("state=succeeded&agent=reader").await, [""; 0]);
    let conversation = reader["conversation_id"].as_str().unwrap();
    assert_eq!(only(&format!("conversation_id={conversation}")).await, [failed.as_str()]);
    for bad in ["state=odd", "limit=x", "limit=-1", "unknown=1", "conversation_id=x"] {
        let answer = daemon.get(&format!("/api/v1/runs?{bad}")).await;
        assert_eq!(answer.status.as_u16(), 422, "{bad}: {}", answer.text);
        let name = bad.split('=').next().unwrap();
        assert_eq!(answer.json()["errors"][0]["pointer"], format!("/{name}"), "{bad}");
    }
    let page =
        daemon.get(&format!("/api/v1/runs/{failed}/events?after=2&limit=3")).await.expect(200);
    let seqs: Vec<_> = page["items"].as_array().unwrap().iter().map(|e| e["seq"].clone()).collect();
    assert_eq!((seqs, &page["next_after"]), (vec![json!(3), json!(4), json!(5)], &json!(5)));
}

#[tokio::test]
async fn one_idempotency_key_is_one_run() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let body = json!({"agent": "open", "input": "script:say key"});
    let first = create(&daemon, "", Some("k1"), &body).await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let first = first.expect(202);
    let again = create(&daemon, "", Some("k1"), &body).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(202), first, "the stored answer");
    let other = create(&daemon, "", Some("k1"), &json!({"agent": "open", "input": "else"})).await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "idempotency.mismatch".to_owned()));
    // Another principal's key is another key.
    let request = daemon
        .http()
        .post(format!("{}/api/v1/runs", daemon.base()))
        .bearer_auth(ALICE)
        .header("idempotency-key", "k1")
        .json(&body);
    let alices = Daemon::answer(request).await.expect("an answer").expect(202);
    assert_ne!(alices["id"], first["id"]);
    let same: Vec<_> = (0..20).map(|_| create(&daemon, "", Some("k2"), &body)).collect();
    let answers = futures_util::future::join_all(same).await;
    let mut ids = BTreeSet::new();
    let mut fresh = 0;
    for answer in answers {
        fresh += usize::from(!answer.headers.contains_key("idempotency-replayed"));
        ids.insert(answer.expect(202)["id"].as_str().unwrap().to_owned());
    }
    assert_eq!((ids.len(), fresh), (1, 1));
    let all = daemon.get("/api/v1/runs?limit=500").await.expect(200);
    assert_eq!(all["items"].as_array().map(Vec::len), Some(3));
    for bad in ["", "with space", &"k".repeat(201)] {
        let answer = create(&daemon, "", Some(bad), &body).await;
        assert_eq!(answer.code(), "idempotency.key_invalid", "{bad:?}");
    }
}

#[tokio::test]
async fn limits_end_a_run_and_say_which() {
    let fake = provider();
    fake.script("nap", [Turn::call("exec", &sh("sleep 40")), Turn::text("done")]);
    let daemon = Daemon::start(&fake.openai_url()).await;
    for (limits, script, code) in [
        (json!({"max_steps": 2}), "loop", "run.max_steps"),
        (json!({"max_tool_calls": 1}), "loop", "run.max_tool_calls"),
        (json!({"timeout_secs": 1}), "nap", "run.timeout"),
    ] {
        let input = format!("script:{script} {code}");
        let body = json!({"agent": "open", "input": input, "limits": limits});
        let run = create(&daemon, "?wait=30", None, &body).await.expect(200);
        assert_eq!((&run["state"], &run["error"]["code"]), (&json!("failed"), &json!(code)));
        let id = run["id"].as_str().unwrap();
        assert_eq!(kinds(&daemon, id).await.last().map(String::as_str), Some("run.failed"));
    }
    // A caller lowers limits and never raises them.
    let body =
        json!({"agent": "short", "input": "script:say raise", "limits": {"max_tokens": 90_000}});
    let run = create(&daemon, "?wait=30", None, &body).await.expect(200);
    assert_eq!(run["wait_reason"], "budget");
}

#[tokio::test]
async fn a_used_up_budget_waits_for_a_person() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let input = format!("script:say budget {}", "word ".repeat(60));
    for (decision, state) in [("approve", "succeeded"), ("deny", "failed")] {
        let id = daemon.submit("short", &format!("{input} {decision}")).await;
        let run = daemon.wait_for(&id, &["paused"]).await;
        assert_eq!(run["wait_reason"], "budget");
        assert_eq!(run["usage"]["llm_calls"], 0, "nothing was spent past the limit");
        let refused = event(&daemon, &id, "budget.refused").await;
        assert_eq!(refused["data"]["limit"], "max_tokens");
        let approval = approval_of(&daemon, &id).await;
        assert_eq!(approval["kind"], "budget");
        let raised = approval["args"]["max_tokens"].as_u64().unwrap();
        assert!(raised >= 200, "{approval}");
        assert_eq!(verb(&daemon, &id, "resume", &json!({})).await.1, "run.awaiting_decision");
        daemon.decide(&approval, &json!({"decision": decision})).await.expect(200);
        let run = daemon.wait_for(&id, &["succeeded", "failed"]).await;
        assert_eq!(run["state"], state, "{run}");
        let spent = run["usage"]["input_tokens"].as_u64().unwrap()
            + run["usage"]["output_tokens"].as_u64().unwrap();
        assert!(spent <= raised);
        if decision == "deny" {
            assert_eq!((&run["error"]["code"], spent), (&json!("budget.denied"), 0));
        }
    }
}

#[tokio::test]
async fn usage_is_what_the_provider_reports_and_never_nothing() {
    let fake = provider();
    let url = fake.openai_url();
    let more = format!(
        "[models.priced]\nprovider = \"openai\"\nbase_url = \"{url}\"\nmodel = \"fake\"\n\
         api_key = \"sk-priced-key-0123456789\"\n\
         input_price_per_mtok = \"2\"\noutput_price_per_mtok = \"10\"\n\
         [agents.priced]\nmodel = \"priced\"\ntools = [\"exec\"]\nallowed_commands = [\"*\"]\n"
    );
    let mut daemon = Daemon::prepare_with(&url, &more);
    daemon.run().await;
    let id = daemon.submit("priced", "script:exec usage").await;
    let run = daemon.wait_for(&id, &["succeeded"]).await;
    let asked = fake.seen_of("exec");
    let input: usize = asked.iter().map(|s| s.body.to_string().len() / 4).sum();
    assert_eq!(run["usage"]["input_tokens"], json!(input));
    // Turn 0 says nothing (1), turn 1 says "done" (2).
    assert_eq!(run["usage"]["output_tokens"], json!(3));
    assert_eq!(run["usage"]["llm_calls"], 2);
    let cost: f64 = run["usage"]["cost_usd"].as_str().unwrap().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand tokens")]
    let expected = (input as f64 * 2.0 + 3.0 * 10.0) / 1_000_000.0;
    assert!((cost - expected).abs() < 0.000_01, "{cost} {expected}");
    // A provider that counts nothing is estimated, not free.
    let silent = FakeLlm::start_with(Options { hides_usage: true, ..Options::default() });
    silent.script("say", [Turn::text("All is well.")]);
    let other = Daemon::start(&silent.openai_url()).await;
    let id = other.submit("open", "script:say usage").await;
    let run = other.wait_for(&id, &["succeeded"]).await;
    assert!(run["usage"]["input_tokens"].as_u64().unwrap() > 0, "{run}");
    assert!(run["usage"]["output_tokens"].as_u64().unwrap() > 0, "{run}");
}

#[tokio::test]
async fn an_unknown_agent_is_refused_by_name_of_the_field() {
    let daemon = Daemon::start("").await;
    let answer = create(&daemon, "", None, &json!({"agent": "nobody", "input": "x"})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "agent.unknown".to_owned()));
    assert_eq!(answer.json()["errors"][0]["pointer"], "/agent");
    let all = daemon.get("/api/v1/runs").await.expect(200);
    assert_eq!(all["items"], json!([]));
}

#[tokio::test]
async fn a_busy_conversation_does_as_the_new_message_says() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let busy = async |name: &str| {
        let input = format!("script:hang {name}");
        let id = daemon.submit("open", &input).await;
        until_heard(&fake, &input).await;
        daemon.wait_for(&id, &["running"]).await
    };
    let next = async |first: &Value, on_busy: &str| {
        let body = json!({"agent": "open", "input": format!("script:say {on_busy}"),
            "conversation_id": first["conversation_id"], "on_busy": on_busy});
        create(&daemon, "", None, &body).await
    };
    // enqueue: waits its turn, then goes on in the same thread.
    let first = busy("enqueue").await;
    let second = next(&first, "enqueue").await.expect(202);
    assert_eq!(second["state"], "queued");
    let (one, two) = (first["id"].as_str().unwrap(), second["id"].as_str().unwrap());
    assert_eq!(daemon.run_of(two).await["state"], "queued");
    assert_eq!(verb(&daemon, one, "cancel", &json!({})).await.0, 202);
    daemon.wait_for(two, &["succeeded"]).await;
    daemon.wait_for(one, &["cancelled"]).await;
    // reject
    let first = busy("reject").await;
    let refused = next(&first, "reject").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "conversation.busy".to_owned()));
    verb(&daemon, first["id"].as_str().unwrap(), "cancel", &json!({})).await;
    // interrupt: the active run pauses and gives way; resumed, it goes on in the same thread, with
    // what was said there meanwhile (so the provider plays the newer script).
    let first = busy("interrupt").await;
    let one = first["id"].as_str().unwrap();
    let second = next(&first, "interrupt").await.expect(202);
    daemon.wait_for(second["id"].as_str().unwrap(), &["succeeded"]).await;
    let paused = daemon.run_of(one).await;
    assert_eq!(
        (&paused["state"], &paused["wait_reason"]),
        (&json!("paused"), &json!("interrupted"))
    );
    assert_eq!(verb(&daemon, one, "resume", &json!({})).await.0, 202);
    daemon.wait_for(one, &["succeeded"]).await;
    // One that was interrupted before gives way at once, and ends without taking a place along.
    let first = busy("interrupted before").await;
    let one = first["id"].as_str().unwrap();
    assert_eq!(verb(&daemon, one, "interrupt", &json!({})).await.0, 202);
    daemon.wait_for(one, &["paused"]).await;
    let third = next(&first, "interrupt").await.expect(202);
    daemon.wait_for(third["id"].as_str().unwrap(), &["succeeded"]).await;
    assert_eq!(verb(&daemon, one, "cancel", &json!({})).await.0, 202);
    let fourth = next(&first, "reject").await.expect(202);
    daemon.wait_for(fourth["id"].as_str().unwrap(), &["succeeded"]).await;
    // steer: no new run; the message reaches the active one.
    let first = busy("steer").await;
    let answer = next(&first, "steer").await.expect(202);
    assert_eq!(answer["id"], first["id"]);
    let id = first["id"].as_str().unwrap();
    event(&daemon, id, "run.steer_accepted").await;
    verb(&daemon, id, "cancel", &json!({})).await;
    let failed = event(&daemon, id, "run.steer_failed").await;
    assert!(failed["data"]["started_run_id"].is_string(), "{failed}");
    let all = daemon.call(Method::GET, "/api/v1/runs", ALICE, None).await.expect("an answer");
    assert_eq!(all.expect(200)["items"], json!([]));
}
