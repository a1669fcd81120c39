//! The settings that a running daemon was built from and that a reload cannot take over.

use crate::{
    app::config::Settings,
    domain::{AgentDef, HostPolicy},
};

/// Which of them differ, by their names in the configuration: sections, and agents one by one.
pub(super) fn changed(started: &Settings, loaded: &Settings) -> Vec<String> {
    let (a, b) = (started, loaded);
    let listener = |s: &Settings| {
        (
            s.http_addr,
            s.metrics_addr,
            s.hosts.clone(),
            s.cors_origins.clone(),
            s.trusted_proxies.clone(),
        )
    };
    let waits = |s: &Settings| (s.approval_ttl, s.wait_for_person, s.stop_grace);
    let room = |s: &Settings| (s.queued_runs, s.active_runs, s.tool_processes);
    // Numbers alone, without what a reload does take over.
    let rates = |s: &Settings| {
        let bounds = &s.bounds;
        (
            (
                bounds.queued_per_principal,
                bounds.requests_per_principal,
                bounds.requests_per_address,
            ),
            (bounds.connections_per_address, bounds.websockets_per_principal),
            (bounds.streams_per_principal, bounds.model_requests_per_principal),
            bounds.model_tokens_per_principal,
        )
    };
    let sandbox = |s: &Settings| {
        (
            s.sandbox_enabled,
            s.sandbox_min_level,
            s.worker_runtime,
            s.docker.clone(),
            s.sessions_max,
            s.session_idle,
        )
    };
    let named = [
        ("env", a.mode != b.mode),
        ("data_dir", a.data_dir != b.data_dir),
        ("http", listener(a) != listener(b) || a.admin_socket != b.admin_socket),
        ("limits", waits(a) != waits(b) || room(a) != room(b) || rates(a) != rates(b)),
        ("llm.gate", a.bounds.gate != b.bounds.gate),
        ("llm.timeout_secs", a.llm_timeout != b.llm_timeout),
        ("sandbox", sandbox(a) != sandbox(b)),
        ("egress.allow_all", a.egress.allow_all != b.egress.allow_all),
        ("egress.connect_to", a.egress.connect_to != b.egress.connect_to),
        ("audit.checkpoint_file", a.audit_file != b.audit_file),
        ("log.file", a.log_file != b.log_file),
    ];
    let named = named.into_iter().filter(|(_, differs)| *differs);
    named.map(|(name, _)| name.to_owned()).chain(agents(a, b)).collect()
}

/// Agents that are new, gone, or defined otherwise; their hosts are taken over.
fn agents(started: &Settings, loaded: &Settings) -> Vec<String> {
    let fixed = |agent: &AgentDef| AgentDef {
        hosts: HostPolicy::default(),
        version: String::new(),
        ..agent.clone()
    };
    let of = |settings: &Settings| -> Vec<AgentDef> { settings.agents.iter().map(fixed).collect() };
    let (before, after) = (of(started), of(loaded));
    let mut names: Vec<String> = before
        .iter()
        .filter(|agent| !after.contains(agent))
        .chain(after.iter().filter(|agent| !before.contains(agent)))
        .map(|agent| format!("agents.{}", agent.name))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}
