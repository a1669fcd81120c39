//! The audit trail: query, export, verify, sign.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{App, schema};
use crate::{
    auth::ReadAudit,
    domain::{
        RunId, Timestamp,
        audit::{AuditKind, Checkpoint},
    },
    http::kit::{Operator, Problem, Query, problem::code},
    orchestrator::{AuditFilter, CommandError},
};

fn refused(error: CommandError) -> Problem {
    Problem::of_command(error, &code::NOT_FOUND)
}

/// Which rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Rows {
    /// Only rows of this kind.
    #[param(value_type = Option<String>)]
    kind: Option<AuditKind>,
    /// Only rows of this principal.
    actor: Option<String>,
    /// Only rows of this run.
    #[param(value_type = Option<String>)]
    run_id: Option<RunId>,
    /// Only rows of this moment (RFC 3339) or later.
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Only rows before this moment.
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// The `next_cursor` of the page before.
    cursor: Option<u64>,
    /// Rows at most, 1 to 500.
    limit: Option<u32>,
}

/// Rows of the trail, oldest first.
#[utoipa::path(get, path = "/admin/v1/audit", tag = "audit", params(Rows),
    responses((status = 200, body = schema::AuditPage), (status = "default", body = schema::Problem)))]
pub(super) async fn query(
    State(app): State<App>,
    operator: Operator,
    Query(rows): Query<Rows>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ReadAudit>(&operator.cx)?;
    let limit = rows.limit.unwrap_or(crate::domain::limits::PAGE_DEFAULT);
    let limit = limit.clamp(1, crate::domain::limits::PAGE_MAX);
    let filter = AuditFilter {
        after: rows.cursor.unwrap_or(0),
        since: rows.since,
        until: rows.until,
        kind: rows.kind.map(|kind| kind.as_str().to_owned()),
        actor: rows.actor,
        run_id: rows.run_id,
    };
    let page = app.orchestrator().audit_page(&permit, &filter, limit).await.map_err(refused)?;
    Ok(Json(page).into_response())
}

/// The whole trail with its checkpoints as JSON Lines; the last line is signed. `agent-runtime audit
/// verify --file` checks it on any machine. An export that breaks off lacks its last line.
#[utoipa::path(get, path = "/admin/v1/audit/export", tag = "audit",
    responses((status = 200, content_type = "application/x-ndjson", body = String),
        (status = "default", body = schema::Problem)))]
pub(super) async fn export(
    State(app): State<App>,
    operator: Operator,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ReadAudit>(&operator.cx)?;
    let lines = async_stream::try_stream! {
        let mut after = Some(0);
        while let Some(from) = after {
            let piece = app.orchestrator().export_trail(&permit, from).await?;
            after = piece.next;
            yield Bytes::from(piece.text()?);
        }
    };
    let lines: std::pin::Pin<
        Box<dyn futures_util::Stream<Item = Result<Bytes, CommandError>> + Send>,
    > = Box::pin(lines);
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// Checks every row, checkpoint and signature.
#[utoipa::path(get, path = "/admin/v1/audit/verify", tag = "audit",
    responses((status = 200, body = schema::AuditReport), (status = "default", body = schema::Problem)))]
pub(super) async fn verify(
    State(app): State<App>,
    operator: Operator,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ReadAudit>(&operator.cx)?;
    let report = app.orchestrator().verify_trail(&permit).await.map_err(refused)?;
    Ok(Json(report).into_response())
}

/// Signs the end of the trail now, in the database and outside of it.
#[utoipa::path(post, path = "/admin/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, body = schema::Checkpoint), (status = "default", body = schema::Problem)))]
pub(super) async fn checkpoint(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<Checkpoint>, Problem> {
    let permit = app.authorizer().manage::<ReadAudit>(&operator.cx)?;
    app.orchestrator().checkpoint(permit).await.map(Json).map_err(refused)
}
