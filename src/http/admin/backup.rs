//! Backups: make, list, check.

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
    auth::ManageBackups,
    domain::{BackupId, BackupRecord},
    http::kit::{Command, Id, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{BackupCheck, CommandError, Page},
};

/// Path below which backups are found.
const BASE: &str = "/admin/v1/backup";

fn refused(error: CommandError) -> Problem {
    Problem::of_command(error, &code::NO_BACKUP)
}

/// Nothing is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeBackup {}

/// Which backups to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListBackups {
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Backups at most, 1 to 500.
    limit: Option<u32>,
}

/// Lists backups that were made or tried, newest first.
#[utoipa::path(get, path = "/admin/v1/backup", tag = "backup", params(ListBackups),
    responses((status = 200, body = schema::BackupList), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListBackups>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageBackups>(&operator.cx)?;
    let page = Page::new(query.limit, query.cursor);
    let page = app.orchestrator().backups(&permit, &page).await.map_err(refused)?;
    Ok(Json(page).into_response())
}

/// Begins a backup. The answer comes at once; `GET` says how far it is.
#[utoipa::path(post, path = "/admin/v1/backup", tag = "backup", request_body = MakeBackup,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 202, body = schema::Backup), (status = "default", body = schema::Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    operator: Operator,
    Command { body: MakeBackup {}, idempotency }: Command<MakeBackup>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageBackups>(&operator.cx)?;
    let done = app.orchestrator().create_backup(permit, idempotency).await.map_err(refused)?;
    Ok(Reply::of(done, |record| record)?.created(BASE, StatusCode::ACCEPTED))
}

/// One backup: how far it is, what it holds.
#[utoipa::path(get, path = "/admin/v1/backup/{id}", tag = "backup", params(("id" = String, Path)),
    responses((status = 200, body = schema::Backup), (status = "default", body = schema::Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<BackupId>,
) -> Result<Json<BackupRecord>, Problem> {
    let permit = app.authorizer().manage::<ManageBackups>(&operator.cx)?;
    app.orchestrator().backup(&permit, id).await.map(Json).map_err(refused)
}

/// Checks a file as far as the daemon can, which does not have the secret key: it is there, whole, and
/// byte for byte what was written. The answer says what that leaves open.
#[utoipa::path(post, path = "/admin/v1/backup/{id}/verify", tag = "backup",
    request_body = MakeBackup, params(("id" = String, Path)),
    responses((status = 200, body = schema::BackupCheck), (status = "default", body = schema::Problem)))]
pub(super) async fn verify(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<BackupId>,
    Command { body: MakeBackup {}, .. }: Command<MakeBackup>,
) -> Result<Json<BackupCheck>, Problem> {
    let permit = app.authorizer().manage::<ManageBackups>(&operator.cx)?;
    app.orchestrator().verify_backup(&permit, id).await.map(Json).map_err(refused)
}
