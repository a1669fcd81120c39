//! Fault suite (a) with two replicas on one database: one of them is killed at a random moment, or
//! stands still past its lease, while clients go on at the other: nothing that was acknowledged is
//! lost, nothing unsafe runs twice, and the checker finds every invariant whole.
//!
//! `AGENT_RUNTIME_TEST_DEATHS` (9: each way once, the quick ones three times) and
//! `AGENT_RUNTIME_TEST_SEED` make it longer or different; the seed is printed.
//! `AGENT_RUNTIME_TEST_ONLY=frozen` takes one way alone.

use std::time::Duration;

use agent_runtime::store;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    load::{
        Dice, Promises, answer_people, ask_more, check_promises, disturb, middle_and_most, scripts,
        setting, settle, submit, text_setting,
    },
    set::{Set, TAKEOVER, eventually},
    support::{
        checker::{Truth, Witness, check_no_leftovers, witness::Recorder},
        daemon::{ADMIN, Daemon, PROVIDER_KEY},
        fake_llm::{FakeLlm, Options},
    },
};

const STOP: i32 = 19;
const CONT: i32 = 18;
/// Rounds of runs that linger are told apart from the others by this.
const LINGERING: u64 = 1_000_000;

/// How a replica goes away, and what comes then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// Killed, and started again at once.
    Again,
    /// The same, and killed once more while it joins or recovers what it left.
    Early,
    /// Killed, and away until the other one has taken its runs over.
    Gone,
    /// The same, and the other one is killed while it recovers them.
    Both,
    /// It stands still until it was taken over, and goes on.
    Frozen,
}

const DEATHS: [Death; 9] = [
    Death::Again,
    Death::Early,
    Death::Gone,
    Death::Again,
    Death::Early,
    Death::Both,
    Death::Again,
    Death::Early,
    Death::Frozen,
];

impl Death {
    fn is_called(self, name: &str) -> bool {
        format!("{self:?}").eq_ignore_ascii_case(name)
    }
}

struct World {
    set: Set,
    replicas: [Daemon; 2],
    dice: Dice,
    promises: Promises,
    recorder: Recorder,
    /// Where the witnesses write.
    own: TempDir,
    /// From the death to the takeover, and from there to readiness, in milliseconds.
    takeovers: Vec<u64>,
    starts: Vec<u64>,
    kills: usize,
    stops: usize,
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).expect("a number")
}

impl World {
    async fn start(seed: u64) -> Self {
        let own = tempfile::tempdir().expect("a directory");
        let asked = own.path().join("asked.log");
        let fake = FakeLlm::start_with(Options { witness: Some(asked), ..Options::default() });
        scripts(&fake);
        let set = Set::of(fake);
        let replicas = [set.replica().await, set.replica().await];
        let recorder = Recorder::new(&own.path().join("clients.log"));
        let (dice, promises) = (Dice(seed.max(1)), Promises::default());
        let (takeovers, starts, kills, stops) = (Vec::new(), Vec::new(), 0, 0);
        Self { set, replicas, dice, promises, recorder, own, takeovers, starts, kills, stops }
    }

    /// What clients do at one replica, for that long or until it dies.
    async fn live_at(&mut self, at: usize, time: Duration) {
        self.ask_at(at, time, true).await;
    }

    /// The same, and whether they interrupt and cancel.
    async fn ask_at(&mut self, at: usize, time: Duration, is_rude: bool) {
        let Self { replicas, dice, promises, recorder, .. } = self;
        let daemon = &replicas[at];
        let busy = async {
            submit(daemon, promises, recorder).await;
            answer_people(daemon, dice, recorder).await;
            if is_rude {
                disturb(daemon, dice, recorder).await;
            }
            std::future::pending::<()>().await;
        };
        drop(timeout(time, busy).await);
    }

    /// The number under which a replica works now.
    fn boot_epoch(&self, at: usize) -> String {
        let name = self.replicas[at].base().to_owned();
        let address = name.strip_prefix("http://").expect("a base");
        let sql = format!(
            "SELECT MAX(boot_epoch) FROM replicas WHERE address LIKE '%{address}%' AND ended_at IS NULL"
        );
        self.set.database.psql(&sql)
    }

    fn kill(&mut self, at: usize) {
        self.replicas[at].kill();
        self.kills += 1;
    }

    async fn run(&mut self, at: usize) {
        let started = Instant::now();
        self.replicas[at].run().await;
        self.starts.push(millis(started));
    }

    /// Clients go on at the other one until the replica of that number was taken over.
    async fn until_taken_over(&mut self, other: usize, epoch: &str) {
        let since = Instant::now();
        let sql = format!(
            "SELECT COUNT(*) FROM replicas WHERE boot_epoch = {epoch} AND ended_at IS NULL"
        );
        while self.set.database.psql(&sql) != "0" {
            assert!(
                since.elapsed() < TAKEOVER,
                "{epoch} is not taken over: {}",
                self.replicas[other].log()
            );
            let pause = Duration::from_millis(20 + self.dice.roll(60));
            // In fifteen seconds they would cancel everything that is to be taken over.
            self.ask_at(other, pause, false).await;
        }
        self.takeovers.push(millis(since));
    }

    async fn meet(&mut self, round: u64, death: Death) {
        ask_more(round, 0, 0, &mut self.promises, &mut self.dice);
        // Most of these are with the model for a while.
        ask_more(LINGERING + round, 4, 0, &mut self.promises, &mut self.dice);
        let victim = usize::try_from(self.dice.roll(2)).expect("an index");
        let other = 1 - victim;
        let epoch = eventually("it says where it answers", TAKEOVER, async || {
            Some(self.boot_epoch(victim)).filter(|epoch| !epoch.is_empty())
        })
        .await;
        let moment = Duration::from_millis(self.dice.roll(300));
        let is_quick = matches!(death, Death::Again | Death::Early);
        if is_quick && self.dice.roll(2) == 0 {
            // In the middle of whatever clients do, with either of them.
            self.live_at(other, moment / 2).await;
            self.live_at(victim, moment / 2).await;
        } else {
            // With runs at work there.
            let Self { replicas, promises, recorder, .. } = self;
            submit(&replicas[victim], promises, recorder).await;
            self.live_at(victim, moment).await;
        }
        match death {
            Death::Again => self.kill(victim),
            Death::Early => {
                self.kill(victim);
                self.replicas[victim].launch();
                let moment = Duration::from_millis(self.dice.roll(1_500));
                self.live_at(other, moment).await;
                self.kill(victim);
            }
            Death::Gone => {
                self.kill(victim);
                self.until_taken_over(other, &epoch).await;
                // Its runs have an owner again, or wait for one.
                let moment = Duration::from_millis(self.dice.roll(500));
                self.live_at(other, moment).await;
            }
            Death::Both => {
                self.kill(victim);
                self.until_taken_over(other, &epoch).await;
                sleep(Duration::from_millis(self.dice.roll(40))).await;
                self.kill(other);
                self.run(other).await;
            }
            Death::Frozen => {
                self.replicas[victim].signal(STOP);
                self.stops += 1;
                self.until_taken_over(other, &epoch).await;
                let moment = Duration::from_millis(self.dice.roll(1_000));
                self.live_at(other, moment).await;
                self.replicas[victim].signal(CONT);
                // What it was about to write is refused; then it is another replica.
                let since = Instant::now();
                let daemon = &self.replicas[victim];
                eventually("it is ready again", TAKEOVER, async || {
                    let is_another = self.boot_epoch(victim) != epoch;
                    let ready = daemon.get("/readyz").await.status.is_success();
                    (is_another && ready).then_some(())
                })
                .await;
                self.starts.push(millis(since));
                return;
            }
        }
        self.run(victim).await;
    }

    async fn judge(mut self) {
        let Self { replicas, promises, recorder, dice, .. } = &mut self;
        submit(&replicas[0], promises, recorder).await;
        settle(&replicas[1], dice, recorder).await;
        for replica in replicas.iter() {
            check_promises(replica, promises).await;
        }
        for replica in replicas.iter_mut() {
            replica.kill();
            check_no_leftovers(&replica.data_dir());
        }
        let mut witness = Witness::default();
        witness.add_log(&self.own.path().join("clients.log"));
        witness.add_log(&self.own.path().join("asked.log"));
        for agent in ["open", "careful"] {
            witness.add_executions(&self.set.workspace(agent).join("witness.log"));
        }
        witness.secrets = vec![ADMIN.to_owned(), PROVIDER_KEY.to_owned()];
        for replica in &self.replicas {
            assert!(!replica.log().contains("panicked"), "{}", replica.log());
            witness.texts.push(("the log".to_owned(), replica.log()));
        }
        let database =
            store::Database::Postgres(self.set.database.url().parse().expect("an address"));
        let truth = Truth::read_from(&self.replicas[0].data_dir(), &database).await;
        truth.check(&witness);
        let recovered =
            truth.events.values().flatten().filter(|e| e.body.kind() == "run.recovered");
        let recovered = recovered.count();
        let (takeover, longest) = middle_and_most(self.takeovers.clone());
        let (start, slowest) = middle_and_most(self.starts.clone());
        println!(
            "figure: {} kills and {} stops of two replicas, {} takeovers p50 {takeover} ms max {longest} ms, \
             {} acknowledged requests, 0 lost, {} runs, {} executions seen outside, 0 repeated, \
             {recovered} recoveries, exec or SIGCONT to ready p50 {start} ms max {slowest} ms",
            self.kills,
            self.stops,
            self.takeovers.len(),
            witness.created.len()
                + witness.decided.len()
                + witness.cancelled.len()
                + witness.steered.len(),
            truth.runs.len(),
            witness.executed.len(),
        );
        assert!(recovered > 0, "no death hit a run: the test shows nothing");
        assert!(!witness.executed.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_die_or_stand_still_at_random_moments_lose_nothing_and_repeat_nothing() {
    let rounds = setting("AGENT_RUNTIME_TEST_DEATHS", DEATHS.len() as u64);
    let seed = setting("AGENT_RUNTIME_TEST_SEED", 0x5EED_2026);
    let only = text_setting("AGENT_RUNTIME_TEST_ONLY");
    let ways: Vec<Death> = DEATHS
        .into_iter()
        .filter(|death| only.as_ref().is_none_or(|name| death.is_called(name)))
        .collect();
    assert!(!ways.is_empty(), "{only:?} is none of {DEATHS:?}");
    println!("seed {seed}, {rounds} deaths of {ways:?}");
    let mut world = World::start(seed).await;
    let mut left = Vec::new();
    for round in 0..rounds {
        if left.is_empty() {
            left.clone_from(&ways);
        }
        let death = left.remove(usize::try_from(world.dice.roll(left.len() as u64)).unwrap());
        let began = Instant::now();
        world.meet(round, death).await;
        println!("{death:?}: {:?}", began.elapsed());
    }
    world.judge().await;
}
