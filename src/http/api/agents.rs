//! What this principal may use, who they are, and what they talk to.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{App, schema};
use crate::{
    domain::{Confinement, Effect, Principal, Risk, Role, RunLimits, Scopes, ToolName},
    http::kit::Caller,
};

/// An agent, as far as those who may start it need to know it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Agent)]
pub struct AgentView {
    /// Name.
    pub name: String,
    /// Which definition; changes with it.
    pub version: String,
    /// Model entry of the configuration.
    pub model: String,
    /// Tools that it may ask for.
    #[schema(value_type = Vec<String>)]
    pub tools: Vec<ToolName>,
    /// Roles that it is open to, and so those above them.
    #[schema(value_type = Vec<schema::Role>)]
    pub roles: Vec<Role>,
    /// Bounds of one run; a caller can only lower them.
    #[schema(value_type = schema::RunLimits)]
    pub limits: RunLimits,
}

/// The agents that this principal may start.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentList {
    /// By name.
    pub items: Vec<AgentView>,
}

/// A tool, as models and people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Tool)]
pub struct ToolView {
    /// Name.
    #[schema(value_type = String)]
    pub name: ToolName,
    /// What it does.
    pub description: String,
    /// JSON schema of its arguments.
    #[schema(value_type = Object)]
    pub schema: Value,
    /// Least risk of a call.
    #[schema(value_type = schema::Risk)]
    pub risk: Risk,
    /// What a second execution would do.
    #[schema(value_type = schema::Effect)]
    pub effect: Effect,
}

/// The tools of the agents that this principal may start.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolList {
    /// By name.
    pub items: Vec<ToolView>,
}

/// Who the token stands for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// Id, name and role.
    #[schema(value_type = PrincipalView)]
    pub principal: Principal,
    /// The role again, for programs that ask only for that.
    #[schema(value_type = schema::Role)]
    pub role: Role,
    /// What narrows the role. An absent list narrows nothing, an empty one leaves nothing.
    #[schema(value_type = ScopesView)]
    pub scopes: Scopes,
}

/// A person or program that may act.
#[derive(Debug, ToSchema)]
#[schema(as = Principal)]
#[expect(missing_docs, reason = "the shape of domain::Principal")]
pub struct PrincipalView {
    pub id: String,
    pub name: String,
    pub role: schema::Role,
    pub scopes: Option<ScopesView>,
}

/// What narrows a role.
#[derive(Debug, ToSchema)]
#[schema(as = Scopes)]
#[expect(missing_docs, reason = "the shape of domain::Scopes")]
pub struct ScopesView {
    pub agents: Option<Vec<String>>,
    pub tools: Option<Vec<String>>,
    pub surfaces: Option<Vec<String>>,
    pub conversations: Option<Vec<String>>,
}

/// What the operator chose for this daemon.
#[derive(Clone, Debug)]
pub struct Info {
    /// `development`, `staging` or `production`.
    pub environment: String,
    /// The kind of store, such as `sqlite`.
    pub store: &'static str,
}

/// What this daemon is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Info)]
pub struct InfoView {
    /// The program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// `development`, `staging` or `production`.
    pub environment: String,
    /// Seconds since start.
    pub uptime_secs: u64,
    /// The measured level of the sandbox.
    #[schema(value_type = schema::Confinement)]
    pub sandbox_level: Confinement,
    /// The kind of store.
    pub store: &'static str,
}

/// Lists the agents that this principal may start.
#[utoipa::path(get, path = "/api/v1/agents", tag = "about",
    responses((status = 200, body = AgentList), (status = "default", body = schema::Problem)))]
pub async fn agents(State(app): State<App>, caller: Caller) -> Json<AgentList> {
    let view = |agent: std::sync::Arc<crate::domain::AgentDef>| AgentView {
        name: agent.name.to_string(),
        version: agent.version.clone(),
        model: agent.model.clone(),
        tools: agent.tools.clone(),
        roles: agent.roles.clone(),
        limits: agent.limits,
    };
    let items = app.authorizer().startable(&caller.cx).into_iter().map(view).collect();
    Json(AgentList { items })
}

/// Lists the tools of those agents.
#[utoipa::path(get, path = "/api/v1/tools", tag = "about",
    responses((status = 200, body = ToolList), (status = "default", body = schema::Problem)))]
pub async fn tools(State(app): State<App>, caller: Caller) -> Json<ToolList> {
    let agents = app.authorizer().startable(&caller.cx);
    let used: BTreeSet<ToolName> = agents.iter().flat_map(|a| a.tools.iter().copied()).collect();
    let items = app.tools().iter().filter(|t| used.contains(&t.name)).cloned().collect();
    Json(ToolList { items })
}

/// Says who the token stands for.
#[utoipa::path(get, path = "/api/v1/me", tag = "about",
    responses((status = 200, body = Me), (status = "default", body = schema::Problem)))]
pub async fn me(caller: Caller) -> Json<Me> {
    let principal = caller.cx.principal;
    let scopes = principal.scopes.clone();
    Json(Me { role: principal.role, principal, scopes })
}

/// Says what this daemon is.
#[utoipa::path(get, path = "/api/v1/info", tag = "about",
    responses((status = 200, body = InfoView), (status = "default", body = schema::Problem)))]
pub async fn info(State(app): State<App>, _caller: Caller) -> Json<InfoView> {
    let info = app.info();
    Json(InfoView {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        environment: info.environment.clone(),
        uptime_secs: app.uptime().as_secs(),
        sandbox_level: app.orchestrator().sandbox_status().level,
        store: info.store,
    })
}
