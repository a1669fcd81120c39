//! The network inside a kept sandbox: a loopback that every address leads to, and four doors.
//!
//! Invariants: nothing here has a way out; what leaves does so through the process that accepts on
//! the listeners. They are made in the sandbox's network namespace before anything untrusted is in
//! it, so that no tool can take their place.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

use super::{
    session::Listeners,
    sys,
    wire::{AtStep, Failure},
};

/// The proxy that the environment names.
pub(super) const PROXY_PORT: u16 = 3_128;
/// What programs connect to that know no proxy.
pub(super) const WEB_PORTS: [u16; 2] = [80, 443];
const DNS_PORT: u16 = 53;

/// The loopback's number: the first device of every network namespace.
const LOOPBACK: u32 = 1;

// From `linux/rtnetlink.h`, `linux/netlink.h` and `linux/if.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: u32 = 16;
const IFF_UP: u32 = 0x1;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
const RTA_OIF: u16 = 4;
const AF_INET: u8 = 2;

/// Makes every IPv4 address lead to the loopback, and opens the doors.
pub(super) fn open() -> Result<Doors, Failure> {
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .at("open a netlink socket")?;
    ask(&kernel, &loopback_up()).at("bring the loopback up")?;
    ask(&kernel, &route_to_loopback()).at("route to the loopback")?;
    let listen = |address: Ipv4Addr, port: u16| {
        TcpListener::bind((address, port)).at(format!("listen on port {port}"))
    };
    let [http, https] = WEB_PORTS;
    let dns = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DNS_PORT)).at("listen on port 53")?;
    sys::tell_packet_addresses(&dns).at("ask for packet addresses")?;
    Ok(Doors([
        listen(Ipv4Addr::LOCALHOST, PROXY_PORT)?.into(),
        listen(Ipv4Addr::UNSPECIFIED, http)?.into(),
        listen(Ipv4Addr::UNSPECIFIED, https)?.into(),
        dns.into(),
    ]))
}

/// The listeners on their way to the daemon.
#[derive(Debug)]
pub(super) struct Doors([OwnedFd; 4]);

impl Doors {
    /// In the order in which [`listeners`] takes them.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd).collect()
    }
}

/// What the daemon makes of the descriptors that came with `Ready`; none came without a network.
pub(super) fn listeners(descriptors: Vec<OwnedFd>) -> Result<Option<Listeners>, Failure> {
    if descriptors.is_empty() {
        return Ok(None);
    }
    let step = "take the listeners";
    let Ok([proxy, http, https, dns]) = <[OwnedFd; 4]>::try_from(descriptors) else {
        return Err(Failure::new(step, Errno::BADMSG));
    };
    let tcp = |fd: OwnedFd| {
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true).at(step).map(|()| listener)
    };
    let dns = UdpSocket::from(dns);
    dns.set_nonblocking(true).at(step)?;
    Ok(Some(Listeners { proxy: tcp(proxy)?, http: tcp(http)?, https: tcp(https)?, dns }))
}

/// `ip link set lo up`.
fn loopback_up() -> Vec<u8> {
    // struct ifinfomsg: family, padding, type, index, flags, which flags are meant.
    let mut body = vec![0_u8; 4];
    for field in [LOOPBACK, IFF_UP, IFF_UP] {
        body.extend(field.to_ne_bytes());
    }
    message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &body)
}

/// `ip route add local 0.0.0.0/0 dev lo`: whatever address a program connects to is here.
fn route_to_loopback() -> Vec<u8> {
    // struct rtmsg: family, length of destination and source, type of service, table, who made
    // it, scope, kind, flags.
    let mut body =
        vec![AF_INET, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0];
    body.extend(8_u16.to_ne_bytes());
    body.extend(RTA_OIF.to_ne_bytes());
    body.extend(LOOPBACK.to_ne_bytes());
    message(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK, &body)
}

/// Puts `struct nlmsghdr` before a body.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = HEADER_BYTES + u32::try_from(body.len()).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and port: one question at a time, to the kernel.
    bytes.extend([0_u8; 8]);
    bytes.extend(body);
    bytes
}

/// Sends one message and waits for the kernel's word on it.
fn ask(kernel: &OwnedFd, message: &[u8]) -> rustix::io::Result<()> {
    send(kernel, message, SendFlags::empty())?;
    let mut answer = [0_u8; 256];
    let (length, _) = recv(kernel, &mut answer[..], RecvFlags::empty())?;
    // The header, then `struct nlmsgerr`, which begins with the negative error number.
    let answer = answer.get(..length).unwrap_or_default();
    let kind = answer.get(4..).and_then(<[u8]>::first_chunk).map(|kind| u16::from_ne_bytes(*kind));
    let number = answer.get(16..).and_then(<[u8]>::first_chunk);
    let Some(number) = number.filter(|_| kind == Some(NLMSG_ERROR)) else {
        return Err(Errno::BADMSG);
    };
    match i32::from_ne_bytes(*number) {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(error.wrapping_neg())),
    }
}
