//! Probes: is the process alive, and can it do its work. Open to anybody; they say nothing else.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use crate::orchestrator::Check;

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    pub(super) status: &'static str,
}

/// Whether the daemon can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// `ready`, or `not_ready`.
    pub(super) status: &'static str,
    /// What was checked.
    pub(super) checks: BTreeMap<&'static str, CheckView>,
}

/// One part that the daemon needs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Check)]
pub(super) struct CheckView {
    /// Whether it works.
    pub(super) ok: bool,
    /// What it is, or what is wrong.
    pub(super) detail: String,
}

macro_rules! alias {
    ($(#[$doc:meta])* $name:ident, $path:literal, $body:ty, $of:ident) => {
        $(#[$doc])*
        #[utoipa::path(get, path = $path, tag = "health", security(()),
            responses((status = 200, body = $body)))]
        pub(super) async fn $name(app: State<App>) -> Response {
            $of(app).await
        }
    };
}

alias!(/** Says that the process is alive. */ health, "/health", Health, alive);
alias!(/** Says that the process is alive. */ healthz, "/healthz", Health, alive);
alias!(/** Says that the process is alive. */ live, "/live", Health, alive);
alias!(/** Says whether the daemon can work; 503 names what is not ready. */ ready, "/ready", Ready, readiness);
alias!(/** Says whether the daemon can work; 503 names what is not ready. */ readyz, "/readyz", Ready, readiness);

fn alive(_: State<App>) -> std::future::Ready<Response> {
    std::future::ready(Json(Health { status: "ok" }).into_response())
}

async fn readiness(State(app): State<App>) -> Response {
    let readiness = app.orchestrator().readiness().await;
    let view = |check: Check| CheckView { ok: check.ok, detail: check.detail };
    let mut checks = BTreeMap::from([
        ("store", view(readiness.store)),
        ("llm", view(readiness.llm)),
        ("sandbox", view(readiness.sandbox)),
        ("egress", view(readiness.egress)),
    ]);
    checks.extend(readiness.lockdown.map(|check| ("lockdown", view(check))));
    checks.extend(readiness.replica.map(|check| ("replica", view(check))));
    if app.stop().is_soft() {
        checks.insert("lifecycle", CheckView { ok: false, detail: "stopping".to_owned() });
    }
    let is_ready = checks.values().all(|check| check.ok);
    let (code, status) = if is_ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    (code, Json(Ready { status, checks })).into_response()
}
