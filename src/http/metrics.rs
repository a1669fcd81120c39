//! The counters in Prometheus' text format, on a listener of their own: without a token, so only
//! for loopback or an internal network. Off unless an address is set.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, http::header, routing::get};

use super::kit::serve::{Caps, ListenError, listen, serve};
use crate::runtime::Tasks;

/// A scraper or two; more is a mistake.
const CONNECTIONS_MAX: usize = 16;
/// https://prometheus.io/docs/instrumenting/exposition_formats/
const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

/// Writes the counters as they stand.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Opens the listener and serves `GET /metrics` until the daemon stops. Returns the address that
/// was bound.
///
/// # Errors
/// When the address cannot be had.
pub async fn start(
    addr: SocketAddr,
    render: Render,
    tasks: &Tasks,
) -> Result<SocketAddr, ListenError> {
    let (listener, bound) = listen(addr).await?;
    let page = move || {
        let text = render();
        async move { ([(header::CONTENT_TYPE, TEXT_FORMAT)], text) }
    };
    serve(listener, Router::new().route("/metrics", get(page)), Caps::of(CONNECTIONS_MAX), tasks);
    Ok(bound)
}
