//! Every limit, reached by a real program in the sandbox, and named; with a larger limit the same
//! program comes to its end. What a limit is to spare is measured from outside.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use agent_runtime::{
    domain::ToolLimits,
    sandbox::{self, End, Outcome},
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tokio::time::Instant;

use crate::support::{Lab, eventually, good, job, text};

/// The compiled programs, made once.
fn compiled() -> &'static Path {
    static BOMBS: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BOMBS.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bombs");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox/probes/bombs.c");
        #[expect(clippy::disallowed_methods, reason = "compiles the programs")]
        let status =
            std::process::Command::new("gcc").args(["-O1", "-o"]).arg(&path).arg(source).status();
        assert!(status.unwrap().success(), "the bombs do not compile");
        (directory, path)
    });
    path
}

/// A lab with the programs in its workspace.
pub(crate) struct Range {
    pub(crate) lab: Lab,
    program: String,
}

impl Range {
    pub(crate) async fn new() -> Self {
        Self::of(Lab::new().await)
    }

    fn of(lab: Lab) -> Self {
        let program = lab.workspace.join("bombs");
        std::fs::copy(compiled(), &program).unwrap();
        sandbox::give_to_tools(std::fs::File::open(&program).unwrap()).unwrap();
        Self { program: program.to_str().unwrap().to_owned(), lab }
    }

    pub(crate) async fn run(&self, args: &[&str], change: impl FnOnce(&mut ToolLimits)) -> Outcome {
        let mut grant = self.lab.grant();
        change(&mut grant.limits);
        let line: Vec<&str> =
            std::iter::once(self.program.as_str()).chain(args.iter().copied()).collect();
        self.lab.run_job(job(grant, &line)).await.unwrap()
    }

    /// Runs it twice: under the limit it is killed for it, under a larger one it is not.
    async fn is_killed_for(
        &self,
        limit: &'static str,
        args: &[&str],
        small: impl FnOnce(&mut ToolLimits),
        large: impl FnOnce(&mut ToolLimits),
    ) -> Outcome {
        let killed = self.run(args, small).await;
        assert_eq!(killed.end, End::Limit(limit), "{args:?}: {}", text(&killed));
        assert!(killed.limits_reached.contains(&limit), "{killed:?}");
        let control = self.run(args, large).await;
        assert_eq!(control.end, End::Exited(0), "{args:?}: {control:?}");
        assert!(!control.limits_reached.contains(&limit), "{control:?}");
        killed
    }

    /// Runs it twice: under the limit it fails and the limit is named, under a larger one not.
    async fn fails_for(
        &self,
        limit: &'static str,
        args: &[&str],
        small: impl FnOnce(&mut ToolLimits),
        large: impl FnOnce(&mut ToolLimits),
    ) {
        let failed = self.run(args, small).await;
        assert_eq!(failed.end, End::Exited(1), "{args:?}: {failed:?}");
        assert!(failed.limits_reached.contains(&limit), "{args:?}: {failed:?}");
        let control = self.run(args, large).await;
        assert_eq!(control.end, End::Exited(0), "{args:?}: {control:?}");
        assert!(!control.limits_reached.contains(&limit), "{args:?}: {control:?}");
    }
}

fn held_mib(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries.map(|e| e.metadata().map_or(0, |m| m.len())).sum::<u64>() >> 20
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn the_memory_of_a_call_is_added_up_over_its_processes() {
    let range = Range::new().await;
    let args = ["memory", "48", "4"];
    let small = |l: &mut ToolLimits| l.memory_total_bytes = 96 * MIB;
    range
        .is_killed_for("memory_total_bytes", &args, small, |l| l.memory_total_bytes = 400 * MIB)
        .await;
    // What eight processes share is there once.
    let shared =
        range.run(&["memory-shared", "100", "8"], |l| l.memory_total_bytes = 160 * MIB).await;
    assert_eq!(good(shared), "shared 100\n");
    // /tmp is memory too.
    let args = ["fill", "48", "1024", "/tmp", "5"];
    let small = |l: &mut ToolLimits| l.memory_total_bytes = 24 * MIB;
    range
        .is_killed_for("memory_total_bytes", &args, small, |l| l.memory_total_bytes = 200 * MIB)
        .await;
}

#[tokio::test]
async fn memory_that_belongs_to_no_process_cannot_be_had() {
    let range = Range::new().await;
    for args in [["shm", "64", "0"], ["memfd", "64", "0"]] {
        assert_eq!(good(range.run(&args, |_| {}).await), "got 0\n", "{args:?}");
        #[expect(clippy::disallowed_methods, reason = "the control runs without the sandbox")]
        let free = std::process::Command::new(compiled()).args([args[0], "16", "1"]).output();
        assert_eq!(String::from_utf8(free.unwrap().stdout).unwrap(), "got 16\n", "the control");
    }
    assert_eq!(good(range.run(&["shm-small"], |_| {}).await), "ok 1\n", "what servers lock with");
}

#[tokio::test]
async fn the_address_space_that_a_program_fills_is_named() {
    let range = Range::new().await;
    let failed = range.run(&["addresses"], |l| l.memory_bytes = 256 * MIB).await;
    assert_eq!(failed.end, End::Exited(1));
    assert_eq!(failed.limits_reached, ["memory_bytes"]);
    let small = range.run(&["memory", "20", "1"], |l| l.memory_bytes = 256 * MIB).await;
    assert_eq!((small.end, small.limits_reached), (End::Exited(0), vec![]));
}

#[tokio::test]
async fn the_processor_time_of_a_call_is_added_up_over_its_processes() {
    let range = Range::new().await;
    let two = |l: &mut ToolLimits| l.cpu_secs = 1;
    let ten = |l: &mut ToolLimits| l.cpu_secs = 10;
    range.is_killed_for("cpu_secs", &["cpu-alone", "1500"], two, ten).await;
    range.is_killed_for("cpu_secs", &["cpu", "700", "3"], two, ten).await;
    // The dead that somebody waited for, and those that nobody did.
    let unwaited = ["cpu-unwaited", "300", "6"];
    range.is_killed_for("cpu_secs", &unwaited, two, ten).await;
}

#[tokio::test]
async fn processes_threads_and_open_files_that_a_program_did_not_get_are_named() {
    let range = Range::new().await;
    let small = |l: &mut ToolLimits| l.processes = 30;
    range.fails_for("processes", &["forks", "60"], small, |l| l.processes = 100).await;
    range.fails_for("processes", &["threads", "60"], small, |l| l.processes = 100).await;
    let few = |l: &mut ToolLimits| l.open_files = 50;
    range.fails_for("open_files", &["files-open", "60"], few, |l| l.open_files = 100).await;
}

#[tokio::test]
async fn calls_of_two_runs_do_not_share_a_count_of_processes() {
    let (one, other) = (Range::new().await, Range::new().await);
    let limit = |l: &mut ToolLimits| l.processes = 60;
    // 45 each at the same time, under 60.
    let (a, b) = tokio::join!(one.run(&["forks", "45"], limit), other.run(&["forks", "45"], limit));
    assert_eq!((good(a), good(b)), ("made 45\n".to_owned(), "made 45\n".to_owned()));
    // The limit itself holds.
    let alone = one.run(&["forks", "100"], limit).await;
    let made: u64 = text(&alone).trim().strip_prefix("made ").unwrap().parse().unwrap();
    assert!((40..60).contains(&made), "{made}");
}

#[tokio::test]
async fn a_full_tmp_is_named_by_bytes_and_by_files() {
    let range = Range::new().await;
    let args = ["fill", "24", "1024", "/tmp"];
    range
        .fails_for("tmp_bytes", &args, |l| l.tmp_bytes = 8 * MIB, |l| l.tmp_bytes = 64 * MIB)
        .await;
    let args = ["fill", "300", "0", "/tmp"];
    range.fails_for("tmp_inodes", &args, |l| l.tmp_inodes = 100, |l| l.tmp_inodes = 1_000).await;
}

#[tokio::test]
async fn a_file_that_grows_too_large_ends_its_writer() {
    let range = Range::new().await;
    let args = ["fill", "1", "4096"];
    let large = |l: &mut ToolLimits| l.file_bytes = 16 * MIB;
    range.is_killed_for("file_bytes", &args, |l| l.file_bytes = MIB, large).await;
}

#[tokio::test]
async fn a_workspace_that_grows_beyond_its_quota_ends_the_call() {
    let range = Range::new().await;
    let workspace = range.lab.workspace.clone();
    let args = ["fill", "200", "1024", ".", "5"];
    let killed = range.run(&args, |l| l.workspace_bytes = 20 * MIB).await;
    assert_eq!(killed.end, End::Limit("workspace_bytes"), "{killed:?}");
    let held = held_mib(&workspace);
    assert!((20..150).contains(&held), "{held} MiB");
    // Above the quota a call may clean up, and read; it may not add.
    let quota = |l: &mut ToolLimits| l.workspace_bytes = 10 * MIB;
    let more = range.run(&["fill", "400", "1024", "/tmp/../", "5"], quota).await;
    assert_ne!(more.end, End::Exited(0), "the root is read-only");
    let sh = |script: &'static str| {
        let mut grant = range.lab.grant();
        quota(&mut grant.limits);
        range.lab.run_job(job(grant, &["sh", "-c", script]))
    };
    good(sh("sleep 0.3; rm f1 f2 f3; sleep 0.3; ls >/dev/null").await.unwrap());
    let script = "sleep 0.3; mkdir new; i=0; while [ $i -lt 99 ]; do dd if=/dev/zero of=new/$i bs=64k count=8 2>/dev/null; sleep 0.05; i=$((i+1)); done";
    let more = sh(script).await.unwrap();
    assert_eq!(more.end, End::Limit("workspace_bytes"), "{more:?}");
    // The control: the same work under a quota that it fits into.
    let control = range.run(&args, |l| l.workspace_bytes = 1_000 * MIB).await;
    assert_eq!(control.end, End::Exited(0), "{control:?}");
}

#[tokio::test]
async fn files_in_a_workspace_are_counted_too() {
    let range = Range::new().await;
    let args = ["fill", "2000", "0", ".", "1"];
    let killed = range.run(&args, |l| l.workspace_inodes = 200).await;
    assert_eq!(killed.end, End::Limit("workspace_inodes"), "{killed:?}");
    let made = std::fs::read_dir(&range.lab.workspace).unwrap().count();
    assert!((200..2_000).contains(&made), "{made}");
    let control = range.run(&args, |l| l.workspace_inodes = 5_000).await;
    assert_eq!(control.end, End::Exited(0), "{control:?}");
}

/// On file systems of its own, which only root can make: a twentieth of 48 MiB is less than the
/// usual floor, and the larger one has room for the same work.
#[tokio::test]
async fn a_disk_that_a_call_fills_ends_it_before_the_daemon_starves() {
    if !crate::attempt::is_root() {
        return;
    }
    for (size, end) in [(c"size=48m", End::Limit("disk_free")), (c"size=512m", End::Exited(0))] {
        let base = tempfile::tempdir().unwrap();
        let data = base.path().join("data");
        std::fs::create_dir(&data).unwrap();
        mount("none", &data, "tmpfs", MountFlags::empty(), size).unwrap();
        let range = Range::of(Lab::at(base, 4).await);
        let outcome = range.run(&["fill", "500", "256", ".", "5"], |_| {}).await;
        let named = outcome.limits_reached.contains(&"disk_free");
        assert_eq!((outcome.end, named), (end, end != End::Exited(0)), "{outcome:?}");
        range.lab.stop.hard();
        unmount(&data, UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn output_without_end_is_ended() {
    let range = Range::new().await;
    let begun = Instant::now();
    let mut grant = range.lab.grant();
    grant.limits.output_bytes = 4_096;
    let flood = range.lab.run_job(job(grant, &["yes"])).await.unwrap();
    assert_eq!((flood.end, flood.truncated), (End::Limit("output_bytes"), true));
    assert!(flood.output.len() < 5_000 && begun.elapsed() < Duration::from_secs(10));
    assert_eq!(good(range.lab.sh("yes | head -c 100000 | wc -c").await), "100000\n");
}

#[tokio::test]
async fn the_wall_clock_ends_a_bomb_quickly_and_completely() {
    let range = Range::new().await;
    for bomb in ["fork-for-ever", "memory-for-ever"] {
        let limits = |l: &mut ToolLimits| {
            l.wall_secs = 1;
            l.memory_bytes = 128 * MIB;
        };
        let ended = range.run(&[bomb], limits).await;
        assert_eq!(ended.end, End::TimedOut, "{ended:?}");
        let late = ended.duration.saturating_sub(Duration::from_secs(1));
        println!("{bomb}: dead {late:?} after its time");
        assert!(late < Duration::from_secs(5), "{bomb} took {late:?} to die");
        let program = range.program.clone();
        eventually("every process of the bomb is gone", move || running(&program) == 0).await;
        assert_eq!(good(range.lab.sh("echo fine").await), "fine\n");
    }
}

/// Processes on this machine that run a program, by its path.
fn running(program: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(program.as_bytes())).count()
}
