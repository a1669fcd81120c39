//! Which addresses may be dialled.
//!
//! Invariant: what is not known to be a public unicast address is refused. Sources: the IANA IPv4
//! and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), the IPv6 address space
//! registry (only 2000::/3 is global unicast, RFC 4291 section 2.4), and the documentation of the
//! large clouds for their metadata services. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{address} is refused: {kind}")]
pub(crate) struct AddressRefusal {
    /// The address.
    pub(crate) address: IpAddr,
    /// What it is.
    pub(crate) kind: AddressKind,
}

/// What an address that is refused is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum AddressKind {
    /// 127.0.0.0/8, ::1 (RFC 1122, RFC 4291).
    #[error("it is this machine (loopback)")]
    Loopback,
    /// 10/8, 172.16/12, 192.168/16 (RFC 1918), fc00::/7 (RFC 4193).
    #[error("it belongs to a private network")]
    Private,
    /// 100.64.0.0/10 (RFC 6598).
    #[error("it belongs to a carrier's private network (100.64.0.0/10)")]
    CarrierNat,
    /// One of the addresses that the caller gave.
    #[error("it is an address of this machine")]
    Own,
    /// 169.254.0.0/16 (RFC 3927), fe80::/10 (RFC 4291), where metadata services live too.
    #[error("it is a link-local address")]
    LinkLocal,
    /// The metadata service of a cloud, outside of the link-local ranges.
    #[error("it is the metadata service of a cloud")]
    Metadata,
    /// 0.0.0.0/8 (RFC 791, RFC 1122), ::.
    #[error("it means this network, not a host")]
    Unspecified,
    /// 224.0.0.0/4 (RFC 5771), ff00::/8, 255.255.255.255.
    #[error("it is a multicast or broadcast address")]
    Multicast,
    /// Documentation, benchmarking, protocol assignments and what is reserved.
    #[error("it lies in a range that is reserved or for special purposes")]
    Reserved,
    /// An IPv6 address that carries an IPv4 address: mapped (::ffff:0:0/96), compatible (::/96),
    /// 6to4 (2002::/16, RFC 3056), Teredo (2001::/32, RFC 4380), NAT64 (64:ff9b::/96, RFC 6052;
    /// 64:ff9b:1::/48, RFC 8215), ISATAP (RFC 5214): it would lead to an address that this check
    /// has not seen.
    #[error("it carries an IPv4 address inside of an IPv6 address")]
    Embedded,
}

impl AddressKind {
    /// Whether a rule that allows private networks lets such an address through. Link-local
    /// addresses never: nothing that has a name lives there, but credentials do.
    const fn is_lifted_by_allow_private(self) -> bool {
        match self {
            Self::Loopback | Self::Private | Self::CarrierNat | Self::Own => true,
            Self::LinkLocal
            | Self::Metadata
            | Self::Unspecified
            | Self::Multicast
            | Self::Reserved
            | Self::Embedded => false,
        }
    }
}

/// Metadata services outside of 169.254.0.0/16 and fe80::/10; none of them is public.
const METADATA: [(IpAddr, u8); 5] = [
    // Azure's wire server has a public address.
    (v4(168, 63, 129, 16), 32),
    // Alibaba Cloud.
    (v4(100, 100, 100, 200), 32),
    // Oracle Cloud, before it moved to 169.254.169.254.
    (v4(192, 0, 0, 192), 32),
    // AWS: instance metadata, DNS, time, pod identity.
    (v6(0xfd00, 0x0ec2), 32),
    // Google Cloud.
    (v6(0xfd20, 0x00ce), 32),
];

const V4: [(IpAddr, u8, AddressKind); 18] = [
    (v4(0, 0, 0, 0), 8, AddressKind::Unspecified),
    (v4(10, 0, 0, 0), 8, AddressKind::Private),
    (v4(100, 64, 0, 0), 10, AddressKind::CarrierNat),
    (v4(127, 0, 0, 0), 8, AddressKind::Loopback),
    (v4(169, 254, 0, 0), 16, AddressKind::LinkLocal),
    (v4(172, 16, 0, 0), 12, AddressKind::Private),
    // Protocol assignments (RFC 6890).
    (v4(192, 0, 0, 0), 24, AddressKind::Reserved),
    // Documentation (RFC 5737).
    (v4(192, 0, 2, 0), 24, AddressKind::Reserved),
    (v4(198, 51, 100, 0), 24, AddressKind::Reserved),
    (v4(203, 0, 113, 0), 24, AddressKind::Reserved),
    // AS112 (RFC 7535, RFC 7534) and AMT (RFC 7450): anycast services, no hosts.
    (v4(192, 31, 196, 0), 24, AddressKind::Reserved),
    (v4(192, 52, 193, 0), 24, AddressKind::Reserved),
    (v4(192, 175, 48, 0), 24, AddressKind::Reserved),
    // 6to4 relays (RFC 7526, deprecated).
    (v4(192, 88, 99, 0), 24, AddressKind::Reserved),
    (v4(192, 168, 0, 0), 16, AddressKind::Private),
    // Benchmarking (RFC 2544).
    (v4(198, 18, 0, 0), 15, AddressKind::Reserved),
    (v4(224, 0, 0, 0), 4, AddressKind::Multicast),
    // Reserved (RFC 1112); its last address is broadcast (RFC 919).
    (v4(240, 0, 0, 0), 4, AddressKind::Reserved),
];

const V6: [(IpAddr, u8, AddressKind); 11] = [
    // NAT64 for use inside of one network.
    (v6_3(0x64, 0xff9b, 1), 48, AddressKind::Embedded),
    (v6_3(0x64, 0xff9b, 0), 96, AddressKind::Embedded),
    (v6(0x2002, 0), 16, AddressKind::Embedded),
    (v6(0x2001, 0), 32, AddressKind::Embedded),
    // The other protocol assignments (RFC 2928): ORCHID (RFC 4843, RFC 7343), benchmarking, AMT.
    (v6(0x2001, 0), 23, AddressKind::Reserved),
    // Documentation (RFC 3849, RFC 9637).
    (v6(0x2001, 0x0db8), 32, AddressKind::Reserved),
    (v6(0x3fff, 0), 20, AddressKind::Reserved),
    (v6(0xfc00, 0), 7, AddressKind::Private),
    (v6(0xfe80, 0), 10, AddressKind::LinkLocal),
    (v6(0xff00, 0), 8, AddressKind::Multicast),
    // Site-local (RFC 3879, deprecated): private once, now nothing.
    (v6(0xfec0, 0), 10, AddressKind::Reserved),
];

/// Says whether an address may be dialled. `own` are the addresses of this machine.
///
/// A rule that allows private networks lifts loopback, private ranges, carrier ranges and own
/// addresses; nothing else.
///
/// # Errors
///
/// What the address is instead of public.
pub(crate) fn check(
    address: IpAddr,
    own: &[IpAddr],
    allow_private: bool,
) -> Result<(), AddressRefusal> {
    let kind = match kind(address) {
        None if own.contains(&address) => Some(AddressKind::Own),
        kind => kind,
    };
    match kind {
        Some(kind) if !(allow_private && kind.is_lifted_by_allow_private()) => {
            Err(AddressRefusal { address, kind })
        }
        _ => Ok(()),
    }
}

/// What an address is, if it is not a public one.
fn kind(address: IpAddr) -> Option<AddressKind> {
    if METADATA.iter().any(|(base, bits)| is_in(address, *base, *bits)) {
        return Some(AddressKind::Metadata);
    }
    match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(AddressKind::Multicast),
        IpAddr::V4(_) => listed(&V4, address),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(AddressKind::Loopback),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(AddressKind::Unspecified),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v6(v6: Ipv6Addr) -> Option<AddressKind> {
    let [first, .., fifth, sixth, _, _] = v6.segments();
    let is_mapped_or_compatible = v6.segments().starts_with(&[0; 5]) && matches!(sixth, 0 | 0xffff);
    // An ISATAP interface: 0000:5efe or 0200:5efe, then an IPv4 address (RFC 5214 section 6.1).
    let is_isatap = matches!(fifth, 0 | 0x0200) && sixth == 0x5efe;
    if is_mapped_or_compatible || is_isatap {
        return Some(AddressKind::Embedded);
    }
    let is_global = first >> 13 == 0b001;
    listed(&V6, v6.into()).or((!is_global).then_some(AddressKind::Reserved))
}

fn listed(list: &[(IpAddr, u8, AddressKind)], address: IpAddr) -> Option<AddressKind> {
    list.iter().find(|(base, bits, _)| is_in(address, *base, *bits)).map(|(_, _, kind)| *kind)
}

/// Whether the first bits of two addresses of one family are the same.
fn is_in(address: IpAddr, base: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16) -> IpAddr {
    v6_3(a, b, 0)
}

const fn v6_3(a: u16, b: u16, c: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(text: &str) -> Option<AddressKind> {
        check(text.parse().unwrap(), &[], false).err().map(|refusal| refusal.kind)
    }

    #[test]
    fn public_addresses_are_let_through() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "168.63.129.15",
            "2001:200::1",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001:81b::200e",
            "3ffe:ffff::1",
            "3fff:1000::1",
            "2001:4860::200:5eff:1.2.3.4",
        ] {
            assert_eq!(kind_of(text), None, "{text}");
        }
    }

    #[test]
    fn every_special_range_is_refused_from_its_first_to_its_last_address() {
        use AddressKind::{
            CarrierNat, Embedded, LinkLocal, Loopback, Metadata, Multicast, Private, Reserved,
            Unspecified,
        };
        for (first, last, kind) in [
            ("0.0.0.0", "0.255.255.255", Unspecified),
            ("10.0.0.0", "10.255.255.255", Private),
            ("100.64.0.0", "100.127.255.255", CarrierNat),
            ("127.0.0.0", "127.255.255.255", Loopback),
            ("169.254.0.0", "169.254.255.255", LinkLocal),
            ("169.254.169.254", "169.254.170.2", LinkLocal),
            ("172.16.0.0", "172.31.255.255", Private),
            ("192.0.0.0", "192.0.0.255", Reserved),
            ("192.0.2.0", "192.0.2.255", Reserved),
            ("192.31.196.0", "192.31.196.255", Reserved),
            ("192.52.193.0", "192.52.193.255", Reserved),
            ("192.88.99.0", "192.88.99.255", Reserved),
            ("192.168.0.0", "192.168.255.255", Private),
            ("192.175.48.0", "192.175.48.255", Reserved),
            ("198.18.0.0", "198.19.255.255", Reserved),
            ("198.51.100.0", "198.51.100.255", Reserved),
            ("203.0.113.0", "203.0.113.255", Reserved),
            ("224.0.0.0", "239.255.255.255", Multicast),
            ("240.0.0.0", "255.255.255.254", Reserved),
            ("255.255.255.255", "255.255.255.255", Multicast),
            ("168.63.129.16", "100.100.100.200", Metadata),
            ("192.0.0.192", "fd00:ec2::254", Metadata),
            ("fd20:ce::254", "fd00:ec2::23", Metadata),
            ("::", "::", Unspecified),
            ("::1", "::1", Loopback),
            ("::2", "::ffff:ffff", Embedded),
            ("::ffff:0.0.0.0", "::ffff:255.255.255.255", Embedded),
            ("::ffff:127.0.0.1", "::127.0.0.1", Embedded),
            ("64:ff9b::", "64:ff9b::255.255.255.255", Embedded),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Embedded),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", Embedded),
            ("2001:1::1", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
            ("2001:10::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Embedded),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
            ("100::", "1fff:ffff::", Reserved),
            ("4000::", "5f00::1", Reserved),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", LinkLocal),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Multicast),
            ("2a00::5efe:10.0.0.1", "2a00::200:5efe:8.8.8.8", Embedded),
        ] {
            assert_eq!(kind_of(first), Some(kind), "{first}");
            assert_eq!(kind_of(last), Some(kind), "{last}");
        }
    }

    #[test]
    fn allow_private_lifts_private_networks_and_nothing_else() {
        let is_lifted = |text: &str| check(text.parse().unwrap(), &[], true).is_ok();
        for text in ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "100.64.0.1", "fd12::1"] {
            assert!(is_lifted(text), "{text}");
        }
        for text in [
            "169.254.169.254",
            "fd00:ec2::254",
            "fe80::1",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "240.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:0a00:0001::1",
            "198.18.0.1",
        ] {
            assert!(!is_lifted(text), "{text}");
        }
    }

    #[test]
    fn an_own_address_is_refused_unless_private_networks_are_allowed() {
        let own = ["9.9.9.9".parse().unwrap()];
        let refusal = check(own[0], &own, false).unwrap_err();
        assert_eq!(refusal.kind, AddressKind::Own);
        assert_eq!(refusal.to_string(), "9.9.9.9 is refused: it is an address of this machine");
        assert!(check(own[0], &own, true).is_ok());
        assert!(check("9.9.9.8".parse().unwrap(), &own, false).is_ok());
    }
}
