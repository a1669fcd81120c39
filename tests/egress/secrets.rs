//! Secrets in headers: seen by the one place that each is bound to, and by nobody else.

use agent_runtime::{
    domain::{EgressLimits, HostName, Secret},
    egress::{BoundSecret, Reason},
};

use super::{
    fetch::{fetch, reason, request},
    servers::{Server, answer},
    support::{World, assert_refused, talk},
};

const VALUE: &str = "s3cret-value-1234";

fn world(server: &Server) -> World {
    world_with(server, true)
}

fn world_with(server: &Server, plain_http: bool) -> World {
    let port = server.port();
    World::with(EgressLimits::default(), |options| {
        options.secrets = vec![BoundSecret {
            name: "TOKEN".to_owned(),
            value: Secret::new(VALUE.to_owned()),
            host: HostName::parse("allowed.test").unwrap(),
            port,
            path_prefix: "/v1".to_owned(),
            plain_http,
        }];
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_becomes_its_value_only_where_it_is_bound() {
    let server = Server::http(answer("200 OK", "", "hi"));
    let port = server.port();
    let world = world(&server);
    world.allow(&[
        format!("allowed.test:{port} allow_private"),
        format!("other.test:{port} allow_private"),
    ]);
    let ask = |host: &str, path: &str, rest: &str| {
        let head =
            format!("GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n{rest}");
        talk(world.proxy, head.as_bytes())
    };
    let header = "X-Key: Bearer {{secret:TOKEN}}\r\n\r\n";
    assert!(ask("allowed.test", "/v1/x", header).starts_with("HTTP/1.1 200 "));
    assert!(
        server.seen()[0].contains(&format!("\r\nx-key: Bearer {VALUE}\r\n")),
        "{:?}",
        server.seen()
    );

    assert_refused(&ask("other.test", "/v1/x", header), "secret_misused");
    assert_refused(&ask("allowed.test", "/v2", header), "secret_misused");
    assert_refused(&ask("allowed.test", "/v1/../v2", header), "secret_misused");
    assert_refused(&ask("allowed.test", "/v1", "X: {{secret:OTHER}}\r\n\r\n"), "secret_misused");
    assert_refused(&ask("allowed.test", "/v1?k={{secret:TOKEN}}", "\r\n"), "secret_misused");
    assert_refused(
        &ask("allowed.test", "/v1", "Content-Length: 18\r\n\r\n{{secret:TOKEN}}!!"),
        "secret_misused",
    );
    let connect = format!(
        "CONNECT allowed.test:{port} HTTP/1.1\r\nHost: allowed.test:{port}\r\nX: {{{{secret:TOKEN}}}}\r\n\r\n"
    );
    assert_refused(&talk(world.proxy, connect.as_bytes()), "secret_misused");
    assert!(server.seen()[1..].iter().all(|seen| !seen.contains(VALUE) && !seen.contains("TOKEN")));

    let records = world.end().records;
    let named: Vec<usize> = records.iter().map(|record| record.secrets.len()).collect();
    assert_eq!(named, [1, 1, 1, 1, 1, 0, 0, 0], "{records:?}");
    assert!(!serde_json::to_string(&records).unwrap().contains(VALUE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_fills_placeholders_by_the_same_rule() {
    let server = Server::http(answer("200 OK", "", "hi"));
    let port = server.port();
    let world = world(&server);
    world.allow(&[
        format!("allowed.test:{port} allow_private"),
        format!("other.test:{port} allow_private"),
    ]);
    let with = |host: &str, path: &str| {
        let mut request = request(format!("http://{host}:{port}{path}"));
        request.headers = vec![("Authorization".to_owned(), "Bearer {{secret:TOKEN}}".to_owned())];
        request
    };
    fetch(&world, with("allowed.test", "/v1")).await.unwrap();
    assert!(server.seen()[0].contains(&format!("authorization: Bearer {VALUE}")));
    for request in [with("other.test", "/v1"), with("allowed.test", "/v2")] {
        assert_eq!(reason(fetch(&world, request).await), Reason::SecretMisused);
    }
    let mut in_body = request(format!("http://allowed.test:{port}/v1"));
    in_body.body = b"{{secret:TOKEN}}".to_vec();
    assert_eq!(reason(fetch(&world, in_body).await), Reason::SecretMisused);
    assert_eq!(server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_not_sent_in_clear_text_unless_its_binding_says_so() {
    let server = Server::http(answer("200 OK", "", "hi"));
    let to = format!("allowed.test:{}", server.port());
    let world = world_with(&server, false);
    world.allow(&[format!("{to} allow_private")]);
    let head =
        format!("GET http://{to}/v1 HTTP/1.1\r\nHost: {to}\r\nX: {{{{secret:TOKEN}}}}\r\n\r\n");
    assert_refused(&talk(world.proxy, head.as_bytes()), "secret_misused");
    let mut request = request(format!("http://{to}/v1"));
    request.headers = vec![("X-Key".to_owned(), "{{secret:TOKEN}}".to_owned())];
    assert_eq!(reason(fetch(&world, request).await), Reason::SecretMisused);
    assert_eq!(server.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_does_not_follow_a_redirect_to_another_host() {
    let target = Server::http(answer("200 OK", "", "there"));
    let location = format!("Location: http://other.test:{}/v1\r\n", target.port());
    let server = Server::http(answer("302 Found", &location, ""));
    let world = world(&server);
    world.allow(&[
        format!("allowed.test:{} allow_private", server.port()),
        format!("other.test:{} allow_private", target.port()),
    ]);
    let mut request = request(format!("http://allowed.test:{}/v1", server.port()));
    request.headers = vec![("X-Key".to_owned(), "{{secret:TOKEN}}".to_owned())];
    assert_eq!(fetch(&world, request).await.unwrap().text(), "there");
    assert!(server.seen()[0].contains(VALUE));
    assert!(!target.seen()[0].contains(VALUE) && !target.seen()[0].contains("x-key"));
}
