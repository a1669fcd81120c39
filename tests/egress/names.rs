//! Names and addresses: spellings, look-alikes, rebinding, the metadata address, and the sandbox's
//! name server.

use agent_runtime::{
    domain::{EgressLimits, HostName},
    egress::{Destination, Reason},
};
use hickory_proto::{op::ResponseCode, rr::RecordType};

use super::{
    servers::Server,
    support::{World, agent, assert_refused, connect, look_up, says, talk},
};

fn ask(world: &World, host: &str, port: u16) -> String {
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    talk(world.proxy, request.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_an_address_gets_through() {
    let world = World::new();
    let server = Server::echo();
    let port = server.port();
    // Every name is allowed, with private addresses: only IP literals are not meant.
    world.allow(&[format!("*:{port} allow_private opaque")]);
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[::1%25lo]",
        "::1",
        "0",
        "0.0.0.0",
        "127.000.000.001",
        "①②⑦.0.0.1",
        "127。0。0。1",
    ] {
        let got = ask(&world, host, port);
        assert!(got.starts_with("HTTP/1.1 403 "), "{host}: {got}");
    }
    assert_eq!(server.count(), 0);
    // The controls: a name that leads there, and a rule that names the address.
    let (mut stream, _) = connect(world.proxy, &format!("allowed.test:{port}"));
    assert!(says(&mut stream, "x").unwrap());
    world.allow(&[format!("127.0.0.1:{port} allow_private opaque")]);
    let (mut stream, _) = connect(world.proxy, &format!("127.0.0.1:{port}"));
    assert!(says(&mut stream, "x").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_look_alike_are_other_names() {
    let world = World::new();
    let server = Server::echo();
    let port = server.port();
    for name in [
        "evilallowed.test",
        "allowed.test.evil.test",
        "xn--allowed-9fb.test",
        "wild.test",
        "awild.test",
        "a.b.wild.test",
    ] {
        world.dns.set(name, &[&["127.0.0.1"]]);
    }
    world.allow(&[
        format!("allowed.test:{port} allow_private opaque"),
        format!("*.wild.test:{port} allow_private opaque"),
    ]);
    for host in [
        "evilallowed.test",
        "allowed.test.evil.test",
        "xn--allowed-9fb.test",
        "wild.test",
        "awild.test",
        "allowed-test",
        "allowed.tes",
        "llowed.test",
        ".allowed.test",
        "allowed..test",
        "allowed.test..",
        "allowed.test%00.evil.test",
        "allowed.test\0",
        "аllowed.test",
        "allowed.test@evil.test",
    ] {
        let got = ask(&world, host, port);
        assert!(got.starts_with("HTTP/1.1 403 "), "{host}: {got}");
    }
    assert_eq!(server.count(), 0);
    for host in ["allowed.test", "ALLOWED.test.", "a.wild.test", "a.b.wild.test"] {
        let (mut stream, _) = connect(world.proxy, &format!("{host}:{port}"));
        assert!(says(&mut stream, "x").unwrap(), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_address_refuses_the_name() {
    let world = World::new();
    let server = Server::echo();
    let port = server.port();
    let public = "93.184.215.14";
    world.dns.set("mixed.test", &[&[public, "127.0.0.1"]]);
    world.dns.set("six.test", &[&[public, "::ffff:127.0.0.1"]]);
    world.dns.set("local6.test", &[&["::1"]]);
    world.dns.set("private.test", &[&["10.0.0.1"]]);
    world.dns.set("cgnat.test", &[&["100.64.0.1"]]);
    world.dns.set("metadata.test", &[&["169.254.169.254"]]);
    let hosts = ["allowed", "mixed", "six", "local6", "private", "cgnat", "metadata"];
    world.allow(&hosts.map(|host| format!("{host}.test:{port} opaque")));
    for host in hosts {
        assert_refused(&ask(&world, &format!("{host}.test"), port), "address_refused");
    }
    // What holds credentials is refused even where private networks are allowed.
    world.allow(&[
        format!("metadata.test:{port} allow_private opaque"),
        format!("169.254.169.254:{port} allow_private opaque"),
        format!("allowed.test:{port} allow_private opaque"),
    ]);
    for host in ["metadata.test", "169.254.169.254"] {
        assert_refused(&ask(&world, host, port), "address_refused");
    }
    assert_eq!(server.count(), 0);
    let (mut stream, _) = connect(world.proxy, &format!("allowed.test:{port}"));
    assert!(says(&mut stream, "x").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_changes_its_address_is_checked_each_time() {
    let world = World::new();
    let server = Server::echo();
    let port = server.port();
    // Public when it is looked up first, this machine afterwards.
    world.dns.set("rebind.test", &[&["93.184.215.14"], &["127.0.0.1"]]);
    world.allow(&[format!("rebind.test:{port} opaque")]);
    let (code, addresses) = look_up(world.dns_door, "rebind.test.", RecordType::A);
    assert_eq!((code, addresses), (ResponseCode::NoError, vec!["93.184.215.14".to_owned()]));
    assert_refused(&ask(&world, "rebind.test", port), "address_refused");
    assert_eq!(server.count(), 0);
    // The control: where private addresses are allowed, the second answer leads to the server.
    world.allow(&[format!("rebind.test:{port} allow_private opaque")]);
    let (mut stream, _) = connect(world.proxy, &format!("rebind.test:{port}"));
    assert!(says(&mut stream, "x").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_server_answers_allowed_names_and_passes_nothing_on() {
    let world = World::new();
    world.dns.set("six.test", &[&["2606:2800:21f:cb07::1"]]);
    world.allow(&[
        "allowed.test allow_private",
        "six.test",
        "absent.test",
        "*.wild.test allow_private",
    ]);
    let door = world.dns_door;
    let found = |name: &str, kind| look_up(door, name, kind);
    let address = vec!["127.0.0.1".to_owned()];
    assert_eq!(found("allowed.test.", RecordType::A), (ResponseCode::NoError, address.clone()));
    assert_eq!(found("a.WILD.test.", RecordType::A), (ResponseCode::NoError, address));
    assert_eq!(found("absent.test.", RecordType::A), (ResponseCode::NXDomain, vec![]));
    assert_eq!(found("six.test.", RecordType::A), (ResponseCode::NoError, vec![]));
    let asked = world.dns.asked();
    for kind in
        [RecordType::AAAA, RecordType::TXT, RecordType::MX, RecordType::SRV, RecordType::NULL]
    {
        assert_eq!(found("allowed.test.", kind), (ResponseCode::NoError, vec![]), "{kind}");
    }
    // What would carry data out in a name: nobody hears of it.
    for name in [
        "c2VjcmV0.evil.test.",
        "c2VjcmV0.allowed.test.",
        "evil.test.",
        "localhost.",
        "1.0.0.127.in-addr.arpa.",
        "127.0.0.1.",
    ] {
        for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT] {
            assert_eq!(found(name, kind), (ResponseCode::Refused, vec![]), "{name} {kind}");
        }
    }
    assert_eq!(world.dns.asked(), asked, "nothing reached the server behind");
    assert!(
        asked.iter().all(|question| ["A", "AAAA"].contains(&question.split(' ').nth(1).unwrap()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_a_private_address_is_not_told_either() {
    let world = World::new();
    world.allow(&["allowed.test"]);
    let found = look_up(world.dns_door, "allowed.test.", RecordType::A);
    assert_eq!(found, (ResponseCode::Refused, vec![]));
    assert_eq!(world.told(), ["dns allowed.test:53 address_refused"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_bounded_per_minute() {
    let limits = EgressLimits { names_per_minute: 3, ..EgressLimits::default() };
    let world = World::with(limits, |_| {});
    world.allow(&["allowed.test allow_private"]);
    for n in 0..6 {
        let (code, _) = look_up(world.dns_door, "allowed.test.", RecordType::A);
        let wanted = if n < 3 { ResponseCode::NoError } else { ResponseCode::Refused };
        assert_eq!(code, wanted, "{n}");
    }
    let allowed = "dns allowed.test:53 allowed";
    assert_eq!(world.told(), [allowed, allowed, allowed, "dns allowed.test:53 quota_names"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_bounded_at_the_doors_that_look_them_up_too() {
    let server = Server::echo();
    let port = server.port();
    let limits = EgressLimits { names_per_minute: 3, ..EgressLimits::default() };
    let world = World::with(limits, |options| {
        let pinned = (HostName::parse("pinned.wild.test").unwrap(), port);
        options.connect_to.insert(pinned, ([127, 0, 0, 1], port).into());
    });
    let rule = "*.wild.test allow_private opaque";
    world.allow(&[rule, &rule.replace(" a", &format!(":{port} a"))]);
    // As a tool does it: it asks the name server, then connects, again and again.
    look_up(world.dns_door, "0.wild.test.", RecordType::A);
    for (name, wanted) in [
        ("0", "no_address"),
        ("0", "no_address"),
        ("1", "no_address"),
        ("2", "no_address"),
        ("c2VjcmV0", "quota_names"),
        ("2", "no_address"),
    ] {
        let (_, answer) = connect(world.proxy, &format!("{name}.wild.test:443"));
        assert!(answer.contains(&format!("x-egress-reason: {wanted}\r\n")), "{name}: {answer}");
    }
    let asked = world.dns.asked();
    assert!(asked.iter().all(|question| !question.contains("c2vjcmv0")), "{asked:?}");
    // Where the operator said where to dial, nothing is asked.
    let (mut stream, _) = connect(world.proxy, &format!("pinned.wild.test:{port}"));
    assert!(says(&mut stream, "x").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_unlisted_name_is_looked_up_whatever_the_door() {
    let world = World::new();
    world.allow(&["allowed.test allow_private"]);
    ask(&world, "c2VjcmV0.evil.test", 443);
    talk(world.http, b"GET / HTTP/1.1\r\nHost: c2VjcmV0.evil.test\r\n\r\n");
    let to = Destination { host: "c2VjcmV0.evil.test".to_owned(), port: 443, request: None };
    assert_eq!(world.egress.explain(&agent(), &to).await.decision, Err(Reason::NotListed));
    assert_eq!(world.dns.asked(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_says_rule_and_addresses_and_connects_to_nothing() {
    let world = World::new();
    let server = Server::echo();
    let port = server.port();
    world.dns.set("mixed.test", &[&["93.184.215.14", "10.0.0.1"]]);
    let rule = format!("allowed.test:{port} allow_private");
    world.allow(&[rule.clone(), "mixed.test".to_owned()]);
    let explain = |host: &str, port| {
        let to = Destination { host: host.to_owned(), port, request: None };
        let egress = world.egress.clone();
        async move { egress.explain(&agent(), &to).await }
    };
    let told = explain("ALLOWED.test.", port).await;
    assert_eq!((told.host.as_str(), told.decision), ("allowed.test", Ok(rule)));
    assert_eq!(told.addresses, [("127.0.0.1".parse().unwrap(), None)]);
    let told = explain("mixed.test", 443).await;
    assert_eq!(told.decision, Err(Reason::AddressRefused));
    let refused: Vec<bool> = told.addresses.iter().map(|(_, why)| why.is_some()).collect();
    assert_eq!(refused, [false, true]);
    let told = explain("other.test", 443).await;
    assert!(
        told.text.contains("agent-runtime egress add other.test --agent helper"),
        "{}",
        told.text
    );
    assert_eq!(explain("0x7f.1", 443).await.decision, Err(Reason::BadHost));
    assert_eq!(server.count(), 0);
}
