//! A server's answer on its way to the client: the head without what is meant for us, then the
//! bytes as they come. Every answer closes the connection, so where its body ends can mislead
//! nobody but the client that asked.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Fields of an answer's head.
const FIELDS_MAX: usize = 128;
/// Interim answers (1xx) before the real one.
const INTERIM_MAX: usize = 8;
const BUFFER_BYTES: usize = 64 << 10;
/// Between us and the server alone (RFC 9110 section 7.6.1), or said anew.
const DROPPED: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "upgrade",
    "x-egress-reason",
];

/// Why an answer did not go through whole.
#[derive(Debug)]
pub(super) enum ResponseError {
    /// What came is no HTTP/1 answer, or nothing came; the client has got nothing.
    NotHttp,
    /// The server broke off within the body, or a bound cut it.
    Cut(#[expect(dead_code, reason = "for logs")] io::Error),
    /// The client takes no more.
    Client(#[expect(dead_code, reason = "for logs")] io::Error),
}

/// What of a head is passed on, and how the body goes on.
struct Head {
    status: u16,
    text: Vec<u8>,
    length: Option<u64>,
}

/// Passes an answer on. `has_begun` tells whether the client has got a part of it.
pub(super) async fn pass_on<R, W>(
    method: &str,
    from: &mut R,
    to: &mut W,
    has_begun: &AtomicBool,
) -> Result<(), ResponseError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut bytes = Vec::with_capacity(4 << 10);
    let mut interim = 0;
    let head = loop {
        let (head, length) = read_head(from, &mut bytes).await?;
        bytes.drain(..length.min(bytes.len()));
        match head.status {
            // 101 cannot come: no upgrade was asked for.
            101 => return Err(ResponseError::NotHttp),
            100..=199 if interim < INTERIM_MAX => interim += 1,
            200..=599 => break head,
            _ => return Err(ResponseError::NotHttp),
        }
    };
    has_begun.store(true, Ordering::Release);
    to.write_all(&head.text).await.map_err(ResponseError::Client)?;
    let length = match head.status {
        _ if method == "HEAD" => Some(0),
        204 | 304 => Some(0),
        _ => head.length,
    };
    pass_body(bytes, length, from, to).await
}

async fn pass_body<R, W>(
    first: Vec<u8>,
    length: Option<u64>,
    from: &mut R,
    to: &mut W,
) -> Result<(), ResponseError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut left = length.unwrap_or(u64::MAX);
    let mut buffer = first;
    loop {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get(..wanted).unwrap_or_default();
        to.write_all(piece).await.map_err(ResponseError::Client)?;
        left = left.saturating_sub(u64::try_from(wanted).unwrap_or(left));
        if left == 0 {
            break;
        }
        buffer.clear();
        buffer.reserve(BUFFER_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(ResponseError::Cut(error)),
        }
    }
    to.shutdown().await.map_err(ResponseError::Client)
}

/// The next head, and its length in `bytes`.
async fn read_head<R: AsyncRead + Unpin>(
    from: &mut R,
    bytes: &mut Vec<u8>,
) -> Result<(Head, usize), ResponseError> {
    loop {
        if let Some(found) = parse(bytes)? {
            return Ok(found);
        }
        let is_full = bytes.len() >= HEAD_BYTES_MAX;
        match from.read_buf(bytes).await {
            Ok(1..) if !is_full => {}
            _ => return Err(ResponseError::NotHttp),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, ResponseError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ResponseError::NotHttp),
    };
    let status = response.code.ok_or(ResponseError::NotHttp)?;
    let reason = response.reason.unwrap_or_default();
    let mut text = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
    let mut content_length = None;
    let mut is_coded = false;
    for field in response.headers.iter() {
        if DROPPED.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            continue;
        }
        if field.name.eq_ignore_ascii_case("content-length") {
            content_length = std::str::from_utf8(field.value).ok().and_then(|v| v.parse().ok());
        }
        is_coded |= field.name.eq_ignore_ascii_case("transfer-encoding");
        for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"connection: close\r\n\r\n");
    let body_length = content_length.filter(|_| !is_coded);
    Ok(Some((Head { status, text, length: body_length }, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(method: &str, answer: &[u8]) -> Result<String, ResponseError> {
        let (mut to, has_begun) = (Vec::new(), AtomicBool::new(false));
        pass_on(method, &mut &answer[..], &mut to, &has_begun).await?;
        assert!(has_begun.load(Ordering::Acquire));
        Ok(String::from_utf8(to).unwrap())
    }

    #[tokio::test]
    async fn an_answer_goes_through_without_what_is_between_neighbours() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\
            Upgrade: h2c\r\nX-Egress-Reason: not_listed\r\nX: y\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(
            passed("GET", answer).await.unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\nconnection: close\r\n\r\nhi"
        );
    }

    #[tokio::test]
    async fn interim_answers_are_left_out_and_bodiless_ones_end() {
        let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\n\
            Content-Length: 9\r\n\r\nrest";
        assert!(passed("GET", answer).await.unwrap().ends_with("close\r\n\r\n"));
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert!(passed("HEAD", answer).await.unwrap().ends_with("close\r\n\r\n"));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
        for answer in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\nX",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 999 No\r\n\r\n",
            long.as_str(),
        ] {
            let ended = passed("GET", answer.as_bytes()).await;
            assert!(matches!(ended, Err(ResponseError::NotHttp)), "{ended:?}");
        }
    }
}
