//! A crash in the middle of an unsafe call: nobody knows whether it happened, so a person says.

use serde_json::json;

use crate::{
    scenes::{approval_of, event, is_alive, kinds, provider, sh, until, workspace_text},
    support::{
        checker::{Truth, check_no_leftovers},
        daemon::Daemon,
        fake_llm::{FakeLlm, Turn},
    },
};

/// A call that leaves its id outside and then runs until it is killed, the first time; again, it
/// ends at once.
fn witness(marker: &str) -> String {
    format!(
        "echo $AGENT_RUNTIME_CALL_ID >> witness.log; \
         if [ ! -e again ]; then touch again; exec /bin/sleep {marker}; fi"
    )
}

struct Crash {
    fake: FakeLlm,
    daemon: Daemon,
    run: String,
    marker: String,
}

/// A daemon that was killed while the call ran, and started again.
async fn crash(n: u32) -> Crash {
    let fake = provider();
    let marker = format!("8{}.{n}", std::process::id());
    fake.script("witness", [Turn::call("exec", &sh(&witness(&marker))), Turn::text("end")]);
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let run = daemon.submit("open", "script:witness crash").await;
    until("the call", || is_alive(&marker).then_some(())).await;
    daemon.kill();
    daemon.run().await;
    assert!(!is_alive(&marker), "the old daemon's tool is dead before anything goes on");
    Crash { fake, daemon, run, marker }
}

impl Crash {
    fn witnesses(&self) -> Vec<String> {
        let text = workspace_text(&self.daemon, "open", "witness.log");
        text.lines().map(str::to_owned).collect()
    }

    async fn check(mut self) {
        let dir = self.daemon.data_dir();
        let witness = self.witnesses();
        assert_eq!(self.daemon.stop().await, Some(0));
        let truth = Truth::read(&dir).await;
        truth.check_events();
        truth.check_audit();
        truth.check_approvals();
        truth.check_witness(&witness);
        assert!(!is_alive(&self.marker));
        check_no_leftovers(&dir);
    }
}

#[tokio::test]
async fn nothing_is_repeated_before_a_person_has_spoken() {
    let crash = crash(1).await;
    let run = crash.daemon.wait_for(&crash.run, &["paused"]).await;
    assert_eq!(run["wait_reason"], "effect_unknown");
    let approval = approval_of(&crash.daemon, &crash.run).await;
    assert_eq!(approval["kind"], "unknown_effect");
    assert_eq!(approval["call_id"].as_str(), crash.witnesses().first().map(String::as_str));
    let recovered = event(&crash.daemon, &crash.run, "run.recovered").await;
    assert_eq!(recovered["data"]["paused"], "effect_unknown");
    let (from, to) = (&recovered["data"]["from_epoch"], &recovered["data"]["to_epoch"]);
    assert!(to.as_u64() > from.as_u64(), "{recovered}");
    let resume = crate::scenes::verb(&crash.daemon, &crash.run, "resume", &json!({})).await;
    assert_eq!(resume.1, "run.awaiting_decision");
    let bare = crash.daemon.decide(&approval, &json!({"decision": "approve"})).await;
    assert_eq!((bare.status.as_u16(), bare.code()), (422, "approval.outcome".to_owned()));
    // A second crash meanwhile changes nothing.
    let Crash { fake, mut daemon, run, marker } = crash;
    daemon.kill();
    daemon.run().await;
    assert_eq!(approval_of(&daemon, &run).await["id"], approval["id"]);
    let crash = Crash { fake, daemon, run, marker };
    assert_eq!(crash.witnesses().len(), 1);
    crash.check().await;
}

#[tokio::test]
async fn it_happened_and_the_run_goes_on_without_it() {
    let crash = crash(2).await;
    let approval = approval_of(&crash.daemon, &crash.run).await;
    let body = json!({"decision": "approve", "outcome": "happened"});
    crash.daemon.decide(&approval, &body).await.expect(200);
    crash.daemon.wait_for(&crash.run, &["succeeded"]).await;
    assert_eq!(crash.witnesses().len(), 1);
    let seen = crash.fake.seen_of("witness");
    let told = seen.last().and_then(|s| s.results().last().map(|r| r.1.to_owned())).unwrap();
    assert!(told.contains("confirmed that it happened"), "{told}");
    crash.check().await;
}

#[tokio::test]
async fn it_did_not_happen_and_is_run_exactly_once_more() {
    let crash = crash(3).await;
    let approval = approval_of(&crash.daemon, &crash.run).await;
    let body = json!({"decision": "approve", "outcome": "run"});
    crash.daemon.decide(&approval, &body).await.expect(200);
    crash.daemon.wait_for(&crash.run, &["succeeded"]).await;
    let witnesses = crash.witnesses();
    assert_eq!(witnesses.len(), 2, "{witnesses:?}");
    assert_eq!(witnesses[0], witnesses[1], "under the same key");
    crash.check().await;
}

#[tokio::test]
async fn it_is_skipped_and_the_agent_knows() {
    let crash = crash(4).await;
    let approval = approval_of(&crash.daemon, &crash.run).await;
    let body = json!({"decision": "approve", "outcome": "skip"});
    crash.daemon.decide(&approval, &body).await.expect(200);
    crash.daemon.wait_for(&crash.run, &["succeeded"]).await;
    assert_eq!(crash.witnesses().len(), 1);
    let seen = crash.fake.seen_of("witness");
    let told = seen.last().and_then(|s| s.results().last().map(|r| r.1.to_owned())).unwrap();
    assert!(told.contains("not known"), "{told}");
    crash.check().await;
}

#[tokio::test]
async fn a_no_skips_it_too_and_an_abort_ends_the_run() {
    let skipped = crash(5).await;
    let approval = approval_of(&skipped.daemon, &skipped.run).await;
    skipped.daemon.decide(&approval, &json!({"decision": "deny"})).await.expect(200);
    skipped.daemon.wait_for(&skipped.run, &["succeeded"]).await;
    assert_eq!(skipped.witnesses().len(), 1);
    skipped.check().await;

    let aborted = crash(6).await;
    let approval = approval_of(&aborted.daemon, &aborted.run).await;
    let body = json!({"decision": "approve", "outcome": "abort"});
    aborted.daemon.decide(&approval, &body).await.expect(200);
    let run = aborted.daemon.wait_for(&aborted.run, &["cancelled"]).await;
    assert_eq!(run["error"]["code"], "run.cancelled");
    let ended = event(&aborted.daemon, &aborted.run, "run.cancelled").await;
    assert_eq!(ended["data"]["unknown_effects"], json!([approval["call_id"]]));
    assert_eq!(aborted.witnesses().len(), 1);
    aborted.check().await;
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_without_asking() {
    let fake = provider();
    // The model hangs behind an idempotent call, so the kill hits a model call.
    let write = json!({"path": "a.txt", "content": "a", "mode": "overwrite"});
    let late = Turn::text("end").after([crate::support::fake_llm::Fault::Hang; 2]);
    fake.script("harmless", [Turn::call("write_file", &write), late]);
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let run = daemon.submit("open", "script:harmless crash").await;
    for times in [2, 3] {
        crate::scenes::until_asked(&fake, "harmless", times).await;
        daemon.kill();
        daemon.run().await;
    }
    let ended = daemon.wait_for(&run, &["succeeded"]).await;
    assert_eq!(ended["output"], "end");
    let kinds = kinds(&daemon, &run).await;
    assert_eq!(kinds.iter().filter(|k| *k == "run.recovered").count(), 2);
    assert_eq!(kinds.iter().filter(|k| *k == "tool.started").count(), 1, "its result was kept");
}

#[tokio::test]
async fn a_run_that_kills_the_daemon_again_and_again_waits_for_an_operator() {
    let fake = provider();
    let mut daemon = Daemon::start(&fake.openai_url()).await;
    let run = daemon.submit("open", "script:stuck poison").await;
    for times in 1..=4 {
        crate::scenes::until_asked(&fake, "stuck", times).await;
        daemon.kill();
        daemon.run().await;
    }
    let paused = daemon.wait_for(&run, &["paused"]).await;
    assert_eq!(paused["wait_reason"], "operator");
    let (status, code) = crate::scenes::verb(&daemon, &run, "resume", &json!({})).await;
    assert_eq!((status, code.as_str()), (202, ""), "a person may send it on");
}
