//! The local backend: it confines nothing, says so, and does not exist outside of development.

use std::time::Duration;

use agent_runtime::{
    domain::{CommandRule, Confinement, Grant, ToolLimits},
    runtime::{Stop, Tasks},
    sandbox::{self, Backend, End, Options, Sandbox, SandboxError, TOOL_UID},
};
use tokio_util::sync::CancellationToken;

use crate::support::{eventually, good, job, text};

async fn local(base: &tempfile::TempDir, development: bool) -> (Sandbox, Grant) {
    let options = Options {
        enabled: true,
        // Of no concern to another backend than ours.
        min_level: Confinement::Full,
        data_dir: base.path().to_owned(),
        processes_max: 4,
        sessions_max: 4,
        backend: Backend::Local { development },
    };
    let sandbox = Sandbox::start(options, &Tasks::new(Stop::default())).await.unwrap();
    let workspace = base.path().join("workspaces/one");
    sandbox::prepare_workspace(&workspace).unwrap();
    // Plain processes must be able to walk to it.
    for open in [base.path(), &base.path().join("workspaces")] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(open, mode).unwrap();
    }
    let mut grant = Grant::new(workspace, CommandRule::Any);
    grant.limits = ToolLimits { wall_secs: 20, ..ToolLimits::default() };
    (sandbox, grant)
}

/// Whether a process has this text among its arguments.
fn is_alive(marker: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .map(|e| std::fs::read(e.path().join("cmdline")).unwrap_or_default())
        .any(|line| line.split(|b| *b == 0).any(|argument| argument == marker.as_bytes()))
}

#[tokio::test]
async fn outside_of_development_the_local_backend_runs_nothing() {
    let base = tempfile::tempdir().unwrap();
    let (sandbox, grant) = local(&base, false).await;
    let status = sandbox.status();
    assert!(!status.usable && status.level == Confinement::None);
    let call = job(grant.clone(), &["touch", "ran"]);
    let refused = sandbox.run(call, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(&refused, SandboxError::Unavailable { reason } if reason.contains("local")));
    assert!(!grant.workspace.join("ran").exists());
}

#[tokio::test]
async fn the_local_backend_runs_plain_processes_and_says_so_everywhere() {
    let base = tempfile::tempdir().unwrap();
    let (sandbox, grant) = local(&base, true).await;
    let status = sandbox.status();
    assert!(status.usable && status.reason.unwrap().contains("NOTHING IS CONFINED"));
    let script = "cat; pwd; id -u; env; touch made; exit 3";
    let mut call = job(grant.clone(), &["sh", "-c", script]);
    call.stdin = b"typed\n".to_vec();
    let outcome = sandbox.run(call, CancellationToken::new()).await.unwrap();
    assert_eq!((outcome.end, outcome.level), (End::Exited(3), Confinement::Local));
    let said = text(&outcome);
    assert!(said.starts_with(&format!("typed\n{}\n", grant.workspace.display())), "{said}");
    if rustix::process::geteuid().is_root() {
        assert!(said.contains(&format!("\n{TOOL_UID}\n")), "{said}");
    }
    assert!(!said.contains("CARGO"), "nothing of our environment: {said}");
    assert!(grant.workspace.join("made").exists());
    let missing = job(grant, &["no-such-program"]);
    let refused = sandbox.run(missing, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(refused, SandboxError::NotExecuted { .. }), "{refused}");
}

#[tokio::test]
async fn a_local_call_ends_with_its_process_group() {
    let base = tempfile::tempdir().unwrap();
    let (sandbox, grant) = local(&base, true).await;
    let run = |script: &str, wall: Duration, stop: CancellationToken| {
        let mut call = job(grant.clone(), &["sh", "-c", script]);
        call.wall = wall;
        sandbox.run(call, stop)
    };
    let long = Duration::from_secs(20);
    let left = run("sleep 972001 & echo left", long, CancellationToken::new()).await.unwrap();
    assert_eq!(good(left), "left\n");
    eventually("what it left is dead", || !is_alive("972001")).await;

    let script = "sleep 972002 & sleep 972002";
    let late = run(script, Duration::from_millis(500), CancellationToken::new());
    let seen = eventually("it runs", || is_alive("972002"));
    let (late, ()) = tokio::join!(late, seen);
    assert_eq!(late.unwrap().end, End::TimedOut);
    eventually("it is dead", || !is_alive("972002")).await;

    let stop = CancellationToken::new();
    let stopped = run("sleep 972003 & sleep 972003", long, stop.clone());
    let watcher = async {
        eventually("it runs", || is_alive("972003")).await;
        stop.cancel();
    };
    let (stopped, ()) = tokio::join!(stopped, watcher);
    assert_eq!(stopped.unwrap().end, End::Stopped);
    eventually("it is dead", || !is_alive("972003")).await;

    let flood = run("yes", long, CancellationToken::new()).await.unwrap();
    assert_eq!(flood.end, End::Limit("output_bytes"));
}
