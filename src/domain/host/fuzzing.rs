//! What holds for every text and every policy; shared by the property tests and `fuzz/`.
#![expect(
    clippy::missing_panics_doc,
    reason = "a law that does not hold is what a fuzzer looks for"
)]

use super::{
    Destination, HostName, HostPattern, HostPolicy, HostRule, HostVerdict, canonical_path,
};

/// Fuzz entry: lines of a policy (`-` before a denied one), then a destination.
pub fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut policy = HostPolicy::default();
    let mut hosts = Vec::new();
    for line in text.lines().take(16) {
        host_text(line);
        path(line);
        let (list, line) = match line.strip_prefix('-') {
            Some(line) => (&mut policy.deny, line),
            None => (&mut policy.allow, line),
        };
        if let Ok(rule) = HostRule::parse(line) {
            assert_eq!(HostRule::parse(&rule.to_string()), Ok(rule.clone()), "{rule}");
            list.push(rule);
        }
        hosts.extend(HostName::parse(line));
    }
    for host in hosts {
        for port in [443, 80] {
            self::policy(&policy, &Destination::tunnel(&host, port));
            let line = text.lines().last().unwrap_or_default();
            self::policy(&policy, &Destination::request(&host, port, "GET", line));
        }
    }
}

/// A host has one spelling, and clients would read the text as that host.
pub(super) fn host_text(text: &str) {
    let Ok(host) = HostName::parse(text) else { return };
    let shown = host.as_str();
    assert_eq!(HostName::parse(shown).as_ref(), Ok(&host), "canonical form of {text:?}");
    assert_eq!(HostName::parse(&host.authority()).as_ref(), Ok(&host));
    assert_eq!(HostName::parse(&text.to_ascii_uppercase()).as_ref(), Ok(&host));
    assert!(shown.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{shown:?}");
    assert!(!shown.ends_with('.'));
    if let Some(ip) = host.ip() {
        assert_eq!(ip.to_string(), shown);
        assert_eq!(HostName::from_ip(ip).as_ref(), Ok(&host));
        assert!(HostName::parse(&format!("{shown}.")).is_err());
    } else {
        assert!(HostName::parse(&format!("{shown}.")).is_ok(), "{shown}");
        assert!(shown.len() <= 253);
    }
    // The reading of the WHATWG URL standard, where it has one.
    let bracketed = if text.contains(':') && !text.starts_with('[') {
        format!("[{text}]")
    } else {
        text.to_owned()
    };
    if let Ok(other) = url::Host::parse(&bracketed) {
        let other = other.to_string();
        assert_eq!(other.trim_matches(['[', ']']).trim_end_matches('.'), shown, "{text:?}");
    }
}

/// A canonical path is its own canonical form and leads nowhere else.
pub(super) fn path(text: &str) {
    let Ok(path) = canonical_path(text) else { return };
    assert_eq!(canonical_path(&path).as_ref(), Ok(&path), "{text:?}");
    assert!(path.starts_with('/') && path.is_ascii() && !path.contains("//"), "{path}");
    assert!(!path.contains(['\\', '?', '#', '\0', ' ']), "{path}");
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{path}");
}

/// The laws of a decision.
pub(super) fn policy(policy: &HostPolicy, to: &Destination<'_>) {
    let without_deny = HostPolicy { allow: policy.allow.clone(), deny: Vec::new() };
    let without_allow = HostPolicy { allow: Vec::new(), deny: policy.deny.clone() };
    assert!(matches!(without_allow.decide(to), HostVerdict::Deny(_)), "nothing allows {to:?}");
    let HostVerdict::Allow { rule } = policy.decide(to) else { return };
    assert!(rule.host.allows(to.host) && rule.allowed_port() == to.port, "{rule} for {to:?}");
    assert!(to.host.ip().is_none() || matches!(rule.host, HostPattern::Exact(_)), "{rule}");
    assert!(
        rule.methods.is_empty() || to.method.is_some_and(|m| rule.methods.iter().any(|r| r == m))
    );
    assert!(rule.path.is_none() || to.path.is_some());
    assert!(matches!(without_deny.decide(to), HostVerdict::Allow { .. }), "deny lets through");
    assert!(matches!(policy.may_resolve(to.host), HostVerdict::Allow { .. }), "{to:?} has no name");
    // Denying the host, or everything, ends it.
    for host in [HostPattern::Exact(to.host.clone()), HostPattern::Any] {
        for port in [None, Some(to.port)] {
            let mut stricter = policy.clone();
            stricter.deny.push(HostRule::new(host.clone(), port));
            assert!(matches!(stricter.decide(to), HostVerdict::Deny(_)), "deny must win: {to:?}");
        }
    }
    // What a tunnel may carry, a request may be.
    if to.method.is_none() {
        let seen = Destination::request(to.host, to.port, "GET", "/");
        assert!(matches!(policy.decide(&seen), HostVerdict::Allow { .. }), "{to:?}");
    }
}
