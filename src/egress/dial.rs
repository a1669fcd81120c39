//! Connecting to a checked address, straight or through the organisation's proxy.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Duration, Instant},
};

use super::{decide::Allowed, options::Upstream, resolve::Resolver};
use crate::{
    domain::HostName,
    runtime::failpoint::{Point, reach},
};

/// Addresses of one host that are tried.
const TRIES_MAX: usize = 4;
/// For one address, while others are left.
const TRY_WAIT: Duration = Duration::from_secs(3);
/// Bytes of an upstream proxy's answer to CONNECT.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// What the connection will carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// Bytes: an upstream proxy is asked for a tunnel.
    Tunnel,
    /// One plain HTTP request: an upstream proxy takes it in absolute form.
    Request,
}

/// A connection that stands.
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    /// The checked address; `None` where an upstream proxy chose.
    pub(super) address: Option<IpAddr>,
}

/// Connects to what was decided. Ends within `wait`.
pub(super) async fn dial(
    allowed: &Allowed,
    to: (&HostName, u16),
    carries: Carries,
    upstream: Option<&Upstream>,
    resolver: &Resolver,
    wait: Duration,
) -> io::Result<Dialled> {
    reach(Point::EgressDialBefore).await?;
    let dialled = connect_to(allowed, to, carries, upstream, resolver, wait).await?;
    reach(Point::EgressDialAfter).await?;
    Ok(dialled)
}

async fn connect_to(
    allowed: &Allowed,
    to: (&HostName, u16),
    carries: Carries,
    upstream: Option<&Upstream>,
    resolver: &Resolver,
    wait: Duration,
) -> io::Result<Dialled> {
    let until = Instant::now() + wait;
    let Some(upstream) = upstream.filter(|_| !allowed.is_override) else {
        let (stream, address) = first(&allowed.addresses, until).await?;
        return Ok(Dialled { stream, address: Some(address.ip()) });
    };
    let through = async {
        let mut stream = connect_to_proxy(upstream, resolver, until).await?;
        if carries == Carries::Tunnel {
            ask_for_tunnel(&mut stream, upstream, to).await?;
        }
        Ok(Dialled { stream, address: None })
    };
    tokio::time::timeout_at(until, through).await.unwrap_or_else(|_| Err(timed_out()))
}

/// The first address that answers, one after the other.
async fn first(addresses: &[SocketAddr], until: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    let mut error = timed_out();
    let tried = addresses.len().min(TRIES_MAX);
    for (at, address) in addresses.iter().take(tried).enumerate() {
        let is_last = at + 1 == tried;
        let until = if is_last { until } else { until.min(Instant::now() + TRY_WAIT) };
        match tokio::time::timeout_at(until, connect(*address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(failed)) => error = failed,
            Err(_) => error = timed_out(),
        }
    }
    Err(error)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

async fn connect_to_proxy(
    upstream: &Upstream,
    resolver: &Resolver,
    until: Instant,
) -> io::Result<TcpStream> {
    // The operator named it: its address is not checked, it usually is a private one.
    let host = HostName::parse(&upstream.host).map_err(io::Error::other)?;
    let (addresses, _) = resolver.look_up(&host).await.map_err(|reason| {
        io::Error::new(io::ErrorKind::HostUnreachable, format!("upstream proxy: {reason}"))
    })?;
    let addresses: Vec<_> =
        addresses.into_iter().map(|ip| SocketAddr::new(ip, upstream.port)).collect();
    first(&addresses, until).await.map(|(stream, _)| stream)
}

/// Asks by name, since that is what the proxy's rules are written in. It resolves the name again:
/// what it dials is its decision.
async fn ask_for_tunnel(
    stream: &mut TcpStream,
    upstream: &Upstream,
    (host, port): (&HostName, u16),
) -> io::Result<()> {
    let authority = format!("{}:{port}", host.authority());
    let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(value) = &upstream.authorization {
        head.extend(["Proxy-Authorization: ", value.expose(), "\r\n"]);
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    // Byte by byte: what follows the head belongs to the tunnel.
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err(io::Error::other("the upstream proxy's answer is too long"));
        }
        answer.push(stream.read_u8().await?);
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    match (response.parse(&answer), response.code) {
        (Ok(httparse::Status::Complete(_)), Some(200..=299)) => Ok(()),
        (Ok(_), Some(code)) => Err(io::Error::other(format!("the upstream proxy answered {code}"))),
        _ => Err(io::Error::other("the upstream proxy's answer is not HTTP")),
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no address answered in time")
}
