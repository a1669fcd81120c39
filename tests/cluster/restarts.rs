//! A rolling restart: one replica after the other, under load, and no run fails.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    set::{Set, TAKEOVER, eventually},
    support::{
        daemon::{ADMIN, Daemon},
        fake_llm::{Fault, Turn},
    },
};

#[tokio::test]
async fn a_rolling_restart_fails_no_run() {
    let set = Set::new();
    let slow = Fault::SlowBytes(Duration::from_millis(40));
    set.fake.script(
        "slow",
        [Turn::call("list_files", &json!({})), Turn::text("done").after([slow, slow, slow])],
    );
    let mut replicas = [set.replica().await, set.replica().await];
    let bases =
        Arc::new(Mutex::new([replicas[0].base().to_owned(), replicas[1].base().to_owned()]));
    let is_over = Arc::new(AtomicBool::new(false));
    let client = replicas[0].http().clone();
    #[expect(clippy::disallowed_methods, reason = "a client of a test, on its own")]
    let loading = tokio::spawn(load(client, Arc::clone(&bases), Arc::clone(&is_over)));
    for n in [0, 1] {
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(replicas[n].stop().await, Some(0), "{}", replicas[n].log());
        replicas[n].run().await;
        bases.lock().unwrap()[n] = replicas[n].base().to_owned();
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    is_over.store(true, Ordering::Relaxed);
    let runs = loading.await.unwrap();
    assert!(runs.len() >= 20, "only {} runs", runs.len());
    eventually("every run's end", TAKEOVER, async || {
        let open = "SELECT COUNT(*) FROM runs WHERE state IN ('queued', 'running', 'cancelling')";
        (set.database.psql(open) == "0").then_some(())
    })
    .await;
    let ends = set.rows("SELECT state, COUNT(*) FROM runs GROUP BY state");
    assert_eq!(ends, [format!("succeeded|{}", runs.len())], "{runs:?}");
    // Who stopped in order gave its runs back: nothing was found without an owner.
    let taken = "SELECT COUNT(*) || ' ' || COALESCE(MIN(body), '') FROM events \
                 WHERE body LIKE '%run.recovered%' AND body NOT LIKE '%\"recoveries\":0%'";
    let logs = replicas.iter().map(Daemon::log).collect::<Vec<_>>().join("\n\n");
    assert_eq!(set.database.psql(taken).trim(), "0", "{logs}");
}

/// Submits runs as a client behind a load balancer does: whoever does not answer is asked no more,
/// and the same request goes to another, under the same key.
async fn load(
    client: reqwest::Client,
    bases: Arc<Mutex<[String; 2]>>,
    is_over: Arc<AtomicBool>,
) -> Vec<String> {
    let mut runs = Vec::new();
    for n in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        for attempt in n.. {
            let base = bases.lock().unwrap()[attempt % 2].clone();
            let sent = client
                .post(format!("{base}/api/v1/runs"))
                .bearer_auth(ADMIN)
                .header("idempotency-key", format!("roll-{n}"))
                .json(&json!({"agent": "open", "input": format!("script:slow {n}")}))
                .send()
                .await;
            if let Ok(answer) = sent
                && answer.status().is_success()
            {
                let run: Value = answer.json().await.unwrap();
                runs.push(run["id"].as_str().unwrap().to_owned());
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    runs
}
