//! Events of another replica's run come with the database's notice of a commit, not only with the
//! look once a second; and without notices that look brings them all.
//!
//! Nothing is compared with a fixed time: the same replicas in the same minute show both, and what is
//! judged is the ratio of the middle lags of many events.

use std::time::Duration;

use serde_json::json;

use crate::{
    scenes::until_alive,
    set::Set,
    support::{
        daemon::{ADMIN, Daemon},
        fake_llm::{Fault, Turn},
        live::Sse,
        partition::{Link, Partition},
    },
};

/// Turns of one run.
const TURNS: usize = 20;
/// With notices the middle lag is so many times shorter. Looks alone leave half a second whatever the
/// notices are, so without them this is 1; an idle machine shows 12, one with a load of six 2.5.
const RATIO: u128 = 2;

/// How late each event of a run was at a replica that does not work on it, in order of lateness.
async fn lags(set: &Set, works: &Daemon, looks: &Daemon, script: &str) -> Vec<u128> {
    // Odd times, so that they keep no step with looks.
    let pause = |n: usize| Fault::SlowBytes(Duration::from_millis(11 + 9 * (n as u64 % 7)));
    let turn = |n| Turn::call("list_files", &json!({})).after([pause(n)]);
    let turns = (0..TURNS).map(turn).chain([Turn::text("done")]);
    set.fake.script(script, turns.collect::<Vec<_>>());
    let id = works.submit("open", &format!("script:{script}")).await;
    let mut stream = Sse::open(looks, ADMIN, &id, 0).await;
    let (mut lags, mut seqs) = (Vec::new(), Vec::new());
    while let Some(event) = stream.next().await {
        let Some(seq) = event.id else { continue };
        let at: jiff::Timestamp = event.data["at"].as_str().unwrap().parse().unwrap();
        lags.push(
            u128::try_from(jiff::Timestamp::now().duration_since(at).as_millis()).unwrap_or(0),
        );
        seqs.push(seq);
    }
    let all = works.events(&id).await.len() as u64;
    assert_eq!(seqs, (1..=all).collect::<Vec<_>>(), "each once, in order");
    lags.sort_unstable();
    lags
}

#[tokio::test]
async fn a_notice_brings_events_of_another_replica_and_without_notices_the_poll_does() {
    let set = Set::new();
    let link = Partition::before(set.database.server().port());
    let tool = json!({"argv": ["/bin/sh", "-c", "sleep 300", "notice-marker-1"]});
    set.fake.script("busy", [Turn::call("exec", &tool), Turn::text("done")]);
    // It has room for one run, which it has: it only looks.
    let mut looks = set.prepare();
    looks.use_database(&set.database.url_at(link.port()));
    looks.set_env("AGENT_RUNTIME_LIMITS_ACTIVE_RUNS", "1");
    looks.run().await;
    looks.submit("open", "script:busy").await;
    until_alive("notice-marker-1", true).await;
    let works = set.replica().await;
    let told = lags(&set, &works, &looks, "told").await;
    link.set(Link::Mute);
    let polled = lags(&set, &works, &looks, "polled").await;
    link.set(Link::Open);
    let again = lags(&set, &works, &looks, "again").await;
    let middle = |lags: &[u128]| lags[lags.len() / 2];
    let (told_p50, polled_p50, again_p50) = (middle(&told), middle(&polled), middle(&again));
    println!(
        "figure: events of another replica, ms, p50 and max: with notices {told_p50} {}, without \
         {polled_p50} {}, with them again {again_p50} {}; {} events each",
        told[told.len() - 1],
        polled[polled.len() - 1],
        again[again.len() - 1],
        told.len(),
    );
    assert!(told.len() >= TURNS * 3, "{}", told.len());
    assert!(told_p50 * RATIO < polled_p50, "{told_p50} and {polled_p50}: {told:?} {polled:?}");
    assert!(again_p50 * RATIO < polled_p50, "{again_p50} and {polled_p50}: {again:?} {polled:?}");
}
