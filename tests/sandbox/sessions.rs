//! Kept sandboxes: what stays between the calls of a run, what does not, and how they end.

use std::time::Duration;

use tokio::time::Instant;

use agent_runtime::{
    domain::Grant,
    sandbox::{End, Outcome, SandboxError, Session},
};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use crate::support::{Lab, eventually, good, is_alone, job, settled, start_with, text};

impl Lab {
    pub(crate) async fn open(&self) -> Session {
        self.open_with(&self.grant()).await.unwrap()
    }

    pub(crate) async fn open_with(&self, grant: &Grant) -> Result<Session, SandboxError> {
        self.sandbox.open(grant, &CancellationToken::new()).await
    }

    pub(crate) async fn sh_in(&self, session: &Session, script: &str) -> Outcome {
        let job = self.job(&["/bin/sh", "-c", script]);
        session.run(job, CancellationToken::new()).await.unwrap()
    }
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Children of a process as the host numbers them.
fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default().split_whitespace().map(|n| n.parse().unwrap()).collect()
}

#[tokio::test]
async fn files_in_tmp_stay_for_the_run_and_are_gone_with_it() {
    let lab = Lab::new().await;
    let (one, other) = (lab.open().await, lab.open().await);
    good(lab.sh_in(&one, "echo kept > /tmp/f; mkdir /var/tmp/d; echo x > /dev/shm/s").await);
    assert_eq!(good(lab.sh_in(&one, "cat /tmp/f; ls /tmp").await), "kept\nd\nf\ns\n");
    assert_eq!(good(lab.sh_in(&other, "ls /tmp").await), "", "another run");
    drop(one);
    let again = lab.open().await;
    assert_eq!(good(lab.sh_in(&again, "ls /tmp").await), "", "the same agent's next run");
}

#[tokio::test]
async fn no_process_of_a_call_is_there_for_the_next_one() {
    let lab = Lab::new().await;
    let session = lab.open().await;
    let script = "(setsid sh -c 'setsid sh -c \"while :; do date +%N > beat; sleep 0.02; done\" &' \
                  >/dev/null 2>&1 &); while ! test -e beat; do sleep 0.01; done; exit 0";
    good(lab.sh_in(&session, script).await);
    let beat = || std::fs::read(lab.workspace.join("beat")).unwrap();
    let first = beat();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(beat(), first, "a survivor");
    let seen = good(lab.sh_in(&session, "ls /proc | grep -E '^[0-9]+$' | wc -l").await);
    assert!(seen.trim().parse::<u32>().unwrap() <= 5, "{seen}");
}

#[tokio::test]
async fn nothing_but_files_passes_from_one_call_to_the_next() {
    let lab = Lab::new().await;
    let session = lab.open().await;
    let leave = "import ctypes,socket,os,time\n\
                 libc=ctypes.CDLL(None)\n\
                 assert libc.shmget(0x1234,4096,0o1600)>=0\n\
                 s=socket.socket(socket.AF_UNIX); s.bind('\\0left-behind'); s.listen()\n\
                 os.environ['LEFT']='1'; print('left')";
    let find = "import ctypes,socket,os\n\
                libc=ctypes.CDLL(None)\n\
                print('shm',libc.shmget(0x1234,4096,0o600))\n\
                s=socket.socket(socket.AF_UNIX)\n\
                print('socket',s.connect_ex('\\0left-behind'))\n\
                print('env',os.environ.get('LEFT'), 'fds', len(os.listdir('/proc/self/fd')))";
    let python = |code| lab.job(&["/usr/bin/python3", "-c", code]);
    let run = |code| session.run(python(code), CancellationToken::new());
    assert_eq!(good(run(leave).await.unwrap()), "left\n");
    let refused = libc::ECONNREFUSED;
    let found = good(run(find).await.unwrap());
    assert_eq!(found, format!("shm -1\nsocket {refused}\nenv None fds 5\n"));
}

#[tokio::test]
async fn calls_of_one_session_run_at_once_and_do_not_see_each_other() {
    let lab = Lab::new().await;
    let session = lab.open().await;
    let begin = Instant::now();
    let script = "echo $$; sleep 0.5; ls /proc | grep -cE '^[0-9]+$'; kill -9 -1 2>/dev/null; kill -9 1 2>/dev/null; echo on";
    let outcomes = join_all((0..4).map(|_| lab.sh_in(&session, script))).await;
    for outcome in outcomes {
        // Its shell, `ls` and `grep`, pid 1; and nobody killed it.
        let output = good(outcome);
        let lines: Vec<_> = output.lines().collect();
        assert_eq!((lines[0], lines[2]), ("2", "on"), "{output}");
        assert!(lines[1].parse::<u32>().unwrap() <= 4, "{output}");
    }
    assert!(begin.elapsed() < Duration::from_millis(1_800), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn calls_of_two_sessions_reach_each_other_in_no_way() {
    let lab = Lab::new().await;
    let (one, two) = (lab.open().await, lab.open().await);
    let host = "import socket,time,os\n\
                s=socket.socket(socket.AF_UNIX); s.bind('\\0meeting'); s.listen()\n\
                open('/tmp/meeting','w').write('x'); open('ready','w').write('x')\n\
                s.settimeout(10)\n\
                try:\n  s.accept(); print('met')\n\
                except TimeoutError: print('alone')";
    let guest = "import socket,time,os\n\
                 while not os.path.exists('ready'): time.sleep(0.01)\n\
                 s=socket.socket(socket.AF_UNIX)\n\
                 print(s.connect_ex('\\0meeting'), os.path.exists('/tmp/meeting'))";
    let host_job = lab.job(&["/usr/bin/python3", "-c", host]);
    let guest_job = lab.job(&["/usr/bin/python3", "-c", guest]);
    let stop = CancellationToken::new();
    let meeting = one.run(host_job, stop.clone());
    let visit = async {
        let seen = two.run(guest_job, CancellationToken::new()).await.unwrap();
        stop.cancel();
        seen
    };
    let (host, guest) = tokio::join!(meeting, visit);
    assert_eq!(host.unwrap().end, End::Stopped);
    assert_eq!(good(guest), format!("{} False\n", libc::ECONNREFUSED));
}

#[tokio::test]
async fn a_session_is_for_one_profile() {
    let lab = Lab::new().await;
    let session = lab.open().await;
    let mut grant = lab.grant();
    grant.limits.cpu_secs = 7;
    let run = |grant| session.run(job(grant, &["true"]), CancellationToken::new());
    good(run(grant.clone()).await.unwrap());
    grant.may_execute_files = false;
    let refused = run(grant).await;
    assert!(matches!(refused, Err(SandboxError::OtherProfile)), "{refused:?}");
}

#[tokio::test]
async fn a_dropped_session_takes_its_calls_along() {
    let lab = Lab::new().await;
    let session = lab.open().await;
    let script = "setsid sh -c 'while :; do date +%N > beat; sleep 0.02; done' & sleep 60";
    let call = session.run(lab.job(&["sh", "-c", script]), CancellationToken::new());
    let beat = || std::fs::read(lab.workspace.join("beat")).unwrap_or_default();
    tokio::select! {
        outcome = call => panic!("{outcome:?}"),
        () = eventually("the script beats", || !beat().is_empty()) => {}
    }
    session.close().await;
    let first = beat();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(beat(), first, "a survivor");
}

#[tokio::test]
async fn a_session_that_is_killed_loses_its_calls_and_another_can_be_opened() {
    let lab = Lab::new().await;
    let helper = lab.sandbox.helper_pid().unwrap();
    let session = lab.open().await;
    good(lab.sh_in(&session, "true").await);
    // The one with children: the others were prepared and wait.
    let victim = || children(helper).into_iter().find(|pid| !children(*pid).is_empty());
    let beat = lab.workspace.join("beat");
    let call = session.run(
        lab.job(&["sh", "-c", "while :; do date +%N > beat; sleep 0.02; done"]),
        CancellationToken::new(),
    );
    let killer = async {
        eventually("the script beats", || beat.exists()).await;
        kill(victim().unwrap());
    };
    let (outcome, ()) = tokio::join!(call, killer);
    assert!(matches!(outcome, Err(SandboxError::Lost)), "{outcome:?}");
    eventually("the session is known to be dead", || !session.is_alive()).await;
    let refused = session.run(lab.job(&["true"]), CancellationToken::new()).await;
    assert!(matches!(refused, Err(SandboxError::Gone)), "{refused:?}");
    let first = std::fs::read(&beat).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(std::fs::read(&beat).unwrap(), first, "a survivor");
    assert_eq!(good(lab.sh_in(&lab.open().await, "echo again").await), "again\n");
    assert_eq!(lab.sandbox.helper_pid(), Some(helper), "the helper lives on");
}

#[tokio::test]
async fn a_killed_helper_takes_every_session_along_and_is_replaced() {
    let lab = Lab::new().await;
    let helper = lab.sandbox.helper_pid().unwrap();
    let (busy, idle) = (lab.open().await, lab.open().await);
    let beat = lab.workspace.join("beat");
    let call = busy.run(
        lab.job(&["sh", "-c", "while :; do date +%N > beat; sleep 0.02; done"]),
        CancellationToken::new(),
    );
    let killer = async {
        eventually("the script beats", || beat.exists()).await;
        kill(helper);
    };
    let (outcome, ()) = tokio::join!(call, killer);
    assert!(matches!(outcome, Err(SandboxError::Lost)), "{outcome:?}");
    eventually("both are dead", || !busy.is_alive() && !idle.is_alive()).await;
    assert_eq!(good(lab.sh_in(&lab.open().await, "echo again").await), "again\n");
    assert_ne!(lab.sandbox.helper_pid(), Some(helper));
}

#[tokio::test]
async fn a_hundred_sessions_leave_nothing_behind() {
    if !is_alone("sessions::a_hundred_sessions_leave_nothing_behind") {
        return;
    }
    let lab = Lab::new().await;
    let helper = lab.sandbox.helper_pid().unwrap();
    let descriptors = |pid| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap().lines().count();
    let own = std::process::id();
    good(lab.sh("true").await);
    let look = || (children(helper).len(), descriptors(own), descriptors(helper), mounts());
    let before = settled(look).await;
    assert_eq!(before.0, 1, "one is prepared");
    for round in 0..10 {
        let sessions = join_all((0..10).map(|_| lab.open())).await;
        if round % 2 == 0 {
            let calls = sessions.iter().map(|s| lab.sh_in(s, "echo x > /tmp/x; sleep 100 & true"));
            join_all(calls).await.into_iter().for_each(|o| drop(good(o)));
        }
    }
    eventually("sessions, descriptors and mounts are as before", || look() == before).await;
}

#[tokio::test]
async fn who_finds_no_place_waits_in_order_and_may_give_up() {
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("data")).unwrap();
    let stop = agent_runtime::runtime::Stop::default();
    let sandbox =
        start_with(&base.path().join("data"), &stop, |o| o.sessions_max = 2).await.unwrap();
    let workspace = base.path().join("data/workspaces/one");
    agent_runtime::sandbox::prepare_workspace(&workspace).unwrap();
    let grant = Grant::new(workspace, agent_runtime::domain::CommandRule::Any);
    let never = CancellationToken::new();
    let first = sandbox.open(&grant, &never).await.unwrap();
    let second = sandbox.open(&grant, &never).await.unwrap();
    assert_eq!(sandbox.sessions_free(), 0);
    // One that gives up leaves no gap: neither by its token nor by being dropped.
    let impatient = CancellationToken::new();
    impatient.cancel();
    let refused = sandbox.open(&grant, &impatient).await;
    assert!(matches!(refused, Err(SandboxError::Stopped)), "{refused:?}");
    let waiting = sandbox.open(&grant, &never);
    assert!(tokio::time::timeout(Duration::from_millis(100), waiting).await.is_err());
    // The others get places in the order in which they asked.
    let order = std::sync::Mutex::new(Vec::new());
    let ask = |name: &'static str, after_ms: u64| {
        let (sandbox, grant, never, order) = (&sandbox, &grant, &never, &order);
        async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            let session = sandbox.open(grant, never).await.unwrap();
            order.lock().unwrap().push(name);
            drop(session);
        }
    };
    let free = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(first);
    };
    tokio::join!(ask("a", 0), ask("b", 50), ask("c", 100), free);
    assert_eq!(*order.lock().unwrap(), ["a", "b", "c"]);
    drop(second);
    assert_eq!(sandbox.sessions_free(), 2);
    stop.hard();
}

#[tokio::test]
async fn a_call_that_is_stopped_while_it_waits_does_not_run() {
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("data")).unwrap();
    let lab = Lab::at(base, 1).await;
    let session = lab.open().await;
    let stop = CancellationToken::new();
    let long = lab.sh_in(&session, "sleep 0.5");
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let wait = session.run(lab.job(&["touch", "ran"]), stop.clone());
        let (outcome, ()) = tokio::join!(wait, async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.cancel();
        });
        outcome
    };
    let (first, second) = tokio::join!(long, late);
    good(first);
    assert!(matches!(second, Err(SandboxError::Stopped)), "{second:?}");
    assert!(!lab.workspace.join("ran").exists());
}

#[tokio::test]
async fn an_output_that_was_passed_on_does_not_hold_up_the_call() {
    let lab = Lab::new().await;
    let session = lab.open().await;
    // One call gives its standard output to another one, which keeps it open.
    let keeper = "import socket,array,os,time\n\
                  s=socket.socket(socket.AF_UNIX); s.bind('/tmp/pass'); s.listen()\n\
                  c,_=s.accept(); c.recvmsg(1,1024); open('/tmp/got','w'); time.sleep(20)";
    let giver = "import socket,array,os,time\n\
                 while not os.path.exists('/tmp/pass'): time.sleep(0.01)\n\
                 s=socket.socket(socket.AF_UNIX); s.connect('/tmp/pass')\n\
                 socket.send_fds(s,[b'x'],[1])\n\
                 while not os.path.exists('/tmp/got'): time.sleep(0.01)\n\
                 print('given')";
    let stop = CancellationToken::new();
    let keep = session.run(lab.job(&["/usr/bin/python3", "-c", keeper]), stop.clone());
    let give = async {
        let begin = Instant::now();
        let job = lab.job(&["/usr/bin/python3", "-c", giver]);
        let outcome = session.run(job, CancellationToken::new()).await.unwrap();
        stop.cancel();
        (outcome, begin.elapsed())
    };
    let (kept, (outcome, took)) = tokio::join!(keep, give);
    assert_eq!(kept.unwrap().end, End::Stopped);
    assert_eq!(text(&outcome), "given\n");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_long_request_arrives_whole() {
    let lab = Lab::new().await;
    let session = lab.open().await;
    let mut long = lab.job(&["sh", "-c", "echo ${#X}; wc -c", &"y".repeat(100_000)]);
    long.env = vec![("X".to_owned(), "x".repeat(100_000))];
    long.stdin = vec![b'z'; 300_000];
    let outcome = session.run(long, CancellationToken::new()).await.unwrap();
    assert_eq!(good(outcome), "100000\n300000\n");
}
