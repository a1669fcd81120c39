//! What confinement costs, next to a plain spawn in the same run. Prints a line for the report;
//! the bound is loose, since a debug build on a busy machine must not make the suite flicker.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Lab, good};

const ROUNDS: usize = 100;

fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_costs_a_few_plain_spawns() {
    let lab = Lab::new().await;
    let (mut plain, mut confined) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "the plain spawn to compare with")]
        let status = std::process::Command::new("/bin/true").status().unwrap();
        assert!(status.success());
        plain.push(begin.elapsed());
        let begin = Instant::now();
        good(lab.run(&["/bin/true"]).await);
        confined.push(begin.elapsed());
    }
    let ((plain_50, plain_99), (confined_50, confined_99)) =
        (quantiles(plain), quantiles(confined));
    println!(
        "spawn of /bin/true: plain p50 {plain_50:?} p99 {plain_99:?}; \
         confined p50 {confined_50:?} p99 {confined_99:?}"
    );
    assert!(confined_50 < plain_50 * 40 + Duration::from_millis(20), "{confined_50:?}");
}
