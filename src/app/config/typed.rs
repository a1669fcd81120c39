//! Turns the values in force into [`Settings`], naming the place of every one that does not fit.

mod backup;
mod egress;
mod limits;
mod policy;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    problem::Problems,
    resolve::{Effective, Entry, Origin},
    settings::{
        ConfiguredSecret, Docker, LogStyle, MinLevel, Mode, Settings, Token, WorkerRuntime,
    },
};
use crate::{
    auth::keys::{Keys, SECRET_CHARS_MIN},
    domain::{
        AgentDef, AgentName, Confinement, PathRule, Role, RunLimits, Secret, SecretName,
        SecretSource, ToolLimits, ToolName, Usd,
    },
    llm::{ModelOptions, Provider},
    store::Database,
};

/// The typed settings, as far as they can be read; whatever cannot is in `problems`.
pub(super) fn settings(effective: &Effective, problems: &mut Problems) -> Option<Settings> {
    let mut r = Reader { effective, problems };
    let data_dir = r.absolute("data_dir")?;
    let database = r.database(&data_dir);
    let models = r.models();
    let workspaces_dir = match r.some("workspaces_dir") {
        Some(_) => r.absolute("workspaces_dir")?,
        None => data_dir.join("workspaces"),
    };
    let agents = r.agents(&data_dir, &workspaces_dir, &models);
    Some(Settings {
        mode: r.choice("env").unwrap_or(Mode::Production),
        http_addr: r.parse("http.addr", "an address such as 127.0.0.1:8080")?,
        metrics_addr: r
            .some("http.metrics_addr")
            .and_then(|_| r.parse("http.metrics_addr", "an address such as 127.0.0.1:9090")),
        trusted_proxies: r.list("http.trusted_proxy", "an IP address"),
        hosts: r.texts("http.hosts"),
        cors_origins: r.texts("http.cors_origins"),
        admin_socket: r.bool("http.admin_socket"),
        tokens: r.tokens(),
        token_role: r.parse_err("auth.token_role").unwrap_or(Role::Viewer),
        permission_secret: r.master("auth.permission_secret"),
        permission_secret_previous: r.master("auth.permission_secret_previous"),
        llm_timeout: Duration::from_secs(r.int("llm.timeout_secs")),
        llm_proxy: r.secret("llm.proxy"),
        model_secrets: r.model_secrets(&models),
        secrets: r.configured_secrets(),
        models,
        agents,
        sandbox_enabled: r.bool("sandbox.enabled"),
        sandbox_min_level: r
            .choice("sandbox.min_level")
            .map_or(Confinement::Full, |level: MinLevel| level.0),
        worker_runtime: r.choice("sandbox.backend").unwrap_or(WorkerRuntime::Sandbox),
        docker: Docker {
            image: r.text("sandbox.docker.image"),
            socket: r.text("sandbox.docker.socket").into(),
        },
        sessions_max: r.size("sandbox.sessions_max"),
        session_idle: Duration::from_secs(r.int("sandbox.session_idle_secs")),
        egress: r.egress(),
        audit_file: r.some("audit.checkpoint_file").map(PathBuf::from),
        retention: r.retention(),
        policy: r.policy(),
        backup: r.backup(&data_dir, &workspaces_dir),
        log_level: r.text("log.level"),
        log_style: r.choice("log.format").unwrap_or(LogStyle::Auto),
        log_file: r.some("log.file").map(PathBuf::from),
        queued_runs: r.int("limits.queued_runs"),
        bounds: r.bounds(),
        active_runs: r.size("limits.active_runs"),
        tool_processes: r.size("limits.tool_processes"),
        approval_ttl: Duration::from_secs(r.int("limits.approval_ttl_secs")),
        wait_for_person: Duration::from_secs(r.int("limits.wait_for_person_secs")),
        stop_grace: Duration::from_secs(r.int("limits.stop_grace_secs")),
        data_dir,
        database,
        workspaces_dir,
    })
}

struct Reader<'a> {
    effective: &'a Effective,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn entry(&self, key: &str) -> Option<&Entry> {
        self.effective.get(key)
    }

    fn bad(&mut self, key: &str, what: impl Display) {
        let place = self.entry(key).map_or_else(|| key.to_owned(), |e| e.origin.to_string());
        self.problems.add(place, format!("`{key}` {what}"));
    }

    fn is_set(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|e| e.origin != Origin::Default)
    }

    fn text(&self, key: &str) -> String {
        self.entry(key).and_then(|e| e.value.as_str()).unwrap_or_default().to_owned()
    }

    fn some(&self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|t| !t.is_empty())
    }

    fn bool(&self, key: &str) -> bool {
        self.entry(key).and_then(|e| e.value.as_bool()).unwrap_or(false)
    }

    fn int(&self, key: &str) -> u64 {
        self.entry(key).and_then(|e| e.value.as_u64()).unwrap_or(0)
    }

    fn size(&mut self, key: &str) -> usize {
        let value = usize::try_from(self.int(key)).unwrap_or(usize::MAX);
        if value == 0 {
            self.bad(key, "must be at least 1");
        }
        value
    }

    fn small(&mut self, key: &str) -> u32 {
        let value = u32::try_from(self.int(key)).unwrap_or(0);
        if value == 0 {
            self.bad(key, format!("must be between 1 and {}", u32::MAX));
        }
        value
    }

    fn secret(&self, key: &str) -> Option<Secret<String>> {
        self.entry(key).and_then(|e| e.secret.clone())
    }

    /// Models whose key is stored.
    fn model_secrets(
        &mut self,
        models: &BTreeMap<String, ModelOptions>,
    ) -> BTreeMap<String, SecretName> {
        let mut out = BTreeMap::new();
        for (name, model) in models {
            let key = format!("models.{name}.api_key_secret");
            if self.some(&key).is_none() {
                continue;
            }
            if model.api_key.is_some() {
                self.bad(&key, "names a stored secret beside an `api_key`: keep one of them");
            }
            out.extend(self.parse_err(&key).map(|secret| (name.clone(), secret)));
        }
        out
    }

    fn configured_secrets(&self) -> Vec<ConfiguredSecret> {
        let secret = |(key, entry): (&String, &Entry)| {
            let source = match (&entry.value, &entry.origin) {
                (Value::String(_), _) => SecretSource::File,
                (_, Origin::Variable { .. }) => SecretSource::Environment,
                _ => SecretSource::Config,
            };
            let value = entry.secret.clone()?;
            // The place of a file is none.
            if value.expose().starts_with("sqlite://") {
                return None;
            }
            Some(ConfiguredSecret { key: key.clone(), source, value })
        };
        self.effective.iter().filter_map(secret).collect()
    }

    /// A secret that keys are made from.
    fn master(&mut self, key: &str) -> Option<Secret<String>> {
        let secret = self.secret(key)?;
        if Keys::new(&secret).is_err() {
            let what = format!(
                "is shorter than {SECRET_CHARS_MIN} characters: `agent-runtime init` makes one"
            );
            self.bad(key, what);
        }
        Some(secret)
    }

    fn parse<T: FromStr>(&mut self, key: &str, wanted: &str) -> Option<T> {
        let text = self.text(key);
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.bad(key, format!("= `{text}` is not {wanted}"));
        }
        parsed
    }

    /// For types whose error says what they want.
    fn parse_err<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<T> {
        let text = self.text(key);
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.bad(key, format!("= `{text}`: {error}"));
                None
            }
        }
    }

    /// For types whose error is the list of choices.
    fn choice<T: FromStr<Err = &'static str>>(&mut self, key: &str) -> Option<T> {
        let text = self.text(key);
        match text.parse() {
            Ok(value) => Some(value),
            Err(wanted) => {
                self.bad(key, format!("= `{text}` is not {wanted}"));
                None
            }
        }
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let items = self.entry(key).and_then(|e| e.value.as_array());
        items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn list<T: FromStr>(&mut self, key: &str, wanted: &str) -> Vec<T> {
        let mut out = Vec::new();
        for text in self.texts(key) {
            match text.parse() {
                Ok(value) => out.push(value),
                Err(_) => self.bad(key, format!("holds `{text}`, which is not {wanted}")),
            }
        }
        out
    }

    fn absolute(&mut self, key: &str) -> Option<PathBuf> {
        let path = std::path::absolute(self.text(key)).ok();
        if path.is_none() {
            self.bad(key, "is not a path");
        }
        // Workspaces lie below it, and are opened without following any link.
        path.map(|path| real(&path))
    }

    /// Where the store is. A file stands in the data directory, beside its lock; any other place
    /// would be a setting that does nothing.
    fn database(&mut self, data_dir: &Path) -> Database {
        let Some(url) = self.secret("database_url") else { return Database::Sqlite };
        let url = url.expose().as_str();
        if url.starts_with("postgres") {
            match url.parse() {
                Ok(server) => return Database::Postgres(server),
                Err(error) => self.bad("database_url", error.to_string()),
            }
            return Database::Sqlite;
        }
        let path = url.strip_prefix("sqlite://").and_then(|p| std::path::absolute(p).ok());
        let only = crate::store::database_file(data_dir);
        if path.as_ref() != Some(&only) {
            let what = format!(
                "must be postgres://… or sqlite://{}: set `data_dir` to move the file",
                only.display()
            );
            self.bad("database_url", what);
        }
        Database::Sqlite
    }

    fn names(&self, section: &str) -> BTreeSet<String> {
        let prefix = format!("{section}.");
        let rest = self.effective.keys().filter_map(|k| k.strip_prefix(&prefix));
        rest.filter_map(|r| r.split('.').next()).map(str::to_owned).collect()
    }

    fn tokens(&mut self) -> Vec<Token> {
        let mut out = Vec::new();
        if let Some(secret) = self.secret("auth.token") {
            let role = self.parse_err("auth.token_role").unwrap_or(Role::Viewer);
            out.push(Token { name: "configured".to_owned(), role, secret });
        }
        for name in self.names("auth.tokens") {
            let key = format!("auth.tokens.{name}.token");
            let role = self.parse_err(&format!("auth.tokens.{name}.role")).unwrap_or(Role::Viewer);
            if let Some(secret) = self.secret(&key) {
                out.push(Token { name, role, secret });
            } else {
                let what = "has no `token` or `token_file`";
                self.bad(&format!("auth.tokens.{name}.role"), what);
            }
        }
        for token in &out {
            if token.secret.expose().len() < TOKEN_BYTES_MIN {
                let what =
                    format!("token `{}` is shorter than {TOKEN_BYTES_MIN} bytes", token.name);
                self.problems.add("auth", what);
            }
        }
        out
    }

    fn models(&mut self) -> BTreeMap<String, ModelOptions> {
        let names = self.names("models");
        let mut out = BTreeMap::new();
        for name in &names {
            // `[llm]` is the short way to write the entry `default`.
            let key = |part: &str| {
                let short = format!("llm.{part}");
                if name == "default" && self.is_set(&short) {
                    short
                } else {
                    format!("models.{name}.{part}")
                }
            };
            let keys = ["provider", "base_url", "api_key", "model"].map(key);
            let [provider, base_url, api_key, model] = &keys;
            let long = |part: &str| format!("models.{name}.{part}");
            let kind = self.parse_err(provider).unwrap_or_default();
            let id = self.some(model);
            if id.is_none() && kind != Provider::Builtin {
                self.bad(provider, format!("= `{kind}` needs a model: set `{model}`"));
            }
            let url = self.some(base_url);
            if url.as_ref().is_some_and(|u| !u.starts_with("http://") && !u.starts_with("https://"))
            {
                self.bad(base_url, "must begin with https:// or http://");
            }
            let fallbacks = self.texts(&long("fallbacks"));
            for missing in fallbacks.iter().filter(|f| !names.contains(*f)) {
                self.bad(
                    &long("fallbacks"),
                    format!("names `{missing}`, which is not in [models]"),
                );
            }
            out.insert(
                name.clone(),
                ModelOptions {
                    provider: kind,
                    base_url: url.unwrap_or_default(),
                    api_key: self.secret(api_key),
                    key_name: api_key.clone(),
                    model: id.unwrap_or_else(|| "builtin".to_owned()),
                    fallbacks,
                    input_price_per_mtok: self
                        .parse_err(&long("input_price_per_mtok"))
                        .unwrap_or(Usd::ZERO),
                    context_tokens: Some(self.int(&long("context_tokens"))).filter(|t| *t > 0),
                    output_price_per_mtok: self
                        .parse_err(&long("output_price_per_mtok"))
                        .unwrap_or(Usd::ZERO),
                },
            );
        }
        out
    }

    fn agents(
        &mut self,
        data_dir: &Path,
        workspaces_dir: &Path,
        models: &BTreeMap<String, ModelOptions>,
    ) -> Vec<AgentDef> {
        let mut out = Vec::new();
        for name in self.names("agents") {
            let key = |part: &str| format!("agents.{name}.{part}");
            let Ok(own) = name.parse::<AgentName>() else { continue };
            let model = self.text(&key("model"));
            if !models.contains_key(&model) {
                self.bad(&key("model"), format!("= `{model}` is not in [models]"));
            }
            let workspace = self.some(&key("workspace")).unwrap_or_else(|| name.clone());
            if workspace.parse::<AgentName>().is_err() {
                let what = "must be a name of letters, digits, `-` or `_`: a directory under workspaces_dir";
                self.bad(&key("workspace"), what);
            }
            let limits = RunLimits {
                timeout_secs: self.int(&key("limits.timeout_secs")),
                max_steps: self.small(&key("limits.max_steps")),
                max_tool_calls: self.small(&key("limits.max_tool_calls")),
                max_tokens: self.int(&key("limits.max_tokens")),
                max_cost_usd: self.parse_err(&key("limits.max_cost_usd")).unwrap_or(Usd::ZERO),
            };
            out.push(AgentDef {
                version: self.version(&name),
                system_prompt: self.prompt(&name),
                model,
                tools: self.list::<ToolName>(&key("tools"), "a tool"),
                roles: self.list::<Role>(&key("roles"), "a role"),
                workspace: workspaces_dir.join(workspace),
                allowed_paths: self.paths(&key("allowed_paths"), data_dir),
                allowed_commands: self.texts(&key("allowed_commands")),
                may_execute_files: self.bool(&key("may_execute_files")),
                hosts: self.host_policy(&name),
                egress: self.egress_limits(&name),
                tool_limits: self.tool_limits(&name),
                limits,
                max_output_tokens: self.small(&key("max_output_tokens")),
                name: own,
            });
        }
        out
    }

    fn tool_limits(&mut self, agent: &str) -> ToolLimits {
        let key = |part: &str| format!("agents.{agent}.tool_limits.{part}");
        ToolLimits {
            wall_secs: self.int(&key("wall_secs")),
            cpu_secs: self.int(&key("cpu_secs")),
            memory_bytes: self.int(&key("memory_bytes")),
            processes: self.int(&key("processes")),
            file_bytes: self.int(&key("file_bytes")),
            open_files: self.int(&key("open_files")),
            tmp_bytes: self.int(&key("tmp_bytes")),
            tmp_inodes: self.int(&key("tmp_inodes")),
            memory_total_bytes: self.int(&key("memory_total_bytes")),
            workspace_bytes: self.int(&key("workspace_bytes")),
            workspace_inodes: self.int(&key("workspace_inodes")),
            output_bytes: self
                .size(&key("output_bytes"))
                .min(crate::domain::limits::TOOL_OUTPUT_BYTES_MAX),
        }
    }

    fn paths(&mut self, key: &str, data_dir: &Path) -> Vec<PathRule> {
        let items = self.entry(key).and_then(|e| e.value.as_array()).cloned().unwrap_or_default();
        let mut out = Vec::new();
        for item in items {
            let rule = serde_json::from_value::<PathRule>(item.clone()).ok();
            let Some(rule) = rule.filter(|rule| rule.path.is_absolute()) else {
                self.bad(key, format!("holds {item}: `path` must be absolute, `access` ro or rw"));
                continue;
            };
            let (path, real) = (rule.path.display(), real(&rule.path));
            // The sandbox refuses both too, but the file tools work within the daemon.
            if data_dir.starts_with(&real) {
                let what = "would show the data directory to tools: name what is needed beneath it";
                self.bad(key, format!("holds {path}, which {what}"));
            } else if real != rule.path {
                self.bad(key, format!("holds {path}, which is a link: write {}", real.display()));
            } else {
                out.push(rule);
            }
        }
        out
    }

    fn prompt(&mut self, agent: &str) -> String {
        let key = format!("agents.{agent}.system_prompt_file");
        let Some(path) = self.some(&key) else {
            return self.text(&format!("agents.{agent}.system_prompt"));
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                self.bad(&key, format!("= `{path}` cannot be read: {error}"));
                String::new()
            }
        }
    }

    /// SHA-256 over everything that defines the agent.
    fn version(&mut self, agent: &str) -> String {
        let prefix = format!("agents.{agent}.");
        let mut hash = Sha256::new();
        for (key, entry) in
            self.effective.range(prefix.clone()..).take_while(|(k, _)| k.starts_with(&prefix))
        {
            hash.update(format!("{key}={}\n", entry.value));
        }
        hash.update(self.prompt(agent));
        data_encoding::HEXLOWER.encode(&hash.finalize())
    }
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let known = |above: &Path| {
        let rest = path.strip_prefix(above).ok()?;
        // Part by part: joining nothing would add a slash to the end.
        Some(rest.iter().fold(std::fs::canonicalize(above).ok()?, |p, name| p.join(name)))
    };
    path.ancestors().find_map(known).unwrap_or_else(|| path.to_owned())
}

/// A configured token shorter than this could be guessed.
const TOKEN_BYTES_MIN: usize = 16;
