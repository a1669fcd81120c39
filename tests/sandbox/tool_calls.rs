//! Tool calls through their one door, in the real sandbox.

use std::{path::Path, sync::Arc, time::Duration};

use agent_runtime::{
    domain::{
        Access, Confinement, Grant, IdSource, RunId, SystemClock, ToolCallId, ToolOutcome,
        ToolStatus, event::OutputStream,
    },
    egress::Egress,
    runtime::{Redactor, Stop, Tasks},
    sandbox::{Backend, Options, Sandbox, SandboxError},
    tools::{CallContext, Tools, parse},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{HELPER, Lab, allow, eventually, good, job, settled};

fn context() -> CallContext {
    let ids = IdSource::new(Arc::new(SystemClock), |bytes| getrandom::fill(bytes).unwrap());
    CallContext {
        call_id: ToolCallId::new(&ids),
        run: RunId::new(&ids),
        agent: "a".parse().unwrap(),
        stop: CancellationToken::new(),
        output: None,
        bound: None,
    }
}

/// Tools in this sandbox; what they keep lives as long as the runtime.
pub(crate) fn tools_in(sandbox: Sandbox, redactor: Redactor) -> Tools {
    let tasks = Tasks::new(Stop::default());
    let egress = Egress::new(agent_runtime::egress::Options::default(), &tasks).unwrap();
    Tools::new(sandbox, egress, redactor, agent_runtime::tools::Options::default(), &tasks)
}

pub(crate) struct Bench {
    pub(crate) lab: Lab,
    tools: Tools,
    redactor: Redactor,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let lab = Lab::new().await;
        let redactor = Redactor::default();
        Self { tools: tools_in(lab.sandbox.clone(), redactor.clone()), lab, redactor }
    }

    pub(crate) async fn call(&self, tool: &str, args: Value) -> ToolOutcome {
        self.call_under(self.lab.grant(), tool, args, context()).await
    }

    pub(crate) async fn call_as(&self, grant: Grant, tool: &str, args: Value) -> ToolOutcome {
        self.call_under(grant, tool, args, context()).await
    }

    async fn call_under(
        &self,
        grant: Grant,
        tool: &str,
        args: Value,
        cx: CallContext,
    ) -> ToolOutcome {
        self.tools.invoke(&parse(tool, &args).unwrap(), Arc::new(grant), cx).await.outcome
    }
}

#[tokio::test]
async fn a_program_gives_its_output_and_its_code() {
    let bench = Bench::new().await;
    let cx = context();
    let id = cx.call_id.to_string();
    let args = json!({
        "argv": ["sh", "-c", "cat; echo $X $AGENT_RUNTIME_CALL_ID; pwd; exit 4"],
        "stdin": "in ", "env": {"X": "x", "AGENT_RUNTIME_CALL_ID": "forged"}, "cwd": "./sub/.",
    });
    bench.call("write_file", json!({"path": "sub/f", "content": "", "mode": "create"})).await;
    let outcome = bench.call_under(bench.lab.grant(), "exec", args, cx).await;
    let sub = bench.lab.workspace.join("sub");
    assert_eq!(outcome.output, format!("in x {id}\n{}\n", sub.display()));
    assert_eq!((outcome.status, outcome.exit_code), (ToolStatus::Error, Some(4)));
    assert_eq!(outcome.confinement, Some(Confinement::Full));
    let stops_at_first_error = bench.call("shell", json!({"script": "false\necho on"})).await;
    assert_eq!(stops_at_first_error.exit_code, Some(1));
    assert_eq!(stops_at_first_error.output, "");
}

#[tokio::test]
async fn what_a_file_tool_writes_a_program_can_change_and_the_other_way_round() {
    let bench = Bench::new().await;
    for n in 0..2 {
        let write = json!({"path": "a/b/f", "content": "file tool\n", "mode": "overwrite"});
        assert_eq!(bench.call("write_file", write).await.status, ToolStatus::Ok);
        let script = format!("echo program >> a/b/f; echo more > a/b/g{n}; chmod 600 a/b/f");
        let outcome = bench.call("shell", json!({"script": script})).await;
        assert_eq!(outcome.status, ToolStatus::Ok, "{}", outcome.output);
        let edit = json!({"path": "a/b/f", "old": "program", "new": "both"});
        assert_eq!(bench.call("edit_file", edit).await.status, ToolStatus::Ok);
        let read = bench.call("exec", json!({"argv": ["cat", "a/b/f"]})).await;
        assert_eq!(read.output, "file tool\nboth\n");
    }
}

#[tokio::test]
async fn every_bad_end_is_told_as_what_it_is() {
    let bench = Bench::new().await;
    let timeout = json!({"argv": ["sleep", "30"], "timeout_secs": 1});
    let outcome = bench.call("exec", timeout).await;
    assert_eq!(outcome.status, ToolStatus::Timeout);
    assert!(outcome.output.contains("killed after 1 s"), "{}", outcome.output);
    let outcome = bench.call("shell", json!({"script": "kill -SEGV $$"})).await;
    assert_eq!(outcome.status, ToolStatus::Killed);
    let mut grant = bench.lab.grant();
    grant.limits.output_bytes = 1_000;
    let outcome = bench.call_under(grant, "exec", json!({"argv": ["yes"]}), context()).await;
    assert_eq!((outcome.status, outcome.truncated), (ToolStatus::Limit, true));
    assert!(outcome.output.len() < 1_600);
    let outcome = bench.call("exec", json!({"argv": ["no-such-program"]})).await;
    assert_eq!(outcome.status, ToolStatus::Error);
    assert_eq!(
        outcome.output,
        "cannot run no-such-program: No such file or directory (os error 2); `no-such-program` is \
         not installed on this machine"
    );
    for cwd in ["..", "/etc", "../two"] {
        let outcome = bench.call("exec", json!({"argv": ["pwd"], "cwd": cwd})).await;
        assert_eq!(outcome.status, ToolStatus::Error);
        assert!(outcome.output.contains("outside"), "{}", outcome.output);
    }
    let cx = context();
    let stop = cx.stop.clone();
    let args = json!({"argv": ["sleep", "30"]});
    let call = bench.call_under(bench.lab.grant(), "exec", args, cx);
    let (outcome, ()) = tokio::join!(call, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
    });
    assert_eq!(outcome.status, ToolStatus::Killed);
}

#[tokio::test]
async fn a_registered_secret_leaves_neither_in_the_output_nor_live() {
    let bench = Bench::new().await;
    bench.redactor.register("hunter2-hunter2");
    let (sender, mut live) = mpsc::channel(8);
    let cx = CallContext { output: Some(sender), ..context() };
    let args = json!({"argv": ["echo", "it is hunter2-hunter2"]});
    let outcome = bench.call_under(bench.lab.grant(), "exec", args, cx).await;
    assert_eq!(outcome.output, "it is [redacted]\n");
    // What could be the beginning of a secret is held back until more is known: pieces may differ.
    let mut told = String::new();
    while let Ok((stream, piece)) = live.try_recv() {
        assert_eq!(stream, OutputStream::Stdout);
        told.push_str(&piece);
    }
    assert_eq!(told, "it is [redacted]\n");
}

#[tokio::test]
async fn without_a_sandbox_nothing_runs_and_file_tools_still_work() {
    let base = tempfile::tempdir().unwrap();
    let lab_directory = base.path().join("ws");
    std::fs::create_dir(&lab_directory).unwrap();
    let grant = || Grant {
        workspace: lab_directory.clone(),
        paths: Vec::new(),
        commands: agent_runtime::domain::CommandRule::Any,
        may_execute_files: true,
        hosts: std::sync::Arc::default(),
        same_host_only: false,
        egress: agent_runtime::domain::EgressLimits::default(),
        limits: agent_runtime::domain::ToolLimits::default(),
    };
    let options = |name: &str, enabled, min_level| {
        let data_dir = base.path().join(name);
        std::fs::create_dir(&data_dir).unwrap();
        Options {
            enabled,
            min_level,
            data_dir,
            processes_max: 1,
            sessions_max: 8,
            backend: Backend::Sandbox,
        }
    };
    let minimum = Confinement::FullNoproc;
    for (options, helper, why) in [
        (options("off", false, minimum), HELPER, "turned off"),
        // A helper that ends at once, one that never answers, and one that is not there.
        (options("dead", true, minimum), "/bin/false", "helper"),
        (options("missing", true, minimum), "/nonexistent/helper", "No such file"),
    ] {
        let stop = Stop::default();
        let tasks = Tasks::new(stop.clone());
        let sandbox = Sandbox::start_with_helper(options, helper.into(), &tasks).await.unwrap();
        let status = sandbox.status();
        assert_eq!((status.level, status.usable), (Confinement::None, false), "{why}");
        let refused = sandbox.run(job(grant(), &["touch", "ran"]), CancellationToken::new()).await;
        assert!(matches!(refused, Err(SandboxError::Unavailable { .. })), "{refused:?}");
        let tools = tools_in(sandbox, Redactor::default());
        let call = parse("exec", &json!({"argv": ["touch", "ran"]})).unwrap();
        let outcome = tools.invoke(&call, Arc::new(grant()), context()).await.outcome;
        assert_eq!((outcome.status, outcome.confinement), (ToolStatus::Error, None));
        assert!(outcome.output.contains("agent-runtime doctor"), "{}", outcome.output);
        assert!(outcome.output.contains(why), "{} has no `{why}`", outcome.output);
        let list = parse("list_files", &json!({})).unwrap();
        let outcome = tools.invoke(&list, Arc::new(grant()), context()).await.outcome;
        assert_eq!(outcome.output, "(nothing)\n", "nothing was run");
        stop.hard();
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_a_tree_is_not_followed() {
    let lab = Lab::new().await;
    let alias = lab.base.path().join("alias");
    let harmless = lab.base.path().join("harmless");
    std::fs::create_dir(&harmless).unwrap();
    let list = async |path: &Path| {
        let mut grant = lab.grant();
        grant.paths = vec![allow(path, Access::Ro)];
        lab.run_job(job(grant, &["ls", path.to_str().unwrap()])).await
    };
    good(list(&harmless).await.unwrap());
    for target in [lab.base.path().join("data"), harmless] {
        drop(std::fs::remove_file(&alias));
        std::os::unix::fs::symlink(target, &alias).unwrap();
        let refused = list(&alias).await;
        assert!(matches!(refused, Err(SandboxError::Setup { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_tool_cannot_move_a_tree_away_and_put_a_link_in_its_place() {
    let bench = Bench::new().await;
    let shared = bench.lab.base.path().join("shared");
    agent_runtime::sandbox::prepare_workspace(&shared).unwrap();
    let secret = bench.lab.base.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "hunter2").unwrap();
    let fixed = shared.join("a/fixed");
    let grant = |rules| Grant { paths: rules, ..bench.lab.grant() };
    let nested = || grant(vec![allow(&shared, Access::Rw), allow(&fixed, Access::Ro)]);
    let sh = |script: String| json!({"argv": ["sh", "-c", script]});
    let script =
        sh(format!("cd {} && mkdir -p a/fixed && echo ok > a/fixed/key", shared.display()));
    let whole = grant(vec![allow(&shared, Access::Rw)]);
    let first = bench.call_under(whole, "exec", script, context()).await;
    assert_eq!(first.status, ToolStatus::Ok, "{first:?}");
    let read = json!({"path": fixed.join("key")});
    let before = bench.call_under(nested(), "read_file", read.clone(), context()).await;
    assert_eq!(before.output, "ok\n");
    // A directory that holds a mount point may be renamed, unlike the mount point.
    let swap = sh(format!(
        "cd {} && mv a b && mkdir a && ln -s {} a/fixed",
        shared.display(),
        secret.display()
    ));
    let moved = bench.call_under(nested(), "exec", swap, context()).await;
    assert_eq!(moved.status, ToolStatus::Ok, "{moved:?}");
    assert_eq!(std::fs::read(fixed.join("key")).unwrap(), b"hunter2", "the control");
    let other_agent = || grant(vec![allow(&fixed, Access::Ro)]);
    for rules in [nested(), other_agent()] {
        let after = bench.call_under(rules.clone(), "read_file", read.clone(), context()).await;
        assert_eq!(after.status, ToolStatus::Error, "{after:?}");
        let cat = json!({"argv": ["cat", fixed.join("key")]});
        let after = bench.call_under(rules, "exec", cat, context()).await;
        assert_eq!(after.status, ToolStatus::Error, "{after:?}");
        assert!(!after.output.contains("hunter2"), "{after:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_belongs_to_whoever_may_replace_it() {
    use std::os::unix::fs::{MetadataExt, chown};
    let bench = Bench::new().await;
    let path = bench.lab.workspace.join("f");
    std::fs::write(&path, "old").unwrap();
    let own = path.metadata().unwrap().uid();
    let (owners, after) = if own == 0 {
        (vec![0, 1_234], agent_runtime::sandbox::TOOL_UID)
    } else {
        (vec![own], own)
    };
    for before in owners {
        std::fs::write(&path, "old").unwrap();
        chown(&path, Some(before), None).unwrap();
        let edit = json!({"path": "f", "old": "old", "new": "new"});
        assert_eq!(bench.call("edit_file", edit).await.status, ToolStatus::Ok);
        assert_eq!(path.metadata().unwrap().uid(), after, "the workspace is the tools' own");
    }
}

#[tokio::test]
async fn a_tree_below_a_private_directory_is_reached_and_a_build_works() {
    // As `cargo` set it at compile time: usually below a home directory of mode 0700.
    let cargo = Path::new(env!("CARGO"));
    let toolchain = cargo.parent().unwrap().parent().unwrap();
    let lab = Lab::new().await;
    let private = lab.base.path().join("data");
    std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    let mut grant = lab.grant();
    grant.paths = vec![allow(toolchain, Access::Ro)];
    let script = format!(
        "export PATH={}:$PATH CARGO_HOME=$PWD/.cargo; cargo new -q --vcs none p && cd p && cargo run -q",
        cargo.parent().unwrap().display()
    );
    let outcome = lab.run_job(job(grant, &["sh", "-c", &script])).await.unwrap();
    assert_eq!(good(outcome), "Hello, world!\n");
}

#[tokio::test]
async fn many_calls_leave_no_descriptor_and_no_process_behind() {
    let lab = Lab::new().await;
    let helper = lab.sandbox.helper_pid().unwrap();
    let count = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let children = || {
        std::fs::read_to_string(format!("/proc/{helper}/task/{helper}/children"))
            .unwrap_or_default()
    };
    good(lab.sh("true").await);
    let look = || (count(helper), children().split_whitespace().count());
    let before = settled(look).await;
    assert_eq!(before.1, 1, "the helper keeps one prepared");
    for n in 0..60 {
        match n % 3 {
            0 => drop(good(lab.sh("true").await)),
            1 => drop(lab.run_job(lab.job(&["no-such-program"])).await),
            _ => {
                let mut short = lab.job(&["sleep", "5"]);
                short.wall = Duration::from_millis(5);
                drop(lab.run_job(short).await);
            }
        }
    }
    eventually("the helper has its descriptors and its one child as before", || look() == before)
        .await;
}
