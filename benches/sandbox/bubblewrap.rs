//! The same confinement by bubblewrap: every namespace, the same view, the same seccomp program.
//! It has no Landlock, no resource limits and no pid 1 of its own beyond its default. The program is
//! one piece here: a process that is started for each call has nobody to inherit a part of it from.

use std::{
    fs::File,
    io::{Seek, Write},
    os::fd::AsRawFd,
    process::Command,
};

use anyhow::Context as _;

/// A command line of bubblewrap that is ready to be started again and again.
pub(crate) struct Bubblewrap {
    filter: File,
    arguments: Vec<String>,
    /// Its own: under root, without capabilities, it could not enter one that belongs to tools.
    _workspace: tempfile::TempDir,
}

impl Bubblewrap {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Command::new("bwrap")
            .arg("--version")
            .output()
            .context("bubblewrap is not installed: run ops/bench.sh")?;
        let mut filter = tempfile::tempfile()?;
        filter.write_all(&agent_runtime::sandbox::seccomp_program())?;
        // Read by the program that is started, so it must not be closed on the way.
        rustix::io::fcntl_setfd(&filter, rustix::io::FdFlags::empty())?;
        let own = tempfile::Builder::new().prefix("art-bench-").tempdir()?;
        let workspace = own.path().display().to_string();
        let fixed = "--unshare-all --die-with-parent --new-session --ro-bind /usr /usr \
                     --ro-bind /etc/ld.so.cache /etc/ld.so.cache --proc /proc --dev /dev \
                     --tmpfs /tmp --clearenv --setenv PATH /usr/local/bin:/usr/bin:/bin \
                     --cap-drop ALL";
        let mut arguments: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
        for name in ["bin", "sbin", "lib", "lib64"] {
            arguments.extend(["--symlink".to_owned(), format!("usr/{name}"), format!("/{name}")]);
        }
        arguments.extend(["--bind".to_owned(), workspace.clone(), workspace.clone()]);
        arguments.extend(["--chdir".to_owned(), workspace, "--seccomp".to_owned()]);
        arguments.extend([filter.as_raw_fd().to_string(), "/bin/true".to_owned()]);
        Ok(Self { filter, arguments, _workspace: own })
    }

    /// Starts `/bin/true` in it and waits for the end. One at a time: the filter is one open file.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        self.filter.rewind()?;
        let status = Command::new("bwrap").args(&self.arguments).status()?;
        anyhow::ensure!(status.success(), "bubblewrap ended with {status}");
        Ok(())
    }
}
