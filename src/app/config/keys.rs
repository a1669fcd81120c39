//! Every setting that exists: its place in the file, its variable, its default.
//!
//! Invariant: a key stands here only if this version does something with it. The reference file
//! `config/agent-runtime.toml` and `.env.example` are held against this table by a test.

/// Prefix of every variable.
pub(crate) const PREFIX: &str = "AGENT_RUNTIME_";

/// Variables that carry no setting of the daemon, but that this program reads or sets.
pub(crate) const OTHER_VARIABLES: &[&str] = &["CONFIG", "URL", "TOKEN", "TOKEN_FILE", "CALL_ID"];

/// What kind of value a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, not negative.
    Int,
    /// A list of texts; in a variable separated by commas.
    List,
    /// A list of `{ path, access }`; in a variable `path:ro,path:rw`.
    Paths,
    /// A list of host rules, each a text or a table; in a variable texts separated by commas.
    Hosts,
    /// A table of texts; in a variable `from=to,from=to`.
    Map,
    /// A secret: also as `<key>_file` and `<VARIABLE>_FILE`.
    Secret,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its place in the file; `*` stands for a name that the operator chooses.
    pub(crate) path: &'static str,
    /// Its variable without the prefix; empty when it has none.
    pub(crate) env: &'static str,
    /// Further names of the variable, as they are.
    pub(crate) aliases: &'static [&'static str],
    /// What it takes.
    pub(crate) kind: Kind,
    /// The default as a variable would write it; empty when there is none.
    pub(crate) default: &'static str,
}

const fn key(path: &'static str, env: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, env, aliases: &[], kind, default }
}

impl Key {
    const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }
}

/// Who may start an agent that does not say.
const ROLES: &str = "member,operator,admin,overlord";
/// What an agent may use that does not say: files of its workspace, no programs.
const TOOLS: &str = "read_file,list_files,search_files,write_file,edit_file";
const PROMPT: &str = "You are a careful assistant. Use the tools you are given; say plainly what \
                      you did and what you could not do.";

/// The table.
pub(crate) const KEYS: &[Key] = &[
    key("env", "ENV", Kind::Text, "development"),
    key("data_dir", "DATA_DIR", Kind::Text, "./data"),
    key("database_url", "DATABASE_URL", Kind::Secret, ""),
    key("workspaces_dir", "WORKSPACES_DIR", Kind::Text, ""),
    key("http.addr", "HTTP_ADDR", Kind::Text, "127.0.0.1:8080"),
    key("http.metrics_addr", "METRICS_ADDR", Kind::Text, ""),
    key("http.trusted_proxy", "TRUSTED_PROXY", Kind::List, ""),
    key("http.hosts", "PUBLIC_HOST", Kind::List, "").alias(&["PUBLIC_HOST"]),
    key("http.cors_origins", "CORS_ORIGINS", Kind::List, ""),
    key("http.admin_socket", "ADMIN_SOCKET", Kind::Bool, "true"),
    key("auth.token", "AUTH_TOKEN", Kind::Secret, "").alias(&["GATEWAY_AUTH_TOKEN"]),
    key("auth.token_role", "AUTH_TOKEN_ROLE", Kind::Text, "admin"),
    key("auth.permission_secret", "PERMISSION_SECRET", Kind::Secret, "")
        .alias(&["PERMISSION_SECRET"]),
    key("auth.permission_secret_previous", "PERMISSION_SECRET_PREVIOUS", Kind::Secret, ""),
    key("auth.tokens.*.role", "", Kind::Text, "member"),
    key("auth.tokens.*.token", "", Kind::Secret, ""),
    key("llm.provider", "LLM_PROVIDER", Kind::Text, "builtin"),
    key("llm.base_url", "LLM_BASE_URL", Kind::Text, ""),
    key("llm.api_key", "LLM_API_KEY", Kind::Secret, ""),
    key("llm.model", "LLM_MODEL", Kind::Text, ""),
    key("llm.timeout_secs", "LLM_TIMEOUT_SECONDS", Kind::Int, "60"),
    key("llm.proxy", "LLM_PROXY", Kind::Secret, ""),
    key("llm.gate.min_role", "LLM_GATE_MIN_ROLE", Kind::Text, "member"),
    key("llm.gate.exempt_role", "LLM_GATE_EXEMPT_ROLE", Kind::Text, "operator"),
    key("llm.gate.chat_runs_per_minute", "LLM_GATE_CHAT_RUNS_PER_MINUTE", Kind::Int, "8"),
    key("llm.gate.api_runs_per_minute", "LLM_GATE_API_RUNS_PER_MINUTE", Kind::Int, "0"),
    key("models.*.provider", "", Kind::Text, "builtin"),
    key("models.*.base_url", "", Kind::Text, ""),
    key("models.*.api_key", "PROVIDERS_*_API_KEY", Kind::Secret, "")
        .alias(&["PICOCLAW_PROVIDERS_*_API_KEY"]),
    key("models.*.api_key_secret", "", Kind::Text, ""),
    key("models.*.model", "", Kind::Text, ""),
    key("models.*.fallbacks", "", Kind::List, ""),
    key("models.*.input_price_per_mtok", "", Kind::Text, "0"),
    key("models.*.output_price_per_mtok", "", Kind::Text, "0"),
    key("models.*.context_tokens", "", Kind::Int, "0"),
    key("agents.*.model", "", Kind::Text, "default"),
    key("agents.*.system_prompt", "", Kind::Text, PROMPT),
    key("agents.*.system_prompt_file", "", Kind::Text, ""),
    key("agents.*.tools", "", Kind::List, TOOLS),
    key("agents.*.roles", "", Kind::List, ROLES),
    key("agents.*.workspace", "", Kind::Text, ""),
    key("agents.*.allowed_paths", "ALLOWED_PATHS", Kind::Paths, "").alias(&["ALLOWED_PATHS"]),
    key("agents.*.allowed_commands", "ALLOWED_COMMANDS", Kind::List, "")
        .alias(&["ALLOWED_COMMANDS", "SANDBOX_ALLOWED_COMMANDS"]),
    key("agents.*.may_execute_files", "", Kind::Bool, "false"),
    key("agents.*.allowed_domains", "ALLOWED_DOMAINS", Kind::Hosts, "").alias(&["ALLOWED_DOMAINS"]),
    key("agents.*.denied_domains", "", Kind::Hosts, ""),
    key("agents.*.max_output_tokens", "", Kind::Int, "4096"),
    key("agents.*.limits.timeout_secs", "", Kind::Int, "600"),
    key("agents.*.limits.max_steps", "", Kind::Int, "50"),
    key("agents.*.limits.max_tool_calls", "", Kind::Int, "100"),
    key("agents.*.limits.max_tokens", "", Kind::Int, "200000"),
    key("agents.*.limits.max_cost_usd", "", Kind::Text, "1"),
    key("agents.*.budget.usd_per_day", "", Kind::Text, ""),
    key("agents.*.budget.tokens_per_day", "", Kind::Int, "0"),
    key("agents.*.tool_limits.wall_secs", "", Kind::Int, "60"),
    key("agents.*.tool_limits.cpu_secs", "", Kind::Int, "60"),
    key("agents.*.tool_limits.memory_bytes", "", Kind::Int, "4294967296"),
    key("agents.*.tool_limits.processes", "", Kind::Int, "256"),
    key("agents.*.tool_limits.file_bytes", "", Kind::Int, "268435456"),
    key("agents.*.tool_limits.open_files", "", Kind::Int, "256"),
    key("agents.*.tool_limits.tmp_bytes", "", Kind::Int, "67108864"),
    key("agents.*.tool_limits.tmp_inodes", "", Kind::Int, "4096"),
    key("agents.*.tool_limits.memory_total_bytes", "", Kind::Int, "4294967296"),
    key("agents.*.tool_limits.workspace_bytes", "", Kind::Int, "4294967296"),
    key("agents.*.tool_limits.workspace_inodes", "", Kind::Int, "200000"),
    key("agents.*.tool_limits.output_bytes", "", Kind::Int, "65536"),
    key("agents.*.egress.connections", "", Kind::Int, "1000"),
    key("agents.*.egress.requests", "", Kind::Int, "2000"),
    key("agents.*.egress.bytes_up", "", Kind::Int, "67108864"),
    key("agents.*.egress.bytes_down", "", Kind::Int, "1073741824"),
    key("agents.*.egress.tunnels", "", Kind::Int, "32"),
    key("agents.*.egress.names_per_minute", "", Kind::Int, "120"),
    key("sandbox.enabled", "SANDBOX_ENABLED", Kind::Bool, "true"),
    key("sandbox.min_level", "SANDBOX_MIN_LEVEL", Kind::Text, "full-noproc"),
    key("sandbox.backend", "WORKER_RUNTIME", Kind::Text, "sandbox")
        .alias(&["AGENT_WORKER_RUNTIME"]),
    key("sandbox.docker.image", "SANDBOX_DOCKER_IMAGE", Kind::Text, "debian:bookworm-slim"),
    key("sandbox.docker.socket", "SANDBOX_DOCKER_SOCKET", Kind::Text, "/var/run/docker.sock"),
    key("sandbox.sessions_max", "SANDBOX_SESSIONS_MAX", Kind::Int, "64"),
    key("sandbox.session_idle_secs", "SANDBOX_SESSION_IDLE_SECS", Kind::Int, "60"),
    key("egress.allow_all_domains", "ALLOW_ALL_DOMAINS", Kind::Bool, "false")
        .alias(&["ALLOW_ALL_DOMAINS"]),
    key("egress.enforce_proxy", "ENFORCE_EGRESS_PROXY", Kind::Bool, "true")
        .alias(&["ENFORCE_EGRESS_PROXY"]),
    key("egress.proxy_url", "EGRESS_PROXY_URL", Kind::Secret, "")
        .alias(&["AGENT_EGRESS_PROXY_URL"]),
    key("egress.ca_file", "EGRESS_CA_FILE", Kind::Text, ""),
    key("egress.connect_to", "EGRESS_CONNECT_TO", Kind::Map, ""),
    key("egress.secrets.*.value", "", Kind::Secret, ""),
    key("egress.secrets.*.host", "", Kind::Text, ""),
    key("egress.secrets.*.port", "", Kind::Int, "443"),
    key("egress.secrets.*.path_prefix", "", Kind::Text, "/"),
    key("egress.secrets.*.plain_http", "", Kind::Bool, "false"),
    key("audit.checkpoint_file", "AUDIT_CHECKPOINT_FILE", Kind::Text, ""),
    key("retention.access_days", "RETENTION_ACCESS_DAYS", Kind::Int, "90"),
    key("retention.app_days", "RETENTION_APP_DAYS", Kind::Int, "30"),
    key("retention.error_days", "RETENTION_ERROR_DAYS", Kind::Int, "365"),
    key("retention.audit_days", "RETENTION_AUDIT_DAYS", Kind::Int, "2555"),
    key("retention.conversations_days", "RETENTION_CONVERSATIONS_DAYS", Kind::Int, "0"),
    key("backup.dir", "BACKUP_DIR", Kind::Text, ""),
    key("backup.recipients", "BACKUP_RECIPIENTS", Kind::List, ""),
    key("backup.schedule", "BACKUP_SCHEDULE", Kind::Text, ""),
    key("backup.keep", "BACKUP_KEEP", Kind::Int, "14"),
    key("backup.after_command", "BACKUP_AFTER_COMMAND", Kind::List, ""),
    key("budget.usd_per_day", "BUDGET_USD_PER_DAY", Kind::Text, ""),
    key("budget.tokens_per_day", "BUDGET_TOKENS_PER_DAY", Kind::Int, "0"),
    key("budget.principal.usd_per_day", "BUDGET_PRINCIPAL_USD_PER_DAY", Kind::Text, ""),
    key("budget.principal.tokens_per_day", "BUDGET_PRINCIPAL_TOKENS_PER_DAY", Kind::Int, "0"),
    key("budget.conversation.usd_per_day", "BUDGET_CONVERSATION_USD_PER_DAY", Kind::Text, ""),
    key("budget.conversation.tokens_per_day", "BUDGET_CONVERSATION_TOKENS_PER_DAY", Kind::Int, "0"),
    key("budget.principals.*.usd_per_day", "", Kind::Text, ""),
    key("budget.principals.*.tokens_per_day", "", Kind::Int, "0"),
    key("policy.file", "POLICY_FILE", Kind::Text, ""),
    key("log.level", "LOG_LEVEL", Kind::Text, "info"),
    key("log.format", "LOG_FORMAT", Kind::Text, "auto"),
    key("log.file", "LOG_FILE", Kind::Text, ""),
    key("limits.queued_runs", "LIMITS_QUEUED_RUNS", Kind::Int, "10000"),
    key("limits.queued_runs_per_principal", "LIMITS_QUEUED_RUNS_PER_PRINCIPAL", Kind::Int, "0"),
    key("limits.active_runs", "LIMITS_ACTIVE_RUNS", Kind::Int, "1024"),
    key("limits.tool_processes", "LIMITS_TOOL_PROCESSES", Kind::Int, "16"),
    key("limits.approval_ttl_secs", "LIMITS_APPROVAL_TTL_SECS", Kind::Int, "600"),
    key("limits.wait_for_person_secs", "LIMITS_WAIT_FOR_PERSON_SECS", Kind::Int, "86400"),
    key("limits.stop_grace_secs", "LIMITS_STOP_GRACE_SECS", Kind::Int, "15"),
    key(
        "limits.requests_per_minute_per_principal",
        "LIMITS_REQUESTS_PER_MINUTE_PER_PRINCIPAL",
        Kind::Int,
        "12000",
    ),
    key(
        "limits.requests_per_minute_per_address",
        "LIMITS_REQUESTS_PER_MINUTE_PER_ADDRESS",
        Kind::Int,
        "60000",
    ),
    key("limits.connections", "LIMITS_CONNECTIONS", Kind::Int, "2048"),
    key("limits.connections_per_address", "LIMITS_CONNECTIONS_PER_ADDRESS", Kind::Int, "1024"),
    key("limits.websockets", "LIMITS_WEBSOCKETS", Kind::Int, "500"),
    key("limits.websockets_per_principal", "LIMITS_WEBSOCKETS_PER_PRINCIPAL", Kind::Int, "250"),
    key("limits.streams_per_principal", "LIMITS_STREAMS_PER_PRINCIPAL", Kind::Int, "512"),
    key(
        "limits.model_requests_per_minute_per_principal",
        "LIMITS_MODEL_REQUESTS_PER_MINUTE_PER_PRINCIPAL",
        Kind::Int,
        "6000",
    ),
    key(
        "limits.model_tokens_per_minute_per_principal",
        "LIMITS_MODEL_TOKENS_PER_MINUTE_PER_PRINCIPAL",
        Kind::Int,
        "0",
    ),
];

/// Keys whose variable gives the value of every entry that does not set its own, rather than of
/// one entry.
pub(crate) fn is_shared(key: &Key) -> bool {
    key.path.contains('*') && !key.env.is_empty() && !key.env.contains('*')
}

/// The key that a concrete path of the file names, and whether it names its `_file` form.
pub(crate) fn find(path: &str) -> Option<(&'static Key, bool)> {
    let exact = |wanted: &str| KEYS.iter().find(|k| matches(k.path, wanted));
    if let Some(key) = exact(path) {
        return Some((key, false));
    }
    let base = path.strip_suffix("_file")?;
    exact(base).filter(|k| k.kind == Kind::Secret).map(|k| (k, true))
}

/// Whether some key lies below this path.
pub(crate) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|k| {
        let depth = path.split('.').count();
        let above: Vec<&str> = k.path.split('.').take(depth).collect();
        k.path.split('.').count() > depth && matches(&above.join("."), path)
    })
}

/// Whether a pattern names this path.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('.');
    let mut found = path.split('.');
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(w), Some(f)) if w == f => {}
            _ => return false,
        }
    }
}

/// The known path nearest to a wrong one, with the operator's own names kept.
pub(crate) fn nearest(path: &str) -> Option<String> {
    let names: Vec<&str> = path.split('.').collect();
    KEYS.iter()
        .flat_map(|k| {
            let concrete = with_names(k.path, &names);
            let sections = concrete.match_indices('.').map(|(at, _)| at).collect::<Vec<_>>();
            let mut all: Vec<String> = sections
                .into_iter()
                .filter_map(|at| concrete.get(..at).map(str::to_owned))
                .collect();
            all.push(concrete);
            all
        })
        .min_by_key(|known| strsim::damerau_levenshtein(known, path))
        .filter(|known| strsim::normalized_damerau_levenshtein(known, path) > 0.4)
}

fn with_names(pattern: &str, names: &[&str]) -> String {
    pattern
        .split('.')
        .zip(names.iter().copied().map(Some).chain(std::iter::repeat(None)))
        .map(|(part, name)| if part == "*" { name.unwrap_or("NAME") } else { part })
        .collect::<Vec<_>>()
        .join(".")
}

/// The part of a variable's name that an operator's own name becomes.
pub(crate) fn env_part(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_answered_with_the_nearest_one() {
        assert_eq!(nearest("htttp.addr").as_deref(), Some("http.addr"));
        assert_eq!(nearest("agents.helper.tool").as_deref(), Some("agents.helper.tools"));
        assert_eq!(nearest("sandbx").as_deref(), Some("sandbox"));
        assert_eq!(nearest("zzzzzzzzzzzz"), None);
    }

    #[test]
    fn patterns_name_entries_and_only_secrets_have_a_file_form() {
        assert!(find("models.fast.provider").is_some());
        assert!(matches!(find("models.fast.api_key_file"), Some((_, true))));
        assert!(find("models.fast.provider_file").is_none());
        assert!(find("models.fast").is_none());
        assert!(is_section("models.fast") && is_section("http") && !is_section("http.addr"));
    }
}
