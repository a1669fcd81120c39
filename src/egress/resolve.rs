//! From a name to addresses, once, in the daemon.
//!
//! Invariants: only names that rules allow are ever looked up; a lookup ends within [`WAIT`]; every
//! address of a name is checked, and one that may not be dialled refuses the name.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Mutex,
    time::SystemTime,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use tokio::time::{Duration, Instant};

use super::{
    address::{self, AddressRefusal},
    options::EgressError,
    reason::Reason,
};
use crate::{domain::HostName, runtime::tasks::lock};

/// For a whole lookup, retries included.
const WAIT: Duration = Duration::from_secs(5);
/// For one question to one server.
const QUESTION_WAIT: Duration = Duration::from_secs(2);
/// Answers that are kept.
const CACHE_ANSWERS_MAX: u64 = 1_024;
/// How long an answer is kept at most, whatever its TTL says.
const TTL_MAX: Duration = Duration::from_secs(300);
/// How long the absence of a name is kept.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(30);
/// Addresses of one name; a name with more is refused, since all are checked.
const ADDRESSES_MAX: usize = 64;

/// What the system's own lookups read.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Looks names up.
pub(super) struct Resolver {
    dns: Mutex<Dns>,
    name_servers: Vec<SocketAddr>,
    connect_to: BTreeMap<(HostName, u16), SocketAddr>,
}

/// What asks the servers, and how the system's files stood when it was made.
struct Dns {
    resolver: TokioResolver,
    made_from: Stamp,
}

type Stamp = [Option<SystemTime>; 2];

/// The addresses of a host, not checked yet, in the order in which they are dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Where to dial: never empty.
    pub(super) addresses: Vec<SocketAddr>,
    /// How long this may be believed.
    pub(super) ttl: Duration,
    /// The operator said where to dial.
    pub(super) is_override: bool,
}

impl Resolver {
    /// # Errors
    /// When no resolver can be made at all.
    pub(super) fn new(
        name_servers: &[SocketAddr],
        connect_to: BTreeMap<(HostName, u16), SocketAddr>,
    ) -> Result<Self, EgressError> {
        let made_from = stamp();
        let resolver = made(name_servers).map_err(|source| EgressError::Resolver { source })?;
        let dns = Mutex::new(Dns { resolver, made_from });
        Ok(Self { dns, name_servers: name_servers.to_vec(), connect_to })
    }

    /// The resolver for the system's configuration as it is now: it changes with the network.
    fn dns(&self) -> TokioResolver {
        let mut dns = lock(&self.dns);
        let now = stamp();
        if self.name_servers.is_empty() && now != dns.made_from {
            dns.made_from = now;
            match made(&self.name_servers) {
                Ok(resolver) => dns.resolver = resolver,
                Err(error) => {
                    tracing::warn!(%error, "the DNS configuration has changed and cannot be used");
                }
            }
        }
        dns.resolver.clone()
    }

    /// Whether finding a host's addresses may tell a name server its name.
    pub(super) fn asks_for(&self, host: &HostName, port: u16) -> bool {
        host.ip().is_none() && !self.connect_to.contains_key(&(host.clone(), port))
    }

    /// The addresses of a host that rules allow.
    pub(super) async fn resolve(&self, host: &HostName, port: u16) -> Result<Resolved, Reason> {
        if let Some(address) = self.connect_to.get(&(host.clone(), port)) {
            return Ok(Resolved { addresses: vec![*address], ttl: TTL_MAX, is_override: true });
        }
        let (addresses, ttl) = self.look_up(host).await?;
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(Resolved { addresses, ttl, is_override: false })
    }

    /// The addresses of a host, IPv4 first: few machines that run tools have IPv6.
    pub(super) async fn look_up(&self, host: &HostName) -> Result<(Vec<IpAddr>, Duration), Reason> {
        if let Some(ip) = host.ip() {
            return Ok((vec![ip], TTL_MAX));
        }
        // With its last dot no search domain is tried: what is looked up is what was allowed.
        let name = format!("{}.", host.as_str());
        let found = tokio::time::timeout(WAIT, self.dns().lookup_ip(name)).await;
        let found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) if error.is_no_records_found() => return Err(Reason::NoAddress),
            Ok(Err(error)) => {
                tracing::debug!(%error, host = host.as_str(), "a name could not be looked up");
                return Err(Reason::ResolveFailed);
            }
            Err(_) => return Err(Reason::ResolveFailed),
        };
        let ttl = Instant::from_std(found.valid_until()).duration_since(Instant::now());
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.dedup();
        match addresses.len() {
            0 => Err(Reason::NoAddress),
            1..=ADDRESSES_MAX => Ok((addresses, ttl.min(TTL_MAX))),
            _ => Err(Reason::AddressRefused),
        }
    }
}

fn stamp() -> Stamp {
    SYSTEM_FILES.map(|file| std::fs::metadata(file).and_then(|meta| meta.modified()).ok())
}

/// A resolver that asks these servers; with none given those of the system.
fn made(name_servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let is_system = name_servers.is_empty();
    let servers = ResolverConfig::from_name_servers(name_servers.iter().map(server).collect());
    let given = || TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
    let mut builder = if is_system {
        TokioResolver::builder_tokio().unwrap_or_else(|error| {
            // Like a machine without a network: every name fails, and the daemon runs.
            tracing::warn!(%error, "no DNS server is configured: names of agents' hosts fail");
            given()
        })
    } else {
        given()
    };
    let options = builder.options_mut();
    options.timeout = QUESTION_WAIT;
    options.attempts = 2;
    options.cache_size = CACHE_ANSWERS_MAX;
    options.positive_max_ttl = Some(TTL_MAX);
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    options.use_hosts_file = if is_system { ResolveHosts::Always } else { ResolveHosts::Never };
    builder.build()
}

/// Checks one address that is about to be dialled.
pub(super) fn check(address: IpAddr, allow_private: bool) -> Result<(), AddressRefusal> {
    let own = [address];
    address::check(address, if is_own(address) { &own } else { &[] }, allow_private)
}

/// Whether it is an address of this machine, by asking the kernel: only own addresses can be bound.
/// That is never out of date. An error that says something else counts as yes.
///
/// Where the kernel lets anything be bound (`ip_nonlocal_bind`, on some load balancers), the source
/// address that it would choose tells: for an address of its own it chooses that one, or the first
/// of the same network.
fn is_own(address: IpAddr) -> bool {
    let can_bind = |ip: IpAddr| match UdpSocket::bind((ip, 0)) {
        Ok(_) => true,
        Err(error) => {
            !matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        }
    };
    if !can_bind(address) {
        return false;
    }
    // TEST-NET-1 and the documentation prefix: no machine has them.
    let nobodys: IpAddr = match address {
        IpAddr::V4(_) => [192, 0, 2, 1].into(),
        IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    let any: IpAddr = match address {
        IpAddr::V4(_) => [0, 0, 0, 0].into(),
        IpAddr::V6(_) => [0; 16].into(),
    };
    if !can_bind(nobodys) {
        return true;
    }
    let chosen = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    chosen.map_or(true, |chosen| chosen.ip() == address)
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_recognised_and_others_are_not() {
        assert!(is_own([127, 0, 0, 1].into()));
        assert!(is_own([127, 9, 9, 9].into()));
        assert!(!is_own([192, 0, 2, 7].into()));
        assert!(!is_own([93, 184, 215, 14].into()));
        // The address that this machine speaks to others from, if it has one.
        let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        if socket.connect(("192.0.2.1", 9)).is_ok() {
            let own = socket.local_addr().unwrap().ip();
            assert!(is_own(own), "{own}");
            assert!(check(own, false).is_err());
        }
    }
}
