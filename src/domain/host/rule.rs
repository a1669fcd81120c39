//! One line of an agent's allowed or denied domains, as text and as a table.
//!
//! The text is `host[:port]`, then, each after one space and in this order, `methods=GET,HEAD`,
//! `path=/v1`, `allow_private`, `opaque`. It is what lists, records and the store show, and it
//! reads back as the same rule.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};

use super::{
    DEFAULT_PORT,
    name::{HostError, HostName},
    path::{PathError, canonical_path},
};

/// Characters of a method; the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;
/// Bytes of a whole rule as text.
const RULE_BYTES_MAX: usize = 2_048;

/// Which hosts a rule names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host alone.
    Exact(HostName),
    /// Every name below this one, at a label boundary, and not this one itself.
    Below(HostName),
    /// Every name; no IP literal, unless the rule denies.
    Any,
}

/// One line of an agent's allowed or denied domains.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostRule {
    /// Which hosts.
    pub host: HostPattern,
    /// Which port. Where none is said, an allowed host is reached at 443 and a denied one at none.
    pub port: Option<u16>,
    /// Which HTTP methods, in upper case, sorted; none listed means every one. Inside a TLS tunnel
    /// the method cannot be seen: a rule that lists methods lets no tunnel through.
    pub methods: Vec<String>,
    /// The path must be this or lie below it. As for methods, no tunnel passes such a rule.
    pub path: Option<String>,
    /// Whether the host may have an address of a private network.
    pub allow_private: bool,
    /// Whether a tunnel may carry something else than TLS that names this host.
    pub opaque: bool,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The host part.
    #[error(transparent)]
    Host(#[from] HostError),
    /// `*` somewhere else than alone or as the first label.
    #[error("`*` stands alone or as the first part: write `*` or `*.example.com`")]
    Wildcard,
    /// `*.1.2.3.4`.
    #[error("there are no names below an IP address: write the address itself")]
    BelowAddress,
    /// Not a number from 1 to 65535.
    #[error("a port is a number from 1 to 65535; for several ports write several rules")]
    Port,
    /// The port is said twice.
    #[error("the port stands in `host` already: remove one of them")]
    PortTwice,
    /// A host with a path behind it.
    #[error("the path does not belong to the host: write `path=/…` or `path = \"/…\"`")]
    PathInHost,
    /// Not a method, or `CONNECT`, or listed twice.
    #[error("`{0}` is no HTTP method that a rule can list: write methods in upper case, each once")]
    Method(String),
    /// The path.
    #[error("path of a rule: {0}")]
    Path(#[source] PathError),
    /// A word after the host that is none of ours.
    #[error(
        "`{0}` is not known here: after the host come, in this order, `methods=`, `path=`, \
         `allow_private` and `opaque`, one space between them"
    )]
    Word(String),
    /// A whole rule of more than 2 KiB.
    #[error("a rule has at most {RULE_BYTES_MAX} characters")]
    TooLong,
}

impl HostRule {
    /// Reads a rule: `api.github.com`, `*.example.com`, `*`, `host:8443`, `[2606::1]:443`, each
    /// with the words that the module names behind it.
    ///
    /// # Errors
    ///
    /// Says what to write instead.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if text.len() > RULE_BYTES_MAX {
            return Err(RuleError::TooLong);
        }
        let mut words = text.split(' ').peekable();
        let (host, port) = target(words.next().unwrap_or_default())?;
        let mut take = |prefix: &str| {
            let found = words.peek().and_then(|word| word.strip_prefix(prefix))?;
            words.next();
            Some(found)
        };
        let methods = take("methods=").map(|list| list.split(',').map(str::to_owned).collect());
        let path = take("path=").map(str::to_owned);
        let flag = |rest: Option<&str>| match rest {
            None => Ok(false),
            Some("") => Ok(true),
            Some(rest) => Err(RuleError::Word(rest.to_owned())),
        };
        let allow_private = flag(take("allow_private"))?;
        let opaque = flag(take("opaque"))?;
        if let Some(word) = words.next() {
            return Err(RuleError::Word(word.to_owned()));
        }
        let parts = Parts { host, port, methods, path, allow_private, opaque };
        parts.checked()
    }

    /// A rule for one host, or every host below one, at a port.
    pub fn new(host: HostPattern, port: Option<u16>) -> Self {
        Self { host, port, methods: Vec::new(), path: None, allow_private: false, opaque: false }
    }

    /// The port at which the rule lets a host be reached.
    pub fn allowed_port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// Whether the rule looks at the request, which no tunnel shows.
    pub fn is_about_requests(&self) -> bool {
        !self.methods.is_empty() || self.path.is_some()
    }
}

impl HostPattern {
    /// Whether a host is meant by a rule that allows: an IP literal only by its own name.
    pub fn allows(&self, host: &HostName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(parent) => host.is_below(parent),
            Self::Any => host.ip().is_none(),
        }
    }

    /// How closely the hosts are named: one host, then longer suffixes, then every name.
    pub(super) fn closeness(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(parent) => parent.as_str().len(),
            Self::Any => 0,
        }
    }

    /// Whether a host is meant by a rule that denies: `*` is everything.
    pub fn denies(&self, host: &HostName) -> bool {
        *self == Self::Any || self.allows(host)
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; a bare IPv6 address has no port.
///
/// # Errors
///
/// The port is not a decimal number from 1 to 65535 without leading zeros.
pub fn split_port(text: &str) -> Result<(&str, Option<u16>), RuleError> {
    let split = if text.starts_with('[') {
        text.rsplit_once(']').and_then(|(host, rest)| {
            // The bracket belongs to the host; what follows must be a port.
            let port = rest.strip_prefix(':')?;
            text.get(..=host.len()).map(|host| (host, port))
        })
    } else if text.matches(':').count() == 1 {
        text.split_once(':')
    } else {
        None
    };
    let Some((host, port)) = split else { return Ok((text, None)) };
    let is_number = !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if is_number => Ok((host, Some(port))),
        _ => Err(RuleError::Port),
    }
}

fn target(text: &str) -> Result<(HostPattern, Option<u16>), RuleError> {
    if text.contains("//") {
        return Err(HostError::Url.into());
    }
    if text.contains('/') {
        return Err(RuleError::PathInHost);
    }
    let (host, port) = split_port(text)?;
    Ok((host.parse()?, port))
}

impl FromStr for HostPattern {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(parent) = text.strip_prefix("*.") {
            let parent = match HostName::parse(parent) {
                Err(_) if parent.contains('*') => return Err(RuleError::Wildcard),
                parent => parent?,
            };
            if parent.ip().is_some() {
                return Err(RuleError::BelowAddress);
            }
            return Ok(Self::Below(parent));
        }
        match HostName::parse(text) {
            Err(HostError::Character('*')) => Err(RuleError::Wildcard),
            host => Ok(Self::Exact(host?)),
        }
    }
}

/// What was read, before it is known to be a rule.
struct Parts {
    host: HostPattern,
    port: Option<u16>,
    methods: Option<Vec<String>>,
    path: Option<String>,
    allow_private: bool,
    opaque: bool,
}

impl Parts {
    fn checked(self) -> Result<HostRule, RuleError> {
        let mut methods = self.methods.unwrap_or_default();
        methods.sort_unstable();
        for (at, method) in methods.iter().enumerate() {
            let is_token = !method.is_empty()
                && method.len() <= METHOD_BYTES_MAX
                && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
            let is_twice = methods.get(at + 1) == Some(method);
            if !is_token || is_twice || method == "CONNECT" {
                return Err(RuleError::Method(method.chars().take(METHOD_BYTES_MAX).collect()));
            }
        }
        let path = self.path.map(|path| {
            if path.contains('?') {
                return Err(RuleError::Path(PathError::Character('?')));
            }
            let path = canonical_path(&path).map_err(RuleError::Path)?;
            let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty());
            Ok(bare.map_or(path.clone(), str::to_owned))
        });
        Ok(HostRule {
            host: self.host,
            port: self.port,
            methods,
            path: path.transpose()?,
            allow_private: self.allow_private,
            opaque: self.opaque,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(&host.authority()),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if !self.methods.is_empty() {
            write!(f, " methods={}", self.methods.join(","))?;
        }
        if let Some(path) = &self.path {
            write!(f, " path={path}")?;
        }
        if self.allow_private {
            f.write_str(" allow_private")?;
        }
        if self.opaque {
            f.write_str(" opaque")?;
        }
        Ok(())
    }
}

impl FromStr for HostRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        Self::parse(text)
    }
}

/// Written as text.
impl Serialize for HostRule {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Read from a text, or from a table of the same parts.
impl<'de> Deserialize<'de> for HostRule {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            host: String,
            port: Option<u16>,
            methods: Option<Vec<String>>,
            path: Option<String>,
            #[serde(default)]
            allow_private: bool,
            #[serde(default)]
            opaque: bool,
        }
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = HostRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host such as \"api.example.com\", or a table with `host`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HostRule, E> {
                HostRule::parse(text).map_err(|e| E::custom(format!("{text:?}: {e}")))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<HostRule, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let named = table.host.clone();
                let Table { host, port, methods, path, allow_private, opaque } = table;
                let rule = || {
                    let (host, own) = target(&host)?;
                    match (own, port) {
                        (Some(_), Some(_)) => return Err(RuleError::PortTwice),
                        (None, Some(0)) => return Err(RuleError::Port),
                        _ => {}
                    }
                    let port = own.or(port);
                    Parts { host, port, methods, path, allow_private, opaque }.checked()
                };
                rule().map_err(|e| de::Error::custom(format!("{named:?}: {e}")))
            }
        }
        from.deserialize_any(Reader)
    }
}
