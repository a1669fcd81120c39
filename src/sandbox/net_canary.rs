//! Tries every way out of a sandbox that has a network, from inside.
//!
//! Invariants: as with the canary of the level, the attempts run as a tool would; what arrives
//! outside is judged outside too. Everything must end at the doors, and the doors must refuse a
//! name that no rule allows: no answer at all is a failure as well.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    End, SandboxError,
    call::{self, Request},
    canary::{self, Found},
    output::Capture,
    plan::{self, Program},
    session::Kept,
    watch::Watch,
};
use crate::domain::Grant;

/// How long the canary may take.
const WALL: Duration = Duration::from_secs(20);
/// Bytes of its findings.
const FINDINGS_BYTES_MAX: usize = 16 << 10;
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer to a datagram is waited for that must not come.
const NO_ANSWER: Duration = Duration::from_millis(100);
/// An address for documentation (RFC 5737): whoever answers there is not the internet.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// A name that no rule allows (RFC 6761).
const UNLISTED: &str = "unlisted.invalid";
/// Ports of ordinary services that are no doors.
const NO_DOORS: [u16; 6] = [21, 22, 25, 53, 8080, 8443];
/// `REFUSED` in the answer of a name server (RFC 1035).
const REFUSED: u8 = 5;
/// The kind of a TLS record that holds an alert, and the bytes of such a record (RFC 8446).
const ALERT: u8 = 21;
const ALERT_BYTES: usize = 7;
/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// What the canary is told to reach for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NetAttempts {
    /// A TCP listener of this machine, outside.
    tcp_port: u16,
    /// A UDP socket of this machine, outside.
    udp_port: u16,
}

/// Sockets outside that nothing may reach. They stand while the canary runs.
#[derive(Debug)]
pub(super) struct NetBait {
    tcp: TcpListener,
    udp: UdpSocket,
    attempts: NetAttempts,
}

impl NetBait {
    /// Puts the bait out, at every address of this machine.
    pub(super) fn new() -> std::io::Result<Self> {
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        tcp.set_nonblocking(true)?;
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        udp.set_nonblocking(true)?;
        let attempts =
            NetAttempts { tcp_port: tcp.local_addr()?.port(), udp_port: udp.local_addr()?.port() };
        Ok(Self { tcp, udp, attempts })
    }

    pub(super) const fn attempts(&self) -> &NetAttempts {
        &self.attempts
    }

    /// What arrived, seen from outside.
    pub(super) fn touched(&self) -> Option<&'static str> {
        if self.tcp.accept().is_ok() {
            Some("a TCP connection arrived outside")
        } else if self.udp.recv(&mut [0; 16]).is_ok() {
            Some("a datagram arrived outside")
        } else {
            None
        }
    }
}

/// Lets the canary loose in a sandbox whose doors are served; what got through, or why nobody
/// knows.
pub(super) async fn check(kept: &Kept, watch: &Watch, grant: &Grant) -> Result<(), String> {
    let bait = NetBait::new().map_err(|e| format!("the canary cannot be prepared: {e}"))?;
    let program = Program::NetCanary(bait.attempts().clone());
    let plan = plan::with_program(grant, &kept.plan, "", program).map_err(|e| e.to_string())?;
    let capture = Capture::new(FINDINGS_BYTES_MAX, None);
    let (program, stdin, limits) = (None, Vec::new(), grant.limits);
    let request = Request { plan, program, stdin, wall: WALL, capture, limits };
    let stop = CancellationToken::new();
    let ended = Box::pin(call::run(kept, watch, request, &stop)).await;
    let ended = ended.map_err(|e: SandboxError| e.to_string())?;
    if ended.end != End::Exited(0) {
        return Err(format!("the canary ended with {:?}", ended.end));
    }
    let findings = canary::findings(&ended.output)?;
    let escapes = findings.into_iter().filter(|found| found.has_escaped).map(|f| f.attempt);
    let escapes = escapes.collect::<Vec<_>>().join(", ");
    if !escapes.is_empty() {
        return Err(format!("from inside one could {escapes}"));
    }
    bait.touched().map_or(Ok(()), |seen| Err(seen.to_owned()))
}

/// Makes every attempt and writes the findings to standard output as JSON.
pub(super) fn try_ways_out(attempts: &NetAttempts) -> std::io::Result<()> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let findings = [
        finding("connect to a port of this machine", can_connect(loopback, attempts.tcp_port)),
        finding("connect past the doors", NO_DOORS.iter().any(|p| can_connect(ELSEWHERE, *p))),
        finding("get an answer over UDP", is_answered(attempts.udp_port)),
        finding("ask a web server past the policy", !is_refused(ELSEWHERE, 80, &plain(UNLISTED))),
        finding(
            "reach an unlisted host by its address",
            !is_refused(ELSEWHERE, 80, &plain("192.0.2.1")),
        ),
        finding("get anything but TLS through port 443", is_served(443)),
        finding("tunnel to an unlisted host", !is_refused(loopback, PROXY, &tunnel())),
        finding("look up an unlisted name", !is_unknown(loopback) || !is_unknown(ELSEWHERE)),
    ];
    serde_json::to_writer(std::io::stdout(), &findings)?;
    std::io::stdout().flush()
}

/// The port of the proxy's door.
const PROXY: u16 = 3128;

fn finding(attempt: &str, has_escaped: bool) -> Found {
    Found { attempt: attempt.to_owned(), has_escaped }
}

fn connect(to: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn can_connect(to: IpAddr, port: u16) -> bool {
    connect(to, port).is_ok()
}

/// Whether anybody answers a datagram to a port that is no door.
fn is_answered(port: u16) -> bool {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return false };
    if socket.set_read_timeout(Some(NO_ANSWER)).is_err() {
        return false;
    }
    let targets = [IpAddr::V4(Ipv4Addr::LOCALHOST), ELSEWHERE];
    targets.into_iter().any(|to| {
        socket.send_to(b"canary", SocketAddr::new(to, port)).is_ok()
            && socket.recv(&mut [0; 16]).is_ok()
    })
}

fn plain(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

fn tunnel() -> String {
    format!("CONNECT {UNLISTED}:443 HTTP/1.1\r\nHost: {UNLISTED}:443\r\n\r\n")
}

fn asked(to: IpAddr, port: u16, request: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(to, port)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // What came before a connection broke is an answer as well.
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).ok();
    Ok(answer)
}

/// Whether the door answers as it must: 403, with its reason.
fn is_refused(to: IpAddr, port: u16, request: &str) -> bool {
    let answer = asked(to, port, request).unwrap_or_default();
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    text.starts_with("http/1.1 403") && text.contains("x-egress-reason:")
}

/// Whether port 443 serves something that is no TLS. An alert is how the door refuses.
fn is_served(port: u16) -> bool {
    let is_alert = |answer: &[u8]| answer.len() <= ALERT_BYTES && answer.first() == Some(&ALERT);
    asked(ELSEWHERE, port, &plain(UNLISTED))
        .is_ok_and(|answer| !answer.is_empty() && !is_alert(&answer))
}

/// Whether the name server at this address refuses the unlisted name.
fn is_unknown(server: IpAddr) -> bool {
    let ask = || -> std::io::Result<u8> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(&question(), SocketAddr::new(server, 53))?;
        let mut answer = [0; 512];
        socket.recv(&mut answer)?;
        Ok(answer.get(3).copied().unwrap_or(0) & 0x0f)
    };
    ask().is_ok_and(|code| code == REFUSED)
}

/// A question for the A record of the unlisted name.
fn question() -> Vec<u8> {
    let mut out = vec![0x4e, 0x21, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in UNLISTED.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bait_is_reached_where_nothing_confines() {
        // The negative control: each of these is what the sandbox must turn into a failure.
        let bait = NetBait::new().unwrap();
        assert_eq!(bait.touched(), None);
        assert!(can_connect(IpAddr::V4(Ipv4Addr::LOCALHOST), bait.attempts().tcp_port));
        assert_eq!(bait.touched(), Some("a TCP connection arrived outside"));
        is_answered(bait.attempts().udp_port);
        assert_eq!(bait.touched(), Some("a datagram arrived outside"));
    }

    #[test]
    fn only_a_403_with_its_reason_counts_as_a_refusal() {
        let answers = |text: &'static str| {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            #[expect(clippy::disallowed_methods, reason = "a server of one answer")]
            let thread = std::thread::spawn(move || {
                let (mut stream, _) = server.accept().unwrap();
                // The whole request, whatever pieces it comes in.
                let mut request = vec![0; plain(UNLISTED).len()];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(text.as_bytes()).unwrap();
            });
            let refused = is_refused(IpAddr::V4(Ipv4Addr::LOCALHOST), port, &plain(UNLISTED));
            thread.join().unwrap();
            refused
        };
        assert!(answers("HTTP/1.1 403 Forbidden\r\nX-Egress-Reason: not_listed\r\n\r\n"));
        assert!(!answers("HTTP/1.1 200 OK\r\nX-Egress-Reason: not_listed\r\n\r\n"));
        assert!(!answers("HTTP/1.1 403 Forbidden\r\n\r\n"));
        assert!(!answers(""));
    }
}
