//! What a person approved is what runs: programs, links and directories that are swapped between the
//! look and the start, each with a control that shows the race being lost without the check.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use agent_runtime::{
    domain::Bound,
    sandbox::{self, Job, SandboxError},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{Lab, text};

/// Starts under each attack.
const TRIES: usize = 150;
/// Starts without the check until one goes wrong.
const CONTROL_TRIES: usize = 3_000;
/// Exchanges without a rest; even, so that the good one stands in its place at the end.
const BURST: usize = 2_000;
const GOOD: &str = "#!/bin/sh\necho good\n";
const EVIL: &str = "#!/bin/sh\necho evil\n";

/// Somebody who changes things all the time, as fast as they can.
struct Hostile {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Hostile {
    fn start(mut turn: impl FnMut() + Send + 'static) -> Self {
        let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&turns));
        #[expect(clippy::disallowed_methods, reason = "the attacker is a thread of the test")]
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                turn();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, turns, thread: Some(thread) }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn program(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox::give_to_tools(fs::File::open(path).unwrap()).unwrap();
}

fn directory(path: &Path, mark: &str) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("mark"), mark).unwrap();
    for path in [path.to_owned(), path.join("mark")] {
        sandbox::give_to_tools(fs::File::open(path).unwrap()).unwrap();
    }
}

fn exchange(a: PathBuf, b: PathBuf) -> impl FnMut() + Send + 'static {
    move || renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap()
}

/// A call, and what a person would have said yes to.
struct Case {
    argv: &'static [&'static str],
    cwd: &'static str,
    is_good: Box<dyn Fn(&Bound) -> bool>,
}

impl Case {
    fn look(&self, lab: &Lab) -> Option<Bound> {
        lab.sandbox.bind(&lab.grant(), self.argv[0], self.cwd).ok().filter(|b| (self.is_good)(b))
    }

    fn job(&self, lab: &Lab, bound: Option<Arc<Bound>>) -> Job {
        Job { cwd: self.cwd.to_owned(), bound, ..lab.job(self.argv) }
    }

    /// Starts what was found good, again and again: it was good when it ran, or was refused.
    async fn holds(&self, lab: &Lab) {
        let (mut ran, mut refused) = (0, 0);
        while ran + refused < TRIES {
            let Some(bound) = self.look(lab) else { continue };
            let ended = lab.run_job(self.job(lab, Some(Arc::new(bound)))).await;
            if matches!(ended, Err(SandboxError::Changed(_))) {
                refused += 1;
                continue;
            }
            assert_eq!(text(&ended.unwrap()).trim(), "good", "a mismatched execution");
            ran += 1;
        }
        assert!(ran > 0, "nothing ran at all: {refused} refused");
    }

    /// The same without the check: sooner or later something else runs.
    async fn is_lost(&self, lab: &Lab) -> bool {
        for _ in 0..CONTROL_TRIES {
            if self.look(lab).is_none() {
                continue;
            }
            let outcome = lab.run_job(self.job(lab, None)).await;
            if outcome.is_ok_and(|outcome| text(&outcome).trim() == "evil") {
                return true;
            }
        }
        false
    }
}

/// Whether it is exactly this content that would be executed.
fn of_good(lab: &Lab) -> Box<dyn Fn(&Bound) -> bool> {
    program(&lab.workspace.join("known-good"), GOOD);
    let known = lab.sandbox.bind(&lab.grant(), "./known-good", "").unwrap();
    let wanted = known.executable.unwrap().sha256.unwrap();
    Box::new(move |b| b.executable.as_ref().is_some_and(|e| e.sha256.as_ref() == Some(&wanted)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_renamed_away_never_lets_another_one_run() {
    let lab = Lab::new().await;
    let (x, y) = (lab.workspace.join("x"), lab.workspace.join("y"));
    program(&x, GOOD);
    program(&y, EVIL);
    let case = Case { argv: &["./x"], cwd: "", is_good: of_good(&lab) };
    // Every look on the way to the start has to find the good one: without a rest now and then none
    // would succeed, and nothing would be shown about those that do.
    let (mut swap, mut swaps) = (exchange(x, y), 0_usize);
    let hostile = Hostile::start(move || {
        swap();
        swaps += 1;
        if swaps.is_multiple_of(BURST) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    case.holds(&lab).await;
    assert!(case.is_lost(&lab).await, "the race was never lost without the check");
    assert!(hostile.turns.load(Ordering::Relaxed) > TRIES, "hardly any swap happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_rewritten_in_place_never_runs_as_something_else() {
    let lab = Lab::new().await;
    let x = lab.workspace.join("x");
    program(&x, GOOD);
    let case = Case { argv: &["./x"], cwd: "", is_good: of_good(&lab) };
    let mut is_good = true;
    let hostile = Hostile::start(move || {
        is_good = !is_good;
        fs::write(&x, if is_good { GOOD } else { EVIL }).ok();
        // Nothing can be started while it is open for writing; and some starts shall succeed.
        let rest = if is_good { 15_000 } else { 300 };
        std::thread::sleep(std::time::Duration::from_micros(rest));
    });
    case.holds(&lab).await;
    assert!(case.is_lost(&lab).await, "the race was never lost without the check");
    assert!(hostile.turns.load(Ordering::Relaxed) > 20, "hardly any change happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_turned_never_leads_to_another_program() {
    let lab = Lab::new().await;
    let at = |name: &str| lab.workspace.join(name);
    program(&at("good"), GOOD);
    program(&at("evil"), EVIL);
    symlink("good", at("x")).unwrap();
    symlink("evil", at("y")).unwrap();
    let case = Case { argv: &["./x"], cwd: "", is_good: of_good(&lab) };
    let hostile = Hostile::start(exchange(at("x"), at("y")));
    case.holds(&lab).await;
    assert!(case.is_lost(&lab).await, "the race was never lost without the check");
    assert!(hostile.turns.load(Ordering::Relaxed) > TRIES, "hardly any swap happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_swapped_is_never_entered_in_the_place_of_the_approved_one() {
    let lab = Lab::new().await;
    let (d, e) = (lab.workspace.join("d"), lab.workspace.join("e"));
    directory(&d, "good");
    directory(&e, "evil");
    let known = lab.sandbox.bind(&lab.grant(), "cat", "d").unwrap().cwd.unwrap();
    let is_good = Box::new(move |b: &Bound| b.cwd.as_ref().is_some_and(|c| c.ino == known.ino));
    let case = Case { argv: &["cat", "mark"], cwd: "d", is_good };
    let hostile = Hostile::start(exchange(d, e));
    case.holds(&lab).await;
    assert!(case.is_lost(&lab).await, "the race was never lost without the check");
    assert!(hostile.turns.load(Ordering::Relaxed) > TRIES, "hardly any swap happened");
}

#[tokio::test]
async fn what_is_gone_or_another_is_refused_and_says_what() {
    let lab = Lab::new().await;
    let at = |name: &str| lab.workspace.join(name);
    program(&at("x"), GOOD);
    directory(&at("d"), "good");
    let bind =
        |name: &str, cwd: &str| Some(Arc::new(lab.sandbox.bind(&lab.grant(), name, cwd).unwrap()));
    // A system program is known by what it is, one that a tool could write also by its content.
    let cat = bind("cat", "").unwrap();
    let system = cat.executable.clone().unwrap();
    assert!(system.path.starts_with("/usr/"), "{system:?}");
    assert_eq!(system.sha256, None);
    let run = async |argv: &[&str], cwd: &str, bound: Option<Arc<Bound>>| {
        lab.run_job(Job { cwd: cwd.to_owned(), bound, ..lab.job(argv) }).await
    };
    let refused = |result: Result<_, SandboxError>, what: &str| match result {
        Err(error @ SandboxError::Changed(_)) => assert!(error.to_string().contains(what)),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(&run(&["./x"], "", bind("./x", "")).await.unwrap()).trim(), "good");
    assert_eq!(text(&run(&["cat", "mark"], "d", bind("cat", "d")).await.unwrap()), "good");
    // The same name under another identity, each part alone.
    let mut other = (*cat).clone();
    other.executable.as_mut().unwrap().file.ctime_ns += 1;
    refused(run(&["cat", "d/mark"], "", Some(Arc::new(other))).await, "program");
    let (script, entered) = (bind("./x", ""), bind("cat", "d"));
    fs::remove_file(at("x")).unwrap();
    refused(run(&["./x"], "", script.clone()).await, "program");
    program(&at("x"), GOOD);
    refused(run(&["./x"], "", script).await, "program");
    fs::rename(at("d"), at("old")).unwrap();
    refused(run(&["cat", "mark"], "d", entered.clone()).await, "directory");
    symlink("old", at("d")).unwrap();
    // By another way the same directory: it is what was approved.
    assert_eq!(text(&run(&["cat", "mark"], "d", entered).await.unwrap()), "good");
    // What only the sandbox sees, or nobody, cannot be asked about.
    for name in ["/tmp/x", "./missing", "no-such-program", "/etc/passwd", "./old"] {
        assert!(lab.sandbox.bind(&lab.grant(), name, "").is_err(), "{name}");
    }
    // A link out of the view leads nowhere, whoever looks.
    let outside = lab.base.path().join("outside");
    program(&outside, EVIL);
    symlink(&outside, at("out")).unwrap();
    assert!(lab.sandbox.bind(&lab.grant(), "./out", "").is_err());
    assert!(lab.sandbox.bind(&lab.grant(), "cat", "..").is_err());
}

#[tokio::test]
async fn a_program_of_the_machine_is_executed_from_a_copy_where_others_could_change_it() {
    let lab = Lab::new().await;
    // A real program, not a script: copied into the workspace, where a tool could write to it.
    let copy = lab.workspace.join("cat");
    fs::copy("/bin/cat", &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox::give_to_tools(fs::File::open(&copy).unwrap()).unwrap();
    let bound = lab.sandbox.bind(&lab.grant(), "./cat", "").unwrap();
    assert!(bound.executable.as_ref().unwrap().sha256.is_some());
    let job = Job { bound: Some(Arc::new(bound)), ..lab.job(&["./cat", "/proc/self/cmdline"]) };
    let outcome = lab.run_job(job).await.unwrap();
    assert_eq!(text(&outcome), "./cat\0/proc/self/cmdline\0");
}
