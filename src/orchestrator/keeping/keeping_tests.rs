//! What goes with time, what stays, whose data goes, and that the trail stays whole.
//!
//! This text is two modules: `tests` runs on SQLite, `tests_on_postgres` on Postgres.

#[path = "person_tests.rs"]
mod persons;

use std::{io::Cursor, ops::Deref, sync::Arc, time::Duration};

use super::*;
use crate::{
    auth::{ManageRetention, Permit, ReadAudit, SeeRetention, trail::verify_export},
    domain::{
        Author, ConversationId, HoldKind, ManualClock, Part, RetentionClass, Role, RunId,
        audit::Checkpoint,
    },
    orchestrator::{
        Inner,
        tests::{Fixture, cx_of, fresh, idle_on},
    },
    store::{AuditFilter, Database, Durability, StoreError, test_server},
};

const DAY: Duration = Duration::from_secs(86_400);

/// A daemon that works on nothing, and the database that it has, if that is not a file.
struct Scene {
    f: Fixture,
    _database: Option<test_server::Database>,
}

impl Deref for Scene {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.f
    }
}

async fn scene_at(clock: &Arc<ManualClock>) -> Scene {
    let database =
        module_path!().contains("postgres").then(|| test_server::Server::shared().database());
    let place = match &database {
        Some(database) => Database::Postgres(database.socket_url().parse().unwrap()),
        None => Database::Sqlite,
    };
    Scene { f: idle_on(place, Arc::clone(clock)).await, _database: database }
}

async fn scene() -> Scene {
    scene_at(&Arc::new(ManualClock::at_secs(1_800_000_000))).await
}

fn overlord(f: &Fixture) -> Permit<ManageRetention> {
    f.orchestrator.authorizer().manage(&cx_of("root", Role::Overlord)).unwrap()
}

/// A conversation with a run that has ended, or still waits.
async fn conversation(f: &Fixture, has_ended: bool) -> ConversationId {
    let run = f.queued().await;
    if has_ended {
        f.cancelled(run.id).await;
    }
    run.conversation_id
}

async fn exists(f: &Fixture, id: ConversationId) -> bool {
    let mut reader = f.orchestrator.inner.store.read().await.unwrap();
    reader.conversations().get(id).await.unwrap().is_some()
}

async fn remove(f: &Fixture, dry_run: bool) -> RetentionReport {
    f.orchestrator.run_retention(overlord(f), dry_run).await.unwrap()
}

async fn write<T: Send + 'static>(
    inner: &Inner,
    work: impl for<'t> FnOnce(
        &'t mut crate::store::Tx,
    ) -> crate::store::JobFuture<'t, Result<T, StoreError>>
    + Send
    + 'static,
) -> T {
    inner.store.write(Durability::Normal, work).await.unwrap()
}

async fn verified(f: &Fixture) -> crate::auth::trail::Report {
    let permit: Permit<ReadAudit> =
        f.orchestrator.authorizer().manage(&cx_of("ann", Role::Admin)).unwrap();
    f.orchestrator.verify_trail(&permit).await.unwrap()
}

async fn set(f: &Fixture, class: RetentionClass, days: Option<u32>) {
    f.orchestrator.set_retention(overlord(f), class, days, None).await.unwrap();
}

#[tokio::test]
async fn users_work_stays_until_the_operator_says_otherwise_and_then_only_what_is_over_goes() {
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let f = scene_at(&clock).await;
    let over = conversation(&f, true).await;
    let in_use = conversation(&f, false).await;
    let kept = conversation(&f, true).await;
    let subject = (HoldKind::Conversation, kept.to_string());
    let hold = f.orchestrator.hold(overlord(&f), subject.clone(), None, None).await;
    assert_eq!(fresh(hold.unwrap()).subject, kept.to_string());
    clock.advance(DAY * 40);
    assert!(!remove(&f, false).await.removed.contains_key("conversations"));
    set(&f, RetentionClass::Conversations, Some(30)).await;
    let report = remove(&f, true).await;
    assert_eq!((report.removed.get("conversations.unused"), report.held), (Some(&1), 1));
    assert!(exists(&f, over).await, "a dry run removes nothing");
    let report = remove(&f, false).await;
    assert_eq!(report.removed.get("conversations"), Some(&1), "{report:?}");
    assert!(report.removed.get("events").is_some_and(|rows| *rows > 0), "{report:?}");
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!(
        [exists(&f, over).await, exists(&f, in_use).await, exists(&f, kept).await],
        [false, true, true]
    );
    f.orchestrator.lift_hold(overlord(&f), subject.0, subject.1.clone()).await.unwrap();
    assert!(f.orchestrator.lift_hold(overlord(&f), subject.0, subject.1).await.is_err());
    remove(&f, false).await;
    assert_eq!([exists(&f, in_use).await, exists(&f, kept).await], [true, false]);
    let permit: Permit<SeeRetention> =
        f.orchestrator.authorizer().manage(&cx_of("ann", Role::Admin)).unwrap();
    let view = f.orchestrator.retention(&permit).await.unwrap();
    assert_eq!((view.days.conversations, view.configured.conversations), (30, 0));
    set(&f, RetentionClass::Conversations, None).await;
    assert_eq!(f.orchestrator.retention(&permit).await.unwrap().days.conversations, 0);
}

#[tokio::test]
async fn the_old_end_of_the_audit_trail_goes_by_a_signed_cut_and_the_rest_still_verifies() {
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let f = scene_at(&clock).await;
    for _ in 0..3 {
        conversation(&f, true).await;
        f.orchestrator.sign_trail().await.unwrap();
        clock.advance(DAY);
    }
    clock.advance(DAY * 2_555);
    conversation(&f, true).await;
    f.orchestrator.sign_trail().await.unwrap();
    let counted = remove(&f, true).await;
    let report = remove(&f, false).await;
    let cut = report.audit_cut.expect("something is old");
    assert_eq!(report.removed.get("audit"), Some(&cut));
    assert_eq!(counted.audit_cut, Some(cut));
    let permit: Permit<ReadAudit> =
        f.orchestrator.authorizer().manage(&cx_of("ann", Role::Admin)).unwrap();
    let verified = f.orchestrator.verify_trail(&permit).await.unwrap();
    assert!(verified.ok, "{verified:?}");
    assert_eq!(verified.removed, cut);
    let mut reader = f.orchestrator.inner.store.read().await.unwrap();
    let first = reader.audit().query(&AuditFilter::default(), 1).await.unwrap();
    assert_eq!(first.first().map(|row| row.n), Some(cut + 1));
    drop(reader);
    // An export, on another machine.
    let (mut text, mut after) = (String::new(), Some(0));
    while let Some(from) = after {
        let piece = f.orchestrator.export_trail(&permit, from).await.unwrap();
        text += &piece.text().unwrap();
        after = piece.next;
    }
    let keys = f.orchestrator.inner.signer.keys();
    let check = |text: &str| verify_export(Cursor::new(text), Some(keys)).unwrap();
    assert!(check(&text).ok, "{:?}", check(&text));
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.contains("\"cut\""), "{first}");
    assert!(!check(rest).ok, "without its cut the export is cut off");
    let moved = first.replace(&format!("\"n\":{cut}"), &format!("\"n\":{}", cut + 1));
    assert!(!check(&format!("{moved}\n{rest}")).ok);
    // Again: nothing is old any more, and the daemon's look at the end finds what it looks for.
    assert_eq!(remove(&f, false).await.audit_cut, None);
}

#[tokio::test]
async fn a_hold_on_a_principal_keeps_the_audit_trail_whole() {
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let f = scene_at(&clock).await;
    for _ in 0..2 {
        conversation(&f, true).await;
        f.orchestrator.sign_trail().await.unwrap();
    }
    let alice = crate::auth::authn::principal_id_of("alice").to_string();
    f.orchestrator.hold(overlord(&f), (HoldKind::Principal, alice), None, None).await.unwrap();
    clock.advance(DAY * 3_000);
    set(&f, RetentionClass::Conversations, Some(1)).await;
    let report = remove(&f, false).await;
    assert_eq!((report.audit_cut, report.held), (None, 2), "{report:?}");
    assert_eq!(report.problems.len(), 1, "{report:?}");
}

#[tokio::test]
async fn only_one_removes_at_a_time() {
    let f = scene().await;
    let turn = f.orchestrator.inner.keeper.take_turn().unwrap();
    let refused = f.orchestrator.run_retention(overlord(&f), false).await.unwrap_err();
    assert!(refused.to_string().contains("being removed just now"), "{refused}");
    drop(turn);
    remove(&f, false).await;
}

#[tokio::test(start_paused = true)]
async fn batches_shrink_when_they_take_long_and_grow_again() {
    let mut pace = Pace::new();
    let first = pace.begin();
    tokio::time::advance(Duration::from_millis(50)).await;
    pace.end().await;
    let second = pace.begin();
    assert!(second < first);
    pace.end().await;
    assert!(pace.begin() > second);
    let (slow, fast) = (Duration::from_secs(1), Duration::ZERO);
    let mut rows = Pace { rows: Pace::ROWS_MIN, ..pace };
    assert_eq!(rows.next(slow), Pace::ROWS_MIN);
    rows.rows = Pace::ROWS_MAX;
    assert_eq!(rows.next(fast), Pace::ROWS_MAX);
}

/// A trail whose old end was cut off; how many rows.
async fn cut(f: &Fixture, clock: &ManualClock) -> u64 {
    for _ in 0..3 {
        conversation(f, true).await;
        f.orchestrator.sign_trail().await.unwrap();
        clock.advance(DAY);
    }
    clock.advance(DAY * 2_555);
    conversation(f, true).await;
    f.orchestrator.sign_trail().await.unwrap();
    let cut = remove(f, false).await.audit_cut.expect("something is old");
    assert!(verified(f).await.ok);
    cut
}

#[tokio::test]
async fn behind_a_cut_a_changed_row_is_found() {
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let f = scene_at(&clock).await;
    let cut = cut(&f, &clock).await;
    let inner = &f.orchestrator.inner;
    write(inner, move |tx| {
        Box::pin(async move { tx.erasures().replace_audit_row(cut + 2, "somebody", "{}").await })
    })
    .await;
    let report = verified(&f).await;
    assert!(!report.ok && report.rows == cut + 1, "{report:?}");
    let changed = format!("row {} was changed", cut + 2);
    assert!(report.problems.iter().any(|p| p.contains(&changed)), "{report:?}");
}

#[tokio::test]
async fn behind_a_cut_more_missing_rows_than_were_signed_are_found_and_it_never_moves_back() {
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let f = scene_at(&clock).await;
    let first = cut(&f, &clock).await;
    let inner = &f.orchestrator.inner;
    let stored = inner.store.read().await.unwrap().checkpoints().cut().await.unwrap().unwrap();
    assert_eq!(stored.n, first);
    // Another replica that decided on an older row is late.
    let older = Checkpoint { n: first - 1, ..stored.clone() };
    let is_moved =
        write(inner, move |tx| Box::pin(async move { tx.checkpoints().put_cut(&older).await }))
            .await;
    let now = inner.store.read().await.unwrap().checkpoints().cut().await.unwrap().unwrap();
    assert!(!is_moved && now == stored, "{now:?}");
    assert!(verified(&f).await.ok);
    write(inner, move |tx| {
        Box::pin(async move { tx.keeping().remove_cut_rows(first + 1, 100).await })
    })
    .await;
    let report = verified(&f).await;
    assert!(!report.ok, "{report:?}");
    let moved = format!("row {} stands where row {} should", first + 2, first + 1);
    assert!(report.problems.iter().any(|p| p.contains(&moved)), "{report:?}");
}

/// Puts many messages into a conversation.
async fn fill(f: &Fixture, id: ConversationId, messages: u32) {
    for _ in 0..messages / 500 {
        write(&f.orchestrator.inner, move |tx| {
            Box::pin(async move {
                let run = RunId::new(tx.ids());
                for _ in 0..500 {
                    let seq = tx.reserve(id).await?;
                    let text = "x".repeat(200);
                    tx.message(id, seq, run, Author::User, vec![Part::Text { text }]);
                }
                Ok(())
            })
        })
        .await;
    }
}

/// How long it takes to record something.
async fn write_one(inner: &Inner) -> Duration {
    let began = Instant::now();
    write(inner, |tx| {
        Box::pin(async move {
            tx.audit(entry(AuditKind::Retention, None, serde_json::json!({ "what": "else" })));
            Ok(())
        })
    })
    .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_much_is_removed_others_write_on() {
    const MESSAGES: u32 = 20_000;
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let f = scene_at(&clock).await;
    let over = conversation(&f, true).await;
    fill(&f, over, MESSAGES).await;
    clock.advance(DAY * 40);
    set(&f, RetentionClass::Conversations, Some(30)).await;
    let inner = Arc::clone(&f.orchestrator.inner);
    // What one write takes by itself on this machine, now.
    let mut alone = Vec::new();
    for _ in 0..50 {
        alone.push(write_one(&inner).await);
    }
    let removing = inner.detached({
        let inner = Arc::clone(&inner);
        async move { inner.remove_old(false).await }
    });
    tokio::pin!(removing);
    let (mut waits, mut report) = (Vec::new(), None);
    while report.is_none() {
        // What is removed goes on meanwhile: it has its own task.
        waits.push(write_one(&inner).await);
        tokio::select! {
            biased;
            done = &mut removing => report = Some(done.unwrap()),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    let report = report.unwrap();
    assert!(
        report.removed.get("messages").is_some_and(|n| *n >= u64::from(MESSAGES)),
        "{report:?}"
    );
    assert!(!exists(&f, over).await);
    alone.sort();
    waits.sort();
    let (count, median) = (waits.len(), waits[waits.len() / 2]);
    let (max, alone) = (waits[count - 1], alone[alone.len() - 1]);
    println!(
        "{count} writes beside {MESSAGES} removals in {} ms: median {median:?}, max {max:?}; alone max \
         {alone:?}",
        report.took_ms
    );
    // At least one write went between two batches of the largest size, on average.
    assert!(count >= usize::try_from(MESSAGES / Pace::ROWS_MAX).unwrap(), "{count}: {waits:?}");
    // A batch aims at 20 ms; what the disk takes at times is the disk's.
    assert!(median < Pace::BATCH_TIME * 5 + alone, "{median:?} {alone:?}");
    assert!(max < Duration::from_secs(1) + alone * 5, "{max:?} {alone:?}");
}
