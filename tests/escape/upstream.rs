//! Machines outside: one that may be reached, over TLS and plain, and one that may not. Each
//! remembers what came to it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long a machine waits for more of a request.
const READ_WAIT: Duration = Duration::from_millis(700);

/// What came to a machine, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    /// Everything since the last look.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The machines.
pub(crate) struct Machines {
    /// Speaks TLS; may be reached as `allowed.test:443`.
    pub(crate) tls_port: u16,
    /// Speaks HTTP; may be reached as `allowed.test:80`.
    pub(crate) http_port: u16,
    /// Takes whatever comes; may not be reached.
    pub(crate) evil_port: u16,
    /// As `evil`, for datagrams.
    pub(crate) evil_udp_port: u16,
    pub(crate) tls: Diary,
    pub(crate) http: Diary,
    pub(crate) evil: Diary,
    is_over: Arc<AtomicBool>,
}

impl Machines {
    pub(crate) fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (tls, http, evil) = (Diary::default(), Diary::default(), Diary::default());
        let config = tls_config();
        let noted = tls.clone();
        let tls_port = serve(&is_over, move |stream| {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            // A connection that carries nothing is nothing that got through.
            let Ok(1..) = stream.peek(&mut [0]) else { return };
            let mut stream = stream;
            let mut stream = rustls::Stream::new(&mut connection, &mut stream);
            let mut buffer = [0_u8; 4096];
            let count = stream.read(&mut buffer);
            let text = count.map_or_else(
                |error| format!("not TLS: {error}"),
                |n| String::from_utf8_lossy(&buffer[..n]).into_owned(),
            );
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nhello, ";
            drop(stream.write_all(answer.as_bytes()));
            let name = connection.server_name().unwrap_or("no name").to_owned();
            noted.note(format!("{name}: {text}"));
        });
        let noted = http.clone();
        let http_port = serve(&is_over, move |mut stream| {
            let mut all = Vec::new();
            let mut buffer = [0_u8; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                all.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&buffer[..count]);
                let answer = if text.starts_with("GET /redirect") {
                    "HTTP/1.1 302 Found\r\nLocation: http://evil.test/from-redirect\r\nContent-Length: 0\r\n\r\n"
                } else {
                    "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhello, "
                };
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
            noted.note(String::from_utf8_lossy(&all).into_owned());
        });
        let noted = evil.clone();
        let evil_port = serve(&is_over, move |mut stream| {
            let mut buffer = [0_u8; 4096];
            let count = stream.read(&mut buffer).unwrap_or(0);
            noted.note(format!("TCP: {}", String::from_utf8_lossy(&buffer[..count])));
            drop(stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nevil",
            ));
        });
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let evil_udp_port = udp.local_addr().unwrap().port();
        let (noted, over) = (evil.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut buffer = [0_u8; 2048];
            while !over.load(Ordering::Relaxed) {
                if let Ok((count, _)) = udp.recv_from(&mut buffer) {
                    noted.note(format!("UDP: {}", String::from_utf8_lossy(&buffer[..count])));
                }
            }
        });
        Self { tls_port, http_port, evil_port, evil_udp_port, tls, http, evil, is_over }
    }

    /// Forgets what came so far, after a moment for what is still under way.
    pub(crate) fn settle(&self) {
        thread::sleep(Duration::from_millis(20));
        for diary in [&self.tls, &self.http, &self.evil] {
            diary.take();
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn serve(is_over: &Arc<AtomicBool>, answer: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (over, answer) = (Arc::clone(is_over), Arc::new(answer));
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(2));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(READ_WAIT)).unwrap();
            let answer = Arc::clone(&answer);
            thread::spawn(move || answer(stream));
        }
    });
    port
}

fn tls_config() -> Arc<rustls::ServerConfig> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let made = rcgen::generate_simple_self_signed(vec!["allowed.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    Arc::new(config.unwrap())
}
