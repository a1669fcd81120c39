//! Patterns of calls that people approved: tried on the past, listed, taken back.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{App, dto, schema};
use crate::{
    domain::{ApprovalId, PatternBounds, PatternId},
    http::kit::{Caller, Command, Id, Problem, Query, problem::code},
    orchestrator::{CommandError, Page, PatternPreview},
};

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_PATTERN)
}

/// Says how many of the agent's calls of the last 30 days a pattern made from this card would have
/// let through. Changes nothing.
#[utoipa::path(post, path = "/api/v1/approvals/{id}/pattern-preview", tag = "approvals",
    request_body = schema::Pattern,
    params(("id" = String, Path)),
    responses((status = 200, body = schema::PatternPreview), (status = "default", body = schema::Problem)))]
pub(super) async fn preview(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ApprovalId>,
    Command { body, .. }: Command<PatternBounds>,
) -> Result<Json<PatternPreview>, Problem> {
    let permit = app.authorizer().decide(&caller.cx)?;
    let preview = app.orchestrator().preview_pattern(&permit, id, &body).await;
    preview.map(Json).map_err(|error| Problem::of_command(error, &code::NO_APPROVAL))
}

/// Lists the patterns in force, newest first.
#[utoipa::path(get, path = "/api/v1/approval-patterns", tag = "approvals", params(dto::ListPatterns),
    responses((status = 200, body = schema::ApprovalPatternPage), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<dto::ListPatterns>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().decide(&caller.cx)?;
    let page = Page::new(query.limit, query.cursor);
    let page = app.orchestrator().patterns(&permit, query.all, page).await.map_err(refused)?;
    Ok(Json(page).into_response())
}

/// Takes a pattern back: it lets nothing more through when the answer comes.
#[utoipa::path(delete, path = "/api/v1/approval-patterns/{id}", tag = "approvals",
    params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<PatternId>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().decide(&caller.cx)?;
    app.orchestrator().revoke_pattern(permit, id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}
