//! A web site on loopback that stands for the world outside: it remembers what it was asked, which
//! is the witness of what got out.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use tokio::sync::oneshot;

/// What the page says: nobody inside could know it.
pub(crate) const PAGE: &str = "words from outside 4711";

/// One request as the site saw it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) target: String,
    pub(crate) host: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// The site. Stops when dropped.
pub(crate) struct FakeSite {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeSite {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let addr = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&asked));
        let (stop, stopped) = oneshot::channel::<()>();
        #[expect(clippy::disallowed_methods, reason = "the site must not share the test's runtime")]
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    served = axum::serve(listener, app) => served.expect("the site serves"),
                    _ = stopped => {}
                }
            });
        });
        Self { addr, asked, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every request so far, oldest first.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("asked").clone()
    }

    /// The requests whose target begins like this.
    pub(crate) fn asked_for(&self, target: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|a| a.target.starts_with(target)).collect()
    }
}

impl Drop for FakeSite {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn answer(
    State(asked): State<Arc<Mutex<Vec<Asked>>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let target = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let times = {
        let mut asked = asked.lock().expect("asked");
        asked.push(Asked {
            method: method.to_string(),
            target: target.clone(),
            host: host.to_owned(),
            headers: headers.clone(),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        asked.iter().filter(|a| a.target == target).count()
    };
    let to = |place: &str| {
        let location = [(header::LOCATION, place.to_owned())];
        (StatusCode::FOUND, location, "moved").into_response()
    };
    match uri.path() {
        "/moved" => to("/page"),
        "/away" => to("http://elsewhere.example/page"),
        "/inside" => to("http://127.0.0.1/page"),
        "/big" => "x".repeat(1 << 20).into_response(),
        "/binary" => {
            let kind = [(header::CONTENT_TYPE, "image/png")];
            (kind, vec![0x89_u8, 0x50, 0x4e, 0x47, 0, 255, 254]).into_response()
        }
        "/missing" => (StatusCode::NOT_FOUND, "nothing here").into_response(),
        // The first one never gets an answer.
        "/hang" if times == 1 => std::future::pending().await,
        _ => format!("{PAGE}\n").into_response(),
    }
}
