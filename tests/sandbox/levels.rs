//! The weaker levels, for real: in a mount namespace whose `/proc` is masked as containers mask
//! theirs, and where no namespace can be had. As the user of the tests, and if that is root, as
//! somebody without any capability too.

use std::{
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use agent_runtime::{
    domain::{CommandRule, Confinement, Grant},
    runtime::{Stop, Tasks},
    sandbox::{self, Attestation, End, Sandbox, Shown},
};
use seccompiler::{BpfProgram, sock_filter};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::is_root,
    support::{HELPER, eventually, good, job, options, start_with, text},
};

/// Directory of the test that goes on in another process.
const BASE: &str = "SANDBOX_TEST_LEVEL_BASE";
/// Which level that other process shall find.
const LEVEL: &str = "SANDBOX_TEST_LEVEL";
/// Somebody who owns nothing and may do nothing special.
const NOBODY: u32 = 64_321;

/// Runs [`inside`] in another process, behind these words of a command line.
fn go_inside(level: Confinement, wrapper: &[&str], user: Option<u32>) {
    let base = tempfile::tempdir().unwrap();
    for path in [base.path().to_owned(), base.path().join("data")] {
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        if let Some(user) = user {
            chown(&path, Some(user), Some(user)).unwrap();
        }
    }
    let own = std::env::current_exe().unwrap();
    let uid = user.map(|u| u.to_string()).unwrap_or_default();
    let become_user = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"];
    let user_words = if user.is_some() { &become_user[..] } else { &[] };
    let mut words = wrapper.iter().chain(user_words).copied().chain([own.to_str().unwrap()]);
    #[expect(clippy::disallowed_methods, reason = "the other process of this test")]
    let output = Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", "levels::inside", "--nocapture"])
        .env(BASE, base.path())
        .env(LEVEL, level.as_str())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("all of it held"), "{user:?}: {told}");
}

fn users() -> Vec<Option<u32>> {
    if is_root() { vec![None, Some(NOBODY)] } else { vec![None] }
}

#[test]
fn with_a_masked_proc_everything_else_holds() {
    // Another user masks in a namespace of its own, and is itself again in a further one.
    let mask = "mount -t tmpfs none /proc/sys && exec \"$@\"";
    let own = rustix::process::getuid().as_raw().to_string();
    let back = format!(
        "mount -t tmpfs none /proc/sys && exec unshare --user --map-user={own} --map-group={own} \"$@\""
    );
    for user in users() {
        let wrapper: &[&str] = if is_root() {
            &["unshare", "-m", "sh", "-c", mask, "sh"]
        } else {
            &["unshare", "-Urm", "sh", "-c", &back, "sh"]
        };
        go_inside(Confinement::FullNoproc, wrapper, user);
    }
}

#[test]
fn without_namespaces_landlock_and_seccomp_hold_what_they_can() {
    for user in users() {
        go_inside(Confinement::Landlock, &[], user);
    }
}

/// Not a test by itself: the other process of the tests above.
#[test]
fn inside() {
    let (Some(base), Some(level)) = (std::env::var_os(BASE), std::env::var(LEVEL).ok()) else {
        return;
    };
    let level: Confinement = level.parse().unwrap();
    if level == Confinement::Landlock {
        forbid_namespaces();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(holds(Path::new(&base), level));
    println!("all of it held");
}

/// Makes `clone3`, which the helper needs for namespaces, a call that this kernel does not have.
fn forbid_namespaces() {
    let number = u32::try_from(libc::SYS_clone3).unwrap();
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let program: BpfProgram = vec![
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, number),
        step(0x06, 0, 0, 0x0005_0000 | libc::ENOSYS.cast_unsigned()),
        step(0x06, 0, 0, 0x7fff_0000),
    ];
    seccompiler::apply_filter(&program).unwrap();
}

async fn holds(base: &Path, level: Confinement) {
    let (data_dir, stop) = (base.join("data"), Stop::default());
    let weak = |o: &mut sandbox::Options| o.min_level = Confinement::Landlock;
    if level == Confinement::Landlock {
        // Nobody asked for it: nothing runs, and the reason says what is missing.
        let stop = Stop::default();
        let refused = start_with(&data_dir, &stop, |_| {}).await.unwrap().status();
        assert!(!refused.usable && refused.reason.unwrap().contains("namespaces"));
        stop.hard();
    }
    let sandbox = start_with(&data_dir, &stop, weak).await.unwrap();
    let status = sandbox.status();
    assert_eq!((status.level, status.usable), (level, true), "{status:?}");
    assert!(status.reason.is_some(), "it is not the best level");
    let workspace = data_dir.join("workspaces/one");
    sandbox::prepare_workspace(&workspace).unwrap();
    let grant = Grant { may_execute_files: true, ..Grant::new(workspace, CommandRule::Any) };
    works(&sandbox, &grant, level).await;
    reaches_nothing(&sandbox, &grant, base, level).await;
    ends(&sandbox, &grant).await;
    stop.hard();
    let scratch = base.join("attest");
    std::fs::create_dir(&scratch).unwrap();
    let tasks = Tasks::new(Stop::default());
    let options = options(&scratch, weak);
    let attested = sandbox::attest_with_helper(options, HELPER.into(), &tasks).await.unwrap();
    attests(&attested, level);
}

async fn sh(sandbox: &Sandbox, grant: &Grant, script: &str) -> sandbox::Outcome {
    let job = job(grant.clone(), &["/bin/sh", "-c", script]);
    sandbox.run(job, CancellationToken::new()).await.unwrap()
}

async fn works(sandbox: &Sandbox, grant: &Grant, level: Confinement) {
    let outcome =
        sh(sandbox, grant, "echo 1 > f; mkdir d; cp f d/g; cat d/g; pwd; ls $TMPDIR >/dev/null")
            .await;
    assert_eq!(outcome.level, level);
    assert_eq!(good(outcome), format!("1\n{}\n", grant.workspace.display()));
    let session = sandbox.open(grant, &CancellationToken::new()).await.unwrap();
    for n in 0..3 {
        let job = job(grant.clone(), &["/usr/bin/python3", "-c", &format!("print({n} + 1)")]);
        let outcome = session.run(job, CancellationToken::new()).await.unwrap();
        assert_eq!(good(outcome), format!("{}\n", n + 1));
    }
}

async fn reaches_nothing(sandbox: &Sandbox, grant: &Grant, base: &Path, level: Confinement) {
    let outside = base.join("outside");
    std::fs::write(&outside, "a secret").unwrap();
    std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o666)).unwrap();
    let (path, own) = (outside.display(), std::process::id());
    let script = format!(
        "cat {path}; echo x > {path}; ln -s {path} link; cat link; cat /etc/shadow /etc/fstab; \
         kill -0 {own} && echo SIGNALLED; ls /proc/{own} && echo SEEN; true"
    );
    let output = text(&sh(sandbox, grant, &script).await);
    for bad in ["a secret", "SIGNALLED", "SEEN"] {
        assert!(!output.contains(bad), "{output}");
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "a secret");
    let python = "import socket\n\
                  for f in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):\n\
                  \x20 try: socket.socket(f); print('made', int(f))\n\
                  \x20 except OSError: pass\n\
                  a,b=socket.socketpair(); a.send(b'x'); print(b.recv(1))";
    let job = job(grant.clone(), &["/usr/bin/python3", "-c", python]);
    let output = good(sandbox.run(job, CancellationToken::new()).await.unwrap());
    // With a network namespace, unix sockets lead nowhere; without, there are none.
    let unix = if level == Confinement::Landlock { "" } else { "made 1\n" };
    assert_eq!(output, format!("{unix}b'x'\n"));
}

const BEAT: &str = "(setsid sh -c 'setsid sh -c \"while :; do date +%N > beat; sleep 0.02; done\" &' \
                    >/dev/null 2>&1 &); while ! test -s beat; do sleep 0.01; done";

async fn ends(sandbox: &Sandbox, grant: &Grant) {
    let beat = grant.workspace.join("beat");
    let read = || std::fs::read(&beat).unwrap_or_default();
    let is_dead = async |how: &str| {
        let first = read();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(read(), first, "a survivor of {how}");
        std::fs::remove_file(&beat).unwrap();
    };
    // By itself.
    assert_eq!(sh(sandbox, grant, BEAT).await.end, End::Exited(0));
    is_dead("the end").await;
    // In time.
    let mut timed = job(grant.clone(), &["/bin/sh", "-c", &format!("{BEAT}; sleep 60")]);
    timed.wall = Duration::from_millis(1_500);
    let outcome = sandbox.run(timed, CancellationToken::new()).await.unwrap();
    assert_eq!(outcome.end, End::TimedOut);
    is_dead("the timeout").await;
    // With its session.
    let forever = || job(grant.clone(), &["/bin/sh", "-c", &format!("{BEAT}; sleep 60")]);
    let session = sandbox.open(grant, &CancellationToken::new()).await.unwrap();
    tokio::select! {
        outcome = session.run(forever(), CancellationToken::new()) => panic!("{outcome:?}"),
        () = eventually("it beats", || !read().is_empty()) => {}
    }
    drop(session);
    tokio::time::sleep(Duration::from_millis(200)).await;
    is_dead("the session's end").await;
    // With the helper.
    let helper = i32::try_from(sandbox.helper_pid().unwrap()).unwrap();
    let call = sandbox.run(forever(), CancellationToken::new());
    let killer = async {
        eventually("it beats", || !read().is_empty()).await;
        let helper = rustix::process::Pid::from_raw(helper).unwrap();
        rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
    };
    let (outcome, ()) = tokio::join!(call, killer);
    assert!(matches!(outcome, Err(sandbox::SandboxError::Lost)), "{outcome:?}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    is_dead("the helper's end").await;
    assert_eq!(good(sh(sandbox, grant, "echo again").await), "again\n");
}

fn attests(attested: &Attestation, level: Confinement) {
    assert!(attested.is_good(), "{attested:?}");
    let count = |shown| attested.findings.iter().filter(|f| f.shown == shown).count();
    assert!(count(Shown::Held) >= 15, "{attested:?}");
    assert_eq!(count(Shown::Known) > 0, level == Confinement::Landlock, "{attested:?}");
}

#[tokio::test]
async fn at_full_every_attempt_is_shown_to_work_without_the_sandbox() {
    let base = tempfile::tempdir().unwrap();
    let tasks = Tasks::new(Stop::default());
    let options = options(base.path(), |_| {});
    let attested = sandbox::attest_with_helper(options, HELPER.into(), &tasks).await.unwrap();
    assert_eq!(attested.status.level, Confinement::Full, "{attested:?}");
    assert!(attested.is_good(), "{attested:?}");
    let not_held: Vec<_> =
        attested.findings.iter().filter(|f| f.shown != Shown::Held).map(|f| &f.attempt).collect();
    // An ordinary user can do less without the sandbox too.
    assert!(not_held.is_empty() || !is_root(), "{not_held:?}");
    assert!(attested.findings.len() - not_held.len() >= 15, "{attested:?}");
}
