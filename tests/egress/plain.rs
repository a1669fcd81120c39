//! Plain HTTP through the proxy: one request, read without doubt, written anew.

use std::io::Write;

use super::{
    servers::{Server, answer},
    support::{World, assert_refused, dial, rest, talk},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_written_anew_for_the_server() {
    let world = World::new();
    let server = Server::http(answer("200 OK", "Connection: keep-alive\r\nX-A: b\r\n", "hello"));
    let port = server.port();
    world.allow(&[format!("allowed.test:{port} allow_private")]);
    let request = format!(
        "POST http://ALLOWED.test:{port}/a?b=c HTTP/1.1\r\nHost: allowed.test:{port}\r\n\
         Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nConnection: x-hop\r\n\
         X-Hop: 1\r\nX-End: 2\r\nContent-Length: 4\r\n\r\nbody"
    );
    let got = talk(world.proxy, request.as_bytes());
    assert_eq!(
        got,
        "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\nconnection: close\r\n\r\nhello"
    );
    assert_eq!(
        server.seen()[0],
        format!(
            "POST /a?b=c HTTP/1.1\r\nhost: allowed.test:{port}\r\nx-end: 2\r\n\
             content-length: 4\r\nconnection: close\r\n\r\nbody"
        )
    );
    let records = world.end().records;
    assert_eq!(super::support::told(&records[0]), format!("http allowed.test:{port} POST allowed"));
    assert!(!serde_json::to_string(&records).unwrap().contains("b=c"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_pass_and_a_client_that_waits_for_100_gets_it() {
    let world = World::new();
    let server = Server::http(answer("200 OK", "", "hello"));
    let port = server.port();
    world.allow(&[format!("allowed.test:{port} allow_private")]);
    let mut stream = dial(world.proxy);
    let head = format!(
        "PUT http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n\
         Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert!(super::support::head(&mut stream).starts_with("HTTP/1.1 100 "));
    stream.write_all(b"4;ext=1\r\nbody\r\n0\r\nTrailer: x\r\n\r\n").unwrap();
    assert!(rest(&mut stream).ends_with("\r\n\r\nhello"));
    assert!(server.seen()[0].ends_with("\r\n\r\n4\r\nbody\r\n0\r\n\r\n"), "{:?}", server.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_as_two_requests_is_refused() {
    let world = World::new();
    let server = Server::http(answer("200 OK", "", "hello"));
    let port = server.port();
    world.allow(&[format!("allowed.test:{port} allow_private")]);
    let target = format!("http://allowed.test:{port}/");
    let host = format!("Host: allowed.test:{port}\r\n");
    let hidden = "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    let attacks = [
        format!(
            "POST {target} HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "POST {target} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
        ),
        format!("POST {target} HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!(
            "POST {target} HTTP/1.1\r\n{host}Content-Length: 0\r\nContent-Length: 40\r\n\r\n{hidden}"
        ),
        format!("POST {target} HTTP/1.1\r\n{host}Content-Length: +4\r\n\r\nbody"),
        format!("POST {target} HTTP/1.1\r\n{host}Content-Length : 4\r\n\r\nbody"),
        format!("GET {target} HTTP/1.1\r\n{host}X: a\r\n b: c\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\n{host}X: a\nTransfer-Encoding: chunked\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\n{host}X: a\rb\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\n{host}{host}\r\n"),
        format!("GET  {target} HTTP/1.1\r\n{host}\r\n"),
        format!("GET {target} HTTP/2.0\r\n{host}\r\n"),
        format!("GET {target}\r\n{host}\r\n"),
        format!("get {target} HTTP/1.1\r\n{host}\r\n"),
        format!("GET /x HTTP/1.1\r\n{host}\r\n"),
        "GET https://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n".to_owned(),
        format!("GET http://user@allowed.test:{port}/ HTTP/1.1\r\n{host}\r\n"),
    ];
    for attack in &attacks {
        let got = talk(world.proxy, attack.as_bytes());
        assert!(got.starts_with("HTTP/1.1 403 "), "{attack:?}: {got}");
    }
    for other in ["evil.test", "allowed.test:1", "allowed.test.evil.test"] {
        let got =
            talk(world.proxy, format!("GET {target} HTTP/1.1\r\nHost: {other}\r\n\r\n").as_bytes());
        assert_refused(&got, "host_mismatch");
    }
    assert_eq!(server.count(), 0);
    // The control: the same request without the trick.
    let got = talk(
        world.proxy,
        format!("POST {target} HTTP/1.1\r\n{host}Content-Length: 4\r\n\r\nbody").as_bytes(),
    );
    assert!(got.starts_with("HTTP/1.1 200 OK"), "{got}");
    let traffic = world.end();
    assert_eq!(traffic.records.len(), attacks.len() + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_on_the_connection_is_not_served() {
    let world = World::new();
    let (server, other) = (Server::http(answer("200 OK", "", "one")), Server::echo());
    let port = server.port();
    world.allow(&[format!("allowed.test:{port} allow_private")]);
    let two = format!(
        "GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n\
         GET http://other.test:{0}/ HTTP/1.1\r\nHost: other.test:{0}\r\n\r\n",
        other.port()
    );
    let got = talk(world.proxy, two.as_bytes());
    assert!(got.contains("\r\nconnection: close\r\n") && got.ends_with("\r\n\r\none"), "{got}");
    assert_eq!((server.count(), other.count()), (1, 0));
    assert!(!server.seen()[0].contains("other.test"), "{:?}", server.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_paths_are_compared_for_each_request() {
    let world = World::new();
    let server = Server::http(answer("200 OK", "", "hello"));
    let port = server.port();
    world.allow(&[format!("allowed.test:{port} methods=GET,HEAD path=/v1 allow_private")]);
    let ask = |method: &str, path: &str| {
        let head = format!(
            "{method} http://allowed.test:{port}{path} HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n"
        );
        talk(world.proxy, head.as_bytes())
    };
    assert!(ask("GET", "/v1/x").starts_with("HTTP/1.1 200 "));
    assert!(ask("HEAD", "/v1").starts_with("HTTP/1.1 200 "));
    assert_refused(&ask("POST", "/v1/x"), "method_not_allowed");
    for path in
        ["/", "/v2", "/v1x", "/v1/../v2", "/v1/%2e%2e/v2", "/v1/..;/v2", "/v1//x", "/v1/%2Fx"]
    {
        assert_refused(&ask("GET", path), "path_not_allowed");
    }
    assert_eq!(server.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_a_bad_gateway() {
    let world = World::new();
    let server = Server::http("220 smtp.test ESMTP\r\n");
    world.allow(&[format!("allowed.test:{} allow_private", server.port())]);
    let got = talk(
        world.proxy,
        format!(
            "GET http://allowed.test:{0}/ HTTP/1.1\r\nHost: allowed.test:{0}\r\n\r\n",
            server.port()
        )
        .as_bytes(),
    );
    assert_refused(&got, "connect_failed");
}
