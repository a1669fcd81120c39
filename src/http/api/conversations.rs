//! Threads.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, answer, dto, schema};
use crate::{
    auth::Verb,
    domain::{ConversationId, Timestamp},
    http::kit::{Caller, Command, Id, Problem, Query, problem::code},
    orchestrator::{CommandError, Conversation, Page},
};

/// A thread as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversation)]
pub struct ConversationView {
    /// Id.
    #[schema(value_type = String)]
    pub id: ConversationId,
    /// Whose it is.
    pub principal: String,
    /// The owner's label.
    pub title: Option<String>,
    /// Number of its last message.
    pub last_seq: u64,
    /// The run that works in it now.
    pub active_run_id: Option<String>,
    /// Runs that wait behind it.
    pub waiting: u64,
    /// The bundle that a continuation starts from.
    pub head_bundle_id: Option<String>,
    /// The bundle that it was forked from.
    pub forked_from: Option<String>,
    /// When it was created.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl From<Conversation> for ConversationView {
    fn from(c: Conversation) -> Self {
        Self {
            id: c.id,
            principal: c.principal.to_string(),
            title: c.title,
            last_seq: c.last_seq,
            active_run_id: c.active_run_id.map(|id| id.to_string()),
            waiting: c.waiting,
            head_bundle_id: c.head_bundle_id.map(|id| id.to_string()),
            forked_from: c.forked_from.map(|id| id.to_string()),
            created_at: c.created_at,
        }
    }
}

/// A page of threads.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationPage {
    /// Newest first.
    pub items: Vec<ConversationView>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

fn refused(error: CommandError) -> Problem {
    Problem::of_command(error, &code::NO_CONVERSATION)
}

/// Opens a conversation.
#[utoipa::path(post, path = "/api/v1/conversations", tag = "conversations",
    request_body = dto::CreateConversation,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 201, body = ConversationView), (status = "default", body = schema::Problem)))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Command { body, idempotency }: Command<dto::CreateConversation>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().control(&caller.cx, Verb::CreateConversation)?;
    let made = app.orchestrator().create_conversation(permit, body.title, idempotency);
    let made = made.await.map_err(refused)?;
    let reply = answer::Reply::of(made, ConversationView::from)?;
    Ok(reply.created("/api/v1/conversations", StatusCode::CREATED))
}

/// Lists conversations, newest first.
#[utoipa::path(get, path = "/api/v1/conversations", tag = "conversations", params(dto::Paging),
    responses((status = 200, body = ConversationPage), (status = "default", body = schema::Problem)))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<dto::Paging>,
) -> Result<Json<ConversationPage>, Problem> {
    let permit = app.authorizer().read(&caller.cx);
    let page = Page::new(paging.limit, paging.cursor);
    let page = app.orchestrator().conversations(&permit, page).await.map_err(refused)?;
    let items = page.items.into_iter().map(ConversationView::from).collect();
    Ok(Json(ConversationPage { items, next_cursor: page.next_cursor }))
}

/// Shows a conversation.
#[utoipa::path(get, path = "/api/v1/conversations/{id}", tag = "conversations",
    params(("id" = String, Path)),
    responses((status = 200, body = ConversationView), (status = "default", body = schema::Problem)))]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ConversationId>,
) -> Result<Json<ConversationView>, Problem> {
    let permit = app.authorizer().read(&caller.cx);
    let found = app.orchestrator().conversation(&permit, id).await.map_err(refused)?;
    found
        .map(|c| Json(ConversationView::from(c)))
        .ok_or_else(|| Problem::new(&code::NO_CONVERSATION, code::NO_CONVERSATION.title))
}

/// Lists a conversation's messages, in order.
#[utoipa::path(get, path = "/api/v1/conversations/{id}/messages", tag = "conversations",
    params(("id" = String, Path), dto::Paging),
    responses((status = 200, body = schema::MessagePage), (status = "default", body = schema::Problem)))]
pub async fn messages(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ConversationId>,
    Query(paging): Query<dto::Paging>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx);
    let page = Page::new(paging.limit, paging.cursor);
    let page = app.orchestrator().messages(&permit, id, page).await.map_err(refused)?;
    Ok(Json(page).into_response())
}

/// Deletes a conversation and what was said in it. Its runs stay, without content.
#[utoipa::path(delete, path = "/api/v1/conversations/{id}", tag = "conversations",
    params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ConversationId>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().control(&caller.cx, Verb::DeleteConversation)?;
    app.orchestrator().delete_conversation(permit, id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}
