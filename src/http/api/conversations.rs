//! Threads.

use super::{App, dto, schema};
use crate::{
    auth::Verb,
    domain::{ConversationId, limits},
    http::kit::{Caller, Command, Id, Problem, Query, Reply, problem::code},
    orchestrator::{CommandError, Page, Paged},
};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_CONVERSATION)
}

fn missing() -> Problem {
    Problem::new(&code::NO_CONVERSATION, code::NO_CONVERSATION.title)
}

/// Opens a conversation.
#[utoipa::path(post, path = "/api/v1/conversations", tag = "conversations",
    request_body = dto::CreateConversation,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 201, body = schema::Conversation), (status = "default", body = schema::Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Command { body, idempotency }: Command<dto::CreateConversation>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().control(&caller.cx, Verb::CreateConversation)?;
    let made = app.orchestrator().create_conversation(permit, body.title, idempotency);
    let made = made.await.map_err(refused)?;
    let reply = Reply::of(made, |conversation| conversation)?;
    Ok(reply.created("/api/v1/conversations", StatusCode::CREATED))
}

/// Lists conversations, newest first.
#[utoipa::path(get, path = "/api/v1/conversations", tag = "conversations", params(dto::Paging),
    responses((status = 200, body = schema::ConversationPage), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<dto::Paging>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let page = Page::new(paging.limit, paging.cursor);
    let page = app.orchestrator().conversations(&permit, page).await.map_err(refused)?;
    Ok(Json(page).into_response())
}

/// Shows a conversation.
#[utoipa::path(get, path = "/api/v1/conversations/{id}", tag = "conversations",
    params(("id" = String, Path)),
    responses((status = 200, body = schema::Conversation), (status = "default", body = schema::Problem)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ConversationId>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let found = app.orchestrator().conversation(&permit, id).await.map_err(refused)?;
    Ok(Json(found.ok_or_else(missing)?).into_response())
}

/// Lists a conversation's messages, in order.
#[utoipa::path(get, path = "/api/v1/conversations/{id}/messages", tag = "conversations",
    params(("id" = String, Path), dto::Paging),
    responses((status = 200, body = schema::MessagePage), (status = "default", body = schema::Problem)))]
pub(super) async fn messages(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ConversationId>,
    Query(paging): Query<dto::Paging>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let limit = paging.limit.unwrap_or(limits::PAGE_DEFAULT).clamp(1, limits::PAGE_MAX);
    let after = match paging.cursor.as_deref().map(str::parse) {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => return Err(Problem::invalid("/cursor", "`cursor` is not one of ours")),
    };
    let items = app.orchestrator().messages(&permit, id, after, limit).await.map_err(refused)?;
    let items = items.ok_or_else(missing)?;
    let is_full = items.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let last = items.last().filter(|_| is_full);
    let next_cursor = last.map(|message| message.seq.to_string());
    Ok(Json(Paged { items, next_cursor }).into_response())
}

/// Deletes a conversation and its messages. Its runs and their events stay, as the record of what was done.
#[utoipa::path(delete, path = "/api/v1/conversations/{id}", tag = "conversations",
    params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ConversationId>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().control(&caller.cx, Verb::DeleteConversation)?;
    app.orchestrator().delete_conversation(permit, id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}
