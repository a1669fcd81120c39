//! What agents may reach, and how connections go out.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use super::{
    super::settings::{BoundSecret, Egress},
    Reader,
};
use crate::domain::{EgressLimits, HostPolicy};

impl Reader<'_> {
    pub(super) fn egress(&mut self) -> Egress {
        Egress {
            allow_all: self.bool("egress.allow_all_domains"),
            enforce_proxy: self.bool("egress.enforce_proxy"),
            proxy_url: self.secret("egress.proxy_url"),
            ca_file: self.some("egress.ca_file").map(PathBuf::from),
            connect_to: self.connect_to(),
            secrets: self.bound_secrets(),
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

    pub(super) fn host_policy(&mut self, _agent: &str) -> HostPolicy {
        HostPolicy::default()
    }

    fn connect_to(&mut self) -> BTreeMap<(String, u16), SocketAddr> {
        let key = "egress.connect_to";
        let pairs = self.entry(key).and_then(|e| e.value.as_object()).cloned().unwrap_or_default();
        let mut out = BTreeMap::new();
        for (from, to) in pairs {
            let place = from
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host.to_owned(), port.parse::<u16>().ok()?)));
            let target = to.as_str().and_then(|to| to.parse::<SocketAddr>().ok());
            match (place, target) {
                (Some(place), Some(target)) => {
                    out.insert(place, target);
                }
                _ => {
                    let to = to.as_str().unwrap_or_default();
                    self.bad(
                        key,
                        format!("holds `{from}` = `{to}`: write \"host:port\" = \"address:port\""),
                    );
                }
            }
        }
        out
    }

    fn bound_secrets(&mut self) -> Vec<BoundSecret> {
        let mut out = Vec::new();
        for name in self.names("egress.secrets") {
            let key = |part: &str| format!("egress.secrets.{name}.{part}");
            let value = self.secret(&key("value"));
            let host = self.some(&key("host"));
            let port = u16::try_from(self.int(&key("port"))).ok().filter(|port| *port > 0);
            if port.is_none() {
                self.bad(&key("port"), "must be between 1 and 65535");
            }
            let path_prefix = self.text(&key("path_prefix"));
            if !path_prefix.starts_with('/') {
                self.bad(&key("path_prefix"), "must begin with `/`");
            }
            match (value, host, port) {
                (Some(value), Some(host), Some(port)) => {
                    out.push(BoundSecret { name, value, host, port, path_prefix });
                }
                (None, _, _) => self.bad(
                    &key("host"),
                    format!("binds `{name}`, which has no `value` or `value_file`"),
                ),
                (_, None, _) => self.bad(
                    &key("value"),
                    format!("is bound to nothing: set `egress.secrets.{name}.host`"),
                ),
                (_, _, None) => {}
            }
        }
        out
    }
}
