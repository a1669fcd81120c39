//! When connections end: with the call, the policy, the run, the daemon.

use std::{io::Read, net::TcpStream, time::Duration};

use super::{
    servers::Server,
    support::{World, agent, assert_refused, call_id, connect, dial, policy, rest, says, talk},
};

fn tunnel(world: &World, server: &Server) -> TcpStream {
    let (mut stream, answer) = connect(world.proxy, &format!("allowed.test:{}", server.port()));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(says(&mut stream, "up").unwrap());
    stream
}

/// Whether the other side has closed within two seconds.
fn is_cut(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_cuts_what_it_no_longer_allows_and_nothing_else() {
    let world = World::new();
    let (server, other) = (Server::echo(), Server::echo());
    let rules = [
        format!("allowed.test:{} allow_private opaque", server.port()),
        format!("other.test:{} allow_private opaque", other.port()),
    ];
    world.allow(&rules);
    let mut first = tunnel(&world, &server);
    let (mut second, _) = connect(world.proxy, &format!("other.test:{}", other.port()));
    // A change that takes nothing away cuts nothing.
    world.egress.set_policy(&agent(), policy(&[&rules[0], &rules[1], "more.test"], &[]));
    assert!(says(&mut first, "1").unwrap() && says(&mut second, "2").unwrap());
    world.egress.set_policy(&agent(), policy(&rules[..1], &[]));
    assert!(is_cut(&mut second));
    assert!(says(&mut first, "still").unwrap());
    world.egress.set_policy(&agent(), policy(&rules, &["allowed.test"]));
    assert!(is_cut(&mut first));
    assert_eq!(
        world.told(),
        [
            format!("connect other.test:{} not_listed", other.port()),
            format!("connect allowed.test:{} denied_by_rule", server.port()),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_cut_when_the_rule_that_is_left_grants_less_than_it_needs() {
    let world = World::new();
    let server = Server::echo();
    let host = format!("allowed.test:{}", server.port());
    let rules = [format!("{host} allow_private opaque")];
    for left in ["opaque", "allow_private"] {
        world.egress.set_policy(&agent(), policy(&rules, &[]));
        world.channel.begin(call_id(1), policy(&rules, &[]));
        let mut stream = tunnel(&world, &server);
        world.egress.set_policy(&agent(), policy(&[format!("{host} {left}")], &[]));
        assert!(is_cut(&mut stream), "{left}");
        let reason = if left == "opaque" { "address_refused" } else { "not_tls" };
        assert_eq!(world.told(), [format!("connect {host} {reason}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_added_while_a_call_runs_does_not_widen_that_call() {
    let world = World::new();
    let server = Server::echo();
    world.allow(&["nothing.test"]);
    let rules = [format!("allowed.test:{} allow_private opaque", server.port())];
    world.egress.set_policy(&agent(), policy(&rules, &[]));
    let authority = format!("allowed.test:{}", server.port());
    let (_, answer) = connect(world.proxy, &authority);
    assert!(answer.contains("x-egress-reason: not_listed"), "{answer}");
    // The next call has it.
    world.channel.begin(call_id(2), policy(&rules, &[]));
    tunnel(&world, &server);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_call_cuts_its_connections_and_between_calls_nothing_passes() {
    let world = World::new();
    let server = Server::echo();
    let rule = format!("allowed.test:{} allow_private opaque", server.port());
    let request = format!(
        "CONNECT allowed.test:{0} HTTP/1.1\r\nHost: allowed.test:{0}\r\n\r\n",
        server.port()
    );
    world.egress.set_policy(&agent(), policy(&[&rule], &[]));
    assert_refused(&talk(world.proxy, request.as_bytes()), "closed");
    world.allow(&[&rule]);
    let mut stream = tunnel(&world, &server);
    let mut waiting = dial(world.proxy);
    assert_eq!(world.told().len(), 1);
    assert!(is_cut(&mut stream));
    assert!(is_cut(&mut waiting));
    assert_refused(&talk(world.proxy, request.as_bytes()), "closed");
    world.allow(&[&rule]);
    // Held open: a tunnel makes its record when it ends.
    let _open = tunnel(&world, &server);
    let calls: Vec<bool> = world.records().iter().map(|record| record.call_id.is_some()).collect();
    assert_eq!(calls, [false, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_policy_reaches_nothing() {
    let world = World::new();
    let server = Server::echo();
    let rules = [format!("allowed.test:{} allow_private opaque", server.port())];
    world.channel.begin(call_id(1), policy(&rules, &[]));
    let authority = format!("allowed.test:{}", server.port());
    let (_, answer) = connect(world.proxy, &authority);
    assert!(answer.contains("x-egress-reason: no_policy"), "{answer}");
    assert_eq!(server.count(), 0);
    world.egress.set_policy(&agent(), policy(&rules, &[]));
    tunnel(&world, &server);
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_doors_are_closed() {
    let mut world = World::new();
    let server = Server::echo();
    world.allow(&[format!("allowed.test:{} allow_private opaque", server.port())]);
    tunnel(&world, &server);
    // The sandbox is gone: its sockets must be too, since they keep its network namespace.
    drop(world.serving.take());
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(world.proxy).is_ok() {
        assert!(tokio::time::Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_channel_and_stopping_hard_cut_everything() {
    for is_stop in [false, true] {
        let world = World::new();
        let server = Server::echo();
        world.allow(&[format!("allowed.test:{} allow_private opaque", server.port())]);
        let mut stream = tunnel(&world, &server);
        if is_stop {
            // The soft stop lets runs finish.
            world.stop.soft();
            assert!(says(&mut stream, "x").unwrap());
            world.stop.hard();
        } else {
            world.channel.close();
        }
        assert!(is_cut(&mut stream));
        let until = tokio::time::Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(world.proxy).is_ok() {
            assert!(tokio::time::Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(world.records().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_makes_no_record() {
    let world = World::new();
    world.allow(&["allowed.test"]);
    let mut silent = dial(world.proxy);
    silent.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut silent), "");
    assert_eq!(world.told(), [""; 0]);
}
