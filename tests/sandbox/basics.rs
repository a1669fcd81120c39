//! What a tool can do, and that a call ends as it should.

use std::time::Duration;

use agent_runtime::{
    domain::{Access, CommandRule, Confinement, ToolLimits},
    sandbox::{End, SandboxError},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::support::{Lab, allow, eventually, good, job, text};

#[tokio::test]
async fn a_program_runs_in_its_workspace_with_its_environment() {
    let lab = Lab::new().await;
    let mut job = lab.job(&["sh", "-c", "pwd; echo $HOME $TMPDIR $LANG $X; cat; id -un; exit 3"]);
    job.env = vec![("X".to_owned(), "y z".to_owned())];
    job.stdin = b"from stdin\n".to_vec();
    let outcome = lab.run_job(job).await.unwrap();
    let home = lab.workspace.display();
    assert_eq!(text(&outcome), format!("{home}\n{home} /tmp C.UTF-8 y z\nfrom stdin\nagent\n"));
    assert_eq!(outcome.end, End::Exited(3));
    assert_eq!(outcome.level, Confinement::Full);
    let env = good(lab.run(&["env"]).await);
    assert_eq!(env.lines().count(), 5, "nothing of the daemon's environment: {env}");
}

#[tokio::test]
async fn the_workspace_and_allowed_trees_have_their_access() {
    let lab = Lab::new().await;
    let (ro, rw) = (lab.base.path().join("ro"), lab.base.path().join("rw"));
    for path in [&ro, &rw] {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("f"), "x").unwrap();
        agent_runtime::sandbox::give_to_tools(std::fs::File::open(path).unwrap()).unwrap();
    }
    let mut grant = lab.grant();
    grant.paths = vec![allow(&ro, Access::Ro), allow(&rw, Access::Rw)];
    let script = format!(
        "echo w > w; cat {0}/f {1}/f; echo n > {1}/n; mkdir {1}/d; mv {1}/n {1}/d/; \
         echo n > {0}/n && echo BAD; rm -f {0}/f && echo BAD; true",
        ro.display(),
        rw.display()
    );
    let output = good(lab.run_job(job(grant, &["sh", "-c", &script])).await.unwrap());
    assert!(output.starts_with("xx") && !output.contains("BAD"), "{output}");
    assert!(rw.join("d/n").exists() && lab.workspace.join("w").exists());
    assert!(!ro.join("n").exists() && ro.join("f").exists());
}

#[tokio::test]
async fn common_programs_work() {
    let lab = Lab::new().await;
    let mut programs = vec![
        ("bash", "bash -c 'x=(a b); echo ${x[1]}; cat <(echo sub) | tr a-z A-Z'", "b\nSUB\n"),
        (
            "python3",
            "/usr/bin/python3 -c 'import subprocess,threading,tempfile,json,multiprocessing; \
          t=threading.Thread(target=lambda: print(\"thread\")); t.start(); t.join(); \
          print(subprocess.run([\"echo\",\"sub\"],capture_output=True,text=True).stdout,end=\"\"); \
          tempfile.mkdtemp(); multiprocessing.Lock()'",
            "thread\nsub\n",
        ),
        (
            "git",
            "git init -q r && cd r && git config user.email a@b && git config user.name n && echo x > f \
          && git add f && git commit -qm one && git log --format=%s && git status --short",
            "one\n",
        ),
        (
            "gcc",
            "printf '#include <stdio.h>\\nint main(){puts(\"c\");}' > a.c && gcc -O1 a.c -o a && ./a",
            "c\n",
        ),
        ("make", "printf 'all:\\n\\t@echo made\\n' > Makefile && make", "made\n"),
        (
            "tar",
            "mkdir -p t/u && echo z > t/u/f && tar czf t.tgz t && tar tzf t.tgz | tail -1 && \
          find t -type f | xargs sed -i s/z/y/ && cat t/u/f | sort | awk '{print $1}'",
            "t/u/f\ny\n",
        ),
    ];
    if std::path::Path::new("/usr/bin/node").exists() {
        programs.push(("node", "node -e 'setTimeout(()=>console.log(\"js\"),5)'", "js\n"));
    }
    if std::path::Path::new("/usr/bin/cargo").exists() {
        programs.push((
            "cargo",
            "cargo new -q p --vcs none && cd p && cargo run -q",
            "Hello, world!\n",
        ));
    }
    for (name, script, expected) in programs {
        let outcome =
            lab.sh(&format!("rm -rf w-{name}; mkdir w-{name} && cd w-{name} && {script}")).await;
        assert_eq!((outcome.end, text(&outcome).as_str()), (End::Exited(0), expected), "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_told_and_nothing_runs() {
    let lab = Lab::new().await;
    for (program, errno) in [
        ("no-such-program", libc::ENOENT),
        ("/etc/passwd", libc::EACCES),
        ("./missing", libc::ENOENT),
    ] {
        match lab.run_job(lab.job(&[program])).await {
            Err(SandboxError::NotExecuted { failure }) => {
                assert_eq!((failure.step.as_str(), failure.errno), (program, errno));
            }
            other => panic!("{program}: {other:?}"),
        }
    }
    let mut grant = lab.grant();
    grant.commands = CommandRule::None;
    let refused = lab.run_job(job(grant, &["true"])).await;
    assert!(matches!(refused, Err(SandboxError::NotGranted)), "{refused:?}");
    let mut grant = lab.grant();
    grant.paths = vec![allow(&lab.base.path().join("missing"), Access::Ro)];
    let refused = lab.run_job(job(grant, &["true"])).await;
    assert!(matches!(refused, Err(SandboxError::Setup { .. })), "{refused:?}");
    let mut nowhere = lab.job(&["true"]);
    nowhere.cwd = "nowhere".to_owned();
    let refused = lab.run_job(nowhere).await;
    assert!(matches!(refused, Err(SandboxError::Setup { .. })), "{refused:?}");
}

#[tokio::test]
async fn time_stop_and_drop_kill_everything_at_once() {
    let lab = Lab::new().await;
    let script = "touch started; setsid sh -c 'while :; do date +%N > beat; sleep 0.02; done' & \
                  trap '' TERM INT HUP; while :; do sleep 1; done";
    let beat = || std::fs::read(lab.workspace.join("beat")).unwrap_or_default();
    let beats = || async {
        let first = beat();
        tokio::time::sleep(Duration::from_millis(200)).await;
        first != beat()
    };
    let started = || lab.workspace.join("started").exists() && lab.workspace.join("beat").exists();
    // Time.
    let mut timed = lab.job(&["sh", "-c", script]);
    timed.wall = Duration::from_millis(1_500);
    let begin = Instant::now();
    let outcome = lab.run_job(timed).await.unwrap();
    assert_eq!(outcome.end, End::TimedOut);
    assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
    assert!(started() && !beats().await, "a survivor of the timeout");
    // Stop; the beat meanwhile is the control that the script does what it should.
    for name in ["started", "beat"] {
        std::fs::remove_file(lab.workspace.join(name)).unwrap();
    }
    let stop = CancellationToken::new();
    let run = lab.sandbox.run(lab.job(&["sh", "-c", script]), stop.clone());
    let stopper = async {
        eventually("the script starts", started).await;
        let first = std::fs::read(lab.workspace.join("beat")).unwrap();
        eventually("the script beats", || beat() != first).await;
        stop.cancel();
        Instant::now()
    };
    let (outcome, since) = tokio::join!(run, stopper);
    assert_eq!(outcome.unwrap().end, End::Stopped);
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert!(!beats().await, "a survivor of the stop");
    // Drop.
    std::fs::remove_file(lab.workspace.join("started")).unwrap();
    let run = lab.sandbox.run(lab.job(&["sh", "-c", script]), CancellationToken::new());
    tokio::select! {
        outcome = run => panic!("{outcome:?}"),
        () = eventually("the script starts", started) => {}
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!beats().await, "a survivor of the drop");
}

#[tokio::test]
async fn nothing_survives_the_end_of_the_main_process() {
    let lab = Lab::new().await;
    let script = "setsid sh -c 'while :; do date +%N > beat; sleep 0.02; done' >/dev/null 2>&1 & \
                  while ! test -e beat; do sleep 0.01; done; exit 0";
    let begin = Instant::now();
    good(lab.sh(script).await);
    assert!(begin.elapsed() < Duration::from_secs(5));
    let first = std::fs::read(lab.workspace.join("beat")).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(std::fs::read(lab.workspace.join("beat")).unwrap(), first);
}

#[tokio::test]
async fn output_is_bounded_told_live_and_a_flood_is_stopped() {
    let lab = Lab::new().await;
    let (sender, mut receiver) = mpsc::channel(64);
    let mut chatty = lab.job(&["sh", "-c", "echo one; sleep 0.1; echo two >&2"]);
    chatty.output = Some(sender);
    let outcome = lab.run_job(chatty).await.unwrap();
    assert_eq!((text(&outcome).as_str(), outcome.truncated), ("one\ntwo\n", false));
    let mut live = Vec::new();
    while let Ok((stream, piece)) = receiver.try_recv() {
        live.push(format!("{stream:?} {piece}"));
    }
    assert_eq!(live, ["Stdout one\n", "Stderr two\n"]);
    // More than is kept, less than a flood.
    let mut grant = lab.grant();
    grant.limits.output_bytes = 10_000;
    let outcome = lab.run_job(job(grant.clone(), &["seq", "100000"])).await.unwrap();
    assert_eq!((outcome.end, outcome.truncated), (End::Exited(0), true));
    let output = text(&outcome);
    assert!(output.starts_with("1\n2\n") && output.ends_with("99999\n100000\n"));
    assert!(outcome.output.len() < 10_100);
    // A flood.
    let outcome = lab.run_job(job(grant, &["yes"])).await.unwrap();
    assert_eq!((outcome.end, outcome.truncated), (End::Limit("output_bytes"), true));
    assert!(outcome.output.len() < 10_100);
}

#[tokio::test]
async fn a_dead_helper_takes_its_sandboxes_along_and_is_replaced() {
    let lab = Lab::new().await;
    let pid = lab.sandbox.helper_pid().unwrap();
    let script = "while :; do date +%N > beat; sleep 0.02; done";
    let run = lab.sandbox.run(lab.job(&["sh", "-c", script]), CancellationToken::new());
    let killer = async {
        eventually("the script beats", || lab.workspace.join("beat").exists()).await;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    let (outcome, ()) = tokio::join!(run, killer);
    assert!(matches!(outcome, Err(SandboxError::Lost)), "{outcome:?}");
    let first = std::fs::read(lab.workspace.join("beat")).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(std::fs::read(lab.workspace.join("beat")).unwrap(), first, "a survivor");
    assert_eq!(good(lab.sh("echo again").await), "again\n");
    assert_ne!(lab.sandbox.helper_pid().unwrap(), pid);
}

#[tokio::test]
async fn calls_at_once_are_bounded_and_all_finish() {
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("data")).unwrap();
    let lab = Lab::at(base, 2).await;
    let begin = Instant::now();
    let calls = (0..6).map(|_| lab.sh("sleep 0.2; echo done"));
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(good(outcome), "done\n");
    }
    assert!(begin.elapsed() >= Duration::from_millis(600), "more than two at once");
}

#[tokio::test]
async fn limits_end_what_exceeds_them() {
    let lab = Lab::new().await;
    let with = |change: fn(&mut ToolLimits)| {
        let mut grant = lab.grant();
        change(&mut grant.limits);
        grant
    };
    let cpu = with(|l| l.cpu_secs = 1);
    let outcome = lab.run_job(job(cpu, &["sh", "-c", "while :; do :; done"])).await.unwrap();
    assert_eq!(outcome.end, End::Limit("cpu_secs"));
    let file = with(|l| l.file_bytes = 1 << 20);
    let argv = ["dd", "if=/dev/zero", "of=big", "bs=1M", "count=10"];
    let outcome = lab.run_job(job(file, &argv)).await.unwrap();
    assert_eq!(outcome.end, End::Limit("file_bytes"));
    assert_eq!(std::fs::metadata(lab.workspace.join("big")).unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn standard_input_arrives_whole_and_cannot_be_executed() {
    let lab = Lab::new().await;
    let with = |stdin: Vec<u8>, argv: &[&str]| {
        let mut job = lab.job(argv);
        job.stdin = stdin;
        lab.run_job(job)
    };
    let large = vec![b'x'; 3 << 20];
    assert_eq!(good(with(large.clone(), &["wc", "-c"]).await.unwrap()).trim(), "3145728");
    // Who reads a part, or nothing at all, is not kept waiting.
    assert_eq!(good(with(large.clone(), &["head", "-c", "3"]).await.unwrap()), "xxx");
    assert_eq!(good(with(large, &["echo", "done"]).await.unwrap()), "done\n");
    let program = b"#!/bin/sh\necho ran\n".to_vec();
    let run = "import os; os.execve('/proc/self/fd/0', ['x'], {})";
    let tried = with(program, &["/usr/bin/python3", "-c", run]).await.unwrap();
    assert!(text(&tried).contains("Permission") && !text(&tried).contains("ran"), "{tried:?}");
    // What it was before, a file in memory, can be: that is what the control shows.
    let control = "import os; f = os.memfd_create('x', 0); os.write(f, b'#!/bin/sh\\necho ran\\n'); \
                   os.execve(f'/proc/self/fd/{f}', ['x'], {})";
    #[expect(clippy::disallowed_methods, reason = "the control runs without the sandbox")]
    let free = std::process::Command::new("/usr/bin/python3").args(["-c", control]).output();
    assert_eq!(String::from_utf8_lossy(&free.unwrap().stdout), "ran\n");
}
