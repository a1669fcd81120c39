//! The first message of a TLS connection: which server does the client name?
//!
//! Invariants: what is returned is the only name that any server could read from the same bytes;
//! where two servers could read two, the hello is refused. Own parser and not the TLS library's,
//! since that one skips what it does not know, and one extension that it does not know can hold a
//! second name (encrypted client hello). Sources: RFC 8446 sections 4.1.2 and 5.1, RFC 6066
//! section 3, RFC 7301. Pure.

use std::net::IpAddr;

use crate::domain::HostName;

/// Bytes of the stream that are looked at, record headers included. A hello with a post-quantum
/// key share has about 1.8 KiB; TLS allows 64 KiB and nobody sends them.
pub(crate) const HELLO_BYTES_MAX: usize = 16 << 10;
/// Bytes of one record's content (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXT_SERVER_NAME: u16 = 0;
const EXT_ALPN: u16 = 16;
/// Encrypted client hello (RFC 9849) and its forerunner, encrypted server name (draft).
const EXT_ENCRYPTED_HELLO: u16 = 0xfe0d;
const EXT_ENCRYPTED_NAME: u16 = 0xffce;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// So far the beginning of a hello; more bytes are needed.
    NeedMore,
    /// Something else than TLS.
    NotTls,
    /// TLS, but not a hello that can be trusted.
    Refused(HelloError),
    /// A whole hello.
    Hello(Hello),
}

/// What the client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The server that it names, if any.
    pub(crate) server_name: Option<HostName>,
    /// The protocols that it offers inside, first choice first.
    pub(crate) alpn: Vec<Vec<u8>>,
    /// Whether it carries an encrypted second hello, which may name another server; or pretends
    /// to, as browsers do (GREASE): the two look the same.
    pub(crate) has_ech: bool,
}

/// Why a hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    /// More than 16 KiB.
    #[error("the client hello is longer than {HELLO_BYTES_MAX} bytes")]
    TooLong,
    /// Another record or message where the hello should be.
    #[error("the connection does not begin with a client hello")]
    NotHello,
    /// Lengths that do not fit into each other, or bytes left over.
    #[error("the client hello is malformed")]
    Malformed,
    /// An extension stands there twice.
    #[error("the client hello holds an extension twice")]
    Twice,
    /// The name is an IP address, which RFC 6066 forbids.
    #[error("the client hello names an IP address as its server")]
    IpName,
    /// The name is not a host, or not in its one spelling.
    #[error("the client hello names something that is no host name")]
    BadName,
}

/// Reads the first bytes that a client sent.
///
/// Bytes after the hello's own record are not looked at: a client may send early data.
pub(crate) fn read(stream: &[u8]) -> Opening {
    match message(stream) {
        Ok(Some(message)) => hello(&message).map_or_else(Opening::Refused, Opening::Hello),
        Ok(None) if stream.len() >= HELLO_BYTES_MAX => Opening::Refused(HelloError::TooLong),
        Ok(None) => Opening::NeedMore,
        Err(opening) => opening,
    }
}

/// Puts the hello together from its records; `None` while bytes are missing.
fn message(stream: &[u8]) -> Result<Option<Vec<u8>>, Opening> {
    let refused = |error| Err(Opening::Refused(error));
    let mut rest = stream.get(..HELLO_BYTES_MAX).unwrap_or(stream);
    let mut message = Vec::new();
    let mut is_first = true;
    loop {
        // Each byte is judged as soon as it is there, so that no stranger is waited for.
        match rest.first() {
            None => return Ok(None),
            Some(&RECORD_HANDSHAKE) => {}
            Some(_) if is_first => return Err(Opening::NotTls),
            Some(_) => return refused(HelloError::NotHello),
        }
        match rest.get(1) {
            None => return Ok(None),
            Some(3) => {}
            Some(_) if is_first => return Err(Opening::NotTls),
            Some(_) => return refused(HelloError::Malformed),
        }
        let [_, _, _, high, low, content @ ..] = rest else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > RECORD_BYTES_MAX {
            return refused(HelloError::Malformed);
        }
        message.extend_from_slice(content.get(..length).unwrap_or(content));
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return refused(HelloError::NotHello);
        }
        if let [_, a, b, c, body @ ..] = message.as_slice() {
            let wanted = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if wanted > HELLO_BYTES_MAX {
                return refused(HelloError::TooLong);
            }
            // A second message in the same record could be a second hello.
            if body.len() > wanted {
                return refused(HelloError::Malformed);
            }
            if body.len() == wanted {
                // The record's end is the hello's end, also if its last bytes are not here yet.
                let is_whole = content.len() >= length;
                return if is_whole {
                    Ok(Some(body.to_vec()))
                } else {
                    refused(HelloError::Malformed)
                };
            }
        }
        let Some(next) = content.get(length..) else { return Ok(None) };
        rest = next;
        is_first = false;
    }
}

/// What is left to read of a structure.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, HelloError> {
        self.take(1)?.first().copied().ok_or(HelloError::Malformed)
    }

    fn short(&mut self) -> Result<u16, HelloError> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// A piece with its length in one byte before it.
    fn piece8(&mut self) -> Result<&'b [u8], HelloError> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// A piece with its length in two bytes before it.
    fn piece16(&mut self) -> Result<&'b [u8], HelloError> {
        let length = self.short()?;
        self.take(length.into())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.is_empty() { Ok(()) } else { Err(HelloError::Malformed) }
    }
}

fn hello(body: &[u8]) -> Result<Hello, HelloError> {
    let mut body = Reader(body);
    let version = body.short()?;
    if version >> 8 != 3 {
        return Err(HelloError::Malformed);
    }
    let _random = body.take(32)?;
    if body.piece8()?.len() > 32 {
        return Err(HelloError::Malformed);
    }
    let suites = body.piece16()?;
    if suites.is_empty() || suites.len() % 2 != 0 || body.piece8()?.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut hello = Hello { server_name: None, alpn: Vec::new(), has_ech: false };
    if body.is_empty() {
        // TLS 1.2 and older may have no extensions at all.
        return Ok(hello);
    }
    let mut extensions = Reader(body.piece16()?);
    body.end()?;
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let kind = extensions.short()?;
        let content = extensions.piece16()?;
        if seen.contains(&kind) {
            return Err(HelloError::Twice);
        }
        // A hello has about 20; the list is searched for each of them.
        if seen.len() == 128 {
            return Err(HelloError::Malformed);
        }
        seen.push(kind);
        match kind {
            EXT_SERVER_NAME => hello.server_name = Some(server_name(content)?),
            EXT_ALPN => hello.alpn = alpn(content)?,
            EXT_ENCRYPTED_HELLO | EXT_ENCRYPTED_NAME => hello.has_ech = true,
            _ => {}
        }
    }
    Ok(hello)
}

/// One name, of the one kind that exists.
fn server_name(content: &[u8]) -> Result<HostName, HelloError> {
    let mut content = Reader(content);
    let mut list = Reader(content.piece16()?);
    content.end()?;
    if list.byte()? != 0 {
        return Err(HelloError::BadName);
    }
    let name = list.piece16()?;
    if !list.is_empty() {
        // RFC 6066: not more than one name of a kind; servers differ on which one they take.
        return Err(HelloError::Twice);
    }
    let name = std::str::from_utf8(name).map_err(|_not_text| HelloError::BadName)?;
    if name.parse::<IpAddr>().is_ok() {
        return Err(HelloError::IpName);
    }
    // RFC 6066 has no trailing dot: servers differ on whether they strip it.
    let host = HostName::parse(name).ok().filter(|_| !name.ends_with('.'));
    match host {
        Some(host) if host.ip().is_some() => Err(HelloError::IpName),
        Some(host) => Ok(host),
        None => Err(HelloError::BadName),
    }
}

fn alpn(content: &[u8]) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut content = Reader(content);
    let mut list = Reader(content.piece16()?);
    content.end()?;
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.piece8()?;
        if protocol.is_empty() {
            return Err(HelloError::Malformed);
        }
        protocols.push(protocol.to_vec());
    }
    if protocols.is_empty() { Err(HelloError::Malformed) } else { Ok(protocols) }
}

#[cfg(test)]
mod tests;
