//! A replica dies, or stands still: its runs go on elsewhere, nothing is done twice, and what it
//! still wants to write is refused.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    scenes::{kinds, sh, until, until_alive},
    set::{Set, TAKEOVER, eventually, until_state},
    support::{
        daemon::Daemon,
        fake_llm::{Fault, Turn},
    },
};

const STOP: i32 = 19;
const CONT: i32 = 18;

#[tokio::test]
async fn the_runs_of_a_killed_replica_go_on_at_another_and_each_duty_has_one_holder() {
    let set = Set::new();
    set.fake.script("hang", [Turn::text("late but here").after([Fault::Hang])]);
    let tool =
        json!({"argv": ["/bin/sh", "-c", "echo once >> once.log; sleep 60", "kill-marker-1"]});
    set.fake.script("work", [Turn::call("exec", &tool), Turn::text("done")]);
    let mut first = set.replica().await;
    let duties = || set.rows("SELECT name, boot_epoch, epoch FROM leases ORDER BY name");
    assert_eq!(
        duties(),
        ["audit_checkpoints|1|1", "backups|1|1", "erasures|1|1", "forgetting|1|1"]
    );
    let second = set.replica().await;
    let mut hanging = Vec::new();
    for n in 0..6 {
        hanging.push(first.submit("open", &format!("script:hang {n}")).await);
    }
    let working = first.submit("open", "script:work").await;
    for id in &hanging {
        first.wait_for(id, &["running"]).await;
    }
    let log = set.workspace("open").join("once.log");
    until("the tool at work", || log.exists().then_some(())).await;
    let owners: Vec<String> = hanging.iter().map(|id| set.owner(id)).collect();
    let own = owners.iter().filter(|owner| *owner == "1").count();
    assert!(own > 0, "who was asked works on what it was asked: {owners:?}");
    first.kill();
    let killed = tokio::time::Instant::now();
    for id in &hanging {
        until_state(&second, id, &["succeeded"]).await;
    }
    println!("figure: kill -9 to every run done elsewhere: {:?}", killed.elapsed());
    if set.owner(&working) == "1" || !fs::read_to_string(&log).unwrap().is_empty() {
        // Nobody knows what the tool did: a person is asked, and it is not started again.
        let run = until_state(&second, &working, &["paused", "running"]).await;
        if run["state"] == "paused" {
            assert_eq!(run["wait_reason"], "effect_unknown", "{run:#}");
            assert!(kinds(&second, &working).await.contains(&"run.recovered".to_owned()));
        }
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "once\n");
    eventually("another holder of each duty", TAKEOVER, async || {
        (duties() == ["audit_checkpoints|2|2", "backups|2|2", "erasures|2|2", "forgetting|2|2"])
            .then_some(())
    })
    .await;
    assert_eq!(set.rows("SELECT boot_epoch FROM replicas WHERE ended_at IS NULL"), ["2"]);
    // The same directory starts again as another replica, and both work.
    first.run().await;
    let again = first.submit("open", "script:say").await;
    until_state(&second, &again, &["succeeded"]).await;
    let live = "SELECT boot_epoch FROM replicas WHERE ended_at IS NULL ORDER BY boot_epoch";
    assert_eq!(set.rows(live), ["2", "3"]);
}

#[tokio::test]
async fn a_killed_replica_that_starts_again_at_once_recovers_its_runs_without_waiting_for_its_lease()
 {
    let set = Set::new();
    let mut only = set.replica().await;
    let id = only.submit("open", "script:hang").await;
    crate::scenes::until_asked(&set.fake, "hang", 1).await;
    only.kill();
    let began = tokio::time::Instant::now();
    only.run().await;
    until_state(&only, &id, &["succeeded"]).await;
    println!("figure: kill -9, start again, run done: {:?}", began.elapsed());
    // Its lease would have lasted for fifteen seconds.
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
}

async fn stands_still(set: &Set, first: &Daemon, second: &mut Daemon) {
    let log = set.workspace("open").join("starts.log");
    let beat = set.workspace("open").join("beat.log");
    let script = "echo start >> starts.log; [ $(wc -l < starts.log) -ge 2 ] && exit 0; \
                  while :; do echo . >> beat.log; sleep 0.02; done";
    set.fake.script("beat", [Turn::call("exec", &sh(script)), Turn::text("done")]);
    let id = first.submit("open", "script:beat").await;
    until("the tool at work", || beat.exists().then_some(())).await;
    assert_eq!(set.owner(&id), "1");
    // Only now, so that it does not claim the run.
    second.run().await;
    let second = &*second;
    first.signal(STOP);
    // Whoever takes over must find that nothing of the other one's is alive.
    let run = until_state(second, &id, &["paused"]).await;
    let (size, starts) = (fs::metadata(&beat).unwrap().len(), fs::read_to_string(&log).unwrap());
    assert_eq!(run["wait_reason"], "effect_unknown", "{run:#}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fs::metadata(&beat).unwrap().len(), size, "two epochs execute one run");
    assert_eq!(starts, "start\n");
    let asked = second.pending(&id).await;
    let decision = json!({"decision": "approve", "outcome": "run"});
    let told = second.decide(&asked[0], &decision).await;
    assert!(told.status.is_success(), "{}", told.text);
    until_state(second, &id, &["succeeded"]).await;
    let before = second.events(&id).await;
    first.signal(CONT);
    eventually("the one that stood still joins again", TAKEOVER, async || {
        (set.rows("SELECT boot_epoch FROM replicas WHERE ended_at IS NULL ORDER BY boot_epoch")
            == ["2", "3"])
        .then_some(())
    })
    .await;
    eventually("it is ready again", TAKEOVER, async || {
        first.get("/readyz").await.status.is_success().then_some(())
    })
    .await;
    assert_eq!(second.events(&id).await, before, "it wrote under an old epoch");
    assert_eq!(first.events(&id).await, before);
    assert_eq!(fs::read_to_string(&log).unwrap(), "start\nstart\n");
    let next = first.submit("open", "script:exec").await;
    until_state(first, &next, &["succeeded"]).await;
}

#[tokio::test]
async fn a_replica_that_stands_still_past_its_lease_commits_nothing_and_runs_nothing_twice() {
    let set = Set::new();
    let first = set.replica().await;
    let mut second = set.prepare();
    stands_still(&set, &first, &mut second).await;
    assert!(first.log().contains("joined the replicas again"), "{}", first.log());
}

#[tokio::test]
async fn a_replica_without_its_database_stops_its_work_says_so_and_joins_again() {
    let set = Set::new();
    let tool = json!({"argv": ["/bin/sh", "-c", "sleep 300", "fence-marker-1"]});
    set.fake.script("sleep", [Turn::call("exec", &tool), Turn::text("done")]);
    let proxy = crate::support::partition::Partition::before(set.database.server().port());
    let mut only = set.prepare();
    only.set_env("AGENT_RUNTIME_DATABASE_URL", &set.database.url_at(proxy.port()));
    only.run().await;
    let id = only.submit("open", "script:sleep").await;
    until_alive("fence-marker-1", true).await;
    proxy.set(crate::support::partition::Link::Dropped);
    until_gone("fence-marker-1").await;
    let ready = only.get("/readyz").await;
    assert_eq!(ready.status.as_u16(), 503);
    assert_eq!(ready.json()["checks"]["replica"]["ok"], false, "{}", ready.text);
    proxy.set(crate::support::partition::Link::Open);
    eventually("it is ready again", TAKEOVER, async || {
        only.get("/readyz").await.status.is_success().then_some(())
    })
    .await;
    let run = until_state(&only, &id, &["paused"]).await;
    assert_eq!(run["wait_reason"], "effect_unknown", "{run:#}");
}

/// The lease is over before its tools would be taken from it.
async fn until_gone(marker: &str) {
    let began = tokio::time::Instant::now();
    while crate::scenes::is_alive(marker) {
        assert!(began.elapsed() < Duration::from_secs(15), "it outlives the lease");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
