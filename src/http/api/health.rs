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

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: &'static str,
}

/// Whether the daemon can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// `ready`, or `not_ready`.
    pub status: &'static str,
    /// What was checked.
    pub checks: BTreeMap<&'static str, CheckView>,
}

/// One part that the daemon needs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Check)]
pub struct CheckView {
    /// Whether it works.
    pub ok: bool,
    /// What it is, or what is wrong.
    pub detail: String,
}

macro_rules! alias {
    ($(#[$doc:meta])* $name:ident, $path:literal, $body:ty, $of:ident) => {
        $(#[$doc])*
        #[utoipa::path(get, path = $path, tag = "health", security(()),
            responses((status = 200, body = $body)))]
        pub async fn $name(app: State<App>) -> Response {
            $of(app).await
        }
    };
}

alias!(/** Says that the process is alive. */ health, "/health", Health, alive);
alias!(/** Says that the process is alive. */ healthz, "/healthz", Health, alive);
alias!(/** Says that the process is alive. */ live, "/live", Health, alive);
alias!(/** Says whether the daemon can work; 503 names what is not ready. */ ready, "/ready", Ready, readiness);
alias!(/** Says whether the daemon can work; 503 names what is not ready. */ readyz, "/readyz", Ready, readiness);

async fn alive(_: State<App>) -> Response {
    Json(Health { status: "ok" }).into_response()
}

async fn readiness(State(app): State<App>) -> Response {
    let readiness = app.orchestrator().readiness().await;
    let mut checks: BTreeMap<&'static str, CheckView> = readiness
        .checks
        .into_iter()
        .map(|check| (check.name, CheckView { ok: check.is_ok, detail: check.detail }))
        .collect();
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
