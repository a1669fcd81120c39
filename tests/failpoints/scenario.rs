//! What the daemon is doing while a fault strikes, and what it is asked afterwards.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    streams,
    suite::setting,
    support::{
        checker::{Truth, Witness, leftovers_of, witness::Recorder},
        daemon::{ADMIN, Answer, Daemon, PROVIDER_KEY},
        fake_llm::{FakeLlm, Options, Turn},
        fake_site::FakeSite,
        postgres,
    },
};

/// Longest time until every run has come to rest.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Leaves the id of its call outside, and says so when another execution of it is not over.
const EXECUTED: &str = "exec 9>>lock.$AGENT_RUNTIME_CALL_ID; \
    flock -n -E 99 9; [ $? = 99 ] && echo overlap $AGENT_RUNTIME_CALL_ID >> witness.log; \
    echo $AGENT_RUNTIME_CALL_ID >> witness.log";
/// Agents whose workspaces hold such ids.
const AGENTS: [&str; 3] = ["open", "careful", "web"];

/// A create that is repeated under its key until it is acknowledged.
struct Wanted {
    key: String,
    body: Value,
    run: Option<String>,
    is_to_be_cancelled: bool,
}

/// One daemon, its clients, and what they were promised.
pub(crate) struct Scenario {
    daemon: Daemon,
    /// Where the witnesses write.
    own: TempDir,
    fake: Option<FakeLlm>,
    _site: FakeSite,
    recorder: Arc<Recorder>,
    wanted: Vec<Wanted>,
    base: Arc<Mutex<String>>,
    listeners: Vec<tokio::task::JoinHandle<()>>,
    dice: u64,
    acknowledged: usize,
    is_armed: bool,
    /// Goes after the daemon.
    database: Option<postgres::Database>,
}

fn sh(script: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", script]})
}

fn teach(fake: &FakeLlm) {
    let file = json!({"path": "a.txt", "content": "a", "mode": "overwrite"});
    fake.script(
        "pure",
        [
            Turn::call("write_file", &file).and("read_file", &json!({"path": "a.txt"})),
            Turn::text(&format!("done with {PROVIDER_KEY}")),
        ],
    );
    fake.script("unsafe", [Turn::call("exec", &sh(EXECUTED)), Turn::text("done")]);
    let slow = sh(&format!("{EXECUTED}; sleep 0.3"));
    fake.script("slow", [Turn::call("exec", &slow), Turn::text("done")]);
    let page = json!({"method": "GET", "url": "http://site.example/page"});
    fake.script("web", [Turn::call("http_request", &page), Turn::text("done")]);
}

fn config(site: &FakeSite) -> String {
    format!(
        "[agents.web]\nsystem_prompt = \"test\"\ntools = [\"http_request\"]\n\
         roles = [\"member\", \"operator\", \"admin\", \"overlord\"]\n\
         allowed_domains = [{{ host = \"site.example\", port = 80, allow_private = true }}]\n\
         [egress]\nconnect_to = {{ \"site.example:80\" = \"{}\" }}\n",
        site.addr()
    )
}

impl Scenario {
    pub(crate) fn new(n: usize, seed: u64) -> Self {
        let site = FakeSite::start();
        let own = tempfile::tempdir().expect("a directory");
        let asked = own.path().join("asked.log");
        let fake =
            FakeLlm::start_with(Options { witness: Some(asked.clone()), ..Options::default() });
        teach(&fake);
        let mut daemon = Daemon::prepare_with(&fake.openai_url(), &config(&site));
        let is_on_server = setting("AGENT_RUNTIME_TEST_STORE").as_deref() == Some("postgres");
        let database = is_on_server.then(|| postgres::Server::shared().database());
        if let Some(database) = &database {
            daemon.use_database(&database.url());
        }
        let recorder = Arc::new(Recorder::new(&own.path().join("clients.log")));
        let wanted = [
            ("pure", "open", false),
            ("unsafe", "open", false),
            ("unsafe", "careful", false),
            ("slow", "open", true),
            ("web", "web", false),
        ]
        .into_iter()
        .enumerate()
        .map(|(at, (script, agent, is_to_be_cancelled))| {
            let key = format!("key-{n}-{at}");
            let input = format!("script:{script} case {n} run {at}");
            let body = json!({"agent": agent, "input": input, "metadata": {"witness-key": key}});
            Wanted { key, body, run: None, is_to_be_cancelled }
        })
        .collect();
        Self {
            daemon,
            own,
            fake: Some(fake),
            _site: site,
            recorder,
            wanted,
            base: Arc::default(),
            listeners: Vec::new(),
            dice: seed.max(1),
            acknowledged: 0,
            is_armed: false,
            database,
        }
    }

    fn hits(&self) -> PathBuf {
        self.own.path().join("failpoints.log")
    }

    /// Puts a fault into the daemon that is started next.
    pub(crate) fn arm(&mut self, order: &str) {
        self.daemon.set_env("FAILPOINTS", order);
        let log = self.hits().display().to_string();
        self.daemon.set_env("FAILPOINTS_LOG", &log);
        self.is_armed = true;
    }

    fn disarm(&mut self) {
        self.daemon.unset_env("FAILPOINTS");
        self.daemon.unset_env("FAILPOINTS_LOG");
        self.is_armed = false;
    }

    /// How often each point was reached while faults were armed.
    pub(crate) fn visits(&self) -> BTreeMap<String, u64> {
        let text = fs::read_to_string(self.hits()).unwrap_or_default();
        let mut visits: BTreeMap<String, u64> = BTreeMap::new();
        for name in text.lines().filter_map(|l| l.split(' ').next()) {
            *visits.entry(name.to_owned()).or_default() += 1;
        }
        visits
    }

    pub(crate) fn has_fired(&self) -> bool {
        let text = fs::read_to_string(self.hits()).unwrap_or_default();
        text.lines().any(|line| line.split(' ').count() == 3)
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = self.daemon.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Starts the daemon; one that a fault ended before it listened is started again without.
    async fn start(&mut self) {
        if !self.daemon.try_spawn().await {
            assert!(self.is_armed, "it does not start: {}", self.daemon.log());
            self.disarm();
            self.daemon.spawn().await;
        }
        self.daemon.base().clone_into(&mut self.base.lock().unwrap());
    }

    /// Until every run has come to rest, over one or more lives of the daemon.
    pub(crate) async fn play(&mut self) {
        self.start().await;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_at_rest().await {
            assert!(
                Instant::now() < deadline,
                "no rest: {}\n{}",
                self.visits().len(),
                self.log_tail()
            );
            if self.daemon.has_ended() {
                self.disarm();
                self.start().await;
            }
            self.submit().await;
            self.answer_people().await;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn send(&self, key: &str, path: &str, body: &Value) -> Option<Answer> {
        let url = format!("{}{path}", self.daemon.base());
        let request = self.daemon.http().post(url).bearer_auth(ADMIN).json(body);
        let request = request.header("idempotency-key", key);
        let request = request.timeout(Duration::from_secs(5));
        let answer = Daemon::answer(request).await.ok()?;
        let status = answer.status.as_u16();
        assert!(status < 500 || status == 503, "{path}: {status} {}", answer.text);
        Some(answer)
    }

    async fn submit(&mut self) {
        for at in 0..self.wanted.len() {
            let (key, body) = (self.wanted[at].key.clone(), self.wanted[at].body.clone());
            if self.wanted[at].run.is_none() {
                let Some(answer) = self.send(&key, "/api/v1/runs", &body).await else { return };
                if answer.status.as_u16() != 202 {
                    continue;
                }
                let run = answer.json()["id"].as_str().expect("an id").to_owned();
                self.recorder.created(&key, &run);
                self.acknowledged += 1;
                if at < 2 {
                    self.listen(at, &run);
                }
                self.wanted[at].run = Some(run);
            }
            if let (true, Some(run)) =
                (self.wanted[at].is_to_be_cancelled, self.wanted[at].run.clone())
                && self.state_of(&run).await.is_some_and(|state| state != "queued")
            {
                let path = format!("/api/v1/runs/{run}/cancel");
                let key = format!("cancel-{key}");
                let Some(answer) = self.send(&key, &path, &json!({})).await else { return };
                if answer.status.is_success() {
                    self.recorder.cancelled(&run);
                    self.acknowledged += 1;
                    self.wanted[at].is_to_be_cancelled = false;
                } else if answer.status.as_u16() == 409 {
                    // It ended first.
                    self.wanted[at].is_to_be_cancelled = false;
                }
            }
        }
    }

    /// Two clients that come back until they have seen the end, one of each kind.
    fn listen(&mut self, at: usize, run: &str) {
        let (base, recorder) = (Arc::clone(&self.base), Arc::clone(&self.recorder));
        let (http, run) = (self.daemon.http().clone(), run.to_owned());
        #[expect(clippy::disallowed_methods, reason = "clients of the test, not of the daemon")]
        let task = if at == 0 {
            tokio::spawn(async move { streams::sse(http, base, recorder, run).await })
        } else {
            tokio::spawn(async move { streams::socket(base, recorder, run).await })
        };
        self.listeners.push(task);
    }

    async fn list(&self, path: &str) -> Option<Vec<Value>> {
        let answer = self.daemon.call(Method::GET, path, ADMIN, None);
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.ok()?.ok()?;
        let items = answer.status.is_success().then(|| answer.json()["items"].clone())?;
        items.as_array().cloned()
    }

    async fn state_of(&self, run: &str) -> Option<String> {
        let path = format!("/api/v1/runs/{run}");
        let answer = self.daemon.call(Method::GET, &path, ADMIN, None).await.ok()?;
        answer.json()["state"].as_str().map(str::to_owned)
    }

    fn roll(&mut self, sides: u64) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        usize::try_from(self.dice % sides).expect("small")
    }

    async fn answer_people(&mut self) {
        let asked = self.list("/api/v1/approvals?state=pending&limit=100").await;
        for approval in asked.unwrap_or_default() {
            let id = approval["id"].as_str().expect("an id").to_owned();
            let decision = if approval["kind"] == "unknown_effect" {
                let outcome = ["happened", "run", "skip"][self.roll(3)];
                json!({"decision": "approve", "outcome": outcome})
            } else {
                json!({"decision": "approve"})
            };
            let path = format!("/api/v1/approvals/{id}/decision");
            let answer = self.send(&format!("decide-{id}"), &path, &decision).await;
            if answer.is_some_and(|a| a.status.is_success()) {
                self.recorder.decided(&id, "approve");
                self.acknowledged += 1;
            }
        }
        let paused = self.list("/api/v1/runs?state=paused&limit=100").await;
        for run in paused.unwrap_or_default() {
            let id = run["id"].as_str().expect("an id");
            let path = format!("/api/v1/runs/{id}/resume");
            drop(self.send(&format!("resume-{id}-{}", run["seq"]), &path, &json!({})).await);
        }
    }

    async fn is_at_rest(&self) -> bool {
        if self.wanted.iter().any(|w| w.run.is_none() || w.is_to_be_cancelled) {
            return false;
        }
        for state in ["queued", "running", "cancelling", "paused", "awaiting_approval"] {
            let open = self.list(&format!("/api/v1/runs?state={state}&limit=10")).await;
            if open.is_none_or(|open| !open.is_empty()) {
                return false;
            }
        }
        self.listeners.iter().all(tokio::task::JoinHandle::is_finished)
    }

    /// What the checker finds once the daemon was killed, started without faults, and killed again;
    /// and how long that start took until it was ready.
    pub(crate) async fn judge(&mut self) -> (Vec<String>, Duration) {
        self.daemon.kill();
        self.disarm();
        let started = Instant::now();
        self.daemon.spawn().await;
        let ready = started.elapsed();
        // Every key still gives the run that was promised.
        for at in 0..self.wanted.len() {
            let (key, body) = (self.wanted[at].key.clone(), self.wanted[at].body.clone());
            let answer = self.send(&key, "/api/v1/runs", &body).await.expect("an answer");
            let run = answer.json()["id"].as_str().unwrap_or_default().to_owned();
            self.recorder.created(&key, &run);
        }
        self.daemon.kill();
        // No half line of the fake is read.
        drop(self.fake.take());
        for listener in self.listeners.drain(..) {
            listener.abort();
        }
        let mut witness = Witness::default();
        witness.add_log(&self.own.path().join("clients.log"));
        witness.add_log(&self.own.path().join("asked.log"));
        for agent in AGENTS {
            witness.add_executions(&self.daemon.workspace(agent).join("witness.log"));
        }
        witness.secrets = vec![ADMIN.to_owned(), PROVIDER_KEY.to_owned()];
        witness.texts.push(("the log".to_owned(), self.daemon.log()));
        let truth = Truth::read(&self.daemon.data_dir()).await;
        let mut found = truth.violations(&witness);
        found.extend(leftovers_of(&self.daemon.data_dir()));
        // The server drops nothing while somebody is logging in, and that may be another scenario of
        // this very task: it must not wait here.
        let database = self.database.take();
        #[expect(clippy::disallowed_methods, reason = "a test has no tasks of a daemon")]
        drop(tokio::task::spawn_blocking(move || drop(database)));
        (found.iter().map(ToString::to_string).collect(), ready)
    }
}
