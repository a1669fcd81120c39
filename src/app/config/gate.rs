//! What must hold before the daemon may start: refusals that no setting below can undo.

use std::net::IpAddr;

use super::{
    problem::Problems,
    settings::{Mode, Settings, WorkerRuntime},
};
use crate::store::Database;

/// Who starts the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starter {
    /// An ordinary user.
    User,
    /// Root, without saying that this is meant.
    Root,
    /// Root, with `--allow-root`.
    RootAllowed,
}

/// Everything that forbids to start.
pub(crate) fn check(settings: &Settings, starter: Starter, problems: &mut Problems) {
    let Settings { mode, http_addr, .. } = settings;
    if starter == Starter::Root {
        let what = "running as root is refused: start it as an ordinary user, or say --allow-root \
                    (tools still run under another uid)";
        problems.add("user", what);
    }
    if !http_addr.ip().is_loopback() && settings.trusted_proxies.is_empty() {
        let what = format!(
            "`{http_addr}` can be reached from other machines without TLS: put a proxy in front \
             that terminates TLS and name its address in `http.trusted_proxy` \
             (AGENT_RUNTIME_TRUSTED_PROXY), or bind to 127.0.0.1"
        );
        problems.add("http.addr", what);
    }
    if let Some(addr) = settings.metrics_addr.filter(|addr| !is_internal(addr.ip())) {
        let what = format!(
            "`{addr}` would show the counters to everybody: use a loopback or private address"
        );
        problems.add("http.metrics_addr", what);
    }
    if settings.worker_runtime == WorkerRuntime::Local && *mode != Mode::Development {
        let what = "`local` confines nothing: it is for development alone; use sandbox or docker \
                    (AGENT_RUNTIME_WORKER_RUNTIME)";
        problems.add("sandbox.backend", what);
    }
    if *mode == Mode::Production {
        production(settings, problems);
    }
}

/// Loopback, or an address that is not routed on the internet (RFC 1918, RFC 4193).
const fn is_internal(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

fn production(settings: &Settings, problems: &mut Problems) {
    if settings.tokens.is_empty() {
        let what = "production never generates a token: set AGENT_RUNTIME_AUTH_TOKEN_FILE \
                    (`agent-runtime init` makes one)";
        problems.add("auth.token", what);
    }
    match &settings.permission_secret {
        None => {
            let what = "production never generates what its keys are made from: set \
                        AGENT_RUNTIME_PERMISSION_SECRET_FILE (`agent-runtime init` makes one)";
            problems.add("auth.permission_secret", what);
        }
        // That it is long enough was checked when it was read.
        Some(secret) if is_placeholder(secret.expose()) => {
            problems.add("auth.permission_secret", "is a placeholder");
        }
        Some(_) => {}
    }
    if let Database::Postgres(server) = &settings.database
        && server.may_be_overheard()
    {
        let what = "says nothing about encryption, and the server is not on this machine: add \
                    ?sslmode=verify-full (and &sslrootcert=FILE for an authority of your own), or \
                    ?sslmode=disable where nobody else is on the wire (AGENT_RUNTIME_DATABASE_URL)";
        problems.add("database_url", what);
    }
    if settings.egress.allow_all {
        let what = "lets every agent reach every public host: list the hosts in allowed_domains \
                    (AGENT_RUNTIME_ALLOW_ALL_DOMAINS)";
        problems.add("egress.allow_all_domains", what);
    }
    if !settings.egress.enforce_proxy {
        let what = "must be true in production: the daemon proves at start that tools have no \
                    other way out (AGENT_RUNTIME_ENFORCE_EGRESS_PROXY)";
        problems.add("egress.enforce_proxy", what);
    }
    for token in &settings.tokens {
        let text = token.secret.expose();
        if text.len() < 32 || is_placeholder(text) {
            let what = format!("token `{}` is shorter than 32 bytes or a placeholder", token.name);
            problems.add("auth", what);
        }
    }
}

/// Whether somebody copied an example and did not change it.
fn is_placeholder(secret: &str) -> bool {
    let secret = secret.to_ascii_lowercase().replace('-', "_");
    secret.contains("change_this") || secret.contains("changeme") || secret.contains("change_me")
}
