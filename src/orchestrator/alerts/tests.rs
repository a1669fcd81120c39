use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::domain::{IdSource, ManualClock};

#[derive(Default)]
struct Kept(Mutex<Vec<AuditEntry>>);

impl AuditSink for Kept {
    fn record(&self, entry: AuditEntry) {
        lock(&self.0).push(entry);
    }
}

fn alerts() -> (Alerts, Arc<Kept>, Arc<ManualClock>) {
    let (kept, clock) = (Arc::new(Kept::default()), Arc::new(ManualClock::at_secs(1_000_000)));
    let sink: Arc<dyn AuditSink> = Arc::<Kept>::clone(&kept);
    (Alerts::new(Arc::<ManualClock>::clone(&clock), sink), kept, clock)
}

fn said(kept: &Kept) -> Vec<String> {
    let alerts = lock(&kept.0);
    let alerts = alerts.iter().filter(|e| e.kind == AuditKind::Alert);
    alerts.filter_map(|e| e.data["alert"].as_str().map(str::to_owned)).collect()
}

#[test]
fn the_same_thing_is_said_once_in_its_window_and_other_things_are_said() {
    let (alerts, kept, clock) = alerts();
    assert!(alerts.raise(AlertKind::BreakerOpen, "a", json!({})));
    for _ in 0..100 {
        assert!(!alerts.raise(AlertKind::BreakerOpen, "a", json!({})));
    }
    assert!(alerts.raise(AlertKind::BreakerOpen, "b", json!({})));
    assert!(alerts.raise(AlertKind::BreakerClosed, "a", json!({})));
    clock.advance(WINDOW);
    assert!(alerts.raise(AlertKind::BreakerOpen, "a", json!({})));
    assert_eq!(lock(&kept.0).len(), 4);
}

#[test]
fn however_many_things_are_said_memory_is_bounded() {
    let (alerts, _, _) = alerts();
    for n in 0..3 * REMEMBERED_MAX {
        alerts.raise(AlertKind::Budget80, &n.to_string(), json!({}));
    }
    assert!(lock(&alerts.0.said).len() <= REMEMBERED_MAX);
}

#[test]
fn repeated_failures_to_log_in_are_passed_on_and_make_one_alert() {
    let (alerts, kept, _) = alerts();
    let sink = alerts.watching();
    let failed = AuditEntry {
        kind: AuditKind::AuthFailed,
        actor: "unknown".to_owned(),
        surface: Surface::Api,
        run_id: None,
        request_id: None,
        data: json!({ "reason": "invalid" }),
    };
    for _ in 0..AUTH_FAILURES - 1 {
        sink.record(failed.clone());
    }
    assert!(said(&kept).is_empty());
    for _ in 0..10 {
        sink.record(failed.clone());
    }
    assert_eq!(said(&kept), ["auth_failures"]);
    assert_eq!(lock(&kept.0).len() as u64, AUTH_FAILURES + 9 + 1, "nothing is held back");
}

#[test]
fn a_long_queue_failing_runs_and_unusual_use_are_said() {
    let (alerts, kept, clock) = alerts();
    let ids = IdSource::new(Arc::<ManualClock>::clone(&clock), |bytes| bytes.fill(7));
    let me = PrincipalId::new(&ids);
    alerts.queue(limits::QUEUE_ALERT);
    alerts.tokens_used(me, TOKENS - 1);
    for _ in 0..FAILED_RUNS - 1 {
        alerts.run_failed("llm.timeout");
    }
    assert!(said(&kept).is_empty());
    alerts.queue(limits::QUEUE_ALERT + 1);
    alerts.tokens_used(me, 1);
    alerts.run_failed("llm.timeout");
    assert_eq!(said(&kept), ["queue_long", "token_spike", "task_failures"]);
}
