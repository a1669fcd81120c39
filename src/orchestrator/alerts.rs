//! What those who run the daemon should look at: said once, in the log, the counters and the
//! audit trail.
//!
//! Invariants: saying something again within its window is dropped, however often and from wherever
//! it is said; memory is bounded. Nothing here decides or delays anything.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    auth::AuditSink,
    domain::{AuditEntry, AuditKind, Clock, PrincipalId, Surface, Timestamp, limits},
    runtime::tasks::lock,
};

mod spike;

use spike::Spike;

/// How long the same thing about the same subject is not said again.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Things that were said and are remembered at most.
const REMEMBERED_MAX: usize = 4_096;
/// Identities whose use is watched at most; the rest is seen in the whole.
const WATCHED_MAX: usize = 4_096;
/// Refused credentials within five minutes that are no longer a person's mistake.
const AUTH_FAILURES: u64 = 10;
/// Failed runs within five minutes below which nothing is said.
const FAILED_RUNS: u64 = 20;
/// Tokens of one identity within five minutes below which nothing is said.
const TOKENS: u64 = 500_000;
/// How many times its hourly mean makes something unusual.
const UNUSUAL: u64 = 5;

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// Four fifths of a budget are used.
    Budget80,
    /// A budget refused a call.
    BudgetExhausted,
    /// A model is not asked any more.
    BreakerOpen,
    /// It answers again.
    BreakerClosed,
    /// Many runs wait.
    QueueLong,
    /// Credentials are refused again and again.
    AuthFailures,
    /// Pairing codes are refused again and again.
    PairingFailures,
    /// An identity uses far more tokens than it did.
    TokenSpike,
    /// Far more runs fail than did.
    TaskFailures,
    /// A backup was not made, or not carried away.
    BackupFailed,
}

impl AlertKind {
    /// The name in the counters, the log and the audit trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Budget80 => "budget_80",
            Self::BudgetExhausted => "budget_exhausted",
            Self::BreakerOpen => "breaker_open",
            Self::BreakerClosed => "breaker_closed",
            Self::QueueLong => "queue_long",
            Self::AuthFailures => "auth_failures",
            Self::PairingFailures => "pairing_failures",
            Self::TokenSpike => "token_spike",
            Self::TaskFailures => "task_failures",
            Self::BackupFailed => "backup_failed",
        }
    }
}

/// Says what should be looked at. Clones share what was said.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    sink: Arc<dyn AuditSink>,
    said: Mutex<HashMap<(AlertKind, String), Timestamp>>,
    auth: Mutex<Spike>,
    pairing: Mutex<Spike>,
    failures: Mutex<Spike>,
    tokens: Mutex<HashMap<PrincipalId, Spike>>,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alerts")
    }
}

impl Alerts {
    /// Alerts that are recorded in `sink`.
    pub fn new(clock: Arc<dyn Clock>, sink: Arc<dyn AuditSink>) -> Self {
        Self(Arc::new(Inner {
            clock,
            sink,
            said: Mutex::default(),
            auth: Mutex::default(),
            pairing: Mutex::default(),
            failures: Mutex::default(),
            tokens: Mutex::default(),
        }))
    }

    /// Says it, unless it was said of this subject within the last quarter of an hour; whether it
    /// was said now. `data`: names, numbers and reasons, never payloads.
    pub fn raise(&self, kind: AlertKind, subject: &str, data: Value) -> bool {
        let is_news = self.is_news(kind, subject);
        if is_news {
            self.0.sink.record(entry(kind, subject, data));
        }
        is_news
    }

    /// The same for what is found within a transaction: the row becomes part of it. The caller
    /// sees to it that it is said once.
    pub fn entry(&self, kind: AlertKind, subject: &str, data: Value) -> AuditEntry {
        entry(kind, subject, data)
    }

    /// Records something beside the alerts, in the order in which it happens.
    pub(super) fn record_limit(&self, entry: AuditEntry) {
        self.0.sink.record(entry);
    }

    fn is_news(&self, kind: AlertKind, subject: &str) -> bool {
        let now = self.0.clock.now();
        let mut said = lock(&self.0.said);
        let key = (kind, subject.to_owned());
        if said.get(&key).is_some_and(|at| now.since(*at) < WINDOW) {
            return false;
        }
        if said.len() >= REMEMBERED_MAX {
            said.retain(|_, at| now.since(*at) < WINDOW);
            if said.len() >= REMEMBERED_MAX {
                // Better said twice than not at all.
                said.clear();
            }
        }
        said.insert(key, now);
        true
    }

    /// Many runs wait: said when they are more than a hundred.
    pub fn queue(&self, waiting: u64) {
        if waiting > limits::QUEUE_ALERT {
            self.raise(AlertKind::QueueLong, "queue", json!({ "queued": waiting }));
        }
    }

    /// A run failed.
    pub fn run_failed(&self, code: &str) {
        let now = self.0.clock.now();
        let spike = lock(&self.0.failures).add(1, now, FAILED_RUNS, UNUSUAL);
        if let Some(found) = spike {
            let data = json!({
                "failed": found.recent, "usual": found.usual, "within_secs": spike::STEP_SECS,
                "last_code": code,
            });
            self.raise(AlertKind::TaskFailures, "runs", data);
        }
    }

    /// An identity used tokens.
    pub fn tokens_used(&self, principal: PrincipalId, tokens: u64) {
        let now = self.0.clock.now();
        let mut all = lock(&self.0.tokens);
        if all.len() >= WATCHED_MAX && !all.contains_key(&principal) {
            all.retain(|_, spike| !spike.is_idle(now));
            if all.len() >= WATCHED_MAX {
                return;
            }
        }
        let spike = all.entry(principal).or_default().add(tokens, now, TOKENS, UNUSUAL);
        drop(all);
        if let Some(found) = spike {
            let data = json!({
                "tokens": found.recent, "usual": found.usual, "within_secs": spike::STEP_SECS,
            });
            self.raise(AlertKind::TokenSpike, &principal.to_string(), data);
        }
    }

    /// A sink that passes everything on and looks at what goes by: refused credentials.
    pub fn watching(&self) -> Arc<dyn AuditSink> {
        Arc::new(self.clone())
    }

    fn see(&self, entry: &AuditEntry) {
        let (kind, spikes) = match entry.kind {
            AuditKind::AuthFailed => (AlertKind::AuthFailures, &self.0.auth),
            AuditKind::PairingFailed => (AlertKind::PairingFailures, &self.0.pairing),
            _ => return,
        };
        let now = self.0.clock.now();
        let found = lock(spikes).add(1, now, AUTH_FAILURES, UNUSUAL);
        if let Some(found) = found {
            let data = json!({
                "failures": found.recent, "within_secs": spike::STEP_SECS, "last": entry.data,
            });
            self.raise(kind, "credentials", data);
        }
    }
}

impl AuditSink for Alerts {
    fn record(&self, entry: AuditEntry) {
        self.see(&entry);
        self.0.sink.record(entry);
    }
}

fn entry(kind: AlertKind, subject: &str, data: Value) -> AuditEntry {
    metrics::counter!("agent_runtime_alerts_total", "kind" => kind.as_str()).increment(1);
    tracing::warn!(alert = kind.as_str(), subject, %data, "alert");
    AuditEntry {
        kind: AuditKind::Alert,
        actor: "system".to_owned(),
        surface: Surface::System,
        run_id: None,
        request_id: None,
        data: json!({ "alert": kind.as_str(), "subject": subject, "data": data }),
    }
}

#[cfg(test)]
mod tests;
