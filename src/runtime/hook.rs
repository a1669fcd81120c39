//! A program of the operator that is started when something was done: a copy to another place, for
//! example.
//!
//! Invariants: no shell; the environment holds a path and a home and nothing of the daemon's; it is
//! killed when its time is over, and waited for; what it says is bounded.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How often to look whether it has ended.
const LOOK: Duration = Duration::from_millis(50);
/// What is kept of what it says.
const SAID_BYTES: u64 = 2 << 10;
/// Where programs are found that are named without a path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a hook did not do it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HookError {
    /// There is nothing to start.
    #[error("no program is named")]
    Empty,
    /// It cannot be started.
    #[error("{program} cannot be started: {why}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        why: String,
    },
    /// It ended badly.
    #[error("{program} ended with {how}: {said}")]
    Failed {
        /// Which.
        program: String,
        /// Its exit code or signal.
        how: String,
        /// What it wrote to its standard error.
        said: String,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {secs} s and was killed")]
    Slow {
        /// Which.
        program: String,
        /// The bound.
        secs: u64,
    },
}

/// Starts the program with its arguments and one more, and waits until it has ended. Blocking.
///
/// # Errors
/// When it cannot be started, fails or takes too long.
pub fn run(argv: &[String], last: &str, home: &str, timeout: Duration) -> Result<(), HookError> {
    let (program, arguments) = argv.split_first().ok_or(HookError::Empty)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the operator's own program, not a tool of agents"
    )]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(last)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", home)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A signal to the daemon's group is none for it.
        .process_group(0);
    let mut child = command
        .spawn()
        .map_err(|e| HookError::Start { program: program.clone(), why: e.to_string() })?;
    let said = child.stderr.take();
    #[expect(
        clippy::disallowed_methods,
        reason = "it reads one pipe, which the child's end closes"
    )]
    let said = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut said) = said {
            (&mut said).take(SAID_BYTES).read_to_end(&mut text).unwrap_or_default();
            // It must not block on a full pipe.
            std::io::copy(&mut said, &mut std::io::sink()).unwrap_or_default();
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let Some(status) = wait(&mut child, timeout) else {
        return Err(HookError::Slow { program: program.clone(), secs: timeout.as_secs() });
    };
    if status.success() {
        return Ok(());
    }
    // What it has started may hold the pipe open: then there is nothing more to say.
    std::thread::sleep(LOOK);
    let said = if said.is_finished() { said.join().unwrap_or_default() } else { String::new() };
    Err(HookError::Failed { program: program.clone(), how: status.to_string(), said })
}

fn wait(child: &mut Child, timeout: Duration) -> Option<std::process::ExitStatus> {
    let mut left = timeout;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) | Err(_) if left.is_zero() => {
                child.kill().unwrap_or_default();
                child.wait().map(drop).unwrap_or_default();
                return None;
            }
            Ok(None) | Err(_) => {
                let pause = LOOK.min(left);
                std::thread::sleep(pause);
                left -= pause;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, timeout: Duration) -> Result<(), HookError> {
        let argv = ["/bin/sh", "-c", script, "hook"].map(str::to_owned);
        run(&argv, "the last", "/", timeout)
    }

    #[test]
    fn a_hook_gets_the_path_as_its_last_argument_and_nothing_of_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!("echo \"$1\" > {0}; env >> {0}", out.display());
        sh(&script, Duration::from_secs(20)).unwrap();
        let text = std::fs::read_to_string(&out).unwrap();
        assert_eq!(text.lines().next(), Some("the last"));
        let allowed = ["PATH=", "HOME=", "PWD=", "_=", "SHLVL=", "OLDPWD="];
        let is_allowed = |line: &str| allowed.iter().any(|name| line.starts_with(name));
        assert!(text.lines().skip(1).all(is_allowed), "{text}");
    }

    #[test]
    fn a_hook_that_fails_is_slow_or_missing_is_told() {
        let failed = sh("echo no space >&2; exit 3", Duration::from_secs(20)).unwrap_err();
        assert!(
            matches!(&failed, HookError::Failed { said, .. } if said == "no space"),
            "{failed}"
        );
        assert!(failed.to_string().contains('3'), "{failed}");
        let slow = sh("exec sleep 600", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(slow, HookError::Slow { .. }), "{slow}");
        let missing = run(&["/no/such".to_owned()], "x", "/", Duration::from_secs(1)).unwrap_err();
        assert!(matches!(missing, HookError::Start { .. }), "{missing}");
        assert_eq!(run(&[], "x", "/", Duration::from_secs(1)), Err(HookError::Empty));
    }
}
