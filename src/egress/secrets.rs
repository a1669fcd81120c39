//! Secrets in headers: put in only for the one place that each is bound to.

use std::sync::{Arc, PoisonError, RwLock};

use super::{
    options::{BoundSecret, EgressError},
    record::Attempt,
    template,
};
use crate::domain::{HostName, host::canonical_path};

/// The secrets that placeholders may stand for now.
pub(super) struct Secrets(RwLock<Arc<Vec<BoundSecret>>>);

/// A placeholder that stands for nothing here. The attempt knows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misused;

/// Where a request goes, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'p> {
    pub(super) host: &'p HostName,
    pub(super) port: u16,
    /// Nobody on the way can read it.
    pub(super) is_tls: bool,
    /// With or without its query.
    pub(super) path: &'p str,
}

impl Secrets {
    /// # Errors
    /// When one cannot stand in a header.
    pub(super) fn checked(secrets: Vec<BoundSecret>) -> Result<Self, EgressError> {
        check(&secrets)?;
        Ok(Self(RwLock::new(Arc::new(secrets))))
    }

    /// Puts others in their place; requests under way keep what they were filled with.
    ///
    /// # Errors
    /// When one cannot stand in a header; then nothing changes.
    pub(super) fn replace(&self, secrets: Vec<BoundSecret>) -> Result<(), EgressError> {
        check(&secrets)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secrets);
        Ok(())
    }

    fn now(&self) -> Arc<Vec<BoundSecret>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts values in the place of placeholders. The attempt learns each name, also of a misuse.
    ///
    /// # Errors
    /// A placeholder that is malformed, unknown, not bound to this place, or stands elsewhere than
    /// in a header's value.
    pub(super) fn fill(
        &self,
        headers: &[(String, String)],
        place: Place<'_>,
        attempt: &Attempt,
    ) -> Result<Vec<(String, String)>, Misused> {
        template::refuse_in(place.path.as_bytes()).map_err(|_misplaced| Misused)?;
        let secrets = self.now();
        let fill = |(name, value): &(String, String)| {
            template::refuse_in(name.as_bytes()).map_err(|_misplaced| Misused)?;
            let found = template::placeholders(value).map_err(|_malformed| Misused)?;
            if found.is_empty() {
                return Ok((name.clone(), value.clone()));
            }
            for placeholder in &found {
                attempt.secret(placeholder.name);
            }
            let value_of = |name: &str| bound(&secrets, name, place);
            let filled = template::filled(value, &found, value_of).ok_or(Misused)?;
            Ok((name.clone(), filled))
        };
        headers.iter().map(fill).collect()
    }
}

/// The value of a secret, if it is bound to this place.
fn bound<'s>(secrets: &'s [BoundSecret], name: &str, place: Place<'_>) -> Option<&'s str> {
    // What servers could read in two ways lies below no prefix.
    let path = canonical_path(place.path).ok()?;
    let is_bound = |secret: &&BoundSecret| {
        secret.name == name
            && secret.host == *place.host
            && secret.port == place.port
            && (place.is_tls || secret.plain_http || secret.port == 80)
            && is_below(&path, &secret.path_prefix)
    };
    secrets.iter().find(is_bound).map(|secret| secret.value.expose().as_str())
}

fn check(secrets: &[BoundSecret]) -> Result<(), EgressError> {
    for secret in secrets {
        let placeholder = format!("{{{{secret:{}}}}}", secret.name);
        let is_name = template::placeholders(&placeholder).is_ok_and(|found| found.len() == 1);
        let value = secret.value.expose();
        let is_value = !value.is_empty() && value.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e));
        let is_path = canonical_path(&secret.path_prefix).is_ok();
        if !is_name || !is_value || !is_path {
            return Err(EgressError::Secret { name: secret.name.clone() });
        }
    }
    Ok(())
}

fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        domain::{EgressVia, Secret, ToolCallId},
        egress::record::{Log, Recorder},
    };

    fn bound(name: &str, value: &str, path: &str) -> BoundSecret {
        BoundSecret {
            name: name.to_owned(),
            value: Secret::new(value.to_owned()),
            host: HostName::parse("api.example").unwrap(),
            port: 443,
            path_prefix: path.to_owned(),
            plain_http: false,
        }
    }

    fn fill(
        host: &str,
        port: u16,
        path: &str,
        value: &str,
    ) -> (Result<String, Misused>, Vec<String>) {
        let secrets = Secrets::checked(vec![bound("TOKEN", "s3cret", "/v1/")]).unwrap();
        let recorder = Recorder::new("a".parse().unwrap(), String::new(), Arc::new(|_, _, _| {}));
        let log = Log::new(Some(ToolCallId::from(uuid::Uuid::nil())), Arc::new(recorder));
        let attempt = log.attempt(EgressVia::Fetch, host, port, None);
        let headers = [("authorization".to_owned(), value.to_owned())];
        let host = HostName::parse(host).unwrap();
        let place = Place { host: &host, port, is_tls: true, path };
        let filled = secrets.fill(&headers, place, &attempt);
        drop(attempt);
        let names = log.close().records.remove(0).secrets;
        (filled.map(|mut headers| headers.remove(0).1), names)
    }

    #[test]
    fn a_placeholder_is_filled_only_in_its_place() {
        let value = "Bearer {{secret:TOKEN}}";
        let names = vec!["TOKEN".to_owned()];
        for path in ["/v1", "/v1/", "/v1/x?q=1"] {
            let wanted = (Ok("Bearer s3cret".to_owned()), names.clone());
            assert_eq!(fill("api.example", 443, path, value), wanted, "{path}");
        }
        for (host, port, path) in [
            ("other.example", 443, "/v1/x"),
            ("x.api.example", 443, "/v1/x"),
            ("api.example", 80, "/v1/x"),
            ("api.example", 443, "/v2"),
            ("api.example", 443, "/v1x"),
            ("api.example", 443, "/v1/../v2"),
            ("api.example", 443, "/v1/%2e%2e/v2"),
        ] {
            let wanted = (Err(Misused), names.clone());
            assert_eq!(fill(host, port, path, value), wanted, "{host}:{port}{path}");
        }
    }

    #[test]
    fn a_secret_goes_out_in_clear_text_only_where_its_binding_says_so() {
        let host = HostName::parse("api.example").unwrap();
        for (port, plain_http, is_tls, wanted) in [
            (443, false, true, true),
            (443, false, false, false),
            (8443, false, false, false),
            (8080, true, false, true),
            (8080, true, true, true),
            (80, false, false, true),
        ] {
            let secret = BoundSecret { port, plain_http, ..bound("TOKEN", "s3cret", "/") };
            let place = Place { host: &host, port, is_tls, path: "/" };
            let is_bound = super::bound(&[secret], "TOKEN", place).is_some();
            assert_eq!(is_bound, wanted, "{port} {plain_http} {is_tls}");
        }
    }

    #[test]
    fn a_placeholder_that_is_unknown_malformed_or_elsewhere_is_misuse() {
        for value in ["{{secret:OTHER}}", "{{secret:TOKEN", "{{SECRET:TOKEN}}", "{{secret:to}}"] {
            assert_eq!(fill("api.example", 443, "/v1", value).0, Err(Misused), "{value}");
        }
        for path in ["/v1/{{secret:TOKEN}}", "/v1?x=%7b%7bsecret:TOKEN%7d%7d"] {
            assert_eq!(fill("api.example", 443, path, "x").0, Err(Misused), "{path}");
        }
        assert_eq!(fill("api.example", 443, "/v1", "plain"), (Ok("plain".to_owned()), vec![]));
    }

    #[test]
    fn a_secret_that_cannot_stand_in_a_header_is_refused_at_the_start() {
        for secret in [
            bound("TOKEN", "two\r\nlines", "/"),
            bound("TOKEN", "", "/"),
            bound("no name", "value", "/"),
            bound("TOKEN", "value", "no-path"),
            bound("TOKEN", "value", "/../x"),
        ] {
            assert!(Secrets::checked(vec![secret]).is_err());
        }
    }
}
