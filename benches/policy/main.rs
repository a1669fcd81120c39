//! `cargo bench --bench policy -- [--quick] [--only NAME]`: what a decision costs under a policy of 1,000 rules, and what
//! the check of who asks adds to a request. See `docs/PERFORMANCE.md`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a program at a terminal that starts the daemon and measures with the plain clock"
)]

#[path = "../load/client.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod client;
#[path = "../load/daemon.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod daemon;
mod decide;
#[path = "../load/fake.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod fake;
#[path = "../load/place.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod place;
#[expect(
    clippy::expect_used,
    clippy::panic,
    reason = "shared with the tests; a server that does not start ends the benchmark"
)]
#[path = "../../tests/support/postgres/mod.rs"]
mod postgres;
#[path = "../load/report.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod report;
mod request;
mod rules;

use report::Report;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
struct Plan {
    is_quick: bool,
}

impl Plan {
    const fn pick(self, full: usize, quick: usize) -> usize {
        if self.is_quick { quick } else { full }
    }
}

fn main() -> anyhow::Result<()> {
    let (mut plan, mut only) = (Plan { is_quick: false }, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo adds it to every bench.
            "--bench" => {}
            "--quick" => plan.is_quick = true,
            "--only" => only = arguments.next(),
            other => anyhow::bail!("unknown argument {other:?}: [--quick] [--only decide|request]"),
        }
    }
    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let mut report = Report::default();
    if is_wanted("decide") {
        decide::measure(&mut report, plan)?;
    }
    if is_wanted("request") {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(request::measure(&mut report, plan))?;
    }
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\n{cores} processors, load average at the end {}\n", load.trim());
    report.print();
    Ok(())
}
