//! The admin API: how this daemon is run, for those who run it. It is served at doors of its own
//! and does not exist on the public listener.
//!
//! Invariants: a request carries the operator that its door has recognised; the role decides as
//! anywhere else. This part and `http::api` never import each other.

mod audit;
mod backup;
mod budgets;
mod capabilities;
mod egress;
mod erase;
mod health;
mod lockdown;
mod pairings;
mod policy;
mod principals;
mod replicas;
mod retention;
mod sandbox;
pub mod schema;
mod secrets;
mod tokens;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    http::{Method, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::kit::{
    door::{self, Door},
    fallback::{no_method, no_route, panicked},
    serve::{Caps, serve},
    unix::{LocalListener, SocketError},
};
use crate::{
    auth::{Authenticator, Authorizer, authn::local_operator},
    domain::IdSource,
    orchestrator::Orchestrator,
    runtime::Tasks,
};

pub use sandbox::Bounds;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "admin.sock";
/// A person and a few scripts.
const CONNECTIONS_MAX: usize = 64;
/// Requests in progress at once.
const REQUESTS_MAX: usize = 32;

/// Every route of the admin API, held to its OpenAPI document by a test, so that other tests can
/// go through all of them.
pub static ROUTES: &[(Method, &str)] = &[
    (Method::GET, "/admin/v1/egress/domains"),
    (Method::POST, "/admin/v1/egress/domains"),
    (Method::DELETE, "/admin/v1/egress/domains/{id}"),
    (Method::POST, "/admin/v1/egress/test"),
    (Method::GET, "/admin/v1/policy"),
    (Method::PUT, "/admin/v1/policy"),
    (Method::POST, "/admin/v1/policy/activate"),
    (Method::POST, "/admin/v1/policy/explain"),
    (Method::POST, "/admin/v1/policy/replay"),
    (Method::POST, "/admin/v1/policy/validate"),
    (Method::GET, "/admin/v1/policy/versions"),
    (Method::GET, "/admin/v1/policy/versions/{id}"),
    (Method::GET, "/admin/v1/capabilities"),
    (Method::GET, "/admin/v1/capabilities/{id}"),
    (Method::POST, "/admin/v1/capabilities/{id}/revoke"),
    (Method::POST, "/admin/v1/lockdown"),
    (Method::GET, "/admin/v1/lockdown"),
    (Method::DELETE, "/admin/v1/lockdown"),
    (Method::GET, "/admin/v1/sandbox"),
    (Method::GET, "/admin/v1/secrets"),
    (Method::POST, "/admin/v1/secrets"),
    (Method::DELETE, "/admin/v1/secrets/{id}"),
    (Method::POST, "/admin/v1/secrets/rewrap"),
    (Method::POST, "/admin/v1/reload"),
    (Method::GET, "/admin/v1/audit"),
    (Method::GET, "/admin/v1/audit/export"),
    (Method::GET, "/admin/v1/audit/verify"),
    (Method::POST, "/admin/v1/audit/checkpoint"),
    (Method::GET, "/admin/v1/backup"),
    (Method::POST, "/admin/v1/backup"),
    (Method::GET, "/admin/v1/backup/{id}"),
    (Method::POST, "/admin/v1/backup/{id}/verify"),
    (Method::GET, "/admin/v1/health"),
    (Method::GET, "/admin/v1/replicas"),
    (Method::GET, "/admin/v1/budgets"),
    (Method::PUT, "/admin/v1/budgets"),
    (Method::DELETE, "/admin/v1/budgets"),
    (Method::GET, "/admin/v1/principals"),
    (Method::POST, "/admin/v1/principals"),
    (Method::GET, "/admin/v1/principals/stale"),
    (Method::GET, "/admin/v1/principals/{id}"),
    (Method::PATCH, "/admin/v1/principals/{id}"),
    (Method::POST, "/admin/v1/principals/{id}/disable"),
    (Method::POST, "/admin/v1/principals/{id}/enable"),
    (Method::POST, "/admin/v1/principals/{id}/erase"),
    (Method::GET, "/admin/v1/principals/{id}/export"),
    (Method::GET, "/admin/v1/erasures"),
    (Method::GET, "/admin/v1/erasures/{id}"),
    (Method::GET, "/admin/v1/retention"),
    (Method::PUT, "/admin/v1/retention"),
    (Method::POST, "/admin/v1/retention/run"),
    (Method::POST, "/admin/v1/retention/holds"),
    (Method::DELETE, "/admin/v1/retention/holds"),
    (Method::GET, "/admin/v1/tokens"),
    (Method::POST, "/admin/v1/tokens"),
    (Method::DELETE, "/admin/v1/tokens/{id}"),
    (Method::GET, "/admin/v1/pairings"),
    (Method::POST, "/admin/v1/pairings"),
    (Method::POST, "/admin/v1/pairings/approve"),
    (Method::POST, "/admin/v1/pairings/{id}/approve"),
    (Method::POST, "/admin/v1/pairings/{id}/deny"),
    (Method::GET, "/admin/v1/links"),
    (Method::GET, "/admin/v1/links/resolve"),
    (Method::DELETE, "/admin/v1/links/{id}"),
];

/// What the admin API is built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Runs agents.
    pub orchestrator: Orchestrator,
    /// May they?
    pub authorizer: Authorizer,
    /// Who may come through the local door?
    pub authenticator: Authenticator,
    /// Ids of requests.
    pub ids: IdSource,
    /// The bounds of the sandbox that the operator chose.
    pub bounds: Bounds,
}

/// What handlers share. Clones share it.
#[derive(Clone, Debug)]
struct App(Arc<Parts>);

impl App {
    fn orchestrator(&self) -> &Orchestrator {
        &self.0.orchestrator
    }

    fn authorizer(&self) -> &Authorizer {
        &self.0.authorizer
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Agent Runtime, admin",
    description = "Egress and sandbox, for those who run the daemon. Errors are RFC 9457 problems.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Document;

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(egress::list, egress::add))
        .routes(routes!(egress::remove))
        .routes(routes!(egress::test))
        .routes(routes!(policy::show, policy::put))
        .routes(routes!(policy::activate))
        .routes(routes!(policy::explain))
        .routes(routes!(policy::replay))
        .routes(routes!(policy::validate))
        .routes(routes!(policy::versions))
        .routes(routes!(policy::version))
        .routes(routes!(capabilities::list))
        .routes(routes!(capabilities::show))
        .routes(routes!(capabilities::revoke))
        .routes(routes!(lockdown::on, lockdown::status, lockdown::off))
        .routes(routes!(sandbox::show))
        .routes(routes!(secrets::list, secrets::set))
        .routes(routes!(secrets::remove))
        .routes(routes!(secrets::rewrap))
        .routes(routes!(secrets::reload))
        .routes(routes!(audit::query))
        .routes(routes!(audit::export))
        .routes(routes!(audit::verify))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(backup::list, backup::create))
        .routes(routes!(backup::show))
        .routes(routes!(backup::verify))
        .routes(routes!(health::show))
        .routes(routes!(replicas::list))
        .routes(routes!(budgets::list, budgets::put, budgets::clear))
        .routes(routes!(principals::list, principals::create))
        .routes(routes!(principals::stale))
        .routes(routes!(principals::get, principals::patch))
        .routes(routes!(principals::disable))
        .routes(routes!(principals::enable))
        .routes(routes!(erase::erase))
        .routes(routes!(erase::export))
        .routes(routes!(erase::list))
        .routes(routes!(erase::show))
        .routes(routes!(retention::show, retention::put))
        .routes(routes!(retention::run))
        .routes(routes!(retention::hold, retention::lift))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(pairings::list, pairings::request))
        .routes(routes!(pairings::approve_code))
        .routes(routes!(pairings::approve))
        .routes(routes!(pairings::deny))
        .routes(routes!(pairings::links))
        .routes(routes!(pairings::resolve))
        .routes(routes!(pairings::revoke))
}

/// The API's description, generated from the handlers.
pub fn openapi() -> OpenApi {
    documented().into_openapi()
}

/// The routes. A door in front says who comes.
fn router(parts: Parts) -> Router {
    let (router, document) = documented().split_for_parts();
    let json = document.to_json().unwrap_or_default();
    let openapi = move || std::future::ready(as_json(json.clone()));
    router
        .with_state(App(Arc::new(parts)))
        .route("/openapi.json", get(openapi))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
}

/// Opens the local door: a socket in `data_dir` that the daemon's own user and root may use.
/// Serves until the daemon stops.
///
/// # Errors
/// When the socket cannot be had.
pub fn start(
    data_dir: &std::path::Path,
    own_uid: u32,
    parts: Parts,
    tasks: &Tasks,
) -> Result<PathBuf, SocketError> {
    let authenticator = parts.authenticator.clone();
    let admits = Arc::new(move |uid| authenticator.admits_user(uid, own_uid));
    let listener = LocalListener::open(data_dir, SOCKET, admits)?;
    let path = listener.path().to_owned();
    let redactor = parts.orchestrator.redactor().clone();
    let door = Door::new(local_operator(), parts.ids.clone(), redactor, REQUESTS_MAX);
    let app = router(parts).layer(middleware::from_fn_with_state(door, door::door));
    serve(listener, app, Caps::of(CONNECTIONS_MAX), tasks);
    Ok(path)
}

fn as_json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests;
