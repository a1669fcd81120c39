//! One door for every tool call.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    exec::{self, Process},
    files::{self, FileError, Told},
    gate::Gate,
    http::{self, HttpRequest},
    network::{self, Network, NetworkStatus, UnderWay},
    parse::Invocation,
    search,
    sessions::Sessions,
};
use crate::{
    domain::{
        AgentName, Bound, Confinement, EgressRecord, Grant, RunId, ToolCallId, ToolOutcome,
        ToolStatus, event::OutputStream,
    },
    egress::{Egress, Traffic},
    runtime::{Redactor, Tasks},
    sandbox::{Sandbox, Status, dir::DirError},
};

/// How long a run's sandbox may be idle before it goes.
const SESSION_IDLE: Duration = Duration::from_secs(60);

/// Bounds that an operator may change.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a run's sandbox may be idle before it goes, and with it the run's `/tmp`.
    pub session_idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { session_idle: SESSION_IDLE }
    }
}

/// What a call needs beside its arguments and its grant.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Its id: also the idempotency key that process tools find in their environment.
    pub call_id: ToolCallId,
    /// Its run, whose sandboxes it uses.
    pub run: RunId,
    /// The run's agent.
    pub agent: AgentName,
    /// Ends it.
    pub stop: CancellationToken,
    /// Where pieces of output go while it runs; dropped when nobody keeps up.
    pub output: Option<mpsc::Sender<(OutputStream, String)>>,
    /// What a person was shown, if anybody was asked: anything else is not touched.
    pub bound: Option<Arc<Bound>>,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoked {
    /// What the model is told.
    pub outcome: ToolOutcome,
    /// What it was refused on the network: the first ones, bounded by `egress`.
    pub refusals: Vec<EgressRecord>,
    /// Whether something came in that others have written.
    pub taints: bool,
    /// What is no longer as it was approved, if that is why nothing was done.
    pub changed: Option<String>,
}

impl From<ToolOutcome> for Invoked {
    /// A call that never reached out.
    fn from(outcome: ToolOutcome) -> Self {
        Self { outcome, refusals: Vec::new(), taints: false, changed: None }
    }
}

/// The built-in tools. Clones share the sandbox and what runs keep in it.
#[derive(Clone, Debug)]
pub struct Tools {
    pub(super) sandbox: Sandbox,
    pub(super) sessions: Sessions,
    pub(super) gate: Gate,
    network: Network,
    redactor: Redactor,
}

impl Tools {
    /// Tools that run in this sandbox and reach other machines through this egress.
    pub fn new(
        sandbox: Sandbox,
        egress: Egress,
        redactor: Redactor,
        options: Options,
        tasks: &Tasks,
    ) -> Self {
        let sessions = Sessions::start(sandbox.clone(), egress, options.session_idle, tasks);
        let (gate, network) = (Gate::default(), Network::default());
        Self { sandbox, sessions, gate, network, redactor }
    }

    /// Tools that start no process, for tests of those above.
    #[cfg(test)]
    pub(crate) async fn without_processes(
        data_dir: &std::path::Path,
        redactor: Redactor,
        tasks: &Tasks,
    ) -> Self {
        let options = crate::sandbox::Options {
            enabled: false,
            min_level: crate::domain::Confinement::None,
            data_dir: data_dir.to_owned(),
            processes_max: 1,
            sessions_max: 1,
            backend: crate::sandbox::Backend::Sandbox,
        };
        let sandbox = Sandbox::start(options, tasks).await.unwrap();
        let egress = Egress::new(crate::egress::Options::default(), tasks).unwrap();
        Self::new(sandbox, egress, redactor, Options::default(), tasks)
    }

    /// Whether process tools can run, and how well confined.
    pub fn sandbox_status(&self) -> Status {
        self.sandbox.status()
    }

    /// Whether the network of process tools is known to lead to the policy alone.
    pub fn network_status(&self) -> NetworkStatus {
        self.network.status()
    }

    /// Proves, once at start, that process tools have no way out but the doors. `workspace`: an
    /// empty directory for the attempts. `is_enforced`: whether they get no network if they have.
    pub async fn check_network(
        &self,
        workspace: std::path::PathBuf,
        call_id: ToolCallId,
        is_enforced: bool,
    ) -> NetworkStatus {
        let status = self.sandbox.status();
        if status.level == Confinement::Local {
            let reason = "the backend `local` confines nothing: programs have their user's network";
            let reason = reason.to_owned();
            self.network.set(NetworkStatus::Failed { reason, is_enforced: false });
        } else if status.usable {
            let egress = self.sessions.egress();
            let checked = network::check(&self.sandbox, egress, workspace, call_id).await;
            self.network.set(match checked {
                Ok(true) => NetworkStatus::Held,
                Ok(false) => NetworkStatus::Absent,
                Err(reason) => NetworkStatus::Failed { reason, is_enforced },
            });
        }
        self.network.status()
    }

    /// Carries out a call that policy has granted. Never an error: what went wrong is the outcome.
    /// Dropping the future kills a process; a file operation that has begun is finished.
    pub async fn invoke(&self, call: &Invocation, grant: Arc<Grant>, cx: CallContext) -> Invoked {
        let entered = self.gate.enter().filter(|_| !cx.stop.is_cancelled());
        let Some(entered) = entered else {
            let text = "not executed: it was stopped before it began";
            return ToolOutcome::message(ToolStatus::Killed, text).into();
        };
        let output_bytes = grant.limits.output_bytes;
        let stop = cx.stop.clone();
        let effect = self.carry_out(call, grant, cx);
        tokio::pin!(effect);
        // The token is cancel-safe; the effect is only polled here, and answers when it is told to
        // stop.
        let mut invoked = tokio::select! {
            invoked = &mut effect => invoked,
            () = entered.stop.cancelled() => {
                stop.cancel();
                effect.await
            }
        };
        invoked.outcome = self.finish(invoked.outcome, output_bytes);
        invoked
    }

    async fn carry_out(&self, call: &Invocation, grant: Arc<Grant>, cx: CallContext) -> Invoked {
        match call {
            Invocation::Exec(exec) => self.process(exec.into(), grant, &cx).await,
            Invocation::Shell(shell) => self.process(shell.into(), grant, &cx).await,
            Invocation::HttpRequest(request) => self.request(request, grant, &cx).await,
            Invocation::AskUser(_) => Invoked::from(ToolOutcome::message(
                ToolStatus::Error,
                "a question is answered by a person, not by a tool",
            )),
            Invocation::ReadFile(_)
            | Invocation::WriteFile(_)
            | Invocation::EditFile(_)
            | Invocation::ListFiles(_)
            | Invocation::SearchFiles(_) => on_files(call.clone(), grant, cx.bound).await,
        }
    }

    /// Ends what a run keeps between its calls: its sandboxes, and with them its `/tmp`, and its
    /// connections.
    pub fn end_run(&self, run: RunId) {
        self.sessions.end(run);
    }

    async fn process(&self, process: Process, grant: Arc<Grant>, cx: &CallContext) -> Invoked {
        if !grant.hosts.is_empty()
            && let Some(reason) = self.network.refusal()
        {
            return ToolOutcome::message(ToolStatus::Error, reason).into();
        }
        let wants_network = !grant.hosts.is_empty();
        let place = self.sessions.place(cx.run, &cx.agent, &grant);
        let hosts = Arc::clone(&grant.hosts);
        let under_way = UnderWay::begin(&place.channel, cx.call_id, hosts);
        let run = exec::run(&self.sessions, &place, &self.redactor, process, grant, cx);
        let (mut outcome, changed) = Box::pin(run).await;
        let traffic = under_way.end();
        network::note(&mut outcome, &traffic);
        if wants_network && self.network.status() == NetworkStatus::Absent {
            network::note_absence(&mut outcome);
        }
        Invoked { changed, ..reached_out(outcome, traffic, false) }
    }

    async fn request(&self, request: &HttpRequest, grant: Arc<Grant>, cx: &CallContext) -> Invoked {
        let place = self.sessions.place(cx.run, &cx.agent, &grant);
        let hosts = Arc::clone(&grant.hosts);
        let under_way = UnderWay::begin(&place.channel, cx.call_id, hosts);
        let (outcome, came_back) = http::send(&place.channel, request, &grant, cx).await;
        reached_out(outcome, under_way.end(), came_back)
    }

    /// Redacts, then bounds: a mask may be longer than what it hides.
    fn finish(&self, mut outcome: ToolOutcome, output_bytes: usize) -> ToolOutcome {
        let mut output = match gap(&outcome) {
            Some(gap) => self.redactor.redact_around(&outcome.output, gap),
            None => self.redactor.redact(&outcome.output).into_owned(),
        };
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

/// What stands where the middle of a long output was left out.
fn gap(outcome: &ToolOutcome) -> Option<&str> {
    let text = outcome.output.as_str();
    let start = outcome.truncated.then(|| text.find("\n[… "))??;
    let end = text.get(start..)?.find(" bytes left out …]\n")?;
    text.get(start..start + end + " bytes left out …]\n".len())
}

/// An outcome with what the call tried on the network.
fn reached_out(outcome: ToolOutcome, traffic: Traffic, came_back: bool) -> Invoked {
    // Beyond the records that were kept nobody knows: then it counts as having read something.
    let taints = came_back || traffic.more > 0 || traffic.records.iter().any(network::brought_in);
    let refusals = traffic.records.into_iter().filter(network::is_refusal).collect();
    Invoked { outcome, refusals, taints, changed: None }
}

async fn on_files(call: Invocation, grant: Arc<Grant>, bound: Option<Arc<Bound>>) -> Invoked {
    let started = Instant::now();
    let done = Tasks::spawn_blocking(move || file_tool(&call, &grant, bound.as_deref())).await;
    let mut changed = None;
    let (status, told) = match done {
        Ok(Ok(told)) => (ToolStatus::Ok, told),
        Ok(Err(error)) => {
            if matches!(error, FileError::Dir(DirError::Changed(_))) {
                changed = Some(error.to_string());
            }
            (ToolStatus::Error, Told { text: error.to_string(), is_truncated: false })
        }
        Err(panicked) => {
            tracing::error!(error = %panicked, "a file tool panicked");
            let text = "the file tool failed inside the daemon".to_owned();
            (ToolStatus::Error, Told { text, is_truncated: false })
        }
    };
    let outcome = ToolOutcome {
        status,
        exit_code: None,
        output: told.text,
        truncated: told.is_truncated,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        confinement: None,
    };
    Invoked { changed, ..outcome.into() }
}

fn file_tool(call: &Invocation, grant: &Grant, bound: Option<&Bound>) -> Result<Told, FileError> {
    let output_bytes = grant.limits.output_bytes;
    match call {
        Invocation::ReadFile(call) => files::read(grant, call, output_bytes),
        Invocation::WriteFile(call) => files::write(grant, call, grant.limits.file_bytes, bound),
        Invocation::EditFile(call) => files::edit(grant, call, bound),
        Invocation::ListFiles(call) => files::list(grant, call, output_bytes),
        Invocation::SearchFiles(call) => search::search(grant, call, output_bytes),
        Invocation::Exec(_)
        | Invocation::Shell(_)
        | Invocation::HttpRequest(_)
        | Invocation::AskUser(_) => Ok(Told { text: String::new(), is_truncated: false }),
    }
}
