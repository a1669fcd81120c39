//! Secrets: names and ages, never values; store, remove, seal anew, read again.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{App, schema};
use crate::{
    auth::{ChangeSecrets, SeeSecrets},
    domain::{Secret, SecretName},
    http::kit::{Command, Id, Operator, Problem, problem::code},
    orchestrator::CommandError,
};

fn refused(error: CommandError) -> Problem {
    Problem::of_command(error, &code::NOT_FOUND)
}

/// A secret to store.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetSecret {
    /// Its name: letters, digits, `-`, `_`.
    #[schema(value_type = String)]
    name: SecretName,
    /// Its value. It is sealed and never shown again.
    #[schema(value_type = String)]
    value: Secret<String>,
}

/// Every secret, of the configuration and stored: where it comes from, its age, never its value.
#[utoipa::path(get, path = "/admin/v1/secrets", tag = "secrets",
    responses((status = 200, body = schema::SecretList), (status = "default", body = schema::Problem)))]
pub(super) async fn list(State(app): State<App>, operator: Operator) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<SeeSecrets>(&operator.cx)?;
    let items = app.orchestrator().secrets(&permit).await.map_err(refused)?;
    Ok(Json(json!({ "items": items, "next_cursor": null })).into_response())
}

/// Stores a secret, sealed, in the place of one with its name. In force when the answer comes.
#[utoipa::path(post, path = "/admin/v1/secrets", tag = "secrets", request_body = SetSecret,
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn set(
    State(app): State<App>,
    operator: Operator,
    Command { body, .. }: Command<SetSecret>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().manage::<ChangeSecrets>(&operator.cx)?;
    let SetSecret { name, value } = body;
    app.orchestrator().set_secret(permit, name, value).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a stored secret. What used it goes without when the answer comes.
#[utoipa::path(delete, path = "/admin/v1/secrets/{id}", tag = "secrets",
    params(("id" = String, Path, description = "The secret's name")),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn remove(
    State(app): State<App>,
    operator: Operator,
    Id(name): Id<SecretName>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().manage::<ChangeSecrets>(&operator.cx)?;
    app.orchestrator().remove_secret(permit, name).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Seals every stored secret anew, under the key of the permission secret in force.
#[utoipa::path(post, path = "/admin/v1/secrets/rewrap", tag = "secrets",
    responses((status = 200, body = schema::Resealed), (status = "default", body = schema::Problem)))]
pub(super) async fn rewrap(
    State(app): State<App>,
    operator: Operator,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ChangeSecrets>(&operator.cx)?;
    let sealed = app.orchestrator().reseal_secrets(permit).await.map_err(refused)?;
    Ok(Json(json!({ "sealed": sealed })).into_response())
}

/// What a reload came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reloaded {
    /// It was read, and is in force.
    reloaded: bool,
    /// Settings that have changed and are not in force before a restart.
    needs_restart: Vec<String>,
}

/// Reads the configuration, `.env`, secret files and stored secrets again, as SIGHUP does, and answers
/// when they are in force; `needs_restart` names the settings that have changed and are not. What is
/// wrong changes nothing.
#[utoipa::path(post, path = "/admin/v1/reload", tag = "secrets",
    responses((status = 200, body = Reloaded), (status = "default", body = schema::Problem)))]
pub(super) async fn reload(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<Reloaded>, Problem> {
    let permit = app.authorizer().manage::<ChangeSecrets>(&operator.cx)?;
    let needs_restart = app.orchestrator().reload(permit).await.map_err(refused)?;
    Ok(Json(Reloaded { reloaded: true, needs_restart }))
}
