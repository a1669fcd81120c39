//! Live surfaces: server-sent events and WebSocket, through restarts, for slow and for rude
//! clients.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{SOON, approval_of, event, provider, sh, until_asked, verb, workspace_text},
    support::{
        daemon::{ADMIN, Daemon},
        fake_llm::{FakeLlm, Fault, Turn},
        live::{Heard, Sse, Ws, is_terminal},
    },
};

/// A run of many short steps, slow enough to be cut anywhere.
fn drip(fake: &FakeLlm) {
    let slow = Fault::SlowBytes(Duration::from_millis(6));
    let look = Turn::call("list_files", &json!({})).after([slow; 8]);
    let turns = vec![look; 10].into_iter().chain([Turn::text("done").after([slow; 8])]);
    fake.script("drip", turns.collect::<Vec<_>>());
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|e| e["seq"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn an_event_stream_goes_on_through_kills_without_gap_or_repeat() {
    let fake = provider();
    drip(&fake);
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:drip sse").await;
    let mut heard: Vec<Value> = Vec::new();
    let mut kills = 0;
    loop {
        let last = heard.last().map_or(0, |e| e["seq"].as_u64().unwrap());
        let mut stream = Sse::open(&daemon, ADMIN, &id, last).await;
        // Some event after this one is the last before the kill.
        let until = heard.len() + 7;
        while let Some(event) = stream.next().await {
            if let Some(seq) = event.id {
                assert_eq!(event.data["seq"], json!(seq));
                heard.push(event.data);
                if kills < 3 && heard.len() >= until {
                    break;
                }
            }
        }
        if heard.last().is_some_and(|e| is_terminal(e["type"].as_str().unwrap())) {
            break;
        }
        kills += 1;
        assert!(kills <= 3, "the stream ends early");
        daemon.kill();
        daemon.run().await;
    }
    assert_eq!(kills, 3);
    assert_eq!(heard, daemon.events(&id).await);
    assert_eq!(seqs(&heard), (1..=heard.len() as u64).collect::<Vec<_>>());
    assert_eq!(daemon.run_of(&id).await["state"], "succeeded");
}

#[tokio::test]
async fn a_websocket_goes_on_through_kills_without_gap_or_repeat() {
    let fake = provider();
    drip(&fake);
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:drip ws").await;
    let mut heard: Vec<Value> = Vec::new();
    for round in 0..4 {
        let mut ws = Ws::open(&daemon, ADMIN).await;
        let last = heard.last().map_or(0, |e| e["seq"].as_u64().unwrap());
        let reply = ws.ask(json!({"type": "subscribe", "run_id": id, "after": last})).await;
        assert_eq!(reply["ok"], true, "{reply}");
        if round == 3 {
            heard.extend(ws.events().await);
            break;
        }
        let until = heard.len() + 7;
        while heard.len() < until {
            let frame = ws.next_event().await.expect("an open connection");
            if frame.get("seq").is_some() {
                heard.push(frame);
            }
        }
        daemon.kill();
        assert_eq!(ws.closed().await, None, "no goodbye from the dead");
        daemon.run().await;
    }
    let stored = daemon.events(&id).await;
    assert_eq!(seqs(&heard), seqs(&stored));
    for (heard, stored) in heard.iter().zip(&stored) {
        assert_eq!((&heard["event"], &heard["data"]), (&stored["type"], &stored["data"]));
    }
}

#[tokio::test]
async fn live_pieces_carry_no_number_and_add_up_to_the_answer() {
    let fake = provider();
    let text = "A long answer that comes in many small pieces, one after the other.";
    fake.script(
        "pieces",
        [
            Turn::call("ask_user", &json!({"question": "Ready?"})),
            Turn::call("exec", &sh("echo from-the-tool; sleep 0.1; echo more")),
            Turn::text(text).after([Fault::SlowBytes(Duration::from_millis(3))]),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let id = daemon.submit("open", "script:pieces").await;
    daemon.wait_for(&id, &["paused"]).await;
    let mut stream = Sse::open(&daemon, ADMIN, &id, 0).await;
    let mut ws = Ws::open(&daemon, ADMIN).await;
    ws.ask(json!({"type": "subscribe", "run_id": id, "after": 0})).await;
    assert_eq!(verb(&daemon, &id, "resume", &json!({"input": "yes"})).await.0, 202);
    let (mut said, mut output, mut last) = (String::new(), String::new(), 0);
    while let Some(event) = stream.next().await {
        if let Some(seq) = event.id {
            last = seq;
            continue;
        }
        assert!(event.data.get("seq").is_none(), "{event:?}");
        assert_eq!(event.data["after_seq"], json!(last), "{event:?}");
        let text = event.data["data"]["text"].as_str().expect("text");
        match event.kind.as_str() {
            "message.delta" => said.push_str(text),
            "tool.output" => output.push_str(text),
            other => panic!("{other}"),
        }
    }
    assert_eq!(said, text);
    assert!(output.contains("from-the-tool") && output.contains("more"), "{output}");
    let mut over_ws = String::new();
    while let Some(frame) = ws.next_event().await {
        if frame["event"] == "message.delta" {
            assert!(frame.get("seq").is_none() && frame["after_seq"].is_u64(), "{frame}");
            over_ws.push_str(frame["data"]["text"].as_str().expect("text"));
        }
        if frame["event"] == "run.succeeded" {
            break;
        }
    }
    assert_eq!(over_ws, text);
}

#[tokio::test]
async fn a_websocket_says_who_it_is_in_one_of_three_ways() {
    let daemon = Daemon::start("").await;
    let hello = |frame: &Value| {
        assert_eq!(frame["type"], "hello", "{frame}");
        assert_eq!(frame["principal"]["role"], "admin", "{frame}");
        assert!(frame["limits"]["subscriptions_max"].is_u64(), "{frame}");
    };
    let bearer = format!("Bearer {ADMIN}");
    let mut ws = Ws::connect(&daemon, &[("authorization", &bearer)], None).await.expect("open");
    hello(&ws.frame().await);
    let offer = format!("agent-runtime.v1, bearer.{ADMIN}");
    let mut ws =
        Ws::connect(&daemon, &[("sec-websocket-protocol", &offer)], None).await.expect("open");
    hello(&ws.frame().await);
    let mut ws = Ws::connect(&daemon, &[], None).await.expect("open");
    assert_eq!(ws.frame().await, json!({"type": "auth_required"}));
    ws.send(&json!({"type": "auth", "token": ADMIN})).await;
    hello(&ws.frame().await);
    assert_eq!(ws.ask(json!({"type": "ping"})).await["data"], json!({"pong": true}));
    // What else is said first ends it.
    for frame in [
        json!({"type": "auth", "token": "wrong"}),
        json!({"type": "subscribe", "run_id": "x"}),
        json!("text"),
    ] {
        let mut ws = Ws::connect(&daemon, &[], None).await.expect("open");
        assert_eq!(ws.frame().await["type"], "auth_required");
        ws.send(&frame).await;
        assert_eq!(ws.closed().await, Some(1008), "{frame}");
    }
    let other = [("sec-websocket-protocol", "graphql-ws")];
    assert!(Ws::connect(&daemon, &other, None).await.is_err(), "another protocol");
    let foreign = [("authorization", bearer.as_str()), ("origin", "https://evil.example")];
    assert!(Ws::connect(&daemon, &foreign, None).await.is_err(), "a foreign page");
}

#[tokio::test]
async fn a_websocket_that_says_nothing_is_closed_after_five_seconds() {
    let daemon = Daemon::start("").await;
    let mut ws = Ws::connect(&daemon, &[], None).await.expect("open");
    assert_eq!(ws.frame().await["type"], "auth_required");
    let asked = Instant::now();
    assert_eq!(ws.closed().await, Some(1008));
    let waited = asked.elapsed();
    assert!((4_500..8_000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn every_command_works_over_a_websocket() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let mut ws = Ws::open(&daemon, ADMIN).await;
    let create = json!({"type": "run.create", "agent": "careful", "input": "script:exec ws",
        "idempotency_key": "w1"});
    let run = ws.ask(create.clone()).await;
    assert_eq!((&run["ok"], &run["data"]["state"]), (&json!(true), &json!("queued")), "{run}");
    let id = run["data"]["id"].clone();
    assert_eq!(ws.ask(create).await["data"]["id"], id, "the same key");
    let subscribed = ws.ask(json!({"type": "subscribe", "run_id": id, "after": 0})).await;
    assert_eq!(subscribed["data"], json!({"run_id": id, "after": 0}));
    let approval = approval_of(&daemon, id.as_str().unwrap()).await;
    let steer = ws.ask(json!({"type": "run.steer", "run_id": id, "input": "and so on"})).await;
    assert!(steer["data"]["steer_id"].is_string(), "{steer}");
    let decide =
        json!({"type": "approval.decide", "approval_id": approval["id"], "decision": "approve"});
    assert_eq!(ws.ask(decide.clone()).await["data"]["state"], "approved");
    assert_eq!(ws.ask(decide).await["problem"]["code"], "approval.stale");
    let events = ws.events().await;
    assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap()["event"], "run.succeeded");
    assert_eq!(workspace_text(&daemon, "careful", "ran.log"), "ran\n");

    let run =
        ws.ask(json!({"type": "run.create", "agent": "open", "input": "script:stuck ws"})).await;
    let id = run["data"]["id"].clone();
    until_asked(&fake, "stuck", 1).await;
    ws.ask(json!({"type": "subscribe", "run_id": id})).await;
    let answer = ws.ask(json!({"type": "run.interrupt", "run_id": id, "mode": "hard"})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    daemon.wait_for(id.as_str().unwrap(), &["paused"]).await;
    assert_eq!(ws.ask(json!({"type": "run.resume", "run_id": id})).await["ok"], true);
    let gone = ws.ask(json!({"type": "unsubscribe", "run_id": id})).await;
    assert_eq!(gone["data"]["was_subscribed"], true);
    let answer = ws.ask(json!({"type": "run.cancel", "run_id": id, "reason": "done"})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    daemon.wait_for(id.as_str().unwrap(), &["cancelled"]).await;
    let answer = ws.ask(json!({"type": "run.cancel", "run_id": id})).await;
    assert_eq!(answer["problem"]["code"], "run.terminal");
    let answer = ws.ask(json!({"type": "run.retry", "run_id": id})).await;
    assert_eq!(answer["problem"]["code"], "run.not_failed");
}

#[tokio::test]
async fn a_malformed_frame_gets_a_problem_and_the_connection_stays() {
    let daemon = Daemon::start("").await;
    let mut ws = Ws::open(&daemon, ADMIN).await;
    for (text, code, pointer) in [
        ("{", "request.malformed", None),
        ("[]", "request.invalid", None),
        ("{}", "request.invalid", Some("/type")),
        (r#"{"type":"nonsense"}"#, "request.invalid", Some("/type")),
        (r#"{"type":7}"#, "request.invalid", Some("/type")),
        (r#"{"id":7,"type":"ping"}"#, "request.invalid", Some("/id")),
        (r#"{"type":"subscribe"}"#, "request.invalid", Some("/run_id")),
        (r#"{"type":"subscribe","run_id":"run_x"}"#, "request.invalid", Some("/run_id")),
        (r#"{"type":"run.cancel","run_id":true}"#, "request.invalid", Some("/run_id")),
        (r#"{"type":"run.create","input":"x","odd":1}"#, "request.invalid", Some("/odd")),
        (
            r#"{"type":"run.create","input":"x","idempotency_key":" "}"#,
            "idempotency.key_invalid",
            None,
        ),
    ] {
        ws.send_text(text).await;
        let reply = ws.frame().await;
        assert_eq!((&reply["type"], &reply["ok"]), (&json!("reply"), &json!(false)), "{text}");
        assert_eq!(reply["problem"]["code"], json!(code), "{text}: {reply}");
        if let Some(pointer) = pointer {
            assert_eq!(reply["problem"]["errors"][0]["pointer"], json!(pointer), "{text}: {reply}");
        }
    }
    assert_eq!(ws.ask(json!({"type": "ping"})).await["ok"], true, "still there");
    // What is too large is not read.
    let huge = json!({"type": "run.create", "input": "x".repeat(1_100_000)});
    let mut other = Ws::open(&daemon, ADMIN).await;
    other.send_text(&huge.to_string()).await;
    assert_eq!(other.closed().await, Some(1009));
}

const LOUD: &str = "[agents.loud]\ntools = [\"exec\", \"ask_user\"]\nallowed_commands = [\"*\"]\n\
                    [agents.loud.limits]\nmax_tokens = 1000000000\nmax_tool_calls = 1000\n";

/// Once it was answered, about 9 MB of events: more than every buffer on the way together.
fn loud() -> Vec<Turn> {
    let loud = sh("head -c 60000 /dev/zero | tr '\\0' x");
    let batch = (0..30).fold(Turn::text(""), |turn, _| turn.and("exec", &loud));
    let ask = Turn::call("ask_user", &json!({"question": "Ready?"}));
    [ask].into_iter().chain(vec![batch; 5]).chain([Turn::text("done")]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_is_told_to_resync_and_then_misses_nothing() {
    let fake = provider();
    fake.script("loud", loud());
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), LOUD);
    daemon.run().await;
    let id = daemon.submit("loud", "script:loud").await;
    daemon.wait_for(&id, &["paused"]).await;
    let mut slow = Ws::open_with(&daemon, ADMIN, Some(4_096)).await;
    let reply = slow.ask(json!({"type": "subscribe", "run_id": id, "after": 0})).await;
    assert_eq!(reply["ok"], true);
    assert_eq!(verb(&daemon, &id, "resume", &json!({"input": "yes"})).await.0, 202);
    // It reads nothing until all is over.
    daemon.wait_for(&id, &["succeeded", "failed"]).await;
    let (mut heard, mut resyncs) = (Vec::new(), 0);
    while let Some(frame) = slow.next_event().await {
        if frame["type"] == "resync" {
            resyncs += 1;
            let last = heard.last().copied().unwrap_or(0);
            assert_eq!((&frame["run_id"], &frame["after"]), (&json!(id), &json!(last)));
        } else if let Some(seq) = frame["seq"].as_u64() {
            heard.push(seq);
            if is_terminal(frame["event"].as_str().unwrap()) {
                break;
            }
        }
    }
    assert!(resyncs > 0, "the test was not slow enough");
    let stored = daemon.events(&id).await;
    assert_eq!(heard, seqs(&stored));
    assert_eq!(stored.last().unwrap()["type"], "run.succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_cut_with_its_token_whatever_else_changes() {
    let fake = provider();
    fake.script("loud", loud());
    let more = format!("{LOUD}[http]\nmetrics_addr = \"127.0.0.1:0\"\n");
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &more);
    daemon.run().await;
    let made = daemon.cli(&["token", "create", "operator", "--json"]).await.json();
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    let run = daemon.submit("loud", "script:loud").await;
    daemon.wait_for(&run, &["paused"]).await;
    let mut deaf = Ws::open_with(&daemon, token, Some(4_096)).await;
    let reply = deaf.ask(json!({"type": "subscribe", "run_id": run, "after": 0})).await;
    assert_eq!(reply["ok"], true);
    assert_eq!(verb(&daemon, &run, "resume", &json!({"input": "yes"})).await.0, 202);
    daemon.wait_for(&run, &["succeeded", "failed"]).await;
    let sockets = async || {
        let log = daemon.log();
        let line =
            log.lines().find(|l| l.contains("\"message\":\"metrics\"")).expect("the address");
        let line: Value = serde_json::from_str(line).unwrap();
        let url = format!("http://{}/metrics", line["address"].as_str().unwrap());
        let text = Daemon::answer(daemon.http().get(url)).await.unwrap().text;
        let gauge = text.lines().find_map(|l| l.strip_prefix("agent_runtime_websockets "));
        gauge.expect("a gauge").to_owned()
    };
    assert_eq!(sockets().await, "1");
    // Many changes, of which the connection hears at most that there was one.
    for n in 0..20 {
        let told = daemon.cli(&["principal", "create", &format!("p{n}"), "--role", "viewer"]).await;
        assert_eq!(told.code, Some(0), "{told:?}");
    }
    assert_eq!(sockets().await, "1", "it still stands");
    assert_eq!(daemon.cli(&["token", "revoke", id]).await.code, Some(0));
    // Far sooner than the daemon gives up sending to somebody who does not read.
    let deadline = Instant::now() + SOON;
    while sockets().await != "0" {
        assert!(Instant::now() < deadline, "the connection is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stopping_daemon_says_goodbye_to_its_listeners() {
    let fake = provider();
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), "[limits]\nstop_grace_secs = 2\n");
    daemon.run().await;
    let id = daemon.submit("open", "script:stuck drain").await;
    until_asked(&fake, "stuck", 1).await;
    let mut ws = Ws::open(&daemon, ADMIN).await;
    ws.ask(json!({"type": "subscribe", "run_id": id, "after": 0})).await;
    let mut unknown = Ws::connect(&daemon, &[], None).await.expect("open");
    let mut stream = Sse::open(&daemon, ADMIN, &id, 0).await;
    let mut last = 0;
    while last < 2 {
        last = stream.next().await.expect("what has happened").id.unwrap_or(last);
    }
    daemon.signal(15);
    assert_eq!(ws.closed().await, Some(1001));
    let Heard::Frame(_) = unknown.hear().await else { panic!("no auth_required") };
    assert_eq!(unknown.closed().await, Some(1001));
    while let Some(event) = stream.next().await {
        last = event.id.unwrap_or(last);
    }
    assert_eq!(daemon.exit_code().await, Some(0));
    // The stream's last id is where the next one begins.
    daemon.run().await;
    let recovered = event(&daemon, &id, "run.recovered").await;
    let mut stream = Sse::open(&daemon, ADMIN, &id, last).await;
    let next = stream.next().await.expect("an event");
    assert_eq!(next.id, Some(last + 1));
    assert!(recovered["seq"].as_u64() >= Some(last + 1));
}
