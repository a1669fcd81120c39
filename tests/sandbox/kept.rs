//! What a run keeps between its calls, and when it is given up.

use std::{sync::Arc, time::Duration};

use agent_runtime::{
    domain::{Confinement, Grant, IdSource, RunId, SystemClock, ToolCallId, ToolStatus},
    egress::Egress,
    runtime::{Redactor, Stop, Tasks},
    sandbox::{Backend, Options, Sandbox},
    tools::{self, CallContext, Tools, parse},
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{HELPER, Lab, eventually};

/// Tools with room for so many kept sandboxes.
struct Bench {
    lab: Lab,
    sandbox: Sandbox,
    tools: Tools,
    ids: IdSource,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(sessions_max: usize, session_idle: Duration) -> Self {
        let lab = Lab::new().await;
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new(Stop::default());
        let options = Options {
            enabled: true,
            min_level: Confinement::FullNoproc,
            data_dir: dir.path().to_owned(),
            processes_max: 16,
            sessions_max,
            backend: Backend::Sandbox,
        };
        let sandbox = Sandbox::start_with_helper(options, HELPER.into(), &tasks).await.unwrap();
        let egress = Egress::new(agent_runtime::egress::Options::default(), &tasks).unwrap();
        let options = tools::Options { session_idle };
        let tools = Tools::new(sandbox.clone(), egress, Redactor::default(), options, &tasks);
        let ids = IdSource::new(Arc::new(SystemClock), |bytes| getrandom::fill(bytes).unwrap());
        Self { lab, sandbox, tools, ids, _dir: dir }
    }

    fn run(&self) -> RunId {
        RunId::new(&self.ids)
    }

    /// What a script of that run says.
    async fn sh(&self, run: RunId, script: &str) -> String {
        self.sh_under(self.lab.grant(), run, script).await
    }

    async fn sh_under(&self, grant: Grant, run: RunId, script: &str) -> String {
        let cx = CallContext {
            call_id: ToolCallId::new(&self.ids),
            run,
            agent: "a".parse().unwrap(),
            stop: CancellationToken::new(),
            output: None,
            bound: None,
        };
        let call = parse("shell", &json!({ "script": script })).unwrap();
        let outcome = self.tools.invoke(&call, Arc::new(grant), cx).await.outcome;
        assert_eq!(outcome.status, ToolStatus::Ok, "{outcome:?}");
        outcome.output
    }
}

const LOOK: &str = "cat /tmp/kept 2>/dev/null || echo nothing";
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_run_finds_its_tmp_again_until_it_ends() {
    let bench = Bench::new(4, LONG).await;
    let (one, other) = (bench.run(), bench.run());
    bench.sh(one, "echo mine > /tmp/kept").await;
    assert_eq!(bench.sh(one, LOOK).await, "mine\n");
    assert_eq!(bench.sh(other, LOOK).await, "nothing\n");
    assert_eq!(bench.sandbox.sessions_free(), 2);
    bench.tools.end_run(one);
    eventually("the place is free", || bench.sandbox.sessions_free() == 3).await;
    assert_eq!(bench.sh(one, LOOK).await, "nothing\n");
}

#[tokio::test]
async fn a_call_of_another_profile_gets_another_sandbox() {
    let bench = Bench::new(4, LONG).await;
    let run = bench.run();
    bench.sh(run, "echo mine > /tmp/kept").await;
    let mut grant = bench.lab.grant();
    grant.limits.tmp_bytes /= 2;
    assert_eq!(bench.sh_under(grant.clone(), run, LOOK).await, "nothing\n");
    assert_eq!(bench.sh(run, LOOK).await, "mine\n");
    // Of many, the one that was idle longest goes.
    for n in 3..12 {
        grant.limits.tmp_bytes = (1 << 20) * n;
        bench.sh_under(grant.clone(), run, "true").await;
    }
    assert_eq!(bench.sh(run, LOOK).await, "nothing\n");
}

#[tokio::test]
async fn idle_sandboxes_of_other_runs_give_way_and_busy_ones_are_waited_for() {
    let bench = Bench::new(1, LONG).await;
    let (one, other) = (bench.run(), bench.run());
    bench.sh(one, "echo mine > /tmp/kept").await;
    let started = Instant::now();
    assert_eq!(bench.sh(other, "echo here").await, "here\n");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.sh(one, LOOK).await, "nothing\n", "its sandbox gave way");
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.sh(other, "echo later").await
    };
    let (first, second) = tokio::join!(bench.sh(one, "sleep 1; echo first"), waiting);
    assert_eq!((first.as_str(), second.as_str()), ("first\n", "later\n"));
}

#[tokio::test]
async fn an_idle_sandbox_is_reaped() {
    let bench = Bench::new(4, Duration::from_millis(300)).await;
    let run = bench.run();
    bench.sh(run, "echo mine > /tmp/kept").await;
    assert_eq!(bench.sandbox.sessions_free(), 3);
    eventually("it is reaped", || bench.sandbox.sessions_free() == 4).await;
    assert_eq!(bench.sh(run, LOOK).await, "nothing\n");
}

#[tokio::test]
async fn a_sandbox_that_died_between_two_calls_is_replaced() {
    let bench = Bench::new(4, LONG).await;
    let run = bench.run();
    bench.sh(run, "echo mine > /tmp/kept").await;
    let before = bench.sandbox.helper_pid().unwrap();
    let helper = rustix::process::Pid::from_raw(i32::try_from(before).unwrap()).unwrap();
    rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
    // Its sandboxes are told to die before anybody hears of its end.
    eventually("another helper", || bench.sandbox.helper_pid().is_some_and(|pid| pid != before))
        .await;
    assert_eq!(bench.sh(run, LOOK).await, "nothing\n");
}
