//! `/bin/true`: plain, first and later calls of a run, and in bubblewrap.

use std::{process::Command, time::Duration};

use anyhow::ensure;
use tokio::time::Instant;

use crate::{
    Plan,
    bubblewrap::Bubblewrap,
    lab::{Lab, run},
    report::{Met, Report, Times, millis, rate},
};

/// Rounds whose times are not kept.
const WARM_UP: usize = 10;
/// Calls at once, where throughput is measured.
const PARALLEL: usize = 8;
/// Later calls of one run between two first ones, where throughput is measured.
const CALLS_PER_RUN: usize = 10;

pub(crate) async fn measure(report: &mut Report, lab: &Lab, plan: Plan) -> anyhow::Result<()> {
    let grant = lab.grant();
    let mut bubblewrap = Bubblewrap::new()?;
    let kept = lab.open(&grant).await?;
    let (mut bare, mut first, mut later, mut other) = (vec![], vec![], vec![], vec![]);
    for round in 0..plan.pick(400, 120) + WARM_UP {
        let began = Instant::now();
        ensure!(Command::new("/bin/true").status()?.success(), "/bin/true failed");
        let of_plain = began.elapsed();
        let began = Instant::now();
        bubblewrap.run()?;
        let of_other = began.elapsed();
        let began = Instant::now();
        let session = lab.open(&grant).await?;
        run(&session, &grant, &["/bin/true"]).await?;
        let of_first = began.elapsed();
        drop(session);
        // What dies with a session is cleaned up by the kernel meanwhile.
        tokio::time::sleep(Duration::from_millis(3)).await;
        let began = Instant::now();
        run(&kept, &grant, &["/bin/true"]).await?;
        let of_later = began.elapsed();
        if round >= WARM_UP {
            bare.push(of_plain);
            other.push(of_other);
            first.push(of_first);
            later.push(of_later);
        }
    }
    let [bare, other, first, later] = [bare, other, first, later].map(Times::new);
    let against = |times: &Times, floor: &Times| {
        times.p50().as_secs_f64() / floor.p50().as_secs_f64().max(1e-9)
    };
    let floor = format!("plain {}; bubblewrap {}", millis(bare.p50()), millis(other.p50()));
    report.row("plain process", bare.show(), "", "", Met::NotAsked);
    report.row("bubblewrap, same seccomp program", other.show(), floor.clone(), "", Met::NotAsked);
    let ratio = against(&first, &other);
    report.row(
        "first call of a run",
        format!("{} ({ratio:.2}× bubblewrap)", first.show()),
        floor.clone(),
        "≤ 0.65× bubblewrap",
        Met::of(ratio <= 0.65),
    );
    let ratio = against(&later, &other);
    report.row(
        "later calls",
        format!("{} ({ratio:.2}× bubblewrap)", later.show()),
        floor.clone(),
        "≤ 0.40× bubblewrap",
        Met::of(ratio <= 0.40),
    );
    let ratio = against(&later, &bare);
    report.row(
        "later calls",
        format!("{ratio:.2}× a plain process"),
        floor,
        "≤ 2.6× a plain process",
        Met::of(ratio <= 2.6),
    );
    throughput(report, lab, plan).await
}

/// Calls per second with eight at once.
async fn throughput(report: &mut Report, lab: &Lab, plan: Plan) -> anyhow::Result<()> {
    let each = plan.pick(150, 40);
    let bare = in_threads(each, || {
        ensure!(Command::new("/bin/true").status()?.success(), "/bin/true failed");
        Ok(())
    })?;
    let other = in_threads_with(each / 2, Bubblewrap::new, Bubblewrap::run)?;
    let kept = sandboxed(lab, each, each).await?;
    let mixed = sandboxed(lab, each, CALLS_PER_RUN).await?;
    let floor = format!("plain {bare:.0}/s; bubblewrap {other:.0}/s");
    report.row(
        "later calls, 8 at once",
        format!("{kept:.0}/s ({:.1}× bubblewrap)", kept / other),
        floor.clone(),
        "≥ 3× bubblewrap",
        Met::of(kept >= 3.0 * other),
    );
    report.row(
        format!("runs of {CALLS_PER_RUN} calls, 8 at once"),
        format!("{mixed:.0} calls/s ({:.1}× bubblewrap)", mixed / other),
        floor,
        "",
        Met::NotAsked,
    );
    Ok(())
}

fn in_threads(
    each: usize,
    run: impl Fn() -> anyhow::Result<()> + Clone + Send + 'static,
) -> anyhow::Result<f64> {
    in_threads_with(each, || Ok(()), move |()| run())
}

fn in_threads_with<T>(
    each: usize,
    make: impl Fn() -> anyhow::Result<T>,
    run: impl Fn(&mut T) -> anyhow::Result<()> + Clone + Send + 'static,
) -> anyhow::Result<f64>
where
    T: Send + 'static,
{
    let owned: Vec<T> = (0..PARALLEL).map(|_| make()).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let threads: Vec<_> = owned
        .into_iter()
        .map(|mut own| {
            let run = run.clone();
            std::thread::spawn(move || (0..each).try_for_each(|_| run(&mut own)))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_panic| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(rate(PARALLEL * each, began.elapsed()))
}

async fn sandboxed(lab: &Lab, each: usize, per_run: usize) -> anyhow::Result<f64> {
    let grant = lab.grant();
    let began = Instant::now();
    let one = || async {
        let mut done = 0;
        while done < each {
            let session = lab.open(&grant).await?;
            for _ in 0..per_run.min(each - done) {
                run(&session, &grant, &["/bin/true"]).await?;
                done += 1;
            }
        }
        anyhow::Ok(())
    };
    futures_util::future::try_join_all((0..PARALLEL).map(|_| one())).await?;
    Ok(rate(PARALLEL * each, began.elapsed()))
}
