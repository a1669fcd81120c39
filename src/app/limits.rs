//! How often and how much anybody may ask, start and use: from the settings to the parts.

use std::sync::Arc;

use serde_json::json;

use super::config::Settings;
use crate::{
    auth::{AuditSink, RequestRates},
    http, llm,
    orchestrator::{self, AlertKind, Alerts},
    runtime::LogFile,
};

/// The bounds of runs.
pub(super) fn of_runs(settings: &Settings) -> orchestrator::Options {
    orchestrator::Options {
        queued_max: settings.queued_runs,
        queued_per_principal_max: settings.bounds.queued_per_principal,
        active_max: settings.active_runs,
        approval_ttl: settings.approval_ttl,
        wait_max: settings.wait_for_person,
        model_requests_per_minute: settings.bounds.model_requests_per_principal,
        model_tokens_per_minute: settings.bounds.model_tokens_per_principal,
    }
}

/// How long things are kept.
pub(super) fn of_keeping(
    settings: &Settings,
    log: Option<LogFile>,
) -> orchestrator::KeepingOptions {
    orchestrator::KeepingOptions { retention: settings.retention, log }
}

/// The public listener and its bounds.
pub(super) fn of_listener(settings: &Settings) -> http::Options {
    http::Options {
        hosts: settings.hosts.clone(),
        cors_origins: settings.cors_origins.clone(),
        trusted_proxies: settings.trusted_proxies.clone(),
        connections_max: settings.bounds.connections,
        connections_per_address: settings.bounds.connections_per_address,
        websockets_max: settings.bounds.websockets,
        websockets_per_principal: settings.bounds.websockets_per_principal,
        streams_per_principal: settings.bounds.streams_per_principal,
        ..http::Options::on(settings.http_addr)
    }
}

/// How often the public listener may be asked.
pub(super) fn of_requests(settings: &Settings, audit: Arc<dyn AuditSink>) -> RequestRates {
    let bounds = &settings.bounds;
    RequestRates::new(bounds.requests_per_principal, bounds.requests_per_address, audit)
}

/// Says when a model begins to rest and when it is asked again.
pub(super) fn watch_models(alerts: &Alerts) -> llm::Watcher {
    let alerts = alerts.clone();
    llm::Watcher(Arc::new(move |change: llm::BreakerChange| {
        let (kind, data) = match change.state {
            llm::BreakerState::Open { class, rests } => (
                AlertKind::BreakerOpen,
                json!({ "class": class.as_str(), "rests_secs": rests.as_secs() }),
            ),
            llm::BreakerState::Closed | llm::BreakerState::HalfOpen { .. } => {
                (AlertKind::BreakerClosed, json!({}))
            }
        };
        alerts.raise(kind, &change.model, data);
    }))
}
