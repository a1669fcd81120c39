//! Stopping in two stages, and telling the service manager where we stand.

use std::{os::unix::net::UnixDatagram, path::PathBuf, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How far stopping has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStage {
    /// Work goes on.
    Running,
    /// Take no new work, finish the step.
    Soft,
    /// Drop everything.
    Hard,
}

/// The stop signal, in two stages. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Stop {
    /// Asks for the first stage.
    pub fn soft(&self) {
        self.soft.cancel();
    }

    /// Asks for both stages.
    pub fn hard(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Whether the first stage was asked for.
    pub fn is_soft(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// How far stopping has gone.
    pub fn stage(&self) -> StopStage {
        if self.hard.is_cancelled() {
            StopStage::Hard
        } else if self.soft.is_cancelled() {
            StopStage::Soft
        } else {
            StopStage::Running
        }
    }

    /// Waits for the first stage. Cancel-safe.
    pub async fn wait_soft(&self) {
        self.soft.cancelled().await;
    }

    /// Waits for the second stage. Cancel-safe.
    pub async fn wait_hard(&self) {
        self.hard.cancelled().await;
    }

    /// A token that is cancelled by the second stage and can be cancelled on its own.
    pub fn hard_child(&self) -> CancellationToken {
        self.hard.child_token()
    }
}

/// Why the daemon began to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// A person or the service manager asked.
    Signal,
    /// A vital task died.
    Fault,
}

/// The handlers of SIGTERM, SIGINT and SIGHUP. From [`Signals::install`] on, a signal waits to be
/// watched for instead of ending the process: install them before saying that the daemon is ready.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

/// Watches SIGTERM and SIGINT: the first asks for a soft stop; a second one, or the end of
/// `grace`, for a hard one. SIGHUP calls `reload`. Returns once the hard stage begins or `done`
/// ends, with what began it.
pub async fn watch_signals(
    signals: Signals,
    stop: &Stop,
    grace: Duration,
    done: impl Future<Output = ()>,
    mut reload: impl FnMut(),
) -> StopCause {
    let Signals { mut term, mut int, mut hup } = signals;
    // Every branch is cancel-safe: signal streams and tokens lose nothing when dropped.
    let cause = loop {
        tokio::select! {
            _ = term.recv() => break StopCause::Signal,
            _ = int.recv() => break StopCause::Signal,
            _ = hup.recv() => reload(),
            () = stop.wait_soft() => break StopCause::Fault,
        }
    };
    stop.soft();
    notify("STOPPING=1");
    tracing::info!(
        grace_secs = grace.as_secs(),
        "stopping: no new work, finishing the current steps"
    );
    tokio::select! {
        _ = term.recv() => tracing::warn!("second signal: dropping the work in progress"),
        _ = int.recv() => tracing::warn!("second signal: dropping the work in progress"),
        () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over: dropping the work in progress"),
        () = done => {}
    }
    stop.hard();
    cause
}

/// The service manager's socket (`sd_notify(3)`), read once at start from `NOTIFY_SOCKET`.
static NOTIFY_SOCKET: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();

/// Remembers where to send notifications; `None` when there is no service manager.
pub fn set_notify_socket(path: Option<PathBuf>) {
    NOTIFY_SOCKET.get_or_init(|| path);
}

/// Tells the service manager, such as `READY=1`. Silent when there is none.
pub fn notify(state: &str) {
    let Some(Some(path)) = NOTIFY_SOCKET.get() else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| send_to(&socket, path, state.as_bytes()));
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

fn send_to(socket: &UnixDatagram, path: &std::path::Path, state: &[u8]) -> std::io::Result<usize> {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::SocketAddr},
    };
    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => socket.send_to_addr(state, &SocketAddr::from_abstract_name(name)?),
        None => socket.send_to(state, path),
    }
}
