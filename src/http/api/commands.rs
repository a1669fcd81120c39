//! The commands that REST and WebSocket share: permission, then one call of the orchestrator.

use serde_json::{Value, json};

use super::{App, dto, runs::refused};
use crate::{
    auth::{CallContext, Verb},
    domain::{ApprovalId, RunId, limits},
    http::kit::{Problem, Reply, problem::code},
    orchestrator::{Idempotency, NewDecision},
};

/// The caller's key, if they gave one.
pub(super) type Key = Option<Idempotency>;

/// Creates a run.
pub(super) async fn create(
    app: &App,
    cx: &CallContext,
    body: dto::CreateRun,
    key: Key,
) -> Result<Reply, Problem> {
    if app.stop().is_soft() {
        return Err(Problem::new(&code::STOPPING, "no new runs are taken; try again shortly")
            .retry_after(std::time::Duration::from_secs(5)));
    }
    let (agent, new) = body.split();
    let permit = app.authorizer().start_run(cx, &agent)?;
    let done = app.orchestrator().create(permit, new, key).await.map_err(refused)?;
    Reply::of(done, |run| run)
}

/// Interrupts a run.
pub(super) async fn interrupt(
    app: &App,
    cx: &CallContext,
    id: RunId,
    body: dto::Interrupt,
    key: Key,
) -> Result<Reply, Problem> {
    let permit = app.authorizer().control(cx, Verb::Interrupt)?;
    let done = app.orchestrator().interrupt(permit, id, body.mode, key).await.map_err(refused)?;
    Reply::of(done, |run| run)
}

/// Steers a run.
pub(super) async fn steer(
    app: &App,
    cx: &CallContext,
    id: RunId,
    body: dto::Steer,
    key: Key,
) -> Result<Reply, Problem> {
    let permit = app.authorizer().control(cx, Verb::Steer)?;
    let done = app.orchestrator().steer(permit, id, body.input, body.if_ended.into(), key);
    Reply::of(done.await.map_err(refused)?, |accepted| accepted)
}

/// Resumes a run.
pub(super) async fn resume(
    app: &App,
    cx: &CallContext,
    id: RunId,
    body: dto::Resume,
    key: Key,
) -> Result<Reply, Problem> {
    let permit = app.authorizer().control(cx, Verb::Resume)?;
    let done = app.orchestrator().resume(permit, id, body.input, key).await.map_err(refused)?;
    Reply::of(done, |run| run)
}

/// Cancels a run.
pub(super) async fn cancel(
    app: &App,
    cx: &CallContext,
    id: RunId,
    body: dto::Cancel,
    key: Key,
) -> Result<Reply, Problem> {
    let permit = app.authorizer().control(cx, Verb::Cancel)?;
    let done = app.orchestrator().cancel(permit, id, body.reason, key).await.map_err(refused)?;
    Reply::of(done, |run| run)
}

/// Retries a run.
pub(super) async fn retry(
    app: &App,
    cx: &CallContext,
    id: RunId,
    key: Key,
) -> Result<Reply, Problem> {
    let permit = app.authorizer().control(cx, Verb::Retry)?;
    let done = app.orchestrator().retry(permit, id, key).await.map_err(refused)?;
    Reply::of(done, |run| run)
}

/// Forks a run.
pub(super) async fn fork(
    app: &App,
    cx: &CallContext,
    id: RunId,
    body: dto::Fork,
    key: Key,
) -> Result<Reply, Problem> {
    let permit = app.authorizer().control(cx, Verb::Fork)?;
    let done = app.orchestrator().fork(permit, id, body.bundle_id, body.input, key);
    Reply::of(done.await.map_err(refused)?, |run| run)
}

/// Decides several approvals, one after the other. A key covers each of them by its id.
pub(super) async fn decide_many(
    app: &App,
    cx: &CallContext,
    body: dto::DecideMany,
    key: Key,
) -> Result<Vec<Value>, Problem> {
    let permit = app.authorizer().decide(cx)?;
    let dto::DecideMany { ids, decision, scope, reason } = body;
    if ids.is_empty() || ids.len() > limits::DECISIONS_MAX {
        let detail = format!("1 to {} approvals", limits::DECISIONS_MAX);
        return Err(Problem::invalid("/ids", detail));
    }
    let mut items = Vec::with_capacity(ids.len());
    for id in ids {
        let (pattern, outcome) = (None, None);
        let new = NewDecision { decision, scope, pattern, outcome, reason: reason.clone() };
        let key = key.as_ref().map(|k| Idempotency {
            key: format!("{}/{id}", k.key),
            fingerprint: k.fingerprint.clone(),
        });
        let done = app.orchestrator().decide(permit.clone(), id, new, key).await;
        let done = done.map_err(|error| Problem::of_command(error, &code::NO_APPROVAL));
        items.push(match done.and_then(|done| Reply::of(done, |approval| approval)) {
            Ok(reply) => json!({ "id": id, "ok": true, "approval": reply.json }),
            Err(problem) => json!({
                "id": id, "ok": false, "problem": problem.written(&cx.request_id),
            }),
        });
    }
    Ok(items)
}

/// Decides an approval.
pub(super) async fn decide(
    app: &App,
    cx: &CallContext,
    id: ApprovalId,
    body: dto::Decide,
    key: Key,
) -> Result<Reply, Problem> {
    let permit = app.authorizer().decide(cx)?;
    let done = app.orchestrator().decide(permit, id, body.into(), key).await;
    let done = done.map_err(|error| Problem::of_command(error, &code::NO_APPROVAL))?;
    Reply::of(done, |approval| approval)
}
