//! What goes with time, what stays, and that the trail stays whole.

use std::{io::Cursor, sync::Arc, time::Duration};

use super::*;
use crate::{
    auth::{ManageRetention, Permit, ReadAudit, SeeRetention, trail::verify_export},
    domain::{ConversationId, HoldKind, ManualClock, RetentionClass, Role},
    orchestrator::tests::{Fixture, cx_of, fresh, idle_at},
    store::AuditFilter,
};

const DAY: Duration = Duration::from_secs(86_400);

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

async fn set(f: &Fixture, class: RetentionClass, days: Option<u32>) {
    f.orchestrator.set_retention(overlord(f), class, days, None).await.unwrap();
}

#[tokio::test]
async fn users_work_stays_until_the_operator_says_otherwise_and_then_only_what_is_over_goes() {
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let f = idle_at(Arc::clone(&clock)).await;
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
    let f = idle_at(Arc::clone(&clock)).await;
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
    let f = idle_at(Arc::clone(&clock)).await;
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
    let f = idle_at(Arc::new(ManualClock::at_secs(1_800_000_000))).await;
    let turn = f.orchestrator.inner.keeper.take_turn().unwrap();
    let refused = f.orchestrator.run_retention(overlord(&f), false).await.unwrap_err();
    assert!(refused.to_string().contains("being removed just now"), "{refused}");
    drop(turn);
    remove(&f, false).await;
}
