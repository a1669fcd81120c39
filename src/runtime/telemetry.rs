//! Structured logs and counters. Every line passes the redactor before it is written.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, reload};

use super::{log_file::LogFile, redact::Redactor};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to log, how, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// A level, or a `tracing` filter such as `info,agent_runtime::store=debug`.
    pub level: String,
    /// Lines for people or for programs.
    pub format: LogFormat,
    /// A file to append to; standard output when none.
    pub file: Option<PathBuf>,
    /// The secrets to mask.
    pub redactor: Redactor,
}

/// Why logging could not start or change.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error("log level `{level}` is not valid: use error, warn, info, debug, trace or a filter")]
    Level {
        /// What was given.
        level: String,
    },
    /// The log file cannot be opened.
    #[error("cannot open log file {path}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else is installed already.
    #[error("logging or metrics were already started in this process")]
    AlreadyStarted,
}

/// Changes the level while running, and renders the counters.
#[derive(Clone)]
pub struct Telemetry {
    set_level: Arc<dyn Fn(EnvFilter) -> bool + Send + Sync>,
    metrics: PrometheusHandle,
    redactor: Redactor,
    file: Option<LogFile>,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

impl Telemetry {
    /// Installs the process-wide logger and the counters.
    pub fn start(options: Options) -> Result<Self, TelemetryError> {
        let (filter, handle) = reload::Layer::new(parse(&options.level)?);
        let sink = match &options.file {
            Some(path) => Sink::File(
                LogFile::open(path)
                    .map_err(|source| TelemetryError::File { path: path.clone(), source })?,
            ),
            None => Sink::Stdout,
        };
        let file = match &sink {
            Sink::File(file) => Some(file.clone()),
            Sink::Stdout => None,
        };
        let redactor = options.redactor.clone();
        let writer = Redacting { redactor: options.redactor, sink };
        let layer = match options.format {
            LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
            LogFormat::Text => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
        };
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        tracing::subscriber::set_global_default(subscriber)
            .ok()
            .ok_or(TelemetryError::AlreadyStarted)?;
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .ok()
            .ok_or(TelemetryError::AlreadyStarted)?;
        let set_level = Arc::new(move |f| handle.reload(f).is_ok());
        Ok(Self { set_level, metrics, redactor, file })
    }

    /// Changes the level of a running daemon.
    pub fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        let filter = parse(level)?;
        if (self.set_level)(filter) { Ok(()) } else { Err(TelemetryError::AlreadyStarted) }
    }

    /// The file that lines go to, where they go to one.
    pub fn log_file(&self) -> Option<LogFile> {
        self.file.clone()
    }

    /// The counters in Prometheus' text format.
    pub fn render_metrics(&self) -> String {
        self.redactor.redact(&self.metrics.render()).into_owned()
    }
}

fn parse(level: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(level).ok().ok_or_else(|| TelemetryError::Level { level: level.to_owned() })
}

#[derive(Clone)]
enum Sink {
    Stdout,
    File(LogFile),
}

/// Makes writers that redact.
#[derive(Clone)]
struct Redacting {
    redactor: Redactor,
    sink: Sink,
}

impl<'a> fmt::MakeWriter<'a> for Redacting {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { owner: self }
    }
}

/// One log line; `tracing-subscriber` writes each with a single call.
struct Line<'a> {
    owner: &'a Redacting,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let clean = self.owner.redactor.redact(&text);
        match &self.owner.sink {
            Sink::Stdout => io::stdout().lock().write_all(clean.as_bytes())?,
            Sink::File(file) => file.append(clean.as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
