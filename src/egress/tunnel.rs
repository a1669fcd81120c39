//! Tunnels: `CONNECT`, and TLS connections that came to port 443 by themselves.
//!
//! Invariants: unless the rule says `opaque`, the first bytes are a ClientHello that names the very
//! host that was decided about; they are checked before a byte of the client goes out.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Duration,
};

use super::{
    call::{self, Connected, Visit},
    decide::Refusal,
    dial::Carries,
    head::Request,
    hello::{self, Opening},
    proxy::refuse,
    reason::Reason,
    record::Attempt,
    template,
};
use crate::domain::{EgressVia, HostName, host::Destination};

/// Held per direction and tunnel.
const BUFFER_BYTES: usize = 64 << 10;
/// The alert `unrecognized_name`, fatal (RFC 6066 section 3), as a record of TLS 1.2.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// For a client to take the alert.
const ALERT_WAIT: Duration = Duration::from_secs(1);
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Carries out `CONNECT`.
pub(super) async fn connect(visit: &Visit, mut client: TcpStream, request: Request, rest: Vec<u8>) {
    let to = Destination::tunnel(&request.host, request.port);
    let attempt = visit.attempt(EgressVia::Connect, to.host.as_str(), to.port, None);
    let connected = match prepared(visit, &attempt, &request, &to).await {
        Ok(prepared) => prepared,
        Err(refusal) => {
            attempt.deny(refusal.reason);
            return refuse(&mut client, &refusal).await;
        }
    };
    let (mut first, needs) = (rest, connected.needs);
    let work = async {
        if client.write_all(ESTABLISHED).await.is_err() {
            return Ok(());
        }
        if !needs.opaque {
            let named = client_hello(visit, &mut client, &mut first).await?;
            if named != *to.host {
                return Err(Reason::SniMismatch);
            }
        }
        splice(&mut client, connected.stream, &first).await;
        Ok(())
    };
    let ended = visit.while_allowed(&to, (&*connected.meter, needs), Box::pin(work)).await;
    if let Ok(Err(reason)) = ended {
        attempt.deny(reason);
        alert(&mut client).await;
    } else {
        call::settle(&attempt, &connected.meter, &ended);
    }
}

/// Decides and connects.
async fn prepared(
    visit: &Visit,
    attempt: &Attempt,
    request: &Request,
    to: &Destination<'_>,
) -> Result<Connected, Refusal> {
    let has_placeholder = |(name, value): &(String, String)| {
        [name, value].into_iter().any(|part| template::refuse_in(part.as_bytes()).is_err())
    };
    if request.headers.iter().any(has_placeholder) {
        return Err(visit.refusal(Reason::SecretMisused, to.host.as_str(), to.port));
    }
    let allowed = visit.decide(to).await?;
    let mut connected = visit.connect(attempt, &allowed, to, Carries::Tunnel).await?;
    connected.needs.opaque = allowed.is_opaque;
    attempt.allow(allowed.rule);
    Ok(connected)
}

/// Serves a connection to port 443 of any address: the name in its ClientHello says where to.
pub(super) async fn transparent(visit: &Visit, mut client: TcpStream) {
    let mut first = Vec::with_capacity(2 << 10);
    let named = match client_hello(visit, &mut client, &mut first).await {
        Ok(named) => named,
        // It said nothing and left: there is nothing to decide.
        Err(_) if first.is_empty() => return,
        Err(reason) => {
            visit.attempt(EgressVia::Tls, "", 443, None).deny(reason);
            return alert(&mut client).await;
        }
    };
    let to = Destination::tunnel(&named, 443);
    let attempt = visit.attempt(EgressVia::Tls, named.as_str(), 443, None);
    let connected = async {
        let allowed = visit.decide(&to).await?;
        let connected = visit.connect(&attempt, &allowed, &to, Carries::Tunnel).await?;
        attempt.allow(allowed.rule);
        Ok::<_, Refusal>(connected)
    };
    match connected.await {
        Ok(connected) => {
            let work = Box::pin(splice(&mut client, connected.stream, &first));
            let living = (&*connected.meter, connected.needs);
            let ended = visit.while_allowed(&to, living, work).await;
            call::settle(&attempt, &connected.meter, &ended);
        }
        Err(refusal) => {
            attempt.deny(refusal.reason);
            alert(&mut client).await;
        }
    }
}

/// Reads until the ClientHello is there and says whom it names. `first` holds what was read.
async fn client_hello(
    visit: &Visit,
    client: &mut TcpStream,
    first: &mut Vec<u8>,
) -> Result<HostName, Reason> {
    let reading = async {
        loop {
            match hello::read(first) {
                Opening::NeedMore => {}
                Opening::NotTls => return Err(Reason::NotTls),
                Opening::Refused(error) => return Err(reason_of(error)),
                Opening::Hello(hello) if hello.has_ech => return Err(Reason::SniMissing),
                Opening::Hello(hello) => return hello.server_name.ok_or(Reason::SniMissing),
            }
            match client.read_buf(first).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Reason::NotTls),
            }
        }
    };
    let wait = visit.shared.timeouts.hello;
    tokio::time::timeout(wait, reading).await.unwrap_or(Err(Reason::NotTls))
}

fn reason_of(error: hello::HelloError) -> Reason {
    match error {
        hello::HelloError::IpName | hello::HelloError::BadName => Reason::BadHost,
        hello::HelloError::TooLong
        | hello::HelloError::NotHello
        | hello::HelloError::Malformed
        | hello::HelloError::Twice => Reason::NotTls,
    }
}

/// Moves bytes both ways until both sides have ended.
async fn splice(client: &mut TcpStream, mut server: super::meter::Metered, first: &[u8]) {
    let moving = async {
        server.write_all(first).await?;
        tokio::io::copy_bidirectional_with_sizes(client, &mut server, BUFFER_BYTES, BUFFER_BYTES)
            .await
    };
    if let Err(error) = moving.await {
        tracing::debug!(%error, "a tunnel ended early");
    }
}

/// Tells a TLS client that its name leads nowhere, and closes.
async fn alert(client: &mut TcpStream) {
    let telling = async {
        client.write_all(&ALERT).await?;
        client.shutdown().await?;
        let mut left = [0; 4 << 10];
        for _ in 0..16 {
            if client.read(&mut left).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // A client that is gone is not told.
    drop(tokio::time::timeout(ALERT_WAIT, telling).await);
}
