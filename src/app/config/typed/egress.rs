//! What agents may reach, and how connections go out.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{super::settings::Egress, Reader};
use crate::{
    domain::{EgressLimits, HostName, HostPattern, HostPolicy, HostRule, Secret, host::split_port},
    egress::{BoundSecret, Upstream},
};

impl Reader<'_> {
    pub(super) fn egress(&mut self) -> Egress {
        let proxy_url = self.secret("egress.proxy_url");
        let (secrets, sealed) = self.bound_secrets();
        Egress {
            allow_all: self.bool("egress.allow_all_domains"),
            enforce_proxy: self.bool("egress.enforce_proxy"),
            upstream: proxy_url.as_ref().and_then(|url| self.upstream(url.expose())),
            extra_roots: self.extra_roots(),
            connect_to: self.connect_to(),
            secrets,
            sealed,
        }
    }

    pub(super) fn egress_limits(&mut self, agent: &str) -> EgressLimits {
        let key = |part: &str| format!("agents.{agent}.egress.{part}");
        EgressLimits {
            connections: self.int(&key("connections")),
            requests: self.int(&key("requests")),
            bytes_up: self.int(&key("bytes_up")),
            bytes_down: self.int(&key("bytes_down")),
            tunnels: self.int(&key("tunnels")),
            names_per_minute: self.int(&key("names_per_minute")),
        }
    }

    /// What the configuration lets an agent reach.
    pub(super) fn host_policy(&mut self, agent: &str) -> HostPolicy {
        let key = |part: &str| format!("agents.{agent}.{part}");
        let mut allow = self.host_rules(&key("allowed_domains"));
        if self.bool("egress.allow_all_domains") {
            let public = [None, Some(80)].map(|port| HostRule::new(HostPattern::Any, port));
            allow.extend(public);
        }
        HostPolicy { allow, deny: self.host_rules(&key("denied_domains")) }
    }

    fn host_rules(&mut self, key: &str) -> Vec<HostRule> {
        let items = self.entry(key).and_then(|e| e.value.as_array()).cloned().unwrap_or_default();
        let mut out = Vec::new();
        for item in items {
            match serde_json::from_value::<HostRule>(item) {
                Ok(rule) => out.push(rule),
                Err(error) => self.bad(key, format!("holds {error}")),
            }
        }
        out
    }

    /// The URL may hold a password: it is not repeated.
    fn upstream(&mut self, url: &str) -> Option<Upstream> {
        url.parse().map_err(|error| self.bad("egress.proxy_url", format!("is {error}"))).ok()
    }

    fn extra_roots(&mut self) -> Vec<CertificateDer<'static>> {
        let key = "egress.ca_file";
        let Some(path) = self.some(key) else { return Vec::new() };
        let found = CertificateDer::pem_file_iter(Path::new(&path))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match found {
            Ok(found) if !found.is_empty() => return found,
            Ok(_) => self.bad(key, format!("= `{path}` holds no certificate (PEM is wanted)")),
            Err(error) => self.bad(key, format!("= `{path}` cannot be read: {error}")),
        }
        Vec::new()
    }

    fn connect_to(&mut self) -> BTreeMap<(HostName, u16), SocketAddr> {
        let key = "egress.connect_to";
        let pairs = self.entry(key).and_then(|e| e.value.as_object()).cloned().unwrap_or_default();
        let mut out = BTreeMap::new();
        for (from, to) in pairs {
            let to = to.as_str().unwrap_or_default();
            match (place(&from), to.parse::<SocketAddr>()) {
                (Ok(place), Ok(target)) => drop(out.insert(place, target)),
                (Err(error), _) => self.bad(key, format!("holds `{from}`: {error}")),
                (Ok(_), Err(_)) => {
                    let what = "is not an address such as 203.0.113.7:8443 or [2001:db8::7]:8443";
                    self.bad(key, format!("sends `{from}` to `{to}`, which {what}"));
                }
            }
        }
        out
    }

    /// Those that have a value, and those whose value the daemon keeps under the same name.
    fn bound_secrets(&mut self) -> (Vec<BoundSecret>, Vec<BoundSecret>) {
        let (mut out, mut sealed) = (Vec::new(), Vec::new());
        for name in self.names("egress.secrets") {
            let key = |part: &str| format!("egress.secrets.{name}.{part}");
            let value = self.secret(&key("value"));
            let text = self.text(&key("host"));
            let host = HostName::parse(&text)
                .map_err(|error| self.bad(&key("host"), format!("= `{text}`: {error}")))
                .ok();
            let port = u16::try_from(self.int(&key("port"))).ok().filter(|port| *port > 0);
            if port.is_none() {
                self.bad(&key("port"), "must be between 1 and 65535");
            }
            let path_prefix = self.text(&key("path_prefix"));
            if !path_prefix.starts_with('/') {
                self.bad(&key("path_prefix"), format!("= `{path_prefix}` must begin with `/`"));
            }
            let plain_http = self.bool(&key("plain_http"));
            if let (Some(host), Some(port)) = (host, port) {
                let list = if value.is_some() { &mut out } else { &mut sealed };
                let value = value.unwrap_or_else(|| Secret::new(String::new()));
                list.push(BoundSecret { name, value, host, port, path_prefix, plain_http });
            }
        }
        (out, sealed)
    }
}

/// `host:port`, both said.
fn place(text: &str) -> Result<(HostName, u16), String> {
    let (host, port) = split_port(text).map_err(|error| error.to_string())?;
    let port = port.ok_or("write the port too, such as `mirror.example:443`")?;
    HostName::parse(host).map(|host| (host, port)).map_err(|error| error.to_string())
}
