//! A confined process next to a plain one, turn by turn, through the library.

use std::{process::Command, sync::Arc, time::Duration};

use agent_runtime::{
    domain::{CommandRule, Confinement, Grant, ToolLimits},
    runtime::{Stop, Tasks},
    sandbox::{End, Job, Options, Sandbox, prepare_workspace},
};
use anyhow::ensure;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Plan,
    daemon::program,
    report::{Met, Report, Times, millis},
};

pub(crate) async fn measure(report: &mut Report, plan: Plan) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("art-bench-").tempdir()?;
    let data_dir = dir.path().join("data");
    std::fs::create_dir(&data_dir)?;
    let workspace = data_dir.join("workspaces/bench");
    prepare_workspace(&workspace)?;
    let stop = Stop::default();
    let tasks = Tasks::new(stop.clone());
    let options = Options {
        enabled: true,
        min_level: Confinement::FullNoproc,
        data_dir,
        processes_max: 4,
        sessions_max: 8,
        backend: agent_runtime::sandbox::Backend::Sandbox,
    };
    let sandbox = Sandbox::start_with_helper(options, program().to_owned(), &tasks).await?;
    let status = sandbox.status();
    ensure!(status.usable, "the sandbox is not usable: {:?}", status.reason);
    let grant = Arc::new(Grant {
        workspace,
        paths: Vec::new(),
        commands: CommandRule::Any,
        may_execute_files: true,
        hosts: std::sync::Arc::default(),
        same_host_only: false,
        egress: agent_runtime::domain::EgressLimits::default(),
        limits: ToolLimits::default(),
    });
    let (mut bare, mut confined) = (Vec::new(), Vec::new());
    for round in 0..plan.pick(600, 150) {
        let began = Instant::now();
        ensure!(Command::new("/bin/true").status()?.success(), "/bin/true failed");
        let of_plain = began.elapsed();
        let job = Job {
            grant: Arc::clone(&grant),
            argv: vec!["/bin/true".to_owned()],
            env: Vec::new(),
            cwd: ".".to_owned(),
            stdin: Vec::new(),
            wall: Duration::from_secs(10),
            output: None,
            bound: None,
        };
        let began = Instant::now();
        let outcome = sandbox.run(job, CancellationToken::new()).await?;
        ensure!(outcome.end == End::Exited(0), "the tool ended with {:?}", outcome.end);
        // The first calls warm both sides up.
        if round >= 10 {
            bare.push(of_plain);
            confined.push(began.elapsed());
        }
    }
    stop.hard();
    let (bare, confined) = (Times::new(bare), Times::new(confined));
    let ratio = confined.p50().as_secs_f64() / bare.p50().as_secs_f64();
    report.row(
        format!("tool spawn, /bin/true, level {}", status.level.as_str()),
        format!("{} ({ratio:.1}×)", confined.show()),
        format!("plain spawn p50 {}, p99 {}", millis(bare.p50()), millis(bare.p99())),
        "",
        Met::NotAsked,
    );
    Ok(())
}
