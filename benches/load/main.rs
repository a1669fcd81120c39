//! `cargo bench --bench load -- [--quick] [--store sqlite|postgres] [--statements] [--only NAME]
//! [--program PATH]`: the real daemon under load on loopback, next to floors measured in the same run.
//! See `docs/PERFORMANCE.md`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a program at a terminal that starts the daemon, its own threads and plain tasks"
)]

mod claims;
mod client;
mod commits;
mod daemon;
mod fake;
mod health;
mod live;
mod lockdown;
mod place;
#[expect(
    clippy::expect_used,
    clippy::panic,
    reason = "shared with the tests; a server that does not start ends the benchmark"
)]
#[path = "../../tests/support/postgres/mod.rs"]
mod postgres;
mod recovery;
mod report;
mod runs;
mod scale;
mod seed;
mod spawn;
mod start;

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::timeout;

use crate::{fake::Fake, report::Report};

/// Longest time of one part.
const PART_MAX: Duration = Duration::from_secs(180);
/// The same of the one that stores a million runs first.
const SCALE_MAX: Duration = Duration::from_secs(3_600);
/// The parts, in order.
const PARTS: [&str; 10] = [
    "start", "commits", "claims", "spawn", "runs", "health", "live", "lockdown", "recovery",
    "scale",
];
/// Those that have nothing to do with the store.
const WITHOUT_STORE: [&str; 2] = ["spawn", "health"];

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    is_quick: bool,
}

impl Plan {
    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }
}

fn main() -> anyhow::Result<()> {
    let (mut plan, mut only) = (Plan { is_quick: false }, Vec::new());
    let (mut is_postgres, mut counts_statements) = (false, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Cargo adds it to every bench.
            "--bench" => {}
            "--quick" => plan.is_quick = true,
            "--program" => {
                daemon::choose(args.next().context("--program needs a path")?.into());
            }
            "--store" => match args.next().as_deref() {
                Some("sqlite") => is_postgres = false,
                Some("postgres") => is_postgres = true,
                _ => bail!("--store takes sqlite or postgres"),
            },
            "--statements" => counts_statements = true,
            "--only" => {
                let name = args.next().context("--only needs a name")?;
                if !PARTS.contains(&name.as_str()) {
                    bail!("--only takes one of {}", PARTS.join(", "));
                }
                only.push(name);
            }
            other => bail!(
                "unknown argument {other:?}: [--quick] [--store sqlite|postgres] [--statements] \
                 [--only NAME]… [--program PATH]"
            ),
        }
    }
    if is_postgres {
        place::use_postgres(counts_statements);
    }
    let parts: Vec<&str> = PARTS.into_iter().filter(|part| is_asked(part, &only)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::default();
    let failed = runtime.block_on(all(&mut report, plan, &parts))?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let store = if place::is_postgres() { "Postgres" } else { "SQLite" };
    println!("\n{store}, {cores} processors, load average at the end {}\n", load.trim());
    report.print();
    if !failed.is_empty() {
        bail!("these parts failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Whether a part is measured: one that was named, or each that says something about this store.
fn is_asked(part: &str, only: &[String]) -> bool {
    if only.is_empty() {
        !(place::is_postgres() && WITHOUT_STORE.contains(&part))
    } else {
        only.iter().any(|name| name == part)
    }
}

/// Measures part after part; a part that fails does not take the others with it.
async fn all(report: &mut Report, plan: Plan, parts: &[&str]) -> anyhow::Result<Vec<String>> {
    let fake = Fake::start()?;
    let mut failed = Vec::new();
    for part in parts {
        eprintln!("{part}:");
        let most = if *part == "scale" { SCALE_MAX } else { PART_MAX };
        let done = timeout(most, async {
            match *part {
                "start" => Box::pin(start::measure(report, &fake, plan)).await,
                "commits" => Box::pin(commits::measure(report, plan)).await,
                "claims" => Box::pin(claims::measure(report, &fake, plan)).await,
                "spawn" => Box::pin(spawn::measure(report, plan)).await,
                "runs" => Box::pin(runs::measure(report, &fake, plan)).await,
                "health" => Box::pin(health::measure(report, &fake, plan)).await,
                "live" => Box::pin(live::measure(report, &fake, plan)).await,
                "lockdown" => Box::pin(lockdown::measure(report, &fake, plan)).await,
                "recovery" => Box::pin(recovery::measure(report, &fake, plan)).await,
                _ => Box::pin(scale::measure(report, &fake, plan)).await,
            }
        });
        let done = done.await.context("took too long").and_then(|done| done);
        if let Err(error) = done {
            eprintln!("  FAILED: {error:#}");
            failed.push(format!("{part} ({error:#})"));
        }
    }
    Ok(failed)
}
