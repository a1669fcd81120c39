//! A listener that only this machine reaches: a socket in the data directory.
//!
//! Invariants: nobody but the owner of the directory can open it from its first moment on (0600
//! before it listens); whoever opens it all the same is asked for by the kernel's word; it is gone
//! when the daemon is.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::serve::Listen;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}", path.display())]
pub struct SocketError {
    /// The socket.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Whether a user of this machine may come in.
pub type Admits = Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// The listening socket; dropping it removes the file.
pub struct LocalListener {
    listener: UnixListener,
    admits: Admits,
    /// The directory that the socket lies in: names of sockets are short, paths may be long.
    _directory: File,
    path: PathBuf,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct LocalPeer {
    /// The user, as the kernel says.
    pub uid: u32,
}

impl std::fmt::Debug for LocalListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalListener").field("path", &self.path).finish_non_exhaustive()
    }
}

impl LocalListener {
    /// Opens the socket `name` in `directory`. The caller owns the directory, so that a socket that
    /// is there already is one that a dead daemon left.
    ///
    /// # Errors
    /// When something else has that name, or the directory cannot be written.
    pub fn open(directory: &Path, name: &str, admits: Admits) -> Result<Self, SocketError> {
        let path = directory.join(name);
        let failed = |source| SocketError { path: path.clone(), source };
        let held = File::open(directory).map_err(failed)?;
        // sockaddr_un holds 107 bytes of path (unix(7)); through /proc every directory is near.
        let near = PathBuf::from(format!("/proc/self/fd/{}/{name}", held.as_raw_fd()));
        match fs::symlink_metadata(&near) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(&near).map_err(failed)?,
            Ok(_) => return Err(failed(io::ErrorKind::AlreadyExists.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let socket = UnixSocket::new_stream().map_err(failed)?;
        socket.bind(&near).map_err(failed)?;
        fs::set_permissions(&near, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        Ok(Self { listener, admits, _directory: held, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the socket was gone already");
        }
    }
}

impl Listen for LocalListener {
    type Stream = UnixStream;
    type Peer = LocalPeer;

    /// Cancel-safe: between the accept and the answer nothing waits.
    async fn accept(&mut self) -> io::Result<(UnixStream, LocalPeer)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if (self.admits)(uid) {
                return Ok((stream, LocalPeer { uid }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn all() -> Admits {
        Arc::new(|_| true)
    }

    #[tokio::test]
    async fn the_socket_is_private_replaces_a_stale_one_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = LocalListener::open(dir.path(), "s", all()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("s"), "precious").unwrap();
        LocalListener::open(dir.path(), "s", all()).unwrap_err();
        assert_eq!(fs::read_to_string(dir.path().join("s")).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_long_path_is_no_obstacle_and_whoever_is_not_admitted_is_hung_up_on() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("d".repeat(200));
        fs::create_dir(&deep).unwrap();
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let nobody: Admits = Arc::new(move |uid| {
            heard.lock().unwrap().push(uid);
            false
        });
        let mut listener = LocalListener::open(&deep, "s", nobody).unwrap();
        let held = File::open(&deep).unwrap();
        let near = format!("/proc/self/fd/{}/s", held.as_raw_fd());
        let mut client = UnixStream::connect(near).await.unwrap();
        let mut end = Vec::new();
        // Accepting never returns; the client's end of file does.
        tokio::select! {
            _ = listener.accept() => panic!("nobody is admitted"),
            read = client.read_to_end(&mut end) => assert_eq!(read.unwrap(), 0),
        }
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
}
