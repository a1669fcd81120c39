//! The network between a daemon and its Postgres, as bad as networks are: it loses, delays and
//! cuts, and it lets one end believe in a connection that the other has forgotten.
//!
//! It has a thread and a runtime of its own, so a test that blocks or pauses its clock does not
//! stop it. It never changes a byte and never reorders: TCP does not either. Only when it is mute it
//! leaves messages out, as a pool of connections between a daemon and its database does.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Everything.
    Open,
    /// Nothing, and both ends are told: connections are reset, new ones too.
    Cut,
    /// Nothing, and nobody is told. What was sent arrives when the link is open again, as TCP
    /// repeats it.
    Dropped,
    /// What the client sends, but no answer: a commit happens and nobody hears of it.
    Deaf,
    /// Everything, each way so much later.
    Slow(Duration),
    /// Everything but notices of commits, to those who asked for them.
    Mute,
}

#[derive(Clone, Copy, Debug)]
struct State {
    link: Link,
    /// How often connections were ended in that way.
    terminated: u64,
    half_opened: u64,
    stranded: u64,
}

/// What a client sends that wants notices of commits.
const LISTEN: &[u8] = b"LISTEN ";

/// What the server said, without `NotificationResponse`:
/// <https://www.postgresql.org/docs/15/protocol-message-formats.html>. Who listens has a connection for
/// that alone, so each piece begins with a message.
fn without_notices(mut piece: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    while let [kind, a, b, c, d, ..] = *piece {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("a length");
        let (message, after) = piece.split_at(piece.len().min(1 + length));
        if kind != b'A' {
            rest.extend_from_slice(message);
        }
        piece = after;
    }
    rest.extend_from_slice(piece);
    rest
}

/// A link to a port on loopback. Ends with this handle.
#[derive(Debug)]
pub(crate) struct Partition {
    port: u16,
    state: watch::Sender<State>,
    open: watch::Receiver<usize>,
}

impl Partition {
    /// An open link to that port.
    pub(crate) fn before(target: u16) -> Self {
        let start = State { link: Link::Open, terminated: 0, half_opened: 0, stranded: 0 };
        let (state, seen) = watch::channel(start);
        let (count, open) = watch::channel(0);
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(listener, target, seen, count));
        };
        thread::Builder::new().name("partition".to_owned()).spawn(serve).expect("a thread");
        Self { port, state, open }
    }

    /// Where clients connect.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections clients have through it.
    pub(crate) fn connections(&self) -> usize {
        *self.open.borrow()
    }

    /// From now on this passes.
    pub(crate) fn set(&self, link: Link) {
        self.state.send_modify(|state| state.link = link);
    }

    /// Resets every connection. New ones are served.
    pub(crate) fn terminate(&self) {
        self.state.send_modify(|state| state.terminated += 1);
    }

    /// The server's end of every connection closes, the client hears nothing of it, ever. New
    /// ones are served.
    pub(crate) fn half_open(&self) {
        self.state.send_modify(|state| state.half_opened += 1);
    }

    /// Nothing passes on the present connections any more, ever, and neither end hears of it: the
    /// server goes on holding what was locked. New ones are served.
    pub(crate) fn strand(&self) {
        self.state.send_modify(|state| state.stranded += 1);
    }
}

async fn serve(
    listener: std::net::TcpListener,
    target: u16,
    mut state: watch::Receiver<State>,
    count: watch::Sender<usize>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut connections = JoinSet::new();
    loop {
        // Both are safe to drop: a connection that is not accepted stays in the queue.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let state = state.clone();
                connections.spawn(carry(client, target, state));
            }
            Some(_) = connections.join_next() => {}
            changed = state.changed() => if changed.is_err() { return },
        }
        count.send_replace(connections.len());
    }
}

/// Carries one connection to its end.
async fn carry(mut client: TcpStream, target: u16, mut state: watch::Receiver<State>) {
    let born = *state.borrow();
    if born.link == Link::Cut {
        return reset(client);
    }
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return reset(client);
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket");
    }
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let listens = AtomicBool::new(false);
        let up = pump(
            from_client,
            to_server,
            state.clone(),
            |link| link != Link::Dropped,
            |_, piece| {
                if piece.windows(LISTEN.len()).any(|word| word == LISTEN) {
                    listens.store(true, Ordering::Relaxed);
                }
                piece
            },
        );
        let passes = |link| !matches!(link, Link::Dropped | Link::Deaf);
        let down = pump(from_server, to_client, state.clone(), passes, |link, piece| {
            if link == Link::Mute && listens.load(Ordering::Relaxed) {
                without_notices(&piece)
            } else {
                piece
            }
        });
        // One direction may end before the other, as a half-closed connection does.
        let both = async { tokio::join!(up, down) };
        tokio::select! {
            _ = both => End::Closed,
            end = fate(&mut state, born) => end,
        }
    };
    match end {
        End::Closed => {}
        End::Reset => {
            reset(client);
            reset(server);
        }
        End::HalfOpen => {
            drop(server);
            until_over(&mut state).await;
            drop(client);
        }
        End::Stranded => {
            until_over(&mut state).await;
            drop((client, server));
        }
    }
}

enum End {
    Closed,
    Reset,
    HalfOpen,
    Stranded,
}

/// Waits until somebody ends this connection.
async fn fate(state: &mut watch::Receiver<State>, born: State) -> End {
    loop {
        let now = *state.borrow_and_update();
        if now.link == Link::Cut || now.terminated != born.terminated {
            return End::Reset;
        }
        if now.half_opened != born.half_opened {
            return End::HalfOpen;
        }
        if now.stranded != born.stranded {
            return End::Stranded;
        }
        if state.changed().await.is_err() {
            return End::Reset;
        }
    }
}

async fn until_over(state: &mut watch::Receiver<State>) {
    while state.changed().await.is_ok() {}
}

/// The other side is told at once that the connection is no more.
fn reset(stream: TcpStream) {
    // Zero is what makes the end a reset; a stream that is gone already needs none.
    stream.set_zero_linger().ok();
    drop(stream);
}

/// Carries bytes one way while they may pass.
async fn pump(
    mut from: impl AsyncReadExt + Unpin + Send,
    mut to: impl AsyncWriteExt + Unpin + Send,
    mut state: watch::Receiver<State>,
    passes: fn(Link) -> bool,
    edit: impl Fn(Link, Vec<u8>) -> Vec<u8>,
) -> io::Result<()> {
    // Each piece has its own moment, so that a slow link is late and not also narrow.
    let (pieces, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let looked = state.clone();
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = from.read(&mut buffer).await?;
            let link = looked.borrow().link;
            let delay = match link {
                Link::Slow(delay) => delay,
                Link::Open | Link::Cut | Link::Dropped | Link::Deaf | Link::Mute => Duration::ZERO,
            };
            let piece = (Instant::now() + delay, edit(link, buffer[..n].to_vec()));
            if n == 0 || pieces.send(piece).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = arriving.recv().await {
            tokio::time::sleep_until(due).await;
            let open = state.wait_for(|state| passes(state.link)).await.map(|_| ());
            open.map_err(io::Error::other)?;
            to.write_all(&piece).await?;
        }
        // The end is news too.
        let open = state.wait_for(|state| passes(state.link)).await.map(|_| ());
        open.map_err(io::Error::other)?;
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}
