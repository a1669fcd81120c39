//! The one spelling of a host.
//!
//! A name is what RFC 1123 section 2.1 allows: letters, digits and hyphens in labels. Underscores
//! are refused: no published host has one, and programs disagree about them. Which texts are
//! numbers is the rule of the WHATWG URL standard ("ends in a number"), since that is what the
//! clients of the host do; of its many spellings of an IPv4 address only the dotted quad is taken.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Bytes of a name without its trailing dot (RFC 1035 section 2.3.4, as text).
const NAME_BYTES_MAX: usize = 253;
/// Bytes of one label.
const LABEL_BYTES_MAX: usize = 63;

/// A canonical host: lower-case ASCII letters, digits and hyphens in labels, no trailing dot; or
/// an IP literal in its one strict form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Why a text is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing is there.
    #[error("a host name is missing")]
    Empty,
    /// Longer than DNS can carry.
    #[error("a host name has at most {NAME_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// Two dots in a row, a dot in front, or nothing but a dot.
    #[error("a host name has no empty part: remove the extra dot")]
    EmptyLabel,
    /// A part is too long.
    #[error("each part of a host name has at most {LABEL_BYTES_MAX} characters")]
    LongLabel,
    /// A part begins or ends with a hyphen.
    #[error("no part of a host name begins or ends with a hyphen")]
    Hyphen,
    /// A whole URL was given.
    #[error("a host is wanted, not a URL: write only what stands between `//` and the next `/`")]
    Url,
    /// `user@host`.
    #[error("a host has no user name: remove everything up to the `@`")]
    UserInfo,
    /// `host:port` where only a host may stand.
    #[error("a host has no port here: remove the `:` and what follows")]
    Port,
    /// Not in the Latin alphabet, or made to look like it.
    #[error("a host name is ASCII{}", hint(.nearest.as_deref()))]
    NotAscii {
        /// The name in punycode, where it has one.
        nearest: Option<String>,
    },
    /// A character that no host has.
    #[error("a host name consists of letters, digits, hyphens and dots; {0:?} is none of them")]
    Character(char),
    /// A number that is not an IPv4 address in its usual form.
    #[error(
        "a host that ends in a number must be an IPv4 address of four decimal numbers without \
         leading zeros{}", hint(.nearest.as_deref())
    )]
    Number {
        /// What clients would take it for.
        nearest: Option<String>,
    },
    /// Not an IPv6 address, or not in its short form (RFC 5952).
    #[error("this is not an IPv6 address in its short form{}", hint(.nearest.as_deref()))]
    Ipv6 {
        /// The short form.
        nearest: Option<String>,
    },
    /// An IPv6 address that stands for an IPv4 address.
    #[error("write the IPv4 address itself: `{0}`")]
    Mapped(Ipv4Addr),
    /// `fe80::1%eth0`.
    #[error("an address has no zone: remove the `%` and what follows")]
    Zone,
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |text| format!(": write `{text}`"))
}

impl HostName {
    /// Reads a host as people and programs write it: a name in any case, with or without one
    /// trailing dot; a dotted quad; an IPv6 address in its short form, in brackets or bare.
    ///
    /// # Errors
    ///
    /// Says what is wrong with everything else, and the nearest text that would do. Names in
    /// punycode (`xn--…`) are compared as they are: which of them look alike is not judged.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.contains("//") {
            return Err(HostError::Url);
        }
        if text.contains('@') {
            return Err(HostError::UserInfo);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Ipv6 { nearest: None })?;
            return ipv6(inner);
        }
        if text.matches(':').count() > 1 {
            return ipv6(text);
        }
        name(text)
    }

    /// The host of an address.
    ///
    /// # Errors
    ///
    /// [`HostError::Mapped`]: an IPv4 address in IPv6 clothes is not one host more.
    pub fn from_ip(ip: IpAddr) -> Result<Self, HostError> {
        Self::parse(&ip.to_string())
    }

    /// The text, without brackets around an IPv6 literal.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, where this is an IP literal.
    pub fn ip(&self) -> Option<IpAddr> {
        // No name parses as an address: a name's last label is not a number and it has no colon.
        self.0.parse().ok()
    }

    /// Whether this is a name strictly below the other, at a label boundary.
    pub fn is_below(&self, parent: &HostName) -> bool {
        self.ip().is_none()
            && self.0.strip_suffix(&parent.0).and_then(|rest| rest.strip_suffix('.')).is_some()
    }

    /// The text as it stands before a port: IPv6 in brackets.
    pub fn authority(&self) -> String {
        if self.0.contains(':') { format!("[{}]", self.0) } else { self.0.clone() }
    }
}

fn name(text: &str) -> Result<HostName, HostError> {
    if !text.is_ascii() {
        return Err(HostError::NotAscii { nearest: nearest(text) });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    match text.chars().find(|c| !allowed(*c)) {
        Some(':') => return Err(HostError::Port),
        Some(c) => return Err(HostError::Character(c)),
        None => {}
    }
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix('.').unwrap_or(&lower);
    if bare.len() > NAME_BYTES_MAX {
        return Err(HostError::TooLong(bare.len()));
    }
    if bare.rsplit('.').next().is_some_and(is_number) {
        // `1.2.3.4.` has a dot too many: clients disagree on whether it is an address.
        return match lower.parse::<Ipv4Addr>() {
            Ok(ip) if ip.to_string() == lower => Ok(HostName(lower)),
            _ => Err(HostError::Number { nearest: nearest(text) }),
        };
    }
    for label in bare.split('.') {
        if label.is_empty() {
            return Err(HostError::EmptyLabel);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(HostError::LongLabel);
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(HostError::Hyphen);
        }
    }
    Ok(HostName(bare.to_owned()))
}

/// Whether a client would read a name with this last label as a number.
fn is_number(label: &str) -> bool {
    let is_decimal = !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit());
    let is_hex =
        label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    is_decimal || is_hex
}

fn ipv6(text: &str) -> Result<HostName, HostError> {
    if text.contains('%') {
        return Err(HostError::Zone);
    }
    let lower = text.to_ascii_lowercase();
    let ip: Ipv6Addr = match lower.parse() {
        Ok(ip) => ip,
        Err(_) => return Err(HostError::Ipv6 { nearest: None }),
    };
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return Err(HostError::Mapped(mapped));
    }
    let short = ip.to_string();
    if short == lower { Ok(HostName(lower)) } else { Err(HostError::Ipv6 { nearest: Some(short) }) }
}

/// What a browser would make of the text, if that is a host of ours.
fn nearest(text: &str) -> Option<String> {
    let host = url::Host::parse(text).ok()?.to_string();
    (host != text && HostName::parse(&host).is_ok()).then_some(host)
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for HostName {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(host: HostName) -> Self {
        host.0
    }
}
