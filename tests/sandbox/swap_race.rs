//! A tool swaps a directory for a link to the outside while file tools work through it.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use agent_runtime::{
    domain::{
        CommandRule, Grant, IdSource, RunId, SystemClock, ToolCallId, ToolLimits, ToolOutcome,
        ToolStatus,
    },
    runtime::Redactor,
    sandbox::{self, dir::WritableDir},
    tools::{CallContext, parse},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::Lab;

const TRIES: usize = 24_000;
const OUTSIDE: &str = "content from outside";
const INSIDE: &str = "content from inside";

/// A workspace in which `x` is, in turn, a directory and a link to a directory outside.
struct Swap {
    base: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicUsize>,
    swapper: Option<std::thread::JoinHandle<()>>,
}

impl Swap {
    fn new() -> Self {
        // In memory, so that the race is not slowed down by the disk.
        let shm = Path::new("/dev/shm");
        let base =
            if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        let (ws, out) = (base.path().join("ws"), base.path().join("out"));
        for directory in [&ws.join("x"), &out] {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(ws.join("x/file"), INSIDE).unwrap();
        std::fs::write(out.join("file"), OUTSIDE).unwrap();
        std::fs::write(out.join("only-outside"), OUTSIDE).unwrap();
        // All of it is the tools' own: not their rights but the held directory stands in the way.
        for path in [".", "ws", "ws/x", "ws/x/file", "out", "out/file"] {
            sandbox::give_to_tools(std::fs::File::open(base.path().join(path)).unwrap()).unwrap();
        }
        symlink("../out", ws.join("y")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swaps = Arc::new(AtomicUsize::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&swaps));
        #[expect(clippy::disallowed_methods, reason = "the attacker is a thread of the test")]
        let swapper = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let (x, y) = (ws.join("x"), ws.join("y"));
                renameat_with(CWD, &x, CWD, &y, RenameFlags::EXCHANGE).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { base, stop, swaps, swapper: Some(swapper) }
    }

    fn workspace(&self) -> PathBuf {
        self.base.path().join("ws")
    }

    /// What lies outside, names and contents.
    fn outside(&self) -> Vec<(String, String)> {
        let mut found: Vec<_> = std::fs::read_dir(self.base.path().join("out"))
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                let name = e.file_name().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(e.path()).unwrap())
            })
            .collect();
        found.sort();
        found
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(swapper) = self.swapper.take() {
            drop(swapper.join());
        }
    }
}

fn untouched() -> Vec<(String, String)> {
    ["file", "only-outside"].map(|name| (name.to_owned(), OUTSIDE.to_owned())).to_vec()
}

/// What the tools must not do: look first, then open by name.
fn naive_read(workspace: &Path, path: &str) -> Option<String> {
    let real = std::fs::canonicalize(workspace.join(path)).ok()?;
    if !real.starts_with(workspace) {
        return None;
    }
    std::fs::read_to_string(workspace.join(path)).ok()
}

#[test]
fn looking_first_and_opening_then_leaks() {
    // The negative control: the race is real on this machine.
    let swap = Swap::new();
    let workspace = swap.workspace().canonicalize().unwrap();
    let leaked = (0..2_000_000)
        .any(|_| naive_read(&workspace, "x/file").is_some_and(|text| text == OUTSIDE));
    assert!(leaked, "the race was never lost: this suite proves nothing here");
}

#[test]
fn a_held_directory_never_reads_or_writes_outside() {
    let swap = Swap::new();
    let dir = WritableDir::open(&swap.workspace(), &swap.workspace()).unwrap();
    let mut inside = 0;
    for n in 0..TRIES {
        let text = dir.dir().read(Path::new("x/file"), 1_000);
        let text = text.map(|t| String::from_utf8(t).unwrap()).unwrap_or_default();
        assert_ne!(text, OUTSIDE, "leaked at try {n}");
        inside += usize::from(text == INSIDE);
        if let Ok((entries, _)) = dir.dir().list(Path::new("x"), 100) {
            assert!(!entries.iter().any(|e| e.path.ends_with("only-outside")), "listed at {n}");
        }
        if n % 4 == 0 {
            // Some of these succeed in the directory, the others are refused.
            dir.append(Path::new("x/log"), b"line\n", 1 << 20).ok();
            dir.create(Path::new(&format!("x/new-{n}")), b"new").ok();
            dir.replace(Path::new("x/replaced"), b"replaced").ok();
        }
    }
    assert!(inside > TRIES / 100, "the inside was reached {inside} times only");
    assert!(swap.swaps.load(Ordering::Relaxed) > TRIES / 10, "hardly any swap happened");
    assert_eq!(swap.outside(), untouched());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_tools_never_read_or_write_outside() {
    let lab = Lab::new().await;
    let swap = Swap::new();
    let tools = crate::tool_calls::tools_in(lab.sandbox.clone(), Redactor::default());
    let ids = IdSource::new(Arc::new(SystemClock), |bytes| getrandom::fill(bytes).unwrap());
    let grant = Arc::new(Grant {
        workspace: swap.workspace(),
        paths: Vec::new(),
        commands: CommandRule::None,
        may_execute_files: true,
        hosts: std::sync::Arc::default(),
        same_host_only: false,
        egress: agent_runtime::domain::EgressLimits::default(),
        limits: ToolLimits::default(),
    });
    let call = async |tool: &str, args: Value| -> ToolOutcome {
        let call = parse(tool, &args).unwrap();
        let stop = CancellationToken::new();
        let cx = CallContext {
            call_id: ToolCallId::new(&ids),
            run: RunId::new(&ids),
            agent: "a".parse().unwrap(),
            stop,
            output: None,
            bound: None,
        };
        tools.invoke(&call, Arc::clone(&grant), cx).await.outcome
    };
    let mut worked = 0;
    for n in 0..3_000 {
        for (tool, args) in [
            ("read_file", json!({"path": "x/file"})),
            ("search_files", json!({"pattern": "content", "path": "x"})),
            ("list_files", json!({"path": "x", "recursive": true})),
            ("write_file", json!({"path": "x/w", "content": "w", "mode": "overwrite"})),
            ("edit_file", json!({"path": "x/file", "old": "from outside", "new": "changed"})),
        ] {
            let outcome = call(tool, args).await;
            assert!(!outcome.output.contains(OUTSIDE), "{tool} leaked at {n}");
            assert!(!outcome.output.contains("only-outside"), "{tool} listed at {n}");
            worked += usize::from(outcome.status == ToolStatus::Ok);
        }
    }
    assert!(worked > 100, "the tools worked {worked} times only");
    assert_eq!(swap.outside(), untouched());
}
