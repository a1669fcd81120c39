//! `serve`: the daemon's life from configuration to exit code.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    build::{self, Daemon},
    cli::{Context, Failure},
    config::{self, LogStyle, Problems, Settings, Starter, secret_file},
    reload, trail,
};
use crate::{
    domain::{AuditEntry, AuditKind},
    http,
    runtime::{
        Redactor, Stop, Tasks,
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
    let (daemon, reloads) = match built {
        Ok(built) => built,
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
        // So that a clean stop leaves no row unsigned. What fails is told where it does.
        daemon.orchestrator.sign_trail().await.map(drop).unwrap_or_default();
    };
    let reloader = daemon.reloader.clone();
    let signals = watch_signals(signals, &stop, settings.stop_grace, finished, || reloader.ask());
    // A reload under way may be dropped when the daemon ends.
    let cause = tokio::select! {
        cause = signals => cause,
        () = reload::answer(context, settings, &daemon, reloads, &telemetry) => StopCause::Fault,
    };
    if tokio::time::timeout(LAST_MOMENT, tasks.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    } else {
        // Nothing is left here: nobody needs to wait for the end of the lease.
        daemon.orchestrator.leave().await;
    }
    let failed = tasks.failure();
    tracing::info!(failed, "stopped");
    let is_asked = cause == StopCause::Signal && failed.is_none();
    Ok(if is_asked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn record(daemon: &Daemon, what: &str) {
    if let Err(error) = daemon.store.audit(entry(AuditKind::Daemon, what)).await {
        tracing::error!(%error, what, "could not be recorded");
    }
}

fn entry(kind: AuditKind, what: &str) -> AuditEntry {
    trail::entry(kind, json!({ "what": what, "version": env!("CARGO_PKG_VERSION") }))
}

fn log_format(style: LogStyle) -> LogFormat {
    match style {
        LogStyle::As(format) => format,
        LogStyle::Auto if std::io::stdout().is_terminal() => LogFormat::Text,
        LogStyle::Auto => LogFormat::Json,
    }
}
