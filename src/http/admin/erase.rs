//! A person's data: erased, or given to them.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{App, principals::ListPrincipals, schema};
use crate::{
    auth::{ErasePersons, ExportPersons, SeeRetention},
    domain::{ErasureId, PrincipalId},
    http::kit::{Command, Id, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{CommandError, ErasureView, ExportPlace, NewErasure, Paged},
};

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_PRINCIPAL)
}

/// What to erase besides what names the person by itself.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Erase {
    /// Further names by which they are known: a full name, an address.
    names: Vec<String>,
    /// Agents whose workspaces are emptied as a whole: those that nobody else uses.
    workspaces: Vec<String>,
    /// Erase nothing, and say what would be.
    dry_run: bool,
}

/// Which piece.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Export {
    /// The `next_cursor` of the piece before.
    cursor: Option<String>,
}

/// A piece of an export.
#[derive(Debug, Serialize)]
pub(super) struct Piece {
    items: Vec<Value>,
    next_cursor: Option<String>,
}

/// Erases a person's data. It is carried out from here on, over restarts; `GET
/// /admin/v1/erasures/{id}` says how far it came and gives the receipt. Asking again while it goes on
/// gives the same erasure.
#[utoipa::path(post, path = "/admin/v1/principals/{id}/erase", tag = "retention", request_body = Erase,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 202, body = schema::Erasure), (status = "default", body = schema::Problem)))]
pub(super) async fn erase(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<PrincipalId>,
    Command { body, idempotency }: Command<Erase>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ErasePersons>(&operator.cx)?;
    let Erase { names, workspaces, dry_run } = body;
    let new = NewErasure { names, workspaces, dry_run };
    let done = app.orchestrator().erase(permit, id, new, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |view| view)?.with(StatusCode::ACCEPTED))
}

/// Erasures, newest first; never whom they were about.
#[utoipa::path(get, path = "/admin/v1/erasures", tag = "retention", params(ListPrincipals),
    responses((status = 200, body = schema::ErasureList), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListPrincipals>,
) -> Result<Json<Paged<ErasureView>>, Problem> {
    let permit = app.authorizer().manage::<SeeRetention>(&operator.cx)?;
    app.orchestrator().erasures(&permit, &query.page()).await.map(Json).map_err(refused)
}

/// One of them, with its receipt once it is done.
#[utoipa::path(get, path = "/admin/v1/erasures/{id}", tag = "retention", params(("id" = String, Path)),
    responses((status = 200, body = schema::Erasure), (status = "default", body = schema::Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<ErasureId>,
) -> Result<Json<ErasureView>, Problem> {
    let permit = app.authorizer().manage::<SeeRetention>(&operator.cx)?;
    let found = app.orchestrator().erasure(&permit, id).await.map_err(refused)?;
    let missing = || Problem::new(&code::NO_ERASURE, code::NO_ERASURE.title);
    found.map(Json).ok_or_else(missing)
}

/// A piece of everything that is stored about a person; each item says its `kind`. The first piece is
/// recorded in the audit trail.
#[utoipa::path(get, path = "/admin/v1/principals/{id}/export", tag = "retention",
    params(("id" = String, Path), Export),
    responses((status = 200, body = schema::ExportPiece), (status = "default", body = schema::Problem)))]
pub(super) async fn export(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<PrincipalId>,
    Query(Export { cursor }): Query<Export>,
) -> Result<Json<Piece>, Problem> {
    let permit = app.authorizer().manage::<ExportPersons>(&operator.cx)?;
    let place = match cursor {
        None => ExportPlace::default(),
        Some(cursor) => {
            cursor.parse().map_err(|error: crate::orchestrator::ExportPlaceError| {
                Problem::invalid("/cursor", error.to_string())
            })?
        }
    };
    app.orchestrator().begin_export(&permit, id, &place).await.map_err(refused)?;
    let piece = app.orchestrator().export_piece(&permit, id, place).await.map_err(refused)?;
    let next_cursor = piece.next.map(|place| place.to_string());
    Ok(Json(Piece { items: piece.lines, next_cursor }))
}
