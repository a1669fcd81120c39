//! The internet: servers on loopback that remember what reached them.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
};

/// A name that every certificate here is for.
pub(crate) const NAMES: [&str; 4] = ["allowed.test", "other.test", "a.wild.test", "127.0.0.1"];

#[expect(clippy::disallowed_methods, reason = "servers of a test are threads")]
pub(crate) fn thread(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(work);
}

/// A TCP server.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    /// Serves each connection with this; what it returns is remembered.
    pub(crate) fn new(serve: impl Fn(TcpStream) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, serve) = (Arc::clone(&seen), Arc::new(serve));
        thread(move || {
            for stream in listener.incoming() {
                let (log, serve) = (Arc::clone(&log), Arc::clone(&serve));
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let at = {
                    let mut log = log.lock().unwrap();
                    log.push(Vec::new());
                    log.len() - 1
                };
                thread(move || {
                    let bytes = serve(stream);
                    log.lock().unwrap()[at] = bytes;
                });
            }
        });
        Self { addr, seen }
    }

    /// Answers each request with these bytes and closes.
    pub(crate) fn http(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::new(move |mut stream| {
            let request = read_request(&mut stream);
            stream.write_all(answer.as_bytes()).ok();
            request
        })
    }

    /// Says back what it gets.
    pub(crate) fn echo() -> Self {
        Self::new(|mut stream| echo(&mut stream))
    }

    /// TLS for every one of [`NAMES`], saying back what it gets.
    pub(crate) fn tls_echo(ca: &Ca) -> Self {
        let config = ca.server();
        Self::new(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            echo(&mut StreamOwned::new(connection, stream))
        })
    }

    /// TLS, answering each request with these bytes.
    pub(crate) fn https(ca: &Ca, answer: impl Into<String>) -> Self {
        let (config, answer) = (ca.server(), answer.into());
        Self::new(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let request = read_request(&mut stream);
            stream.write_all(answer.as_bytes()).ok();
            stream.conn.send_close_notify();
            stream.flush().ok();
            request
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// How many connections reached it.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// What the connections brought, as text. Waits a little for the last one to end.
    pub(crate) fn seen(&self) -> Vec<String> {
        for _ in 0..200 {
            if self.seen.lock().unwrap().iter().all(|bytes| !bytes.is_empty()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

/// A whole answer to a request.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads a head and a body of the length that it says, or of chunks.
pub(crate) fn read_request(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse::<usize>().unwrap());
    for _ in 0..length {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            break;
        }
        bytes.push(byte[0]);
    }
    let is_chunked = head.contains("transfer-encoding: chunked");
    while is_chunked && !bytes.ends_with(b"0\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        bytes.push(byte[0]);
    }
    bytes
}

fn echo(stream: &mut (impl Read + Write)) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if seen.len() < 64 << 10 {
            seen.extend_from_slice(&buffer[..read]);
        }
        if stream.write_all(&buffer[..read]).is_err() {
            break;
        }
        stream.flush().ok();
    }
    seen
}

/// A certificate authority of the operator.
pub(crate) struct Ca {
    pub(crate) certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            certificate: made.cert.der().clone(),
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key());
        Arc::new(config.unwrap())
    }
}

/// A name server that remembers what it was asked.
pub(crate) struct Dns {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<DnsState>>,
}

#[derive(Default)]
struct DnsState {
    /// For each name the answers to the first, second … question of a type; the last one stays.
    names: HashMap<String, Vec<Vec<IpAddr>>>,
    asked: Vec<String>,
}

impl Dns {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let state = Arc::new(Mutex::new(DnsState::default()));
        let shared = Arc::clone(&state);
        thread(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if let Some(answer) = dns_answer(&buffer[..length], &shared) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        let dns = Self { addr, state };
        for name in &NAMES[..3] {
            dns.set(name, &[&["127.0.0.1"]]);
        }
        dns
    }

    /// Gives a name these answers, one after the other.
    pub(crate) fn set(&self, name: &str, answers: &[&[&str]]) {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let answers = answers.iter().map(parse).collect();
        self.state.lock().unwrap().names.insert(name.to_owned(), answers);
    }

    /// Every name that it was asked for, in lower case, with the type.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}

fn dns_answer(question: &[u8], state: &Mutex<DnsState>) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let name = query.name().to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.').to_owned();
    let asked = format!("{name} {}", query.query_type());
    let mut state = state.lock().unwrap();
    let before = state.asked.iter().filter(|other| **other == asked).count();
    state.asked.push(asked);
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_available = true;
    answer.metadata.recursion_desired = true;
    answer.add_query(query.clone());
    match state.names.get(&name) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(answers) => {
            let wants_ipv6 = query.query_type() == RecordType::AAAA;
            for ip in &answers[before.min(answers.len() - 1)] {
                if ip.is_ipv6() == wants_ipv6 {
                    // Without a lifetime, so that the next question is asked again.
                    let record = Record::from_rdata(query.name().clone(), 0, RData::from(*ip));
                    answer.add_answer(record);
                }
            }
        }
    }
    answer.to_vec().ok()
}
