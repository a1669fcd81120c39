//! The shim of `shim.c`: built once, loaded into a daemon, told what to do.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use crate::support::daemon::Daemon;

/// Which files a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The database and its log.
    Database = 1,
    /// The checkpoints of the audit trail, outside of the database.
    Checkpoints = 2,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) write_errno: i32,
    pub(crate) sync_errno: i32,
    pub(crate) read_errno: i32,
    pub(crate) target: Target,
    /// So many calls; none: until it is mended.
    pub(crate) times: Option<i32>,
}

/// What a daemon was loaded with.
pub(crate) struct Shim {
    control: File,
    log: Option<PathBuf>,
}

/// The library, built by the first test that needs it.
fn library() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let dir = tempfile::Builder::new().prefix("art-shim-").tempdir().expect("a directory");
        let library = dir.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outside/shim.c");
        #[expect(clippy::disallowed_methods, reason = "the test builds its shim")]
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(built.expect("cc is installed by ops/test.sh").success(), "the shim builds");
        (dir, library)
    });
    path
}

impl Shim {
    /// Loads the shim into every start of this daemon from now on.
    pub(crate) fn load(daemon: &mut Daemon) -> Self {
        let path = daemon.dir().join("shim.control");
        fs::write(&path, [0_u8; 4_096]).expect("a control page");
        let control = fs::OpenOptions::new().read(true).write(true).open(&path).expect("opened");
        fs::create_dir_all(daemon.data_dir()).expect("a data directory");
        let root = daemon.data_dir();
        daemon.set_env("SHIM_ROOT", root.to_str().expect("a path"));
        daemon.set_env("SHIM_CONTROL", path.to_str().expect("a path"));
        daemon.set_env("LD_PRELOAD", library().to_str().expect("a path"));
        Self { control, log: None }
    }

    /// The same, and records every write.
    pub(crate) fn record(daemon: &mut Daemon) -> Self {
        let mut shim = Self::load(daemon);
        let path = daemon.dir().join("shim.log");
        fs::write(&path, "").expect("a log");
        daemon.set_env("SHIM_LOG", path.to_str().expect("a path"));
        shim.log = Some(path);
        shim
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        self.control.write_all_at(bytes, offset).expect("the control page");
    }

    /// From now on this goes wrong.
    pub(crate) fn fail(&self, fault: Fault) {
        self.put(8, &(fault.target as i32).to_ne_bytes());
        self.put(12, &fault.times.unwrap_or(-1).to_ne_bytes());
        self.put(32, &fault.read_errno.to_ne_bytes());
        self.put(4, &fault.sync_errno.to_ne_bytes());
        self.put(0, &fault.write_errno.to_ne_bytes());
    }

    /// Nothing goes wrong any more; how many calls have failed since the beginning.
    pub(crate) fn mend(&self) -> u64 {
        self.put(0, &[0; 8]);
        self.put(32, &[0; 4]);
        let mut failed = [0; 8];
        self.control.read_exact_at(&mut failed, 24).expect("the control page");
        u64::from_ne_bytes(failed)
    }

    /// Sets the wall clock so far ahead of the machine's, or behind it.
    pub(crate) fn shift_clock(&self, ahead: bool, by: Duration) {
        let micros = i64::try_from(by.as_micros()).expect("it fits");
        self.put(16, &(if ahead { micros } else { -micros }).to_ne_bytes());
    }

    /// How long the record is now: what was done before is in it.
    pub(crate) fn position(&self) -> u64 {
        let log = self.log.as_ref().expect("a recording shim");
        fs::metadata(log).expect("a log").len()
    }

    pub(crate) fn log(&self) -> &Path {
        self.log.as_ref().expect("a recording shim")
    }
}
