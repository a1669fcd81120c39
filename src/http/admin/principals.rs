//! Who may act: list, get, create, change, disable, enable, and who was not seen.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{App, schema};
use crate::{
    auth::ManagePrincipals,
    domain::{PrincipalId, Role, Scopes},
    http::kit::{Command, Id, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{
        CommandError, NewPrincipal, Page, Paged, PrincipalPatch, PrincipalView, StaleView,
    },
};

/// Path below which principals are found.
const BASE: &str = "/admin/v1/principals";
/// Days of silence where the report is not told.
const STALE_DAYS: u32 = 90;

pub(super) fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_PRINCIPAL)
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListPrincipals {
    /// At most this many.
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// How long nobody was seen.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListStale {
    /// Days; 90 when none.
    days: Option<u32>,
    /// At most this many.
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Somebody to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreatePrincipal {
    /// What people call them; no two share a name.
    name: String,
    /// Their standing.
    #[schema(value_type = schema::Role)]
    role: Role,
    /// What narrows it; an absent list narrows nothing, an empty one leaves nothing.
    #[serde(default)]
    #[schema(value_type = schema::Scopes)]
    scopes: Scopes,
}

/// What to change; absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchPrincipal {
    /// Their standing.
    #[serde(default)]
    #[schema(value_type = Option<schema::Role>)]
    role: Option<Role>,
    /// What narrows it, as a whole: `{}` narrows nothing.
    #[serde(default)]
    #[schema(value_type = Option<schema::Scopes>)]
    scopes: Option<Scopes>,
}

/// No fields.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// Lists everybody, those of the configuration and disabled ones too.
#[utoipa::path(get, path = "/admin/v1/principals", tag = "identities", params(ListPrincipals),
    responses((status = 200, body = schema::PrincipalList), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListPrincipals>,
) -> Result<Json<Paged<PrincipalView>>, Problem> {
    let permit = app.authorizer().manage::<ManagePrincipals>(&operator.cx)?;
    let page = Page::new(query.limit, query.cursor);
    app.orchestrator().principals(&permit, page).await.map(Json).map_err(refused)
}

/// Lists principals, tokens and links that were not used for so many days.
#[utoipa::path(get, path = "/admin/v1/principals/stale", tag = "identities", params(ListStale),
    responses((status = 200, body = schema::StaleList), (status = "default", body = schema::Problem)))]
pub(super) async fn stale(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListStale>,
) -> Result<Json<Paged<StaleView>>, Problem> {
    let permit = app.authorizer().manage::<ManagePrincipals>(&operator.cx)?;
    let page = Page::new(query.limit, query.cursor);
    let days = query.days.unwrap_or(STALE_DAYS);
    app.orchestrator().stale(&permit, days, page).await.map(Json).map_err(refused)
}

/// One of them.
#[utoipa::path(get, path = "/admin/v1/principals/{id}", tag = "identities", params(("id" = String, Path)),
    responses((status = 200, body = schema::Principal), (status = "default", body = schema::Problem)))]
pub(super) async fn get(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<PrincipalId>,
) -> Result<Json<PrincipalView>, Problem> {
    let permit = app.authorizer().manage::<ManagePrincipals>(&operator.cx)?;
    let found = app.orchestrator().principal(&permit, id).await.map_err(refused)?;
    let missing = || Problem::new(&code::NO_PRINCIPAL, code::NO_PRINCIPAL.title);
    found.map(Json).ok_or_else(missing)
}

/// Creates somebody. They may act once they have a token or a linked account.
#[utoipa::path(post, path = "/admin/v1/principals", tag = "identities", request_body = CreatePrincipal,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 201, body = schema::Principal), (status = "default", body = schema::Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<CreatePrincipal>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePrincipals>(&operator.cx)?;
    let CreatePrincipal { name, role, scopes } = body;
    let new = NewPrincipal { name, role, scopes };
    let done = app.orchestrator().create_principal(permit, new, idempotency).await;
    let reply = Reply::of(done.map_err(refused)?, |view| view)?;
    Ok(reply.created(BASE, StatusCode::CREATED))
}

/// Changes role or scopes. Connections whose rights shrank are cut when the answer comes.
#[utoipa::path(patch, path = "/admin/v1/principals/{id}", tag = "identities", request_body = PatchPrincipal,
    params(("id" = String, Path)),
    responses((status = 200, body = schema::Principal), (status = "default", body = schema::Problem)))]
pub(super) async fn patch(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<PrincipalId>,
    Command { body, idempotency }: Command<PatchPrincipal>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePrincipals>(&operator.cx)?;
    let PatchPrincipal { role, scopes } = body;
    let patch = PrincipalPatch { role, scopes };
    let done = app.orchestrator().patch_principal(permit, id, patch, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |view| view)?.with(StatusCode::OK))
}

/// Ends somebody's right to act: every token, link and connection of theirs.
#[utoipa::path(post, path = "/admin/v1/principals/{id}/disable", tag = "identities", request_body = NoFields,
    params(("id" = String, Path)),
    responses((status = 200, body = schema::Principal), (status = "default", body = schema::Problem)))]
pub(super) async fn disable(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<PrincipalId>,
    Command { body: NoFields {}, idempotency }: Command<NoFields>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePrincipals>(&operator.cx)?;
    let done = app.orchestrator().enable_principal(permit, id, false, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |view| view)?.with(StatusCode::OK))
}

/// Gives somebody who was disabled their right to act back.
#[utoipa::path(post, path = "/admin/v1/principals/{id}/enable", tag = "identities", request_body = NoFields,
    params(("id" = String, Path)),
    responses((status = 200, body = schema::Principal), (status = "default", body = schema::Problem)))]
pub(super) async fn enable(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<PrincipalId>,
    Command { body: NoFields {}, idempotency }: Command<NoFields>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePrincipals>(&operator.cx)?;
    let done = app.orchestrator().enable_principal(permit, id, true, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |view| view)?.with(StatusCode::OK))
}

impl ListPrincipals {
    /// The page that was asked for.
    pub(super) fn page(self) -> Page {
        Page::new(self.limit, self.cursor)
    }
}
