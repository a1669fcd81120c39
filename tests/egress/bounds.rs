//! Bounds: quotas of a run, clients that are slow, huge or many, and what all this costs.

use std::{
    io::{Read, Write},
    time::Duration,
};

use tokio::time::Instant;

use agent_runtime::domain::EgressLimits;

use super::{
    servers::{Server, answer},
    support::{World, assert_refused, connect, dial, rest, says, talk},
};

fn get(world: &World, port: u16) -> String {
    let request =
        format!("GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n");
    talk(world.proxy, request.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_requests_are_counted_over_the_whole_run() {
    let server = Server::http(answer("200 OK", "", "hi"));
    let port = server.port();
    for (limits, reason) in [
        (EgressLimits { connections: 2, ..EgressLimits::default() }, "quota_connections"),
        (EgressLimits { requests: 2, ..EgressLimits::default() }, "quota_requests"),
    ] {
        let world = World::with(limits, |_| {});
        let rules = [format!("allowed.test:{port} allow_private")];
        world.allow(&rules);
        assert!(get(&world, port).starts_with("HTTP/1.1 200 "));
        // Another call of the same run goes on counting.
        world.allow(&rules);
        assert!(get(&world, port).starts_with("HTTP/1.1 200 "));
        assert_refused(&get(&world, port), reason);
        world.allow(&rules);
        assert_refused(&get(&world, port), reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_bounded_at_once_and_free_again_when_they_close() {
    let world = World::with(EgressLimits { tunnels: 2, ..EgressLimits::default() }, |_| {});
    let server = Server::echo();
    let authority = format!("allowed.test:{}", server.port());
    world.allow(&[format!("{authority} allow_private opaque")]);
    let (mut first, _) = connect(world.proxy, &authority);
    let (mut second, _) = connect(world.proxy, &authority);
    assert!(says(&mut first, "1").unwrap() && says(&mut second, "2").unwrap());
    let (_, refused) = connect(world.proxy, &authority);
    assert!(refused.contains("x-egress-reason: quota_tunnels"), "{refused}");
    drop(first);
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let (mut third, granted) = connect(world.proxy, &authority);
        if granted.starts_with("HTTP/1.1 200 ") {
            assert!(says(&mut third, "3").unwrap());
            break;
        }
        assert!(Instant::now() < until, "{granted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_beyond_its_bytes_is_cut() {
    for (limits, reason) in [
        (EgressLimits { bytes_up: 100_000, ..EgressLimits::default() }, "quota_bytes_up"),
        (EgressLimits { bytes_down: 100_000, ..EgressLimits::default() }, "quota_bytes_down"),
    ] {
        let world = World::with(limits, |_| {});
        let server = Server::echo();
        let authority = format!("allowed.test:{}", server.port());
        world.allow(&[format!("{authority} allow_private opaque")]);
        let (mut stream, _) = connect(world.proxy, &authority);
        // Beneath the bound everything passes.
        assert!(says(&mut stream, &"x".repeat(50_000)).unwrap());
        let mut writer = stream.try_clone().unwrap();
        super::servers::thread(move || {
            for _ in 0..100 {
                if writer.write_all(&[b'y'; 10_000]).is_err() {
                    break;
                }
            }
        });
        assert!(rest(&mut stream).len() <= 50_000);
        let (_, refused) = connect(world.proxy, &authority);
        drop(refused);
        let records = world.end().records;
        let cut = &records[0];
        assert_eq!((cut.allowed, cut.reason.as_str()), (false, reason), "{records:?}");
        assert!(cut.bytes_down <= 100_000, "{cut:?}");
        if reason == "quota_bytes_up" {
            assert_eq!(cut.bytes_up, 100_000);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_is_cut_off_in_time_and_size() {
    let world = World::new();
    let server = Server::http(answer("200 OK", "", "hi"));
    let port = server.port();
    world.allow(&[format!("allowed.test:{port} allow_private")]);
    let begun = Instant::now();
    let mut slow = dial(world.proxy);
    slow.write_all(format!("GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: ").as_bytes())
        .unwrap();
    // One byte now and then does not help.
    let mut drip = slow.try_clone().unwrap();
    super::servers::thread(move || {
        while drip.write_all(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_refused(&rest(&mut slow), "bad_request");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let huge = format!(
        "GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\nX: {}\r\n\r\n",
        "y".repeat(40_000)
    );
    assert_refused(&talk(world.proxy, huge.as_bytes()), "bad_request");
    let many = format!(
        "GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n{}\r\n",
        "A: b\r\n".repeat(200)
    );
    assert_refused(&talk(world.proxy, many.as_bytes()), "bad_request");
    assert_eq!(server.count(), 0);
    assert!(get(&world, port).starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_where_nothing_moves_is_closed() {
    let world = World::with(EgressLimits::default(), |options| {
        options.timeouts.idle = Duration::from_millis(500);
    });
    let server = Server::echo();
    let authority = format!("allowed.test:{}", server.port());
    world.allow(&[format!("{authority} allow_private opaque")]);
    let (mut stream, _) = connect(world.proxy, &authority);
    for _ in 0..4 {
        assert!(says(&mut stream, "still here").unwrap());
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(rest(&mut stream), "");
    assert_eq!(world.told(), [format!("connect {authority} allowed")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_everything_still_gets_the_answer() {
    let world = World::new();
    let server = Server::new(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(b"late answer").unwrap();
        all
    });
    let authority = format!("allowed.test:{}", server.port());
    world.allow(&[format!("{authority} allow_private opaque")]);
    let (mut stream, _) = connect(world.proxy, &authority);
    stream.write_all(b"question").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), "late answer");
    assert_eq!(server.seen(), ["question"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_run_leaves_another_run_untouched() {
    let world = World::with(EgressLimits::default(), |options| {
        options.timeouts.head = Duration::from_secs(10);
    });
    let server = Server::http(answer("200 OK", "", "hi"));
    let port = server.port();
    world.allow(&[format!("allowed.test:{port} allow_private")]);
    // As many as the run may have waiting, and more.
    let waiting: Vec<_> = (0..200).map(|_| dial(world.proxy)).collect();
    let other =
        world.egress.open(super::support::agent(), "run_1".to_owned(), EgressLimits::default());
    let tcp = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let doors = agent_runtime::egress::Doors {
        proxy: tcp(),
        http: tcp(),
        https: tcp(),
        dns: std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
    };
    let proxy = doors.proxy.local_addr().unwrap();
    let serving = other.listen(doors).unwrap();
    other.begin(
        super::support::call_id(2),
        super::support::policy(&[format!("allowed.test:{port} allow_private")], &[]),
    );
    let begun = Instant::now();
    let request =
        format!("GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n");
    assert!(talk(proxy, request.as_bytes()).starts_with("HTTP/1.1 200 "));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // 32 open ones and 64 that wait are the run's bound.
    let refused = || world.records().iter().filter(|r| r.reason == "quota_tunnels").count();
    let until = Instant::now() + Duration::from_secs(5);
    while refused() < 200 - 96 {
        assert!(Instant::now() < until, "{}", refused());
        std::thread::sleep(Duration::from_millis(10));
    }
    drop((serving, waiting));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_bytes_are_cheap() {
    const BYTES: usize = 64 << 20;
    let world = World::new();
    let server = Server::echo();
    let authority = format!("allowed.test:{}", server.port());
    world.allow(&[format!("{authority} allow_private opaque")]);
    let begun = Instant::now();
    for _ in 0..200 {
        let answer =
            talk(world.proxy, b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n");
        assert_refused(&answer, "not_listed");
    }
    println!("a refusal takes {:?}", begun.elapsed() / 200);

    let (mut stream, _) = connect(world.proxy, &authority);
    let mut writer = stream.try_clone().unwrap();
    let begun = Instant::now();
    super::servers::thread(move || {
        let piece = vec![7; 64 << 10];
        for _ in 0..(BYTES - (1 << 20)) / piece.len() {
            writer.write_all(&piece).unwrap();
        }
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut bytes = 0;
    let mut buffer = vec![0; 256 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes += read;
    }
    assert_eq!(bytes, BYTES - (1 << 20));
    let secs = begun.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(bytes >> 10).unwrap()) / 1024.0 / secs;
    println!("a tunnel moves {rate:.0} MiB/s in each direction, there and back");
    assert!(rate > 5.0, "{rate}");
}
