//! How often and how much anybody may ask: per principal, per address, per connection; fair turns;
//! the gate in front of everything that makes an agent work.

use std::{collections::BTreeSet, time::Duration};

use agent_runtime::http::{ROUTES, admin::SOCKET};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    scenes::{provider, until_asked},
    support::{
        daemon::{ADMIN, ALICE, Answer, BOB, Daemon, OPERATOR, PATIENCE},
        fake_llm::{FakeLlm, Fault, Turn},
        live::{Heard, Sse, Ws},
    },
};

async fn started(fake: &FakeLlm, more: &str) -> Daemon {
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), more);
    daemon.run().await;
    daemon
}

async fn get(daemon: &Daemon, token: &str) -> Answer {
    daemon.call(Method::GET, "/api/v1/me", token, None).await.unwrap()
}

async fn create(daemon: &Daemon, token: &str, input: &str) -> Answer {
    let body = json!({"agent": "open", "input": input});
    daemon.call(Method::POST, "/api/v1/runs", token, Some(&body)).await.unwrap()
}

async fn at_the_door(daemon: &Daemon, path: &str) -> Answer {
    let client = reqwest::Client::builder().unix_socket(daemon.data_dir().join(SOCKET));
    let client = client.build().unwrap();
    Daemon::answer(client.get(format!("http://localhost{path}"))).await.unwrap()
}

/// Rows of the audit trail of one kind.
async fn audit(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let told = daemon.cli(&["audit", "export"]).await;
    let rows = told.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["kind"] == kind).collect()
}

#[tokio::test]
async fn a_principal_that_asks_too_often_waits_and_nobody_else_does() {
    let fake = provider();
    let daemon = started(&fake, "[limits]\nrequests_per_minute_per_principal = 6\n").await;
    let mut ws = Ws::open(&daemon, ALICE).await;
    for _ in 0..5 {
        assert_eq!(get(&daemon, ALICE).await.status.as_u16(), 200);
    }
    for _ in 0..20 {
        let refused = get(&daemon, ALICE).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"));
        let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    assert_eq!(get(&daemon, BOB).await.status.as_u16(), 200);
    // Messages on a WebSocket count for their principal too.
    let reply = ws.ask(json!({"type": "ping"})).await;
    assert_eq!(reply["problem"]["code"], "rate_limited", "{reply}");
    // Once for the burst, with who and what.
    let rows = audit(&daemon, "rate_limited").await;
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["data"]["limit"], "requests_per_minute_per_principal");
}

#[tokio::test]
async fn an_address_that_asks_too_often_waits_and_the_admin_door_stays_open() {
    let fake = provider();
    let daemon = started(&fake, "[limits]\nrequests_per_minute_per_address = 10\n").await;
    let mut refused = 0;
    for _ in 0..20 {
        let request = daemon.http().get(format!("{}/api/v1/me", daemon.base()));
        refused += usize::from(Daemon::answer(request).await.unwrap().status.as_u16() == 429);
    }
    assert_eq!(refused, 10);
    assert_eq!(get(&daemon, ADMIN).await.code(), "rate_limited", "whoever asks from there");
    let probe = daemon.http().get(format!("{}/healthz", daemon.base()));
    assert_eq!(Daemon::answer(probe).await.unwrap().status.as_u16(), 200);
    for _ in 0..50 {
        assert_eq!(at_the_door(&daemon, "/admin/v1/sandbox").await.status.as_u16(), 200);
    }
    let rows = audit(&daemon, "rate_limited").await;
    assert_eq!(rows.len(), 1, "{rows:#?}");
}

#[tokio::test]
async fn a_principal_has_its_share_of_sockets_and_streams_and_gets_places_back() {
    let fake = provider();
    let more = "[limits]\nwebsockets_per_principal = 2\nstreams_per_principal = 2\n";
    let daemon = started(&fake, more).await;
    let run = create(&daemon, ADMIN, "script:hang streams").await.expect(202);
    let run = run["id"].as_str().unwrap();
    let first = Ws::open(&daemon, ADMIN).await;
    let second = Ws::open(&daemon, ADMIN).await;
    let another = async || {
        let bearer = format!("Bearer {ADMIN}");
        Ws::connect(&daemon, &[("authorization", &bearer)], None).await.expect("a WebSocket")
    };
    assert_eq!(another().await.closed().await, Some(1013));
    drop(Ws::open(&daemon, OPERATOR).await);
    drop(second);
    let deadline = Instant::now() + PATIENCE;
    while !matches!(another().await.hear().await, Heard::Frame(_)) {
        assert!(Instant::now() < deadline, "the place does not come back");
    }
    drop(first);
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(Sse::open(&daemon, ADMIN, run, 0).await);
    }
    let request = daemon
        .http()
        .get(format!("{}/api/v1/runs/{run}/events", daemon.base()))
        .bearer_auth(ADMIN)
        .header("accept", "text/event-stream");
    let refused = Daemon::answer(request).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "request.overloaded"));
    let theirs = Sse::open(&daemon, OPERATOR, run, 0).await;
    assert_eq!(theirs.response().status().as_u16(), 200);
}

#[tokio::test]
async fn an_address_has_its_share_of_connections() {
    let fake = provider();
    let daemon = started(&fake, "[limits]\nconnections_per_address = 8\n").await;
    let address = daemon.base().trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    let mut refused = None;
    for _ in 0..40 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // One that has a place says nothing; one that has none is told and closed.
        let mut answer = [0; 64];
        match timeout(Duration::from_millis(200), stream.read(&mut answer)).await {
            Ok(Ok(read)) => {
                refused = Some(String::from_utf8_lossy(&answer[..read]).into_owned());
                break;
            }
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => idle.push(stream),
        }
    }
    assert!(idle.len() <= 8, "{}", idle.len());
    let refused = refused.expect("the ninth is refused");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    // The door is a place of its own.
    assert_eq!(at_the_door(&daemon, "/admin/v1/sandbox").await.status.as_u16(), 200);
    drop(idle);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") {
            return;
        }
        assert!(Instant::now() < deadline, "places do not come back: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_principal_fills_its_part_of_the_queue_and_another_finds_room() {
    let fake = provider();
    let daemon = started(&fake, "[limits]\nqueued_runs = 10\nactive_runs = 1\n").await;
    create(&daemon, ADMIN, "script:stuck").await.expect(202);
    until_asked(&fake, "stuck", 1).await;
    for n in 0..5 {
        create(&daemon, ALICE, &format!("script:say {n}")).await.expect(202);
    }
    let refused = create(&daemon, ALICE, "script:say more").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "queue.full"));
    assert!(refused.text.contains("your part of the queue"), "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    for n in 0..5 {
        create(&daemon, BOB, &format!("script:say bob {n}")).await.expect(202);
    }
    let full = create(&daemon, OPERATOR, "script:say late").await;
    assert_eq!((full.status.as_u16(), full.code().as_str()), (429, "queue.full"));
    assert!(!full.text.contains("your part"), "{}", full.text);
}

#[tokio::test]
async fn a_principal_with_a_thousand_runs_in_the_queue_does_not_starve_another() {
    let fake = provider();
    let slow = Turn::text("ok").after([Fault::SlowBytes(Duration::from_millis(5)); 4]);
    fake.script("slow", [slow]);
    let daemon = started(&fake, "[limits]\nactive_runs = 2\n").await;
    let submit = async |n: u32| create(&daemon, ALICE, &format!("script:slow {n}")).await;
    for batch in 0..20 {
        let all = (0..50).map(|n| submit(batch * 50 + n));
        for answer in futures_util::future::join_all(all).await {
            answer.expect(202);
        }
    }
    let bobs = create(&daemon, BOB, "script:say bob").await.expect(202);
    let began = Instant::now();
    let run = daemon.wait_for(bobs["id"].as_str().unwrap(), &["succeeded"]).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let waiting = daemon.get("/api/v1/runs?state=queued&limit=500").await.expect(200);
    assert!(waiting["items"].as_array().unwrap().len() > 100, "they had not all had their turn");
    assert_eq!(run["output"], "All is well.");
    let said = audit(&daemon, "alert").await;
    assert!(said.iter().any(|row| row["data"]["alert"] == "queue_long"), "{said:#?}");
}

/// Ways in which a request makes an agent work, with the routes that they are.
const STARTING: &[&str] = &[
    "/api/v1/runs",
    "/api/v1/runs/{id}/steer",
    "/api/v1/runs/{id}/resume",
    "/api/v1/runs/{id}/retry",
    "/api/v1/runs/{id}/fork",
];
/// Ways in which one acts without making an agent work on something new.
const OTHERS: &[&str] = &[
    "/api/v1/runs/{id}/interrupt",
    "/api/v1/runs/{id}/cancel",
    "/api/v1/approvals/{id}/decision",
    "/api/v1/approvals/decisions",
    "/api/v1/approvals/{id}/pattern-preview",
    "/api/v1/conversations",
];

#[tokio::test]
async fn the_gate_stands_in_front_of_every_way_to_make_an_agent_work() {
    let posts = ROUTES.iter().filter(|(method, _)| *method == Method::POST).map(|(_, path)| *path);
    let known: BTreeSet<_> = STARTING.iter().chain(OTHERS).copied().collect();
    let new: Vec<_> = posts.filter(|path| !known.contains(path)).collect();
    assert!(new.is_empty(), "do these make an agent work? list them above: {new:?}");

    let fake = provider();
    fake.script(
        "bad",
        [Turn::text("x").after([Fault::Status(400, None, "invalid_request_error")])],
    );
    let more = "[llm.gate]\nmin_role = \"admin\"\nexempt_role = \"overlord\"\n";
    let daemon = started(&fake, more).await;
    let done = daemon.submit("open", "script:say done").await;
    daemon.wait_for(&done, &["succeeded"]).await;
    let failed = daemon.submit("open", "script:bad").await;
    daemon.wait_for(&failed, &["failed"]).await;
    let running = daemon.submit("open", "script:stuck running").await;
    let paused = daemon.submit("open", "script:stuck paused").await;
    until_asked(&fake, "stuck", 2).await;
    daemon.post(&format!("/api/v1/runs/{paused}/interrupt"), &json!({})).await.expect(202);
    daemon.wait_for(&paused, &["paused"]).await;

    let asking = daemon.submit("open", "script:ask").await;
    daemon.wait_for(&asking, &["paused"]).await;

    let input = json!({"input": "script:say no"});
    let new = json!({"agent": "open", "input": "script:say no"});
    let ways: [(&str, String, &Value); 6] = [
        ("run.create", "/api/v1/runs".to_owned(), &new),
        ("run.steer", format!("/api/v1/runs/{running}/steer"), &input),
        ("run.resume", format!("/api/v1/runs/{paused}/resume"), &input),
        // An answer makes the agent work as well.
        ("run.resume", format!("/api/v1/runs/{asking}/resume"), &input),
        ("run.retry", format!("/api/v1/runs/{failed}/retry"), &json!({})),
        ("run.fork", format!("/api/v1/runs/{done}/fork"), &input),
    ];
    assert_eq!(ways.len(), STARTING.len() + 1);
    let mut ws = Ws::open(&daemon, OPERATOR).await;
    for (frame, path, body) in &ways {
        let refused = daemon.call(Method::POST, path, OPERATOR, Some(body)).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "auth.forbidden"));
        assert!(refused.text.contains("make agents work"), "{path}: {}", refused.text);
        let mut command = (*body).clone();
        command["type"] = json!(frame);
        if let Some(run) = path.split('/').nth(4) {
            command["run_id"] = json!(run);
        }
        let reply = ws.ask(command).await;
        assert_eq!(reply["problem"]["code"], "auth.forbidden", "{frame}: {reply}");
    }
    let denied = audit(&daemon, "access_denied").await;
    let by_gate = denied.iter().filter(|row| row["data"]["action"] == "llm.gate").count();
    assert_eq!(by_gate, 2 * ways.len());
    // The same requests of an admin pass.
    for (_, path, body) in &ways {
        let answer = daemon.call(Method::POST, path, ADMIN, Some(body)).await.unwrap();
        assert_eq!(answer.status.as_u16(), 202, "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_gate_counts_what_a_member_starts_by_whatever_way_and_not_what_operators_do() {
    let fake = provider();
    let daemon = started(&fake, "[llm.gate]\napi_runs_per_minute = 3\n").await;
    let first = create(&daemon, ALICE, "script:say 1").await.expect(202);
    let first = first["id"].as_str().unwrap();
    daemon.wait_for(first, &["succeeded"]).await;
    let fork = json!({"input": "script:say 2"});
    let path = format!("/api/v1/runs/{first}/fork");
    daemon.call(Method::POST, &path, ALICE, Some(&fork)).await.unwrap().expect(202);
    let mut ws = Ws::open(&daemon, ALICE).await;
    let create_frame = json!({"type": "run.create", "agent": "open", "input": "script:say 3"});
    assert_eq!(ws.ask(create_frame.clone()).await["ok"], true);
    let refused = create(&daemon, ALICE, "script:say 4").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(ws.ask(create_frame).await["problem"]["code"], "rate_limited");
    for n in 0..10 {
        create(&daemon, OPERATOR, &format!("script:say operator {n}")).await.expect(202);
    }
    create(&daemon, BOB, "script:say bob").await.expect(202);
    assert_eq!(audit(&daemon, "rate_limited").await.len(), 1);
}

#[tokio::test]
async fn runs_beyond_the_rate_of_model_calls_wait_and_are_not_lost() {
    let fake = provider();
    let more = "[limits]\nmodel_requests_per_minute_per_principal = 5\n";
    let daemon = started(&fake, more).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let run = create(&daemon, ALICE, &format!("script:say {n}")).await.expect(202);
        ids.push(run["id"].as_str().unwrap().to_owned());
    }
    let mut waited = 0;
    for id in &ids {
        daemon.wait_for(id, &["succeeded"]).await;
        let events = daemon.events(id).await;
        let waits = |e: &&Value| e["type"] == "run.paused" && e["data"]["reason"] == "backoff";
        waited += events.iter().filter(waits).count();
    }
    assert!(waited >= 1, "the sixth had to wait");
}

#[tokio::test]
async fn a_model_that_fails_rests_and_readiness_the_door_and_an_alert_say_so() {
    let fake = provider();
    let down = Fault::Status(503, Some("0"), "overloaded_error");
    fake.script("down", [Turn::text("never").after([down; 64])]);
    let daemon = started(&fake, "").await;
    for n in 0..2 {
        let run = create(&daemon, ALICE, &format!("script:down {n}")).await.expect(202);
        // It goes on by itself later.
        let run = daemon.wait_for(run["id"].as_str().unwrap(), &["paused"]).await;
        assert_eq!(run["wait_reason"], "backoff");
    }
    let asked = fake.seen_of("down").len();
    assert_eq!(asked, 5, "five failures and then silence");
    let ready = daemon.http().get(format!("{}/readyz", daemon.base()));
    let ready = Daemon::answer(ready).await.unwrap().expect(503);
    let detail = ready["checks"]["llm"]["detail"].as_str().unwrap();
    assert!(detail.contains("every model rests") && detail.contains("overloaded"), "{detail}");
    let health = at_the_door(&daemon, "/admin/v1/health").await.expect(200);
    assert_eq!(health["models"][0]["state"], "open", "{health}");
    assert_eq!(health["models"][0]["class"], "overloaded");
    let third = create(&daemon, BOB, "script:down third").await.expect(202);
    let third = third["id"].as_str().unwrap();
    daemon.wait_for(third, &["paused"]).await;
    let events = daemon.events(third).await;
    let paused = events.iter().find(|e| e["type"] == "run.paused").unwrap();
    let why = paused["data"]["detail"].as_str().unwrap();
    assert!(why.contains("rests after failures") && why.contains("trying again in"), "{why}");
    assert_eq!(fake.seen_of("down").len(), asked, "nobody was asked");
    let alerts = audit(&daemon, "alert").await;
    assert!(alerts.iter().any(|row| row["data"]["alert"] == "breaker_open"), "{alerts:#?}");
}
