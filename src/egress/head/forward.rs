//! Writing.

use std::fmt::Write as _;

use super::{Framing, HeadError, Request};

impl Request {
    /// The head as it goes to the server, in origin form. It asks the server to close the
    /// connection after the answer: each request is decided by itself.
    ///
    /// # Errors
    ///
    /// [`HeadError::Unsendable`]: a field that was put in after reading holds what would end it.
    pub(crate) fn to_server(&self) -> Result<Vec<u8>, HeadError> {
        self.written(&self.target)
    }

    /// The head as it goes to another proxy, in absolute form. `proxy_authorization` is the value
    /// of that field.
    ///
    /// # Errors
    ///
    /// As [`Self::to_server`].
    pub(crate) fn to_proxy(&self, proxy_authorization: Option<&str>) -> Result<Vec<u8>, HeadError> {
        let mut request = self.clone();
        if let Some(value) = proxy_authorization {
            request.headers.push(("proxy-authorization".to_owned(), value.to_owned()));
        }
        let authority = self.authority();
        request.written(&format!("http://{authority}{}", self.target))
    }

    /// `host`, or `host:port` where the port is not that of plain HTTP.
    fn authority(&self) -> String {
        let host = self.host.authority();
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }

    fn written(&self, target: &str) -> Result<Vec<u8>, HeadError> {
        let mut head =
            format!("{} {target} HTTP/1.1\r\nhost: {}\r\n", self.method, self.authority());
        for (name, value) in &self.headers {
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
            let is_value = value.bytes().all(|b| b == b'\t' || (0x20..=0x7e).contains(&b));
            if !is_name || !is_value {
                return Err(HeadError::Unsendable);
            }
            head.extend([name, ": ", value, "\r\n"]);
        }
        match self.framing {
            Framing::None => {}
            // Writing to a text cannot fail.
            Framing::Length(length) => write!(head, "content-length: {length}\r\n").unwrap_or(()),
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        }
        head.push_str("connection: close\r\n\r\n");
        Ok(head.into_bytes())
    }
}
