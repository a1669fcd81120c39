//! Every point with every fault.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use agent_runtime::runtime::failpoint::Point;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::scenario::Scenario;

const FAULTS: [&str; 3] = ["crash", "error", "delay"];
/// Daemons at once: most of a case is waiting.
const AT_ONCE: usize = 4;
/// Visits of one point that the long form takes: the first ones cover every kind of visit.
const VISITS_MAX: u64 = 60;

pub(crate) fn setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    std::env::var(name).ok()
}

/// Xorshift: small, and the same everywhere.
fn roll(dice: &mut u64, sides: u64) -> u64 {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    *dice % sides
}

/// One fault at one visit of one point.
#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    fault: &'static str,
    nth: u64,
}

/// What all of them came to.
#[derive(Default)]
struct Totals {
    fired: AtomicUsize,
    acknowledged: AtomicUsize,
    silent: Mutex<Vec<String>>,
    recovery_ms: Mutex<Vec<u128>>,
    broken: Mutex<Vec<String>>,
}

/// How often each point is reached when nothing goes wrong.
async fn visits() -> BTreeMap<String, u64> {
    let mut scenario = Scenario::new(0, 1);
    scenario.arm("");
    scenario.play().await;
    let (broken, _) = scenario.judge().await;
    assert!(broken.is_empty(), "without any fault: {broken:#?}");
    scenario.visits()
}

fn cases(visits: &BTreeMap<String, u64>, wanted: Option<&str>, dice: &mut u64) -> Vec<Case> {
    let is_all = wanted.is_some_and(|w| w == "all" || w.starts_with("all:"));
    let is_sample = wanted == Some("sample");
    let wanted = wanted.filter(|_| !is_sample);
    let wanted = wanted.map(|w| w.trim_start_matches("all").trim_start_matches(':'));
    let mut cases = Vec::new();
    for point in Point::ALL {
        let name = point.name();
        if wanted.is_some_and(|w| !name.starts_with(w)) {
            continue;
        }
        let count = visits.get(name).copied().unwrap_or(0);
        let one = usize::try_from(roll(dice, FAULTS.len() as u64)).expect("an index");
        for (at, fault) in FAULTS.into_iter().enumerate() {
            if is_sample && at != one {
                continue;
            }
            if is_all {
                let all = 1..=count.min(VISITS_MAX);
                cases.extend(all.map(|nth| Case { name, fault, nth }));
            } else {
                // Not the last visits: the next time there may be fewer.
                let nth = 1 + roll(dice, (count * 2 / 3).max(1));
                cases.push(Case { name, fault, nth });
            }
        }
    }
    cases
}

async fn run(n: usize, case: Case, seed: u64, totals: &Totals) {
    let order = format!("{}={}@{}", case.name, case.fault, case.nth);
    let mut scenario = Scenario::new(n + 1, seed);
    scenario.arm(&order);
    scenario.play().await;
    let (broken, recovery) = scenario.judge().await;
    if scenario.has_fired() {
        totals.fired.fetch_add(1, Ordering::SeqCst);
    } else {
        totals.silent.lock().unwrap().push(order.clone());
    }
    totals.acknowledged.fetch_add(scenario.acknowledged(), Ordering::SeqCst);
    totals.recovery_ms.lock().unwrap().push(recovery.as_millis());
    if !broken.is_empty() {
        let text = format!("{order}: {broken:#?}\n{}", scenario.log_tail());
        totals.broken.lock().unwrap().push(text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_point_loses_nothing_and_repeats_nothing() {
    let started = Instant::now();
    let seed = setting("AGENT_RUNTIME_TEST_SEED").and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or(0x5EED_2026);
    let wanted = setting("AGENT_RUNTIME_TEST_FAILPOINTS");
    let visits = visits().await;
    let missing: Vec<_> =
        Point::ALL.iter().map(|p| p.name()).filter(|n| !visits.contains_key(*n)).collect();
    assert!(missing.is_empty(), "the scenario never reaches {missing:?}");
    let mut dice = seed.max(1);
    let cases = cases(&visits, wanted.as_deref(), &mut dice);
    println!("seed {seed}, {} cases, visits {visits:?}", cases.len());
    let totals = Arc::new(Totals::default());
    let count = cases.len();
    stream::iter(cases.into_iter().enumerate())
        .for_each_concurrent(AT_ONCE, |(n, case)| {
            let totals = Arc::clone(&totals);
            async move { run(n, case, seed.wrapping_add(n as u64), &totals).await }
        })
        .await;
    let mut recovery = totals.recovery_ms.lock().unwrap().clone();
    recovery.sort_unstable();
    let fired = totals.fired.load(Ordering::SeqCst);
    println!(
        "{count} cases, {fired} faults fired, {} requests acknowledged, listening again p50 {} ms max {} ms, {} s",
        totals.acknowledged.load(Ordering::SeqCst),
        recovery[recovery.len() / 2],
        recovery[recovery.len() - 1],
        started.elapsed().as_secs()
    );
    println!("did not fire: {:?}", totals.silent.lock().unwrap());
    let broken = totals.broken.lock().unwrap();
    assert!(broken.is_empty(), "{} cases break:\n{}", broken.len(), broken.join("\n"));
    assert!(fired * 10 >= count * 8, "only {fired} of {count} faults happened");
}
