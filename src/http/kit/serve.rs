//! The accept loop: HTTP/1.1 with bounds on connections, heads and time, and a clean end. A client
//! that does not read what it asked for is dropped like one that does not finish asking.
//!
//! On the first stop signal the listener closes, idle connections end, requests in progress
//! finish; on the second, everything is dropped.

use std::{
    fmt::Debug,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Request};
use futures_util::FutureExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tower::ServiceExt;

use crate::{
    auth::authn::Subject,
    runtime::{Stop, TaskKind, Tasks},
};

use super::{
    auth::Peer,
    impatient::Impatient,
    limit::{Gate, HEAD_WAIT, Shares},
};

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Pause after a failed accept, such as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a connection beyond the bound is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 168\r\n\r\n\
    {\"type\":\"urn:agent-runtime:problem:request.overloaded\",\
    \"title\":\"Too many connections\",\"status\":503,\
    \"detail\":\"too many connections are open\",\"code\":\"request.overloaded\"}";

/// Why the listener could not open.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}")]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// What the kernel keeps of what a client does not read; it takes twice of it (socket(7)). Without a
/// bound it grows to megabytes (tcp(7), `tcp_wmem`) before anybody notices that nobody reads.
const SEND_BUFFER: u32 = 128 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

fn open(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // What it accepts has the same.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Opens a listener; port 0 picks one.
///
/// # Errors
/// When the address is in use or not ours.
pub async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError { addr, source };
    let listener = open(addr).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Where connections come from.
pub trait Listen: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What is known of its other end; handlers find it among the request's extensions.
    type Peer: Clone + Debug + Send + Sync + 'static;

    /// Where it comes from, where that means anything.
    fn address(_peer: &Self::Peer) -> Option<IpAddr> {
        None
    }

    /// The next connection. Cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Peer = Peer;

    fn address(peer: &Peer) -> Option<IpAddr> {
        Some(peer.remote.ip().to_canonical())
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, remote) = Self::accept(self).await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let local = stream.local_addr().unwrap_or(remote);
        Ok((stream, Peer { remote, local }))
    }
}

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct Caps {
    /// In all.
    pub connections: usize,
    /// From one address; of IPv6 from one /64.
    pub per_address: usize,
    /// Addresses that stand for many, such as a proxy in front.
    pub exempt: Vec<IpAddr>,
}

impl Caps {
    /// So many in all, from wherever they come.
    pub const fn of(connections: usize) -> Self {
        Self { connections, per_address: connections, exempt: Vec::new() }
    }
}

/// Serves `app` until the daemon is told to stop.
pub fn serve<L: Listen>(mut listener: L, app: Router, caps: Caps, tasks: &Tasks) {
    let connections = Gate::new(caps.connections);
    let shares = Shares::new(caps.per_address);
    let tasks_of_connections = tasks.clone();
    tasks.spawn(TaskKind::Listener, |stop| async move {
        let app = Arc::new(app);
        loop {
            // Both branches are cancel-safe.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.wait_soft() => return,
            };
            let (mut stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let address = L::address(&peer).filter(|address| !caps.exempt.contains(address));
            let share = address.map_or(Some(None), |a| shares.enter(Subject::address(a)).map(Some));
            let (Some(place), Some(share)) = (connections.enter(), share) else {
                metrics::counter!("agent_runtime_connections_refused_total").increment(1);
                // A fresh socket has room for these few bytes; a client that is gone is no error.
                drop(stream.write(FULL).now_or_never());
                drop(stream.shutdown().await);
                continue;
            };
            let app = Arc::clone(&app);
            tasks_of_connections.spawn(TaskKind::Connection, |stop| async move {
                connection(stream, peer, app, stop).await;
                drop((place, share));
            });
        }
    });
}

async fn connection<S, P>(stream: S, peer: P, app: Arc<Router>, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Clone + Debug + Send + Sync + 'static,
{
    let known = peer.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(known.clone());
        Router::clone(&app).oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Impatient::new(stream)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // hyper's connection future may be polled again after another branch has won.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.wait_soft() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.wait_hard() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, ?peer, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::duplex,
        time::{Instant, sleep},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_that_only_trickles_in_ends_its_connection() {
        let (ours, mut theirs) = duplex(4_096);
        let served = connection(ours, (), Arc::new(Router::new()), Stop::default());
        let client = async {
            let began = Instant::now();
            theirs.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            while theirs.write_all(b"x: y\r\n").await.is_ok() {
                assert!(began.elapsed() < 2 * HEAD_WAIT, "it would never end");
                sleep(Duration::from_secs(5)).await;
            }
            began.elapsed()
        };
        let ((), lasted) = tokio::join!(served, client);
        assert!(lasted >= HEAD_WAIT, "{lasted:?}");
    }

    #[test]
    fn the_answer_to_a_full_house_is_well_formed() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
