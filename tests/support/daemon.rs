//! The real daemon under test: its own data directory, killed and started again at will, spoken to
//! over real sockets.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    checker::truth::ADDRESS,
    postgres::{Database, Server},
};

/// Longest time to start, stop, or come to a state.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Tokens of the principals that every test daemon knows, by role.
pub(crate) const ADMIN: &str = "admin-token-0123456789-0123456789-0123456789";
pub(crate) const OPERATOR: &str = "operator-token-0123456789-0123456789-012345";
pub(crate) const ALICE: &str = "alice-token-0123456789-0123456789-0123456789";
pub(crate) const BOB: &str = "bob-token-0123456789-0123456789-0123456789abc";
/// The key of the fake provider.
pub(crate) const PROVIDER_KEY: &str = "sk-fake-key-0123456789";
pub(crate) const VIEWER: &str = "viewer-token-0123456789-0123456789-012345678";

/// Agents that every test daemon knows. `open`: every tool, every program without asking.
/// `careful`: every tool, nothing without asking. `reader`: reads only. `short`: like `open`, with
/// room for few tokens.
const AGENTS: &str = r#"
[agents.open]
system_prompt = "test"
tools = ["exec", "shell", "read_file", "write_file", "edit_file", "list_files", "search_files", "ask_user"]
roles = ["member", "operator", "admin", "overlord"]
allowed_commands = ["*"]
[agents.careful]
system_prompt = "test"
tools = ["exec", "shell", "read_file", "write_file", "edit_file", "list_files", "search_files", "ask_user"]
roles = ["member", "operator", "admin", "overlord"]
[agents.reader]
system_prompt = "test"
tools = ["read_file", "list_files"]
roles = ["member", "operator", "admin", "overlord"]
[agents.closed]
system_prompt = "test"
roles = ["admin"]
[agents.short]
system_prompt = "test"
tools = ["read_file"]
roles = ["member", "operator", "admin", "overlord"]
[agents.short.limits]
max_tokens = 100
"#;

/// A daemon and its directory.
pub(crate) struct Daemon {
    dir: TempDir,
    child: Option<Child>,
    http: reqwest::Client,
    base: String,
    env: Vec<(String, String)>,
    /// The token that it is asked with where a test names none.
    admin: String,
    program: PathBuf,
    /// What starts the daemon, with its arguments; nothing when it starts by itself.
    launcher: Vec<String>,
    /// Its database, where that is not the file in its directory.
    database: Option<Database>,
}

const DATABASE_URL: &str = "AGENT_RUNTIME_DATABASE_URL";

/// What a command of our program said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    /// Its output as JSON, after it succeeded.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|e| panic!("not JSON ({e}), {}: {}", self.status, self.text))
    }

    /// The problem's code.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }
}

impl Daemon {
    /// A daemon that asks the OpenAI-compatible service at this address. Not started yet.
    pub(crate) fn prepare(llm_url: &str) -> Self {
        Self::prepare_with(llm_url, "")
    }

    /// The same with more configuration at the end.
    pub(crate) fn prepare_with(llm_url: &str, more: &str) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::Builder::new().prefix("art-test-").tempdir().expect("a directory");
        let llm = if llm_url.is_empty() {
            "[llm]\nprovider = \"builtin\"\n".to_owned()
        } else {
            format!(
                "[llm]\nprovider = \"openai\"\nbase_url = \"{llm_url}\"\nmodel = \"fake\"\napi_key = \"{PROVIDER_KEY}\"\ntimeout_secs = 20\n"
            )
        };
        let entry = |name: &str, token: &str, role: &str| {
            format!("[[auth.tokens]]\nname = {name:?}\nrole = {role:?}\ntoken = {token:?}\n")
        };
        let tokens = [
            entry("operator", OPERATOR, "operator"),
            entry("alice", ALICE, "member"),
            entry("bob", BOB, "member"),
            entry("viewer", VIEWER, "viewer"),
        ]
        .concat();
        let config = format!(
            "[auth]\ntoken = \"{ADMIN}\"\ntoken_role = \"admin\"\n{tokens}\n{llm}\n{AGENTS}\n{more}\n"
        );
        let file = dir.path().join("test.toml");
        fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut f| std::io::Write::write_all(&mut f, config.as_bytes()))
            .expect("a configuration");
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(70))
            .build()
            .expect("a client");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_agent-runtime"));
        let (base, env, launcher) = (String::new(), Vec::new(), Vec::new());
        let (admin, database) = (ADMIN.to_owned(), None);
        let mut daemon =
            Self { dir, child: None, http, base, env, admin, program, launcher, database };
        // The binary `postgres` holds the same tests as `it`, and every daemon there is on a server.
        if module_path!().starts_with("postgres::") {
            let database = Server::shared().database();
            daemon.use_database(&database.url());
            daemon.database = Some(database);
        }
        daemon
    }

    /// Lets it use the database at this address from its next start on.
    pub(crate) fn use_database(&mut self, url: &str) {
        fs::write(self.dir.path().join(ADDRESS), url).expect("a file");
        self.env.retain(|(name, _)| name != DATABASE_URL);
        self.set_env(DATABASE_URL, url);
    }

    /// Lets it use a file of its own from its next start on, whatever the binary.
    pub(crate) fn use_a_file(&mut self) {
        fs::remove_file(self.dir.path().join(ADDRESS)).ok();
        self.env.retain(|(name, _)| name != DATABASE_URL);
        self.database = None;
    }

    /// Its own database on the server that the tests share.
    pub(crate) fn database(&self) -> &Database {
        self.database.as_ref().expect("a daemon of the binary `postgres`")
    }

    /// A started daemon.
    pub(crate) async fn start(llm_url: &str) -> Self {
        let mut daemon = Self::prepare(llm_url);
        daemon.run().await;
        daemon
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) async fn run(&mut self) {
        self.spawn().await;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready().await {
            assert!(Instant::now() < deadline, "not ready: {}", self.log());
            self.assert_alive();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts the daemon and waits until it listens, ready or not.
    pub(crate) async fn spawn(&mut self) {
        assert!(self.try_spawn().await, "the daemon ended: {}", self.log());
    }

    /// The same for a daemon that may end before it listens; whether it listens.
    pub(crate) async fn try_spawn(&mut self) -> bool {
        self.launch();
        self.is_listening().await
    }

    /// Starts its process, and waits for nothing.
    pub(crate) fn launch(&mut self) {
        let address = self.data_dir().join("http-addr");
        drop(fs::remove_file(&address));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("daemon.log"))
            .expect("a log");
        let errors = log.try_clone().expect("a log");
        let mut command = self.command(&["serve", "--http-addr", "127.0.0.1:0", "--allow-root"]);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.child = Some(child.expect("the daemon starts"));
    }

    /// Waits until it listens, or has ended before.
    async fn is_listening(&mut self) -> bool {
        let address = self.data_dir().join("http-addr");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = fs::read_to_string(&address)
                && !text.trim().is_empty()
            {
                self.base = format!("http://{}", text.trim());
                return true;
            }
            assert!(Instant::now() < deadline, "not listening: {}", self.log());
            if self.has_ended() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A command of our program on this daemon's directory, with a clean environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the test starts the daemon, not a tool")]
        let mut command = match self.launcher.split_first() {
            Some((launcher, more)) if args.first() == Some(&"serve") => {
                let mut command = Command::new(launcher);
                command.args(more).arg(&self.program);
                command
            }
            _ => Command::new(&self.program),
        };
        command
            .arg("--config")
            .arg(self.dir.path().join("test.toml"))
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path());
        command
    }

    /// Sets a variable of every process that is started from now on.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Lets `serve` be started by another program, which gets this copy of ours as its last
    /// argument but those of the daemon.
    pub(crate) fn start_through(&mut self, program: &Path, launcher: &[&str]) {
        program.clone_into(&mut self.program);
        self.launcher = launcher.iter().map(|part| (*part).to_owned()).collect();
    }

    /// Runs a command of our program to its end.
    pub(crate) async fn cli(&self, args: &[&str]) -> Told {
        let (out, err) = (self.dir.path().join("cli.out"), self.dir.path().join("cli.err"));
        let file = |path: &Path| fs::File::create(path).expect("a file");
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err));
        let mut child = command.spawn().expect("the program starts");
        let deadline = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                break status.code();
            }
            if Instant::now() > deadline {
                child.kill().expect("it can be killed");
                child.wait().expect("it can be waited for");
                panic!("{args:?} does not end");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        Told { code, out: text(&out), err: text(&err) }
    }

    /// Starts a daemon that must not start; what it said.
    pub(crate) async fn refused(&self) -> Told {
        self.cli(&["serve", "--http-addr", "127.0.0.1:0", "--allow-root"]).await
    }

    /// Forgets a variable that was set.
    pub(crate) fn unset_env(&mut self, name: &str) {
        self.env.retain(|(set, _)| set != name);
    }

    /// Whether its process has ended, or was never started.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|c| c.try_wait().ok().flatten().is_some())
    }

    fn assert_alive(&mut self) {
        let status = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
        assert!(status.is_none(), "the daemon ended ({status:?}): {}", self.log());
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |c| i32::try_from(c.id()).unwrap_or(0))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it can be waited for");
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_raw(self.pid()).expect("a pid");
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        rustix::process::kill_process(pid, signal).expect("a signal");
    }

    /// SIGTERM, then its exit code.
    pub(crate) async fn stop(&mut self) -> Option<i32> {
        self.signal(15);
        self.exit_code().await
    }

    /// Waits for its end.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let child = self.child.as_mut()?;
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                self.child = None;
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks with another token from now on where a test names none.
    pub(crate) fn ask_as(&mut self, token: &str) {
        token.clone_into(&mut self.admin);
    }

    /// The token that it is asked with.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn workspace(&self, agent: &str) -> PathBuf {
        self.data_dir().join("workspaces").join(agent)
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }

    async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.base)).send().await;
        answer.is_ok_and(|a| a.status().is_success())
    }

    /// A request with a token and, where given, a JSON body.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        Self::answer(request).await
    }

    /// Sends any request.
    pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &self.admin, None).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, &self.admin, Some(body)).await.expect("an answer")
    }

    /// Creates a run as admin; its id.
    pub(crate) async fn submit(&self, agent: &str, input: &str) -> String {
        let run = self.post("/api/v1/runs", &json!({"agent": agent, "input": input})).await;
        run.expect(202)["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn run_of(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/runs/{id}")).await.expect(200)
    }

    /// Waits until the run is in one of these states.
    pub(crate) async fn wait_for(&self, id: &str, states: &[&str]) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let run = self.run_of(id).await;
            if states.contains(&run["state"].as_str().unwrap_or_default()) {
                return run;
            }
            assert!(
                Instant::now() < deadline,
                "{id} does not come to {states:?}: {run:#}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Every event of a run.
    pub(crate) async fn events(&self, id: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let path = format!("/api/v1/runs/{id}/events?after={}&limit=500", events.len());
            let page = self.get(&path).await.expect(200);
            let items = page["items"].as_array().cloned().unwrap_or_default();
            if items.is_empty() {
                return events;
            }
            events.extend(items);
        }
    }

    /// The approvals of a run that are pending.
    pub(crate) async fn pending(&self, run: &str) -> Vec<Value> {
        let all = self.get("/api/v1/approvals?state=pending&limit=500").await.expect(200);
        let items = all["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter(|a| run.is_empty() || a["run_id"] == run).collect()
    }

    pub(crate) async fn decide(&self, approval: &Value, decision: &Value) -> Answer {
        let id = approval["id"].as_str().expect("an id");
        self.post(&format!("/api/v1/approvals/{id}/decision"), decision).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
