//! How the parts of the daemon are.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, schema};
use crate::{
    auth::Inspect,
    http::kit::{Operator, Problem},
    orchestrator::{Check, ModelReport},
};

/// One part.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Component {
    /// Whether it works.
    ok: bool,
    /// What it is, or what is wrong.
    detail: String,
}

/// How everything is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// What probes look at.
    components: BTreeMap<&'static str, Component>,
    /// Each model, and whether it rests after failures.
    #[schema(value_type = Vec<schema::ModelReport>)]
    models: Vec<ModelReport>,
    /// Runs in progress.
    active_runs: usize,
}

/// Says how the parts are: store, models with their circuit breakers, sandbox, egress.
#[utoipa::path(get, path = "/admin/v1/health", tag = "health",
    responses((status = 200, body = Health), (status = "default", body = schema::Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<Health>, Problem> {
    let permit = app.authorizer().manage::<Inspect>(&operator.cx)?;
    let report = app.orchestrator().health(&permit).await;
    let component = |check: Check| Component { ok: check.ok, detail: check.detail };
    let components = BTreeMap::from([
        ("store", component(report.readiness.store)),
        ("llm", component(report.readiness.llm)),
        ("sandbox", component(report.readiness.sandbox)),
        ("egress", component(report.readiness.egress)),
    ]);
    Ok(Json(Health { components, models: report.models, active_runs: report.active_runs }))
}
