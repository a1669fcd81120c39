//! A run's channel: its doors, its quotas, the call under way.
//!
//! Invariant: what comes through a door belongs to the call under way; between calls nothing is
//! let through.

use std::{
    net,
    sync::{Arc, Mutex},
};

use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::Duration,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Live, Shared,
    call::{Call, Visit},
    fetch::{self, FetchError, FetchRequest, FetchResponse},
    name_server,
    proxy::{self, Door},
    quota::Quotas,
    reason::{Quota, Reason},
    record::{Log, Recorder, Traffic},
};
use crate::{
    domain::{AgentName, EgressLimits, HostPolicy, ToolCallId},
    runtime::{TaskKind, tasks::lock},
};

/// Connections of one run that may wait for their decision, beside those that were let through.
const WAITING_MAX: u64 = 64;
/// Pause after a failed accept, such as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The sockets that a sandbox made inside its network namespace: nonblocking.
#[derive(Debug)]
pub struct Doors {
    /// Where proxy variables point to.
    pub proxy: net::TcpListener,
    /// Port 80 of every address.
    pub http: net::TcpListener,
    /// Port 443 of every address.
    pub https: net::TcpListener,
    /// Name lookups.
    pub dns: net::UdpSocket,
}

/// Doors that are being served. Dropping it closes them: as long as they are open, the network
/// namespace that they belong to lives.
#[derive(Debug)]
#[must_use = "dropping it closes the doors"]
pub struct Serving {
    _stop: DropGuard,
}

/// One run's way out. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
    /// Not part of `inner`, which the doors' tasks hold.
    _last: Arc<DropGuard>,
}

struct Inner {
    shared: Arc<Shared>,
    agent: AgentName,
    live: watch::Receiver<Live>,
    quotas: Arc<Quotas>,
    recorder: Arc<Recorder>,
    current: Mutex<Arc<Call>>,
    inbound: Arc<Semaphore>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("agent", &self.inner.agent).finish_non_exhaustive()
    }
}

impl Channel {
    pub(super) fn new(
        shared: Arc<Shared>,
        agent: AgentName,
        run: String,
        limits: EgressLimits,
        live: watch::Receiver<Live>,
    ) -> Self {
        let stop = shared.tasks.stop().hard_child();
        let on_record = Arc::clone(&shared.on_record);
        let recorder = Arc::new(Recorder::new(agent.clone(), run, on_record));
        let places = limits.tunnels.saturating_add(WAITING_MAX).min(4_096);
        let between = Arc::new(Call {
            agent: agent.clone(),
            policy: None,
            live: live.clone(),
            log: Log::new(None, Arc::clone(&recorder)),
            // Its own: it ends with the first call, the channel does not.
            stop: stop.child_token(),
        });
        let inner = Inner {
            shared,
            agent,
            live,
            quotas: Quotas::new(limits),
            recorder,
            current: Mutex::new(between),
            inbound: Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(1))),
            stop: stop.clone(),
        };
        Self { inner: Arc::new(inner), _last: Arc::new(stop.drop_guard()) }
    }

    /// Serves these doors until the answer is dropped or the channel is closed. May be called again
    /// when the run gets another sandbox.
    ///
    /// # Errors
    /// When a socket cannot be served.
    pub fn listen(&self, doors: Doors) -> std::io::Result<Serving> {
        let Doors { proxy, http, https, dns } = doors;
        let stop = self.inner.stop.child_token();
        let tasks = &self.inner.shared.tasks;
        for (socket, door) in [(proxy, Door::Proxy), (http, Door::Http), (https, Door::Tls)] {
            socket.set_nonblocking(true)?;
            let listener = TcpListener::from_std(socket)?;
            let (inner, stop) = (Arc::clone(&self.inner), stop.clone());
            tasks.spawn(TaskKind::Egress, |_| async move {
                tokio::select! {
                    () = inner.accept(&listener, door) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        dns.set_nonblocking(true)?;
        let dns = Arc::new(UdpSocket::from_std(dns)?);
        let (inner, until) = (Arc::clone(&self.inner), stop.clone());
        tasks.spawn(TaskKind::Egress, |_| async move {
            tokio::select! {
                () = name_server::serve(dns, || inner.visit()) => {}
                () = until.cancelled() => {}
            }
        });
        Ok(Serving { _stop: stop.drop_guard() })
    }

    /// A call begins: what comes through the doors is its, decided by this policy and the agent's
    /// live one. Calls of a run follow one another: one that was under way is ended.
    pub fn begin(&self, call_id: ToolCallId, policy: Arc<HostPolicy>) {
        self.inner.change(Some((call_id, policy)));
    }

    /// The call is over: its connections are cut, its records returned.
    pub fn end(&self) -> Traffic {
        self.inner.change(None)
    }

    /// The run is over: everything is cut, nothing is served any more.
    pub fn close(&self) {
        self.inner.change(None);
        self.inner.stop.cancel();
    }

    /// Carries out the tool `http_request` as part of the call under way: each hop is decided like
    /// a connection of a tool. Ends when `stop` is cancelled or the call ends. Dropping the future
    /// closes the connection.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(
        &self,
        request: FetchRequest,
        stop: CancellationToken,
    ) -> Result<FetchResponse, FetchError> {
        let visit = self.inner.visit();
        let call = Arc::clone(&visit.call);
        // Cancel-safe: what is dropped closes its connection and makes its record.
        tokio::select! {
            fetched = Box::pin(fetch::fetch(visit, request)) => fetched,
            () = stop.cancelled() => Err(FetchError::Stopped),
            () = call.stop.cancelled() => Err(FetchError::Stopped),
        }
    }
}

impl Inner {
    fn visit(&self) -> Visit {
        Visit {
            shared: Arc::clone(&self.shared),
            quotas: Arc::clone(&self.quotas),
            call: Arc::clone(&lock(&self.current)),
        }
    }

    /// Puts another call in the place of the one under way, and ends that one.
    fn change(&self, next: Option<(ToolCallId, Arc<HostPolicy>)>) -> Traffic {
        let (call_id, policy) = next.unzip();
        let next = Arc::new(Call {
            agent: self.agent.clone(),
            policy,
            live: self.live.clone(),
            log: Log::new(call_id, Arc::clone(&self.recorder)),
            stop: self.stop.child_token(),
        });
        let before = std::mem::replace(&mut *lock(&self.current), next);
        // Records first: a connection that ends because of the token has made its own then.
        let traffic = before.log.close();
        before.stop.cancel();
        traffic
    }

    async fn accept(&self, listener: &TcpListener, door: Door) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of a sandbox");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            self.welcome(stream, door);
        }
    }

    /// Serves one connection, if there is room: one run's flood takes no place from another's.
    fn welcome(&self, stream: TcpStream, door: Door) {
        let own = Arc::clone(&self.inbound).try_acquire_owned();
        let all = Arc::clone(&self.shared.inbound).try_acquire_owned();
        let (Ok(own), Ok(all)) = (own, all) else {
            // No answer: it would need a place too.
            let (via, port) = door.label();
            let refused = Reason::Quota(Quota::Tunnels);
            self.visit().attempt(via, "", port, None).deny(refused);
            return;
        };
        let visit = self.visit();
        self.shared.tasks.spawn(TaskKind::Egress, |_| async move {
            let call = Arc::clone(&visit.call);
            tokio::select! {
                () = Box::pin(proxy::serve(visit, stream, door)) => {}
                () = call.stop.cancelled() => {}
            }
            drop((own, all));
        });
    }
}
