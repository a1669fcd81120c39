//! Bearer tokens: create (shown once), list, revoke.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{App, schema};
use crate::{
    auth::ManageTokens,
    domain::{PrincipalId, Role, Scopes, TokenId},
    http::kit::{Command, Id, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{CommandError, NewToken, Page, Paged, TokenMade, TokenView},
};

/// Path below which tokens are found.
const BASE: &str = "/admin/v1/tokens";

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_TOKEN)
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListTokens {
    /// Only those of this principal.
    #[param(value_type = Option<String>)]
    principal: Option<PrincipalId>,
    /// At most this many.
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateToken {
    /// Whom it stands for: an id or a name.
    principal: String,
    /// What it is for.
    #[serde(default)]
    label: Option<String>,
    /// The most that it gives; the principal's own where none, and at most the maker's.
    #[serde(default)]
    #[schema(value_type = Option<schema::Role>)]
    role: Option<Role>,
    /// What narrows it further; an absent list narrows nothing, an empty one leaves nothing.
    #[serde(default)]
    #[schema(value_type = schema::Scopes)]
    scopes: Scopes,
    /// Seconds until it ends by itself; never when none.
    #[serde(default)]
    ttl_secs: Option<u64>,
}

/// Makes a token. Its text is in this answer and nowhere else; a repeated request does not show it.
#[utoipa::path(post, path = "/admin/v1/tokens", tag = "identities", request_body = CreateToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 201, body = schema::NewToken), (status = "default", body = schema::Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<CreateToken>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageTokens>(&operator.cx)?;
    let CreateToken { principal, label, role, scopes, ttl_secs } = body;
    let new = NewToken { principal, label, role, scopes, ttl_secs };
    let made = app.orchestrator().create_token(permit, new, idempotency).await;
    let TokenMade { done, token } = made.map_err(refused)?;
    let reply = Reply::of(done, |view| view)?;
    let reply = with_secret(reply, "token", token.expose());
    Ok(reply.created(BASE, StatusCode::CREATED))
}

/// Adds what is shown once to a fresh answer; a stored one never had it.
pub(super) fn with_secret(mut reply: Reply, field: &str, secret: &str) -> Reply {
    let shown = if reply.is_replayed { Value::Null } else { json!(secret) };
    if let Value::Object(fields) = &mut reply.json {
        fields.insert(field.to_owned(), shown);
    }
    reply
}

/// Lists tokens without their secrets, newest first; revoked ones too.
#[utoipa::path(get, path = "/admin/v1/tokens", tag = "identities", params(ListTokens),
    responses((status = 200, body = schema::TokenList), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListTokens>,
) -> Result<Json<Paged<TokenView>>, Problem> {
    let permit = app.authorizer().manage::<ManageTokens>(&operator.cx)?;
    let page = Page::new(query.limit, query.cursor);
    app.orchestrator().tokens(&permit, query.principal, page).await.map(Json).map_err(refused)
}

/// Takes a token back. Its connections are cut when the answer comes.
#[utoipa::path(delete, path = "/admin/v1/tokens/{id}", tag = "identities", params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn revoke(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().manage::<ManageTokens>(&operator.cx)?;
    app.orchestrator().revoke_token(permit, id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}
