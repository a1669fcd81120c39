//! Plain HTTP: one request, written anew for the server, and its answer.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{
    io::{AsyncWriteExt, split},
    net::TcpStream,
};

use super::{
    body::{self, BodyError},
    call::{self, Connected, Visit},
    decide::Refusal,
    dial::Carries,
    head::{Framing, HeadError, Request},
    meter::Metered,
    proxy::refuse,
    reason::Reason,
    record::Attempt,
    response::{self, ResponseError},
    secrets::Place,
};
use crate::domain::{EgressVia, host::Destination};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How a request ended that was sent on.
enum Ended {
    /// The answer went through, as far as the server gave it.
    Answered,
    /// The client is gone.
    Left,
    /// This is why there is no answer.
    Failed(Reason),
}

/// Carries out one request. `rest` is what was read beyond its head.
pub(super) async fn forward(
    visit: &Visit,
    mut client: TcpStream,
    mut request: Request,
    rest: Vec<u8>,
) {
    let (host, method) = (request.host.clone(), request.method.clone());
    let path = request.path().to_owned();
    let to = Destination::request(&host, request.port, &method, &path);
    let attempt = visit.attempt(EgressVia::Http, host.as_str(), to.port, Some(&method));
    let (connected, head) = match prepared(visit, &attempt, &mut request, &to).await {
        Ok(prepared) => prepared,
        Err(refusal) => {
            attempt.deny(refusal.reason);
            return refuse(&mut client, &refusal).await;
        }
    };
    let has_begun = AtomicBool::new(false);
    let work = exchange(&mut client, connected.stream, &request, (&head, &rest), &has_begun);
    let living = (&*connected.meter, connected.needs);
    let ended = visit.while_allowed(&to, living, Box::pin(work)).await;
    let failed = match &ended {
        Ok(Ended::Failed(reason)) => connected.meter.exceeded().or(Some(*reason)),
        _ => None,
    };
    if let Some(reason) = failed {
        attempt.deny(reason);
        if !has_begun.load(Ordering::Acquire) {
            let refusal = visit.refusal(reason, host.as_str(), to.port);
            refuse(&mut client, &refusal).await;
        }
    } else {
        call::settle(&attempt, &connected.meter, &ended);
    }
}

/// Decides, connects and writes the head for the server.
async fn prepared(
    visit: &Visit,
    attempt: &Attempt,
    request: &mut Request,
    to: &Destination<'_>,
) -> Result<(Connected, Vec<u8>), Refusal> {
    let refuse = |reason| visit.refusal(reason, to.host.as_str(), to.port);
    visit.quotas.request().map_err(|quota| refuse(Reason::Quota(quota)))?;
    let secrets = &visit.shared.secrets;
    let place = Place { host: to.host, port: to.port, is_tls: false, path: &request.target };
    let filled = secrets.fill(&request.headers, place, attempt);
    request.headers = filled.map_err(|_misused| refuse(Reason::SecretMisused))?;
    let allowed = visit.decide(to).await?;
    let connected = visit.connect(attempt, &allowed, to, Carries::Request).await?;
    let head = if connected.is_proxied {
        let value = visit.shared.upstream.as_ref().and_then(|u| u.authorization.as_ref());
        request.to_proxy(value.map(|value| value.expose().as_str()))
    } else {
        request.to_server()
    };
    let head = head.map_err(|error: HeadError| {
        let mut refusal = refuse(Reason::BadRequest);
        refusal.text = format!("The request was refused: {error}.");
        refusal
    })?;
    attempt.allow(allowed.rule);
    Ok((connected, head))
}

/// Sends the request and passes the answer on; both at once, since a server may answer early.
async fn exchange(
    client: &mut TcpStream,
    server: Metered,
    request: &Request,
    (head, rest): (&[u8], &[u8]),
    has_begun: &AtomicBool,
) -> Ended {
    let (mut from_server, mut to_server) = split(server);
    let (mut from_client, mut to_client) = client.split();
    if request.expects_continue
        && request.framing != Framing::None
        && to_client.write_all(CONTINUE).await.is_err()
    {
        return Ended::Left;
    }
    if to_server.write_all(head).await.is_err() {
        return Ended::Failed(Reason::ConnectFailed);
    }
    let mut sending = Box::pin(body::send(request.framing, rest, &mut from_client, &mut to_server));
    let mut answering =
        Box::pin(response::pass_on(&request.method, &mut from_server, &mut to_client, has_begun));
    let mut is_sent = false;
    loop {
        tokio::select! {
            answered = &mut answering => return match answered {
                Ok(()) | Err(ResponseError::Cut(_)) => Ended::Answered,
                Err(ResponseError::Client(_)) => Ended::Left,
                Err(ResponseError::NotHttp) => Ended::Failed(Reason::ConnectFailed),
            },
            sent = &mut sending, if !is_sent => match sent {
                // A server that takes no more may have answered all the same.
                Ok(()) | Err(BodyError::Server(_)) => is_sent = true,
                Err(BodyError::Client(_)) => return Ended::Left,
                Err(BodyError::Malformed) => return Ended::Failed(Reason::BadRequest),
                Err(BodyError::Secret) => return Ended::Failed(Reason::SecretMisused),
            },
        }
    }
}
