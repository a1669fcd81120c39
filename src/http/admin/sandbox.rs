//! How tools are confined now.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, schema};
use crate::{
    auth::Inspect,
    domain::Confinement,
    http::kit::{Operator, Problem},
    orchestrator::NetworkCheck,
};

/// The bounds that the operator chose.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Bounds {
    /// What carries out tool processes: `sandbox`, `docker` or `local`.
    pub backend: &'static str,
    /// The weakest level at which process tools run.
    #[schema(value_type = String)]
    pub min_level: Confinement,
    /// Kept sandboxes at once.
    pub sessions_max: usize,
    /// Seconds that one may be idle before it goes.
    pub session_idle_secs: u64,
    /// Tool processes at once.
    pub processes_max: usize,
}

/// How tools are confined now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sandbox)]
pub(super) struct SandboxView {
    /// What was measured.
    #[schema(value_type = String)]
    level: Confinement,
    /// Whether process tools run.
    usable: bool,
    /// Why not, or why the level is not full.
    reason: Option<String>,
    /// Kept sandboxes, in use and idle.
    sessions: usize,
    /// What the check of the network at start found.
    #[schema(value_type = schema::NetworkCheck)]
    network: NetworkCheck,
    /// The bounds that the operator chose.
    limits: Bounds,
}

/// Says how tools are confined: the measured level, live sandboxes, bounds.
#[utoipa::path(get, path = "/admin/v1/sandbox", tag = "sandbox",
    responses((status = 200, body = SandboxView), (status = "default", body = schema::Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<SandboxView>, Problem> {
    let permit = app.authorizer().manage::<Inspect>(&operator.cx)?;
    let report = app.orchestrator().sandbox_report(&permit);
    let limits = app.0.bounds.clone();
    Ok(Json(SandboxView {
        level: report.status.level,
        usable: report.status.usable,
        reason: report.status.reason,
        sessions: limits.sessions_max.saturating_sub(report.sessions_free),
        network: report.network,
        limits,
    }))
}
