//! Which machines agents may reach: list, add, remove, test.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{App, schema};
use crate::{
    auth::ManageEgress,
    domain::{
        AgentName, EgressRuleId, EgressVerdict, HostName, HostRule,
        host::{DEFAULT_PORT, canonical_path},
    },
    http::kit::{Command, Id, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{CommandError, EgressAnswer, EgressQuestion, NewEgressRule},
};

/// Path below which rules are found.
const BASE: &str = "/admin/v1/egress/domains";

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_EGRESS_RULE)
}

/// Which rules to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListRules {
    /// Only those that count for this agent.
    #[param(value_type = Option<String>)]
    agent: Option<AgentName>,
}

/// A rule to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddRule {
    /// The hosts: a text such as `example.com`, `*.example.com:8443`, or a table with `host`,
    /// `port`, `methods`, `path`, `allow_private`, `opaque`.
    #[schema(value_type = schema::Rule)]
    rule: HostRule,
    /// The agent that it is for; every agent when none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// Whether it allows or denies.
    #[serde(default)]
    #[schema(value_type = schema::Verdict)]
    verdict: EgressVerdict,
    /// Why, for the record.
    #[serde(default)]
    note: Option<String>,
}

/// A connection to ask about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestEgress {
    /// Where to.
    #[schema(value_type = String)]
    host: HostName,
    /// The port there; 443 when none.
    #[serde(default)]
    port: Option<u16>,
    /// Whose; `default` when none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// The method of a request that can be seen (plain HTTP, `http_request`); none for a tunnel.
    #[serde(default)]
    method: Option<String>,
    /// Its path.
    #[serde(default)]
    path: Option<String>,
}

/// Lists the rules: those of the configuration, then those of the list, oldest first.
#[utoipa::path(get, path = "/admin/v1/egress/domains", tag = "egress", params(ListRules),
    responses((status = 200, body = schema::RuleList), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListRules>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageEgress>(&operator.cx)?;
    let mut items = app.orchestrator().egress_rules(&permit).await.map_err(refused)?;
    if let Some(wanted) = query.agent {
        items.retain(|rule| rule.agent.as_ref().is_none_or(|agent| *agent == wanted));
    }
    Ok(Json(json!({ "items": items, "next_cursor": null })).into_response())
}

/// Adds a rule. It is in force when the answer comes, also for calls under way.
#[utoipa::path(post, path = "/admin/v1/egress/domains", tag = "egress", request_body = AddRule,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 201, body = schema::EgressRule), (status = "default", body = schema::Problem)))]
pub(super) async fn add(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<AddRule>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManageEgress>(&operator.cx)?;
    let AddRule { rule, agent, verdict, note } = body;
    let new = NewEgressRule { agent, verdict, rule, note };
    let done = app.orchestrator().add_egress_rule(permit, new, idempotency).await;
    let reply = Reply::of(done.map_err(refused)?, |rule| rule)?;
    Ok(reply.created(BASE, StatusCode::CREATED))
}

/// Removes a rule of the list. Connections that only it allowed are cut when the answer comes.
#[utoipa::path(delete, path = "/admin/v1/egress/domains/{id}", tag = "egress",
    params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = schema::Problem)))]
pub(super) async fn remove(
    State(app): State<App>,
    operator: Operator,
    Id(id): Id<EgressRuleId>,
) -> Result<StatusCode, Problem> {
    let permit = app.authorizer().manage::<ManageEgress>(&operator.cx)?;
    app.orchestrator().remove_egress_rule(permit, id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says what would become of a connection and why, and what would change it. Looks the name up
/// where rules allow it; connects to nothing.
#[utoipa::path(post, path = "/admin/v1/egress/test", tag = "egress", request_body = TestEgress,
    responses((status = 200, body = schema::EgressAnswer), (status = "default", body = schema::Problem)))]
pub(super) async fn test(
    State(app): State<App>,
    operator: Operator,
    Command { body, .. }: Command<TestEgress>,
) -> Result<Json<EgressAnswer>, Problem> {
    let permit = app.authorizer().manage::<ManageEgress>(&operator.cx)?;
    let answer = app.orchestrator().test_egress(&permit, question(body)?).await;
    answer.map(Json).map_err(refused)
}

fn question(body: TestEgress) -> Result<EgressQuestion, Problem> {
    let TestEgress { host, port, agent, method, path } = body;
    let port = port.unwrap_or(DEFAULT_PORT);
    if port == 0 {
        return Err(Problem::invalid("/port", "a port is a number from 1 to 65535"));
    }
    let is_method = |m: &str| {
        !m.is_empty() && m.len() <= 32 && m.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
    };
    if method.as_deref().is_some_and(|m| !is_method(m)) {
        return Err(Problem::invalid("/method", "a method is a word in upper case, such as GET"));
    }
    if let Some(Err(error)) = path.as_deref().map(canonical_path) {
        return Err(Problem::invalid("/path", error.to_string()));
    }
    let request = (method.is_some() || path.is_some()).then(|| {
        (method.unwrap_or_else(|| "GET".to_owned()), path.unwrap_or_else(|| "/".to_owned()))
    });
    let default = || {
        let name = "default".parse::<AgentName>();
        name.map_err(|error| Problem::invalid("/agent", error.to_string()))
    };
    let agent = agent.map_or_else(default, Ok)?;
    Ok(EgressQuestion { agent, host, port, request })
}
