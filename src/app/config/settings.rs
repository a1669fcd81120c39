//! The settings as types: what the rest of `app` builds the daemon from.

use std::{
    collections::BTreeMap, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration,
};

use rustls::pki_types::CertificateDer;

use crate::{
    auth::GateRules,
    auth::policy::Policy,
    domain::{
        AgentDef, Confinement, DailyTime, HostName, Retention, Role, Secret, SecretName,
        SecretSource,
    },
    egress,
    llm::ModelOptions,
    orchestrator::BudgetConfig,
    runtime::telemetry::LogFormat,
    store::{Database, archive::age::Recipient, database_file},
};

/// How strict to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On one's own machine.
    Development,
    /// Like production, on a machine for tests.
    Staging,
    /// For real: nothing is generated, nothing is lenient.
    Production,
}

impl Mode {
    /// The name in the configuration and in `GET /api/v1/info`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        [Self::Development, Self::Staging, Self::Production]
            .into_iter()
            .find(|m| m.as_str() == text)
            .ok_or("development, staging or production")
    }
}

/// What carries out tool processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerRuntime {
    /// Our own sandbox.
    Sandbox,
    /// A container of a docker engine per run.
    Docker,
    /// Nothing: for development alone.
    Local,
}

impl WorkerRuntime {
    /// The name in the configuration and at the admin door.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Docker => "docker",
            Self::Local => "local",
        }
    }
}

impl FromStr for WorkerRuntime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        [Self::Sandbox, Self::Docker, Self::Local]
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or("sandbox, docker or local")
    }
}

/// How to reach a docker engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Docker {
    /// The image that tools see.
    pub(crate) image: String,
    /// The engine's unix socket.
    pub(crate) socket: PathBuf,
}

/// The weakest level at which tools run: one that our own sandbox can reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MinLevel(pub(crate) Confinement);

impl FromStr for MinLevel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let level = Confinement::MEASURED.into_iter().find(|level| level.as_str() == text);
        level.map(Self).ok_or("full, full-noproc, landlock or none")
    }
}

/// What every agent's way out has in common.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    /// Every agent may reach every public name, unless a rule denies it.
    pub(crate) allow_all: bool,
    /// Whether tools get no network when the check at start finds another way out.
    pub(crate) enforce_proxy: bool,
    /// The proxy that connections go through.
    pub(crate) upstream: Option<egress::Upstream>,
    /// Certificates trusted beside the public ones.
    pub(crate) extra_roots: Vec<CertificateDer<'static>>,
    /// Where a host and port are dialled instead of at the host's own address.
    pub(crate) connect_to: BTreeMap<(HostName, u16), SocketAddr>,
    /// Secrets that the proxy puts in.
    pub(crate) secrets: Vec<egress::BoundSecret>,
    /// Those whose value the daemon keeps itself; empty here.
    pub(crate) sealed: Vec<egress::BoundSecret>,
}

/// A secret that the configuration gives.
#[derive(Clone, Debug)]
pub(crate) struct ConfiguredSecret {
    /// Its setting.
    pub(crate) key: String,
    /// Where the value stands.
    pub(crate) source: SecretSource,
    /// The value.
    pub(crate) value: Secret<String>,
}

/// A bearer token that the operator configured.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// What people call its holder.
    pub(crate) name: String,
    /// The holder's standing.
    pub(crate) role: Role,
    /// The token.
    pub(crate) secret: Secret<String>,
}

/// How often and how much anybody may ask, start and use.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) queued_per_principal: u64,
    pub(crate) requests_per_principal: u64,
    pub(crate) requests_per_address: u64,
    pub(crate) connections: usize,
    pub(crate) connections_per_address: usize,
    pub(crate) websockets: usize,
    pub(crate) websockets_per_principal: usize,
    pub(crate) streams_per_principal: usize,
    pub(crate) model_requests_per_principal: u64,
    pub(crate) model_tokens_per_principal: u64,
    pub(crate) gate: GateRules,
    pub(crate) budgets: BudgetConfig,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogStyle {
    /// For people on a terminal, for programs elsewhere.
    Auto,
    /// Said so.
    As(LogFormat),
}

impl FromStr for LogStyle {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::As(LogFormat::Text)),
            "json" => Ok(Self::As(LogFormat::Json)),
            _ => Err("auto, text or json"),
        }
    }
}

/// How backups are made.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    /// Where they lie.
    pub(crate) dir: PathBuf,
    /// Who can open them.
    pub(crate) recipients: Vec<Recipient>,
    /// When one is made every day.
    pub(crate) schedule: Option<DailyTime>,
    /// Whole ones that are kept; 0: all.
    pub(crate) keep: u64,
    /// Started with the path of each new one.
    pub(crate) after_command: Vec<String>,
    /// What is configured, as a backup says it: without secrets.
    pub(crate) configuration: String,
}

/// Everything, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    /// Absolute.
    pub(crate) data_dir: PathBuf,
    /// Which database holds the store.
    pub(crate) database: Database,
    /// The directory of the agents' workspaces; absolute.
    pub(crate) workspaces_dir: PathBuf,
    pub(crate) http_addr: SocketAddr,
    /// Where the counters are served in plain; nowhere when none.
    pub(crate) metrics_addr: Option<SocketAddr>,
    /// Addresses of the proxies that terminate TLS in front.
    pub(crate) trusted_proxies: Vec<std::net::IpAddr>,
    /// Host names that are served besides loopback.
    pub(crate) hosts: Vec<String>,
    pub(crate) cors_origins: Vec<String>,
    /// Whether the admin door is opened in the data directory.
    pub(crate) admin_socket: bool,
    /// Empty when one is to be generated.
    pub(crate) tokens: Vec<Token>,
    /// The role of a generated token.
    pub(crate) token_role: Role,
    /// What the daemon's own keys are made from; generated outside production when none is set.
    pub(crate) permission_secret: Option<Secret<String>>,
    /// What they were made from before it was changed.
    pub(crate) permission_secret_previous: Option<Secret<String>>,
    pub(crate) llm_timeout: Duration,
    /// A proxy for requests to models; may hold credentials.
    pub(crate) llm_proxy: Option<Secret<String>>,
    pub(crate) models: BTreeMap<String, ModelOptions>,
    /// Models whose key the daemon keeps itself, with the name of the stored secret.
    pub(crate) model_secrets: BTreeMap<String, SecretName>,
    /// Every secret that the configuration gives.
    pub(crate) secrets: Vec<ConfiguredSecret>,
    pub(crate) agents: Vec<AgentDef>,
    pub(crate) sandbox_enabled: bool,
    pub(crate) sandbox_min_level: Confinement,
    pub(crate) worker_runtime: WorkerRuntime,
    pub(crate) docker: Docker,
    /// Kept sandboxes at once; further runs wait.
    pub(crate) sessions_max: usize,
    /// How long a kept sandbox may be idle before it goes.
    pub(crate) session_idle: Duration,
    pub(crate) egress: Egress,
    /// Where signed checkpoints go outside the database; none: the data directory.
    pub(crate) audit_file: Option<PathBuf>,
    /// How long things are kept.
    pub(crate) retention: Retention,
    /// The policy of the file, read; none where no file is named.
    pub(crate) policy: Option<Arc<Policy>>,
    pub(crate) backup: Backup,
    pub(crate) log_level: String,
    pub(crate) log_style: LogStyle,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) queued_runs: u64,
    /// How often and how much anybody may ask, start and use.
    pub(crate) bounds: Bounds,
    pub(crate) active_runs: usize,
    pub(crate) tool_processes: usize,
    pub(crate) approval_ttl: Duration,
    pub(crate) wait_for_person: Duration,
    pub(crate) stop_grace: Duration,
}

impl Settings {
    /// Whether there can be a store already.
    pub(crate) fn has_store(&self) -> bool {
        match self.database {
            Database::Sqlite => database_file(&self.data_dir).exists(),
            Database::Postgres(_) => true,
        }
    }

    /// Where the daemon writes the address it listens on.
    pub(crate) fn address_file(&self) -> PathBuf {
        self.data_dir.join(ADDRESS_FILE)
    }

    /// Where the daemon writes a token that it generated.
    pub(crate) fn bootstrap_token_file(&self) -> PathBuf {
        self.data_dir.join(BOOTSTRAP_TOKEN_FILE)
    }

    /// Where the daemon writes signed checkpoints of the audit trail, outside the database.
    pub(crate) fn checkpoint_file(&self) -> PathBuf {
        self.audit_file.clone().unwrap_or_else(|| self.data_dir.join(CHECKPOINT_FILE))
    }

    /// Where the daemon writes a permission secret that it generated.
    pub(crate) fn permission_secret_file(&self) -> PathBuf {
        self.data_dir.join(PERMISSION_SECRET_FILE)
    }
}

/// Name of the file with the daemon's address.
pub(crate) const ADDRESS_FILE: &str = "http-addr";
/// Name of the file with the generated token.
pub(crate) const BOOTSTRAP_TOKEN_FILE: &str = "bootstrap-token";
/// Name of the file with checkpoints of the audit trail.
pub(crate) const CHECKPOINT_FILE: &str = "audit-checkpoints.jsonl";
/// Name of the file with the generated permission secret.
pub(crate) const PERMISSION_SECRET_FILE: &str = "permission-secret";
