//! What an administrator takes back at one replica is in force at the one that works, when the
//! answer comes. In each test the first replica works and the other one is asked to change.

use std::{fs, io::Write, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{event, sh, until},
    set::{Set, until_state},
    support::{daemon::Daemon, fake_llm::Turn, fake_site::FakeSite},
    web::{events_of, get, play},
};

const FIRST: &str = "first-value-of-a-secret-0123456789";
const SECOND: &str = "second-value-of-a-secret-987654321";

/// An agent whose calls hold little.
const THRIFTY: &str = "[agents.thrifty]\nsystem_prompt = \"test\"\ntools = []\n\
                       roles = [\"member\", \"operator\", \"admin\", \"overlord\"]\n\
                       max_output_tokens = 100\n";

#[track_caller]
fn done(told: &crate::support::daemon::Told) {
    assert_eq!(told.code, Some(0), "{told:?}");
}

/// Stores a secret as a person does: from standard input.
fn store_secret(daemon: &Daemon, name: &str, value: &str) {
    let mut command = daemon.command(&["secret", "set", name]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{value}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_capability_revoked_at_one_replica_starts_nothing_more_at_another() {
    let set = Set::new();
    let (works, asked) = set.pair("taken-marker-1", "").await;
    let first = sh("touch began; while [ ! -e go ]; do sleep 0.01; done; echo ran >> first.txt");
    let second = sh("echo ran > second.txt");
    let calls = Turn::call("exec", &first).and("exec", &second);
    set.fake.script("two", [calls, Turn::text("never")]);
    let place = set.workspace("open");
    let id = works.submit("open", "script:two").await;
    until("the tool at work", || place.join("began").exists().then_some(())).await;
    let list = ["capability", "list", "--json", "--live", "--run", &id];
    let all = asked.cli(&list).await.json();
    let own = all["items"].as_array().unwrap().iter().find(|c| c["parent"].is_null());
    let own = own.expect("the run's own")["id"].as_str().unwrap().to_owned();
    let began = Instant::now();
    done(&asked.cli(&["capability", "revoke", &own, "--reason", "drill"]).await);
    println!("figure: a capability revoked at another replica: {:?}", began.elapsed());
    // What ran may end by itself from now on; what waits behind it may not begin.
    fs::write(place.join("go"), "").unwrap();
    let run = until_state(&works, &id, &["failed"]).await;
    assert_eq!(run["error"]["code"], "capability.revoked", "{run:#}");
    assert!(!place.join("second.txt").exists(), "it ran under what was taken back");
    let denied = event(&works, &id, "tool.denied").await;
    assert_eq!(denied["data"]["rule"], "capability.revoked");
}

#[tokio::test]
async fn a_secret_replaced_or_removed_at_one_replica_is_so_at_another() {
    let set = Set::new();
    let site = FakeSite::start();
    let more = "\n[egress.secrets.site-key]\nhost = \"site.example\"\nport = 80\n";
    let more = format!("{}{more}", crate::web::agents(&site));
    let (works, asked) = set.pair("taken-marker-2", &more).await;
    let headers = json!({"authorization": "Bearer {{secret:site-key}}"});
    let page = json!({"method": "GET", "url": "http://site.example/page", "headers": headers});
    let call = [("http_request", page)];
    for (name, value) in [("first", FIRST), ("second", SECOND), ("third", FIRST)] {
        let began = Instant::now();
        store_secret(&asked, "site-key", value);
        println!("figure: a secret stored at another replica: {:?}", began.elapsed());
        play(&works, &set.fake, "web", name, &call).await;
        let header = site.asked().last().and_then(|a| a.headers.get("authorization").cloned());
        let header = header.expect("a request with the secret");
        assert_eq!(header.to_str().unwrap(), format!("Bearer {value}"), "{name}");
    }
    done(&asked.cli(&["secret", "remove", "site-key"]).await);
    let before = site.asked().len();
    let gone = play(&works, &set.fake, "web", "gone", &call).await;
    assert_eq!(site.asked().len(), before, "{gone:?}");
}

#[tokio::test]
async fn a_budget_lowered_at_one_replica_is_held_at_another() {
    let set = Set::new();
    let (works, asked) = set.pair("taken-marker-3", THRIFTY).await;
    let bound = async |tokens: &str| {
        done(&asked.cli(&["budget", "set", "org", "--tokens-per-day", tokens]).await);
    };
    bound("1000000").await;
    let first = works.submit("thrifty", "script:say 1").await;
    works.wait_for(&first, &["succeeded"]).await;
    for round in 0..3 {
        let began = Instant::now();
        bound("1").await;
        println!("figure: a budget lowered at another replica: {:?}", began.elapsed());
        let held = works.submit("thrifty", &format!("script:say held {round}")).await;
        let run = works.wait_for(&held, &["paused", "succeeded"]).await;
        assert_eq!((&run["state"], &run["wait_reason"]), (&json!("paused"), &json!("budget")));
        let refused = event(&works, &held, "budget.refused").await;
        assert_eq!(refused["data"]["limit"], "org.tokens_per_day", "{refused:#}");
        // Raised there, what waits here goes on.
        bound("1000000").await;
        until_state(&works, &held, &["succeeded"]).await;
    }
}

#[tokio::test]
async fn a_host_allowed_or_taken_off_at_one_replica_is_so_at_another() {
    let set = Set::new();
    let site = FakeSite::start();
    let (works, asked) = set.pair("taken-marker-4", &crate::web::agents(&site)).await;
    let page = [("http_request", get("http://late.example/page"))];
    let times = || site.asked_for("/page").len();
    let add = ["egress", "add", "late.example:80", "--allow-private", "--agent", "web"];
    let remove = ["egress", "remove", "late.example:80 allow_private"];
    for round in 1..=2 {
        done(&asked.cli(&add).await);
        play(&works, &set.fake, "web", &format!("with-{round}"), &page).await;
        assert_eq!(times(), round, "it is allowed");
        done(&asked.cli(&remove).await);
        let name = format!("without-{round}");
        let refused = play(&works, &set.fake, "web", &name, &page).await;
        assert_eq!(events_of(&works, &refused.id, "tool.denied").await.len(), 1, "{refused:?}");
        assert_eq!(times(), round, "it is not allowed any more");
    }
    // A connection that is open when the answer comes is cut.
    done(&asked.cli(&add).await);
    let call = sh("curl -sS -m 40 http://late.example/hang; echo code $?");
    set.fake.script("hangs", [Turn::call("exec", &call), Turn::text("end")]);
    let id = works.submit("web", "script:hangs").await;
    until("the request", || (!site.asked_for("/hang").is_empty()).then_some(())).await;
    let began = Instant::now();
    done(&asked.cli(&remove).await);
    works.wait_for(&id, &["succeeded"]).await;
    assert!(began.elapsed() < Duration::from_secs(15), "it was not cut: {:?}", began.elapsed());
    let denied: Vec<Value> = events_of(&works, &id, "egress.denied").await;
    assert!(denied.iter().any(|d| d["host"] == "late.example"), "{denied:#?}");
}
