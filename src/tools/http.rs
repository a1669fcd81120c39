//! The tool `http_request`: one request, decided hop by hop by `egress`.
//!
//! Invariants: the address that policy and people are shown is the address that is sent: it is read
//! here, strictly, and put together again from its parts. What comes back is text for a model,
//! bounded; what is no text is told by its size.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use jiff::fmt::rfc2822;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    invoke::CallContext,
    parse::{self, ParseError},
};
use crate::{
    domain::{
        Effect, Grant, HostName, ToolName, ToolOutcome, ToolStatus, host::split_port, limits,
        tool::RequestUse,
    },
    egress::{Channel, FetchError, FetchRequest, FetchResponse},
};

/// Bytes of a whole address: what servers commonly take.
const URL_BYTES_MAX: usize = 8 << 10;
/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// Bytes of a path that may pass as the address of a page once a run has read untrusted content:
/// long enough for documentation and files in repositories, short for anything else.
const QUIET_PATH_BYTES_MAX: usize = 128;
/// Bytes of an `Accept` that may pass then.
const QUIET_ACCEPT_BYTES_MAX: usize = 128;
/// Digits of a number in a `Range` that may pass then.
const QUIET_RANGE_DIGITS_MAX: usize = 15;
/// What a media type may begin with there.
const MEDIA: [&str; 8] = ["*", "application", "audio", "font", "image", "model", "text", "video"];
/// Headers of a response that tell a model something.
const SHOWN_HEADERS: [&str; 11] = [
    "content-type",
    "content-length",
    "content-disposition",
    "content-range",
    "etag",
    "last-modified",
    "link",
    "location",
    "retry-after",
    "www-authenticate",
    "x-egress-reason",
];
/// Bytes of a header's value that are shown.
const SHOWN_HEADER_BYTES_MAX: usize = 512;

/// Arguments of `http_request`, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: Method,
    pub address: Address,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// The methods that can be asked for: `CONNECT` and `TRACE` are for proxies, not for agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// As it stands in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// A web address in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub is_tls: bool,
    pub host: HostName,
    pub port: u16,
    /// With its leading slash.
    pub path: String,
    /// Without its question mark.
    pub query: Option<String>,
}

impl Address {
    /// Reads an address. Whatever programs could read differently is refused.
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("the address has more than {URL_BYTES_MAX} bytes"));
        }
        let is_plain = |c: char| c.is_ascii_graphic() && !r#"\^`{}|<>""#.contains(c);
        if let Some(c) = text.chars().find(|c| !is_plain(*c)) {
            return Err(format!("an address cannot hold {c:?}: percent-encode it"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("write the whole address, with https:// or http:// in front".to_owned());
        };
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("only https:// and http:// addresses can be asked".to_owned()),
        };
        // The fragment is for whoever shows the page; it is never sent.
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (host, port) = split_port(authority).map_err(|e| e.to_string())?;
        let host = HostName::parse(host).map_err(|e| e.to_string())?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        let port = port.unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { is_tls, host, port, path: path.to_owned(), query })
    }

    /// The address as it is sent.
    fn to_url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        let mut url = format!("{scheme}://{}:{}{}", self.host.authority(), self.port, self.path);
        if let Some(query) = &self.query {
            url.push('?');
            url.push_str(query);
        }
        url
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    method: Method,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

/// Understands the arguments.
pub(super) fn parse(args: &Value) -> Result<HttpRequest, ParseError> {
    let bad = |problem| parse::bad(ToolName::HttpRequest, problem);
    let Arguments { method, url, headers, body } = parse::read(ToolName::HttpRequest, args)?;
    if headers.len() > HEADERS_MAX {
        return Err(bad(format!("at most {HEADERS_MAX} `headers`")));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = headers.keys().find(|name| !names.insert(name.to_ascii_lowercase())) {
        let problem = "is there twice: case makes no difference in the name of a header";
        return Err(bad(format!("`headers`: {twice:?} {problem}")));
    }
    if body.len() > limits::TOOL_ARGS_BYTES_MAX {
        return Err(bad("`body` is too long".to_owned()));
    }
    let address = Address::parse(&url).map_err(|why| bad(format!("`url`: {why}")))?;
    Ok(HttpRequest { method, address, headers, body })
}

impl HttpRequest {
    /// What a second request would do.
    pub fn effect(&self) -> Effect {
        match self.method {
            Method::Get | Method::Head => Effect::Pure,
            Method::Post | Method::Put | Method::Patch | Method::Delete | Method::Options => {
                Effect::Unsafe
            }
        }
    }

    /// What policy needs to know.
    pub(super) fn facts(&self) -> RequestUse {
        let Address { host, port, path, query, is_tls } = &self.address;
        RequestUse {
            method: self.method.as_str().to_owned(),
            host: host.clone(),
            port: *port,
            is_tls: *is_tls,
            path: path.clone(),
            carries_data: query.is_some()
                || !self.body.is_empty()
                || path.len() > QUIET_PATH_BYTES_MAX
                || !self.headers.iter().all(|(name, value)| is_quiet(name, value)),
        }
    }
}

/// Whether a header only says which form of a page is wanted. The grammars are narrower than the
/// standard's: they have no room for words, nor for the placeholder of a secret.
fn is_quiet(name: &str, value: &str) -> bool {
    match name.to_ascii_lowercase().as_str() {
        "accept" => value.len() <= QUIET_ACCEPT_BYTES_MAX && value.split(',').all(is_media_type),
        "range" => is_byte_range(value),
        "if-modified-since" => is_http_date(value),
        _ => false,
    }
}

/// `text/html` or `*/*;q=0.8`, after a space or none.
fn is_media_type(text: &str) -> bool {
    let text = text.strip_prefix(' ').unwrap_or(text);
    let (kind, quality) = text.split_once(";q=").unwrap_or((text, "1"));
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"*+-.".contains(&b);
    let is_kind = kind.split_once('/').is_some_and(|(media, form)| {
        MEDIA.contains(&media) && !form.is_empty() && form.bytes().all(is_part)
    });
    let is_quality =
        matches!(quality.len(), 1..=5) && quality.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_kind && is_quality
}

/// `bytes=0-99`; either number may be left out.
fn is_byte_range(text: &str) -> bool {
    let is_number = |text: &str| {
        text.len() <= QUIET_RANGE_DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit())
    };
    let range = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    range.is_some_and(|(from, to)| is_number(from) && is_number(to))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, in this one spelling.
fn is_http_date(text: &str) -> bool {
    let read = rfc2822::DateTimeParser::new().parse_timestamp(text);
    let spelt = |at| rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at);
    read.and_then(spelt).is_ok_and(|spelling| spelling == text)
}

/// Sends it as part of the call under way on this channel. The outcome, and whether something came
/// back from outside.
pub(super) async fn send(
    channel: &Channel,
    request: &HttpRequest,
    grant: &Grant,
    cx: &CallContext,
) -> (ToolOutcome, bool) {
    let started = Instant::now();
    let fetch = FetchRequest {
        method: request.method.as_str().to_owned(),
        url: request.address.to_url(),
        headers: request.headers.iter().map(|(n, v)| (n.clone(), v.clone())).collect(),
        body: request.body.clone().into_bytes(),
        timeout: grant.limits.wall(),
        response_bytes_max: grant.limits.output_bytes,
        same_host_only: grant.same_host_only,
    };
    let (outcome, came_back) = match Box::pin(channel.fetch(fetch, cx.stop.clone())).await {
        Ok(response) => (told(&request.address, &response), true),
        Err(error) => (failed(&error), false),
    };
    let duration_ms = millis(started.elapsed());
    (ToolOutcome { duration_ms, ..outcome }, came_back)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Status, where it came from in the end, the headers that matter, the body.
fn told(asked: &Address, response: &FetchResponse) -> ToolOutcome {
    let mut text = format!("HTTP {}\n", response.status);
    if response.hops > 0 {
        // Writing to a string cannot fail.
        writeln!(text, "[{} redirects from {}]", response.hops, asked.host.as_str()).ok();
        writeln!(text, "[final address: {}]", printable(&response.final_url)).ok();
    }
    if response.unfollowed {
        text.push_str(
            "[this redirect leads to another host or port and was not followed; to go there, make \
             a new call with its location]\n",
        );
    }
    let mut content_type = "";
    for (name, value) in &response.headers {
        let name = name.to_ascii_lowercase();
        if name == "content-type" {
            content_type = value;
        }
        if SHOWN_HEADERS.contains(&name.as_str()) {
            writeln!(text, "{name}: {}", printable(value)).ok();
        }
    }
    text.push('\n');
    match std::str::from_utf8(&response.body) {
        Ok(body) if !body.contains('\0') => text.push_str(body),
        // A body that was cut may end inside a character.
        Err(error) if response.truncated && error.error_len().is_none() => {
            text.push_str(&String::from_utf8_lossy(
                response.body.get(..error.valid_up_to()).unwrap_or_default(),
            ));
        }
        Ok(_) | Err(_) => {
            let kind = if content_type.is_empty() { "unknown type" } else { content_type };
            let least = if response.truncated { "at least " } else { "" };
            writeln!(
                text,
                "[binary: {least}{} bytes of {}; it is not shown]",
                response.body.len(),
                printable(kind)
            )
            .ok();
        }
    }
    if response.truncated {
        text.push_str("\n[the body was cut here]");
    }
    let status = if response.status < 400 { ToolStatus::Ok } else { ToolStatus::Error };
    ToolOutcome { truncated: response.truncated, ..ToolOutcome::message(status, text) }
}

fn failed(error: &FetchError) -> ToolOutcome {
    let mut text = error.to_string();
    let source = std::error::Error::source(error).map(ToString::to_string);
    if let Some(source) = source {
        text = format!("{text}: {source}");
    }
    let status = match error {
        FetchError::Refused { reason, .. } => {
            return ToolOutcome::message(ToolStatus::Error, format!("{text} [{reason}]"));
        }
        FetchError::Timeout { .. } => ToolStatus::Timeout,
        FetchError::Stopped => ToolStatus::Killed,
        FetchError::Invalid { .. }
        | FetchError::Redirect { .. }
        | FetchError::Tls { .. }
        | FetchError::Broken { .. } => ToolStatus::Error,
    };
    ToolOutcome::message(status, text)
}

/// Without control characters, bounded.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_HEADER_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(args: &Value) -> HttpRequest {
        parse(args).unwrap()
    }

    #[test]
    fn an_address_is_read_strictly_and_sent_as_it_was_read() {
        for (text, url) in [
            ("https://Example.org", "https://example.org:443/"),
            ("HTTP://example.org.:8080/a?b=c#d", "http://example.org:8080/a?b=c"),
            ("http://10.0.0.1?x", "http://10.0.0.1:80/?x"),
            ("https://[2606:4700::1]:8443/a%20b", "https://[2606:4700::1]:8443/a%20b"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_url(), url, "{text}");
        }
        for text in [
            "example.org",
            "ftp://example.org/",
            "https:///path",
            "https://user@example.org/",
            "https://example.org\\@evil.example/",
            "https://example.org /",
            "https://exämple.org/",
            "https://example.org:99999/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://example.org/a b",
            "https://example.org/\u{0}",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reading_is_pure_and_everything_else_is_not() {
        for (method, effect) in
            [("GET", Effect::Pure), ("HEAD", Effect::Pure), ("POST", Effect::Unsafe)]
        {
            let call = request(&json!({"method": method, "url": "https://example.org/"}));
            assert_eq!(call.effect(), effect);
            assert_eq!(call.facts().method, method);
        }
        assert!(parse(&json!({"method": "CONNECT", "url": "https://example.org/"})).is_err());
        assert!(parse(&json!({"method": "get", "url": "https://example.org/"})).is_err());
    }

    #[test]
    fn whatever_could_carry_words_is_seen() {
        let carries = |args: Value| request(&args).facts().carries_data;
        let get = |url: &str| carries(json!({"method": "GET", "url": url}));
        assert!(!get("https://example.org/docs/page.html#part"));
        assert!(get("https://example.org/?q=words"));
        assert!(get("https://example.org/?"));
        assert!(get(&format!("https://example.org/{}", "x".repeat(200))));
        let with = |name: &str, value: &str| {
            let mut args = json!({"method": "GET", "url": "https://example.org/"});
            args["headers"] = json!({name: value});
            carries(args)
        };
        assert!(!with("Accept", "text/html"));
        assert!(with("Accept", &"x".repeat(100)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (name, value) in [
            ("accept", "text/html, application/vnd.github+json;q=0.9,*/*;q=0.8"),
            ("RANGE", "bytes=0-99"),
            ("Range", "bytes=-500"),
            ("If-Modified-Since", date),
        ] {
            assert!(!with(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("Accept", "words and words"),
            ("Accept", "words/words"),
            ("Accept", "text/html;q=words"),
            ("Accept", "text/html;words=0.1"),
            ("Accept", "text/TmF"),
            ("Accept", "text/html,  text/plain"),
            ("Accept", "{{secret:KEY}}"),
            ("Accept", "text/{{secret:KEY}}"),
            ("Accept", &format!("text/{}", "x".repeat(128))),
            ("Range", "bytes=words"),
            ("Range", "bytes=0-99,200-299"),
            ("Range", &format!("bytes={}-", "1".repeat(16))),
            ("If-Modified-Since", "words"),
            ("If-Modified-Since", &format!("{date} (words)")),
            ("If-Modified-Since", &date.replace("GMT", "+0001")),
            ("If-None-Match", "\"words\""),
            ("Accept-Language", "words"),
            ("Authorization", "{{secret:KEY}}"),
        ] {
            assert!(with(name, value), "{name}: {value}");
        }
        assert!(with("X-Note", "words"));
        assert!(with("Cookie", "words"));
        assert!(carries(json!({"method": "GET", "url": "https://example.org/", "body": "words"})));
    }

    #[test]
    fn a_header_is_given_once_in_whatever_case() {
        let with = |headers: Value| {
            parse(&json!({"method": "GET", "url": "https://example.org/", "headers": headers}))
        };
        assert!(with(json!({"Accept": "text/html", "Range": "bytes=0-"})).is_ok());
        let twice = with(json!({"accept": "text/a", "X": "b", "aCcept": "text/c"})).unwrap_err();
        assert!(twice.to_string().contains("\"accept\" is there twice"), "{twice}");
    }

    #[test]
    fn a_response_is_told_as_text_and_binary_by_its_size() {
        let asked = Address::parse("https://example.org/").unwrap();
        let response = |body: &[u8], truncated| FetchResponse {
            status: 200,
            final_url: "https://example.org/".to_owned(),
            headers: vec![
                ("Content-Type".to_owned(), "text/plain".to_owned()),
                ("Set-Cookie".to_owned(), "id=1".to_owned()),
            ],
            body: body.to_vec(),
            truncated,
            hops: 0,
            unfollowed: false,
        };
        let outcome = told(&asked, &response("grüße".as_bytes(), false));
        assert_eq!(outcome.output, "HTTP 200\ncontent-type: text/plain\n\ngrüße");
        assert!(!outcome.truncated);
        let outcome = told(&asked, &response(b"gr\xc3", true));
        assert!(outcome.output.contains("gr\n[the body was cut here]"), "{}", outcome.output);
        assert!(outcome.truncated);
        for binary in [&b"\x89PNG\xff"[..], b"a\0b"] {
            let outcome = told(&asked, &response(binary, false));
            assert!(outcome.output.contains("bytes of text/plain; it is not shown"));
        }
        let elsewhere =
            FetchResponse { status: 307, unfollowed: true, ..response(b"moved", false) };
        let outcome = told(&asked, &elsewhere);
        assert!(outcome.output.contains("was not followed; to go there"), "{}", outcome.output);
        let outcome = told(&asked, &FetchResponse { status: 404, ..response(b"no", false) });
        assert_eq!(outcome.status, ToolStatus::Error);
    }
}
