//! Persons: held, erased step by step and again, exported.

use super::*;
use crate::{
    auth::{ErasePersons, ExportPersons, ManagePrincipals},
    domain::{Erasure, ErasureId, PrincipalId, Scopes, Surface},
    orchestrator::{
        CommandError, NewErasure,
        identities::NewPrincipal,
        keeping::{ErasureView, ExportPlace, steps},
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody whom the configuration does not know.
async fn person(f: &Fixture, name: &str, role: Role) -> CallContext {
    let permit: Permit<ManagePrincipals> =
        f.orchestrator.authorizer().manage(&cx_of("root", Role::Overlord)).unwrap();
    let new = NewPrincipal { name: name.to_owned(), role, scopes: Scopes::default() };
    let made = fresh(f.orchestrator.create_principal(permit, new, None).await.unwrap());
    let mut cx = cx_of(name, role);
    cx.principal.id = made.id;
    cx
}

/// A run of somebody's in a conversation, or in a new one; it has ended.
async fn run(
    f: &Fixture,
    cx: &CallContext,
    conversation: Option<ConversationId>,
) -> ConversationId {
    let run = f.create_as(cx, conversation).await;
    f.ended_by_root(run.id).await;
    run.conversation_id
}

fn may_erase(f: &Fixture) -> Permit<ErasePersons> {
    f.orchestrator.authorizer().manage(&cx_of("root", Role::Overlord)).unwrap()
}

async fn erase(f: &Fixture, id: PrincipalId) -> Result<ErasureView, CommandError> {
    let done = f.orchestrator.erase(may_erase(f), id, NewErasure::default(), None).await;
    done.map(fresh)
}

/// Waits until an erasure has ended.
async fn ended(f: &Fixture, id: ErasureId) -> Erasure {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = f.orchestrator.inner.store.read().await.unwrap().erasures().get(id).await;
        let found = found.unwrap().unwrap();
        if found.ended_at.is_some() {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn code(error: &CommandError) -> &str {
    match error {
        CommandError::Conflict { code, .. } => code,
        CommandError::NotFound { what } => what,
        _ => "another",
    }
}

async fn hold(f: &Fixture, kind: HoldKind, subject: String) {
    f.orchestrator.hold(overlord(f), (kind, subject), None, None).await.unwrap();
}

async fn lift(f: &Fixture, kind: HoldKind, subject: String) {
    f.orchestrator.lift_hold(overlord(f), kind, subject).await.unwrap();
}

#[tokio::test]
async fn who_has_part_in_what_is_held_is_not_erased() {
    let f = scene().await;
    let zita = person(&f, "zita", Role::Operator).await;
    let olga = person(&f, "another olga", Role::Operator).await;
    let bob = person(&f, "another bob", Role::Operator).await;
    let hers = run(&f, &zita, None).await;
    run(&f, &olga, Some(hers)).await;
    let bobs = run(&f, &bob, None).await;
    run(&f, &zita, Some(bobs)).await;
    let refused = async || code(&erase(&f, zita.principal.id).await.unwrap_err()).to_owned();
    for (kind, subject) in [
        (HoldKind::Principal, zita.principal.id.to_string()),
        (HoldKind::Principal, olga.principal.id.to_string()),
        (HoldKind::Principal, bob.principal.id.to_string()),
        (HoldKind::Conversation, hers.to_string()),
        (HoldKind::Conversation, bobs.to_string()),
    ] {
        hold(&f, kind, subject.clone()).await;
        assert_eq!(refused().await, "erase.held", "{kind:?}");
        lift(&f, kind, subject).await;
    }
    // A hold on somebody who has nothing to do with it is in nobody's way.
    let other = person(&f, "a third", Role::Operator).await;
    run(&f, &other, None).await;
    hold(&f, HoldKind::Principal, other.principal.id.to_string()).await;
    let done = ended(&f, erase(&f, zita.principal.id).await.unwrap().id.unwrap()).await;
    assert!(done.principal.is_none() && done.names.is_empty(), "{done:?}");
    assert!(!exists(&f, hers).await && exists(&f, bobs).await);
    assert!(verified(&f).await.ok);
}

#[tokio::test]
async fn a_hold_that_comes_in_the_middle_of_an_erasure_stops_it_until_it_is_lifted() {
    let f = scene().await;
    let zita = person(&f, "zita", Role::Operator).await;
    let olga = person(&f, "another olga", Role::Operator).await;
    let hers = run(&f, &zita, None).await;
    run(&f, &olga, Some(hers)).await;
    let held = olga.principal.id.to_string();
    hold(&f, HoldKind::Principal, held.clone()).await;
    // It was asked for before.
    let erasure = asked(&f, zita.principal.id).await;
    let inner = Arc::clone(&f.orchestrator.inner);
    let refused = inner.carry_out(erasure.clone()).await.unwrap_err();
    assert_eq!(code(&refused), "erase.held");
    // Not by an older look either: where the rows go it is looked once more.
    let mut late = Erasure { step: "conversations".to_owned(), ..erasure.clone() };
    let refused = inner.step(&mut late, &mut None).await;
    assert!(refused.is_err() && exists(&f, hers).await, "{refused:?}");
    let removed = inner.remove_conversation(hers, &mut BTreeMap::new()).await;
    assert!(matches!(removed, Err(StoreError::Stale { .. })), "{removed:?}");
    assert!(exists(&f, hers).await);
    lift(&f, HoldKind::Principal, held).await;
    inner.carry_out(erasure.clone()).await.unwrap();
    ended(&f, erasure.id).await;
    assert!(!exists(&f, hers).await && verified(&f).await.ok);
}

/// The row of an erasure that nobody was told of.
async fn asked(f: &Fixture, id: PrincipalId) -> Erasure {
    let inner = &f.orchestrator.inner;
    write(inner, move |tx| {
        Box::pin(async move {
            let erasure = Erasure {
                id: ErasureId::new(tx.ids()),
                principal: Some(id),
                names: vec!["zita".to_owned()],
                pseudonym: PrincipalId::new(tx.ids()),
                step: steps::FIRST.to_owned(),
                place: String::new(),
                counts: BTreeMap::new(),
                asked_at: tx.now(),
                asked_by: id,
                ended_at: None,
                receipt: None,
            };
            tx.erasures().insert(&erasure).await?;
            Ok(erasure)
        })
    })
    .await
}

#[tokio::test]
async fn each_step_of_an_erasure_can_be_done_again() {
    let f = scene().await;
    let zita = person(&f, "zita", Role::Operator).await;
    let bob = person(&f, "another bob", Role::Operator).await;
    let hers = run(&f, &zita, None).await;
    let bobs = run(&f, &bob, None).await;
    run(&f, &zita, Some(bobs)).await;
    let open = f.create_as(&zita, None).await;
    let erasure = asked(&f, zita.principal.id).await;
    let inner = Arc::clone(&f.orchestrator.inner);
    for step in steps::STEPS.iter().filter(|step| **step != "done") {
        for _ in 0..2 {
            // As after a crash: what was stored last, with nothing of what was done since.
            let mut again = Erasure { step: (*step).to_owned(), ..erasure.clone() };
            inner
                .step(&mut again, &mut None)
                .await
                .unwrap_or_else(|error| panic!("{step}: {error}"));
        }
    }
    let last =
        Erasure { step: "compact".to_owned(), principal: None, names: Vec::new(), ..erasure };
    inner.carry_out(last.clone()).await.unwrap();
    let done = ended(&f, last.id).await;
    assert_eq!(done.receipt.unwrap()["backups"], serde_json::json!([]));
    for (id, expected) in [(hers, false), (bobs, true), (open.conversation_id, false)] {
        assert_eq!(exists(&f, id).await, expected);
    }
    let report = verified(&f).await;
    assert!(report.ok && report.replaced > 0, "{report:?}");
    let mut reader = inner.store.read().await.unwrap();
    assert!(!reader.erasures().is_known(zita.principal.id).await.unwrap());
}

#[tokio::test]
async fn who_is_asked_for_twice_at_once_is_erased_once_and_then_nobody_is_known() {
    let f = scene().await;
    let zita = person(&f, "zita", Role::Member).await;
    let waits = f.create_as(&zita, None).await;
    let id = zita.principal.id;
    let (one, two) = tokio::join!(erase(&f, id), erase(&f, id));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.id, one.pseudonym), (two.id, two.pseudonym));
    ended(&f, one.id.unwrap()).await;
    assert!(!exists(&f, waits.conversation_id).await, "its run waited, and was ended first");
    assert_eq!(code(&erase(&f, id).await.unwrap_err()), "the principal");
    assert!(verified(&f).await.ok);
}

#[tokio::test]
async fn nobody_erases_themselves_the_daemons_own_or_who_is_configured_and_admins_do_not_erase() {
    let f = scene().await;
    let authorizer = f.orchestrator.authorizer();
    let refused = authorizer.manage::<ErasePersons>(&cx_of("ann", Role::Admin));
    assert!(refused.is_err());
    let root = cx_of("root", Role::Overlord).principal.id;
    assert!(erase(&f, root).await.is_err());
    let alice = cx_of("alice", Role::Member).principal.id;
    assert_eq!(code(&erase(&f, alice).await.unwrap_err()), "erase.configured");
    let local = crate::auth::authn::local_operator().id;
    assert_eq!(code(&erase(&f, local).await.unwrap_err()), "principal.local");
}

#[tokio::test]
async fn what_the_trail_tells_of_runs_that_are_long_gone_goes_too() {
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000));
    let f = scene_at(&clock).await;
    let zita = person(&f, "zita", Role::Member).await;
    let gone = f.create_as(&zita, None).await;
    let permissions = "path write /srv/of-her-own-making.txt";
    let (id, run) = (gone.id, gone.conversation_id);
    write(&f.orchestrator.inner, move |tx| {
        Box::pin(async move {
            // As the daemon itself says of her run.
            let data = serde_json::json!({ "permissions": [permissions] });
            let row = entry(AuditKind::CapabilityGranted, None, data);
            tx.audit(AuditEntry { run_id: Some(id), ..row });
            Ok(())
        })
    })
    .await;
    f.ended_by_root(id).await;
    f.orchestrator.sign_trail().await.unwrap();
    clock.advance(DAY * 40);
    set(&f, RetentionClass::Conversations, Some(30)).await;
    remove(&f, false).await;
    assert!(!exists(&f, run).await);
    let told = async || {
        let mut reader = f.orchestrator.inner.store.read().await.unwrap();
        let rows = reader.audit().query(&AuditFilter::default(), 500).await.unwrap();
        let texts: Vec<_> = rows.iter().map(|row| format!("{} {}", row.actor, row.data)).collect();
        let text = texts.concat();
        (text.contains("of-her-own-making"), text.contains(&zita.principal.id.to_string()))
    };
    assert_eq!(told().await, (true, true));
    ended(&f, erase(&f, zita.principal.id).await.unwrap().id.unwrap()).await;
    assert_eq!(told().await, (false, false));
    f.orchestrator.sign_trail().await.unwrap();
    let report = verified(&f).await;
    assert!(report.ok && report.replaced > 0, "{report:?}");
}

#[tokio::test]
async fn what_names_somebody_else_is_not_erased_with_a_person() {
    let f = scene().await;
    let zita = person(&f, "zita", Role::Member).await;
    let bob = person(&f, "another bob", Role::Operator).await;
    let run = f.create_as(&bob, None).await;
    let with = async |name: &str| {
        let new =
            NewErasure { names: vec![name.to_owned()], dry_run: true, ..NewErasure::default() };
        f.orchestrator.erase(may_erase(&f), zita.principal.id, new, None).await.map(drop)
    };
    for name in ["Another Bob", "alice", "a ", &bob.principal.id.to_string(), &run.id.to_string()] {
        let refused = with(name).await;
        assert!(matches!(refused, Err(CommandError::Invalid { .. })), "{name}: {refused:?}");
    }
    for name in
        ["zita", "Zita Smith", "zita@example.com", "first_last", &zita.principal.id.to_string()]
    {
        with(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Rows of the trail that say that somebody's data was given away.
async fn exports(f: &Fixture) -> usize {
    let filter = AuditFilter {
        kind: Some(AuditKind::PersonExport.as_str().to_owned()),
        ..AuditFilter::default()
    };
    let mut reader = f.orchestrator.inner.store.read().await.unwrap();
    reader.audit().query(&filter, 100).await.unwrap().len()
}

#[tokio::test]
async fn an_export_is_recorded_wherever_it_begins_and_reaches_only_who_stands_lower() {
    let f = scene().await;
    let zita = person(&f, "zita", Role::Operator).await;
    let boss = person(&f, "the boss", Role::Overlord).await;
    run(&f, &zita, None).await;
    let id = zita.principal.id;
    let may = |name: &str, role| -> Permit<ExportPersons> {
        f.orchestrator.authorizer().manage(&cx_of(name, role)).unwrap()
    };
    let admin = may("ann", Role::Admin);
    let first = ExportPlace::default();
    let later: ExportPlace = "messages -1 ".parse().unwrap();
    f.orchestrator.begin_export(&admin, id, &later).await.unwrap();
    assert_eq!(exports(&f).await, 1, "a cursor of one's own making is recorded");
    f.orchestrator.begin_export(&admin, id, &later).await.unwrap();
    assert_eq!(exports(&f).await, 1, "the same one goes on");
    f.orchestrator.begin_export(&admin, id, &first).await.unwrap();
    f.orchestrator.begin_export(&may("root", Role::Overlord), id, &later).await.unwrap();
    assert_eq!(exports(&f).await, 3, "a new one, and that of somebody else");
    let refused = f.orchestrator.begin_export(&admin, boss.principal.id, &first).await;
    assert!(matches!(refused, Err(CommandError::Forbidden(_))), "{refused:?}");
    let operator = cx_of("olga", Role::Operator);
    assert!(f.orchestrator.authorizer().manage::<ExportPersons>(&operator).is_err());
    // Who left runs behind and stands in no table may have been anybody.
    let gone = cx_of("who was taken out of the configuration", Role::Overlord);
    let mut gone_cx = gone.clone();
    gone_cx.surface = Surface::Api;
    run(&f, &gone_cx, None).await;
    let refused = f.orchestrator.begin_export(&admin, gone.principal.id, &first).await;
    assert!(matches!(refused, Err(CommandError::Forbidden(_))), "{refused:?}");
    assert_eq!(exports(&f).await, 3);
}

#[tokio::test]
async fn a_secret_that_became_known_later_does_not_leave_with_an_export() {
    let f = scene().await;
    let zita = person(&f, "a-name-that-is-a-secret-later", Role::Operator).await;
    run(&f, &zita, None).await;
    f.orchestrator.inner.redactor.register("a-name-that-is-a-secret-later");
    let admin: Permit<ExportPersons> =
        f.orchestrator.authorizer().manage(&cx_of("ann", Role::Admin)).unwrap();
    let mut place = Some(ExportPlace::default());
    let (mut text, mut pieces) = (String::new(), 0);
    while let Some(now) = place {
        f.orchestrator.begin_export(&admin, zita.principal.id, &now).await.unwrap();
        let piece = f.orchestrator.export_piece(&admin, zita.principal.id, now).await.unwrap();
        text.extend(piece.lines.iter().map(ToString::to_string));
        place = piece.next;
        pieces += 1;
        assert!(pieces < 100, "it ends");
    }
    assert!(text.contains("\"kind\":\"runs\"") && text.contains("\"kind\":\"events\""), "{text}");
    assert!(text.contains("[redacted]") && !text.contains("that-is-a-secret"), "{text}");
    assert_eq!(exports(&f).await, 1);
}
