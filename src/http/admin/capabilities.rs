//! What runs and calls may do: list, show, revoke.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{App, schema};
use crate::{
    auth::ManageCapabilities,
    domain::{AgentName, CapabilityId, RunId},
    http::kit::{Command, Id, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{CapabilityFilter, CapabilityView, CommandError, Page},
};

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_CAPABILITY)
}

/// Which capabilities to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListCapabilities {
    /// Only those of this run.
    #[param(value_type = Option<String>)]
    run: Option<RunId>,
    /// Only those of this agent.
    #[param(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// Only those that can be used now.
    live: Option<bool>,
    /// How many, at most 500.
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Why a capability is taken away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeCapability {
    /// For the record, and for the people whose run it was.
    #[serde(default)]
    reason: Option<String>,
}

/// Lists capabilities, newest first.
#[utoipa::path(get, path = "/admin/v1/capabilities", tag = "capabilities", params(ListCapabilities),
    responses((status = 200, body = schema::CapabilityList), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListCapabilities>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageCapabilities>(&operator.cx)?;
    let ListCapabilities { run, agent, live, limit, cursor } = query;
    let agent = agent.map(|agent| agent.to_string());
    let filter = CapabilityFilter { run, agent, live_at: None };
    let page = Page::new(limit, cursor);
    let is_live = live.unwrap_or(false);
    let found = app.orchestrator().capabilities(&permit, filter, is_live, page).await;
    Ok(Json(found.map_err(refused)?).into_response())
}

/// Shows a capability: everything but its signed text.
#[utoipa::path(get, path = "/admin/v1/capabilities/{id}", tag = "capabilities",
    params(("id" = String, Path)),
    responses((status = 200, body = schema::Capability), (status = "default", body = schema::Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<CapabilityId>,
) -> Result<Json<CapabilityView>, Problem> {
    let permit = app.authorizer().manage::<ManageCapabilities>(&operator.cx)?;
    app.orchestrator().capability(&permit, id).await.map(Json).map_err(refused)
}

/// Takes a capability away, with all that was made out of it. What runs under it is killed; a run
/// whose own it was fails. Doing it again changes nothing.
#[utoipa::path(post, path = "/admin/v1/capabilities/{id}/revoke", tag = "capabilities",
    request_body = RevokeCapability,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::Capability), (status = "default", body = schema::Problem)))]
pub(super) async fn revoke(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<CapabilityId>,
    Command { body, idempotency }: Command<RevokeCapability>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageCapabilities>(&operator.cx)?;
    let done = app.orchestrator().revoke_capability(permit, id, body.reason, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |view| view)?.with(StatusCode::OK))
}
