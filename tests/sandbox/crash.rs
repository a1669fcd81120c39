//! The daemon dies in the middle of a call: nothing of it may live on.

use std::{path::Path, process::Child, time::Duration};

use agent_runtime::{
    runtime::Stop,
    sandbox::{self, SandboxError},
};
use tokio_util::sync::CancellationToken;

use crate::support::{Lab, eventually, good, job, start};

/// Makes this test binary an old daemon on the directory that it names.
const OLD_DAEMON: &str = "SANDBOX_TEST_OLD_DAEMON";
/// Milliseconds that it lets its tools live; for ever where there is none.
const LET_LIVE: &str = "SANDBOX_TEST_LET_LIVE";

const SCRIPT: &str =
    "setsid sh -c 'while :; do date +%N > beat; sleep 0.02; done' & trap '' TERM; sleep 100";

/// Not a test by itself: the other process of the tests below.
#[tokio::test]
async fn old_daemon() {
    let Some(base) = std::env::var_os(OLD_DAEMON) else { return };
    let data_dir = Path::new(&base).join("data");
    let sandbox = start(&data_dir, 4, &Stop::default()).await.unwrap();
    let workspace = data_dir.join("workspaces/one");
    sandbox::prepare_workspace(&workspace).unwrap();
    if let Some(span) = std::env::var_os(LET_LIVE) {
        let span = span.to_str().unwrap().parse().unwrap();
        sandbox.let_live(Duration::from_millis(span)).unwrap();
    }
    let grant = agent_runtime::domain::Grant {
        workspace,
        paths: Vec::new(),
        commands: agent_runtime::domain::CommandRule::Any,
        may_execute_files: true,
        hosts: std::sync::Arc::default(),
        same_host_only: false,
        egress: agent_runtime::domain::EgressLimits::default(),
        limits: agent_runtime::domain::ToolLimits::default(),
    };
    let call = sandbox.run(job(grant, &["sh", "-c", SCRIPT]), CancellationToken::new());
    drop(call.await);
}

/// An old daemon with a call under way.
struct Old(Child);

impl Old {
    async fn new(base: &Path) -> Self {
        Self::that_lets_live(base, None).await
    }

    async fn that_lets_live(base: &Path, span_ms: Option<u32>) -> Self {
        std::fs::create_dir(base.join("data")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the daemon that will be killed")]
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::old_daemon"])
            .env(OLD_DAEMON, base)
            .envs(span_ms.map(|span| (LET_LIVE, span.to_string())))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let beat = base.join("data/workspaces/one/beat");
        eventually("the old daemon's call runs", || beat.exists()).await;
        Self(child)
    }
}

impl Old {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn beats(base: &Path) -> bool {
    let read = || std::fs::read(base.join("data/workspaces/one/beat")).unwrap();
    let first = read();
    tokio::time::sleep(Duration::from_millis(200)).await;
    first != read()
}

/// The recorded helper.
fn helper(base: &Path) -> rustix::process::Pid {
    let record = std::fs::read_to_string(base.join("data/tools.lock")).unwrap();
    let pid = record.split(' ').next().unwrap().parse().unwrap();
    rustix::process::Pid::from_raw(pid).unwrap()
}

#[tokio::test]
async fn a_killed_daemon_leaves_nothing_and_the_next_one_starts() {
    let base = tempfile::tempdir().unwrap();
    let mut old = Old::new(base.path()).await;
    let first = std::fs::read(base.path().join("data/workspaces/one/beat")).unwrap();
    let beat = || std::fs::read(base.path().join("data/workspaces/one/beat")).unwrap();
    eventually("the control: the call is alive", || beat() != first).await;
    old.0.kill().unwrap();
    old.0.wait().unwrap();
    let lab = Lab::reopen(base).await;
    assert!(!beats(lab.base.path()).await, "a survivor");
    assert_eq!(good(lab.sh("echo new").await), "new\n");
}

#[tokio::test]
async fn a_helper_that_is_stuck_is_killed_by_the_next_daemon() {
    let base = tempfile::tempdir().unwrap();
    let mut old = Old::new(base.path()).await;
    rustix::process::kill_process(helper(base.path()), rustix::process::Signal::STOP).unwrap();
    old.0.kill().unwrap();
    old.0.wait().unwrap();
    // The sandbox itself notices its daemon's death; only the stopped helper is left, and holds
    // the lock.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!beats(base.path()).await, "a survivor");
    let begin = tokio::time::Instant::now();
    let lab = Lab::reopen(base).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(good(lab.sh("echo new").await), "new\n");
}

#[tokio::test]
async fn an_interrupt_at_the_terminal_does_not_reach_the_helper() {
    let lab = Lab::new().await;
    let helper = lab.sandbox.helper_pid().unwrap();
    let session = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(3).unwrap().to_owned()
    };
    assert_eq!(session(helper), helper.to_string());
    assert_ne!(session(helper), session(std::process::id()));
}

#[tokio::test]
async fn a_second_daemon_neither_starts_nor_harms_the_first() {
    let base = tempfile::tempdir().unwrap();
    let old = Old::new(base.path()).await;
    let second = start(&base.path().join("data"), 4, &Stop::default()).await;
    assert!(matches!(second, Err(SandboxError::Lock(_))), "{second:?}");
    let first = std::fs::read(base.path().join("data/workspaces/one/beat")).unwrap();
    let beat = || std::fs::read(base.path().join("data/workspaces/one/beat")).unwrap();
    eventually("the first daemon's call goes on", || beat() != first).await;
    drop(old);
}

#[tokio::test]
async fn a_daemon_that_stands_still_past_its_time_loses_its_tools_and_gets_others_when_it_may() {
    let base = tempfile::tempdir().unwrap();
    let old = Old::that_lets_live(base.path(), Some(3_000)).await;
    old.signal(rustix::process::Signal::STOP);
    let read = || std::fs::read(base.path().join("data/workspaces/one/beat")).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let before = read();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if before == read() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "its tools outlive its time");
    }
    drop(old);
    // The same in one process: what fired ends each helper until there is time again.
    let lab = Lab::new().await;
    assert_eq!(good(lab.sh("true").await), "");
    lab.sandbox.let_live(Duration::ZERO).unwrap();
    let killed = lab.run_job(lab.job(&["sleep", "5"])).await;
    assert!(killed.is_err(), "{killed:?}");
    lab.sandbox.let_live(Duration::from_secs(60)).unwrap();
    let began = tokio::time::Instant::now();
    while lab.run_job(lab.job(&["true"])).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(15), "no tool works again");
    }
}

#[tokio::test]
async fn a_daemon_that_has_its_directory_alone_may_stand_still_for_as_long_as_it_likes() {
    let base = tempfile::tempdir().unwrap();
    let old = Old::new(base.path()).await;
    old.signal(rustix::process::Signal::STOP);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(beats(base.path()).await);
}
