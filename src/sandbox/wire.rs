//! Messages between daemon, helper and sandbox: short datagrams that carry descriptors.
//!
//! Invariant: a message is whole or not there (`SOCK_SEQPACKET`), and received descriptors are
//! close-on-exec from the start.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize};

/// Descriptors in one message; a job has five and one per mounted tree.
pub(super) const DESCRIPTORS_MAX: usize = 48;
/// Bytes of one message; jobs travel in a memory file, so messages are short.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// What the sandbox tells the daemon, one datagram each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The namespaces exist; the datagram carries the pid file descriptor of their pid 1.
    Started,
    /// The view stands; the datagram carries its `/tmp`.
    Mounted,
    /// A step of the sequence failed: nothing was run.
    Failed(Failure),
    /// Everything is in place but the program could not be started.
    NotExecuted(Failure),
    /// The program ended by itself with this code.
    Exited(i32),
    /// The program was ended by this signal.
    Signaled(i32),
}

/// A step that failed, and the kernel's reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {}", std::io::Error::from_raw_os_error(*errno))]
pub struct Failure {
    /// What was being done.
    pub step: String,
    /// The error number.
    pub errno: i32,
}

impl Failure {
    pub(super) fn new(step: impl Into<String>, errno: Errno) -> Self {
        Self { step: step.into(), errno: errno.raw_os_error() }
    }

    pub(super) fn from_io(step: impl Into<String>, error: &std::io::Error) -> Self {
        Self { step: step.into(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// Says which step an error belongs to.
pub(super) trait AtStep<T> {
    fn at(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T> AtStep<T> for rustix::io::Result<T> {
    fn at(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(step, errno))
    }
}

impl<T> AtStep<T> for std::io::Result<T> {
    fn at(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::from_io(step, &error))
    }
}

/// Two connected ends, both close-on-exec.
pub(super) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one message; `DONTWAIT` turns a full queue into `EAGAIN`.
pub(super) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    let iov = [IoSlice::new(bytes)];
    retry_on_intr(|| sendmsg(&socket, &iov, &mut control, flags | SendFlags::NOSIGNAL)).map(drop)
}

/// Tells the daemon something; it may be gone, which the sender need not know.
pub(super) fn report(status: impl AsFd, report: &Report, descriptors: &[BorrowedFd<'_>]) {
    if let Ok(bytes) = serde_json::to_vec(report) {
        send(status, &bytes, descriptors, SendFlags::empty()).ok();
    }
}

/// One received message; no bytes means that the other end is closed.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Receives one message; `DONTWAIT` turns an empty queue into `EAGAIN`.
pub(super) fn receive(socket: impl AsFd, flags: RecvFlags) -> rustix::io::Result<Message> {
    let mut bytes = vec![0_u8; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        let mut iov = [IoSliceMut::new(&mut bytes)];
        recvmsg(&socket, &mut iov, &mut control, flags | RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    bytes.truncate(received.bytes);
    Ok(Message { bytes, descriptors })
}
