//! A sandbox with listeners: everything leads to them, and nothing beyond. Who accepts here is the
//! test; what a daemon does with a connection is not this module's.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use agent_runtime::{
    domain::{Grant, HostPattern, HostPolicy, HostRule},
    sandbox::{Listeners, Session},
};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{attempt, judge},
    support::{Lab, good, job},
};

/// The address that every name has here: one of documentation (RFC 5737).
const ADDRESS: [u8; 4] = [192, 0, 2, 7];

/// A grant with some host: which one is for the daemon to judge.
fn online(lab: &Lab) -> Grant {
    let rule = HostRule {
        host: HostPattern::Any,
        port: Some(443),
        methods: Vec::new(),
        path: None,
        allow_private: false,
        opaque: false,
    };
    let hosts = HostPolicy { allow: vec![rule], deny: Vec::new() };
    Grant { hosts: Arc::new(hosts), ..lab.grant() }
}

/// Answers at the listeners until the session is gone.
struct Doorman(Vec<JoinHandle<()>>);

impl Doorman {
    fn new(listeners: Listeners) -> Self {
        let Listeners { proxy, http, https, dns } = listeners;
        let web = |name: &'static str, listener: TcpListener| {
            listener.set_nonblocking(false).unwrap();
            thread::spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    let asked = stream.local_addr().unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    // To its end: what is left unread would reset the connection.
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        match stream.read(&mut byte) {
                            Ok(1) => head.extend(byte),
                            _ => break,
                        }
                    }
                    let line = String::from_utf8_lossy(&head);
                    let line = line.lines().next().unwrap_or("").to_owned();
                    let body = format!("{name} at {asked}: {line}\n");
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    drop(stream.write_all(answer.as_bytes()));
                }
            })
        };
        dns.set_nonblocking(false).unwrap();
        let names = thread::spawn(move || serve_names(&dns));
        Self(vec![web("proxy", proxy), web("http", http), web("https", https), names])
    }
}

/// Answers every question for an address of IPv4 with the same one, and others with none.
fn serve_names(dns: &UdpSocket) {
    let mut query = [0; 512];
    while let Ok((length, from)) = dns.recv_from(&mut query) {
        let query = &query[..length];
        let end = 12 + query[12..].iter().position(|b| *b == 0).unwrap() + 5;
        let is_a = query[end - 4..end - 2] == [0, 1];
        let mut answer = query[..end].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(ADDRESS);
        }
        drop(dns.send_to(&answer, from));
    }
}

async fn open(lab: &Lab) -> (Session, Doorman) {
    let mut session = lab.open_with(&online(lab)).await.unwrap();
    let listeners = session.take_listeners().unwrap();
    assert!(session.take_listeners().is_none(), "once");
    (session, Doorman::new(listeners))
}

async fn sh(lab: &Lab, session: &Session, script: &str) -> String {
    let job = job(online(lab), &["/bin/bash", "-c", script]);
    good(session.run(job, CancellationToken::new()).await.unwrap())
}

#[tokio::test]
async fn what_ignores_the_proxy_arrives_at_the_same_doors_and_shows_where_it_wanted_to_go() {
    let lab = Lab::new().await;
    let (session, _doorman) = open(&lab).await;
    let script = "exec 3<>/dev/tcp/198.51.100.9/80; printf 'GET /x HTTP/1.0\\r\\n\\r\\n' >&3; tail -1 <&3
                  exec 3<>/dev/tcp/203.0.113.5/443; printf 'GET /y HTTP/1.0\\r\\n\\r\\n' >&3; tail -1 <&3
                  exec 3<>/dev/tcp/127.0.0.1/3128; printf 'GET /z HTTP/1.0\\r\\n\\r\\n' >&3; tail -1 <&3";
    assert_eq!(
        sh(&lab, &session, script).await,
        "http at 198.51.100.9:80: GET /x HTTP/1.0\n\
         https at 203.0.113.5:443: GET /y HTTP/1.0\n\
         proxy at 127.0.0.1:3128: GET /z HTTP/1.0\n"
    );
}

#[tokio::test]
async fn common_programs_find_names_and_the_proxy() {
    let lab = Lab::new().await;
    let (session, _doorman) = open(&lab).await;
    let python = "/usr/bin/python3 -c 'import socket; print(socket.gethostbyname(\"a.test\")); \
                  print(sorted({a[4][0] for a in socket.getaddrinfo(\"b.test\",80)})); \
                  import urllib.request as u; print(u.urlopen(\"http://c.test/p\").read().decode())'";
    let output = sh(&lab, &session, python).await;
    assert_eq!(
        output,
        "192.0.2.7\n['192.0.2.7']\nproxy at 127.0.0.1:3128: GET http://c.test/p HTTP/1.1\n\n"
    );
    for (program, script, expected) in [
        (
            "curl",
            "curl -sS http://d.test/q; curl -sS --noproxy '*' http://e.test/r",
            "proxy at 127.0.0.1:3128: GET http://d.test/q HTTP/1.1\n\
             http at 192.0.2.7:80: GET /r HTTP/1.1\n",
        ),
        (
            "git",
            "GIT_TERMINAL_PROMPT=0 git ls-remote http://f.test/g 2>&1 | grep -c 'not valid'; true",
            "1\n",
        ),
        (
            "node",
            "node -e 'require(\"dns\").lookup(\"h.test\",(e,a)=>{console.log(a); \
             require(\"http\").get({host:\"i.test\",path:\"/n\"},r=>r.pipe(process.stdout))})'",
            "192.0.2.7\nhttp at 192.0.2.7:80: GET /n HTTP/1.1\n",
        ),
    ] {
        let is_there = std::path::Path::new("/usr/bin").join(program).exists();
        assert!(is_there || program == "node", "{program} is needed");
        if is_there {
            assert_eq!(sh(&lab, &session, script).await, expected, "{program}");
        }
    }
}

#[tokio::test]
async fn no_other_port_or_kind_of_socket_is_let_through() {
    let lab = Lab::new().await;
    let (session, _doorman) = open(&lab).await;
    let script = "for p in 22 53 81 3129 8080 8443; do \
                  (exec 3<>/dev/tcp/127.0.0.1/$p) 2>/dev/null && echo open $p; done; echo done";
    assert_eq!(sh(&lab, &session, script).await, "done\n");
    let python = "import socket,errno\n\
                  def t(*a):\n\
                  \x20 try: socket.socket(*a); return 'made'\n\
                  \x20 except OSError as e: return errno.errorcode[e.errno]\n\
                  print(t(socket.AF_INET,socket.SOCK_RAW,1), t(socket.AF_NETLINK,socket.SOCK_RAW), \
                  t(socket.AF_PACKET,socket.SOCK_RAW), t(socket.AF_VSOCK,socket.SOCK_STREAM), \
                  t(socket.AF_INET,socket.SOCK_DGRAM,1), t(socket.AF_INET,socket.SOCK_STREAM,262))\n\
                  s=socket.socket()\n\
                  try: s.bind(('127.0.0.1',9999)); print('bound')\n\
                  except OSError as e: print(errno.errorcode[e.errno])";
    let job = job(online(&lab), &["/usr/bin/python3", "-c", python]);
    let output = good(session.run(job, CancellationToken::new()).await.unwrap());
    assert_eq!(output, "EPERM EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EPERM EPERM\nEACCES\n");
}

#[tokio::test]
async fn the_hosts_own_network_is_out_of_reach_all_the_same() {
    let lab = Lab::new().await;
    // On the very ports that are let through, where this machine lets us have them.
    let tcp = std::rc::Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    tcp.set_nonblocking(true).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let tcp_port = tcp.local_addr().unwrap().port().to_string();
    let udp_port = udp.local_addr().unwrap().port().to_string();
    let attempts = vec![
        attempt("connect over TCP", &[&"tcp", &tcp_port])
            .if_seen(move |_| tcp.accept().is_ok())
            .under(online(&lab)),
        attempt("send over UDP", &[&"udp", &udp_port])
            .if_seen(move |_| udp.recv_from(&mut [0; 8]).is_ok())
            .under(online(&lab)),
        attempt("open a raw socket", &[&"raw"]).needs_root().under(online(&lab)),
        attempt("open a netlink socket", &[&"netlink"]).under(online(&lab)),
    ];
    judge(&lab, attempts).await;
}

#[tokio::test]
async fn without_hosts_there_is_no_listener_and_no_variable() {
    let lab = Lab::new().await;
    let mut session = lab.open().await;
    assert!(session.take_listeners().is_none());
    assert!(!session.profile().has_network());
    let script = "env | grep -ic proxy; test -e /etc/resolv.conf && echo there; true";
    let seen = good(lab.sh_in(&session, script).await);
    assert_eq!(seen, "0\n");
}

#[tokio::test]
async fn an_answer_comes_from_the_address_that_was_asked() {
    let lab = Lab::new().await;
    let mut session = lab.open_with(&online(&lab)).await.unwrap();
    let dns = session.take_listeners().unwrap().dns;
    // What the daemon learns of a datagram sent to some other resolver: the address it was sent to.
    let ask = "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); \
               s.sendto(b'hello',('8.8.8.8',53)); print('sent')";
    let job = job(online(&lab), &["/usr/bin/python3", "-c", ask]);
    good(session.run(job, CancellationToken::new()).await.unwrap());
    let mut bytes = [0; 16];
    let mut space = [std::mem::MaybeUninit::uninit(); 256];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut iov = [std::io::IoSliceMut::new(&mut bytes)];
    let flags = rustix::net::RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(&dns, &mut iov, &mut control, flags).unwrap();
    assert_eq!(received.bytes, 5);
    let from = SocketAddr::try_from(received.address.unwrap()).unwrap();
    assert!(from.ip().is_loopback() || from.ip() == Ipv4Addr::new(8, 8, 8, 8), "{from}");
}
