//! The store on a real file and on a real server: what is kept, what is refused, what a crash or a
//! neighbour does.
//!
//! This text is two modules: `tests` runs on SQLite, `tests_on_postgres` on Postgres. A test that
//! only one of them can pass is in `tests_of_one`.

#[path = "tests/dump.rs"]
pub(super) mod dump;
#[path = "tests/egress_rules.rs"]
mod egress_rules;
#[path = "tests/limits.rs"]
mod limits;
#[path = "tests/policies.rs"]
mod policies;
#[path = "tests/replicas.rs"]
mod replicas;
#[path = "tests/versions.rs"]
mod versions;

use std::{path::Path, sync::Arc, sync::Mutex};

use serde_json::json;
use tempfile::TempDir;

use super::{audit::Verifier, *};
use crate::{
    domain::{
        AuditKind, Author, ConversationId, Day, EventBody, ManualClock, Part, PrincipalId, Run,
        RunId, RunLimits, RunState, Surface, Timestamp, Usage, Usd, UserInput,
    },
    runtime::Stop,
};

fn random(bytes: &mut [u8; 10]) {
    getrandom::fill(bytes).expect("randomness");
}

pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) ids: IdSource,
    pub(super) seen: Arc<Mutex<Vec<u64>>>,
    pub(super) tasks: Tasks,
    pub(super) redactor: Redactor,
}

/// Where a store is: a directory, and on Postgres a database.
pub(super) struct Place {
    pub(super) dir: TempDir,
    pub(super) database: Option<test_server::Database>,
}

impl Place {
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Beside the lock: which database belongs to the directory.
pub(super) const ADDRESS: &str = "address";

pub(super) async fn open(dir: &Path) -> Result<Fixture, OpenError> {
    let tasks = Tasks::new(Stop::default());
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let ids = IdSource::new(clock.clone(), random);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let redactor = Redactor::default();
    let heard = Arc::clone(&seen);
    let options = Options {
        data_dir: dir.to_owned(),
        database: match std::fs::read_to_string(dir.join(ADDRESS)) {
            Ok(url) => Database::Postgres(url.parse().expect("an address")),
            Err(_) => Database::Sqlite,
        },
        clock,
        ids: ids.clone(),
        redactor: redactor.clone(),
        on_commit: Arc::new(move |events: &[Committed]| {
            heard.lock().unwrap().extend(events.iter().map(|e| e.event.seq));
        }),
    };
    // A process that another test is just starting has our descriptors until it runs its program.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
    let store = loop {
        match Store::open(options.clone(), &tasks).await {
            Err(OpenError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            other => break other?,
        }
    };
    Ok(Fixture { store, ids, seen, tasks, redactor })
}

pub(super) fn directory() -> Place {
    if module_path!().contains("postgres") { on_postgres() } else { on_sqlite() }
}

pub(super) fn on_sqlite() -> Place {
    Place { dir: tempfile::tempdir().expect("a directory"), database: None }
}

pub(super) fn on_postgres() -> Place {
    in_database(test_server::Server::shared().database())
}

pub(super) fn in_database(database: test_server::Database) -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join(ADDRESS), database.socket_url()).expect("a file");
    Place { dir, database: Some(database) }
}

pub(super) fn run(ids: &IdSource) -> (RunCore, Run) {
    let at = Timestamp::from_micros(1_800_000_000_000_000);
    let core = RunCore {
        id: RunId::new(ids),
        conversation_id: ConversationId::new(ids),
        agent: "default".to_owned(),
        agent_version: "1".to_owned(),
        principal: PrincipalId::new(ids),
        surface: Surface::Api,
        state: RunState::Queued,
        wait_reason: None,
        epoch: 0,
        owner: None,
        seq: 0,
        step: 0,
        ready: true,
        recoveries: 0,
        backoffs: 0,
        interrupt: None,
        steers_waiting: 0,
        usage: Usage::default(),
        held_tokens: 0,
        held_cost: Usd::ZERO,
        held_day: Day::default(),
        limits: RunLimits::default(),
        worked_ms: 0,
        wake_at: None,
        confinement: None,
        tainted: false,
        head_bundle_id: None,
        created_at: at,
        started_at: None,
        ended_at: None,
        ending: None,
    };
    let run = Run {
        id: core.id,
        conversation_id: core.conversation_id,
        agent: core.agent.clone(),
        state: core.state,
        wait_reason: None,
        input: UserInput::Text("hello".to_owned()),
        output: None,
        error: None,
        seq: 0,
        epoch: 0,
        usage: core.usage,
        confinement: None,
        tainted: false,
        parent_run_id: None,
        retry_of: None,
        principal: core.principal,
        surface: core.surface,
        metadata: std::collections::BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        limits: core.limits,
        base_bundle_id: None,
        created_at: at,
        started_at: None,
        ended_at: None,
    };
    (core, run)
}

async fn insert(f: &Fixture, fails: bool) -> Result<RunId, StoreError> {
    insert_as(f, Durability::Normal, fails).await
}

pub(super) async fn insert_as(
    f: &Fixture,
    durability: Durability,
    fails: bool,
) -> Result<RunId, StoreError> {
    let (mut core, run) = run(&f.ids);
    f.store
        .write(durability, move |tx| {
            Box::pin(async move {
                let id = core.id;
                let body = EventBody::RunCreated {
                    agent: "a".to_owned(),
                    input: "i".to_owned(),
                    retry_of: None,
                };
                tx.event(&mut core, body)?;
                tx.joined_queue(core.principal);
                tx.message(
                    core.conversation_id,
                    1,
                    id,
                    Author::User,
                    vec![Part::Text { text: "hello".to_owned() }],
                );
                tx.audit(entry(json!({"run": id})));
                tx.runs().insert(&core, &run);
                if fails { Err(StoreError::Stale { what: "test".to_owned() }) } else { Ok(id) }
            })
        })
        .await
}

pub(super) fn entry(data: serde_json::Value) -> AuditEntry {
    AuditEntry {
        kind: AuditKind::Control,
        actor: "test".to_owned(),
        surface: Surface::System,
        run_id: None,
        request_id: None,
        data,
    }
}

#[tokio::test]
async fn a_run_comes_back_as_it_was_stored() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let (mut core, run) = run(&f.ids);
    let (id, expected) = (core.id, run.clone());
    f.store
        .write(Durability::Full, move |tx| {
            Box::pin(async move {
                tx.runs().insert(&core, &run);
                core.state = RunState::Running;
                core.epoch = 1;
                tx.runs().save(&core, 0).await
            })
        })
        .await
        .unwrap();
    let found = f.store.read().await.unwrap().runs().get(id).await.unwrap();
    assert_eq!(found, Some(Run { state: RunState::Running, epoch: 1, ..expected }));
}

#[tokio::test]
async fn what_the_writer_knows_of_a_run_is_what_the_store_holds() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let id = insert(&f, false).await.unwrap();
    for fails in [false, true] {
        let result = f.store.write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let mut core = tx.runs().core(id).await?.expect("the run");
                core.step += 1;
                tx.runs().save(&core, 0).await?;
                if fails { Err(StoreError::Stale { what: "test".to_owned() }) } else { Ok(()) }
            })
        });
        assert_eq!(result.await.is_err(), fails);
        let known = f
            .store
            .write(Durability::Normal, move |tx| Box::pin(async move { tx.runs().core(id).await }));
        let known = known.await.unwrap();
        let stored = f.store.read().await.unwrap().runs().core(id).await.unwrap();
        assert_eq!(known, stored);
        assert_eq!(known.map(|core| core.step), Some(1));
    }
}

#[tokio::test]
async fn a_write_under_an_old_epoch_is_stale_and_changes_nothing() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let id = insert(&f, false).await.unwrap();
    let result: Result<(), StoreError> = f
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let mut core = tx.runs().core(id).await?.expect("the run");
                core.state = RunState::Failed;
                tx.runs().save(&core, 7).await
            })
        })
        .await;
    assert!(matches!(result, Err(StoreError::Stale { .. })));
    let core = f.store.read().await.unwrap().runs().core(id).await.unwrap().unwrap();
    assert_eq!(core.state, RunState::Queued);
}

#[tokio::test]
async fn a_failing_job_leaves_nothing_behind_and_its_neighbours_stand() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let jobs = (0..60).map(|n| insert(&f, n % 3 == 0));
    let results = futures_util::future::join_all(jobs).await;
    let kept: Vec<RunId> = results.iter().filter_map(|r| r.as_ref().ok().copied()).collect();
    assert_eq!(kept.len(), 40);
    let mut reader = f.store.read().await.unwrap();
    let listed =
        reader.runs().list(&RunFilter::default(), &Page::new(Some(500), None)).await.unwrap();
    assert_eq!(listed.items.len(), 40);
    for id in &kept {
        assert_eq!(reader.events().of_run(*id, 0, 10).await.unwrap().len(), 1);
    }
    let rows = reader.audit().query(&AuditFilter::default(), 500).await.unwrap();
    assert_eq!(rows.len(), 40);
    let mut verifier = Verifier::default();
    for row in &rows {
        verifier.check(row).unwrap();
    }
    assert_eq!(f.seen.lock().unwrap().len(), 40, "only what was committed is announced");
    let queued = f
        .store
        .write(Durability::Normal, |tx| Box::pin(async move { Ok::<_, StoreError>(tx.queued()) }));
    assert_eq!(queued.await.unwrap(), 40);
}

#[tokio::test]
async fn a_failing_job_that_flushed_takes_nothing_of_its_neighbours() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let failing = f.store.write(Durability::Normal, |tx| {
        Box::pin(async move {
            tx.flush().await?;
            tx.audit(entry(json!({"run": "none"})));
            Err::<(), _>(StoreError::Stale { what: "test".to_owned() })
        })
    });
    let (first, failed, second) = tokio::join!(insert(&f, false), failing, insert(&f, false));
    assert!(matches!(failed, Err(StoreError::Stale { .. })));
    let mut reader = f.store.read().await.unwrap();
    for id in [first.unwrap(), second.unwrap()] {
        assert_eq!(reader.events().of_run(id, 0, 10).await.unwrap().len(), 1);
    }
    let rows = reader.audit().query(&AuditFilter::default(), 10).await.unwrap();
    assert_eq!(rows.len(), 2);
    let mut verifier = Verifier::default();
    for row in &rows {
        verifier.check(row).unwrap();
    }
}

/// Takes the next number in a thread, or in a new one; optionally fails.
async fn number(
    f: &Fixture,
    thread: Option<ConversationId>,
    fails: bool,
) -> Result<(ConversationId, u64), StoreError> {
    let owner = PrincipalId::new(&f.ids);
    f.store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let id = if let Some(id) = thread {
                    id
                } else {
                    let new = tx.new_conversation(owner);
                    tx.conversations().put(&new).await?;
                    new.id
                };
                let seq = tx.reserve(id).await?;
                if fails {
                    Err(StoreError::Stale { what: "test".to_owned() })
                } else {
                    Ok((id, seq))
                }
            })
        })
        .await
}

#[tokio::test]
async fn numbers_of_messages_have_no_gap_and_a_failed_job_gives_its_own_back() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let (id, seq) = number(&f, None, false).await.unwrap();
    assert_eq!(seq, 1);
    let (a, failed, b) = tokio::join!(
        number(&f, Some(id), false),
        number(&f, Some(id), true),
        number(&f, Some(id), false)
    );
    assert_eq!((a.unwrap().1, failed.is_err(), b.unwrap().1), (2, true, 3));
    number(&f, Some(id), true).await.unwrap_err();
    assert_eq!(number(&f, Some(id), false).await.unwrap().1, 4);
    let stored = f.store.read().await.unwrap().conversations().get(id).await.unwrap();
    assert_eq!(stored.unwrap().last_seq, 4, "the row says what was given");
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_the_chain_goes_on() {
    let dir = directory();
    let first = open(dir.path()).await.unwrap();
    insert(&first, false).await.unwrap();
    let boot = first.store.boot_epoch();
    first.tasks.stop().hard();
    first.tasks.wait().await;
    drop(first);
    let second = open(dir.path()).await.unwrap();
    assert_eq!(second.store.boot_epoch(), boot + 1);
    insert(&second, false).await.unwrap();
    let mut reader = second.store.read().await.unwrap();
    let rows = reader.audit().query(&AuditFilter::default(), 10).await.unwrap();
    let mut verifier = Verifier::default();
    for row in &rows {
        verifier.check(row).unwrap();
    }
    assert_eq!(verifier.end().0, 2);
}

#[tokio::test]
async fn an_edited_dropped_or_reordered_audit_row_is_found() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    for n in 0..5 {
        f.store.audit(entry(json!({"n": n}))).await.unwrap();
    }
    let mut reader = f.store.read().await.unwrap();
    let rows = reader.audit().query(&AuditFilter::default(), 10).await.unwrap();
    let verify = |rows: &[crate::domain::audit::AuditRow]| {
        let mut verifier = Verifier::default();
        rows.iter().try_for_each(|row| verifier.check(row))
    };
    assert_eq!(verify(&rows), Ok(()));
    let mut edited = rows.clone();
    edited[2].data = json!({"n": 7});
    assert_eq!(verify(&edited), Err(audit::ChainError::Changed { n: 3 }));
    let mut dropped = rows.clone();
    dropped.remove(2);
    assert_eq!(verify(&dropped), Err(audit::ChainError::Order { expected: 3, found: 4 }));
    let mut swapped = rows;
    swapped.swap(1, 2);
    assert!(verify(&swapped).is_err());
}

#[tokio::test]
async fn a_second_owner_of_the_directory_is_refused() {
    let dir = directory();
    let _first = open(dir.path()).await.unwrap();
    let second = open(dir.path()).await.err().expect("refused");
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
}

#[tokio::test]
async fn pages_walk_every_row_once_newest_first() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    for _ in 0..7 {
        insert(&f, false).await.unwrap();
    }
    let mut reader = f.store.read().await.unwrap();
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = Page::new(Some(3), cursor);
        let paged = reader.runs().list(&RunFilter::default(), &page).await.unwrap();
        seen.extend(paged.items.iter().map(|r| r.id.to_string()));
        cursor = paged.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    sorted.reverse();
    assert_eq!(seen, sorted);
    assert_eq!(seen.len(), 7);
}

#[tokio::test]
async fn a_registered_secret_reaches_no_event_and_no_audit_row() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    f.redactor.register("canary-secret-value");
    let (mut core, run) = run(&f.ids);
    let id = core.id;
    f.store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let input = "my key is canary-secret-value".to_owned();
                let body = EventBody::RunCreated { agent: "a".to_owned(), input, retry_of: None };
                tx.event(&mut core, body)?;
                tx.audit(entry(json!({"note": "canary-secret-value"})));
                tx.runs().insert(&core, &run);
                Ok::<(), StoreError>(())
            })
        })
        .await
        .unwrap();
    let mut reader = f.store.read().await.unwrap();
    let event = reader.events().of_run(id, 0, 1).await.unwrap().remove(0);
    let row = reader.audit().query(&AuditFilter::default(), 1).await.unwrap().remove(0);
    for text in [serde_json::to_string(&event).unwrap(), serde_json::to_string(&row).unwrap()] {
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("[redacted]"), "{text}");
    }
}

#[tokio::test]
async fn a_job_that_fails_after_a_flush_takes_no_neighbour_with_it() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let flushing = |_| {
        f.store.write(Durability::Normal, |tx| {
            Box::pin(async move {
                tx.flush().await?;
                tx.audit(entry(json!({"fails": true})));
                Err::<RunId, _>(StoreError::Stale { what: "test".to_owned() })
            })
        })
    };
    let (kept, failed) = futures_util::future::join(
        futures_util::future::join_all((0..20).map(|_| insert(&f, false))),
        futures_util::future::join_all((0..3).map(flushing)),
    )
    .await;
    assert!(failed.iter().all(Result::is_err));
    let more = futures_util::future::join_all((0..20).map(|_| insert(&f, false))).await;
    let mut reader = f.store.read().await.unwrap();
    for id in kept.into_iter().chain(more) {
        assert_eq!(reader.events().of_run(id.unwrap(), 0, 10).await.unwrap().len(), 1);
    }
    let rows = reader.audit().query(&AuditFilter::default(), 500).await.unwrap();
    assert_eq!(rows.len(), 40);
    let mut verifier = Verifier::default();
    rows.iter().try_for_each(|row| verifier.check(row)).unwrap();
}
