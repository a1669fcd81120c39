//! The three TCP doors of a sandbox: reads what a connection wants, refuses what is not clear, and
//! hands the rest on.
//!
//! Invariants: one connection carries one request or one tunnel, so no second request can follow
//! the first one's decision; nothing is dialled before it was decided.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    call::Visit,
    decide::Refusal,
    head::{self, HeadError, Request, TargetForm},
    plain,
    reason::Reason,
    tunnel,
};
use crate::domain::EgressVia;

/// For writing a refusal, and for the client to take it.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// What a client may still be sending while it is refused, in bytes: it is read so that closing
/// does not take the refusal back (RFC 9112 section 9.6).
const LEFT_BYTES_MAX: usize = 256 << 10;

/// A TCP door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// 127.0.0.1:3128.
    Proxy,
    /// Port 80 of every address.
    Http,
    /// Port 443 of every address.
    Tls,
}

impl Door {
    /// What a record says of a connection whose wish is not known yet.
    pub(super) const fn label(self) -> (EgressVia, u16) {
        match self {
            Self::Proxy | Self::Http => (EgressVia::Http, 80),
            Self::Tls => (EgressVia::Tls, 443),
        }
    }
}

/// Serves one connection.
pub(super) async fn serve(visit: Visit, mut client: TcpStream, door: Door) {
    if let Err(error) = client.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    if door == Door::Tls {
        return tunnel::transparent(&visit, client).await;
    }
    let refusal = match request(&visit, &mut client, door).await {
        Ok((request, rest)) if request.is_connect() => {
            return tunnel::connect(&visit, client, request, rest).await;
        }
        Ok((request, rest)) => return plain::forward(&visit, client, request, rest).await,
        Err(Some(refusal)) => refusal,
        // It said nothing and left: there is nothing to decide.
        Err(None) => return,
    };
    let (via, port) = door.label();
    visit.attempt(via, "", port, None).deny(refusal.reason);
    refuse(&mut client, &refusal).await;
}

/// The request that a connection begins with, and what was read beyond its head.
async fn request(
    visit: &Visit,
    client: &mut TcpStream,
    door: Door,
) -> Result<(Request, Vec<u8>), Option<Refusal>> {
    let until = Instant::now() + visit.shared.timeouts.head;
    let mut bytes = Vec::with_capacity(2 << 10);
    loop {
        let before = bytes.len();
        let read = tokio::time::timeout_at(until, client.read_buf(&mut bytes)).await;
        match read {
            Ok(Ok(1..)) => {}
            _ if bytes.is_empty() => return Err(None),
            _ => return Err(Some(visit.refusal(Reason::BadRequest, "", 80))),
        }
        // Reading begins anew each time: only where a line may have ended, so that single bytes
        // do not cost the square of their number.
        let news = bytes.get(before..).unwrap_or_default();
        let is_worth_it =
            before == 0 || news.contains(&b'\n') || bytes.len() >= head::HEAD_BYTES_MAX;
        if !is_worth_it {
            continue;
        }
        let read = match head::read(&bytes) {
            Ok(None) => continue,
            Ok(Some((request, length))) => Ok((request, bytes.split_off(length.min(bytes.len())))),
            Err(error) => Err(error),
        };
        return match read {
            Ok((request, rest)) => fits(visit, request, door).map(|request| (request, rest)),
            Err(error) => Err(refusal_of(visit, &error)),
        }
        .map_err(Some);
    }
}

/// Whether this door takes such a request.
fn fits(visit: &Visit, request: Request, door: Door) -> Result<Request, Refusal> {
    let refuse = |reason, why: &str| {
        let mut refusal = visit.refusal(reason, request.host.as_str(), request.port);
        refusal.text.push_str(why);
        Err(refusal)
    };
    match (door, request.form) {
        (Door::Proxy, TargetForm::Origin) => {
            refuse(Reason::BadRequest, " This is a proxy: name the whole URL.")
        }
        (Door::Http | Door::Tls, TargetForm::Authority) => {
            refuse(Reason::BadRequest, " This is no proxy: no tunnel begins here.")
        }
        (Door::Http, _) if request.port != 80 => {
            refuse(Reason::HostMismatch, " The connection was made to port 80.")
        }
        _ => Ok(request),
    }
}

fn refusal_of(visit: &Visit, error: &HeadError) -> Refusal {
    let reason = error.reason();
    let mut refusal = visit.refusal(reason, "", 80);
    refusal.text = format!("The request was refused: {error}.");
    refusal
}

/// Tells a client that speaks HTTP, and closes.
pub(super) async fn refuse(client: &mut TcpStream, refusal: &Refusal) {
    let status = if refusal.reason.is_refusal() { "403 Forbidden" } else { "502 Bad Gateway" };
    let body = &refusal.text;
    let answer = format!(
        "HTTP/1.1 {status}\r\nx-egress-reason: {}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}\n",
        refusal.reason,
        body.len() + 1,
    );
    let telling = async {
        client.write_all(answer.as_bytes()).await?;
        client.shutdown().await?;
        let mut left = [0; 4 << 10];
        let mut bytes = 0;
        while bytes < LEFT_BYTES_MAX {
            match client.read(&mut left).await? {
                0 => break,
                read => bytes += read,
            }
        }
        std::io::Result::Ok(())
    };
    // A client that is gone, or does not listen, is not told.
    drop(tokio::time::timeout(REFUSAL_WAIT, telling).await);
}
