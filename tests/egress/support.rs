//! A channel with its doors, and clients as tools are.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_runtime::{
    domain::{AgentName, EgressLimits, EgressRecord, HostPolicy, ToolCallId, host::HostRule},
    egress::{Channel, Doors, Egress, Options, Serving, Timeouts, Traffic},
    runtime::{Stop, Tasks},
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName},
};

use super::servers::Dns;

/// Longer than any bound that a test sets.
const PATIENCE: Duration = Duration::from_secs(20);

/// One run of agent `helper`, its doors, and the name server behind.
pub(crate) struct World {
    pub(crate) egress: Egress,
    pub(crate) channel: Channel,
    pub(crate) serving: Option<Serving>,
    pub(crate) proxy: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) dns_door: SocketAddr,
    pub(crate) dns: Dns,
    pub(crate) stop: Stop,
    records: Arc<Mutex<Vec<EgressRecord>>>,
}

pub(crate) fn agent() -> AgentName {
    "helper".parse().unwrap()
}

pub(crate) fn policy(allow: &[impl AsRef<str>], deny: &[&str]) -> Arc<HostPolicy> {
    let parse = |text: &str| HostRule::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    Arc::new(HostPolicy {
        allow: allow.iter().map(|text| parse(text.as_ref())).collect(),
        deny: deny.iter().map(|text| parse(text)).collect(),
    })
}

pub(crate) fn call_id(n: u128) -> ToolCallId {
    ToolCallId::from(uuid::Uuid::from_u128(n))
}

/// Short enough for a test.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_millis(1_500),
        head: Duration::from_millis(1_000),
        hello: Duration::from_millis(1_000),
        idle: Duration::from_secs(10),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(EgressLimits::default(), |_| {})
    }

    pub(crate) fn with(limits: EgressLimits, change: impl FnOnce(&mut Options)) -> Self {
        let dns = Dns::new();
        let stop = Stop::default();
        let tasks = Tasks::new(stop.clone());
        let records = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&records);
        let mut options = Options {
            name_servers: vec![dns.addr],
            timeouts: timeouts(),
            on_record: Arc::new(move |of, run, record: &EgressRecord| {
                assert_eq!((of, run), (&agent(), "run_1"));
                log.lock().unwrap().push(record.clone());
            }),
            ..Options::default()
        };
        change(&mut options);
        let egress = Egress::new(options, &tasks).unwrap();
        let channel = egress.open(agent(), "run_1".to_owned(), limits);
        let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
        let doors = Doors {
            proxy: tcp(),
            http: tcp(),
            https: tcp(),
            dns: UdpSocket::bind("127.0.0.1:0").unwrap(),
        };
        let proxy = doors.proxy.local_addr().unwrap();
        let http = doors.http.local_addr().unwrap();
        let https = doors.https.local_addr().unwrap();
        let dns_door = doors.dns.local_addr().unwrap();
        let serving = Some(channel.listen(doors).unwrap());
        Self { egress, channel, serving, proxy, http, https, dns_door, dns, stop, records }
    }

    /// These rules are the live policy and that of a call that begins.
    pub(crate) fn allow(&self, rules: &[impl AsRef<str>]) {
        let policy = policy(rules, &[]);
        self.egress.set_policy(&agent(), Arc::clone(&policy));
        self.channel.begin(call_id(1), policy);
    }

    /// Everything that was recorded so far.
    pub(crate) fn records(&self) -> Vec<EgressRecord> {
        self.records.lock().unwrap().clone()
    }

    /// The call is over: its records, which are those that were passed on.
    pub(crate) fn end(&self) -> Traffic {
        self.channel.end()
    }

    /// The records of the call as `via host:port method? allowed|reason`.
    pub(crate) fn told(&self) -> Vec<String> {
        self.end().records.iter().map(told).collect()
    }
}

pub(crate) fn told(record: &EgressRecord) -> String {
    let via = serde_json::to_value(record.via).unwrap();
    let method = record.method.as_deref().map_or(String::new(), |m| format!(" {m}"));
    let outcome = if record.allowed { "allowed" } else { record.reason.as_str() };
    format!("{} {}:{}{method} {outcome}", via.as_str().unwrap(), record.host, record.port)
}

pub(crate) fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends these bytes and reads until the other side closes. A reset counts as a close.
pub(crate) fn talk(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = dial(to);
    stream.write_all(bytes).ok();
    rest(&mut stream)
}

/// Reads until the other side closes.
pub(crate) fn rest(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nothing came and nothing closed: {:?}", String::from_utf8_lossy(&answer))
            }
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads up to and including the end of a head.
pub(crate) fn head(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether this is a refusal of the proxy with this code and a sentence.
#[track_caller]
pub(crate) fn assert_refused(answer: &str, reason: &str) {
    let status = match reason {
        "connect_failed" | "resolve_failed" | "no_address" => "HTTP/1.1 502 ",
        _ => "HTTP/1.1 403 ",
    };
    assert!(answer.starts_with(status), "{answer}");
    assert!(answer.contains(&format!("\r\nx-egress-reason: {reason}\r\n")), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.len() > 20 && body.ends_with(".\n") || body.ends_with(")\n"), "{body:?}");
}

/// Asks for a tunnel; the connection and the proxy's answer.
pub(crate) fn connect(proxy: SocketAddr, authority: &str) -> (TcpStream, String) {
    let mut stream = dial(proxy);
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let answer = head(&mut stream);
    (stream, answer)
}

/// A TLS client that trusts this certificate.
pub(crate) fn tls(
    stream: TcpStream,
    name: &str,
    root: &CertificateDer<'static>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(client_config(root, true), name).unwrap(), stream)
}

pub(crate) fn client_config(root: &CertificateDer<'static>, has_sni: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = has_sni;
    Arc::new(config)
}

/// Says something over TLS and whether it came back.
pub(crate) fn says(stream: &mut (impl Read + Write), text: &str) -> std::io::Result<bool> {
    stream.write_all(text.as_bytes())?;
    stream.flush()?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    Ok(back == text.as_bytes())
}

/// A question to the sandbox's name server; the code and the addresses.
pub(crate) fn look_up(
    door: SocketAddr,
    name: &str,
    kind: RecordType,
) -> (ResponseCode, Vec<String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    socket.send_to(&message.to_vec().unwrap(), door).unwrap();
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, 7);
    let address = |data: &RData| match data {
        RData::A(a) => a.0.to_string(),
        RData::AAAA(a) => a.0.to_string(),
        other => format!("{other:?}"),
    };
    let addresses = answer.answers.iter().map(|record| address(&record.data)).collect();
    (answer.metadata.response_code, addresses)
}
