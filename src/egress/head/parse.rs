//! Reading.

use super::{Framing, HEAD_BYTES_MAX, HEADERS_MAX, HeadError, Request, TargetForm};
use crate::domain::{HostName, host::split_port};

/// Characters of a method.
const METHOD_BYTES_MAX: usize = 32;
/// Fields that are between the client and us (RFC 9110 section 7.6.1) or rewritten by us.
const DROPPED: [&str; 15] = [
    // Reserved (RFC 9110 section 18.4): our own `connection: close` would take it away later.
    "close",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    // A count of proxies, which the tool sees none of.
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

pub(super) fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, HeadError> {
    let window = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
    let Some(length) = end_of_head(window)? else {
        let is_over = bytes.len() >= HEAD_BYTES_MAX;
        return if is_over { Err(HeadError::TooLarge) } else { Ok(None) };
    };
    let head = window.get(..length).unwrap_or_default();
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(taken)) if taken == length => {}
        Ok(_) => return Err(HeadError::Malformed("lines are missing")),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(error) => return Err(HeadError::Malformed(words(error))),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Malformed("the request line is incomplete"));
    };
    let fields = Fields::new(parsed.headers)?;
    request(method, target, minor, &fields).map(|request| Some((request, length)))
}

/// The head's length once its empty line is there; refuses as early as possible what no head
/// holds: NUL, other control characters, a CR or LF alone, a continued line, an empty first line.
fn end_of_head(bytes: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut line_start = 0;
    let mut before = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if before != b'\r' => {
                return Err(HeadError::Malformed("a line ends in LF alone"));
            }
            b'\n' if at == line_start + 1 => {
                let is_first = line_start == 0;
                let end = (!is_first).then_some(at + 1);
                return end.map(Some).ok_or(HeadError::Malformed("an empty line stands first"));
            }
            b'\n' => line_start = at + 1,
            _ if before == b'\r' => return Err(HeadError::Malformed("a CR stands alone")),
            b' ' | b'\t' if at == line_start => {
                return Err(HeadError::Malformed("a line begins with white space"));
            }
            b'\r' | b'\t' | 0x20..=0x7e => {}
            _ => return Err(HeadError::Malformed("a byte is not printable ASCII")),
        }
        before = *byte;
    }
    Ok(None)
}

fn words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a field's name is wrong",
        httparse::Error::HeaderValue => "a field's value is wrong",
        httparse::Error::NewLine => "a line's end is wrong",
        httparse::Error::Status | httparse::Error::Token => "the method is wrong",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "the version is wrong",
    }
}

/// The fields in order, names in lower case.
struct Fields<'h>(Vec<(String, &'h str)>);

impl<'h> Fields<'h> {
    fn new(parsed: &[httparse::Header<'h>]) -> Result<Self, HeadError> {
        let field = |header: &httparse::Header<'h>| {
            let value = std::str::from_utf8(header.value);
            let value = value.map_err(|_not_text| HeadError::Malformed("a value is not text"))?;
            Ok((header.name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])))
        };
        parsed.iter().map(field).collect::<Result<_, _>>().map(Self)
    }

    fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'h str> + 's {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| *value)
    }

    /// The value of a field that may stand there once.
    fn one(&self, name: &str) -> Result<Option<&'h str>, ()> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(()) } else { Ok(first) }
    }
}

fn request(
    method: &str,
    target: &str,
    minor: u8,
    fields: &Fields<'_>,
) -> Result<Request, HeadError> {
    let is_method = method.len() <= METHOD_BYTES_MAX
        && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    if !is_method {
        return Err(HeadError::Malformed("a method is written in capital letters"));
    }
    // The answer would repeat the request, with the secrets that were put in.
    if matches!(method, "TRACE" | "TRACK") {
        return Err(HeadError::Malformed("a request is not echoed"));
    }
    if target.contains('#') {
        return Err(HeadError::Malformed("a target has no fragment"));
    }
    let host_field = fields.one("host").map_err(|()| HeadError::HostCount)?;
    if host_field.is_none() && minor >= 1 {
        return Err(HeadError::HostCount);
    }
    let is_connect = method == "CONNECT";
    let (form, authority, target) = if is_connect {
        (TargetForm::Authority, Some(target), "")
    } else if target.starts_with('/') {
        (TargetForm::Origin, None, target)
    } else {
        let rest = match target.split_at_checked(7) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => rest,
            _ if target.contains("://") => return Err(HeadError::Scheme),
            _ => return Err(HeadError::Malformed("the target is no path and no URL")),
        };
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(cut).unwrap_or((rest, ""));
        (TargetForm::Absolute, Some(authority), rest)
    };
    let named = host_field.map(authority_parts).transpose()?;
    let (host, port) = match (authority, named) {
        (None, None) => return Err(HeadError::HostCount),
        (None, Some((host, port))) => (host, port.unwrap_or(80)),
        (Some(authority), named) => {
            let (host, port) = authority_parts(authority)?;
            let port = match port {
                Some(port) => port,
                None if is_connect => return Err(HeadError::Malformed("CONNECT names a port")),
                None => 80,
            };
            if let Some((other, other_port)) = named {
                // Clients leave the port out of `Host` when they ask for a tunnel.
                let other_port = other_port.unwrap_or(if is_connect { port } else { 80 });
                if other != host || other_port != port {
                    return Err(HeadError::HostMismatch);
                }
            }
            (host, port)
        }
    };
    let framing = framing(fields, minor)?;
    if is_connect && !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(HeadError::Framing("CONNECT has no body"));
    }
    let target = match target {
        "" if is_connect => String::new(),
        _ if target.starts_with('/') => target.to_owned(),
        _ => format!("/{target}"),
    };
    Ok(Request {
        method: method.to_owned(),
        form,
        host,
        port,
        target,
        headers: end_to_end(fields)?,
        framing,
        expects_continue: expects_continue(fields, minor)?,
    })
}

fn authority_parts(text: &str) -> Result<(HostName, Option<u16>), HeadError> {
    let (host, port) = split_port(text).map_err(HeadError::BadPort)?;
    // A bare IPv6 address with a port could be read in two ways.
    if host.contains(':') && !host.starts_with('[') {
        return Err(HeadError::Malformed("an IPv6 address stands in brackets"));
    }
    Ok((HostName::parse(host).map_err(HeadError::BadHost)?, port))
}

fn framing(fields: &Fields<'_>, minor: u8) -> Result<Framing, HeadError> {
    let length = fields.one("content-length");
    let length = length.map_err(|()| HeadError::Framing("Content-Length stands there twice"))?;
    let coding = fields.one("transfer-encoding");
    let coding = coding.map_err(|()| HeadError::Framing("Transfer-Encoding stands there twice"))?;
    match (length, coding) {
        (Some(_), Some(_)) => {
            Err(HeadError::Framing("both Content-Length and Transfer-Encoding are there"))
        }
        (None, Some(_)) if minor == 0 => {
            Err(HeadError::Framing("HTTP/1.0 has no Transfer-Encoding"))
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (None, Some(_)) => Err(HeadError::Framing("only `chunked` is known")),
        (None, None) => Ok(Framing::None),
        (Some(digits), None) => {
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            match digits.parse() {
                Ok(length) if is_number => Ok(Framing::Length(length)),
                _ => Err(HeadError::Framing("Content-Length is no number")),
            }
        }
    }
}

fn expects_continue(fields: &Fields<'_>, minor: u8) -> Result<bool, HeadError> {
    match fields.one("expect") {
        Ok(None) => Ok(false),
        // RFC 9110 section 10.1.1: not to be honoured in HTTP/1.0.
        Ok(Some(value)) if value.eq_ignore_ascii_case("100-continue") => Ok(minor >= 1),
        _ => Err(HeadError::Field("Expect")),
    }
}

fn end_to_end(fields: &Fields<'_>) -> Result<Vec<(String, String)>, HeadError> {
    let mut nominated = Vec::new();
    for value in fields.all("connection").chain(fields.all("proxy-connection")) {
        for option in value.split(',') {
            let option = option.trim_matches([' ', '\t']).to_ascii_lowercase();
            // A client must not take away what decides where the request goes or how long it is.
            if matches!(option.as_str(), "host" | "content-length" | "transfer-encoding") {
                return Err(HeadError::Field("Connection"));
            }
            nominated.push(option);
        }
    }
    let is_kept = |name: &String| !DROPPED.contains(&name.as_str()) && !nominated.contains(name);
    let kept = fields.0.iter().filter(|(name, _)| is_kept(name));
    Ok(kept.map(|(name, value)| (name.clone(), (*value).to_owned())).collect())
}
