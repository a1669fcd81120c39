//! Tunnels through the proxy: who may have one, and what may go through it.

use std::io::{Read, Write};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::{
    servers::{Ca, Server},
    support::{World, assert_refused, client_config, connect, head, rest, says, talk, tls},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_host_is_reached_through_a_tunnel_and_an_unlisted_one_is_not() {
    let (world, ca) = (World::new(), Ca::new());
    let (server, other) = (Server::tls_echo(&ca), Server::tls_echo(&ca));
    world.allow(&[format!("allowed.test:{} allow_private", server.port())]);

    let (stream, answer) = connect(world.proxy, &format!("allowed.test:{}", server.port()));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut stream = tls(stream, "allowed.test", &ca.certificate);
    assert!(says(&mut stream, "hello").unwrap());
    drop(stream);

    // The same server by another name and another port.
    let answer = talk(
        world.proxy,
        format!("CONNECT other.test:{0} HTTP/1.1\r\nHost: other.test:{0}\r\n\r\n", server.port())
            .as_bytes(),
    );
    assert_refused(&answer, "not_listed");
    assert!(answer.contains("agent-runtime egress add other.test:"), "{answer}");
    assert!(answer.contains("--agent helper"), "{answer}");
    let (_, answer) = connect(world.proxy, &format!("allowed.test:{}", other.port()));
    assert!(answer.contains("x-egress-reason: not_listed"), "{answer}");
    assert_eq!((server.count(), other.count()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_tunnel_says_rule_address_and_bytes() {
    let (world, ca) = (World::new(), Ca::new());
    let server = Server::tls_echo(&ca);
    let rule = format!("allowed.test:{} allow_private", server.port());
    world.allow(&[&rule]);
    let (stream, _) = connect(world.proxy, &format!("allowed.test:{}", server.port()));
    let mut stream = tls(stream, "allowed.test", &ca.certificate);
    assert!(says(&mut stream, &"x".repeat(10_000)).unwrap());
    // The call ends while the tunnel is open: its record is there all the same, and only once.
    let traffic = world.end();
    let [record] = traffic.records.as_slice() else { panic!("{traffic:?}") };
    assert!(record.allowed);
    assert_eq!(record.reason, rule);
    assert_eq!(record.host, "allowed.test");
    assert_eq!(record.address.unwrap().to_string(), "127.0.0.1");
    assert!(record.bytes_up > 10_000 && record.bytes_down > 10_000, "{record:?}");
    assert!(stream.read(&mut [0; 1]).is_err() || stream.read(&mut [0; 1]).is_ok_and(|n| n == 0));
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(world.records().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_carries_only_tls_that_names_its_host() {
    let (world, ca) = (World::new(), Ca::new());
    let server = Server::echo();
    let port = server.port();
    world.allow(&[
        format!("allowed.test:{port} allow_private"),
        format!("other.test:{port} allow_private"),
    ]);
    let authority = format!("allowed.test:{port}");

    // Another name, though it is on the list too.
    let (stream, _) = connect(world.proxy, &authority);
    assert!(says(&mut tls(stream, "other.test", &ca.certificate), "x").is_err());
    // No name.
    let (stream, _) = connect(world.proxy, &authority);
    let name = ServerName::try_from("allowed.test").unwrap();
    let nameless = ClientConnection::new(client_config(&ca.certificate, false), name).unwrap();
    assert!(says(&mut StreamOwned::new(nameless, stream), "x").is_err());
    // No TLS: plain HTTP, SSH, nothing at all, half a hello.
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"[..], b"SSH-2.0-x\r\n", b"", b"\x16\x03\x01"]
    {
        let (mut stream, answer) = connect(world.proxy, &authority);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        stream.write_all(bytes).unwrap();
        // At most an alert comes back.
        assert!(rest(&mut stream).len() <= 7);
    }
    assert!(server.seen().iter().all(String::is_empty), "{:?}", server.seen());
    let told = world.told();
    let reasons: Vec<&str> = told.iter().filter_map(|t| t.split(' ').next_back()).collect();
    assert_eq!(
        reasons,
        ["sni_mismatch", "sni_missing", "not_tls", "not_tls", "not_tls", "not_tls"],
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_rule_lets_anything_through_its_tunnel() {
    let world = World::new();
    let server = Server::echo();
    world.allow(&[format!("allowed.test:{} allow_private opaque", server.port())]);
    let (mut stream, _) = connect(world.proxy, &format!("allowed.test:{}", server.port()));
    assert!(says(&mut stream, "SSH-2.0-x\r\n").unwrap());
    // Also when the client does not wait for the answer.
    let mut stream = super::support::dial(world.proxy);
    let both = format!(
        "CONNECT allowed.test:{0} HTTP/1.1\r\nHost: allowed.test:{0}\r\n\r\nearly",
        server.port()
    );
    stream.write_all(both.as_bytes()).unwrap();
    head(&mut stream);
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"early");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_comes_in_pieces_is_read() {
    let (world, ca) = (World::new(), Ca::new());
    let server = Server::tls_echo(&ca);
    world.allow(&[format!("allowed.test:{} allow_private", server.port())]);
    let name = ServerName::try_from("allowed.test").unwrap();
    let mut client = ClientConnection::new(client_config(&ca.certificate, true), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let (mut stream, _) = connect(world.proxy, &format!("allowed.test:{}", server.port()));
    for piece in hello.chunks(40) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(says(&mut StreamOwned::new(client, stream), "hello").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_about_requests_lets_no_tunnel_through() {
    let world = World::new();
    let server = Server::echo();
    let port = server.port();
    for (rule, reason) in [
        (format!("allowed.test:{port} methods=GET allow_private"), "method_not_allowed"),
        (format!("allowed.test:{port} path=/v1 allow_private"), "path_not_allowed"),
    ] {
        world.allow(&[rule]);
        let (_, answer) = connect(world.proxy, &format!("allowed.test:{port}"));
        assert!(answer.contains(&format!("x-egress-reason: {reason}")), "{answer}");
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_told_apart_from_what_is_refused() {
    let world = World::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    world.allow(&[
        format!("allowed.test:{port} allow_private"),
        format!("absent.test:{port} allow_private"),
    ]);
    let request =
        |host: &str| format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    assert_refused(&talk(world.proxy, request("allowed.test").as_bytes()), "connect_failed");
    assert_refused(&talk(world.proxy, request("absent.test").as_bytes()), "no_address");
}

/// The hello with one more extension at its end.
fn with_extension(hello: &[u8], extension: &[u8]) -> Vec<u8> {
    let mut out = hello.to_vec();
    out.extend_from_slice(extension);
    // Record header (5), handshake header (4), version and random (34), session, suites, methods.
    let session = 43 + 1 + usize::from(out[43]);
    let suites = session + 2 + usize::from(u16::from_be_bytes([out[session], out[session + 1]]));
    let extensions = suites + 1 + usize::from(out[suites]);
    for at in [3, 7, extensions] {
        let length =
            u16::from_be_bytes([out[at], out[at + 1]]) + u16::try_from(extension.len()).unwrap();
        out[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_hides_its_name_is_refused_unless_the_rule_is_opaque() {
    let (world, ca) = (World::new(), Ca::new());
    let server = Server::echo();
    let authority = format!("allowed.test:{}", server.port());
    let name = ServerName::try_from("allowed.test").unwrap();
    let mut client = ClientConnection::new(client_config(&ca.certificate, true), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    // encrypted_client_hello, and one that nobody knows as the control.
    let hidden = with_extension(&hello, &[0xfe, 0x0d, 0, 2, 0, 0]);
    let strange = with_extension(&hello, &[0xfa, 0x0d, 0, 2, 0, 0]);
    for (rule, hello, is_let_through) in [
        ("allow_private", &hidden, false),
        ("allow_private", &strange, true),
        ("allow_private opaque", &hidden, true),
    ] {
        world.allow(&[format!("{authority} {rule}")]);
        let (mut stream, _) = connect(world.proxy, &authority);
        stream.write_all(hello).unwrap();
        let mut back = vec![0; hello.len()];
        let came_back = stream.read_exact(&mut back).is_ok() && back == *hello;
        assert_eq!(came_back, is_let_through, "{rule}");
    }
    let refused: Vec<_> = world.records().into_iter().filter(|record| !record.allowed).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason, "sni_missing");
}
