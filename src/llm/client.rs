//! One attempt over HTTP: sends the request, reads the stream, within every bound.
//!
//! Invariants: no redirect is followed, the environment's proxies are not used, and neither
//! bodies, keys nor addresses reach a log line or an error.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::{
    Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use tokio::{sync::mpsc, time};

use super::{
    answer::Answer,
    anthropic,
    error::{ErrorClass, Failure},
    openai,
    options::{Options, Provider},
    sse::{Decoder, Event, SseError},
    status,
};
use crate::{
    domain::{Clock, Secret},
    runtime::failpoint::{Injected, Point, reach},
};

/// Bytes of an error body that are read; it is only classified.
const ERROR_BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of one stream: frames are many times larger than the few characters they carry.
const STREAM_BYTES_MAX: usize = 256 << 20;

/// What is sent, the same for every attempt.
pub(super) struct Outgoing {
    pub(super) provider: Provider,
    pub(super) url: Url,
    pub(super) key: Option<Secret<String>>,
    pub(super) body: Bytes,
}

/// Sends requests to providers. Clones share the connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    timeout: Duration,
    total_timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// # Errors
    /// A sentence that says what is missing.
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err("no TLS provider is installed in this process".to_owned());
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .redirect(redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("agent-runtime/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        if let Some(proxy) = &options.proxy {
            let proxy = reqwest::Proxy::all(proxy.expose().as_str())
                .map_err(|e| format!("the proxy address is not valid: {}", chain(&e)))?;
            builder = builder.proxy(proxy);
        }
        let http = builder.build().map_err(|e| chain(&e))?;
        Ok(Self {
            http,
            timeout: options.timeout,
            total_timeout: options.total_timeout,
            clock: Arc::clone(&options.clock),
        })
    }

    /// One attempt. Cancel-safe: dropping the future closes the connection.
    pub(super) async fn attempt(
        &self,
        out: &Outgoing,
        deltas: Option<&mpsc::Sender<String>>,
    ) -> Result<Answer, Failure> {
        reach(Point::LlmSendBefore).await.map_err(broken)?;
        let answer = time::timeout(self.total_timeout, self.exchange(out, deltas))
            .await
            .unwrap_or(Err(Failure::new(ErrorClass::Timeout, "the answer took too long")));
        reach(Point::LlmSendAfter).await.map_err(broken)?;
        answer
    }

    async fn exchange(
        &self,
        out: &Outgoing,
        deltas: Option<&mpsc::Sender<String>>,
    ) -> Result<Answer, Failure> {
        let request = self.http.post(out.url.clone()).headers(headers(out)?).body(out.body.clone());
        let Ok(sent) = time::timeout(self.timeout, request.send()).await else {
            return Err(SILENT);
        };
        self.read(out.provider, sent.map_err(unreachable)?, deltas).await
    }

    async fn read(
        &self,
        provider: Provider,
        response: Response,
        deltas: Option<&mpsc::Sender<String>>,
    ) -> Result<Answer, Failure> {
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let is_json = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
        if is_json {
            return Err(Failure::lasting(ErrorClass::Format, "the provider did not stream"));
        }
        let mut answer = Answer::default();
        let (mut decoder, mut events, mut total) = (Decoder::default(), Vec::new(), 0_usize);
        let mut stream = response.bytes_stream();
        loop {
            let next = time::timeout(self.timeout, stream.next());
            let Ok(next) = next.await else { return Err(SILENT) };
            let Some(chunk) = next.transpose().map_err(cut)? else { break };
            total = total.saturating_add(chunk.len());
            if total > STREAM_BYTES_MAX {
                return Err(Failure::lasting(ErrorClass::Format, "the stream is too large"));
            }
            decoder.push(&chunk, &mut events).map_err(bad_stream)?;
            let is_over = read_events(provider, &mut events, &mut answer)?;
            if let (Some(text), Some(deltas)) = (answer.take_fresh(), deltas) {
                // Lossy on purpose: people who watch must not slow the answer down, and the
                // whole text is stored at the end.
                deltas.try_send(text).ok();
            }
            if is_over {
                return Ok(answer);
            }
        }
        // Some compatible servers close the connection instead of sending the last frame.
        if answer.finish.is_some() { Ok(answer) } else { Err(CUT) }
    }

    /// What a status other than 2xx means.
    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| status::retry_after(v, self.clock.now()));
        let (mut body, mut stream) = (Vec::new(), response.bytes_stream());
        while let Ok(Some(Ok(chunk))) = time::timeout(self.timeout, stream.next()).await {
            body.extend(chunk.iter().take(ERROR_BODY_BYTES_MAX - body.len()));
            if body.len() == ERROR_BODY_BYTES_MAX {
                break;
            }
        }
        status::failure(status, &body, retry_after)
    }
}

fn read_events(
    provider: Provider,
    events: &mut Vec<Event>,
    answer: &mut Answer,
) -> Result<bool, Failure> {
    for event in events.drain(..) {
        let is_over = match provider {
            Provider::OpenAi => openai::read(&event, answer)?,
            Provider::Anthropic => anthropic::read(&event, answer)?,
            Provider::Builtin => true,
        };
        if is_over {
            return Ok(true);
        }
    }
    Ok(false)
}

fn headers(out: &Outgoing) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    };
    let bad_key =
        Failure::lasting(ErrorClass::Auth, "the key holds characters that no key may hold");
    match out.provider {
        Provider::OpenAi => {
            if let Some(key) = &out.key {
                let bearer = zeroize::Zeroizing::new(format!("Bearer {}", key.expose()));
                headers.insert(AUTHORIZATION, secret(&bearer).ok_or(bad_key)?);
            }
        }
        Provider::Anthropic => {
            headers.insert("anthropic-version", HeaderValue::from_static(anthropic::VERSION));
            if let Some(key) = &out.key {
                headers.insert("x-api-key", secret(key.expose()).ok_or(bad_key)?);
            }
        }
        Provider::Builtin => {}
    }
    Ok(headers)
}

const SILENT: Failure = Failure::new(ErrorClass::Timeout, "the provider fell silent");
const BROKE: &str = "the connection to the provider broke";
const CUT: Failure = Failure::new(ErrorClass::Format, "the answer was cut short");

fn broken(_: Injected) -> Failure {
    Failure::new(ErrorClass::Network, BROKE)
}

fn unreachable(error: reqwest::Error) -> Failure {
    // The client has no other bound of time than that of connecting.
    let failure = if error.is_timeout() {
        Failure::unsent(ErrorClass::Timeout, "connecting to the provider took too long")
    } else if error.is_connect() {
        Failure::unsent(ErrorClass::Network, "cannot connect to the provider")
    } else {
        Failure::new(ErrorClass::Network, BROKE)
    };
    Failure { cause: Some(chain(&error.without_url())), ..failure }
}

fn cut(error: reqwest::Error) -> Failure {
    Failure { cause: Some(chain(&error.without_url())), ..CUT }
}

fn bad_stream(error: SseError) -> Failure {
    match error {
        SseError::TooLong => {
            Failure::lasting(ErrorClass::Format, "a frame of the answer is too large")
        }
        SseError::NotText => Failure::new(ErrorClass::Format, "the answer is not text"),
    }
}

/// The error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
