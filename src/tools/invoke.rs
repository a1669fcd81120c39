//! One door for every tool call.

use std::sync::Arc;

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    exec::{self, Process},
    files::{self, FileError, Told},
    parse::Invocation,
    search,
};
use crate::{
    domain::{Grant, ToolCallId, ToolOutcome, ToolStatus, event::OutputStream},
    runtime::{Redactor, Tasks},
    sandbox::{Sandbox, Status},
};

/// What a call needs beside its arguments and its grant.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Its id: also the idempotency key that process tools find in their environment.
    pub call_id: ToolCallId,
    /// Ends it.
    pub stop: CancellationToken,
    /// Where pieces of output go while it runs; dropped when nobody keeps up.
    pub output: Option<mpsc::Sender<(OutputStream, String)>>,
}

/// The built-in tools. Clones share the sandbox.
#[derive(Clone, Debug)]
pub struct Tools {
    sandbox: Sandbox,
    redactor: Redactor,
}

impl Tools {
    /// Tools that run in this sandbox.
    pub fn new(sandbox: Sandbox, redactor: Redactor) -> Self {
        Self { sandbox, redactor }
    }

    /// Tools that start no process, for tests of those above.
    #[cfg(test)]
    pub(crate) async fn without_processes(
        data_dir: &std::path::Path,
        redactor: Redactor,
        tasks: &crate::runtime::Tasks,
    ) -> Self {
        let options = crate::sandbox::Options {
            enabled: false,
            min_level: crate::domain::Confinement::None,
            data_dir: data_dir.to_owned(),
            processes_max: 1,
            disk_free_bytes_min: 0,
            sessions_max: 1,
        };
        Self::new(Sandbox::start(options, tasks).await.unwrap(), redactor)
    }

    /// Whether process tools can run, and how well confined.
    pub fn sandbox_status(&self) -> Status {
        self.sandbox.status()
    }

    /// Carries out a call that policy has granted. Never an error: what went wrong is the outcome.
    /// Dropping the future kills a process; a file operation that has begun is finished.
    pub async fn invoke(
        &self,
        call: &Invocation,
        grant: Arc<Grant>,
        cx: CallContext,
    ) -> ToolOutcome {
        let output_bytes = grant.limits.output_bytes;
        let outcome = match call {
            Invocation::Exec(exec) => self.process(exec.into(), grant, &cx).await,
            Invocation::Shell(shell) => self.process(shell.into(), grant, &cx).await,
            Invocation::AskUser(_) => ToolOutcome::message(
                ToolStatus::Error,
                "a question is answered by a person, not by a tool",
            ),
            Invocation::ReadFile(_)
            | Invocation::WriteFile(_)
            | Invocation::EditFile(_)
            | Invocation::ListFiles(_)
            | Invocation::SearchFiles(_) => on_files(call.clone(), grant).await,
        };
        self.finish(outcome, output_bytes)
    }

    async fn process(&self, process: Process, grant: Arc<Grant>, cx: &CallContext) -> ToolOutcome {
        Box::pin(exec::run(&self.sandbox, &self.redactor, process, grant, cx)).await
    }

    /// Redacts, then bounds: a mask may be longer than what it hides.
    fn finish(&self, mut outcome: ToolOutcome, output_bytes: usize) -> ToolOutcome {
        let mut output = self.redactor.redact(&outcome.output).into_owned();
        // The notes that the tools add are short; invalid bytes triple when they are replaced.
        let bytes_max = output_bytes.saturating_add(512);
        if output.len() > bytes_max {
            output.truncate(output.floor_char_boundary(bytes_max));
            outcome.truncated = true;
        }
        outcome.output = output;
        outcome
    }
}

async fn on_files(call: Invocation, grant: Arc<Grant>) -> ToolOutcome {
    let started = Instant::now();
    let done = Tasks::spawn_blocking(move || file_tool(&call, &grant)).await;
    let (status, told) = match done {
        Ok(Ok(told)) => (ToolStatus::Ok, told),
        Ok(Err(error)) => {
            (ToolStatus::Error, Told { text: error.to_string(), is_truncated: false })
        }
        Err(panicked) => {
            tracing::error!(error = %panicked, "a file tool panicked");
            let text = "the file tool failed inside the daemon".to_owned();
            (ToolStatus::Error, Told { text, is_truncated: false })
        }
    };
    ToolOutcome {
        status,
        exit_code: None,
        output: told.text,
        truncated: told.is_truncated,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        confinement: None,
    }
}

fn file_tool(call: &Invocation, grant: &Grant) -> Result<Told, FileError> {
    let output_bytes = grant.limits.output_bytes;
    match call {
        Invocation::ReadFile(call) => files::read(grant, call, output_bytes),
        Invocation::WriteFile(call) => files::write(grant, call, grant.limits.file_bytes),
        Invocation::EditFile(call) => files::edit(grant, call),
        Invocation::ListFiles(call) => files::list(grant, call, output_bytes),
        Invocation::SearchFiles(call) => search::search(grant, call, output_bytes),
        Invocation::Exec(_) | Invocation::Shell(_) | Invocation::AskUser(_) => {
            Ok(Told { text: String::new(), is_truncated: false })
        }
    }
}
