//! What happens to every request before and after its handler: an id, Host and Origin, who is
//! asking, a place among those in progress; then headers, the problem's body, a log line.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{self, Entry},
    uri::Authority,
};
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    auth::{AuthError, Authenticator, CallContext, RequestRates},
    domain::{IdSource, Surface},
    runtime::Redactor,
};

use super::{
    answer::acknowledged,
    auth::{Peer, bearer, client_address, offered},
    extract::{Caller, unauthenticated},
    limit::{Gate, Place, REQUEST_ID_BYTES_MAX},
    problem::{Problem, code},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who may call a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A probe: anybody, under any host name, however busy the daemon is.
    Probe,
    /// Anybody: it says nothing about this daemon.
    Open,
    /// Whoever presents a token now, or in the first frame.
    Handshake,
    /// Whoever presents a token.
    Bearer,
}

/// What the edge knows. Clones share it.
#[derive(Clone, Debug)]
pub struct Edge(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    authenticator: Authenticator,
    rates: RequestRates,
    ids: IdSource,
    redactor: Redactor,
    requests: Gate,
}

/// What configuration says about the edge.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host names, without port, that are served besides loopback and the address called.
    pub hosts: Vec<String>,
    /// Origins that browsers may call from, such as `https://console.example`. Empty: none.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Requests in progress at once.
    pub requests_max: usize,
    /// Says who may call a path.
    pub access: fn(&str) -> Access,
}

/// The id of a request.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Where a request came from, as far as it is believed.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub IpAddr);

impl Edge {
    /// An edge in front of a router.
    pub fn new(
        options: Options,
        authenticator: Authenticator,
        rates: RequestRates,
        ids: IdSource,
        redactor: Redactor,
    ) -> Self {
        let requests = Gate::new(options.requests_max);
        Self(Arc::new(Inner { options, authenticator, rates, ids, redactor, requests }))
    }

    /// Checks a request and notes in it who sent it.
    fn admit(&self, request: &mut Request, request_id: &str) -> Result<(), Problem> {
        let inner = &self.0;
        let access = (inner.options.access)(request.uri().path());
        let peer = request.extensions().get::<Peer>().copied();
        if access == Access::Probe {
            return Ok(());
        }
        self.check_host(request, peer)?;
        self.check_origin(request)?;
        if access != Access::Open {
            let peer = peer.ok_or_else(unauthenticated)?;
            let headers = request.headers();
            let address = client_address(peer, headers, &inner.options.trusted_proxies);
            inner.rates.of_address(address, request_id).map_err(too_often)?;
            let presented = match access {
                Access::Handshake => bearer(headers).or_else(|| offered(headers)),
                Access::Probe | Access::Open | Access::Bearer => bearer(headers),
            };
            if presented.is_some() || access == Access::Bearer {
                let caller = self.recognise(presented, address, request_id)?;
                self.count(&caller.cx)?;
                request.extensions_mut().insert(caller);
            }
            request.extensions_mut().insert(Client(address));
        }
        let place = Place::new(inner.requests.admit()?);
        request.extensions_mut().insert(place);
        Ok(())
    }

    /// Counts a request, or a message on a WebSocket, of a principal.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub fn count(&self, cx: &CallContext) -> Result<(), Problem> {
        self.0.rates.of_principal(cx).map_err(too_often)
    }

    /// Recognises a presented token.
    ///
    /// # Errors
    /// 401, or 429 where the address or the token is locked.
    pub fn recognise(
        &self,
        presented: Option<&str>,
        address: IpAddr,
        request_id: &str,
    ) -> Result<Caller, Problem> {
        match self.0.authenticator.authenticate(presented, address, request_id) {
            Ok(verified) => Ok(Caller {
                cx: CallContext {
                    principal: verified.principal,
                    surface: Surface::Api,
                    request_id: request_id.to_owned(),
                },
                token: verified.token,
            }),
            Err(AuthError::Missing | AuthError::Invalid) => Err(unauthenticated()),
            Err(error @ AuthError::Locked { retry_after }) => {
                Err(Problem::new(&code::LOCKED, error.to_string()).retry_after(retry_after))
            }
        }
    }

    /// Against DNS rebinding: a page of another site that points its own name at us is refused.
    fn check_host(&self, request: &Request, peer: Option<Peer>) -> Result<(), Problem> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (first, second) = (hosts.next(), hosts.next());
        // An absolute target counts before the header (RFC 9112, 3.2.2); two headers say nothing.
        let text = request.uri().authority().map(Authority::as_str);
        let text = text.or_else(|| first?.to_str().ok()).filter(|_| second.is_none());
        let authority = text.and_then(|text| Authority::from_str(text).ok()).ok_or_else(|| {
            Problem::new(&code::MALFORMED, "the request needs one valid Host header")
        })?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_ours = match host.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip.is_loopback() || peer.is_some_and(|p| p.local.ip().to_canonical() == ip)
            }
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        };
        let is_listed =
            || self.0.options.hosts.iter().any(|h| h == "*" || h.eq_ignore_ascii_case(host));
        if is_ours || is_listed() {
            return Ok(());
        }
        let detail = "this host name is not served; set AGENT_RUNTIME_PUBLIC_HOST to serve it";
        Err(Problem::new(&code::HOST, detail))
    }

    /// A browser says where a request comes from: our own pages and listed origins may call.
    fn check_origin(&self, request: &Request) -> Result<(), Problem> {
        let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
        if self.is_listed(origin) || is_same_origin(origin, request.headers()) {
            return Ok(());
        }
        let detail = "requests from this origin are refused; AGENT_RUNTIME_CORS_ORIGINS lists \
                      those that are not";
        Err(Problem::new(&code::ORIGIN, detail))
    }

    fn is_listed(&self, origin: &HeaderValue) -> bool {
        self.0.options.cors_origins.iter().any(|o| o.as_bytes() == origin.as_bytes())
    }
}

fn too_often(wait: std::time::Duration) -> Problem {
    let detail = "too many requests in a minute; wait as long as Retry-After says";
    Problem::new(&code::RATE_LIMITED, detail).retry_after(wait)
}

fn is_same_origin(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let origin = origin.as_bytes();
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some() && authority == host
}

/// The middleware. Everything a client gets has passed through here.
pub async fn edge(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request_id(&edge.0.ids, request.headers());
    let seen = Seen::of(&request);
    let origin = request.headers().get(header::ORIGIN).filter(|o| edge.is_listed(o)).cloned();
    let is_preflight = request.method() == Method::OPTIONS
        && origin.is_some()
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    request.extensions_mut().insert(RequestId(request_id.clone()));
    let mut response = if is_preflight {
        preflight()
    } else {
        match edge.admit(&mut request, &request_id) {
            Ok(()) => {
                let span = tracing::info_span!("request", request_id);
                next.run(request).instrument(span).await
            }
            Err(problem) => problem.into_response(),
        }
    };
    response = acknowledged(seen.is_reading(), response).await;
    write_problem(&mut response, &request_id, &edge.0.redactor);
    add_headers(response.headers_mut(), &request_id, origin);
    let is_probe = (edge.0.options.access)(&seen.path) == Access::Probe;
    seen.note(&request_id, response.status(), started, is_probe);
    response
}

/// The caller's own id of a request, or a new one.
pub(super) fn request_id(ids: &IdSource, headers: &HeaderMap) -> String {
    let is_id = |text: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    let given = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok()).filter(is_id);
    given.map_or_else(|| format!("req_{}", ids.uuid().as_simple()), str::to_owned)
}

/// What is noted of a request once it is answered.
#[derive(Debug)]
pub(super) struct Seen {
    method: Method,
    path: String,
    route: Option<MatchedPath>,
}

impl Seen {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            route: request.extensions().get::<MatchedPath>().cloned(),
        }
    }

    /// Whether it asked for nothing to be done.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// Counts and logs it.
    pub(super) fn note(
        &self,
        request_id: &str,
        status: StatusCode,
        started: Instant,
        is_probe: bool,
    ) {
        let Self { method, path, route } = self;
        let status = status.as_u16();
        let route = route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
        metrics::counter!(
            "agent_runtime_http_requests_total",
            "method" => label(method), "route" => route, "status" => status.to_string()
        )
        .increment(1);
        // A stranger may send any UTF-8, such as controls that drive the terminal a log is read in.
        let path = path.escape_default();
        if is_probe {
            tracing::debug!(request_id, %method, %path, status, "probe");
        } else {
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(request_id, %method, %path, status, duration_ms, "request");
        }
    }
}

/// A label with few values: a client may send any text as method.
fn label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Writes the problem that a handler left. It may quote what was sent, which may be a secret.
pub(super) fn write_problem(response: &mut Response, request_id: &str, redactor: &Redactor) {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let json = serde_json::to_value(problem.written(request_id)).unwrap_or_default();
        *response.body_mut() = Body::from(redactor.redact_json(json).to_string());
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
}

fn preflight() -> Response {
    let allow = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, idempotency-key, if-none-match, last-event-id, x-request-id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allow).into_response()
}

pub(super) fn add_headers(headers: &mut HeaderMap, request_id: &str, origin: Option<HeaderValue>) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        // A handler that knows better, such as the docs page, has said so.
        if let Entry::Vacant(vacant) = headers.entry(name) {
            vacant.insert(HeaderValue::from_static(value));
        }
    }
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = "etag, idempotency-replayed, location, retry-after, x-request-id";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    }
}
