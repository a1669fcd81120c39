//! Reads configuration and secrets again while the daemon runs: SIGHUP, and whoever asks for it.
//!
//! Invariants: a configuration that is wrong changes nothing; every new value is known to the
//! redactor before it is in force, and old ones stay known; what cannot be taken over is named.

mod fixed;

use std::path::PathBuf;

use serde_json::json;

use super::{
    build::{self, Daemon},
    cli::Context,
    config::{self, Environment, Request, Settings},
    secrets, trail,
};
use crate::{
    domain::AuditKind,
    runtime::{lifecycle, reload::Reloads, telemetry::Telemetry},
};

/// Answers every request; never ends. `started`: what the daemon was built from.
pub(super) async fn answer(
    context: &Context,
    started: &Settings,
    daemon: &Daemon,
    mut reloads: Reloads,
    telemetry: &Telemetry,
) {
    while let Some(answer) = reloads.next().await {
        lifecycle::notify("RELOADING=1");
        let done = reload(context, started, daemon, telemetry).await;
        if let Err(why) = &done {
            tracing::error!(why, "the configuration was not reloaded");
        }
        lifecycle::notify("READY=1");
        if let Some(answer) = answer {
            // Nobody waits any more: it is in force all the same.
            drop(answer.send(done));
        }
    }
    std::future::pending::<()>().await;
}

/// Takes over the log level, the secrets, the policy, budgets and which machines agents may reach; what
/// else has changed needs a restart, and is named.
async fn reload(
    context: &Context,
    started: &Settings,
    daemon: &Daemon,
    telemetry: &Telemetry,
) -> Result<Vec<String>, String> {
    let request = Request {
        file: context.file.clone(),
        environment: Environment::of_process(),
        dotenv: Some(PathBuf::from(".")),
        overrides: context.overrides.clone(),
    };
    let loaded = config::load(&request).map_err(|problems| problems.to_string())?;
    let Daemon { store, keyring, redactor, .. } = daemon;
    build::register(&loaded.settings, daemon.generated.as_ref(), redactor);
    let opened = secrets::vault::open_all(store, keyring, redactor).await;
    let opened = opened.map_err(|error| build::fault(error).to_string())?;
    let settings = secrets::vault::resolve(&loaded.settings, &opened);
    daemon.egress.set_secrets(settings.egress.secrets.clone()).map_err(|e| e.to_string())?;
    take_over(&settings, daemon, telemetry);
    let noted = secrets::ages::note(store, &settings, &opened, keyring).await;
    let hosts = settings.agents.iter().map(|a| (a.name.clone(), a.hosts.clone())).collect();
    let hosts = daemon.orchestrator.reconfigure_egress(hosts).await;
    let policy = daemon.orchestrator.reload_policy(settings.policy.clone());
    if let Err(error) = policy.await {
        let error = build::fault(error).to_string();
        tracing::error!(error, "the policy was not reloaded: the one before stays in force");
    }
    if let Err(error) =
        daemon.orchestrator.reconfigure_budgets(settings.bounds.budgets.clone()).await
    {
        let error = build::fault(error).to_string();
        tracing::error!(
            error,
            "budgets were read again; runs that wait for one were not let go on"
        );
    }
    let fixed = fixed::changed(started, &settings);
    if !fixed.is_empty() {
        tracing::warn!(settings = fixed.join(", "), "these have changed and need a restart");
    }
    let data = json!({
        "what": "reloaded", "version": env!("CARGO_PKG_VERSION"), "needs_restart": fixed,
    });
    let recorded = store.audit(trail::entry(AuditKind::Config, data)).await;
    if let Err(error) = noted.and(hosts).and(recorded) {
        tracing::error!(%error, "the reload could not be recorded");
    }
    Ok(fixed)
}

fn take_over(settings: &Settings, daemon: &Daemon, telemetry: &Telemetry) {
    if let Err(error) = telemetry.set_level(&settings.log_level) {
        tracing::error!(%error, "the log level was not changed");
    }
    // A token that was generated stays only while none is configured.
    let generated = daemon.generated.as_ref().filter(|_| settings.tokens.is_empty());
    let entries = build::token_entries(settings, generated);
    if entries.is_empty() {
        tracing::error!("no token is configured any more: the tokens were not changed");
    } else {
        daemon.tokens.replace(entries);
    }
    for (name, model) in &settings.models {
        if !daemon.llm.set_key(name, model.api_key.clone()) {
            tracing::warn!(model = name.as_str(), "a new model needs a restart");
        }
    }
    let secret = |s: &Option<crate::domain::Secret<String>>| s.as_ref().map(|s| s.expose().clone());
    if secret(&settings.permission_secret) != secret(&daemon.permission_secret) {
        tracing::warn!("another permission secret needs a restart");
    }
    tracing::info!(
        level = settings.log_level.as_str(),
        "reloaded the log level, the secrets, the policy, budgets and the hosts that agents may reach"
    );
}
