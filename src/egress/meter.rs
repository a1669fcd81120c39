//! A connection to another machine whose bytes are counted against the run's bounds.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    quota::{Place, Quotas},
    reason::{Quota, Reason},
    record::Attempt,
};
use crate::runtime::tasks::lock;

/// Counts one connection's bytes.
pub(super) struct Meter {
    quotas: Arc<Quotas>,
    attempt: Attempt,
    last: Mutex<Instant>,
    exceeded: OnceLock<Quota>,
    _place: Place,
}

impl Meter {
    pub(super) fn new(quotas: Arc<Quotas>, attempt: Attempt, place: Place) -> Arc<Self> {
        let last = Mutex::new(Instant::now());
        Arc::new(Self { quotas, attempt, last, exceeded: OnceLock::new(), _place: place })
    }

    /// The bound that cut the connection.
    pub(super) fn exceeded(&self) -> Option<Reason> {
        self.exceeded.get().map(|quota| Reason::Quota(*quota))
    }

    /// Waits until nothing has moved for so long. Cancel-safe.
    pub(super) async fn idle(&self, bound: Duration) {
        loop {
            let until = *lock(&self.last) + bound;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn moved(&self) {
        *lock(&self.last) = Instant::now();
    }

    fn exceed(&self, quota: Quota) -> io::Error {
        self.exceeded.set(quota).ok();
        io::Error::new(io::ErrorKind::QuotaExceeded, "the run has used up its traffic")
    }
}

/// A TCP connection to another machine.
pub(super) struct Metered {
    stream: TcpStream,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) fn new(stream: TcpStream, meter: Arc<Meter>) -> Self {
        Self { stream, meter }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = bytes(buf.filled().len() - before);
        if bytes > 0 {
            let meter = &self.meter;
            meter.moved();
            if !meter.quotas.down(bytes) {
                buf.set_filled(before);
                return Poll::Ready(Err(meter.exceed(Quota::BytesDown)));
            }
            meter.attempt.count_down(bytes);
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let granted = self.meter.quotas.take_up(bytes(buf.len()));
        if granted == 0 && !buf.is_empty() {
            return Poll::Ready(Err(self.meter.exceed(Quota::BytesUp)));
        }
        let part = buf.get(..usize::try_from(granted).unwrap_or(buf.len())).unwrap_or(buf);
        let polled = Pin::new(&mut self.stream).poll_write(cx, part);
        let sent = match &polled {
            Poll::Ready(Ok(sent)) => bytes(*sent),
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.meter.quotas.give_back_up(granted.saturating_sub(sent));
        if sent > 0 {
            self.meter.moved();
            self.meter.attempt.count_up(sent);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn bytes(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
