//! The name server of a sandbox.
//!
//! Invariants: a name that no rule allows is answered at once and goes nowhere; of an allowed name
//! nothing but its checked addresses is told, and no question is passed on as it came.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{net::UdpSocket, sync::Semaphore, time::Duration};

use super::{
    call::Visit,
    decide::Permitted,
    dns::{self, Asked, Question},
    reason::{Quota, Reason},
    record::Attempt,
};
use crate::{
    domain::{EgressVia, HostName},
    runtime::TaskKind,
};

/// Names that are looked up at once for one sandbox.
const LOOKUPS_MAX: usize = 16;
/// How long a tool may believe an answer: it is checked again when it connects.
const TTL_MAX: Duration = Duration::from_secs(60);
/// Pause after a failed receive.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);
const PORT: u16 = 53;

/// Answers questions until it is dropped.
pub(super) async fn serve(socket: Arc<UdpSocket>, visit: impl Fn() -> Visit) {
    let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
    // One byte more than is looked at: what is longer is known to be.
    let mut datagram = vec![0; dns::QUERY_BYTES_MAX + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut datagram).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive a question of a sandbox");
                tokio::time::sleep(RECEIVE_PAUSE).await;
                continue;
            }
        };
        let question = match dns::read(datagram.get(..length).unwrap_or_default()) {
            Asked::Question(question) => question,
            Asked::Answer(answer) => {
                send(&socket, &answer, from);
                continue;
            }
            Asked::Silence => continue,
        };
        let visit = visit();
        match first_look(&visit, &question) {
            Look::Answered(answer) => send(&socket, &answer, from),
            Look::Up(host, permitted, attempt) => {
                let Ok(place) = Arc::clone(&lookups).try_acquire_owned() else {
                    // A client asks again.
                    attempt.deny(Reason::ResolveFailed);
                    send(&socket, &question.failed(), from);
                    continue;
                };
                let socket = Arc::clone(&socket);
                let tasks = visit.shared.tasks.clone();
                tasks.spawn(TaskKind::Egress, |_| async move {
                    let stop = visit.call.stop.clone();
                    let work = look_up(&visit, &question, host, permitted, attempt);
                    tokio::select! {
                        answer = Box::pin(work) => send(&socket, &answer, from),
                        () = stop.cancelled() => {}
                    }
                    drop(place);
                });
            }
        }
    }
}

/// What can be said of a question without waiting.
enum Look {
    Answered(Vec<u8>),
    Up(HostName, Permitted, Attempt),
}

fn first_look(visit: &Visit, question: &Question) -> Look {
    let host = question.host.as_ref();
    let shown = host.map_or(question.shown.as_str(), HostName::as_str);
    if let Err(first) = visit.quotas.question(host.ok()) {
        if first.0 {
            visit.attempt(EgressVia::Dns, shown, PORT, None).deny(Reason::Quota(Quota::Names));
        }
        return Look::Answered(question.refused());
    }
    let attempt = visit.attempt(EgressVia::Dns, shown, PORT, None);
    let host = match host {
        Ok(host) if host.ip().is_none() => host,
        _ => {
            attempt.deny(Reason::BadHost);
            return Look::Answered(question.refused());
        }
    };
    match visit.judge_name(host) {
        Err(refusal) => {
            attempt.deny(refusal.reason);
            Look::Answered(question.refused())
        }
        // There is no IPv6 inside, and no other record leads anywhere.
        Ok(permitted) if !question.wants_ipv4 => {
            attempt.allow(permitted.rule);
            attempt.end();
            Look::Answered(question.answer(&[], 0))
        }
        Ok(permitted) => Look::Up(host.clone(), permitted, attempt),
    }
}

async fn look_up(
    visit: &Visit,
    question: &Question,
    host: HostName,
    permitted: Permitted,
    attempt: Attempt,
) -> Vec<u8> {
    let allowed = match visit.addresses(permitted, &host).await {
        Ok(allowed) => allowed,
        Err(refusal) => {
            attempt.deny(refusal.reason);
            return match refusal.reason {
                Reason::NoAddress => question.absent(),
                Reason::ResolveFailed => question.failed(),
                _ => question.refused(),
            };
        }
    };
    let ipv4 = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    };
    let addresses: Vec<Ipv4Addr> = allowed.addresses.iter().filter_map(ipv4).collect();
    if let Some(first) = addresses.first() {
        attempt.dialled(IpAddr::V4(*first));
    }
    attempt.allow(allowed.rule);
    attempt.end();
    let ttl = allowed.ttl.min(TTL_MAX).as_secs();
    question.answer(&addresses, u32::try_from(ttl).unwrap_or(0))
}

/// Sends an answer; one that does not fit into the socket now is lost, as datagrams may be.
fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to) {
        tracing::debug!(%error, "an answer to a sandbox's question was lost");
    }
}
