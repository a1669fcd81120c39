//! What a replica sees of another one's runs, and what it can do to them.

use std::time::Duration;

use tokio::time::Instant;

use serde_json::{Value, json};

use crate::{
    scenes::{kinds, until_alive, until_asked},
    set::{Set, until_state},
    support::{
        daemon::ADMIN,
        fake_llm::{Fault, Turn},
        live::{Sse, Ws},
    },
};

#[tokio::test]
async fn events_of_a_run_are_live_at_every_replica_each_once_and_in_order() {
    let set = Set::new();
    let slow = Fault::SlowBytes(Duration::from_millis(60));
    let turn = || Turn::call("list_files", &json!({})).after([slow]);
    set.fake.script("steps", [turn(), turn(), turn(), turn(), Turn::text("done")]);
    let (a, b) = set.pair("busy-marker-1", "").await;
    let id = a.submit("open", "script:steps").await;
    let mut stream = Sse::open(&b, ADMIN, &id, 0).await;
    let mut socket = Ws::open(&b, ADMIN).await;
    let asked = json!({"type": "subscribe", "id": "1", "run_id": id, "after": 0});
    socket.send(&asked).await;
    let mut seqs = Vec::new();
    let mut live = 0;
    let mut lags = Vec::new();
    while let Some(event) = stream.next().await {
        let Some(seq) = event.id else { continue };
        seqs.push(seq);
        let now = jiff::Timestamp::now();
        let at: jiff::Timestamp = event.data["at"].as_str().unwrap().parse().unwrap();
        lags.push(now.duration_since(at).as_millis());
        let state = a.run_of(&id).await["state"].clone();
        live += usize::from(state == "running");
    }
    lags.sort_unstable();
    println!("figure: commit to another replica's event stream, ms: {lags:?}");
    let all = a.events(&id).await;
    assert_eq!(seqs, (1..=all.len() as u64).collect::<Vec<_>>());
    assert!(live >= 3, "they came only when all was over: {live} of {}", seqs.len());
    let mut heard = Vec::new();
    while heard.len() < all.len() {
        let frame = socket.frame().await;
        heard.extend(frame["seq"].as_u64());
    }
    assert_eq!(heard, seqs);
    assert_eq!(b.events(&id).await, all);
}

#[tokio::test]
async fn a_command_at_one_replica_reaches_a_run_that_another_works_on() {
    let set = Set::new();
    let tool = |marker: &str| json!({"argv": ["/bin/sh", "-c", "sleep 300", marker]});
    set.fake.script("one", [Turn::call("exec", &tool("seen-marker-1")), Turn::text("done")]);
    set.fake.script("two", [Turn::call("exec", &tool("seen-marker-2")), Turn::text("done")]);
    let (a, b) = set.pair("busy-marker-2", "").await;
    let post = async |id: &str, verb: &str, body: &Value| {
        b.post(&format!("/api/v1/runs/{id}/{verb}"), body).await.expect(202)
    };
    // Cancel and a hard interrupt kill the tool there; a soft one drops the model call.
    let (one, two) = (a.submit("open", "script:one").await, a.submit("open", "script:two").await);
    until_alive("seen-marker-1", true).await;
    until_alive("seen-marker-2", true).await;
    let began = Instant::now();
    post(&one, "cancel", &json!({})).await;
    post(&two, "interrupt", &json!({"mode": "hard"})).await;
    until_state(&b, &one, &["cancelled"]).await;
    println!("figure: a cancel at another replica, tool dead and run ended: {:?}", began.elapsed());
    until_state(&b, &two, &["paused"]).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    until_alive("seen-marker-1", false).await;
    until_alive("seen-marker-2", false).await;
    let stuck = a.submit("open", "script:stuck").await;
    until_asked(&set.fake, "stuck", 1).await;
    post(&stuck, "interrupt", &json!({})).await;
    until_state(&b, &stuck, &["paused"]).await;
    // What somebody decides at one replica goes on at another that has room.
    let asking = a.submit("careful", "script:exec").await;
    until_state(&b, &asking, &["awaiting_approval"]).await;
    let cards = b.pending(&asking).await;
    let told = b.decide(&cards[0], &json!({"decision": "approve"})).await;
    assert!(told.status.is_success(), "{}", told.text);
    until_state(&b, &asking, &["succeeded"]).await;
    assert!(kinds(&b, &asking).await.contains(&"approval.decided".to_owned()));
    assert!(set.rows("SELECT run_id FROM nudges").is_empty(), "nobody looked at them");
}
