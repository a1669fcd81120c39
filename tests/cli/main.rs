//! The command line and the daemon's life, on the real binary.

#![cfg(test)]

mod commands;
mod egress;
mod life;
mod policy_offline;
#[path = "../support/mod.rs"]
mod support;

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

/// What a command printed and how it ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }

    #[track_caller]
    fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    fn bad(self, code: i32, word: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(word), "`{word}` is not in {self:?}");
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Our program in a directory, with a clean environment.
fn program(dir: &Path, args: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the test starts our own program")]
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-runtime"));
    command.args(args).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(dir);
    command
}

fn run(dir: &Path, args: &[&str]) -> Ran {
    program(dir, args).stdin(Stdio::null()).output().unwrap().into()
}

/// Runs a command with text on its standard input.
fn feed(command: &mut Command, input: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}
