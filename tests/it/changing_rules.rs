//! Rules, hosts and approvers that change while approved calls start: whatever starts is what was
//! approved, under what is in force, by somebody who may.
//!
//! The truth is kept outside of the daemon: a change is in force when its answer comes, until the next
//! one is asked for. A call that started within such a time is held against it.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agent_runtime::http::admin::SOCKET;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenes::{provider, sh, workspace_text},
    support::{
        daemon::{Answer, Daemon, PATIENCE},
        fake_llm::Turn,
    },
};

/// The one who approves, who is an administrator and sometimes is not.
const ANN: &str = "ann-token-0123456789-0123456789-0123456789abc";
const MORE: &str = "[[auth.tokens]]\nname = \"ann\"\nrole = \"admin\"\n\
                    token = \"ann-token-0123456789-0123456789-0123456789abc\"\n";
/// Runs; each asks about one call, as often as something changes meanwhile.
const RUNS: usize = 40;
/// Rests between two changes, in turn: most calls start in between, some do not.
const RESTS_MS: [u64; 5] = [10, 150, 40, 250, 80];
/// Where every call is denied nobody is asked: soon over.
const DENIED_MS: u64 = 10;

const ASKS: &str = "version = 1\n# the same rules as none\n";
const ALSO_ASKS: &str = "version = 1\n# the same rules once more\n";
const DENIES: &str = "version = 1\n[[rule]]\nname = \"stop\"\neffect = \"deny\"\n\
                      tools = [\"exec\"]\nreason = \"not now\"\n";

/// What is in force.
#[derive(Clone, Debug, PartialEq)]
struct InForce {
    policy: String,
    denies: bool,
    hosts: bool,
    is_admin: bool,
}

/// What was in force for sure from one millisecond to another.
#[derive(Debug)]
struct Span {
    from: u128,
    until: u128,
    what: InForce,
}

#[expect(clippy::disallowed_methods, reason = "beside what programs of the test write down")]
fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

struct Door {
    client: reqwest::Client,
}

impl Door {
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let url = format!("http://localhost/admin/v1{path}");
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        Daemon::answer(request).await.unwrap()
    }

    async fn policy(&self, source: &str) -> String {
        let put = self.ask(Method::PUT, "/policy", Some(&json!({ "source": source }))).await;
        assert!(put.status.is_success(), "{}", put.text);
        put.json()["version"].as_str().unwrap().to_owned()
    }
}

/// Changes one thing after the other until it is told to stop; what was in force when.
#[expect(clippy::future_not_send, reason = "it stays on the thread of its test")]
async fn attack(door: &Door, ann: &str, first: InForce, is_over: &Cell<bool>) -> Vec<Span> {
    let (mut spans, mut what, mut from) = (Vec::new(), first, now_ms());
    let (mut listed, mut policies) = (String::new(), 1_usize);
    for turn in 0_usize.. {
        if is_over.get() {
            break;
        }
        let rest = if what.denies { DENIED_MS } else { RESTS_MS[turn % RESTS_MS.len()] };
        tokio::time::sleep(Duration::from_millis(rest)).await;
        spans.push(Span { from, until: now_ms(), what: what.clone() });
        // What denies is soon replaced.
        match if what.denies { 0 } else { turn % 3 } {
            0 => {
                let text = [ASKS, ALSO_ASKS, ASKS, DENIES][policies % 4];
                policies += 1;
                what.denies = text == DENIES;
                what.policy = door.policy(text).await;
            }
            1 if what.hosts => {
                let path = format!("/egress/domains/{listed}");
                let gone = door.ask(Method::DELETE, &path, None).await;
                assert!(gone.status.is_success(), "{}", gone.text);
                what.hosts = false;
            }
            1 => {
                let rule = json!({"rule": "new.example", "agent": "careful"});
                let added = door.ask(Method::POST, "/egress/domains", Some(&rule)).await;
                assert!(added.status.is_success(), "{}", added.text);
                added.json()["id"].as_str().unwrap().clone_into(&mut listed);
                what.hosts = true;
            }
            _ => {
                what.is_admin = !what.is_admin;
                let role = json!({"role": if what.is_admin { "admin" } else { "operator" }});
                let path = format!("/principals/{ann}");
                let patched = door.ask(Method::PATCH, &path, Some(&role)).await;
                assert!(patched.status.is_success(), "{}", patched.text);
            }
        }
        // A row carries milliseconds: the one in which the answer came is not counted.
        from = now_ms() + 1;
    }
    spans
}

/// Ann says yes to whatever a run asks, as soon as she may, until it has ended.
async fn approve_all(daemon: &Daemon, run: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let is_late = tokio::time::Instant::now() > deadline;
        assert!(!is_late, "{run} does not end: {}", daemon.log());
        let now = daemon.wait_for(run, &["awaiting_approval", "succeeded", "failed"]).await;
        if now["state"] != "awaiting_approval" {
            assert_eq!(now["state"], "succeeded", "{now:#}");
            return;
        }
        for card in daemon.pending(run).await {
            let path = format!("/api/v1/approvals/{}/decision", card["id"].as_str().unwrap());
            let yes = json!({"decision": "approve"});
            let told = daemon.call(Method::POST, &path, ANN, Some(&yes)).await.unwrap();
            assert!([200, 401, 403, 409].contains(&told.status.as_u16()), "{}", told.text);
        }
    }
}

fn at_ms(row: &Value) -> u128 {
    let at: agent_runtime::domain::Timestamp = serde_json::from_value(row["at"].clone()).unwrap();
    u128::try_from(at.as_micros() / 1_000).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_but_what_was_approved_under_what_is_in_force() {
    let fake = provider();
    fake.script("race", [Turn::call("exec", &sh("echo ran >> ran.log")), Turn::text("done")]);
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), MORE);
    daemon.run().await;
    let client = reqwest::Client::builder().unix_socket(daemon.data_dir().join(SOCKET));
    let door = Door { client: client.build().unwrap() };
    let people = door.ask(Method::GET, "/principals", None).await.expect(200);
    let ann = people["items"].as_array().unwrap().iter().find(|p| p["name"] == "ann").unwrap();
    let ann = ann["id"].as_str().unwrap().to_owned();
    let policy = door.policy(ASKS).await;
    let first = InForce { policy, denies: false, hosts: false, is_admin: true };
    let is_over = Cell::new(false);
    let work = async {
        for round in 0..RUNS {
            let id = daemon.submit("careful", &format!("script:race {round}")).await;
            approve_all(&daemon, &id).await;
        }
        is_over.set(true);
    };
    let (spans, ()) = tokio::join!(attack(&door, &ann, first, &is_over), work);
    let export = daemon.cli(&["audit", "export"]).await;
    let rows: Vec<Value> =
        export.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let started: Vec<&Value> = rows.iter().filter(|row| row["kind"] == "tool_started").collect();
    let (mut judged, mut wrong) = (0, Vec::new());
    for row in &started {
        let data = &row["data"];
        let card = data["consent"]["approval_id"].as_str().expect("nothing starts without a yes");
        let card = daemon.get(&format!("/api/v1/approvals/{card}")).await.expect(200);
        assert_eq!((&card["state"], &card["args_hash"]), (&json!("approved"), &data["args_hash"]));
        assert_eq!(data["consent"]["approved_by"], json!([ann]));
        let at = at_ms(row);
        let Some(span) = spans.iter().find(|span| span.from <= at && at < span.until) else {
            continue;
        };
        judged += 1;
        let has_host = card["egress"].to_string().contains("new.example");
        let is_right = data["policy_version"] == span.what.policy
            && !span.what.denies
            && has_host == span.what.hosts
            && span.what.is_admin;
        if !is_right {
            wrong.push(format!("{row} under {span:?} with {card}"));
        }
    }
    assert!(wrong.is_empty(), "{} mismatched executions: {wrong:#?}", wrong.len());
    // Each start is one execution, and the attack was one.
    let ran = workspace_text(&daemon, "careful", "ran.log").lines().count();
    assert_eq!(ran, started.len());
    let voided = rows.iter().filter(|r| r["data"]["state"] == "voided").count();
    let denied = rows.iter().filter(|r| r["kind"] == "tool_denied").count();
    println!(
        "{} changes, {ran} executions ({judged} judged), {voided} voided, {denied} denied",
        spans.len()
    );
    assert!(judged > 0 && voided > 0 && denied > 0, "no race at all");
}
