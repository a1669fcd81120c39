//! Questions to people, and their answers.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use super::{App, commands, dto, schema};
use crate::{
    domain::{Approval, ApprovalId, Risk, RunId, Timestamp},
    http::kit::{Caller, Command, Id, Problem, Query, problem::code},
    orchestrator::{CommandError, Page, Paged},
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
    let Paged { items, next_cursor } = page;
    let groups = groups(&items);
    let page = json!({ "items": &items, "groups": groups, "next_cursor": next_cursor });
    Ok(Json(page).into_response())
}

/// The approvals of one run, together.
#[derive(Debug, Serialize)]
struct Group<'a> {
    run_id: RunId,
    count: usize,
    /// The highest.
    risk: Risk,
    tools: BTreeSet<&'a str>,
    tainted: bool,
    oldest_at: Timestamp,
    ids: Vec<ApprovalId>,
}

/// Groups in the order of their newest approval.
fn groups(items: &[Approval]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for item in items {
        let found = groups.iter().position(|group| group.run_id == item.run_id);
        let Some(group) = found.and_then(|n| groups.get_mut(n)) else {
            groups.push(Group {
                run_id: item.run_id,
                count: 1,
                risk: item.risk,
                tools: BTreeSet::from([item.tool.as_str()]),
                tainted: item.tainted,
                oldest_at: item.created_at,
                ids: vec![item.id],
            });
            continue;
        };
        group.count += 1;
        group.risk = group.risk.max(item.risk);
        group.tools.insert(&item.tool);
        group.tainted |= item.tainted;
        group.oldest_at = group.oldest_at.min(item.created_at);
        group.ids.push(item.id);
    }
    groups
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

/// Decides several approvals, each on its own: one that is refused does not keep the others from
/// being decided. Answers 200 with a result for each, in the order asked.
#[utoipa::path(post, path = "/api/v1/approvals/decisions", tag = "approvals",
    request_body = dto::DecideMany,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::DecidedMany), (status = "default", body = schema::Problem)))]
pub(super) async fn decide_many(
    State(app): State<App>,
    caller: Caller,
    Command { body, idempotency }: Command<dto::DecideMany>,
) -> Result<Response, Problem> {
    let items = commands::decide_many(&app, &caller.cx, body, idempotency).await?;
    Ok(Json(json!({ "items": items })).into_response())
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
