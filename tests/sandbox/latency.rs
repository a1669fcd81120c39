//! What confinement costs, next to a plain spawn in the same run. Prints a line for the report;
//! the bound is loose, since a debug build on a busy machine must not make the suite flicker.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Lab, good};

const ROUNDS: usize = 100;

fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_costs_a_few_plain_spawns() {
    let lab = Lab::new().await;
    let session = lab.sandbox.open(&lab.grant(), &CancellationToken::new()).await.unwrap();
    let (mut plain, mut first, mut later) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "the plain spawn to compare with")]
        let status = std::process::Command::new("/bin/true").status().unwrap();
        assert!(status.success());
        plain.push(begin.elapsed());
        let begin = Instant::now();
        good(lab.run(&["/bin/true"]).await);
        first.push(begin.elapsed());
        let begin = Instant::now();
        good(session.run(lab.job(&["/bin/true"]), CancellationToken::new()).await.unwrap());
        later.push(begin.elapsed());
    }
    let [(plain_50, plain_99), (first_50, first_99), (later_50, later_99)] =
        [plain, first, later].map(quantiles);
    println!(
        "spawn of /bin/true: plain p50 {plain_50:?} p99 {plain_99:?}; first call of a run \
         p50 {first_50:?} p99 {first_99:?}; later calls p50 {later_50:?} p99 {later_99:?}"
    );
    assert!(first_50 < plain_50 * 40 + Duration::from_millis(20), "{first_50:?}");
    assert!(later_50 < plain_50 * 20 + Duration::from_millis(10), "{later_50:?}");
}
