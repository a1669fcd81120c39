//! The way of tools to other machines, as the settings describe it, with every decision on record.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{config::Settings, secrets::ages::Uses};
use crate::{
    auth::AuditSink,
    domain::{AgentName, AuditEntry, AuditKind, EgressRecord, Surface},
    egress::{self, OnRecord},
};

/// What the configuration says about the network.
pub(super) fn options(
    settings: &Settings,
    sink: Arc<dyn AuditSink>,
    uses: &Uses,
) -> egress::Options {
    egress::Options {
        upstream: settings.egress.upstream.clone(),
        connect_to: settings.egress.connect_to.clone(),
        secrets: settings.egress.secrets.clone(),
        extra_roots: settings.egress.extra_roots.clone(),
        on_record: recorder(sink, uses.clone()),
        ..egress::Options::default()
    }
}

/// Puts every decision into the audit trail at once, also while the call runs.
fn recorder(sink: Arc<dyn AuditSink>, uses: Uses) -> OnRecord {
    Arc::new(move |agent: &AgentName, run: &str, record: &EgressRecord| {
        let decision = if record.allowed { "allowed" } else { "denied" };
        metrics::counter!("agent_runtime_egress_total", "decision" => decision).increment(1);
        let mut data = serde_json::to_value(record).unwrap_or_else(|_| json!({}));
        if let Some(members) = data.as_object_mut() {
            members.insert("agent".to_owned(), Value::from(agent.as_str()));
        }
        for name in record.secrets.iter().filter(|_| record.allowed) {
            uses.used(name);
            sink.record(AuditEntry {
                kind: AuditKind::SecretUsed,
                actor: "system".to_owned(),
                surface: Surface::System,
                run_id: run.parse().ok(),
                request_id: None,
                data: json!({
                    "name": name, "host": record.host, "port": record.port,
                    "agent": agent.as_str(), "call_id": record.call_id,
                }),
            });
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
            secrets: vec!["KEY".to_owned()],
        };
        let record_it = recorder(sink, Uses::default());
        record_it(&"a".parse().unwrap(), &run.to_string(), &record);
        assert_eq!(lock(&kept.0).len(), 1, "a refused request uses no secret");
        let used = EgressRecord { allowed: true, ..record };
        record_it(&"a".parse().unwrap(), &run.to_string(), &used);
        let entries = lock(&kept.0);
        let use_of = &entries[1];
        assert_eq!((use_of.kind, &use_of.data["name"]), (AuditKind::SecretUsed, &json!("KEY")));
        let entry = entries.first().unwrap();
        assert_eq!((entry.kind, entry.run_id), (AuditKind::Egress, Some(run)));
        assert_eq!(entry.data["agent"], "a");
        assert_eq!(entry.data["reason"], "not_listed");
        assert_eq!(entry.data["host"], "evil.example");
    }
}
