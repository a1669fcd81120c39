use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

use super::*;
use crate::egress::fuzzing;

/// What a client that is not ours sends.
pub(in crate::egress) fn sample(name: &'static str, alpn: &[&[u8]]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A record that holds a hello with these extensions.
fn with_extensions(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(piece16(content));
    }
    record(&handshake(&[&body()[..], &piece16(&list)].concat()))
}

/// Version, random, session id, one cipher suite, no compression.
fn body() -> Vec<u8> {
    [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat()
}

fn handshake(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], body].concat()
}

fn record(content: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &piece16(content)].concat()
}

fn piece16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

fn sni(name: &str) -> (u16, Vec<u8>) {
    (0, piece16(&[&[0][..], &piece16(name.as_bytes())].concat()))
}

fn name_of(stream: &[u8]) -> Result<Option<String>, HelloError> {
    match read(stream) {
        Opening::Hello(hello) => Ok(hello.server_name.map(|name| name.to_string())),
        Opening::Refused(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_name_in_a_real_hello_is_read() {
    let stream = sample("api.example.test", &[b"h2", b"http/1.1"]);
    let Opening::Hello(hello) = read(&stream) else { panic!("no hello") };
    assert_eq!(hello.server_name, Some(HostName::parse("api.example.test").unwrap()));
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(!hello.has_ech);
    assert_eq!(name_of(&sample("1.2.3.4", &[])), Ok(None));
    fuzzing::client_hello(&stream);
}

#[test]
fn a_hello_is_read_only_when_it_is_whole_however_it_is_cut() {
    let whole = sample("api.example.test", &[]);
    for length in 0..whole.len() {
        assert_eq!(read(&whole[..length]), Opening::NeedMore, "{length}");
    }
    let content = &whole[5..];
    for size in [1, 2, 3, 7, 100] {
        let cut: Vec<u8> = content.chunks(size).flat_map(record).collect();
        assert_eq!(name_of(&cut), Ok(Some("api.example.test".to_owned())), "{size}");
        fuzzing::client_hello(&cut);
    }
    // Early data behind it is not ours to judge.
    let more = [&whole[..], &[23, 3, 3, 0, 1, 0]].concat();
    assert!(matches!(read(&more), Opening::Hello(_)));
}

#[test]
fn something_else_than_tls_is_known_by_its_first_bytes() {
    for stream in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", &[0x80, 0x2e, 1, 3, 1], &[22, 2], &[23, 3]]
    {
        assert_eq!(read(stream), Opening::NotTls, "{stream:?}");
    }
    assert_eq!(read(&[]), Opening::NeedMore);
    assert_eq!(read(&[22]), Opening::NeedMore);
}

#[test]
fn a_hello_that_two_servers_could_read_in_two_ways_is_refused() {
    let good = with_extensions(&[sni("a.test")]);
    assert_eq!(name_of(&good), Ok(Some("a.test".to_owned())));
    assert_eq!(name_of(&record(&handshake(&body()))), Ok(None));

    let two_names = {
        let name = |name: &str| [&[0][..], &piece16(name.as_bytes())].concat();
        (0, piece16(&[name("a.test"), name("b.test")].concat()))
    };
    let other_kind = (0, piece16(&[&[1][..], &piece16(b"a.test")].concat()));
    let left_over = (0, [piece16(&[&[0][..], &piece16(b"a.test")].concat()), vec![0]].concat());
    for (extensions, wanted) in [
        (vec![sni("a.test"), sni("b.test")], HelloError::Twice),
        (vec![sni("a.test"), sni("a.test")], HelloError::Twice),
        (vec![(10, vec![]), (10, vec![])], HelloError::Twice),
        (vec![two_names], HelloError::Twice),
        (vec![other_kind], HelloError::BadName),
        (vec![left_over], HelloError::Malformed),
        (vec![(0, vec![])], HelloError::Malformed),
        (vec![sni("")], HelloError::BadName),
        (vec![sni("a.test\0.b.test")], HelloError::BadName),
        (vec![sni("a.test.")], HelloError::BadName),
        (vec![sni("*.test")], HelloError::BadName),
        (vec![sni("a.test:443")], HelloError::BadName),
        (vec![sni("bücher.test")], HelloError::BadName),
        (vec![sni("1.2.3.4")], HelloError::IpName),
        (vec![sni("::1")], HelloError::IpName),
        (vec![sni("[::1]")], HelloError::IpName),
        (vec![sni("0x7f.1")], HelloError::BadName),
        (vec![(16, vec![0, 0])], HelloError::Malformed),
        (vec![(16, vec![0, 1, 0])], HelloError::Malformed),
    ] {
        let stream = with_extensions(&extensions);
        assert_eq!(name_of(&stream), Err(wanted), "{extensions:?}");
        fuzzing::client_hello(&stream);
    }
    let inner = &good[5..];
    for (stream, wanted) in [
        // A second message in the record, and bytes in front of or behind the structure.
        (record(&[inner, inner].concat()), HelloError::Malformed),
        (record(&[inner, &[0]].concat()), HelloError::Malformed),
        (record(&[&[2][..], &inner[1..]].concat()), HelloError::NotHello),
        (record(&handshake(&[&body()[..], &[0, 0, 0]].concat())), HelloError::Malformed),
        (record(&handshake(&body()[..20])), HelloError::Malformed),
        // Another record in the middle, an empty one, a foreign version.
        ([record(&inner[..9]), vec![21, 3, 3, 0, 2, 1, 0]].concat(), HelloError::NotHello),
        ([record(&inner[..9]), record(&[])].concat(), HelloError::Malformed),
        ([record(&inner[..9]), vec![22, 4]].concat(), HelloError::Malformed),
        (vec![22, 3, 1, 0x40, 1], HelloError::Malformed),
    ] {
        assert_eq!(name_of(&stream), Err(wanted), "{stream:?}");
        fuzzing::client_hello(&stream);
    }
}

#[test]
fn an_encrypted_second_hello_is_reported() {
    for kind in [EXT_ENCRYPTED_HELLO, EXT_ENCRYPTED_NAME] {
        let stream = with_extensions(&[sni("a.test"), (kind, vec![0; 40])]);
        assert!(matches!(read(&stream), Opening::Hello(hello) if hello.has_ech));
    }
}

#[test]
fn a_hello_that_is_too_long_is_not_waited_for() {
    let said = [&[22, 3, 1, 0x10, 0, 1][..], &[0, 0x40, 1]].concat();
    assert_eq!(name_of(&said), Err(HelloError::TooLong));
    let long = [(21, vec![0; 15 << 10])];
    assert_eq!(name_of(&with_extensions(&long)), Ok(None));
    // Cut into so small records that their headers fill the space.
    let content = &with_extensions(&long)[5..];
    let cut: Vec<u8> = content.chunks(8).flat_map(record).collect();
    assert_eq!(name_of(&cut), Err(HelloError::TooLong));
    assert_eq!(read(&cut[..HELLO_BYTES_MAX - 1]), Opening::NeedMore);
}
