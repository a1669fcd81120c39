//! Questions to people, and their answers.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{App, commands, dto, schema};
use crate::{
    domain::{Approval, ApprovalId},
    http::kit::{Caller, Command, Id, Problem, Query, problem::code},
    orchestrator::{CommandError, Page},
};

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_APPROVAL)
}

/// Lists approvals, newest first.
#[utoipa::path(get, path = "/api/v1/approvals", tag = "approvals", params(dto::ListApprovals),
    responses((status = 200, body = schema::ApprovalPage), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<dto::ListApprovals>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let page = Page::new(query.limit, query.cursor);
    let page = app.orchestrator().approvals(&permit, query.state, page).await.map_err(refused)?;
    Ok(Json(page).into_response())
}

/// Shows an approval.
#[utoipa::path(get, path = "/api/v1/approvals/{id}", tag = "approvals",
    params(("id" = String, Path)),
    responses((status = 200, body = schema::Approval), (status = "default", body = schema::Problem)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ApprovalId>,
) -> Result<Json<Approval>, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let found = app.orchestrator().approval(&permit, id).await.map_err(refused)?;
    found.map(Json).ok_or_else(|| Problem::new(&code::NO_APPROVAL, code::NO_APPROVAL.title))
}

/// Decides an approval. The first valid decision wins; a later one gets 409 `approval.stale`.
#[utoipa::path(post, path = "/api/v1/approvals/{id}/decision", tag = "approvals",
    request_body = dto::Decide,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::Approval), (status = "default", body = schema::Problem)))]
pub(super) async fn decide(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ApprovalId>,
    Command { body, idempotency }: Command<dto::Decide>,
) -> Result<Response, Problem> {
    let reply = commands::decide(&app, &caller.cx, id, body, idempotency).await?;
    Ok(reply.with(StatusCode::OK))
}
