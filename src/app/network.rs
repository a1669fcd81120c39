//! The way of tools to other machines, as the settings describe it, with every decision on record.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use super::{cli::Failure, config::Settings};
use crate::{
    auth::AuditSink,
    domain::{AgentName, AuditEntry, AuditKind, EgressRecord, HostName, Surface},
    egress::{self, BoundSecret, OnRecord},
};

/// What the configuration says about the network.
pub(super) fn options(
    settings: &Settings,
    sink: Arc<dyn AuditSink>,
) -> Result<egress::Options, Failure> {
    let from = &settings.egress;
    let wrong = |key: &str, why: &dyn std::fmt::Display| Failure::usage(format!("{key}: {why}"));
    let upstream = match &from.proxy_url {
        Some(url) => Some(url.expose().parse().map_err(|e| wrong("egress.proxy_url", &e))?),
        None => None,
    };
    let host = |key: &str, text: &str| HostName::parse(text).map_err(|e| wrong(key, &e));
    let connect_to = from
        .connect_to
        .iter()
        .map(|((name, port), address)| Ok(((host("egress.connect_to", name)?, *port), *address)));
    let secrets = from.secrets.iter().map(|secret| {
        let key = format!("egress.secrets.{}.host", secret.name);
        Ok(BoundSecret {
            name: secret.name.clone(),
            value: secret.value.clone(),
            host: host(&key, &secret.host)?,
            port: secret.port,
            path_prefix: secret.path_prefix.clone(),
        })
    });
    let extra_roots = match &from.ca_file {
        Some(file) => CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|e| wrong("egress.ca_file", &e))?,
        None => Vec::new(),
    };
    Ok(egress::Options {
        upstream,
        connect_to: connect_to.collect::<Result<_, Failure>>()?,
        secrets: secrets.collect::<Result<_, Failure>>()?,
        extra_roots,
        on_record: recorder(sink),
        ..egress::Options::default()
    })
}

/// Puts every decision into the audit trail at once, also while the call runs.
fn recorder(sink: Arc<dyn AuditSink>) -> OnRecord {
    Arc::new(move |agent: &AgentName, run: &str, record: &EgressRecord| {
        let decision = if record.allowed { "allowed" } else { "denied" };
        metrics::counter!("agent_runtime_egress_total", "decision" => decision).increment(1);
        let mut data = serde_json::to_value(record).unwrap_or_else(|_| json!({}));
        if let Some(members) = data.as_object_mut() {
            members.insert("agent".to_owned(), Value::from(agent.as_str()));
        }
        sink.record(AuditEntry {
            kind: AuditKind::Egress,
            actor: "system".to_owned(),
            surface: Surface::System,
            run_id: run.parse().ok(),
            request_id: None,
            data,
        });
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        domain::{EgressVia, IdSource, RunId, SystemClock},
        runtime::tasks::lock,
    };

    #[derive(Default)]
    struct Kept(Mutex<Vec<AuditEntry>>);

    impl AuditSink for Kept {
        fn record(&self, entry: AuditEntry) {
            lock(&self.0).push(entry);
        }
    }

    #[test]
    fn a_decision_is_recorded_with_its_run_its_agent_and_its_reason() {
        let kept = Arc::new(Kept::default());
        let sink: Arc<dyn AuditSink> = Arc::clone(&kept) as _;
        let ids = IdSource::new(Arc::new(SystemClock), |bytes| bytes.fill(7));
        let run = RunId::new(&ids);
        let record = EgressRecord {
            call_id: None,
            via: EgressVia::Connect,
            host: "evil.example".to_owned(),
            port: 443,
            method: None,
            allowed: false,
            reason: "not_listed".to_owned(),
            address: None,
            bytes_up: 0,
            bytes_down: 0,
            duration_ms: 1,
            secrets: Vec::new(),
        };
        recorder(sink)(&"a".parse().unwrap(), &run.to_string(), &record);
        let entries = lock(&kept.0);
        let entry = entries.first().unwrap();
        assert_eq!((entry.kind, entry.run_id), (AuditKind::Egress, Some(run)));
        assert_eq!(entry.data["agent"], "a");
        assert_eq!(entry.data["reason"], "not_listed");
        assert_eq!(entry.data["host"], "evil.example");
    }
}
