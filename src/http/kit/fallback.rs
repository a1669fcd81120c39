//! What every listener answers where no handler does.

use axum::response::{IntoResponse, Response};

use super::problem::{Problem, code};

pub(in crate::http) async fn no_route() -> Problem {
    Problem::new(&code::NO_ROUTE, "GET /openapi.json lists the paths")
}

pub(in crate::http) async fn no_method() -> Problem {
    Problem::new(&code::METHOD, "the `Allow` header lists the methods of this path")
}

pub(in crate::http) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    // The panic itself is logged by the process-wide hook.
    tracing::error!("a handler panicked");
    Problem::new(&code::INTERNAL, "the failure is in the log, under this request id")
        .into_response()
}
