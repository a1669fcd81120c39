//! Event streams (SSE).

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{RequestBuilder, header};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::daemon::{ADMIN, BOB, Daemon, PATIENCE};

/// One event of a stream.
#[derive(Debug, PartialEq)]
struct Received {
    id: Option<u64>,
    kind: String,
    data: Value,
}

/// Reads a stream to its end, or to the first event of type `until`.
async fn read(request: RequestBuilder, until: &str) -> (u16, Vec<Received>) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let mut chunks = response.bytes_stream();
    let (mut text, mut events) = (String::new(), Vec::new());
    while let Ok(Some(Ok(chunk))) = timeout(PATIENCE, chunks.next()).await {
        text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        while let Some((block, rest)) = text.split_once("\n\n") {
            let field =
                |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(str::trim_start);
            if let (Some(kind), Some(data)) = (field("event:"), field("data:")) {
                let id = field("id:").map(|id| id.parse().expect("a number"));
                let data = serde_json::from_str(data).expect("JSON");
                events.push(Received { id, kind: kind.to_owned(), data });
            }
            let is_last = field("event:") == Some(until);
            text = rest.to_owned();
            if is_last {
                return (status, events);
            }
        }
    }
    (status, events)
}

fn events_of(daemon: &Daemon, id: &str, token: &str) -> RequestBuilder {
    let url = format!("{}/api/v1/runs/{id}/events", daemon.base());
    daemon.http().get(url).bearer_auth(token).header(header::ACCEPT, "text/event-stream")
}

fn seqs(events: &[Received]) -> Vec<u64> {
    events.iter().filter_map(|e| e.id).collect()
}

#[tokio::test]
async fn a_new_run_can_be_followed_to_its_end_and_replayed_from_any_point() {
    let daemon = Daemon::start("").await;
    let create = daemon
        .http()
        .post(format!("{}/api/v1/runs", daemon.base()))
        .bearer_auth(ADMIN)
        .header(header::ACCEPT, "text/event-stream")
        .json(&json!({"agent": "open", "input": "hello"}));
    let (status, events) = read(create, "").await;
    assert_eq!(status, 200);
    let numbered = seqs(&events);
    let last = u64::try_from(numbered.len()).unwrap();
    assert_eq!(numbered, (1..=last).collect::<Vec<_>>(), "no gap, no repeat");
    assert_eq!(events[0].kind, "run.created");
    assert_eq!(events.last().unwrap().kind, "run.succeeded");
    for event in &events {
        assert_eq!(event.data["type"], event.kind.as_str());
        assert_eq!(event.data["seq"].as_u64(), event.id);
        assert!(event.id.is_some() || event.data["after_seq"].is_u64());
    }
    let id = events[0].data["run_id"].as_str().unwrap();
    let stored = daemon.events(id).await;
    assert_eq!(stored.len(), numbered.len());

    let resumed = events_of(&daemon, id, ADMIN).header("last-event-id", "2");
    let (_, rest) = read(resumed, "").await;
    assert_eq!(seqs(&rest), (3..=last).collect::<Vec<_>>());
    let known = events_of(&daemon, id, ADMIN).header("last-event-id", last.to_string());
    assert_eq!(read(known, "").await.0, 204);
    assert_eq!(read(events_of(&daemon, id, BOB), "").await.0, 404);
}

#[tokio::test]
async fn a_stream_ends_when_the_daemon_stops_and_goes_on_after_its_restart() {
    let mut daemon = Daemon::start("").await;
    let id = daemon.submit("careful", "run echo hi").await;
    let (_, before) = read(events_of(&daemon, &id, ADMIN), "approval.requested").await;
    let waiting = timeout(PATIENCE, read(events_of(&daemon, &id, ADMIN), ""));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        daemon.stop().await
    };
    let (cut, code) = tokio::join!(waiting, stop);
    let (_, cut) = cut.expect("the stream ends");
    assert_eq!(code, Some(0));
    assert!(seqs(&cut).starts_with(&seqs(&before)), "what is replayed is what was seen live");

    daemon.run().await;
    let approvals = daemon.pending(&id).await;
    daemon.decide(&approvals[0], &json!({"decision": "deny", "reason": "no"})).await.expect(200);
    let last = seqs(&cut).last().copied().unwrap();
    let resumed = events_of(&daemon, &id, ADMIN).header("last-event-id", last.to_string());
    let (_, rest) = read(resumed, "").await;
    let mut all = seqs(&cut);
    all.extend(seqs(&rest));
    let count = u64::try_from(all.len()).unwrap();
    assert_eq!(all, (1..=count).collect::<Vec<_>>(), "no gap and no repeat through a restart");
}
