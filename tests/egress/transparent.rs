//! Tools that know of no proxy: ports 443 and 80 of every address.

use std::net::{SocketAddr, TcpStream};

use agent_runtime::{
    domain::{EgressLimits, HostName},
    egress::Options,
};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::{
    servers::{Ca, Server, answer},
    support::{World, assert_refused, client_config, dial, says, talk, tls},
};

/// Hosts on the ports that the doors stand for lead to these servers.
fn world(leads: &[(&str, u16, SocketAddr)]) -> World {
    let leads = leads.iter().map(|(host, port, to)| ((HostName::parse(host).unwrap(), *port), *to));
    let connect_to = leads.collect();
    World::with(EgressLimits::default(), |options: &mut Options| options.connect_to = connect_to)
}

fn nameless(stream: TcpStream, ca: &Ca) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("allowed.test").unwrap();
    let client = ClientConnection::new(client_config(&ca.certificate, false), name).unwrap();
    StreamOwned::new(client, stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_the_hello_decides_at_port_443() {
    let ca = Ca::new();
    let (server, other) = (Server::tls_echo(&ca), Server::tls_echo(&ca));
    let world = world(&[("allowed.test", 443, server.addr), ("other.test", 443, other.addr)]);
    world.allow(&["allowed.test allow_private"]);

    let mut stream = tls(dial(world.https), "allowed.test", &ca.certificate);
    assert!(says(&mut stream, "hello").unwrap());
    drop(stream);
    let refused =
        says(&mut tls(dial(world.https), "other.test", &ca.certificate), "x").unwrap_err();
    assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
    assert!(says(&mut nameless(dial(world.https), &ca), "x").is_err());
    assert!(talk(world.https, b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n").len() <= 7);
    assert_eq!((server.count(), other.count()), (1, 0));
    let mut told = world.told();
    told.sort();
    assert_eq!(
        told,
        [
            "tls :443 not_tls",
            "tls :443 sni_missing",
            "tls allowed.test:443 allowed",
            "tls other.test:443 not_listed",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_field_decides_at_port_80() {
    let server = Server::http(answer("200 OK", "", "hi"));
    let world = world(&[("allowed.test", 80, server.addr), ("other.test", 80, server.addr)]);
    world.allow(&["allowed.test:80 allow_private"]);

    let got = talk(world.http, b"GET /x?q=1 HTTP/1.1\r\nHost: Allowed.Test.\r\n\r\n");
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\nhi"), "{got}");
    assert!(server.seen()[0].starts_with("GET /x?q=1 HTTP/1.1\r\nhost: allowed.test\r\n"));
    let absolute = b"GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n";
    assert!(talk(world.http, absolute).starts_with("HTTP/1.1 200 OK"));

    for (request, reason) in [
        ("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", "not_listed"),
        ("GET / HTTP/1.1\r\nHost: allowed.test:8080\r\n\r\n", "host_mismatch"),
        ("GET http://allowed.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n", "host_mismatch"),
        ("GET / HTTP/1.1\r\n\r\n", "bad_request"),
        ("GET / HTTP/1.0\r\n\r\n", "bad_request"),
        ("CONNECT allowed.test:80 HTTP/1.1\r\nHost: allowed.test:80\r\n\r\n", "bad_request"),
    ] {
        assert_refused(&talk(world.http, request.as_bytes()), reason);
    }
    assert_eq!(server.count(), 2);
}
