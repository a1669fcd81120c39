//! An error as a person reads it: one line, the next step, an exit code.

use std::process::ExitCode;

use crate::app::{client::ClientError, config::Problems};

/// Exit code: it failed.
pub(crate) const FAULT: u8 = 1;
/// Exit code: wrong usage or configuration.
pub(crate) const USAGE: u8 = 2;
/// Exit code: no daemon answers, or it does not accept the token.
pub(crate) const NO_DAEMON: u8 = 3;

/// Why a command ended badly.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    next: Option<String>,
    code: u8,
}

impl Failure {
    /// It failed.
    pub(crate) fn fault(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, code: FAULT }
    }

    /// It was asked for in a wrong way.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, code: USAGE }
    }

    /// Nobody is there to do it.
    pub(crate) fn no_daemon(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, code: NO_DAEMON }
    }

    /// What to do about it.
    pub(crate) fn next(self, step: impl Into<String>) -> Self {
        Self { next: Some(step.into()), ..self }
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let next = self.next.as_ref().map_or_else(String::new, |n| format!("\n  → {n}"));
        super::out::note(format_args!("error: {}{next}", self.what));
        ExitCode::from(self.code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let what = error.to_string();
        match error {
            ClientError::Unreachable { .. } => Self {
                what,
                next: Some(
                    "start it with `agent-runtime serve`, or name it with --url or AGENT_RUNTIME_URL"
                        .to_owned(),
                ),
                code: NO_DAEMON,
            },
            ClientError::Problem(problem) if problem.status == 401 => Self {
                what,
                next: Some(
                    "set AGENT_RUNTIME_TOKEN_FILE, or use the data directory of the daemon with --data-dir"
                        .to_owned(),
                ),
                code: NO_DAEMON,
            },
            ClientError::Problem(_) | ClientError::Protocol(_) | ClientError::StreamLost => {
                Self::fault(what)
            }
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let count = problems.list().len();
        let what = match problems.list() {
            [one] => format!("{}: {}", one.place, one.what),
            many => {
                let lines: Vec<String> =
                    many.iter().map(|p| format!("  {}: {}", p.place, p.what)).collect();
                format!("{count} problems with the configuration\n{}", lines.join("\n"))
            }
        };
        Self::usage(what)
            .next("every setting: config/agent-runtime.toml; in force: `agent-runtime config show`")
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}
