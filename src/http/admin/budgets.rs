//! What may be used in a day, and what was.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{App, schema};
use crate::{
    auth::ManageBudgets,
    domain::{BudgetLimit, BudgetScope, BudgetSubject, Usd},
    http::kit::{Command, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{BudgetView, CommandError, NewBudget, Page, Paged},
};

/// Which budgets to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListBudgets {
    /// Only those of this scope.
    #[serde(default)]
    #[param(value_type = Option<schema::BudgetScope>)]
    scope: Option<BudgetScope>,
    /// Items of a page, 1 to 500.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// A budget as it is set: all of it, in the place of what was there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutBudget {
    /// What kind of subject.
    #[schema(value_type = schema::BudgetScope)]
    scope: BudgetScope,
    /// The agent's name, the principal's or the conversation's id; none for everybody.
    #[serde(default)]
    subject: Option<String>,
    /// Money in a day (UTC), as a decimal string; none: no bound.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "5.00")]
    usd_per_day: Option<Usd>,
    /// Tokens in a day; none: no bound.
    #[serde(default)]
    tokens_per_day: Option<u64>,
}

/// Whose budget to clear.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ClearBudget {
    /// What kind of subject.
    #[param(value_type = schema::BudgetScope)]
    scope: BudgetScope,
    /// Which one; none for everybody.
    #[serde(default)]
    subject: Option<String>,
}

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_BUDGET)
}

/// Lists budgets with what was used of them today: those with a limit, every agent, and whoever
/// used something today.
#[utoipa::path(get, path = "/admin/v1/budgets", tag = "budgets", params(ListBudgets),
    responses((status = 200, body = schema::BudgetPage), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListBudgets>,
) -> Result<Json<Paged<BudgetView>>, Problem> {
    let permit = app.authorizer().manage::<ManageBudgets>(&operator.cx)?;
    let page = Page::new(query.limit, query.cursor);
    let page = app.orchestrator().budgets(&permit, query.scope, page).await;
    page.map(Json).map_err(refused)
}

/// Sets a budget in the place of the configuration's. It is in force when the answer comes, and
/// runs that waited for it go on.
#[utoipa::path(put, path = "/admin/v1/budgets", tag = "budgets", request_body = PutBudget,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = schema::Budget), (status = "default", body = schema::Problem)))]
pub(super) async fn put(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<PutBudget>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageBudgets>(&operator.cx)?;
    let PutBudget { scope, subject, usd_per_day, tokens_per_day } = body;
    let new = NewBudget {
        subject: BudgetSubject { scope, subject: subject.unwrap_or_default() },
        limit: BudgetLimit { usd_per_day, tokens_per_day },
    };
    let done = app.orchestrator().set_budget(permit, new, idempotency).await;
    let reply = Reply::of(done.map_err(refused)?, |view| view)?;
    Ok(reply.with(StatusCode::OK).into_response())
}

/// Clears a budget that was set: what the configuration says is in force again.
#[utoipa::path(delete, path = "/admin/v1/budgets", tag = "budgets", params(ClearBudget),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn clear(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ClearBudget>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().manage::<ManageBudgets>(&operator.cx)?;
    let subject = BudgetSubject { scope: query.scope, subject: query.subject.unwrap_or_default() };
    app.orchestrator().clear_budget(permit, subject).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}
