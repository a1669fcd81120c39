//! What a fetch asks for at each hop: URL, method, headers; and where a redirect leads. Pure.

use http::{HeaderMap, Method, header};
use url::Url;

use super::{
    fetch::{FetchError, FetchRequest},
    reason::Reason,
    template,
};
use crate::domain::{HostName, host::split_port};

/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Bytes of a URL.
const URL_BYTES_MAX: usize = 8 << 10;
/// What frames or routes a request is ours; a tool that sets it means something that is not done.
const OURS: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What proves who one is: it does not follow a redirect to another host.
const PERSONAL: [&str; 3] = ["authorization", "cookie", "cookie2"];

/// One request on the way.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) host: HostName,
    pub(super) port: u16,
    /// Names in lower case; placeholders are not filled in yet.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Hop {
    /// The first hop.
    pub(super) fn first(request: FetchRequest) -> Result<Self, FetchError> {
        let invalid = |what| FetchError::Invalid { what };
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_no_token| invalid("the method is none"))?;
        let is_upper = request.method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if !is_upper || matches!(method.as_str(), "CONNECT" | "TRACE" | "TRACK") {
            return Err(invalid("the method is none that is sent from here"));
        }
        if template::refuse_in(request.url.as_bytes()).is_err() {
            return Err(FetchError::refused(Reason::SecretMisused));
        }
        if template::refuse_in(&request.body).is_err() {
            return Err(FetchError::refused(Reason::SecretMisused));
        }
        let (url, host, port) = target(&request.url)?;
        let headers = headers(request.headers)?;
        Ok(Self { method, url, host, port, headers, body: request.body })
    }

    /// The path with its query, as it is sent.
    pub(super) fn target(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// `Host`: without the port that the scheme implies.
    pub(super) fn authority(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host.authority()),
            None => self.host.authority(),
        }
    }

    /// Where an answer leads, if it is a redirect that is followed (RFC 9110 section 15.4).
    pub(super) fn next(&self, status: u16, answer: &HeaderMap) -> Result<Option<Self>, FetchError> {
        let refuse = |what| Err(FetchError::Redirect { what });
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = answer.get(header::LOCATION) else { return Ok(None) };
        let location = location.to_str().ok().filter(|text| text.len() <= URL_BYTES_MAX);
        let Some(url) = location.and_then(|text| self.url.join(text).ok()) else {
            return refuse("its Location is no URL");
        };
        if self.is_tls() && url.scheme() == "http" {
            return refuse("it leads from https to http");
        }
        let (mut url, host, port) = checked(url)?;
        if url.fragment().is_none() {
            url.set_fragment(self.url.fragment());
        }
        let mut next = Self { url, host, port, ..self.clone() };
        let becomes_get = match status {
            303 => self.method != Method::HEAD,
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            next.method = Method::GET;
            next.body = Vec::new();
            next.headers.retain(|(name, _)| !name.starts_with("content-"));
        }
        let is_elsewhere =
            (&next.host, next.port, next.is_tls()) != (&self.host, self.port, self.is_tls());
        if is_elsewhere {
            // A secret is bound to one host: its header stays behind like the personal ones.
            let stays_behind = |(name, value): &(String, String)| {
                PERSONAL.contains(&name.as_str()) || template::refuse_in(value.as_bytes()).is_err()
            };
            next.headers.retain(|header| !stays_behind(header));
        }
        Ok(Some(next))
    }
}

/// Reads a URL whose host is written in its plain form: what the URL standard would correct
/// (`0x7f.1`, full-width letters) is refused.
fn target(text: &str) -> Result<(Url, HostName, u16), FetchError> {
    let invalid = |what| FetchError::Invalid { what };
    if text.len() > URL_BYTES_MAX {
        return Err(invalid("the URL is too long"));
    }
    let (_, rest) = text.split_once("://").ok_or(invalid("the URL has no scheme"))?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    if authority.contains('@') {
        return Err(invalid("the URL holds a user: put credentials into a header"));
    }
    let (written, _) =
        split_port(authority).map_err(|_no_port| invalid("the URL's port is none"))?;
    let written =
        HostName::parse(written).map_err(|_no_host| FetchError::refused(Reason::BadHost))?;
    let url = Url::parse(text).map_err(|_no_url| invalid("the URL cannot be read"))?;
    let (url, host, port) = checked(url)?;
    if host == written { Ok((url, host, port)) } else { Err(FetchError::refused(Reason::BadHost)) }
}

fn checked(url: Url) -> Result<(Url, HostName, u16), FetchError> {
    let invalid = |what| FetchError::Invalid { what };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("only http and https are fetched"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("the URL holds a user: put credentials into a header"));
    }
    let host = url.host_str().and_then(|host| HostName::parse(host).ok());
    let host = host.ok_or(FetchError::refused(Reason::BadHost))?;
    let port = url.port_or_known_default().filter(|port| *port != 0);
    let port = port.ok_or(invalid("the URL's port is none"))?;
    Ok((url, host, port))
}

fn headers(given: Vec<(String, String)>) -> Result<Vec<(String, String)>, FetchError> {
    let invalid = |what| FetchError::Invalid { what };
    if given.len() > HEADERS_MAX {
        return Err(invalid("there are too many headers"));
    }
    let mut headers = Vec::with_capacity(given.len());
    for (name, value) in given {
        let name = name.to_ascii_lowercase();
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(invalid("a header's name is none"));
        }
        if OURS.contains(&name.as_str()) {
            return Err(invalid("a header is set that frames or routes the request"));
        }
        if !value.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e)) {
            return Err(invalid("a header's value is not visible ASCII"));
        }
        // What comes back is shown as it is: it must not be compressed.
        if name != "accept-encoding" {
            headers.push((name, value));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(method: &str, url: &str) -> FetchRequest {
        FetchRequest {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: vec![
                ("Authorization".to_owned(), "Bearer x".to_owned()),
                ("X-Key".to_owned(), "{{secret:KEY}}".to_owned()),
                ("Content-Type".to_owned(), "text/plain".to_owned()),
                ("Accept".to_owned(), "text/html".to_owned()),
            ],
            body: b"body".to_vec(),
            timeout: Duration::from_secs(1),
            response_bytes_max: 1,
        }
    }

    fn next(
        method: &str,
        from: &str,
        status: u16,
        location: &str,
    ) -> Result<Option<Hop>, FetchError> {
        let mut answer = HeaderMap::new();
        answer.insert(header::LOCATION, location.parse().unwrap());
        Hop::first(request(method, from)).unwrap().next(status, &answer)
    }

    #[test]
    fn hosts_in_another_spelling_are_refused() {
        for url in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://ｅxample.com/",
            "http://exa%6dple.com/",
            "http://example.com%00.evil.example/",
        ] {
            assert!(Hop::first(request("GET", url)).is_err(), "{url}");
        }
        for url in [
            "http://user:pass@example.com/",
            "http://example.com@evil.example/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "example.com",
            "http://example.com:0/",
            "http:/\\example.com/",
        ] {
            assert!(Hop::first(request("GET", url)).is_err(), "{url}");
        }
        let hop = Hop::first(request("GET", "https://Example.COM:8443/a/../b?q=1#f")).unwrap();
        assert_eq!(
            (hop.host.as_str(), hop.port, hop.target().as_str()),
            ("example.com", 8443, "/b?q=1")
        );
    }

    #[test]
    fn methods_and_headers_that_are_ours_are_refused() {
        for method in ["CONNECT", "TRACE", "TRACK", "get", "G T", ""] {
            assert!(Hop::first(request(method, "https://a.example/")).is_err(), "{method}");
        }
        for (name, value) in
            [("Host", "b.example"), ("Transfer-Encoding", "chunked"), ("X", "a\r\nb")]
        {
            let mut request = request("GET", "https://a.example/");
            request.headers.push((name.to_owned(), value.to_owned()));
            assert!(Hop::first(request).is_err(), "{name}");
        }
    }

    #[test]
    fn a_redirect_changes_the_method_as_the_standard_says() {
        for (method, status, wanted) in [
            ("POST", 301, "GET"),
            ("POST", 302, "GET"),
            ("PUT", 302, "PUT"),
            ("POST", 303, "GET"),
            ("PUT", 303, "GET"),
            ("HEAD", 303, "HEAD"),
            ("POST", 307, "POST"),
            ("POST", 308, "POST"),
        ] {
            let hop = next(method, "https://a.example/x", status, "/y").unwrap().unwrap();
            assert_eq!(hop.method.as_str(), wanted, "{method} {status}");
            let has_type = hop.headers.iter().any(|(name, _)| name == "content-type");
            assert_eq!(
                hop.body.is_empty(),
                wanted == "GET" || (method == "HEAD" && hop.body.is_empty())
            );
            assert_eq!(has_type, wanted != "GET", "{method} {status}");
        }
        assert!(next("GET", "https://a.example/x", 304, "/y").unwrap().is_none());
        assert!(next("GET", "https://a.example/x", 200, "/y").unwrap().is_none());
    }

    #[test]
    fn what_is_personal_stays_behind_when_the_host_changes() {
        let names = |hop: Hop| hop.headers.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let same =
            next("GET", "https://a.example/x", 302, "https://a.example:443/y").unwrap().unwrap();
        assert_eq!(names(same), ["authorization", "x-key", "content-type", "accept"]);
        for elsewhere in ["https://b.example/", "https://a.example:444/", "//b.example/"] {
            let hop = next("GET", "https://a.example/x", 302, elsewhere).unwrap().unwrap();
            assert_eq!(names(hop), ["content-type", "accept"], "{elsewhere}");
        }
    }

    #[test]
    fn redirects_that_must_not_be_followed_are_refused() {
        for location in [
            "http://a.example/",
            "ftp://a.example/",
            "file:///etc/passwd",
            "https://u:p@a.example/",
        ] {
            assert!(next("GET", "https://a.example/", 302, location).is_err(), "{location}");
        }
        assert!(next("GET", "http://a.example/", 302, "https://a.example/").unwrap().is_some());
    }
}
