//! The daemon's own requests, for the tool `http_request`.

use std::{io::Write, net::SocketAddr, time::Duration};

use agent_runtime::{
    domain::{EgressLimits, HostName},
    egress::{FetchError, FetchRequest, FetchResponse, Reason},
};
use tokio_util::sync::CancellationToken;

use super::{
    servers::{Ca, Server, answer, read_request},
    support::World,
};

pub(crate) fn request(url: impl Into<String>) -> FetchRequest {
    FetchRequest {
        method: "GET".to_owned(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: Duration::from_secs(10),
        response_bytes_max: 1 << 20,
        same_host_only: false,
    }
}

pub(crate) async fn fetch(
    world: &World,
    request: FetchRequest,
) -> Result<FetchResponse, FetchError> {
    world.channel.fetch(request, CancellationToken::new()).await
}

pub(crate) fn reason(fetched: Result<FetchResponse, FetchError>) -> Reason {
    match fetched {
        Err(FetchError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A world that trusts this authority and finds these hosts at their usual ports.
fn world(ca: &Ca, leads: &[(&str, u16, SocketAddr)]) -> World {
    let leads = leads.iter().map(|(host, port, to)| ((HostName::parse(host).unwrap(), *port), *to));
    let connect_to = leads.collect();
    World::with(EgressLimits::default(), |options| {
        options.connect_to = connect_to;
        options.extra_roots = vec![ca.certificate.clone()];
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_fetched_over_tls_and_its_server_is_verified() {
    let ca = Ca::new();
    let server = Server::https(&ca, answer("200 OK", "X-A: b\r\n", "hello"));
    let leads = [("allowed.test", 443, server.addr), ("wrong.test", 443, server.addr)];
    let trusting = world(&ca, &leads);
    trusting.allow(&["allowed.test allow_private", "wrong.test allow_private"]);
    let got = fetch(&trusting, request("https://allowed.test/a?b=c")).await.unwrap();
    assert_eq!(
        (got.status, got.body.as_slice(), got.truncated, got.hops),
        (200, &b"hello"[..], false, 0)
    );
    assert_eq!(got.final_url, "https://allowed.test/a?b=c");
    assert!(got.headers.contains(&("x-a".to_owned(), "b".to_owned())));
    let sent = &server.seen()[0];
    assert!(sent.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{sent}");
    assert!(
        sent.contains("\r\nhost: allowed.test\r\n") && sent.contains("accept-encoding: identity"),
        "{sent}"
    );
    // A name that the certificate does not hold; an authority that is not trusted.
    assert!(matches!(
        fetch(&trusting, request("https://wrong.test/")).await,
        Err(FetchError::Tls { .. })
    ));
    let told = trusting.end().records;
    assert_eq!(super::support::told(&told[0]), "fetch allowed.test:443 GET allowed");
    assert!(!serde_json::to_string(&told).unwrap().contains("b=c"));
    let wary = world(&Ca::new(), &leads);
    wary.allow(&["allowed.test allow_private"]);
    assert!(matches!(
        fetch(&wary, request("https://allowed.test/")).await,
        Err(FetchError::Tls { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_allows_is_not_fetched() {
    let world = World::new();
    let server = Server::http(answer("200 OK", "", "hello"));
    let port = server.port();
    world.allow(&[format!("allowed.test:{port} methods=GET path=/v1 allow_private")]);
    assert!(fetch(&world, request(format!("http://allowed.test:{port}/v1/x"))).await.is_ok());
    let refused = |url: String| async { reason(fetch(&world, request(url)).await) };
    assert_eq!(refused(format!("http://other.test:{port}/v1")).await, Reason::NotListed);
    assert_eq!(refused("http://allowed.test/v1".to_owned()).await, Reason::NotListed);
    assert_eq!(refused(format!("http://allowed.test:{port}/v2")).await, Reason::PathNotAllowed);
    assert_eq!(refused(format!("http://127.1:{port}/v1")).await, Reason::BadHost);
    assert_eq!(refused(format!("http://127.0.0.1:{port}/v1")).await, Reason::NotListed);
    let unlisted = FetchRequest {
        method: "POST".to_owned(),
        ..request(format!("http://allowed.test:{port}/v1"))
    };
    assert_eq!(reason(fetch(&world, unlisted).await), Reason::MethodNotAllowed);
    assert_eq!(server.count(), 1);
    world.end();
    let url = format!("http://allowed.test:{port}/v1");
    assert_eq!(reason(fetch(&world, request(url)).await), Reason::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_redirect_is_decided_again() {
    let world = World::new();
    let target = Server::http(answer("200 OK", "", "there"));
    let to =
        |url: String| Server::http(answer("302 Found", &format!("Location: {url}\r\n"), "moved"));
    let good = to(format!("http://other.test:{}/x", target.port()));
    let evil = to(format!("http://evil.test:{}/x", target.port()));
    let local = to(format!("http://127.0.0.1:{}/x", target.port()));
    let metadata = to("http://169.254.169.254/latest/meta-data/".to_owned());
    let rule = |host: &str, server: &Server| format!("{host}:{} allow_private", server.port());
    world.allow(&[
        rule("allowed.test", &good),
        rule("allowed.test", &evil),
        rule("allowed.test", &local),
        rule("allowed.test", &metadata),
        rule("other.test", &target),
    ]);
    let from = |server: &Server| {
        let mut request = request(format!("http://allowed.test:{}/", server.port()));
        request.headers = vec![
            ("Authorization".to_owned(), "Bearer x".to_owned()),
            ("X-B".to_owned(), "c".to_owned()),
        ];
        request
    };
    let got = fetch(&world, from(&good)).await.unwrap();
    assert_eq!((got.text().as_ref(), got.hops), ("there", 1));
    assert_eq!(got.final_url, format!("http://other.test:{}/x", target.port()));
    assert!(good.seen()[0].contains("authorization: Bearer x"));
    assert!(!target.seen()[0].contains("authorization") && target.seen()[0].contains("x-b: c"));
    for server in [&evil, &local, &metadata] {
        assert_eq!(reason(fetch(&world, from(server)).await), Reason::NotListed);
    }
    assert_eq!(target.count(), 1);
    // Every hop has its record.
    assert_eq!(world.told().len(), 2 + 3 * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_elsewhere_is_the_answer_where_one_destination_was_agreed_to() {
    let world = World::new();
    let target = Server::http(answer("200 OK", "", "there"));
    let location = format!("Location: http://other.test:{}/x\r\n", target.port());
    let first = Server::http(answer("307 Temporary Redirect", &location, "moved"));
    let rule = |host: &str, server: &Server| format!("{host}:{} allow_private", server.port());
    world.allow(&[rule("allowed.test", &first), rule("other.test", &target)]);
    let plain = || request(format!("http://allowed.test:{}/", first.port()));
    let post = FetchRequest { method: "POST".to_owned(), body: b"private".to_vec(), ..plain() };
    for asked in [post, FetchRequest { same_host_only: true, ..plain() }] {
        let got = fetch(&world, asked).await.unwrap();
        assert_eq!((got.status, got.text().as_ref(), got.hops), (307, "moved", 0));
        assert!(got.unfollowed);
        assert_eq!(target.count(), 0);
    }
    let got = fetch(&world, plain()).await.unwrap();
    assert_eq!((got.text().as_ref(), got.hops, got.unfollowed), ("there", 1, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_do_not_go_on_for_ever_nor_down_to_plain_http() {
    let ca = Ca::new();
    let down = Server::https(&ca, answer("302 Found", "Location: http://allowed.test/\r\n", ""));
    let round = Server::https(&ca, answer("302 Found", "Location: /again\r\n", ""));
    let plain = Server::http(answer("200 OK", "", "plain"));
    let leads = [
        ("allowed.test", 443, down.addr),
        ("other.test", 443, round.addr),
        ("allowed.test", 80, plain.addr),
    ];
    let world = world(&ca, &leads);
    world.allow(&[
        "allowed.test allow_private",
        "other.test allow_private",
        "allowed.test:80 allow_private",
    ]);
    let fetched = fetch(&world, request("https://allowed.test/")).await;
    assert!(matches!(fetched, Err(FetchError::Redirect { .. })), "{fetched:?}");
    let fetched = fetch(&world, request("https://other.test/")).await;
    assert!(matches!(fetched, Err(FetchError::Redirect { .. })), "{fetched:?}");
    assert_eq!((down.count(), round.count(), plain.count()), (1, 6, 0));
    assert_eq!(fetch(&world, request("http://allowed.test/")).await.unwrap().text(), "plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_bounded_in_bytes_and_time() {
    let world = World::new();
    let big = Server::http(answer("200 OK", "", &"x".repeat(100_000)));
    let silent = Server::new(|mut stream| {
        let request = read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
        std::thread::sleep(Duration::from_secs(15));
        request
    });
    let broken = Server::http("no http at all\r\n\r\n");
    let rule = |server: &Server| format!("allowed.test:{} allow_private", server.port());
    world.allow(&[rule(&big), rule(&silent), rule(&broken)]);
    let url = |server: &Server| format!("http://allowed.test:{}/", server.port());

    let got = fetch(&world, FetchRequest { response_bytes_max: 1_000, ..request(url(&big)) })
        .await
        .unwrap();
    assert_eq!((got.body.len(), got.truncated), (1_000, true));
    let got = fetch(&world, FetchRequest { response_bytes_max: 100_000, ..request(url(&big)) })
        .await
        .unwrap();
    assert_eq!((got.body.len(), got.truncated), (100_000, false));
    let late =
        fetch(&world, FetchRequest { timeout: Duration::from_secs(1), ..request(url(&silent)) })
            .await;
    assert!(matches!(late, Err(FetchError::Timeout { secs: 1 })), "{late:?}");
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = world.channel.fetch(request(url(&silent)), stop).await;
    assert!(matches!(stopped, Err(FetchError::Stopped)), "{stopped:?}");
    let fetched = fetch(&world, request(url(&broken))).await;
    assert!(matches!(fetched, Err(FetchError::Broken { .. })), "{fetched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_counts_against_the_run() {
    let limits = EgressLimits { requests: 1, bytes_down: 50_000, ..EgressLimits::default() };
    let world = World::with(limits, |_| {});
    let big = Server::http(answer("200 OK", "", &"x".repeat(100_000)));
    world.allow(&[format!("allowed.test:{} allow_private", big.port())]);
    let url = format!("http://allowed.test:{}/", big.port());
    let fetched = fetch(&world, request(&url)).await;
    assert_eq!(reason(fetched).as_str(), "quota_bytes_down");
    assert_eq!(reason(fetch(&world, request(&url)).await).as_str(), "quota_requests");
}
