//! The database goes away in every way it can, under load: nothing that was acknowledged is lost,
//! nothing unsafe runs twice, every run comes to its end, and the daemon needs nobody's help.
//!
//! The short form meets each fault once. `AGENT_RUNTIME_TEST_ROUNDS` (times that each fault comes),
//! `AGENT_RUNTIME_TEST_OUTAGE_SECS` (how long the slow ones last) and `AGENT_RUNTIME_TEST_SEED` make
//! it longer or different; the long form is `AGENT_RUNTIME_TEST_ROUNDS=20
//! AGENT_RUNTIME_TEST_OUTAGE_SECS=30 AGENT_RUNTIME_TEST_REPLICAS=4 cargo test --test postgres faults`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use agent_runtime::domain::{Run, UserInput};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    scenes::sh,
    support::{
        checker::{Truth, Witness, check_no_leftovers},
        daemon::{ADMIN, Daemon, PROVIDER_KEY},
        fake_llm::{FakeLlm, Turn},
        partition::{Link, Partition},
        postgres::{Database, Server, Stop, Sync},
    },
};

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Restart(Stop),
    CrashedBackend,
    TerminatedBackends,
    Reset,
    HalfOpen,
    Stranded,
    Cut,
    Dropped,
    Deaf,
    Slow,
}

const FAULTS: [Fault; 12] = [
    Fault::Restart(Stop::Fast),
    Fault::Restart(Stop::Immediate),
    Fault::Restart(Stop::Kill),
    Fault::CrashedBackend,
    Fault::TerminatedBackends,
    Fault::Reset,
    Fault::HalfOpen,
    Fault::Stranded,
    Fault::Cut,
    Fault::Dropped,
    Fault::Deaf,
    Fault::Slow,
];

/// How long a client waits for an answer before it turns away.
const TURN_AWAY: Duration = Duration::from_secs(3);
/// Longest time from the end of a fault to the first run that is accepted again: what notices a
/// dead path has 12 s, and then it connects.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// What people say to a run that works.
const STEER: &str = "go on, please";
const WITNESS: &str = "echo $AGENT_RUNTIME_CALL_ID >> witness.log";

fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    let text = std::env::var(name);
    text.ok().and_then(|t| t.parse().ok()).unwrap_or(default)
}

/// Xorshift: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.roll(all.len() as u64)).expect("an index")]
    }
}

fn scripts() -> FakeLlm {
    let fake = FakeLlm::start();
    let slow = Turn::call("exec", &sh(&format!("{WITNESS}; sleep 0.05")));
    fake.script("once", [Turn::call("exec", &sh(WITNESS)), Turn::text("done")]);
    fake.script("slow", [slow.clone(), slow, Turn::text("done")]);
    let file = json!({"path": "a.txt", "content": "a", "mode": "overwrite"});
    let mixed = Turn::call("write_file", &file).and("exec", &sh(WITNESS));
    fake.script("mixed", [mixed, Turn::call("list_files", &json!({})), Turn::text("done")]);
    fake
}

/// A daemon and its own way to the database.
struct Replica {
    daemon: Daemon,
    link: Partition,
}

struct World {
    server: Arc<Server>,
    database: Database,
    replicas: Vec<Replica>,
    workspaces: TempDir,
    dice: Dice,
    /// Body and, once acknowledged, run id, by idempotency key.
    promises: BTreeMap<String, (Value, Option<String>)>,
    /// What clients were promised.
    witness: Witness,
    _fake: FakeLlm,
}

impl World {
    async fn start(replicas: usize, seed: u64) -> Self {
        let server = Server::start(Sync::On);
        let database = server.database();
        let fake = scripts();
        let workspaces = tempfile::Builder::new().prefix("art-shared-").tempdir();
        let workspaces = workspaces.expect("a directory");
        let mut all = Vec::new();
        for _ in 0..replicas {
            let link = Partition::before(server.port());
            let mut daemon = Daemon::prepare(&fake.openai_url());
            daemon.use_database(&database.url_at(link.port()));
            daemon.set_env("PERMISSION_SECRET", "the-permission-secret-of-all-replicas-0123");
            let place = workspaces.path().to_str().expect("a path");
            daemon.set_env("AGENT_RUNTIME_WORKSPACES_DIR", place);
            daemon.run().await;
            all.push(Replica { daemon, link });
        }
        let (dice, promises, witness) = (Dice(seed), BTreeMap::new(), Witness::default());
        Self { server, database, replicas: all, workspaces, dice, promises, witness, _fake: fake }
    }

    fn any(&mut self) -> usize {
        let n = self.dice.roll(self.replicas.len() as u64);
        usize::try_from(n).expect("an index")
    }

    async fn ask(&self, at: usize, method: Method, path: &str, body: Option<&Value>) -> Value {
        let asked = self.replicas[at].daemon.call(method, path, ADMIN, body);
        match tokio::time::timeout(TURN_AWAY, asked).await {
            Ok(Ok(answer)) if answer.status.is_success() => answer.json(),
            _ => Value::Null,
        }
    }

    /// Sends a request whose key makes it safe to send again; the run's id.
    async fn send(&self, at: usize, key: &str, body: &Value) -> Option<String> {
        let daemon = &self.replicas[at].daemon;
        let request = daemon
            .http()
            .post(format!("{}/api/v1/runs", daemon.base()))
            .bearer_auth(ADMIN)
            .header("idempotency-key", key)
            .json(body);
        let answer = tokio::time::timeout(TURN_AWAY, Daemon::answer(request)).await.ok()?.ok()?;
        let status = answer.status.as_u16();
        assert!(matches!(status, 202 | 409 | 429 | 503), "{status}: {}", answer.text);
        if status != 202 {
            return None;
        }
        answer.json()["id"].as_str().map(str::to_owned)
    }

    /// Everything that clients do, once.
    async fn live(&mut self) {
        let open: Vec<(String, Value)> = self
            .promises
            .iter()
            .filter(|(_, (_, id))| id.is_none())
            .map(|(key, (body, _))| (key.clone(), body.clone()))
            .collect();
        for (key, body) in open {
            let at = self.any();
            if let Some(id) = self.send(at, &key, &body).await {
                self.witness.created.push((key.clone(), id.clone()));
                self.promises.get_mut(&key).expect("the promise").1 = Some(id);
            }
        }
        let at = self.any();
        let asked = self.ask(at, Method::GET, "/api/v1/approvals?state=pending&limit=50", None);
        for approval in items(&asked.await) {
            let decision = if approval["kind"] == "unknown_effect" {
                let outcome = self.dice.of(&["happened", "run", "skip"]);
                json!({"decision": "approve", "outcome": outcome})
            } else if self.dice.roll(4) == 0 {
                json!({"decision": "deny", "reason": "not today"})
            } else {
                json!({"decision": "approve"})
            };
            let path = format!("/api/v1/approvals/{}/decision", text(&approval, "id"));
            if self.ask(at, Method::POST, &path, Some(&decision)).await != Value::Null {
                let said = text(&decision, "decision").to_owned();
                self.witness.decided.push((text(&approval, "id").to_owned(), said));
            }
        }
        let paused = self.ask(at, Method::GET, "/api/v1/runs?state=paused&limit=50", None).await;
        for run in items(&paused) {
            let path = format!("/api/v1/runs/{}/resume", text(&run, "id"));
            self.ask(at, Method::POST, &path, Some(&json!({}))).await;
        }
        let running = self.ask(at, Method::GET, "/api/v1/runs?state=running&limit=5", None).await;
        if let Some(run) = items(&running).first() {
            let (verb, body) = match self.dice.roll(8) {
                0 => ("interrupt", json!({"mode": "hard"})),
                1 => ("cancel", json!({})),
                2 | 3 => ("steer", json!({"input": STEER})),
                _ => return,
            };
            let path = format!("/api/v1/runs/{}/{verb}", text(run, "id"));
            let answer = self.ask(at, Method::POST, &path, Some(&body)).await;
            if answer != Value::Null && verb == "cancel" {
                self.witness.cancelled.push(text(run, "id").to_owned());
            }
            if let ("steer", Some(steer)) = (verb, answer["steer_id"].as_str()) {
                self.witness.steered.push((text(run, "id").to_owned(), steer.to_owned()));
            }
        }
    }

    fn promise(&mut self, round: usize, n: usize) {
        let script = self.dice.of(&["once", "slow", "mixed"]);
        let agent = if self.dice.roll(4) == 0 { "careful" } else { "open" };
        let input = format!("script:{script} round {round} run {n}");
        let body = json!({"agent": agent, "input": input});
        self.promises.insert(format!("key-{round}-{n}"), (body, None));
    }

    /// Lives for that long.
    async fn live_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.live().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One fault under load; the time from its end to the first accepted run, for each replica.
    async fn meet(&mut self, round: usize, fault: Fault, outage: Duration) -> Vec<Duration> {
        for n in 0..4 {
            self.promise(round, n);
        }
        let moment = Duration::from_millis(self.dice.roll(150));
        self.live_for(moment).await;
        // A network's faults are one replica's, the server's are everybody's.
        let hit = self.any();
        let state = match fault {
            Fault::Restart(how) => {
                let server = Arc::clone(&self.server);
                let down = move || {
                    server.stop(how);
                    server.resume();
                };
                let down = std::thread::Builder::new().spawn(down).expect("a thread");
                while !down.is_finished() {
                    self.live().await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                down.join().expect("a server that runs again");
                None
            }
            Fault::CrashedBackend => {
                self.server.crash_a_backend();
                None
            }
            Fault::TerminatedBackends => {
                self.database.terminate_connections();
                None
            }
            Fault::Reset => {
                self.replicas[hit].link.terminate();
                None
            }
            Fault::HalfOpen => {
                self.replicas[hit].link.half_open();
                None
            }
            Fault::Stranded => {
                self.replicas[hit].link.strand();
                None
            }
            Fault::Cut => Some(Link::Cut),
            Fault::Dropped => Some(Link::Dropped),
            Fault::Deaf => Some(Link::Deaf),
            Fault::Slow => Some(Link::Slow(outage / 4)),
        };
        if let Some(state) = state {
            self.replicas[hit].link.set(state);
            self.live_for(outage).await;
            self.replicas[hit].link.set(Link::Open);
        }
        let since = Instant::now();
        let mut back = Vec::new();
        for at in 0..self.replicas.len() {
            let body = json!({"agent": "open", "input": format!("script:once after {round} {at}")});
            let key = format!("after-{round}-{at}");
            let id = loop {
                if let Some(id) = self.send(at, &key, &body).await {
                    break id;
                }
                let log = self.replicas[at].daemon.log();
                assert!(since.elapsed() < BACK_WITHIN, "{fault:?}: not back: {}", end_of(&log));
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            back.push(since.elapsed());
            self.witness.created.push((key.clone(), id.clone()));
            self.promises.insert(key, (body, Some(id)));
        }
        back
    }

    /// Waits until every run has ended.
    async fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            self.live().await;
            let mut open = Vec::new();
            for state in ["queued", "running", "cancelling", "paused", "awaiting_approval"] {
                let path = format!("/api/v1/runs?state={state}&limit=50");
                let page = self.ask(0, Method::GET, &path, None).await;
                assert!(page != Value::Null || Instant::now() < deadline, "no answer");
                open.extend(items(&page));
            }
            if open.is_empty() && self.promises.values().all(|(_, id)| id.is_some()) {
                return;
            }
            let log = self.replicas[0].daemon.log();
            assert!(Instant::now() < deadline, "still open: {open:#?}\n{}", end_of(&log));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn check(mut self) -> (usize, usize) {
        for (key, (body, id)) in &self.promises {
            assert_eq!(self.send(0, key, body).await, *id, "{key} gives another run");
        }
        let mut witness = self.witness;
        for agent in ["open", "careful"] {
            witness.add_executions(&self.workspaces.path().join(agent).join("witness.log"));
        }
        for replica in &mut self.replicas {
            assert_eq!(replica.daemon.stop().await, Some(0), "{}", replica.daemon.log());
            check_no_leftovers(&replica.daemon.data_dir());
            let log = replica.daemon.log();
            assert!(!log.contains("panicked"), "{}", end_of(&log));
            witness.texts.push(("the log".to_owned(), log));
        }
        let truth = Truth::read(&self.replicas[0].daemon.data_dir()).await;
        witness.secrets = vec![ADMIN.to_owned(), PROVIDER_KEY.to_owned()];
        truth.check(&witness);
        // A steer that comes too late begins a run of its own, as API.md says.
        let is_steer = |run: &&Run| matches!(&run.input, UserInput::Text(text) if text == STEER);
        let runs: BTreeSet<String> =
            truth.runs.iter().filter(|run| !is_steer(run)).map(|run| run.id.to_string()).collect();
        let asked: BTreeSet<String> =
            self.promises.values().filter_map(|(_, id)| id.clone()).collect();
        assert_eq!(runs, asked, "a run for each request, and no other");
        (runs.len(), witness.executed.len())
    }
}

fn items(page: &Value) -> Vec<Value> {
    page["items"].as_array().cloned().unwrap_or_default()
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn end_of(log: &str) -> &str {
    let start = log.len().saturating_sub(6_000);
    log.get(start..).unwrap_or(log)
}

async fn suite(replicas: usize) {
    let rounds = setting("AGENT_RUNTIME_TEST_ROUNDS", 1);
    let outage = Duration::from_secs(setting("AGENT_RUNTIME_TEST_OUTAGE_SECS", 2));
    let seed = setting("AGENT_RUNTIME_TEST_SEED", 0x5EED_2026);
    println!("seed {seed}, {rounds} rounds of {} faults, {replicas} replicas", FAULTS.len());
    let mut world = World::start(replicas, seed).await;
    let mut back = Vec::new();
    for n in 0..usize::try_from(rounds).expect("a number") {
        let mut left = FAULTS.to_vec();
        while !left.is_empty() {
            let fault = left.remove(usize::try_from(world.dice.roll(left.len() as u64)).unwrap());
            let round = n * FAULTS.len() + left.len();
            let times = world.meet(round, fault, outage).await;
            println!("{fault:?}: back after {times:?}");
            back.extend(times);
        }
    }
    world.settle().await;
    back.sort();
    let (p50, max) = (back[back.len() / 2], back[back.len() - 1]);
    let promises = world.promises.len();
    let (runs, executions) = world.check().await;
    println!(
        "{runs} runs of {promises} acknowledged requests, {executions} executions seen outside; \
         back after p50 {p50:?}, max {max:?}"
    );
    assert_eq!(runs, promises, "two requests share a run");
    assert!(executions > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_in_every_way_loses_and_repeats_nothing() {
    suite(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_whose_database_fails_in_every_way_lose_and_repeat_nothing() {
    let replicas = setting("AGENT_RUNTIME_TEST_REPLICAS", 2);
    suite(usize::try_from(replicas).expect("a number")).await;
}
