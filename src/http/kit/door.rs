//! What happens to every request at the admin door: an id, who came through the door, a place
//! among those in progress; then headers, the problem's body, a log line.
//!
//! The door itself lets in only whom it knows, so that there is no credential to look at here; and
//! no browser speaks to it, so that there is no Host and no Origin.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    auth::CallContext,
    domain::{IdSource, Principal, Surface},
    runtime::Redactor,
};

use super::{
    answer::acknowledged,
    edge::{RequestId, Seen, add_headers, request_id, write_problem},
    extract::Operator,
    limit::{Gate, Place},
};

/// What the door knows. Clones share it.
#[derive(Clone, Debug)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    principal: Principal,
    ids: IdSource,
    redactor: Redactor,
    requests: Gate,
}

impl Door {
    /// A door through which this principal comes.
    pub fn new(
        principal: Principal,
        ids: IdSource,
        redactor: Redactor,
        requests_max: usize,
    ) -> Self {
        Self(Arc::new(Inner { principal, ids, redactor, requests: Gate::new(requests_max) }))
    }
}

/// The middleware. Everything a client gets has passed through here.
pub async fn door(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request_id(&door.0.ids, request.headers());
    let seen = Seen::of(&request);
    let cx = CallContext {
        principal: door.0.principal.clone(),
        surface: Surface::Admin,
        request_id: request_id.clone(),
    };
    request.extensions_mut().insert(RequestId(request_id.clone()));
    request.extensions_mut().insert(Operator { cx });
    let mut response = match door.0.requests.admit() {
        Ok(place) => {
            request.extensions_mut().insert(Place::new(place));
            let span = tracing::info_span!("request", request_id);
            next.run(request).instrument(span).await
        }
        Err(problem) => problem.into_response(),
    };
    response = acknowledged(seen.is_reading(), response).await;
    write_problem(&mut response, &request_id, &door.0.redactor);
    add_headers(response.headers_mut(), &request_id, None);
    seen.note(&request_id, response.status(), started, false);
    response
}
