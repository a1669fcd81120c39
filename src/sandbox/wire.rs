//! Messages between daemon, helper and sandbox: datagrams that carry descriptors.
//!
//! Invariants: a message is whole or not there (`SOCK_SEQPACKET`), and received descriptors are
//! close-on-exec from the start. A request's first descriptor is where its reports go.

use std::{
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Descriptors in one message: a few of its own and one per mounted tree.
pub(super) const DESCRIPTORS_MAX: usize = 48;
/// Bytes of one message; a request that is longer travels in a memory file.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// First byte of a request: its content follows.
const INLINE: u8 = b'i';
/// First byte of a request: its content lies in the file that is its last descriptor.
const IN_FILE: u8 = b'f';
/// Longest request: arguments and variables, as JSON may have to write them, and paths.
const REQUEST_BYTES_MAX: u64 = 16 << 20;

/// What the daemon tells a call that waits to be put into its control group.
pub(super) const GO: &[u8] = b"go";

/// What the sandbox tells the daemon, one datagram each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The request was taken; the datagram carries the pid file descriptor of the pid 1 that
    /// serves it.
    Started,
    /// The kept sandbox takes calls; the datagram carries its `/tmp` and then its listeners, if it
    /// has any.
    Ready,
    /// A step of the sequence failed: nothing was run.
    Failed(Failure),
    /// Something is not what was approved: nothing was run.
    Changed(Change),
    /// Everything is in place but the program could not be started.
    NotExecuted(Failure),
    /// The program ended by itself with this code, and nothing that it started is left.
    Exited(i32),
    /// The program was ended by this signal, and nothing that it started is left.
    Signaled(i32),
}

/// What is not what was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The working directory is gone or another one.
    #[error("the working directory is another than the one that was approved")]
    Directory,
    /// The program is gone or another one.
    #[error("the program is another than the one that was approved")]
    Program,
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

/// A request, ready to be sent.
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    file: Option<OwnedFd>,
}

/// Makes a request of a value.
pub(super) fn pack(value: &impl Serialize) -> Result<Packed, Failure> {
    let mut bytes = vec![INLINE];
    serde_json::to_writer(&mut bytes, value)
        .map_err(|error| Failure::from_io("pack a request", &error.into()))?;
    if bytes.len() <= MESSAGE_BYTES_MAX {
        return Ok(Packed { bytes, file: None });
    }
    let content = bytes.get(1..).unwrap_or_default();
    Ok(Packed { file: Some(memory_file("request", content)?), bytes: vec![IN_FILE] })
}

impl Packed {
    /// Sends it without waiting; a full queue is `EAGAIN`. Either it is sent whole or not at all.
    pub(super) fn send(
        &self,
        socket: impl AsFd,
        descriptors: &[BorrowedFd<'_>],
    ) -> rustix::io::Result<()> {
        let file = self.file.as_ref().map(AsFd::as_fd);
        let descriptors: Vec<_> = descriptors.iter().copied().chain(file).collect();
        send(socket, &self.bytes, &descriptors, SendFlags::DONTWAIT)
    }
}

/// What a request says, and its other descriptors.
pub(super) fn unpack<T: DeserializeOwned>(message: Message) -> Result<(T, Vec<OwnedFd>), Failure> {
    let Message { bytes, mut descriptors } = message;
    let step = "understand a request";
    let value = match bytes.split_first() {
        Some((&INLINE, content)) => serde_json::from_slice(content),
        Some((&IN_FILE, [])) => {
            let file = descriptors.pop().ok_or_else(|| Failure::new(step, Errno::BADF))?;
            let mut content = Vec::new();
            let mut file = std::fs::File::from(file).take(REQUEST_BYTES_MAX);
            file.read_to_end(&mut content).at(step)?;
            serde_json::from_slice(&content)
        }
        _ => return Err(Failure::new(step, Errno::INVAL)),
    };
    match value {
        Ok(value) => Ok((value, descriptors)),
        Err(error) => Err(Failure::new(format!("{step} ({error})"), Errno::INVAL)),
    }
}

/// How waiting for a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It was taken, or who was to take it is dead: somebody must wait for the next one.
    Another,
    /// Nobody will ask any more.
    Closed,
}

/// Takes the next request and answers it with a failure.
pub(super) fn refuse_next(requests: impl AsFd, failure: Failure) -> Wait {
    match receive(requests, RecvFlags::empty()) {
        Ok(message) if !message.bytes.is_empty() => {
            if let Some(report_to) = message.descriptors.first() {
                report(report_to, &Report::Failed(failure), &[]);
            }
            Wait::Another
        }
        _ => Wait::Closed,
    }
}

/// A sealed file in memory, positioned at its beginning.
pub(super) fn memory_file(name: &str, content: &[u8]) -> Result<OwnedFd, Failure> {
    let step = "memory file";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(memfd_create(name, flags).at(step)?);
    file.write_all(content).at(step)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).at(step)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).at(step)?;
    Ok(file.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_whole_whether_short_or_long() {
        for length in [0, 10, MESSAGE_BYTES_MAX - 3, MESSAGE_BYTES_MAX, 2 << 20] {
            let (ours, theirs) = pair().unwrap();
            let text = "x".repeat(length);
            pack(&text).unwrap().send(&ours, &[ours.as_fd()]).unwrap();
            let message = receive(&theirs, RecvFlags::DONTWAIT).unwrap();
            let (got, descriptors) = unpack::<String>(message).unwrap();
            assert_eq!((got.len(), descriptors.len()), (length, 1));
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bytes in [&b""[..], b"i", b"f", b"x{}", b"i{", b"f{}"] {
            let message = Message { bytes: bytes.to_vec(), descriptors: Vec::new() };
            assert!(unpack::<String>(message).is_err(), "{bytes:?}");
        }
    }
}
