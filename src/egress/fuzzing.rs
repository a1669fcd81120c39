//! What holds for every input of the pure parsers; shared by the tests and `fuzz/`.
//!
//! Each function asserts laws and not only that nothing panics. The laws of segmentation matter
//! most: what is decided from the first bytes of a stream is what is decided from all of them.
#![expect(
    clippy::missing_panics_doc,
    reason = "a law that does not hold is what a fuzzer looks for"
)]

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Message, MessageType},
    rr::RData,
};

use super::{
    dns::{self, Asked},
    head::{self, Framing, HeadError},
    hello::{self, Opening},
    template,
};
use crate::domain::HostName;

/// Prefixes that are tried of each input.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 40).max(1);
    (0..length).step_by(step).chain(length.saturating_sub(4)..length)
}

/// Fuzz entry: the first bytes of a TLS connection.
pub fn client_hello(data: &[u8]) {
    let whole = hello::read(data);
    for cut in cuts(data.len()) {
        let part = hello::read(data.get(..cut).unwrap_or_default());
        assert!(part == Opening::NeedMore || part == whole, "{cut}: {part:?}, then {whole:?}");
    }
    if data.len() >= hello::HELLO_BYTES_MAX {
        assert_ne!(whole, Opening::NeedMore, "it waits for more than it looks at");
    }
    let Opening::Hello(hello) = whole else { return };
    if let Some(name) = &hello.server_name {
        assert!(name.ip().is_none());
        // The name stands in the stream, in some case.
        let is_there = |window: &[u8]| window.eq_ignore_ascii_case(name.as_str().as_bytes());
        let contiguous = data.windows(name.as_str().len()).any(is_there);
        let records = data.len() / name.as_str().len().max(1);
        assert!(contiguous || records > 1, "{name} is not in the stream");
    }
    if let Ok(other) = name_read_by_rustls(data) {
        let own = hello.server_name.map(|name| name.to_string());
        assert_eq!(own, other.map(|name| name.to_ascii_lowercase()), "two servers, two names");
    }
}

/// Another server does not take these bytes, or wants more.
struct NotTaken;

/// What another server reads from the same bytes.
fn name_read_by_rustls(data: &[u8]) -> Result<Option<String>, NotTaken> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = data;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).map_err(|_error| NotTaken)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Ok(accepted.client_hello().server_name().map(str::to_owned));
            }
            Ok(None) => {}
            Err(_) => return Err(NotTaken),
        }
    }
    Err(NotTaken)
}

/// Fuzz entry: a datagram to the name server.
pub fn dns(data: &[u8]) {
    let id = data.get(..2);
    let is_query = data.len() >= 12 && data.get(2).is_some_and(|flags| flags & 0x80 == 0);
    let check = |bytes: &[u8], answers: usize, queries: usize| {
        assert!(bytes.len() <= dns::QUERY_BYTES_MAX, "{} bytes", bytes.len());
        assert_eq!(bytes.get(..2), id, "the id comes back");
        let message = Message::from_vec(bytes);
        assert!(message.is_ok(), "an answer can be read: {message:?}");
        let Ok(message) = message else { return };
        assert_eq!(message.metadata.message_type, MessageType::Response);
        assert!(!message.metadata.truncation && !message.metadata.authentic_data);
        assert_eq!((message.answers.len(), message.queries.len()), (answers, queries));
        assert!(message.authorities.is_empty() && message.additionals.is_empty());
        assert!(message.answers.iter().all(|a| matches!(a.data, RData::A(_))));
        if let Some(edns) = &message.edns {
            assert!(edns.options().as_ref().is_empty(), "options are not sent back");
        }
        // An answer is never answered.
        assert_eq!(dns::read(bytes), Asked::Silence);
    };
    match dns::read(data) {
        Asked::Silence => assert!(!is_query || data.len() < 12),
        Asked::Answer(bytes) => {
            assert!(is_query);
            check(&bytes, 0, 0);
        }
        Asked::Question(question) => {
            assert!(is_query && question.shown.len() <= 255 && question.shown.is_ascii());
            if let Ok(host) = &question.host {
                let shown = question.shown.to_ascii_lowercase();
                assert_eq!(host.as_str(), shown, "nothing was lost on the way");
                assert_eq!(HostName::parse(&question.shown).as_ref(), Ok(host));
            }
            let given = [Ipv4Addr::LOCALHOST; 20];
            let count = if question.wants_ipv4 { dns::ADDRESSES_MAX } else { 0 };
            check(&question.answer(&given, 60), count, 1);
            check(&question.refused(), 0, 1);
            check(&question.failed(), 0, 1);
            check(&question.absent(), 0, 1);
        }
    }
}

/// Fuzz entry: the first bytes of an HTTP connection.
pub fn http_head(data: &[u8]) {
    let whole = head::read(data);
    for cut in cuts(data.len()) {
        let part = head::read(data.get(..cut).unwrap_or_default());
        assert!(part == Ok(None) || part == whole, "{cut}: {part:?}, then {whole:?}");
    }
    if data.len() >= head::HEAD_BYTES_MAX {
        assert_ne!(whole, Ok(None), "it waits for more than it looks at");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        placeholders(text);
    }
    let Ok(Some((request, length))) = whole else { return };
    assert!(length <= data.len() && length <= head::HEAD_BYTES_MAX);
    assert_eq!(head::read(data.get(..length - 1).unwrap_or_default()), Ok(None));
    if request.is_connect() {
        return;
    }
    assert!(request.target.starts_with('/') && request.path().starts_with('/'));
    for form in [request.to_server(), request.to_proxy(None)] {
        // What is written is what was understood, and nobody reads more out of it.
        assert_ne!(form, Err(HeadError::Unsendable));
        let Ok(bytes) = form else { return };
        match head::read(&bytes) {
            Ok(Some((again, length))) => {
                assert_eq!(length, bytes.len(), "nothing stands behind the head");
                let again = head::Request {
                    form: request.form,
                    expects_continue: request.expects_continue,
                    ..again
                };
                assert_eq!(again, request);
            }
            // Rewriting adds a few bytes: the head may have become too large for us.
            Err(HeadError::TooLarge) => {}
            other => assert_eq!(other, Ok(None), "own head is refused"),
        }
        let text = String::from_utf8_lossy(&bytes);
        let count = |name: &str| text.matches(&format!("\r\n{name}: ")).count();
        assert_eq!((count("host"), count("connection")), (1, 1));
        let lengths = usize::from(matches!(request.framing, Framing::Length(_)));
        let codings = usize::from(request.framing == Framing::Chunked);
        assert_eq!((count("content-length"), count("transfer-encoding")), (lengths, codings));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert_eq!(text.matches("\r\n\r\n").count(), 1);
    }
}

/// Placeholders are found whole or the text is refused; without one it goes through as it is.
fn placeholders(text: &str) {
    match template::placeholders(text) {
        Ok(found) => {
            let same = template::filled(text, &found, |_| Some("x")).unwrap_or_default();
            assert!(template::refuse_in(same.as_bytes()).is_ok() || !found.is_empty());
            assert_eq!(found.is_empty(), template::refuse_in(text.as_bytes()).is_ok());
            let names = found.iter().map(|p| p.name.len() + "{{secret:}}".len()).sum::<usize>();
            assert_eq!(same.len() + names, text.len() + found.len());
        }
        Err(_) => assert!(template::refuse_in(text.as_bytes()).is_err()),
    }
}
