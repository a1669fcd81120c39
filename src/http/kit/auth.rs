//! Where a credential and an address are found in a request. Never in the query.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};

/// Prefix of the WebSocket subprotocol that carries a token where headers cannot be set.
const SUBPROTOCOL: &str = "bearer.";

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The client, or the proxy in front of it.
    pub remote: SocketAddr,
    /// The address of ours that it called.
    pub local: SocketAddr,
}

/// The bearer token of the `Authorization` header. A header of another scheme, or more than one,
/// presents nothing.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (values.next()?, values.next());
    let (scheme, token) = first.to_str().ok()?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer") && second.is_none();
    is_bearer.then(|| token.trim()).filter(|token| !token.is_empty())
}

/// The token among the WebSocket subprotocols that a client offers.
pub fn offered(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(SUBPROTOCOL))
        .filter(|token| !token.is_empty())
}

/// Who is at the other end: the peer, or, where the peer is a trusted proxy, the last address in
/// `X-Forwarded-For` that is not one. Anything further left was written by the client.
pub fn client_address(peer: Peer, headers: &HeaderMap, proxies: &[IpAddr]) -> IpAddr {
    let remote = peer.remote.ip().to_canonical();
    if !proxies.contains(&remote) {
        return remote;
    }
    let mut hops: Vec<IpAddr> = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        for hop in value.to_str().unwrap_or_default().split(',') {
            match hop.trim().parse::<IpAddr>() {
                Ok(address) => hops.push(address.to_canonical()),
                // What lies left of an unreadable hop cannot be trusted.
                Err(_) => hops.clear(),
            }
        }
    }
    hops.into_iter().rev().find(|hop| !proxies.contains(hop)).unwrap_or(remote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_token_is_read_from_one_bearer_header_only() {
        let token = |value| bearer(&headers(&[("authorization", value)])).map(str::to_owned);
        assert_eq!(token("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(token("bearer abc"), Some("abc".to_owned()));
        for none in ["abc", "Basic abc", "Bearer", "Bearer ", "Bearerabc"] {
            assert_eq!(token(none), None, "{none}");
        }
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(bearer(&headers(&twice)), None);
    }

    #[test]
    fn a_subprotocol_may_carry_the_token() {
        let offer = |value| offered(&headers(&[("sec-websocket-protocol", value)])).map(str::len);
        assert_eq!(offer("agent-runtime.v1, bearer.art_a_b"), Some(7));
        assert_eq!(offer("agent-runtime.v1"), None);
        assert_eq!(offer("bearer."), None);
    }

    #[test]
    fn only_a_trusted_proxy_may_name_another_address() {
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let from = |remote: &str, forwarded: &'static str| {
            let remote = SocketAddr::new(remote.parse().unwrap(), 1);
            let peer = Peer { remote, local: remote };
            client_address(peer, &headers(&[("x-forwarded-for", forwarded)]), &[proxy]).to_string()
        };
        assert_eq!(from("192.0.2.9", "198.51.100.1"), "192.0.2.9");
        assert_eq!(from("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(from("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.1"), "198.51.100.1");
        assert_eq!(from("10.0.0.1", "1.1.1.1, nonsense"), "10.0.0.1");
        assert_eq!(from("::ffff:10.0.0.1", "198.51.100.1"), "198.51.100.1");
    }
}
