//! More than one person: who counts, what ends it, and what happens when many answer at once.

use super::*;
use crate::domain::{ApprovalPattern, Bound, PatternBounds, PatternId};

fn answer(decision: Decision) -> NewDecision {
    let (pattern, outcome, reason) = (None, None, None);
    NewDecision { decision, scope: DecisionScope::Once, pattern, outcome, reason }
}

/// A run that waits until so many people have said that it may use more.
async fn waiting(f: &Fixture, quorum: u32) -> (Run, ApprovalId) {
    let run = f.create(None).await;
    f.edit(run.id, |core| {
        core.state = RunState::Paused;
        core.wait_reason = Some(WaitReason::Budget);
    })
    .await;
    let id = f.ask(&run, None, ApprovalKind::Budget, 1).await;
    let done: Result<(), StoreError> = f
        .orchestrator
        .inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let mut approval = tx.approvals().get(id).await?.unwrap();
                approval.quorum = quorum;
                tx.approvals().save(&approval).await
            })
        })
        .await;
    done.unwrap();
    (run, id)
}

async fn decide(
    f: &Fixture,
    (name, role): (&str, Role),
    id: ApprovalId,
    decision: Decision,
) -> Result<ApprovalState, &'static str> {
    let permit = f.orchestrator.authorizer().decide(&cx_of(name, role)).unwrap();
    match f.orchestrator.decide(permit, id, answer(decision), None).await {
        Ok(done) => Ok(fresh(done).state),
        Err(CommandError::Conflict { code, .. }) => Err(code),
        Err(other) => panic!("{other:?}"),
    }
}

const ANN: (&str, Role) = ("ann", Role::Admin);
const ROOT: (&str, Role) = ("root", Role::Overlord);
const OLGA: (&str, Role) = ("olga", Role::Operator);

#[tokio::test]
async fn a_quorum_needs_different_people_and_one_no_ends_it() {
    let f = idle().await;
    let (run, id) = waiting(&f, 2).await;
    assert_eq!(decide(&f, ANN, id, Decision::Approve).await, Ok(ApprovalState::Pending));
    assert_eq!(f.core(run.id).await.state, RunState::Paused);
    assert_eq!(decide(&f, ANN, id, Decision::Approve).await, Err("approval.counted"));
    assert_eq!(decide(&f, ROOT, id, Decision::Approve).await, Ok(ApprovalState::Approved));
    assert_eq!(f.core(run.id).await.state, RunState::Queued);
    assert_eq!(decide(&f, OLGA, id, Decision::Deny).await, Err("approval.stale"));
    let permit = f.orchestrator.authorizer().read(&cx()).unwrap();
    let events = f.orchestrator.events(&permit, run.id, 0, 100).await.unwrap().unwrap().items;
    let states: Vec<_> = events
        .iter()
        .filter_map(|e| match &e.body {
            EventBody::ApprovalDecided { state, .. } => Some(*state),
            _ => None,
        })
        .collect();
    assert_eq!(states, [ApprovalState::Pending, ApprovalState::Approved], "each is on record");
    let (_, id) = waiting(&f, 3).await;
    assert_eq!(decide(&f, ANN, id, Decision::Approve).await, Ok(ApprovalState::Pending));
    assert_eq!(decide(&f, OLGA, id, Decision::Deny).await, Ok(ApprovalState::Denied));
    assert_eq!(decide(&f, ROOT, id, Decision::Approve).await, Err("approval.stale"));
}

#[tokio::test]
async fn who_may_no_longer_decide_does_not_count_for_the_quorum() {
    let f = idle().await;
    let (_, id) = waiting(&f, 2).await;
    assert_eq!(decide(&f, ANN, id, Decision::Approve).await, Ok(ApprovalState::Pending));
    let mut less = people();
    less.retain(|entry| entry.name != "ann");
    f.orchestrator.inner.tokens.replace(less);
    assert_eq!(decide(&f, ROOT, id, Decision::Approve).await, Ok(ApprovalState::Pending));
    assert_eq!(decide(&f, OLGA, id, Decision::Approve).await, Ok(ApprovalState::Approved));
}

#[tokio::test]
async fn a_voice_is_kept_only_from_who_may_decide_and_counts_again_when_they_may() {
    let f = idle().await;
    let (_, id) = waiting(&f, 2).await;
    let tokens = &f.orchestrator.inner.tokens;
    assert_eq!(decide(&f, ANN, id, Decision::Approve).await, Ok(ApprovalState::Pending));
    let mut less = people();
    less.retain(|entry| entry.name != "ann" && entry.name != "olga");
    tokens.replace(less);
    assert_eq!(decide(&f, ROOT, id, Decision::Approve).await, Ok(ApprovalState::Pending));
    // Her right went between her request and its turn.
    let permit = f.orchestrator.authorizer().decide(&cx_of(OLGA.0, OLGA.1)).unwrap();
    let late = f.orchestrator.decide(permit, id, answer(Decision::Approve), None).await;
    assert!(matches!(late, Err(CommandError::Forbidden(_))), "{late:?}");
    // Everybody is back: nobody new is needed, and nobody counts twice.
    tokens.replace(people());
    assert_eq!(decide(&f, ANN, id, Decision::Approve).await, Ok(ApprovalState::Approved));
    let mut reader = f.orchestrator.inner.store.read().await.unwrap();
    let kept = reader.approvals().get(id).await.unwrap().unwrap();
    assert_eq!(kept.decisions.len(), 2, "{:?}", kept.decisions);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_deciders_as_many_count_as_the_quorum_wants() {
    let f = idle().await;
    let (_, id) = waiting(&f, 3).await;
    let voices = [ANN, ROOT, OLGA];
    let all = (0..50).map(|n| decide(&f, voices[n % 3], id, Decision::Approve));
    let answers = futures_util::future::join_all(all).await;
    let count = |state| answers.iter().filter(|a| **a == Ok(state)).count();
    assert_eq!((count(ApprovalState::Pending), count(ApprovalState::Approved)), (2, 1));
    assert!(answers.iter().all(|a| match a {
        Ok(_) => true,
        Err(code) => matches!(*code, "approval.counted" | "approval.stale"),
    }));
}

#[tokio::test]
async fn at_the_edge_of_its_time_an_answer_comes_too_late() {
    let f = idle().await;
    let run = f.create(None).await;
    let id = f.ask(&run, None, ApprovalKind::Budget, 0).await;
    assert_eq!(decide(&f, ANN, id, Decision::Approve).await, Err("approval.stale"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_is_used_as_often_as_it_says_however_many_ask_at_once() {
    let f = idle().await;
    let pattern = ApprovalPattern {
        id: PatternId::new(&ids()),
        approval_id: ApprovalId::new(&ids()),
        agent: "a".to_owned(),
        tool: "exec".to_owned(),
        args: json!({}),
        pattern: PatternBounds {
            argv_prefix: None,
            args: std::collections::BTreeMap::new(),
            ttl_secs: 60,
            uses: 3,
        },
        bound: Bound::default(),
        egress: Vec::new(),
        policy_version: "v".to_owned(),
        tainted: false,
        required_role: Role::Admin,
        approved_by: vec![principal_id_of("ann")],
        created_at: SystemClock.now(),
        expires_at: SystemClock.now().plus(Duration::from_secs(60)),
        uses_left: 3,
        revoked_at: None,
    };
    let id = pattern.id;
    let store = &f.orchestrator.inner.store;
    let done: Result<(), StoreError> = store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move { tx.patterns().insert(&pattern).await })
        })
        .await;
    done.unwrap();
    let take = |_| async {
        let taken: Result<bool, StoreError> = store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move {
                    let now = tx.now();
                    tx.patterns().take(id, now).await
                })
            })
            .await;
        usize::from(taken.unwrap())
    };
    let taken = futures_util::future::join_all((0..50).map(take)).await;
    assert_eq!(taken.into_iter().sum::<usize>(), 3);
    let left = store.read().await.unwrap().patterns().get(id).await.unwrap().unwrap();
    assert_eq!(left.uses_left, 0);
    let now = SystemClock.now();
    let in_force = store.read().await.unwrap().patterns().in_force("a", "exec", now).await;
    assert_eq!(in_force.unwrap(), []);
}
