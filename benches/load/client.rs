//! A small HTTP client on one kept connection: cheap, so that both cores are the daemon's.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::fake::{content_length, find};

/// Longest time that any answer may take; nothing here hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    addr: SocketAddr,
    token: &'static str,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr, token: &'static str) -> anyhow::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(addr)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4 << 10), addr, token })
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
            self.addr, self.token
        );
        self.send(head.as_bytes()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> anyhow::Result<Answer> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.addr,
            self.token,
            body.len()
        );
        self.send(request.as_bytes()).await
    }

    /// Starts a run; its id.
    pub(crate) async fn start(&mut self, script: &str) -> anyhow::Result<String> {
        let answer = self.post("/api/v1/runs", &body(script)).await?;
        let run = answer.json()?;
        run["id"].as_str().map(str::to_owned).with_context(|| format!("no run: {}", answer.body))
    }

    /// Starts a run and waits until it has settled.
    pub(crate) async fn run(&mut self, script: &str) -> anyhow::Result<Answer> {
        self.post("/api/v1/runs?wait=30", &body(script)).await
    }

    async fn send(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        timeout(PATIENCE, async {
            self.stream.write_all(request).await?;
            self.answer().await
        })
        .await
        .context("no answer in time")?
    }

    async fn answer(&mut self) -> anyhow::Result<Answer> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.get(..end).unwrap_or_default();
                let length = content_length(head).context("an answer without a length")?;
                let total = end + 4 + length;
                if self.buffer.len() >= total {
                    let head = String::from_utf8_lossy(head).into_owned();
                    let body = self.buffer.get(end + 4..total).unwrap_or_default();
                    let body = String::from_utf8_lossy(body).into_owned();
                    self.buffer.drain(..total);
                    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
                    return Ok(Answer { status: status.context("no status")?, head, body });
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the daemon closed the connection");
            }
        }
    }
}

/// The body that starts a run.
pub(crate) fn body(script: &str) -> String {
    format!(r#"{{"agent":"bench","input":"script:{script}"}}"#)
}

impl Answer {
    pub(crate) fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        self.body.contains(r#""state":"succeeded""#)
    }
}
