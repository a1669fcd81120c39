//! The composition root: builds every part in order and wires them. No logic.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc};

use super::{
    backup,
    cli::Failure,
    clock, cluster,
    config::{Mode, Settings, Token, WorkerRuntime, secret_file},
    limits, network, secrets,
    trail::Trail,
};
use crate::{
    auth::{
        self, AuditSink, Authenticator, Authorizer, Gate, HostPolicies, Policies, TokenEntry,
        TokenTable, authn, policy::Policy,
    },
    domain::{IdSource, Secret, SteadyClock, ToolCallId},
    egress::Egress,
    http::{self, Info, ToolView},
    llm::{self, Llm},
    orchestrator::{self, Alerts, Live, Membership, Orchestrator},
    runtime::{
        LogFile, Redactor, Tasks,
        reload::{Reloader, Reloads, reloads},
    },
    sandbox::{self, Sandbox},
    store::{self, Store},
    tools::{self, NetworkStatus, Tools},
};

/// The parts that the daemon needs after it has started.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) address: SocketAddr,
    pub(super) store: Store,
    pub(super) llm: Llm,
    pub(super) egress: Egress,
    pub(super) orchestrator: Orchestrator,
    pub(super) tokens: TokenTable,
    pub(super) trail: Trail,
    pub(super) redactor: Redactor,
    /// What the daemon signs and seals with.
    pub(super) keyring: secrets::Keyring,
    /// What its keys are made from, as configured.
    pub(super) permission_secret: Option<Secret<String>>,
    /// Asks for a reload.
    pub(super) reloader: Reloader,
    /// A token that was made here, and lives in the data directory.
    pub(super) generated: Option<Token>,
}

/// Builds everything, lowest layer first. When this returns, the API answers.
pub(super) async fn daemon(
    settings: &Settings,
    redactor: Redactor,
    log: Option<LogFile>,
    tasks: &Tasks,
) -> Result<(Daemon, Reloads), Failure> {
    let (steady, clock) = clock::steady();
    let ids = IdSource::new(Arc::clone(&clock), random);
    let live = Arc::new(Live::default());
    let store = open_store(settings, (&steady, &ids), &redactor, &live, tasks).await?;
    let keyring = secrets::keyring(settings, &redactor)?;
    cluster::check(settings, &store, &keyring).await?;
    // Others rely on this replica from now on, and take it over when it does not say that it lives.
    let membership = Membership::start(store.clone(), tasks).await.map_err(fault)?;
    let generated = bootstrap_token(settings, &redactor)?;
    let at_start = secrets::at_start(settings, &store, &keyring, &redactor, tasks).await?;
    let secrets::AtStart { settings, uses, marks } = &at_start;
    let (reloader, reloads) = reloads();
    let trail = Trail::start(store.clone(), tasks);
    let alerts = Alerts::new(Arc::clone(&clock), trail.sink());
    // Ends what an older daemon left running: recovery must not begin before.
    let sandbox = Sandbox::start(sandbox_options(settings), tasks).await.map_err(fault)?;
    // What this directory's last daemon worked on is nobody's now: neither it nor its tools live.
    store.succeed().await.map_err(fault)?;
    for agent in &settings.agents {
        sandbox::prepare_workspace(&agent.workspace).map_err(fault)?;
    }
    let egress = network::options(settings, trail.sink(), uses);
    let egress = Egress::new(egress, tasks).map_err(fault)?;
    let hosts = host_policies(settings, &egress);
    let options = tools::Options { session_idle: settings.session_idle };
    let tools = Tools::new(sandbox, egress.clone(), redactor.clone(), options, tasks);
    check_network(settings, &tools, &ids).await?;
    let llm =
        llm::Options { watcher: Some(limits::watch_models(&alerts)), ..llm_options(settings) };
    let llm = Llm::new(llm).map_err(fault)?;
    let authorizer = authorizer(settings, alerts.watching());
    let tokens = TokenTable::new(token_entries(settings, generated.as_ref()));
    let authenticator = Authenticator::new(tokens.clone(), Arc::clone(&clock), alerts.watching());
    let parts = orchestrator::Parts {
        store: store.clone(),
        llm: llm.clone(),
        tools,
        authorizer: authorizer.clone(),
        authority: auth::capability::Authority::new(&keyring.current),
        tokens: tokens.clone(),
        hosts,
        // What is in force takes its place before anything is decided.
        policies: Policies::new(Arc::new(Policy::builtin())),
        policy_file: settings.policy.clone(),
        redactor: redactor.clone(),
        alerts,
        gate: Gate::new(settings.bounds.gate),
        budgets: settings.bounds.budgets.clone(),
        clock: Arc::clone(&clock),
        live,
        audit: secrets::audit_options(settings, &keyring),
        secrets: secrets::secret_options(&keyring, &reloader, marks.clone()),
        keeping: limits::of_keeping(settings, log),
        membership: membership.clone(),
        backups: backup::options(settings, &keyring, &redactor),
        tasks: tasks.clone(),
    };
    let options = limits::of_runs(settings);
    let orchestrator = Orchestrator::start(parts, options).await.map_err(fault)?;
    admin_door(settings, &orchestrator, &authorizer, &authenticator, &ids, tasks)?;
    let kind = if store.is_shared() { "postgres" } else { "sqlite" };
    let info = Info { environment: settings.mode.as_str().to_owned(), store: kind };
    let parts = http::Parts {
        orchestrator: orchestrator.clone(),
        authenticator,
        authorizer,
        rates: limits::of_requests(settings, trail.sink()),
        ids,
        clock,
        tools: tool_views(),
        info,
    };
    let address = http::start(limits::of_listener(settings), parts, tasks).await.map_err(fault)?;
    membership.announce(address.to_string());
    let permission_secret = settings.permission_secret.clone();
    let daemon = Daemon {
        address,
        store,
        llm,
        egress,
        orchestrator,
        tokens,
        trail,
        redactor,
        keyring,
        permission_secret,
        reloader,
        generated,
    };
    Ok((daemon, reloads))
}

async fn open_store(
    settings: &Settings,
    (clock, ids): (&SteadyClock, &IdSource),
    redactor: &Redactor,
    live: &Arc<Live>,
    tasks: &Tasks,
) -> Result<Store, Failure> {
    private_dir(&settings.data_dir)?;
    // The store's lock comes first: whoever holds it owns the whole directory.
    let options = store::Options {
        data_dir: settings.data_dir.clone(),
        database: settings.database.clone(),
        clock: Arc::new(clock.clone()),
        ids: ids.clone(),
        redactor: redactor.clone(),
        on_commit: live.hook(),
    };
    let store = Store::open(options, tasks).await.map_err(fault)?;
    clock::go_on(clock, &store).await.map_err(fault)?;
    Ok(store)
}

/// Opens the local door of the admin API, where the operator has not shut it.
fn admin_door(
    settings: &Settings,
    orchestrator: &Orchestrator,
    authorizer: &Authorizer,
    authenticator: &Authenticator,
    ids: &IdSource,
    tasks: &Tasks,
) -> Result<(), Failure> {
    if !settings.admin_socket {
        return Ok(());
    }
    let parts = http::admin::Parts {
        orchestrator: orchestrator.clone(),
        authorizer: authorizer.clone(),
        authenticator: authenticator.clone(),
        ids: ids.clone(),
        bounds: bounds(settings),
    };
    let uid = secret_file::effective_uid();
    let path = http::admin::start(&settings.data_dir, uid, parts, tasks).map_err(fault)?;
    tracing::info!(path = %path.display(), "admin socket");
    Ok(())
}

fn sandbox_options(settings: &Settings) -> sandbox::Options {
    sandbox::Options {
        enabled: settings.sandbox_enabled,
        min_level: settings.sandbox_min_level,
        data_dir: settings.data_dir.clone(),
        processes_max: settings.tool_processes,
        sessions_max: settings.sessions_max,
        backend: backend(settings),
    }
}

/// Randomness for ids. Without it there is no safe way to go on; zeros would collide, and the
/// store refuses a second row with the same id.
fn random(bytes: &mut [u8; 10]) {
    if let Err(error) = getrandom::fill(bytes) {
        tracing::error!(%error, "no randomness for ids");
    }
}

/// Who may do what, over the agents of the configuration.
fn authorizer(settings: &Settings, audit: Arc<dyn AuditSink>) -> Authorizer {
    let rules =
        auth::authorize::Options { requester_may_approve: settings.mode != Mode::Production };
    let agents = settings.agents.iter().map(|a| (a.name.clone(), Arc::new(a.clone()))).collect();
    Authorizer::new(rules, agents, audit)
}

/// What the configuration says about models.
pub(super) fn llm_options(settings: &Settings) -> llm::Options {
    llm::Options {
        models: settings.models.clone(),
        timeout: settings.llm_timeout,
        proxy: settings.llm_proxy.clone(),
        ..llm::Options::default()
    }
}

/// Proves that tools have no way out but the doors; what follows from a failure is the setting's.
async fn check_network(settings: &Settings, tools: &Tools, ids: &IdSource) -> Result<(), Failure> {
    let workspace = settings.data_dir.join("canary").join("workspace");
    sandbox::prepare_workspace(&workspace).map_err(fault)?;
    let is_enforced = settings.egress.enforce_proxy;
    match tools.check_network(workspace, ToolCallId::new(ids), is_enforced).await {
        NetworkStatus::Absent => {}
        NetworkStatus::Held => tracing::info!("every way out of a tool leads to the policy"),
        NetworkStatus::Failed { reason, is_enforced } => {
            tracing::error!(%reason, is_enforced, "the network of tools failed its check");
        }
    }
    Ok(())
}

/// What each agent may reach, for policy and for every connection.
fn host_policies(settings: &Settings, egress: &Egress) -> HostPolicies {
    let policies = settings.agents.iter().map(|a| (a.name.clone(), a.hosts.clone())).collect();
    let hosts = HostPolicies::new(policies);
    for agent in &settings.agents {
        egress.set_policy(&agent.name, hosts.effective(&agent.name));
    }
    hosts
}

/// The bounds of the sandbox, as the admin door shows them.
fn bounds(settings: &Settings) -> http::admin::Bounds {
    http::admin::Bounds {
        backend: settings.worker_runtime.as_str(),
        min_level: settings.sandbox_min_level,
        sessions_max: settings.sessions_max,
        session_idle_secs: settings.session_idle.as_secs(),
        processes_max: settings.tool_processes,
    }
}

/// What carries out tool processes.
pub(super) fn backend(settings: &Settings) -> sandbox::Backend {
    match settings.worker_runtime {
        WorkerRuntime::Sandbox => sandbox::Backend::Sandbox,
        WorkerRuntime::Docker => sandbox::Backend::Docker(sandbox::DockerOptions {
            socket: settings.docker.socket.clone(),
            image: settings.docker.image.clone(),
        }),
        WorkerRuntime::Local => {
            sandbox::Backend::Local { development: settings.mode == Mode::Development }
        }
    }
}

fn tool_views() -> Vec<ToolView> {
    let view = |spec: &tools::ToolSpec| ToolView {
        name: spec.name,
        description: spec.description.to_owned(),
        schema: spec.schema.clone(),
        risk: spec.risk,
        effect: spec.effect,
    };
    tools::specs().iter().map(view).collect()
}

/// The token of the data directory when none is configured; made once.
fn bootstrap_token(settings: &Settings, redactor: &Redactor) -> Result<Option<Token>, Failure> {
    let generated = generated_token(settings)?;
    register(settings, generated.as_ref(), redactor);
    Ok(generated)
}

fn generated_token(settings: &Settings) -> Result<Option<Token>, Failure> {
    if !settings.tokens.is_empty() {
        tracing::info!(mode = "configured", count = settings.tokens.len(), "tokens");
        return Ok(None);
    }
    let file = settings.bootstrap_token_file();
    let token = |secret| Token { name: "bootstrap".to_owned(), role: settings.token_role, secret };
    if file.exists() {
        tracing::warn!(mode = "generated", file = %file.display(), "using the token generated earlier");
        return secret_file::read(&file).map(|secret| Some(token(secret))).map_err(fault);
    }
    let secret = authn::generate().map_err(fault)?;
    secret_file::write(&file, secret.expose()).map_err(fault)?;
    // Shown once, before it is registered as a secret: the operator must be able to learn it.
    tracing::warn!(
        mode = "generated",
        token = secret.expose(),
        file = %file.display(),
        "no token is configured: generated one; it is not shown again"
    );
    Ok(Some(token(secret)))
}

/// Everything secret that this process knows is masked at every sink.
pub(super) fn register(settings: &Settings, generated: Option<&Token>, redactor: &Redactor) {
    let configured = settings.secrets.iter().map(|s| &s.value);
    let all = configured.chain(generated.map(|token| &token.secret));
    all.for_each(|secret: &Secret<String>| {
        redactor.register(secret.expose());
        // Errors may name a proxy without its scheme, or its password alone.
        let url = secret.expose().parse::<url::Url>().ok();
        if let Some(password) = url.as_ref().and_then(url::Url::password) {
            redactor.register(password);
            // As it is written, and as it is meant.
            let parts = url::form_urlencoded::parse(password.as_bytes());
            parts.for_each(|(plain, _)| redactor.register(&plain));
        }
    });
}

/// The tokens that are in force.
pub(super) fn token_entries(settings: &Settings, generated: Option<&Token>) -> Vec<TokenEntry> {
    let entry = |token: &Token| TokenEntry {
        principal: authn::principal_id_of(&token.name),
        name: token.name.clone(),
        role: token.role,
        token: token.secret.clone(),
    };
    settings.tokens.iter().chain(generated).map(entry).collect()
}

fn private_dir(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let made: io::Result<()> = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let found = made.and_then(|()| fs::metadata(path)).map_err(|e| {
        Failure::fault(format!("the data directory {} cannot be made: {e}", path.display()))
            .next("choose another with --data-dir, or make it writable")
    })?;
    // It may have been there. Whoever else can make or replace files in it chooses our token.
    let is_ours = [0, secret_file::effective_uid()].contains(&found.uid());
    if is_ours && found.mode() & 0o002 == 0 {
        return Ok(());
    }
    let what = "belongs to somebody else or can be written by everybody";
    Err(Failure::fault(format!("the data directory {} {what}", path.display()))
        .next("choose another with --data-dir, or take it over with chown and chmod 700"))
}

/// An error with its causes, on one line.
pub(super) fn fault(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    Failure::fault(text)
}
