//! What was used.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{App, runs::refused, schema};
use crate::{
    domain::Day,
    http::kit::{Caller, Problem, Query},
    orchestrator::{Page, UsageBy, UsageQuestion, UsageReport},
};

/// By what to add up.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The agent.
    #[default]
    Agent,
    /// The principal.
    Principal,
    /// The model.
    Model,
}

/// Which use to add up.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// The first day (UTC), such as `2026-01-02`; thirty days before `to` by default.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    from: Option<Day>,
    /// The last day; today by default.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    to: Option<Day>,
    /// By what.
    #[serde(default)]
    #[param(inline)]
    by: By,
    /// Items of a page, 1 to 500.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Says what was used: tokens, money and runs of the caller, or of everybody from operators on.
#[utoipa::path(get, path = "/api/v1/usage", tag = "about", params(UsageQuery),
    responses((status = 200, body = schema::UsageReport), (status = "default", body = schema::Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<UsageQuery>,
) -> Result<Json<UsageReport>, Problem> {
    let permit = app.authorizer().read(&caller.cx)?;
    let UsageQuery { from, to, by, limit, cursor } = query;
    let by = match by {
        By::Agent => UsageBy::Agent,
        By::Principal => UsageBy::Principal,
        By::Model => UsageBy::Model,
    };
    let question = UsageQuestion { from, to, by };
    let report = app.orchestrator().usage(&permit, question, Page::new(limit, cursor)).await;
    report.map(Json).map_err(refused)
}
