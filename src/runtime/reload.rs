//! Asks the top to read its configuration and secrets again.

use tokio::sync::{mpsc, oneshot};

/// Requests that wait; each is answered by one reading, so more make no sense.
const WAITING_MAX: usize = 16;

/// Answers with what has changed and needs a restart, or with what went wrong.
pub type Answer = oneshot::Sender<Result<Vec<String>, String>>;

/// Asks for a reload. Clones share it.
#[derive(Clone, Debug)]
pub struct Reloader(mpsc::Sender<Option<Answer>>);

/// Where the requests arrive.
#[derive(Debug)]
pub struct Reloads(mpsc::Receiver<Option<Answer>>);

/// Both ends.
pub fn reloads() -> (Reloader, Reloads) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Reloader(sender), Reloads(receiver))
}

impl Reloader {
    /// Asks and does not wait, as a signal does. When many wait already, one of those will do.
    pub fn ask(&self) {
        self.0.try_send(None).ok();
    }

    /// Asks and waits until the new values are in force; what has changed and is not in force
    /// before a restart.
    ///
    /// # Errors
    /// What is wrong with them; then nothing changed.
    pub async fn reload(&self) -> Result<Vec<String>, String> {
        let (answer, done) = oneshot::channel();
        let ended = || "the daemon is stopping".to_owned();
        self.0.send(Some(answer)).await.map_err(|_nobody| ended())?;
        done.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Reloads {
    /// The next request; none when nobody can ask any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Option<Answer>> {
        self.0.recv().await
    }
}
