//! The HTTP client of a fetch: one connection per request, over the address that was checked.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, Uri, Version, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::{
    call::{Connected, Visit},
    decide::Refusal,
    dial::Carries,
    fetch::FetchError,
    fetch_url::Hop,
    options::EgressError,
    reason::Reason,
    record::Attempt,
    secrets::Place,
};
use crate::{domain::host::Destination, runtime::TaskKind};

/// Bytes of a response's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Fields of a response's head.
const FIELDS_MAX: usize = 128;
const USER_AGENT: &str = concat!("agent-runtime/", env!("CARGO_PKG_VERSION"));

/// TLS as a client that trusts the public authorities and these.
///
/// # Errors
/// When one of them is no certificate.
pub(super) fn tls(extra: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, EgressError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in extra {
        roots.add(certificate).map_err(|source| EgressError::Root { source })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| EgressError::Root { source })?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Decides about one hop, connects, and makes the request with its secrets.
pub(super) async fn prepare(
    visit: &Visit,
    attempt: &Attempt,
    hop: &Hop,
    to: &Destination<'_>,
    target: &str,
) -> Result<(Connected, Request<Full<Bytes>>), Refusal> {
    let refuse = |reason| visit.refusal(reason, to.host.as_str(), to.port);
    visit.quotas.request().map_err(|quota| refuse(Reason::Quota(quota)))?;
    let place = Place { host: to.host, port: to.port, is_tls: hop.is_tls(), path: target };
    let headers = visit.shared.secrets.fill(&hop.headers, place, attempt);
    let headers = headers.map_err(|_misused| refuse(Reason::SecretMisused))?;
    let allowed = visit.decide(to).await?;
    let carries = if hop.is_tls() { Carries::Tunnel } else { Carries::Request };
    let connected = visit.connect(attempt, &allowed, to, carries).await?;
    let is_absolute = connected.is_proxied && carries == Carries::Request;
    let request = written(visit, hop, headers, target, is_absolute);
    let request = request.map_err(|_unwritable| refuse(Reason::BadRequest))?;
    attempt.allow(allowed.rule);
    Ok((connected, request))
}

fn written(
    visit: &Visit,
    hop: &Hop,
    headers: Vec<(String, String)>,
    target: &str,
    is_absolute: bool,
) -> http::Result<Request<Full<Bytes>>> {
    let authority = hop.authority();
    let uri: Uri = if is_absolute {
        format!("http://{authority}{target}").parse()?
    } else {
        target.parse()?
    };
    let mut request = Request::builder()
        .method(hop.method.clone())
        .uri(uri)
        .version(Version::HTTP_11)
        .header("host", authority)
        .header("connection", "close")
        .header("accept-encoding", "identity");
    let is_set = |wanted: &str| headers.iter().any(|(name, _)| name == wanted);
    if !is_set("user-agent") {
        request = request.header("user-agent", USER_AGENT);
    }
    if !is_set("accept") {
        request = request.header("accept", "*/*");
    }
    let authorization = visit.shared.upstream.as_ref().and_then(|u| u.authorization.as_ref());
    if let Some(value) = authorization.filter(|_| is_absolute) {
        request = request.header("proxy-authorization", value.expose());
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Full::new(Bytes::from(hop.body.clone())))
}

/// What either kind of connection can do.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Sends a request. The connection lives until the second part of the answer is dropped.
pub(super) async fn send(
    visit: &Visit,
    hop: &Hop,
    connected: Connected,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), FetchError> {
    let stream: Box<dyn Stream> = if hop.is_tls() {
        let name = ServerName::try_from(hop.host.as_str().to_owned())
            .map_err(|_no_name| FetchError::refused(Reason::BadHost))?;
        let connector = TlsConnector::from(Arc::clone(&visit.shared.tls));
        let handshake = Box::pin(connector.connect(name, connected.stream));
        let timed = tokio::time::timeout(visit.shared.timeouts.head, handshake).await;
        let failed = |source| FetchError::Tls { source };
        let late = |_| failed(std::io::ErrorKind::TimedOut.into());
        Box::new(timed.map_err(late)?.map_err(failed)?)
    } else {
        Box::new(connected.stream)
    };
    let broken = |source| FetchError::Broken { source };
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(FIELDS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driving = visit.shared.tasks.spawn(TaskKind::Egress, |_| async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a fetch's connection ended early");
        }
    });
    let connection = AbortOnDropHandle::new(driving);
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok((response, connection))
}
