//! Which policy decides about tool calls: see, check, store, put in force, explain, replay.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    schema::{self, policy as shape},
};
use crate::{
    auth::{ManagePolicy, Permit, policy::Policy, policy::PolicyError},
    domain::{AgentName, PolicyVersion, Role, Surface, ToolCallId, limits},
    http::kit::{Command, Id, Operator, Problem, Query, Reply, problem::code},
    orchestrator::{
        CommandError, NewPolicy, Page, PolicyAnswer, PolicyQuestion, PolicyRefused, PolicyView,
        ReplayAsked, ReplayPage,
    },
};

/// Problems with a text that an answer names.
const PROBLEMS_MAX: usize = 100;
/// Differences on one page of a replay when the caller does not say.
const DIFFERENCES: usize = 100;

fn refused(error: impl Into<CommandError>) -> Problem {
    Problem::of_command(error.into(), &code::NO_POLICY)
}

/// A text that is no policy: every problem, each with its line.
fn wrong(error: &PolicyError) -> Problem {
    let count = error.problems.len();
    let first = error.problems.first().map(ToString::to_string).unwrap_or_default();
    let detail = if count == 1 { first } else { format!("{count} problems; the first: {first}") };
    let problem = Problem::new(&code::POLICY_WRONG, detail);
    error
        .problems
        .iter()
        .take(PROBLEMS_MAX)
        .fold(problem, |problem, one| problem.at("/source", one.to_string()))
}

async fn read(
    app: &App,
    permit: &Permit<ManagePolicy>,
    source: String,
) -> Result<Arc<Policy>, Problem> {
    app.orchestrator().read_policy(permit, source).await.map_err(|error| match error {
        PolicyRefused::Wrong(error) => wrong(&error),
        PolicyRefused::Command(error) => refused(error),
    })
}

/// A text to check.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidatePolicy {
    /// The policy's text.
    source: String,
}

/// What is wrong with a text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Validated {
    /// Whether it could be put in force.
    valid: bool,
    /// Its version, when it could.
    version: Option<String>,
    /// Everything that is wrong, in the order of the text.
    problems: Vec<TextProblem>,
}

/// One thing that is wrong with a text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TextProblem {
    /// The line, from 1.
    line: usize,
    /// What, and what to write instead.
    what: String,
}

/// A policy to store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutPolicy {
    /// The policy's text.
    source: String,
    /// Why, for the record.
    #[serde(default)]
    note: Option<String>,
    /// Whether to put it in force, too.
    #[serde(default = "yes")]
    activate: bool,
    /// The version that the author began with: nothing is changed when another one is in force by
    /// now.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    base: Option<PolicyVersion>,
}

const fn yes() -> bool {
    true
}

/// Which versions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListVersions {
    /// At most so many; 500 at most.
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A version to put in force.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivatePolicy {
    /// The version, its first digits (at least six), or `builtin` for the program's own rules.
    version: String,
    /// Why, for the record.
    #[serde(default)]
    note: Option<String>,
}

/// A question: about a past call (`call_id`), or about one that nobody has made (`agent`, `tool`,
/// `args`).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainPolicy {
    /// The past call.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    call_id: Option<ToolCallId>,
    /// Whose call it would be; `default` when none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// The tool.
    #[serde(default)]
    tool: Option<String>,
    /// Its arguments.
    #[serde(default)]
    #[schema(value_type = Object)]
    args: Value,
    /// The role of whoever would have started the run; `member` when none.
    #[serde(default)]
    #[schema(value_type = Option<shape::AskedRole>)]
    role: Option<Role>,
    /// Where the run would have been started; `api` when none.
    #[serde(default)]
    #[schema(value_type = Option<shape::AskedSurface>)]
    surface: Option<Surface>,
    /// Whether the run would have read untrusted content.
    #[serde(default)]
    tainted: bool,
    /// Another policy to ask, too: its text.
    #[serde(default)]
    source: Option<String>,
    /// Another policy to ask, too: a stored version.
    #[serde(default)]
    version: Option<String>,
}

/// What to replay, under which policy (`source` or `version`).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayPolicy {
    /// Calls of so many days; 7 when none, 30 at most: older ones are not kept.
    #[serde(default)]
    days: Option<u32>,
    /// The policy's text.
    #[serde(default)]
    source: Option<String>,
    /// A stored version, or `builtin`; the one in force when neither is given.
    #[serde(default)]
    version: Option<String>,
    /// Differences on this page at most; 100 when none, 500 at most.
    #[serde(default)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// The policy that is in force, with its text.
#[utoipa::path(get, path = "/admin/v1/policy", tag = "policy",
    responses((status = 200, body = shape::Policy), (status = "default", body = schema::Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<PolicyView>, Problem> {
    let permit = app.authorizer().manage::<ManagePolicy>(&operator.cx)?;
    app.orchestrator().policy(&permit).await.map(Json).map_err(refused)
}

/// Says whether a text is a policy, and everything that is wrong with it. Changes nothing.
#[utoipa::path(post, path = "/admin/v1/policy/validate", tag = "policy", request_body = ValidatePolicy,
    responses((status = 200, body = Validated), (status = "default", body = schema::Problem)))]
pub(super) async fn validate(
    State(app): State<App>,
    operator: Operator,
    Command { body, .. }: Command<ValidatePolicy>,
) -> Result<Json<Validated>, Problem> {
    let permit = app.authorizer().manage::<ManagePolicy>(&operator.cx)?;
    match app.orchestrator().read_policy(&permit, body.source).await {
        Ok(policy) => {
            let version = Some(policy.version().to_owned());
            Ok(Json(Validated { valid: true, version, problems: Vec::new() }))
        }
        Err(PolicyRefused::Wrong(error)) => {
            let problem =
                |p: crate::auth::policy::Problem| TextProblem { line: p.line, what: p.what };
            let problems = error.problems.into_iter().take(PROBLEMS_MAX).map(problem).collect();
            Ok(Json(Validated { valid: false, version: None, problems }))
        }
        Err(PolicyRefused::Command(error)) => Err(refused(error)),
    }
}

/// Stores a policy and puts it in force: when the answer comes, it decides every call, also those
/// that were approved and have not started. The same text is the same version.
#[utoipa::path(put, path = "/admin/v1/policy", tag = "policy", request_body = PutPolicy,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = shape::PolicyChange), (status = "default", body = schema::Problem)))]
pub(super) async fn put(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<PutPolicy>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePolicy>(&operator.cx)?;
    let PutPolicy { source, note, activate, base } = body;
    let policy = read(&app, &permit, source).await?;
    let new = NewPolicy { policy, note, activate, base };
    let done = app.orchestrator().put_policy(permit, new, idempotency).await.map_err(refused)?;
    Ok(Reply::of(done, |change| change)?.with(StatusCode::OK))
}

/// Lists the versions, newest first, without their texts.
#[utoipa::path(get, path = "/admin/v1/policy/versions", tag = "policy", params(ListVersions),
    responses((status = 200, body = shape::PolicyVersions), (status = "default", body = schema::Problem)))]
pub(super) async fn versions(
    State(app): State<App>,
    operator: Operator,
    Query(query): Query<ListVersions>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePolicy>(&operator.cx)?;
    let page = Page::new(query.limit, query.cursor);
    let versions = app.orchestrator().policy_versions(&permit, page).await.map_err(refused)?;
    Ok(Json(versions).into_response())
}

/// One version with its text, named by its digits, the first of them (at least six), or `builtin`.
#[utoipa::path(get, path = "/admin/v1/policy/versions/{id}", tag = "policy",
    params(("id" = String, Path)),
    responses((status = 200, body = shape::Policy), (status = "default", body = schema::Problem)))]
pub(super) async fn version(
    State(app): State<App>,
    operator: Operator,
    Id(name): Id<String>,
) -> Result<Json<PolicyView>, Problem> {
    let permit = app.authorizer().manage::<ManagePolicy>(&operator.cx)?;
    app.orchestrator().policy_version(&permit, &name).await.map(Json).map_err(refused)
}

/// Puts a stored version in force, such as the one before.
#[utoipa::path(post, path = "/admin/v1/policy/activate", tag = "policy", request_body = ActivatePolicy,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe; kept 24 h")),
    responses((status = 200, body = shape::PolicyChange), (status = "default", body = schema::Problem)))]
pub(super) async fn activate(
    State(app): State<App>,
    operator: Operator,
    Command { body, idempotency }: Command<ActivatePolicy>,
) -> Result<Response, Problem> {
    let permit = app.authorizer().manage::<ManagePolicy>(&operator.cx)?;
    let ActivatePolicy { version, note } = body;
    let done = app.orchestrator().activate_policy(permit, &version, note, idempotency).await;
    Ok(Reply::of(done.map_err(refused)?, |change| change)?.with(StatusCode::OK))
}

/// Says why a call was or would be allowed, asked about or denied: which rule, in which layer, and
/// what would change it. A past call is explained under the version that decided it and under the
/// one in force.
#[utoipa::path(post, path = "/admin/v1/policy/explain", tag = "policy", request_body = ExplainPolicy,
    responses((status = 200, body = shape::PolicyAnswer), (status = "default", body = schema::Problem)))]
pub(super) async fn explain(
    State(app): State<App>,
    operator: Operator,
    Command { body, .. }: Command<ExplainPolicy>,
) -> Result<Json<PolicyAnswer>, Problem> {
    let permit = app.authorizer().manage::<ManagePolicy>(&operator.cx)?;
    let ExplainPolicy { call_id, agent, tool, args, role, surface, tainted, source, version } =
        body;
    let with = other(&app, &permit, source, version).await?;
    let asked = match (call_id, tool) {
        (Some(call_id), None) => {
            let answer = app.orchestrator().explain_call(&permit, call_id, with).await;
            return answer.map(Json).map_err(refused);
        }
        (None, Some(tool)) => {
            let default = || {
                let name = "default".parse::<AgentName>();
                name.map_err(|error| Problem::invalid("/agent", error.to_string()))
            };
            let agent = agent.map_or_else(default, Ok)?;
            let args = if args.is_null() { serde_json::json!({}) } else { args };
            let (role, surface) = (role.unwrap_or(Role::Member), surface.unwrap_or(Surface::Api));
            PolicyQuestion { agent, tool, args, role, surface, tainted }
        }
        (Some(_), Some(_)) => {
            let what =
                "ask about a past call (`call_id`) or about one that nobody has made (`tool`)";
            return Err(Problem::invalid("/tool", what));
        }
        (None, None) => {
            let what = "name a past call with `call_id`, or a call to think of with `tool`";
            return Err(Problem::invalid("/call_id", what));
        }
    };
    let answer = app.orchestrator().explain_question(&permit, &asked, with.as_deref());
    answer.map(Json).map_err(refused)
}

/// Decides the recorded calls of the last days again, under another policy, and says what would
/// differ. A page looks at up to 5,000 decisions: go on while there is a `next_cursor`, and add up.
#[utoipa::path(post, path = "/admin/v1/policy/replay", tag = "policy", request_body = ReplayPolicy,
    responses((status = 200, body = shape::ReplayPage), (status = "default", body = schema::Problem)))]
pub(super) async fn replay(
    State(app): State<App>,
    operator: Operator,
    Command { body, .. }: Command<ReplayPolicy>,
) -> Result<Json<ReplayPage>, Problem> {
    let permit = app.authorizer().manage::<ManagePolicy>(&operator.cx)?;
    let ReplayPolicy { days, source, version, limit, cursor } = body;
    let days_max = u32::try_from(limits::DECISIONS_KEPT.as_secs() / 86_400).unwrap_or(u32::MAX);
    let days = days.unwrap_or(7);
    if !(1..=days_max).contains(&days) {
        return Err(Problem::invalid("/days", format!("a number from 1 to {days_max}")));
    }
    let policy = match other(&app, &permit, source, version).await? {
        Some(policy) => policy,
        None => app.orchestrator().current_policy(&permit),
    };
    let most = usize::try_from(limits::PAGE_MAX).unwrap_or(usize::MAX);
    let limit = limit.unwrap_or(DIFFERENCES).clamp(1, most);
    let asked = ReplayAsked { policy, days, cursor, limit };
    app.orchestrator().replay_policy(&permit, asked).await.map(Json).map_err(refused)
}

/// The policy that a question brings along.
async fn other(
    app: &App,
    permit: &Permit<ManagePolicy>,
    source: Option<String>,
    version: Option<String>,
) -> Result<Option<Arc<Policy>>, Problem> {
    match (source, version) {
        (None, None) => Ok(None),
        (Some(source), None) => read(app, permit, source).await.map(Some),
        (None, Some(version)) => {
            let found = app.orchestrator().stored_policy(permit, &version).await;
            found.map(Some).map_err(refused)
        }
        (Some(_), Some(_)) => {
            Err(Problem::invalid("/version", "give `source` or `version`, not both"))
        }
    }
}
