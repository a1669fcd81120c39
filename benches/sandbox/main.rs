//! `cargo bench --bench sandbox -- [--quick]`: what confinement costs, beside a plain process and
//! beside bubblewrap with the same seccomp program, turn by turn in one run; then what the way out
//! costs beside a direct connection. See `docs/PERFORMANCE.md`.
//!
//! Needs bubblewrap and curl (`ops/bench.sh` installs them).
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program at a terminal that starts plain processes to compare with"
)]

mod bubblewrap;
mod lab;
#[path = "../load/report.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod report;
mod spawn;
mod way_out;

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
    let mut plan = Plan { is_quick: false };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // Cargo adds it to every bench.
            "--bench" => {}
            "--quick" => plan.is_quick = true,
            other => anyhow::bail!("unknown argument {other:?}: [--quick]"),
        }
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::default();
    runtime.block_on(async {
        let lab = lab::Lab::start().await?;
        Box::pin(spawn::measure(&mut report, &lab, plan)).await?;
        Box::pin(way_out::measure(&mut report, &lab, plan)).await
    })?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\n{cores} processors, load average at the end {}\n", load.trim());
    report.print();
    Ok(())
}
