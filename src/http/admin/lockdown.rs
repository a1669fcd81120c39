//! The panic button: lock down, ask, lift.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, schema};
use crate::{
    auth::{self, LiftLockdown},
    http::kit::{Command, Operator, Problem, problem::code},
    orchestrator::{CommandError, LockdownView},
};

fn refused(error: CommandError) -> Problem {
    Problem::of_command(error, &code::NOT_FOUND)
}

/// Why everything is to stop.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LockDown {
    /// For the record.
    #[serde(default)]
    reason: Option<String>,
}

/// Stops everything that agents do and lets nothing start, also after a restart. The answer comes
/// when nothing is left of it.
#[utoipa::path(post, path = "/admin/v1/lockdown", tag = "lockdown", request_body = LockDown,
    responses((status = 200, body = schema::Lockdown), (status = "default", body = schema::Problem)))]
pub(super) async fn on(
    State(app): State<App>,
    operator: Operator,
    Command { body, .. }: Command<LockDown>,
) -> Result<Json<LockdownView>, Problem> {
    let permit = app.authorizer().manage::<auth::Lockdown>(&operator.cx)?;
    app.orchestrator().lock_down(permit, body.reason).await.map(Json).map_err(refused)
}

/// Says whether the daemon is locked down.
#[utoipa::path(get, path = "/admin/v1/lockdown", tag = "lockdown",
    responses((status = 200, body = schema::Lockdown), (status = "default", body = schema::Problem)))]
pub(super) async fn status(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<LockdownView>, Problem> {
    let permit = app.authorizer().manage::<auth::Lockdown>(&operator.cx)?;
    Ok(Json(app.orchestrator().lockdown(&permit)))
}

/// Lets agents work again. Runs that were stopped wait for `resume`; queued ones start.
#[utoipa::path(delete, path = "/admin/v1/lockdown", tag = "lockdown",
    responses((status = 200, body = schema::Lockdown), (status = "default", body = schema::Problem)))]
pub(super) async fn off(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<LockdownView>, Problem> {
    let permit = app.authorizer().manage::<LiftLockdown>(&operator.cx)?;
    app.orchestrator().lift_lockdown(permit).await.map(Json).map_err(refused)
}
