//! What the operator sets, checked once.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr, time::Duration};

use rustls::pki_types::CertificateDer;
use url::Url;

use super::record::OnRecord;
use crate::domain::{HostName, Secret};

/// How egress works on this machine.
#[derive(Clone)]
pub struct Options {
    /// A proxy of the organisation that every connection goes through.
    pub upstream: Option<Upstream>,
    /// Where a host and port are dialled instead of where the name resolves to, as with curl's
    /// `--connect-to`. The address is checked like any other.
    pub connect_to: BTreeMap<(HostName, u16), SocketAddr>,
    /// Values for `{{secret:NAME}}` in headers.
    pub secrets: Vec<BoundSecret>,
    /// Certificate authorities that [`super::Channel::fetch`] trusts beside the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// DNS servers to ask instead of those in `/etc/resolv.conf`. With any here, `/etc/hosts` is
    /// not read either.
    pub name_servers: Vec<SocketAddr>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Gets every record at once, also while a call runs. It must not block.
    pub on_record: OnRecord,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("upstream", &self.upstream)
            .field("connect_to", &self.connect_to)
            .field("secrets", &self.secrets)
            .field("name_servers", &self.name_servers)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    /// The machine's own resolver, straight to the internet, records go nowhere.
    fn default() -> Self {
        Self {
            upstream: None,
            connect_to: BTreeMap::new(),
            secrets: Vec::new(),
            extra_roots: Vec::new(),
            name_servers: Vec::new(),
            timeouts: Timeouts::default(),
            on_record: std::sync::Arc::new(|_, _, _| {}),
        }
    }
}

/// How long things may take. Each begins anew where it is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands, all addresses of the host and the upstream proxy included.
    pub connect: Duration,
    /// Until the head of a request is there.
    pub head: Duration,
    /// Until the ClientHello is there, from the answer to CONNECT or the connection on.
    pub hello: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            head: Duration::from_secs(10),
            hello: Duration::from_secs(3),
            idle: Duration::from_secs(120),
        }
    }
}

/// A secret and the one place where it may be sent.
#[derive(Clone, Debug)]
pub struct BoundSecret {
    /// `NAME` of the placeholder.
    pub name: String,
    /// The value: visible ASCII and spaces, since it stands in a header.
    pub value: Secret<String>,
    /// The host.
    pub host: HostName,
    /// The port.
    pub port: u16,
    /// The path must be this or lie below it; `/` is every path.
    pub path_prefix: String,
    /// It may be sent without TLS, which at port 80 it may in any case.
    pub plain_http: bool,
}

/// An HTTP proxy that tunnels are made through.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its host: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<Secret<String>>,
}

/// What is wrong with the URL of an upstream proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the URL of a proxy: it looks like http://[user:password@]host:port")]
pub struct UpstreamError;

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let url = Url::parse(text).ok().filter(|u| u.scheme() == "http").ok_or(UpstreamError)?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        let host = url.host_str().filter(|_| is_bare && url.fragment().is_none());
        let host = host.ok_or(UpstreamError)?.trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(80);
        let decode = |part: &str| percent_decode(part).ok_or(UpstreamError);
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let pair = format!("{}:{}", decode(user)?, decode(password.unwrap_or_default())?);
                Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
            }
        };
        Ok(Self { host, port, authorization })
    }
}

/// The text of a URL's user or password.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.extend(data_encoding::HEXLOWER_PERMISSIVE.decode(&digits).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Why egress cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The resolver cannot be made.
    #[error("cannot make the DNS resolver")]
    Resolver {
        /// What the resolver said.
        #[source]
        source: hickory_resolver::net::NetError,
    },
    /// A secret that cannot stand in a header, or without a name.
    #[error(
        "the egress secret `{name}` cannot be used: its name or value is empty, or its value \
         holds something else than visible ASCII"
    )]
    Secret {
        /// Its name.
        name: String,
    },
    /// A certificate that is none.
    #[error("a certificate of the operator's authorities cannot be used")]
    Root {
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_proxy_is_read() {
        let proxy: Upstream = "http://squid.internal:3128".parse().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("squid.internal", 3128));
        assert!(proxy.authorization.is_none());
        let proxy: Upstream = "http://u%40x:p%3Aw@[fd00::1]:3128/".parse().unwrap();
        assert_eq!(proxy.host, "fd00::1");
        assert_eq!(proxy.authorization.unwrap().expose(), "Basic dUB4OnA6dw==");
    }

    #[test]
    fn what_is_no_proxy_is_refused() {
        for text in
            ["", "squid:3128", "https://squid:3128", "socks5://squid:1080", "http://squid:1/path"]
        {
            assert!(text.parse::<Upstream>().is_err(), "{text}");
        }
    }
}
