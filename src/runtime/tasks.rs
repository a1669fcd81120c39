//! The only way to start a task: named, traced, counted, and told to stop.

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::lifecycle::Stop;

/// What a task is, and so what its end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// The store's writer: its end stops the daemon.
    Writer,
    /// The live feed: its end stops the daemon.
    Feed,
    /// The supervisor of runs: its end stops the daemon.
    Supervisor,
    /// A listener: its end stops the daemon.
    Listener,
    /// What keeps a replica's lease and looks at the others: its end stops the daemon.
    Cluster,
    /// One run in progress.
    Run,
    /// One connection or request.
    Connection,
    /// Work that has its own owner waiting for it.
    Helper,
    /// A door of a run's sandbox, or a connection through one: it serves runs, which the soft stop
    /// lets finish, and ends with them.
    Egress,
}

impl TaskKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Feed => "feed",
            Self::Supervisor => "supervisor",
            Self::Listener => "listener",
            Self::Cluster => "cluster",
            Self::Run => "run",
            Self::Connection => "connection",
            Self::Helper => "helper",
            Self::Egress => "egress",
        }
    }

    /// Whether it finishes what it does after the soft stop, and nothing may end before it.
    const fn is_work(self) -> bool {
        match self {
            Self::Supervisor | Self::Listener | Self::Run | Self::Connection => true,
            Self::Writer | Self::Feed | Self::Cluster | Self::Helper | Self::Egress => false,
        }
    }

    /// Whether the daemon cannot go on without it.
    const fn is_vital(self) -> bool {
        match self {
            Self::Writer | Self::Feed | Self::Cluster | Self::Supervisor | Self::Listener => true,
            Self::Run | Self::Connection | Self::Helper | Self::Egress => false,
        }
    }
}

/// Starts tasks and waits for them.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Those whose end the soft stop waits for; the others serve them until the hard stop.
    work: TaskTracker,
    stop: Stop,
    failed: Arc<watch::Sender<Option<&'static str>>>,
}

impl Tasks {
    /// Tasks that answer to `stop`.
    pub fn new(stop: Stop) -> Self {
        Self {
            tracker: TaskTracker::new(),
            work: TaskTracker::new(),
            stop,
            failed: Arc::new(watch::channel(None).0),
        }
    }

    /// The stop signal that every task gets.
    pub const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Starts a task. A vital task that ends before the daemon was told to stop stops the daemon
    /// with a failing exit code; a panic anywhere is logged with the task's name.
    pub fn spawn<F, Fut>(&self, kind: TaskKind, make: F) -> JoinHandle<()>
    where
        F: FnOnce(Stop) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let name = kind.name();
        let guard = Guard { kind, stop: self.stop.clone(), failed: Arc::clone(&self.failed) };
        metrics::gauge!("agent_runtime_tasks", "kind" => name).increment(1.0);
        let work = make(self.stop.clone());
        let token = kind.is_work().then(|| self.work.token());
        let future = async move {
            let guard = guard;
            work.await;
            drop((guard, token));
        };
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        tokio::spawn(self.tracker.track_future(future.in_current_span()))
    }

    /// Runs blocking or heavy work off the async threads and waits for it.
    ///
    /// # Errors
    /// When the work panicked.
    pub async fn spawn_blocking<T, F>(work: F) -> Result<T, Panicked>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        tokio::task::spawn_blocking(work).await.map_err(|source| Panicked { source })
    }

    /// The name of the first vital task that died unasked.
    pub fn failure(&self) -> Option<&'static str> {
        *self.failed.borrow()
    }

    /// Waits until the supervisor, every run, every listener and every connection has ended.
    pub async fn wait_work(&self) {
        self.work.close();
        self.work.wait().await;
    }

    /// Waits until every task has ended.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Blocking work panicked.
#[derive(Debug, thiserror::Error)]
#[error("a background job panicked")]
pub struct Panicked {
    source: tokio::task::JoinError,
}

/// Notices the end of a task, a panic included.
struct Guard {
    kind: TaskKind,
    stop: Stop,
    failed: Arc<watch::Sender<Option<&'static str>>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let name = self.kind.name();
        metrics::gauge!("agent_runtime_tasks", "kind" => name).decrement(1.0);
        if std::thread::panicking() {
            tracing::error!(task = name, "a task panicked");
        }
        if self.kind.is_vital() && !self.stop.is_soft() {
            tracing::error!(task = name, "a vital task ended; the daemon stops");
            self.failed.send_if_modified(|failed| failed.replace(name).is_none());
            self.stop.soft();
        }
    }
}

/// A lock for a few lines without I/O that survives a panic in another holder: the guarded value
/// is plain data, so a poisoned lock is still consistent.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
