//! How long things are kept, and legal holds.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{App, schema};
use crate::{
    auth::{ManageRetention, SeeRetention},
    domain::{HoldKind, RetentionClass},
    http::kit::{Command, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{CommandError, RetentionReport, RetentionView},
};

fn refused(error: CommandError) -> Problem {
    Problem::of_command(error, &code::NO_HOLD)
}

/// How long a class is kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutRetention {
    /// What.
    #[schema(value_type = schema::RetentionClass)]
    class: RetentionClass,
    /// Days; 0: for good; none: as the configuration says.
    #[serde(default)]
    days: Option<u32>,
}

/// Whether to remove or to count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunRetention {
    /// Remove nothing, and say what would be.
    #[serde(default)]
    dry_run: bool,
}

/// What to hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetHold {
    /// A principal with everything of theirs, or a conversation.
    #[schema(value_type = schema::HoldKind)]
    kind: HoldKind,
    /// Its id.
    subject: String,
    /// For the record.
    #[serde(default)]
    reason: Option<String>,
}

/// Which hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LiftHold {
    /// On what kind of thing.
    #[param(value_type = schema::HoldKind)]
    kind: HoldKind,
    /// Its id.
    subject: String,
}

/// How long each class is kept, what is held, and what was removed last.
#[utoipa::path(get, path = "/admin/v1/retention", tag = "retention",
    responses((status = 200, body = schema::Retention), (status = "default", body = schema::Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<RetentionView>, Problem> {
    let permit = app.authorizer().manage::<SeeRetention>(&operator.cx)?;
    app.orchestrator().retention(&permit).await.map(Json).map_err(refused)
}

/// Sets the days of a class, in the place of the configuration's.
#[utoipa::path(put, path = "/admin/v1/retention", tag = "retention", request_body = PutRetention,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::RetentionDays), (status = "default", body = schema::Problem)))]
pub(super) async fn put(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<PutRetention>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageRetention>(&operator.cx)?;
    let PutRetention { class, days } = body;
    let done = app.orchestrator().set_retention(permit, class, days, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |days| days)?.with(StatusCode::OK))
}

/// Removes what is old now, a little at a time; the answer comes when it is done. The daemon does so
/// every hour by itself.
#[utoipa::path(post, path = "/admin/v1/retention/run", tag = "retention", request_body = RunRetention,
    responses((status = 200, body = schema::RetentionReport), (status = "default", body = schema::Problem)))]
pub(super) async fn run(
    State(app): State<App>,
    operator: Operator,
    Command { body: RunRetention { dry_run }, .. }: Command<RunRetention>,
) -> Result<Json<RetentionReport>, Problem> {
    let permit = app.authorizer().manage::<ManageRetention>(&operator.cx)?;
    app.orchestrator().run_retention(permit, dry_run).await.map(Json).map_err(refused)
}

/// Sets a legal hold: nothing of it is removed or erased until it is lifted.
#[utoipa::path(post, path = "/admin/v1/retention/holds", tag = "retention", request_body = SetHold,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::Hold), (status = "default", body = schema::Problem)))]
pub(super) async fn hold(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<SetHold>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageRetention>(&operator.cx)?;
    let SetHold { kind, subject, reason } = body;
    let done = app.orchestrator().hold(permit, (kind, subject), reason, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |hold| hold)?.with(StatusCode::OK))
}

/// Lifts a legal hold.
#[utoipa::path(delete, path = "/admin/v1/retention/holds", tag = "retention", params(LiftHold),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn lift(
    State(app): State<App>,
    operator: Operator,
    Query(LiftHold { kind, subject }): Query<LiftHold>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().manage::<ManageRetention>(&operator.cx)?;
    app.orchestrator().lift_hold(permit, kind, subject).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}
