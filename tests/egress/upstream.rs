//! Through the organisation's proxy: a small one that remembers, and Squid.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use agent_runtime::{domain::EgressLimits, egress::FetchError};

use super::{
    fetch::{fetch, request},
    servers::{Ca, Server, answer, read_request, thread},
    support::{World, assert_refused, connect, head, says, talk, tls},
};

/// A proxy that leads every tunnel to this server, and answers requests itself.
fn proxy(to: std::net::SocketAddr, status: &'static str) -> Server {
    Server::new(move |mut stream| {
        let bytes = {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            head
        };
        if !bytes.starts_with(b"CONNECT ") {
            stream.write_all(answer("200 OK", "", "from the proxy").as_bytes()).unwrap();
            return bytes;
        }
        write!(stream, "HTTP/1.1 {status}\r\nX: y\r\n\r\n").unwrap();
        if status.starts_with("200") {
            let mut server = TcpStream::connect(to).unwrap();
            let (mut up, mut down) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
            thread(move || {
                std::io::copy(&mut up, &mut server).ok();
                server.shutdown(std::net::Shutdown::Write).ok();
            });
            std::io::copy(&mut down, &mut stream).ok();
        }
        bytes
    })
}

fn world(proxy: &Server, ca: &Ca) -> World {
    let url = format!("http://user:p%40ss@127.0.0.1:{}", proxy.port());
    World::with(EgressLimits::default(), |options| {
        options.upstream = Some(url.parse().unwrap());
        options.extra_roots = vec![ca.certificate.clone()];
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_requests_and_fetches_go_through_the_upstream_proxy() {
    let ca = Ca::new();
    let server = Server::tls_echo(&ca);
    let through = proxy(server.addr, "200 OK");
    let world = world(&through, &ca);
    world.allow(&["allowed.test allow_private", "allowed.test:80 allow_private", "other.test"]);
    let (stream, _) = connect(world.proxy, "allowed.test:443");
    let mut stream = tls(stream, "allowed.test", &ca.certificate);
    assert!(says(&mut stream, "hello").unwrap());
    drop(stream);
    let got =
        talk(world.proxy, b"GET http://allowed.test/x HTTP/1.1\r\nHost: allowed.test\r\n\r\n");
    assert!(got.ends_with("from the proxy"), "{got}");
    let fetched = fetch(&world, request("http://allowed.test/y")).await.unwrap();
    assert_eq!(fetched.text(), "from the proxy");
    let seen = through.seen();
    // "user:p@ss"
    let authorization = "Basic dXNlcjpwQHNz";
    for (seen, first) in seen.iter().zip([
        "CONNECT allowed.test:443 ",
        "GET http://allowed.test/x ",
        "GET http://allowed.test/y ",
    ]) {
        assert!(seen.starts_with(first), "{seen}");
        assert!(
            seen.to_ascii_lowercase().contains(&format!(
                "\r\nproxy-authorization: {}\r\n",
                authorization.to_ascii_lowercase()
            )),
            "{seen}"
        );
    }
    // The address is checked here all the same, and what no rule allows never gets to the proxy.
    let ask = |host: &str| {
        talk(
            world.proxy,
            format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n").as_bytes(),
        )
    };
    assert_refused(&ask("other.test"), "address_refused");
    assert_refused(&ask("evil.test"), "not_listed");
    assert_eq!(through.count(), 3);
    let address = world.end().records[0].address;
    assert_eq!(address, None, "which address the proxy dialled is not known here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_a_failed_connection() {
    let ca = Ca::new();
    for status in ["407 Proxy Authentication Required", "503 Service Unavailable", "403 Forbidden"]
    {
        let through = proxy("127.0.0.1:1".parse().unwrap(), status);
        let world = world(&through, &ca);
        world.allow(&["allowed.test allow_private"]);
        let got = talk(
            world.proxy,
            b"CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n",
        );
        assert_refused(&got, "connect_failed");
        assert!(got.contains(status.split(' ').next().unwrap()), "{got}");
        let fetched = fetch(&world, request("https://allowed.test/")).await;
        assert!(matches!(fetched, Err(FetchError::Refused { .. })), "{fetched:?}");
    }
}

/// Squid as it comes, with rules by name.
struct Squid {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Squid {
    fn start(safe_port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let at = dir.path().display();
        let hosts = dir.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 allowed.test other.test\n").unwrap();
        let config = format!(
            "http_port 127.0.0.1:{port}\nhosts_file {}\npid_filename none\ncache deny all\n\
             access_log none\ncache_log {at}/cache.log\ncoredump_dir {at}\nnetdb_filename none\n\
             cache_store_log none\nshutdown_lifetime 0 seconds\npinger_enable off\n\
             acl listed dstdomain allowed.test\nacl safe port {safe_port}\n\
             http_access allow listed safe\nhttp_access deny all\n",
            hosts.display()
        );
        let file = dir.path().join("squid.conf");
        std::fs::write(&file, config).unwrap();
        // Squid gives up root for its own user, who must be able to write here.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        #[expect(clippy::disallowed_methods, reason = "a server of a test")]
        let mut command = std::process::Command::new("/usr/sbin/squid");
        command.args(["-N", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("squid is installed: ops/test.sh does that");
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(dir.path().join("cache.log")).unwrap_or_default();
            assert!(Instant::now() < until, "squid does not listen: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, port, _dir: dir }
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn squid_as_upstream_lets_through_what_it_lists_by_name() {
    let ca = Ca::new();
    let (server, plain) = (Server::tls_echo(&ca), Server::http(answer("200 OK", "", "plain")));
    let squid = Squid::start(server.port());
    let world = World::with(EgressLimits::default(), |options| {
        options.upstream = Some(format!("http://127.0.0.1:{}", squid.port).parse().unwrap());
        options.timeouts.connect = Duration::from_secs(10);
    });
    let port = server.port();
    world.allow(&[
        format!("allowed.test:{port} allow_private"),
        format!("other.test:{port} allow_private"),
        format!("allowed.test:{} allow_private", plain.port()),
    ]);
    let (stream, answer) = connect(world.proxy, &format!("allowed.test:{port}"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(says(&mut tls(stream, "allowed.test", &ca.certificate), "hello").unwrap());
    // Our rules allow these two, Squid's do not.
    let ask = |host: &str, port: u16| {
        talk(
            world.proxy,
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").as_bytes(),
        )
    };
    assert_refused(&ask("other.test", port), "connect_failed");
    assert_refused(&ask("allowed.test", plain.port()), "connect_failed");
    assert_eq!((server.count(), plain.count()), (1, 0));
    // A plain request is answered by Squid's own refusal.
    let mut stream = super::support::dial(world.proxy);
    write!(
        stream,
        "GET http://allowed.test:{0}/ HTTP/1.1\r\nHost: allowed.test:{0}\r\n\r\n",
        plain.port()
    )
    .unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 403 "));
    drop(read_request(&mut stream));
    assert_eq!(plain.count(), 0);
}
