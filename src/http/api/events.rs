//! A run's events: a page of JSON, or a stream that replays and then stays live.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{
    App, dto,
    runs::{no_run, refused},
    schema,
};
use crate::{
    auth::{Permit, Read},
    domain::{PrincipalId, RunId, limits},
    http::kit::{
        Caller, Id, Problem, Query,
        extract::unauthenticated,
        limit::{PING_EVERY, Share},
        problem::code,
    },
    orchestrator::{Frame, Subscription},
    runtime::{
        Stop,
        failpoint::{Point, reach},
    },
};

/// How soon a browser's `EventSource` comes back after an interruption.
const RETRY: &[u8] = b"retry: 1000\n\n";
const PING: &[u8] = b": ping\n\n";

/// Whether the caller asks for a stream.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|k| k.trim() == "text/event-stream"))
}

/// Lists a run's events, or with `Accept: text/event-stream` replays them and stays live.
#[utoipa::path(get, path = "/api/v1/runs/{id}/events", tag = "runs",
    params(("id" = String, Path), dto::ListEvents,
        ("Last-Event-ID" = Option<u64>, Header, description = "As `after`; wins over it")),
    responses((status = 200, body = schema::EventPage,
            description = "A page; or a stream with `id:` = seq and `event:` = type"),
        (status = 204, description = "Stream: the run has ended and you know all of it"),
        (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
    Query(query): Query<dto::ListEvents>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let after = query.after.unwrap_or(0);
    if is_wanted(&headers) {
        let last = headers.get("last-event-id").and_then(|v| v.to_str().ok()?.trim().parse().ok());
        return stream(&app, caller, permit, id, last.unwrap_or(after)).await;
    }
    let limit = query.limit.unwrap_or(limits::PAGE_DEFAULT).clamp(1, limits::PAGE_MAX);
    let page = app.orchestrator().events(&permit, id, after, limit).await.map_err(refused)?;
    Ok(Json(page.ok_or_else(no_run)?).into_response())
}

/// The stream of a run's events after `after`, as a response. It ends after the run's terminal
/// event, when the daemon stops, or when the caller's token ends.
pub(super) async fn stream(
    app: &App,
    caller: Caller,
    permit: Permit<Read>,
    id: RunId,
    after: u64,
) -> Result<Response, Problem> {
    let run = app.orchestrator().run(&permit, id).await.map_err(refused)?.ok_or_else(no_run)?;
    if run.state.is_terminal() && after >= run.seq {
        // 204 is what tells an EventSource to stop coming back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let share = app.streams_of().enter(caller.cx.principal.id).ok_or_else(|| {
        let detail = "you have too many event streams open; close some";
        Problem::new(&code::OVERLOADED, detail).retry_after(Duration::from_secs(1))
    })?;
    let place = app.streams().admit()?;
    let subscription = app.orchestrator().subscribe(&permit, id, after).await.map_err(refused)?;
    let subscription = subscription.ok_or_else(no_run)?;
    // Watched first, asked then: what changed since the request came is not missed.
    let tokens = app.tokens().watch();
    if !app.still_stands(&caller) {
        return Err(unauthenticated());
    }
    let live = Live {
        subscription,
        caller,
        stop: app.stop().clone(),
        tokens,
        app: app.clone(),
        ping: pinger(),
        has_begun: false,
        _place: (place, share),
    };
    let chunks = stream::unfold(live, |mut live| async {
        live.next().await.map(|chunk| (Ok::<_, Infallible>(chunk), live))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // Some proxies hold a response back until it ends.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn pinger() -> Interval {
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping
}

struct Live {
    subscription: Subscription,
    caller: Caller,
    stop: Stop,
    tokens: watch::Receiver<u64>,
    app: App,
    ping: Interval,
    has_begun: bool,
    _place: (OwnedSemaphorePermit, Share<PrincipalId>),
}

impl Live {
    /// The next piece to write; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.has_begun {
            self.has_begun = true;
            return Some(Bytes::from_static(RETRY));
        }
        reach(Point::SseSendAfter).await.ok()?;
        loop {
            // Every branch is cancel-safe: the subscription keeps what it has read, the others
            // lose nothing when dropped.
            tokio::select! {
                biased;
                // A right that is gone counts before what is ready to be sent.
                changed = self.tokens.changed() => {
                    if changed.is_err() || !self.app.still_stands(&self.caller) {
                        return None;
                    }
                }
                frame = self.subscription.next() => match frame {
                    Ok(Some(frame)) => {
                        if let Some(chunk) = written(&frame) {
                            reach(Point::SseSendBefore).await.ok()?;
                            return Some(chunk);
                        }
                    }
                    Ok(None) => return None,
                    Err(error) => {
                        // The client comes back with its last id and misses nothing.
                        tracing::warn!(%error, "an event stream ended early");
                        return None;
                    }
                },
                _ = self.ping.tick() => return Some(Bytes::from_static(PING)),
                () = self.stop.wait_soft() => return None,
            }
        }
    }
}

/// A frame in the wire format of server-sent events.
fn written(frame: &Frame) -> Option<Bytes> {
    let text = match frame {
        Frame::Event(event) => {
            let json = serde_json::to_string(event.as_ref()).ok()?;
            format!("id: {}\nevent: {}\ndata: {json}\n\n", event.seq, event.body.kind())
        }
        Frame::Ephemeral(frame) => {
            let json = serde_json::to_string(frame.as_ref()).ok()?;
            format!("event: {}\ndata: {json}\n\n", frame.body.kind())
        }
        // The stream itself reads on; the client has missed nothing.
        Frame::Resync { after } => format!(": resync after {after}\n\n"),
    };
    Some(Bytes::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::domain::{
        ConversationId, Event, EventBody, IdSource, ManualClock, Timestamp,
        event::{Ephemeral, EphemeralBody},
    };

    fn ids() -> IdSource {
        IdSource::new(Arc::new(ManualClock::at_secs(1)), |b| b.fill(1))
    }

    #[test]
    fn an_event_carries_its_number_and_type_and_stays_on_one_line() {
        let event = Event {
            body: EventBody::RunCreated {
                agent: "default".to_owned(),
                input: "two\nlines\r\n\ndata: forged".to_owned(),
                retry_of: None,
            },
            run_id: RunId::new(&ids()),
            conversation_id: ConversationId::new(&ids()),
            seq: 7,
            at: Timestamp::from_micros(0),
            epoch: 0,
        };
        let chunk = written(&Frame::Event(Arc::new(event.clone()))).unwrap();
        let text = std::str::from_utf8(&chunk).unwrap();
        let lines: Vec<_> = text.split('\n').collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(lines[0..2], ["id: 7", "event: run.created"]);
        let json = lines[2].strip_prefix("data: ").unwrap();
        assert_eq!(serde_json::from_str::<Event>(json).unwrap(), event);
    }

    #[test]
    fn an_ephemeral_frame_has_no_id() {
        let body = EphemeralBody::MessageDelta { text: "hi".to_owned() };
        let frame = Ephemeral { body, run_id: RunId::new(&ids()), after_seq: 3 };
        let chunk = written(&Frame::Ephemeral(Arc::new(frame))).unwrap();
        let text = std::str::from_utf8(&chunk).unwrap();
        assert!(text.starts_with("event: message.delta\ndata: {"), "{text}");
        assert!(text.contains("\"after_seq\":3") && !text.contains("id: "), "{text}");
    }

    #[test]
    fn a_stream_is_asked_for_by_its_media_type() {
        let wanted = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            is_wanted(&headers)
        };
        assert!(wanted("text/event-stream"));
        assert!(wanted("application/json;q=0.5, text/event-stream;q=1"));
        assert!(!wanted("*/*") && !wanted("application/json"));
        assert!(!is_wanted(&HeaderMap::new()));
    }
}
