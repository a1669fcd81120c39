//! The daemon's admin door, as commands that change the daemon itself use it.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::PathBuf,
};

use serde_json::Value;

use super::{Context, Failure};
use crate::{
    app::client::{Client, ClientError},
    http::admin::SOCKET,
};

/// The daemon's answer as a type.
pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|e| ClientError::Protocol(e.to_string()).into())
}

/// What the daemon says of a request: wrong input is wrong usage.
pub(super) fn refused(error: ClientError) -> Failure {
    match error {
        ClientError::Problem(problem) if problem.status == 422 => {
            Failure::usage(problem.to_string())
        }
        ClientError::Unreachable { .. } => {
            Failure::no_daemon("the daemon hung up at its admin socket")
                .next("only the daemon's own user and root may use it; its log says more")
        }
        other => other.into(),
    }
}

/// The daemon's admin door.
pub(super) struct Door {
    pub(super) client: Client,
    /// Through it the socket's path stays short, however deep the data directory lies (unix(7)).
    _directory: File,
}

/// Why the door cannot be used.
pub(super) enum Closed {
    /// No daemon has this data directory.
    NoDaemon(Failure),
    /// Anything else is in the way.
    Other(Failure),
}

impl From<Closed> for Failure {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::NoDaemon(failure) => failure.next(
                "start it with `agent-runtime serve`, or name its data directory with --data-dir \
                 or --config",
            ),
            Closed::Other(failure) => failure,
        }
    }
}

impl Door {
    /// The door of the data directory that the command line names.
    pub(super) fn open(context: &Context) -> Result<Self, Closed> {
        let data_dir = context.data_dir();
        let path = data_dir.join(SOCKET);
        let nobody = || Failure::no_daemon(format!("no daemon answers at {}", path.display()));
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Closed::NoDaemon(nobody())
            }
            io::ErrorKind::PermissionDenied => Closed::Other(
                Failure::no_daemon(format!("{} may not be opened by you", path.display()))
                    .next("run it as the daemon's user or as root"),
            ),
            _ => Closed::Other(Failure::no_daemon(format!("{}: {error}", path.display()))),
        };
        let directory = File::open(&data_dir).map_err(failed)?;
        let near = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
        UnixStream::connect(&near).map_err(failed)?;
        let client = Client::over_socket(&near).map_err(|e| Closed::Other(e.into()))?;
        Ok(Self { client, _directory: directory })
    }
}
