use super::*;
use crate::egress::fuzzing;

fn parsed(head: &str) -> Request {
    fuzzing::http_head(head.as_bytes());
    match read(head.as_bytes()) {
        Ok(Some((request, length))) => {
            assert_eq!(length, head.len());
            request
        }
        other => panic!("{head}: {other:?}"),
    }
}

fn code(head: &str) -> &'static str {
    fuzzing::http_head(head.as_bytes());
    match read(head.as_bytes()) {
        Err(error) => error.reason().as_str(),
        Ok(found) => panic!("{head:?}: {found:?}"),
    }
}

fn text(head: Result<Vec<u8>, HeadError>) -> String {
    String::from_utf8(head.unwrap()).unwrap()
}

#[test]
fn a_request_to_the_proxy_is_written_anew_for_the_server() {
    let request = parsed(
        "POST http://API.test:8080/v1/a?q=1 HTTP/1.1\r\nHost: api.test:8080\r\nUser-Agent: x/1\r\n\
         Content-Length: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\
         Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nClose: 1\r\nTE: trailers\r\nUpgrade: h2c\r\n\
         Expect: 100-continue\r\nMax-Forwards: 0\r\nAccept:\t*/* \r\nCookie: a=b\r\n\r\n",
    );
    assert_eq!((request.form, request.port), (TargetForm::Absolute, 8080));
    assert_eq!((request.host.as_str(), request.path()), ("api.test", "/v1/a"));
    assert_eq!(request.framing, Framing::Length(5));
    assert!(request.expects_continue && !request.is_connect());
    assert_eq!(
        text(request.to_server()),
        "POST /v1/a?q=1 HTTP/1.1\r\nhost: api.test:8080\r\nuser-agent: x/1\r\naccept: */*\r\n\
         cookie: a=b\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(
        text(request.to_proxy(Some("Basic eQ=="))),
        "POST http://api.test:8080/v1/a?q=1 HTTP/1.1\r\nhost: api.test:8080\r\nuser-agent: x/1\r\n\
         accept: */*\r\ncookie: a=b\r\nproxy-authorization: Basic eQ==\r\ncontent-length: 5\r\n\
         connection: close\r\n\r\n"
    );
}

#[test]
fn each_form_of_a_target_names_its_host() {
    for (head, host, port, target) in [
        ("GET /a HTTP/1.1\r\nHost: A.test\r\n\r\n", "a.test", 80, "/a"),
        ("GET /a HTTP/1.1\r\nhOST:a.test:81\r\n\r\n", "a.test", 81, "/a"),
        ("GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", "a.test", 80, "/"),
        ("GET HTTP://a.test?q HTTP/1.1\r\nHost: a.test:80\r\n\r\n", "a.test", 80, "/?q"),
        ("GET http://a.test/ HTTP/1.0\r\n\r\n", "a.test", 80, "/"),
        ("GET http://[::1]:8/ HTTP/1.1\r\nHost: [::1]:8\r\n\r\n", "::1", 8, "/"),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "a.test", 443, ""),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "a.test", 443, ""),
        ("CONNECT a.test:443 HTTP/1.0\r\n\r\n", "a.test", 443, ""),
    ] {
        let request = parsed(head);
        assert_eq!((request.host.as_str(), request.port), (host, port), "{head}");
        assert_eq!(request.target, target, "{head}");
    }
}

#[test]
fn a_head_is_read_only_when_it_is_whole() {
    let head = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\nbody";
    for length in 0..head.len() - 4 {
        assert_eq!(read(&head[..length]), Ok(None), "{length}");
    }
    let (_, length) = read(head).unwrap().unwrap();
    assert_eq!(&head[length..], b"body");
}

#[test]
fn what_two_programs_could_read_in_two_ways_is_refused() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    for fields in [
        // Lengths.
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
        "Connection: close, Content-Length\r\nContent-Length: 5\r\n",
        "Connection: host\r\n",
        // Names and lines.
        "Transfer-Encoding : chunked\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " X: folded\r\n",
        "X: a\r\n b\r\n",
        "X: a\r\n\tTransfer-Encoding: chunked\r\n",
        "X: a\nTransfer-Encoding: chunked\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "X: a\r\r\n",
        "X: a\0b\r\n",
        "X: \u{b}a\r\n",
        "X: ü\r\n",
        "X\r\n",
        ": x\r\n",
        "X(): x\r\n",
        "Expect: 200-ok\r\n",
        // Hosts.
        "Host: a.test\r\n",
        "hosT: b.test\r\n",
    ] {
        assert_eq!(code(&with(fields)), "bad_request", "{fields:?}");
    }
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "\r\nGET / HTTP/1.1",
        "GET /\tx HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET /",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET a HTTP/1.1",
        "GET a.test/ HTTP/1.1",
        "GET https://a.test/ HTTP/1.1",
        "GET ftp://a.test/ HTTP/1.1",
        "GET http:/a.test/ HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /ü HTTP/1.1",
        "get / HTTP/1.1",
        "G@T / HTTP/1.1",
        "ÜET / HTTP/1.1",
        "GET http://a.test:0/ HTTP/1.1",
        "GET http://a.test:/ HTTP/1.1",
        "GET http://::1/ HTTP/1.1",
        "CONNECT a.test HTTP/1.1",
        "CONNECT /a.test:443 HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        let found = code(&format!("{line}\r\nHost: a.test\r\n\r\n"));
        let wanted = if line.starts_with("CONNECT /") { "bad_host" } else { "bad_request" };
        assert_eq!(found, wanted, "{line}");
    }
    assert_eq!(code("GET / HTTP/1.1\r\n\r\n"), "bad_request");
    assert_eq!(code("GET http://a.test/ HTTP/1.1\r\n\r\n"), "bad_request");
    assert_eq!(code("GET / HTTP/1.0\r\n\r\n"), "bad_request");
    assert_eq!(
        code("POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "bad_request"
    );
    assert_eq!(
        code("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n"),
        "bad_request"
    );
}

#[test]
fn a_request_that_asks_for_an_echo_is_refused() {
    for method in ["TRACE", "TRACK"] {
        let head = format!("{method} http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(code(&head), "bad_request", "{method}");
    }
}

#[test]
fn a_host_field_that_names_another_host_is_refused() {
    for head in [
        "GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test:81\r\n\r\n",
        "GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test.b.test\r\n\r\n",
        "CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n",
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
    ] {
        assert_eq!(code(head), "host_mismatch", "{head}");
    }
    for head in [
        "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x@a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test/\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n",
        "GET http://a.test@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://a.test\\@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http:///a HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        assert_eq!(code(head), "bad_host", "{head}");
    }
}

#[test]
fn a_head_has_bounds() {
    let fields = |count: usize| "x: y\r\n".repeat(count - 1);
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    assert_eq!(parsed(&head(&fields(HEADERS_MAX))).headers.len(), HEADERS_MAX - 1);
    assert_eq!(read(head(&fields(HEADERS_MAX + 1)).as_bytes()), Err(HeadError::TooLarge));
    let long = |length: usize| head(&format!("x: {}\r\n", "y".repeat(length - 37)));
    assert_eq!(long(HEAD_BYTES_MAX).len(), HEAD_BYTES_MAX);
    parsed(&long(HEAD_BYTES_MAX));
    let too_long = long(HEAD_BYTES_MAX + 1);
    assert_eq!(read(too_long.as_bytes()), Err(HeadError::TooLarge));
    assert_eq!(read(&too_long.as_bytes()[..HEAD_BYTES_MAX - 1]), Ok(None));
    let method = "A".repeat(33);
    assert_eq!(code(&format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n")), "bad_request");
}

#[test]
fn a_field_that_was_put_in_cannot_end_the_head() {
    let mut request = parsed("GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n");
    for (name, value) in
        [("x", "a\r\nhost: b"), ("x", "a\0"), ("x", "ü"), ("x y", "z"), ("", "z"), ("x:", "z")]
    {
        request.headers = vec![(name.to_owned(), value.to_owned())];
        assert_eq!(request.to_server(), Err(HeadError::Unsendable), "{name}: {value}");
    }
    assert!(request.to_proxy(Some("a\r\n")).is_err());
}
