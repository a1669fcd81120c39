//! (d) The power goes. A daemon works under a shim that records every write and fsync; afterwards
//! the disk is put together as it may be after a loss of power at any point of that record. Every
//! such image must open undamaged and pass the checker, and hold whatever was acknowledged before.
//!
//! `AGENT_RUNTIME_TEST_POWER_LOSSES` (48) images are checked at rest, and a daemon is started on
//! one in twelve of them. Long: `AGENT_RUNTIME_TEST_POWER_LOSSES=5000 cargo test --test outside
//! power`.

use std::{
    collections::BTreeMap, fs, ops::Range, os::unix::fs::OpenOptionsExt, path::Path, time::Duration,
};

use agent_runtime::{
    domain::{EventBody, ToolCallId},
    store::{Database, ReadOnlyStore},
};
use serde_json::json;

use crate::{
    dice::{Dice, count, seed},
    load::{self, Promises},
    platter::{Call, Loss, Platter, Record, records, without_commit_syncs},
    shim::{Fault, Shim, Target},
    support::{checker::Truth, daemon::Daemon, fake_llm::FakeLlm},
};

/// So many calls after a failure the power goes.
const AFTER_FAILURE: usize = 600;
/// Requests under way at once.
const CLIENTS: usize = 4;

/// What was recorded, and what was promised meanwhile.
struct Recording {
    records: Vec<Record>,
    promises: Promises,
    /// The position at which the first daemon was ready.
    ready: u64,
    daemon: Daemon,
}

/// Submits runs and answers people until all have ended, and notes what was promised and when.
async fn work(
    daemon: &Daemon,
    shim: &Shim,
    promises: &mut Promises,
    dice: &mut Dice,
    numbers: Range<usize>,
) {
    for chunk in numbers.collect::<Vec<_>>().chunks(CLIENTS) {
        let sent = chunk.iter().map(|n| {
            let (key, body) = (format!("key-{n}"), load::body(dice, *n));
            async move {
                let answer = load::send(daemon, &key, &body).await;
                let position = shim.position();
                (key, body, answer, position)
            }
        });
        for (key, body, answer, position) in futures_util::future::join_all(sent).await {
            let accepted = answer.ok().filter(|a| a.status.as_u16() == 202);
            let id = accepted.and_then(|a| a.json()["id"].as_str().map(str::to_owned));
            promises.runs.insert(key, (body, id.map(|id| (id, position))));
        }
        decide(daemon, shim, promises, dice).await;
        promises.note_effects(daemon, shim.position());
        let ended = load::list(daemon, "/api/v1/runs?state=succeeded&limit=500").await;
        let position = shim.position();
        for run in ended {
            let id = run["id"].as_str().expect("an id").to_owned();
            if !promises.ended.iter().any(|(known, _)| *known == id) {
                promises.ended.push((id, position));
            }
        }
    }
}

async fn decide(daemon: &Daemon, shim: &Shim, promises: &mut Promises, dice: &mut Dice) {
    for approval in load::answer_people(daemon, dice).await {
        promises.decisions.push((approval, shim.position()));
    }
}

/// Three daemons one after the other on one disk: the first is killed, the second stopped.
async fn record(fake: &FakeLlm, dice: &mut Dice, runs: usize, trouble: Option<Fault>) -> Recording {
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let shim = Shim::record(&mut daemon);
    for agent in ["open", "careful"] {
        fs::create_dir_all(daemon.workspace(agent)).expect("a workspace");
        // So that a tool sees how far the disk is.
        fs::hard_link(shim.log(), daemon.workspace(agent).join("disk.log")).expect("a link");
    }
    let mut promises = Promises::default();
    let mut ready = 0;
    let of = |round: usize| round * runs..(round + 1) * runs;
    for round in 0..3 {
        daemon.run().await;
        if round == 0 {
            ready = shim.position();
        }
        work(&daemon, &shim, &mut promises, dice, of(round)).await;
        if let Some(fault) = trouble {
            // The end of a run is committed with NORMAL: it waits for the sync that will fail.
            let quiet = daemon.submit("reader", "script:say quiet").await;
            daemon.wait_for(&quiet, &["succeeded"]).await;
            shim.fail(fault);
            work(&daemon, &shim, &mut promises, dice, of(round + 3)).await;
            assert!(shim.mend() > 0, "nothing failed");
            work(&daemon, &shim, &mut promises, dice, of(round + 6)).await;
        }
        match round {
            0 => daemon.kill(),
            1 => assert_eq!(daemon.stop().await, Some(0)),
            _ => {
                load::settle(&daemon, dice).await;
                daemon.kill();
            }
        }
    }
    let log = fs::read(shim.log()).expect("the log");
    promises.note_effects(&daemon, log.len() as u64);
    let sees = load::witness(&daemon).iter().filter(|(_, at)| at.is_some()).count();
    assert!(sees > 20, "only {sees} tools saw the disk");
    Recording { records: records(&log), promises, ready, daemon }
}

/// Points of the record at which the power goes: half of them right behind a promise.
fn moments(recording: &Recording, count: usize, dice: &mut Dice) -> Vec<usize> {
    let records = &recording.records;
    let positions = recording.promises.positions();
    let at = |position: u64| records.partition_point(|record| record.end < position);
    let first = at(recording.ready);
    let failed = |record: &&Record| matches!(record.call, Call::SyncFailed);
    let failures: Vec<u64> = records.iter().filter(failed).map(|record| record.end).collect();
    if !failures.is_empty() {
        // What was promised soon after a failure is what it could have taken away.
        let mut moments: Vec<usize> = (0..count)
            .map(|_| {
                let failure = failures[dice.below(failures.len())];
                let soon = positions.iter().filter(|p| **p > failure).min_by_key(|p| **p);
                let begin = soon.map_or(at(failure), |position| at(*position));
                (begin + dice.below(AFTER_FAILURE)).min(records.len() - 1)
            })
            .collect();
        moments.sort_unstable();
        return moments;
    }
    let mut moments: Vec<usize> = (0..count)
        .map(|n| match n % 2 {
            0 => at(positions[dice.below(positions.len())]),
            _ => first + dice.below(records.len() - first),
        })
        .map(|n| n.min(records.len() - 1))
        .collect();
    moments.sort_unstable();
    moments
}

fn write_image(dir: &Path, image: &BTreeMap<String, Vec<u8>>) {
    drop(fs::remove_dir_all(dir));
    fs::create_dir_all(dir).expect("a directory");
    for (name, bytes) in image {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a directory");
        }
        let mut file = fs::OpenOptions::new();
        let file = file.create_new(true).write(true).mode(0o600).open(path);
        std::io::Write::write_all(&mut file.expect("a file"), bytes).expect("written");
    }
}

/// Names the image of a failure.
struct Which(String);

impl Drop for Which {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the image at fault: {}", self.0);
        }
    }
}

/// What has to be in an image whose power went at this position, and is not.
fn missing(recording: &Recording, truth: &Truth, position: u64) -> Vec<String> {
    let mut missing = recording.promises.broken(truth, position);
    let started: Vec<ToolCallId> = truth
        .events
        .values()
        .flatten()
        .filter_map(|event| match &event.body {
            EventBody::ToolStarted { call_id, .. } => Some(*call_id),
            _ => None,
        })
        .collect();
    for call in recording.promises.ran(position) {
        let id: ToolCallId = call.parse().expect("an id");
        if !started.contains(&id) {
            missing.push(format!("{call} ran and its intent is gone"));
        }
    }
    missing
}

#[derive(Debug, Default)]
struct Found {
    images: usize,
    /// Images in which something is missing that was promised.
    broken: Vec<String>,
    /// Images in which a run is open again that had been seen to end.
    taken_back: usize,
    drills: usize,
}

/// Goes through losses of power. With `drill` a daemon is started on some of the images.
async fn lose_power(
    recording: &Recording,
    records: &[Record],
    count: usize,
    dice: &mut Dice,
    drill: Option<&FakeLlm>,
) -> Found {
    let room = tempfile::Builder::new().prefix("art-power-").tempdir().expect("a directory");
    let dir = room.path().join("image");
    let is_control = records.len() < recording.records.len();
    let mut found = Found::default();
    let mut platter = Platter::default();
    let mut next = 0;
    // A failed fsync has lost what it has lost, whenever the power goes afterwards.
    let mut disk = dice.clone();
    for (n, moment) in moments(recording, count, dice).into_iter().enumerate() {
        let position = recording.records[moment].end;
        while records.get(next).is_some_and(|record| record.end <= position) {
            platter.take(&records[next], &mut disk);
            next += 1;
        }
        let loss = Loss::any(dice);
        let which = Which(format!("{n}, behind record {moment} at {position}, lost: {loss:?}"));
        let image = platter.image(loss, dice);
        write_image(&dir, &image);
        found.images += 1;
        if is_control && !is_readable(&dir).await {
            found.broken.push(format!("{}: nothing is left", which.0));
            continue;
        }
        // With NORMAL the checkpoints outside may be ahead of the database.
        let truth =
            if is_control { Truth::read(&dir).await } else { load::read_and_check(&dir).await };
        let missing = missing(recording, &truth, position);
        if !missing.is_empty() {
            found.broken.push(format!("{}: {missing:?}", which.0));
        }
        found.taken_back += usize::from(recording.promises.taken_back(&truth, position) > 0);
        if let Some(fake) = drill.filter(|_| n % 12 == 5 && found.broken.is_empty()) {
            start_on(fake, recording, position, &image, dice).await;
            found.drills += 1;
        }
    }
    found
}

/// Whether the image holds a database with the tables of ours.
async fn is_readable(dir: &Path) -> bool {
    let Ok(store) = ReadOnlyStore::open(dir, &Database::Sqlite).await else { return false };
    let mut reader = store.read().await.expect("a reader");
    reader.runs().claimants(None, 1).await.is_ok()
}

/// A daemon is started on the image: it does what was promised, and nothing twice.
async fn start_on(
    fake: &FakeLlm,
    recording: &Recording,
    position: u64,
    image: &BTreeMap<String, Vec<u8>>,
    dice: &mut Dice,
) {
    let mut daemon = Daemon::prepare(&fake.openai_url());
    write_image(&daemon.data_dir(), image);
    daemon.run().await;
    for (key, (body, accepted)) in &recording.promises.runs {
        let answer = load::send(&daemon, key, body).await.expect("an answer").expect(202);
        if let Some((id, _)) = accepted.as_ref().filter(|(_, at)| *at <= position) {
            assert_eq!(answer["id"], json!(id), "{key} gives another run");
        }
    }
    load::settle(&daemon, dice).await;
    let again = load::witness(&daemon).into_iter().map(|(call, _)| call);
    let ran: Vec<String> = recording.promises.ran(position).cloned().chain(again).collect();
    assert_eq!(daemon.stop().await, Some(0));
    let truth = load::read_and_check(&daemon.data_dir()).await;
    load::check_ran(&truth, ran);
    assert_eq!(truth.runs.len(), recording.promises.runs.len(), "one run for each key");
    assert!(!daemon.log().contains("does not hold the row of its last checkpoint"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_takes_nothing_that_was_acknowledged() {
    let losses = count("AGENT_RUNTIME_TEST_POWER_LOSSES", 48);
    let mut dice = Dice::new(seed());
    let fake = load::provider();
    let recording = record(&fake, &mut dice, 40, None).await;
    let found = lose_power(&recording, &recording.records, losses, &mut dice, Some(&fake)).await;
    let promises = recording.promises.positions().len();
    println!(
        "{} losses of power over {} writes and syncs, {promises} promises: {} broken; {} images \
         had lost what was only seen (NORMAL); {} daemons started on images",
        found.images,
        recording.records.len(),
        found.broken.len(),
        found.taken_back,
        found.drills,
    );
    assert!(found.broken.is_empty(), "{:#?}", found.broken);
    assert!(found.drills > 0);

    // The control. With `synchronous=NORMAL` alone the same work loses what was promised; a harness
    // that does not see that would prove nothing above.
    let weak = without_commit_syncs(&recording.records);
    let dropped = recording.records.len() - weak.len();
    assert!(dropped > 0, "every sync of a commit was kept");
    let control = lose_power(&recording, &weak, 24, &mut dice, None).await;
    println!(
        "control without {dropped} syncs: {} of {} broken",
        control.broken.len(),
        control.images
    );
    assert!(!control.broken.is_empty(), "the control lost nothing: the suite cannot see a loss");
    drop(recording.daemon);
}

/// A disk that fails one fsync has forgotten what it was about, whatever it says to the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_fsync_that_failed_and_a_loss_of_power_take_nothing_that_was_acknowledged() {
    let losses = count("AGENT_RUNTIME_TEST_POWER_LOSSES", 48);
    let mut dice = Dice::new(seed());
    let fake = load::provider();
    let trouble = Fault {
        write_errno: 0,
        sync_errno: 5,
        read_errno: 0,
        target: Target::Database,
        times: Some(1),
    };
    let recording = record(&fake, &mut dice, 12, Some(trouble)).await;
    let found = lose_power(&recording, &recording.records, losses / 2, &mut dice, None).await;
    println!("{} losses of power after failed syncs: {} broken", found.images, found.broken.len());
    assert!(found.broken.is_empty(), "{:#?}", found.broken);
}

/// The first start: there is nothing to keep yet, and whatever the power leaves is started on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_during_the_first_start_is_no_obstacle_to_the_next() {
    let mut dice = Dice::new(seed());
    let mut first = Daemon::prepare("");
    let shim = Shim::record(&mut first);
    first.run().await;
    let id = first.submit("reader", "hello").await;
    let accepted = shim.position();
    first.wait_for(&id, &["succeeded"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.kill();
    let records = records(&fs::read(shim.log()).expect("the log"));
    for n in 0..8 {
        let moment = dice.below(records.len());
        let loss = Loss::any(&mut dice);
        let _which = Which(format!("{n}, behind record {moment}, lost: {loss:?}"));
        let mut platter = Platter::default();
        for record in &records[..=moment] {
            platter.take(record, &mut dice);
        }
        let mut daemon = Daemon::prepare("");
        write_image(&daemon.data_dir(), &platter.image(loss, &mut dice));
        daemon.run().await;
        if records[moment].end >= accepted {
            daemon.wait_for(&id, &["succeeded"]).await;
        }
        let again = daemon.submit("reader", "again").await;
        daemon.wait_for(&again, &["succeeded"]).await;
        assert_eq!(daemon.stop().await, Some(0));
        load::read_and_check(&daemon.data_dir()).await;
    }
}
