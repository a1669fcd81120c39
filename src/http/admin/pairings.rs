//! Requests to link an account of a chat platform, and the links: list, ask, approve, deny, revoke,
//! resolve.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{App, principals::ListPrincipals, schema, tokens::with_secret};
use crate::{
    auth::ManagePairings,
    domain::{LinkId, PairingId, PairingState, Platform, Principal, Role},
    http::kit::{Command, Id, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{
        CommandError, LinkView, NewLink, NewPairing, Page, Paged, PairingKey, PairingMade,
        PairingView,
    },
};

/// Path below which requests are found.
const BASE: &str = "/admin/v1/pairings";

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_PAIRING)
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListPairings {
    /// Only those in this state.
    #[param(value_type = Option<schema::PairingState>)]
    state: Option<PairingState>,
    /// At most this many.
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An account that asks to be linked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestPairing {
    /// The platform, such as `telegram`.
    #[schema(value_type = String)]
    platform: Platform,
    /// The account's id there.
    account: String,
    /// What the platform calls its holder.
    #[serde(default)]
    display: Option<String>,
}

/// What the account is linked to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovePairing {
    /// The most that the account gives; written out, since nobody should get rights by default.
    #[schema(value_type = schema::Role)]
    role: Role,
    /// The code that the account's holder has told.
    #[serde(default)]
    code: Option<String>,
    /// Whom it stands for: an id or a name; somebody new when none.
    #[serde(default)]
    principal: Option<String>,
    /// What somebody new is called; as on the platform when none.
    #[serde(default)]
    name: Option<String>,
}

/// Which request, by its code, and what the account is linked to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApproveCode {
    /// The code that the account's holder has told.
    code: String,
    /// The most that the account gives.
    #[schema(value_type = schema::Role)]
    role: Role,
    /// Whom it stands for: an id or a name; somebody new when none.
    #[serde(default)]
    principal: Option<String>,
    /// What somebody new is called; as on the platform when none.
    #[serde(default)]
    name: Option<String>,
}

/// Why not.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DenyPairing {
    /// For the record.
    #[serde(default)]
    reason: Option<String>,
}

/// An account.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ResolveAccount {
    /// The platform.
    #[param(value_type = String)]
    platform: Platform,
    /// The account's id there.
    account: String,
}

/// Lists requests, newest first.
#[utoipa::path(get, path = "/admin/v1/pairings", tag = "pairing", params(ListPairings),
    responses((status = 200, body = schema::PairingList), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListPairings>,
) -> Result<Json<Paged<PairingView>>, Problem> {
    let permit = app.authorizer().manage::<ManagePairings>(&operator.cx)?;
    let page = Page::new(query.limit, query.cursor);
    app.orchestrator().pairings(&permit, query.state, page).await.map(Json).map_err(refused)
}

/// Asks for an account to be linked. The code in the answer is for the account's holder alone; it is
/// good for ten minutes, and a new request voids it.
#[utoipa::path(post, path = "/admin/v1/pairings", tag = "pairing", request_body = RequestPairing,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 201, body = schema::NewPairing), (status = "default", body = schema::Problem)))]
pub(super) async fn request(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<RequestPairing>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePairings>(&operator.cx)?;
    let RequestPairing { platform, account, display } = body;
    let new = NewPairing { platform, account, display };
    let made = app.orchestrator().request_pairing(permit, new, idempotency).await;
    let PairingMade { done, code } = made.map_err(refused)?;
    let reply = with_secret(Reply::of(done, |view| view)?, "code", &code.shown());
    Ok(reply.created(BASE, StatusCode::CREATED))
}

/// Links the account whose holder has told this code.
#[utoipa::path(post, path = "/admin/v1/pairings/approve", tag = "pairing", request_body = ApproveCode,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::ApprovedPairing), (status = "default", body = schema::Problem)))]
pub(super) async fn approve_code(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<ApproveCode>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePairings>(&operator.cx)?;
    let ApproveCode { code, role, principal, name } = body;
    let (key, new) = (PairingKey::Code(code), NewLink { role, principal, name });
    let done = app.orchestrator().approve_pairing(permit, key, new, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |approved| approved)?.with(StatusCode::OK))
}

/// Links the account of this request. With `code` it must be the request's.
#[utoipa::path(post, path = "/admin/v1/pairings/{id}/approve", tag = "pairing", request_body = ApprovePairing,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::ApprovedPairing), (status = "default", body = schema::Problem)))]
pub(super) async fn approve(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<PairingId>,
    Command { body, idempotency }: Command<ApprovePairing>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePairings>(&operator.cx)?;
    let ApprovePairing { role, code, principal, name } = body;
    let (key, new) = (PairingKey::Id(id, code), NewLink { role, principal, name });
    let done = app.orchestrator().approve_pairing(permit, key, new, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |approved| approved)?.with(StatusCode::OK))
}

/// Refuses a request. Its code is worth nothing from then on.
#[utoipa::path(post, path = "/admin/v1/pairings/{id}/deny", tag = "pairing", request_body = DenyPairing,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::Pairing), (status = "default", body = schema::Problem)))]
pub(super) async fn deny(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<PairingId>,
    Command { body, idempotency }: Command<DenyPairing>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePairings>(&operator.cx)?;
    let done = app.orchestrator().deny_pairing(permit, id, body.reason, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |view| view)?.with(StatusCode::OK))
}

fn refused_link(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_LINK)
}

/// Lists links, newest first; revoked ones too.
#[utoipa::path(get, path = "/admin/v1/links", tag = "pairing", params(ListPrincipals),
    responses((status = 200, body = schema::LinkList), (status = "default", body = schema::Problem)))]
pub(super) async fn links(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListPrincipals>,
) -> Result<Json<Paged<LinkView>>, Problem> {
    let permit = app.authorizer().manage::<ManagePairings>(&operator.cx)?;
    app.orchestrator().links(&permit, query.page()).await.map(Json).map_err(refused_link)
}

/// Takes a link back: nothing from the account counts from when the answer comes.
#[utoipa::path(delete, path = "/admin/v1/links/{id}", tag = "pairing", params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn revoke(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<LinkId>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().manage::<ManagePairings>(&operator.cx)?;
    app.orchestrator().revoke_link(permit, id).await.map_err(refused_link)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says whom an account stands for now; for a bridge of one's own to a chat platform.
#[utoipa::path(get, path = "/admin/v1/links/resolve", tag = "pairing", params(ResolveAccount),
    responses((status = 200, body = schema::ActingPrincipal), (status = "default", body = schema::Problem)))]
pub(super) async fn resolve(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ResolveAccount>,
) -> Result<Json<Principal>, Problem> {
    let permit = app.authorizer().manage::<ManagePairings>(&operator.cx)?;
    let found = app.orchestrator().resolve(&permit, &query.platform, &query.account);
    let missing = || {
        let detail = "this account is not linked, or whom it stands for may not act";
        Problem::new(&code::NO_LINK, detail)
    };
    found.map(Json).ok_or_else(missing)
}
