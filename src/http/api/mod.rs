//! The public API: its routes, what handlers share, and `openapi.json`.

pub mod agents;
mod approvals;
mod commands;
mod conversations;
pub mod dto;
mod events;
mod health;
mod patterns;
mod runs;
pub mod schema;
pub mod usage;
mod ws;

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, Method, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa::{
    Modify, OpenApi as _,
    openapi::{
        OpenApi,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    Options, Parts,
    kit::{
        Caller,
        edge::{self, Access, Edge},
        fallback::{no_method, no_route, panicked},
        limit::{Gate, Shares, WAITERS_MAX, WEBSOCKETS_UNKNOWN_MAX},
    },
};
use crate::{
    auth::{Authorizer, TokenTable},
    domain::{PrincipalId, Timestamp},
    orchestrator::Orchestrator,
    runtime::{Stop, Tasks},
};

pub use agents::{Info, ToolView};
pub use ws::COMMANDS;

/// Every route of the API, held to the OpenAPI document by a test, so that other tests can go
/// through all of them.
pub static ROUTES: &[(Method, &str)] = &[
    (Method::GET, "/health"),
    (Method::GET, "/healthz"),
    (Method::GET, "/live"),
    (Method::GET, "/ready"),
    (Method::GET, "/readyz"),
    (Method::POST, "/api/v1/runs"),
    (Method::GET, "/api/v1/runs"),
    (Method::GET, "/api/v1/runs/{id}"),
    (Method::POST, "/api/v1/runs/{id}/interrupt"),
    (Method::POST, "/api/v1/runs/{id}/steer"),
    (Method::POST, "/api/v1/runs/{id}/resume"),
    (Method::POST, "/api/v1/runs/{id}/cancel"),
    (Method::POST, "/api/v1/runs/{id}/retry"),
    (Method::POST, "/api/v1/runs/{id}/fork"),
    (Method::GET, "/api/v1/runs/{id}/events"),
    (Method::GET, "/api/v1/runs/{id}/bundles"),
    (Method::GET, "/api/v1/approvals"),
    (Method::GET, "/api/v1/approvals/{id}"),
    (Method::POST, "/api/v1/approvals/{id}/decision"),
    (Method::POST, "/api/v1/approvals/decisions"),
    (Method::POST, "/api/v1/approvals/{id}/pattern-preview"),
    (Method::GET, "/api/v1/approval-patterns"),
    (Method::DELETE, "/api/v1/approval-patterns/{id}"),
    (Method::POST, "/api/v1/conversations"),
    (Method::GET, "/api/v1/conversations"),
    (Method::GET, "/api/v1/conversations/{id}"),
    (Method::DELETE, "/api/v1/conversations/{id}"),
    (Method::GET, "/api/v1/conversations/{id}/messages"),
    (Method::GET, "/api/v1/agents"),
    (Method::GET, "/api/v1/tools"),
    (Method::GET, "/api/v1/me"),
    (Method::GET, "/api/v1/info"),
    (Method::GET, "/api/v1/usage"),
    (Method::GET, "/api/v1/ws"),
];

/// Who may call a path. What is not known needs a token too, so that strangers learn nothing from
/// the difference between 401 and 404.
pub fn access(path: &str) -> Access {
    match path {
        "/health" | "/healthz" | "/live" | "/ready" | "/readyz" => Access::Probe,
        "/openapi.json" | "/docs" => Access::Open,
        "/api/v1/ws" => Access::Handshake,
        path if path.starts_with("/docs/") => Access::Open,
        _ => Access::Bearer,
    }
}

/// What handlers share. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    parts: Parts,
    tasks: Tasks,
    edge: Edge,
    started: Timestamp,
    waiters: Gate,
    streams: Gate,
    streams_of: Shares<PrincipalId>,
    sockets_of: Shares<PrincipalId>,
    sockets: Gate,
    unknown_sockets: Gate,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("App")
    }
}

impl App {
    fn orchestrator(&self) -> &Orchestrator {
        &self.0.parts.orchestrator
    }

    fn authorizer(&self) -> &Authorizer {
        &self.0.parts.authorizer
    }

    fn tokens(&self) -> &TokenTable {
        self.0.parts.authenticator.tokens()
    }

    fn tools(&self) -> &[ToolView] {
        &self.0.parts.tools
    }

    fn info(&self) -> &Info {
        &self.0.parts.info
    }

    fn uptime(&self) -> Duration {
        self.0.parts.clock.now().since(self.0.started)
    }

    fn edge(&self) -> &Edge {
        &self.0.edge
    }

    fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    fn stop(&self) -> &Stop {
        self.0.tasks.stop()
    }

    fn waiters(&self) -> &Gate {
        &self.0.waiters
    }

    fn streams(&self) -> &Gate {
        &self.0.streams
    }

    fn streams_of(&self) -> &Shares<PrincipalId> {
        &self.0.streams_of
    }

    fn sockets_of(&self) -> &Shares<PrincipalId> {
        &self.0.sockets_of
    }

    fn sockets(&self) -> &Gate {
        &self.0.sockets
    }

    fn unknown_sockets(&self) -> &Gate {
        &self.0.unknown_sockets
    }

    /// Whether a caller's token still gives every right that it gave when it was presented.
    fn still_stands(&self, caller: &Caller) -> bool {
        self.0.parts.authenticator.still_stands(&caller.token, &caller.cx.principal)
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Agent Runtime",
        description = "Runs, events, approvals and conversations. Errors are RFC 9457 problems.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("bearer", scheme);
    }
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::health))
        .routes(routes!(health::healthz))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::readyz))
        .routes(routes!(runs::create, runs::list))
        .routes(routes!(runs::get))
        .routes(routes!(runs::interrupt))
        .routes(routes!(runs::steer))
        .routes(routes!(runs::resume))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::retry))
        .routes(routes!(runs::fork))
        .routes(routes!(runs::bundles))
        .routes(routes!(events::list))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::get))
        .routes(routes!(approvals::decide))
        .routes(routes!(approvals::decide_many))
        .routes(routes!(patterns::preview))
        .routes(routes!(patterns::list))
        .routes(routes!(patterns::revoke))
        .routes(routes!(conversations::create, conversations::list))
        .routes(routes!(conversations::get, conversations::delete))
        .routes(routes!(conversations::messages))
        .routes(routes!(agents::agents))
        .routes(routes!(agents::tools))
        .routes(routes!(agents::me))
        .routes(routes!(agents::info))
        .routes(routes!(usage::show))
        .routes(routes!(ws::connect))
}

/// The API's description, generated from the handlers.
pub fn openapi() -> OpenApi {
    documented().into_openapi()
}

/// The whole listener: routes, docs page, and the edge around them.
pub fn router(options: Options, parts: Parts, tasks: &Tasks) -> Router {
    let edge_options = edge::Options {
        hosts: options.hosts,
        cors_origins: options.cors_origins,
        trusted_proxies: options.trusted_proxies,
        requests_max: options.requests_max,
        access,
    };
    let redactor = parts.orchestrator.redactor().clone();
    let edge = Edge::new(
        edge_options,
        parts.authenticator.clone(),
        parts.rates.clone(),
        parts.ids.clone(),
        redactor,
    );
    let app = App(Arc::new(Inner {
        started: parts.clock.now(),
        parts,
        tasks: tasks.clone(),
        edge: edge.clone(),
        waiters: Gate::new(WAITERS_MAX),
        streams: Gate::new(options.connections_max / 2),
        streams_of: Shares::new(options.streams_per_principal),
        sockets_of: Shares::new(options.websockets_per_principal),
        sockets: Gate::new(options.websockets_max),
        unknown_sockets: Gate::new(WEBSOCKETS_UNKNOWN_MAX),
    }));
    let (router, document) = documented().split_for_parts();
    let json = document.to_json().unwrap_or_default();
    let openapi = move || std::future::ready(as_json(json.clone()));
    router
        .with_state(app)
        .route("/openapi.json", get(openapi))
        .merge(docs())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(edge, edge::edge))
}

fn as_json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The docs page. Everything it needs is inside the binary; it asks no other server for anything.
fn docs() -> Router {
    let config = Config::new(["/openapi.json"]).validator_url("none");
    let csp = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
               img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
               form-action 'none'; frame-ancestors 'none'";
    let pages: Router = SwaggerUi::new("/docs").config(config).into();
    pages.layer(SetResponseHeaderLayer::overriding(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(csp),
    ))
}

#[cfg(test)]
mod tests;
