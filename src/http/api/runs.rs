//! Runs: create, list, show, control.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{App, commands, dto, events, schema};
use crate::{
    auth::{Permit, Read},
    domain::{Run, RunId, limits},
    http::kit::{
        Caller, Command, Id, Problem, Query, Reply, answer::to_json, limit::Place, problem::code,
    },
    orchestrator::{CommandError, Page, RunFilter},
};

/// Path below which runs are found.
const BASE: &str = "/api/v1/runs";

/// A refused command on a run.
pub(super) fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_RUN)
}

/// The answer where a run does not exist for this caller.
pub(super) fn no_run() -> Problem {
    Problem::new(&code::NO_RUN, code::NO_RUN.title)
}

/// Creates a run. With `Accept: text/event-stream` the answer is the run's event stream.
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs",
    request_body = dto::CreateRun,
    params(dto::Wait,
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses(
        (status = 202, body = schema::Run, description = "Accepted; Location names the run"),
        (status = 200, body = schema::Run, description = "With ?wait: the run has settled"),
        (status = "default", body = schema::Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Extension(place): Extension<Place>,
    Query(dto::Wait { wait }): Query<dto::Wait>,
    headers: HeaderMap,
    Command { body, idempotency }: Command<dto::CreateRun>,
) -> Result<Response, Problem> {
    let wait = wait.map(Duration::from_secs);
    if wait.is_some_and(|wait| wait > limits::WAIT_MAX) {
        let most = limits::WAIT_MAX.as_secs();
        return Err(Problem::invalid("/wait", format!("`wait` is at most {most} seconds")));
    }
    let reply = commands::create(&app, &caller.cx, body, idempotency).await?;
    let id: Option<RunId> = reply.text("id").and_then(|id| id.parse().ok());
    let Some(id) = id else { return Ok(reply.created(BASE, StatusCode::ACCEPTED)) };
    if events::is_wanted(&headers) {
        let permit = app.authorizer().read(&caller.cx)?;
        let stream = events::stream(&app, caller, permit, id, 0).await?;
        return Ok((location(id), stream).into_response());
    }
    let Some(wait) = wait else { return Ok(reply.created(BASE, StatusCode::ACCEPTED)) };
    place.release();
    let waiter = app.waiters().admit()?;
    let permit = app.authorizer().read(&caller.cx)?;
    let settled = settle(&app, &permit, id, wait).await?;
    drop(waiter);
    let status = if is_settled(&settled) { StatusCode::OK } else { StatusCode::ACCEPTED };
    let reply = Reply { json: to_json(&settled)?, ..reply };
    Ok(reply.created(BASE, status))
}

/// Waits until the run has settled, the time is over, or the daemon stops.
async fn settle(
    app: &App,
    permit: &Permit<Read>,
    id: RunId,
    wait: Duration,
) -> Result<Run, Problem> {
    let settled = tokio::select! {
        run = app.orchestrator().wait_until_settled(permit, id, wait) => run,
        () = app.stop().wait_soft() => app.orchestrator().run(permit, id).await,
    };
    settled.map_err(refused)?.ok_or_else(no_run)
}

fn is_settled(run: &Run) -> bool {
    use crate::domain::RunState as S;
    match run.state {
        S::Succeeded | S::Failed | S::Cancelled | S::Expired | S::Paused | S::AwaitingApproval => {
            true
        }
        S::Queued | S::Running | S::Cancelling => false,
    }
}

fn location(id: RunId) -> [(header::HeaderName, String); 1] {
    [(header::LOCATION, format!("{BASE}/{id}"))]
}

/// Lists runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(dto::ListRuns),
    responses((status = 200, body = schema::RunPage), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<dto::ListRuns>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let filter = RunFilter {
        principal: None,
        state: query.state,
        agent: query.agent,
        conversation_id: query.conversation_id,
    };
    let page = Page::new(query.limit, query.cursor);
    let page = app.orchestrator().runs(&permit, filter, page).await.map_err(refused)?;
    Ok(Json(page).into_response())
}

/// Shows a run. The ETag changes with every event.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "runs",
    params(("id" = String, Path), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = schema::Run), (status = 304, description = "Unchanged"),
        (status = "default", body = schema::Problem)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let run = app.orchestrator().run(&permit, id).await.map_err(refused)?.ok_or_else(no_run)?;
    let etag = format!("\"{}.{}\"", run.epoch, run.seq);
    let is_known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag || tag == "*");
    let tag = [(header::ETAG, etag)];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    // `no-store` would forbid the very cache that the ETag is for.
    let cache = [(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))];
    Ok((tag, cache, Json(run)).into_response())
}

macro_rules! verb {
    ($(#[$doc:meta])* $name:ident, $path:literal, $body:ident, $answer:ty, $command:path) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "runs",
            request_body = dto::$body,
            params(("id" = String, Path),
                ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
            responses((status = 202, body = $answer), (status = "default", body = schema::Problem)))]
        pub(super) async fn $name(
            State(app): State<App>,
            caller: Caller,
            Id(id): Id<RunId>,
            Command { body, idempotency }: Command<dto::$body>,
        ) -> Result<Response, Problem> {
            let reply = $command(&app, &caller.cx, id, body, idempotency).await?;
            Ok(reply.with(StatusCode::ACCEPTED))
        }
    };
}

verb!(
    /// Stops a running run at its next safe point and keeps its work.
    interrupt, "/api/v1/runs/{id}/interrupt", Interrupt, schema::Run, commands::interrupt
);
verb!(
    /// Says something to a run in progress, before its next model call.
    steer, "/api/v1/runs/{id}/steer", Steer, schema::SteerAccepted, commands::steer
);
verb!(
    /// Sends a paused run on.
    resume, "/api/v1/runs/{id}/resume", Resume, schema::Run, commands::resume
);
verb!(
    /// Ends a run.
    cancel, "/api/v1/runs/{id}/cancel", Cancel, schema::Run, commands::cancel
);

/// Repeats a run that failed or expired, as a new run.
#[utoipa::path(post, path = "/api/v1/runs/{id}/retry", tag = "runs",
    request_body = dto::Nothing,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 202, body = schema::Run), (status = "default", body = schema::Problem)))]
pub(super) async fn retry(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
    Command { body: dto::Nothing {}, idempotency }: Command<dto::Nothing>,
) -> Result<Response, Problem> {
    let reply = commands::retry(&app, &caller.cx, id, idempotency).await?;
    Ok(reply.created(BASE, StatusCode::ACCEPTED))
}

/// Branches a run off into a new run in a new conversation.
#[utoipa::path(post, path = "/api/v1/runs/{id}/fork", tag = "runs",
    request_body = dto::Fork,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 202, body = schema::Run), (status = "default", body = schema::Problem)))]
pub(super) async fn fork(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
    Command { body, idempotency }: Command<dto::Fork>,
) -> Result<Response, Problem> {
    let reply = commands::fork(&app, &caller.cx, id, body, idempotency).await?;
    Ok(reply.created(BASE, StatusCode::ACCEPTED))
}

/// Lists a run's session bundles.
#[utoipa::path(get, path = "/api/v1/runs/{id}/bundles", tag = "runs",
    params(("id" = String, Path)),
    responses((status = 200, body = schema::BundleList), (status = "default", body = schema::Problem)))]
pub(super) async fn bundles(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<RunId>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let items = app.orchestrator().bundles(&permit, id).await.map_err(refused)?;
    let items = items.ok_or_else(no_run)?;
    Ok(Json(serde_json::json!({ "items": items })).into_response())
}
