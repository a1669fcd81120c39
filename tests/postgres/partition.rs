//! The bad network of these tests itself: each way of being bad is what it says.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use tokio::time::Instant;

use crate::support::partition::{Link, Partition};

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

/// Both ends of a connection through a link.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn through(link: &Partition, listener: &TcpListener) -> Self {
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).expect("connects");
        let (server, _) = listener.accept().expect("accepts");
        Self { client, server }
    }
}

/// Sends a byte one way; whether it came within the time, or how that ended.
fn passes(from: &mut TcpStream, to: &mut TcpStream, within: Duration) -> Result<bool, ErrorKind> {
    from.write_all(b"x").map_err(|error| error.kind())?;
    arrives(to, within)
}

fn arrives(to: &mut TcpStream, within: Duration) -> Result<bool, ErrorKind> {
    to.set_read_timeout(Some(within)).expect("a socket");
    match to.read(&mut [0]) {
        Ok(1) => Ok(true),
        Ok(_) => Err(ErrorKind::UnexpectedEof),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.kind()),
    }
}

fn listener() -> (TcpListener, Partition) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let link = Partition::before(listener.local_addr().expect("an address").port());
    (listener, link)
}

#[test]
fn what_was_lost_on_the_way_comes_when_the_way_is_open_again() {
    let (listener, link) = listener();
    let Pair { mut client, mut server } = Pair::through(&link, &listener);
    assert_eq!(passes(&mut client, &mut server, LONG), Ok(true));
    assert_eq!(passes(&mut server, &mut client, LONG), Ok(true));
    link.set(Link::Dropped);
    assert_eq!(passes(&mut client, &mut server, SHORT), Ok(false));
    assert_eq!(passes(&mut server, &mut client, SHORT), Ok(false));
    link.set(Link::Deaf);
    assert_eq!(arrives(&mut server, LONG), Ok(true), "requests come");
    assert_eq!(arrives(&mut client, SHORT), Ok(false), "answers do not");
    link.set(Link::Open);
    assert_eq!(arrives(&mut client, LONG), Ok(true));
}

#[test]
fn a_slow_way_is_late_each_time_and_loses_nothing() {
    let (listener, link) = listener();
    let Pair { mut client, mut server } = Pair::through(&link, &listener);
    link.set(Link::Slow(3 * SHORT));
    let begin = Instant::now();
    assert_eq!(passes(&mut client, &mut server, SHORT), Ok(false));
    assert_eq!(arrives(&mut server, LONG), Ok(true));
    assert_eq!(passes(&mut server, &mut client, LONG), Ok(true));
    assert!(begin.elapsed() >= 6 * SHORT, "{:?}", begin.elapsed());
}

#[test]
fn a_cut_is_told_to_both_ends_and_to_whoever_comes_next() {
    let (listener, link) = listener();
    let mut old = Pair::through(&link, &listener);
    link.set(Link::Cut);
    assert_eq!(arrives(&mut old.client, LONG), Err(ErrorKind::ConnectionReset));
    assert_eq!(arrives(&mut old.server, LONG), Err(ErrorKind::ConnectionReset));
    // It may be reset before the connection was seen to stand.
    if let Ok(mut new) = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())) {
        assert_eq!(arrives(&mut new, LONG), Err(ErrorKind::ConnectionReset));
    }
    link.set(Link::Open);
    let mut new = Pair::through(&link, &listener);
    assert_eq!(passes(&mut new.client, &mut new.server, LONG), Ok(true));
    link.terminate();
    assert_eq!(arrives(&mut new.client, LONG), Err(ErrorKind::ConnectionReset));
    let mut newer = Pair::through(&link, &listener);
    assert_eq!(passes(&mut newer.client, &mut newer.server, LONG), Ok(true));
}

#[test]
fn a_half_open_connection_is_over_for_the_server_only_and_a_stranded_one_for_nobody() {
    let (listener, link) = listener();
    let mut half = Pair::through(&link, &listener);
    link.half_open();
    assert_eq!(arrives(&mut half.server, LONG), Err(ErrorKind::UnexpectedEof));
    half.client.write_all(b"into the void").expect("it believes that it is connected");
    assert_eq!(arrives(&mut half.client, SHORT), Ok(false));
    let mut stranded = Pair::through(&link, &listener);
    assert_eq!(passes(&mut stranded.client, &mut stranded.server, LONG), Ok(true));
    link.strand();
    assert_eq!(passes(&mut stranded.client, &mut stranded.server, SHORT), Ok(false));
    assert_eq!(passes(&mut stranded.server, &mut stranded.client, SHORT), Ok(false));
    let mut new = Pair::through(&link, &listener);
    assert_eq!(passes(&mut new.client, &mut new.server, LONG), Ok(true), "new ones work");
    assert_eq!(link.connections(), 3);
    drop(link);
    assert!(arrives(&mut half.client, LONG).is_err(), "everything ends with the link");
    assert!(arrives(&mut stranded.server, LONG).is_err());
}
