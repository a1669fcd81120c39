//! `serve`: the daemon's life from configuration to exit code.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    build::{self, Daemon},
    cli::{Context, Failure},
    config::{self, Environment, LogStyle, Problems, Request, Settings, Starter, secret_file},
};
use crate::{
    domain::{AuditEntry, AuditKind, Surface},
    http,
    runtime::{
        Redactor, Stop, TaskKind, Tasks,
        lifecycle::{self, Signals, StopCause, watch_signals},
        telemetry::{self, LogFormat, Telemetry},
    },
};

/// Time that tasks get to end after the hard stop.
const LAST_MOMENT: Duration = Duration::from_secs(5);

pub(super) fn serve(context: Context, starter: Starter) -> Result<ExitCode, Failure> {
    let settings = context.load()?.settings;
    let mut problems = Problems::default();
    config::gate(&settings, starter, &mut problems);
    if !problems.list().is_empty() {
        return Err(problems.into());
    }
    let redactor = Redactor::default();
    build::register(&settings, None, &redactor);
    let telemetry = Telemetry::start(telemetry::Options {
        level: settings.log_level.clone(),
        format: log_format(settings.log_style),
        file: settings.log_file.clone(),
        redactor: redactor.clone(),
    })
    .map_err(|e| Failure::usage(build::fault(e).to_string()))?;
    lifecycle::set_notify_socket(context.environment.text("NOTIFY_SOCKET").map(PathBuf::from));
    super::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("agent-runtime")
        .build()
        .map_err(|e| Failure::fault(format!("cannot start: {e}")))?;
    let code = runtime.block_on(run(&context, &settings, redactor, telemetry));
    runtime.shutdown_timeout(LAST_MOMENT);
    code
}

async fn run(
    context: &Context,
    settings: &Settings,
    redactor: Redactor,
    telemetry: Telemetry,
) -> Result<ExitCode, Failure> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), mode = settings.mode.as_str(), "starting");
    let signals =
        Signals::install().map_err(|e| Failure::fault(format!("cannot watch for signals: {e}")))?;
    let stop = Stop::default();
    let tasks = Tasks::new(stop.clone());
    let built = Box::pin(build::daemon(settings, redactor, &tasks)).await;
    let daemon = match built {
        Ok(daemon) => daemon,
        Err(failure) => {
            stop.hard();
            return Err(failure);
        }
    };
    if let Some(addr) = settings.metrics_addr {
        let shown = telemetry.clone();
        let render = Arc::new(move || shown.render_metrics());
        let bound = http::metrics::start(addr, render, &tasks).await.map_err(build::fault)?;
        tracing::info!(address = %bound, "metrics");
    }
    record(&daemon, "started").await;
    secret_file::write(&settings.address_file(), &format!("{}\n", daemon.address))
        .map_err(|e| Failure::fault(format!("cannot write to the data directory: {e}")))?;
    tracing::info!(address = %daemon.address, data_dir = %settings.data_dir.display(), "ready");
    lifecycle::notify("READY=1");

    let finished = async {
        tasks.wait_work().await;
        daemon.trail.flush().await;
        record(&daemon, "stopped").await;
    };
    let cause = watch_signals(signals, &stop, settings.stop_grace, finished, || {
        reload(context, &daemon, &telemetry, &tasks);
    })
    .await;
    if tokio::time::timeout(LAST_MOMENT, tasks.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    let failed = tasks.failure();
    tracing::info!(failed, "stopped");
    let is_asked = cause == StopCause::Signal && failed.is_none();
    Ok(if is_asked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the configuration again and takes over the log level, the secrets, the policy and which machines
/// agents may reach; the rest needs a restart. A configuration that is wrong changes nothing.
fn reload(context: &Context, daemon: &Daemon, telemetry: &Telemetry, tasks: &Tasks) {
    lifecycle::notify("RELOADING=1");
    let request = Request {
        file: context.file.clone(),
        environment: Environment::of_process(),
        dotenv: Some(PathBuf::from(".")),
        overrides: context.overrides.clone(),
    };
    match config::load(&request) {
        Err(problems) => tracing::error!(%problems, "the configuration was not reloaded"),
        Ok(loaded) => take_over(&loaded.settings, daemon, telemetry, tasks),
    }
    lifecycle::notify("READY=1");
}

fn take_over(settings: &Settings, daemon: &Daemon, telemetry: &Telemetry, tasks: &Tasks) {
    if let Err(error) = telemetry.set_level(&settings.log_level) {
        tracing::error!(%error, "the log level was not changed");
    }
    // A token that was generated stays only while none is configured.
    let generated = daemon.generated.as_ref().filter(|_| settings.tokens.is_empty());
    let entries = build::token_entries(settings, generated);
    if entries.is_empty() {
        tracing::error!("no token is configured any more: the tokens were not changed");
    } else {
        build::register(settings, generated, &daemon.redactor);
        daemon.tokens.replace(entries);
    }
    for (name, model) in &settings.models {
        if !daemon.llm.set_key(name, model.api_key.clone()) {
            tracing::warn!(model = name.as_str(), "a new model needs a restart");
        }
    }
    tracing::info!(
        level = settings.log_level.as_str(),
        "reloaded the log level, the secrets, the policy and the hosts that agents may reach"
    );
    let store = daemon.store.clone();
    let hosts = settings.agents.iter().map(|a| (a.name.clone(), a.hosts.clone())).collect();
    let hosts_recorded = daemon.orchestrator.reconfigure_egress(hosts);
    let policy = daemon.orchestrator.reload_policy(settings.policy.clone());
    tasks.spawn(TaskKind::Helper, |_| async move {
        let entry = entry(AuditKind::Config, "reloaded");
        if let Err(error) = policy.await {
            let error = build::fault(error).to_string();
            tracing::error!(error, "the policy was not reloaded: the one before stays in force");
        }
        let hosts = hosts_recorded.await;
        if let Err(error) = hosts.and(store.audit(entry).await) {
            tracing::error!(%error, "the reload could not be recorded");
        }
    });
}

async fn record(daemon: &Daemon, what: &str) {
    if let Err(error) = daemon.store.audit(entry(AuditKind::Daemon, what)).await {
        tracing::error!(%error, what, "could not be recorded");
    }
}

fn entry(kind: AuditKind, what: &str) -> AuditEntry {
    AuditEntry {
        kind,
        actor: "system".to_owned(),
        surface: Surface::System,
        run_id: None,
        request_id: None,
        data: json!({ "what": what, "version": env!("CARGO_PKG_VERSION") }),
    }
}

fn log_format(style: LogStyle) -> LogFormat {
    match style {
        LogStyle::As(format) => format,
        LogStyle::Auto if std::io::stdout().is_terminal() => LogFormat::Text,
        LogStyle::Auto => LogFormat::Json,
    }
}
