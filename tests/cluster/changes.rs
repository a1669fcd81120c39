//! A change at one replica is in force at the others when its answer comes.

use std::fs;

use serde_json::{Value, json};

use crate::{
    scenes::{event, sh, until},
    set::Set,
    support::{
        daemon::{ALICE, Daemon},
        fake_llm::Turn,
    },
};

const NO_ECHO: &str = "version = 1\n[[rule]]\nname = \"no-echo\"\neffect = \"deny\"\n\
                       command = [[\"/bin/echo\"]]\nreason = \"nobody echoes here\"\n";

async fn said(daemon: &Daemon, args: &[&str]) -> Value {
    daemon.cli(&[args, &["--json"]].concat()).await.json()
}

async fn me(daemon: &Daemon, token: &str) -> u16 {
    let path = "/api/v1/me";
    daemon.call(reqwest::Method::GET, path, token, None).await.unwrap().status.as_u16()
}

#[tokio::test]
async fn a_token_made_or_revoked_at_one_replica_is_so_at_the_other_when_the_answer_comes() {
    let set = Set::new();
    let (a, b) = (set.replica().await, set.replica().await);
    // Five wrong tokens lock an address out, at each replica.
    for n in 0..3 {
        let name = format!("ann{n}");
        said(&a, &["principal", "create", &name, "--role", "member"]).await;
        let made = said(&a, &["token", "create", &name]).await;
        let token = made["token"].as_str().unwrap();
        assert_eq!(me(&b, token).await, 200, "round {n}");
        let id = made["id"].as_str().unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(a.cli(&["token", "revoke", id]).await.code, Some(0));
        println!("figure: a revocation, in force at two replicas: {:?}", began.elapsed());
        assert_eq!(me(&b, token).await, 401, "round {n}");
    }
    // Somebody of the configuration too.
    assert_eq!(me(&b, ALICE).await, 200);
    assert_eq!(a.cli(&["principal", "disable", "alice"]).await.code, Some(0));
    assert_eq!(me(&b, ALICE).await, 401);
}

#[tokio::test]
async fn a_policy_put_at_one_replica_decides_at_the_other_when_the_answer_comes() {
    let set = Set::new();
    let (a, b) = (set.replica().await, set.replica().await);
    let echo = json!({"argv": ["/bin/echo", "hello"]});
    set.fake.script("hello", [Turn::call("exec", &echo), Turn::text("done")]);
    let file = a.dir().join("rules.toml");
    fs::write(&file, NO_ECHO).unwrap();
    let before = b.submit("open", "script:hello 1").await;
    b.wait_for(&before, &["succeeded"]).await;
    let first = event(&b, &before, "tool.completed").await;
    assert_eq!(first["data"]["status"], "ok", "{first:#}");
    let put = a.cli(&["policy", "put", file.to_str().unwrap()]).await;
    assert_eq!(put.code, Some(0), "{put:?}");
    let shown = said(&b, &["policy", "show"]).await;
    assert!(shown.to_string().contains("no-echo"), "{shown:#}");
    let after = b.submit("open", "script:hello 2").await;
    b.wait_for(&after, &["succeeded"]).await;
    let denied = event(&b, &after, "tool.denied").await;
    assert!(denied.to_string().contains("no-echo"), "{denied:#}");
}

#[tokio::test]
async fn a_lockdown_at_one_replica_stops_the_other_before_its_answer_and_ends_there_too() {
    let set = Set::new();
    let (a, b) = (set.replica().await, set.replica().await);
    let script = "while :; do echo . >> beat.log; sleep 0.01; done";
    set.fake.script("beat", [Turn::call("exec", &sh(script)), Turn::text("done")]);
    let beat = set.workspace("open").join("beat.log");
    let id = b.submit("open", "script:beat").await;
    until("the tool at work", || beat.exists().then_some(())).await;
    let began = tokio::time::Instant::now();
    let told = said(&a, &["lockdown", "on", "--reason", "drill"]).await;
    println!("figure: a lockdown of two replicas: {:?}", began.elapsed());
    let size = fs::metadata(&beat).unwrap().len();
    assert_eq!(told["stopped"]["is_done"], true, "{told:#}");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(fs::metadata(&beat).unwrap().len(), size, "a tool wrote after the answer");
    let run = b.run_of(&id).await;
    assert_eq!((&run["state"], &run["wait_reason"]), (&json!("paused"), &json!("lockdown")));
    let body = json!({"agent": "open", "input": "script:say"});
    assert_eq!(b.post("/api/v1/runs", &body).await.code(), "lockdown");
    assert_eq!(a.cli(&["lockdown", "off"]).await.code, Some(0));
    let next = b.post("/api/v1/runs", &body).await.expect(202);
    b.wait_for(next["id"].as_str().unwrap(), &["succeeded"]).await;
}
