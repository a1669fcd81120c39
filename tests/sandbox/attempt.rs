//! One attempt to get out: made in the sandbox, then made again without it.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use agent_runtime::{
    domain::Grant,
    sandbox::{self, End},
};

use crate::support::{Lab, job, text};

/// What an attempt showed.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) output: String,
    pub(crate) signal: Option<i32>,
}

impl Seen {
    /// Whether the probe itself says that its call worked.
    pub(crate) fn is_ok(&self) -> bool {
        self.output.starts_with("ok")
    }

    /// The number after a word, such as `made 12`.
    pub(crate) fn number(&self, word: &str) -> u64 {
        let rest = self.output.lines().find_map(|l| l.strip_prefix(word));
        rest.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }
}

type Judge = Box<dyn Fn(&Seen) -> bool>;

/// An attempt and how to tell that it worked.
pub(crate) struct Attempt {
    name: &'static str,
    args: Vec<String>,
    control: Option<Vec<String>>,
    reset: Box<dyn Fn()>,
    has_escaped: Judge,
    /// Only root can do it for certain even unconfined.
    needs_root: bool,
    grant: Option<Grant>,
}

/// An attempt that counts as escaped when the probe's call worked.
pub(crate) fn attempt(name: &'static str, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Attempt {
    let args = args.iter().map(|a| a.as_ref().to_str().unwrap().to_owned()).collect();
    Attempt {
        name,
        args,
        control: None,
        reset: Box::new(|| {}),
        has_escaped: Box::new(Seen::is_ok),
        needs_root: false,
        grant: None,
    }
}

impl Attempt {
    /// What outside would have changed.
    pub(crate) fn if_seen(mut self, has_escaped: impl Fn(&Seen) -> bool + 'static) -> Self {
        self.has_escaped = Box::new(has_escaped);
        self
    }

    /// Puts outside back as it was.
    pub(crate) fn after(mut self, reset: impl Fn() + 'static) -> Self {
        self.reset = Box::new(reset);
        self
    }

    /// Other arguments without the sandbox, where a path is private within.
    pub(crate) fn unconfined(mut self, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Self {
        self.control = Some(args.iter().map(|a| a.as_ref().to_str().unwrap().to_owned()).collect());
        self
    }

    pub(crate) fn needs_root(mut self) -> Self {
        self.needs_root = true;
        self
    }

    pub(crate) fn under(mut self, grant: Grant) -> Self {
        self.grant = Some(grant);
        self
    }
}

/// Makes every attempt both ways and fails with all that went wrong.
pub(crate) async fn judge(lab: &Lab, attempts: Vec<Attempt>) {
    let inside = lab.workspace.join("probes");
    let outside = lab.base.path().join("probes");
    for copy in [&inside, &outside] {
        std::fs::copy(probes(), copy).unwrap();
    }
    sandbox::give_to_tools(std::fs::File::open(&inside).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for attempt in &attempts {
        (attempt.reset)();
        let confined = confined(lab, &inside, attempt).await;
        if (attempt.has_escaped)(&confined) {
            wrong.push(format!("{}: ESCAPED: {confined:?}", attempt.name));
        }
        (attempt.reset)();
        let free = unconfined(lab, &outside, attempt);
        let works = (attempt.has_escaped)(&free);
        // Where only root can, another user's control at least fails for that very reason.
        let reason = || {
            let codes = [libc::EPERM, libc::EACCES].map(|code| format!("errno {code}"));
            codes.iter().any(|code| free.output.contains(code))
        };
        let is_excused = attempt.needs_root && !is_root() && reason();
        if !works && !is_excused {
            wrong.push(format!("{}: the control proves nothing: {free:?}", attempt.name));
        }
        println!("{:<40} confined: {:<24} free: {}", attempt.name, short(&confined), short(&free));
        (attempt.reset)();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn short(seen: &Seen) -> String {
    let line = seen.output.lines().next().unwrap_or("");
    let text: String = line.chars().take(40).collect();
    seen.signal.map_or(text, |signal| format!("signal {signal}"))
}

async fn confined(lab: &Lab, probes: &Path, attempt: &Attempt) -> Seen {
    let grant = attempt.grant.clone().unwrap_or_else(|| lab.grant());
    let argv: Vec<&str> = std::iter::once(probes.to_str().unwrap())
        .chain(attempt.args.iter().map(String::as_str))
        .collect();
    let outcome = lab.run_job(job(grant, &argv)).await.unwrap();
    let signal = match outcome.end {
        End::Signaled(signal) => Some(signal),
        _ => None,
    };
    Seen { output: text(&outcome), signal }
}

fn unconfined(lab: &Lab, probes: &Path, attempt: &Attempt) -> Seen {
    use std::os::unix::process::ExitStatusExt;
    #[expect(clippy::disallowed_methods, reason = "the control runs without the sandbox")]
    let mut command = std::process::Command::new(probes);
    let args = attempt.control.as_ref().unwrap_or(&attempt.args);
    command.args(args).current_dir(lab.base.path()).stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    Seen {
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        signal: output.status.signal(),
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The compiled probes, made once.
fn probes() -> &'static Path {
    static PROBES: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROBES.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("probes");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox/probes/probes.c");
        #[expect(clippy::disallowed_methods, reason = "compiles the probes")]
        let status =
            std::process::Command::new("gcc").args(["-O1", "-o"]).arg(&path).arg(source).status();
        assert!(status.unwrap().success(), "the probes do not compile");
        (directory, path)
    });
    path
}
