//! Versions of the policy and what it decided, on a real file.

use super::*;
use crate::domain::{
    PolicyActivation, PolicyDecision, PolicyInfo, PolicyOrigin, PolicyVersion, ToolCallId,
    policy::Outcome,
};

fn version(digit: char) -> PolicyVersion {
    std::iter::repeat_n(digit, 64).collect::<String>().parse().unwrap()
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000 + secs * 1_000_000)
}

async fn put(f: &Fixture, digit: char) -> Result<(), StoreError> {
    f.store
        .write(Durability::Full, move |tx| {
            Box::pin(async move {
                let source = format!("# {digit}");
                tx.policies().insert(&version(digit), &source, "system", None, at(0)).await
            })
        })
        .await
}

async fn activate(f: &Fixture, n: u64, digit: char, origin: PolicyOrigin) {
    let new = PolicyActivation {
        n,
        version: version(digit),
        origin,
        at: at(0),
        done_by: "system".to_owned(),
        note: Some(format!("number {n}")),
    };
    f.store
        .write(Durability::Full, move |tx| {
            Box::pin(async move { tx.policies().activate(&new).await })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn versions_are_kept_in_order_and_the_last_activation_counts_after_a_restart() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    assert_eq!(f.store.read().await.unwrap().policies().active().await.unwrap(), None);
    for digit in ['b', 'a', 'c'] {
        put(&f, digit).await.unwrap();
    }
    assert!(put(&f, 'a').await.is_err(), "a version stands once");
    activate(&f, 1, 'b', PolicyOrigin::File).await;
    activate(&f, 2, 'c', PolicyOrigin::Admin).await;
    f.tasks.stop().hard();
    f.tasks.wait().await;
    drop(f);
    let f = open(dir.path()).await.unwrap();
    let mut reader = f.store.read().await.unwrap();
    let active = reader.policies().active().await.unwrap().unwrap();
    assert_eq!((active.n, active.version), (2, version('c')));
    assert_eq!(active.note.as_deref(), Some("number 2"));
    let of_file = reader.policies().last_of_file().await.unwrap().unwrap();
    assert_eq!((of_file.n, of_file.version), (1, version('b')));
    let log: Vec<_> =
        reader.policies().activations(10).await.unwrap().iter().map(|a| a.n).collect();
    assert_eq!(log, [2, 1]);
    let page = reader.policies().list(&Page::new(Some(2), None)).await.unwrap();
    let seen = |page: &Paged<PolicyInfo>| {
        page.items.iter().map(|i| (i.n, i.version.clone())).collect::<Vec<_>>()
    };
    assert_eq!(seen(&page), [(3, version('c')), (2, version('a'))]);
    let rest = reader.policies().list(&Page::new(Some(2), page.next_cursor)).await.unwrap();
    assert_eq!((seen(&rest), rest.next_cursor), (vec![(1, version('b'))], None));
    let stored = reader.policies().get(&version('a')).await.unwrap().unwrap();
    assert_eq!((stored.source.as_str(), stored.info.n), ("# a", 2));
    assert_eq!(reader.policies().get(&version('d')).await.unwrap(), None);
}

#[tokio::test]
async fn a_version_is_named_by_its_beginning_where_that_is_clear() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let other: PolicyVersion = format!("aaaa{}", "b".repeat(60)).parse().unwrap();
    put(&f, 'a').await.unwrap();
    put(&f, 'f').await.unwrap();
    let twin = other.clone();
    f.store
        .write(Durability::Full, move |tx| {
            Box::pin(
                async move { tx.policies().insert(&twin, "# twin", "system", None, at(0)).await },
            )
        })
        .await
        .unwrap();
    let mut reader = f.store.read().await.unwrap();
    let mut named = async |text: &str| reader.policies().named(text).await.unwrap();
    assert_eq!(named("aaaa").await, Named::Several);
    assert_eq!(named("aaaab").await, Named::One(other));
    assert_eq!(named("ffffffff").await, Named::One(version('f')));
    assert_eq!(named(version('f').as_str()).await, Named::One(version('f')));
    assert_eq!(named("0").await, Named::None);
}

fn decision(ids: &IdSource, secs: i64, n: u64) -> PolicyDecision {
    let clock = Arc::new(ManualClock::at_secs(1_800_000_000 + secs));
    PolicyDecision {
        call_id: ToolCallId::new(&IdSource::new(clock, random)),
        n,
        run_id: RunId::new(ids),
        at: at(secs),
        agent: "default".parse().unwrap(),
        policy_version: version('a'),
        verdict: Outcome::Ask,
        rule: "shell.ask".to_owned(),
        layer: "builtin".to_owned(),
        question: json!({"argv": ["curl", "-u", "me:sk-secret-0123456789"]}).to_string(),
        definition: json!({"hosts": ["a.example"], "key": "sk-secret-0123456789"}).to_string(),
    }
}

async fn record(f: &Fixture, decisions: Vec<PolicyDecision>, fails: bool) {
    let done: Result<(), StoreError> = f
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                for decision in decisions {
                    tx.decision(decision);
                }
                if fails { Err(StoreError::Stale { what: "test".to_owned() }) } else { Ok(()) }
            })
        })
        .await;
    assert_eq!(done.is_err(), fails);
}

/// How many definitions there are that nobody uses, after they were forgotten: those in use stay.
async fn forgotten(f: &Fixture) -> u64 {
    let done: Result<u64, StoreError> = f
        .store
        .write(Durability::Normal, |tx| {
            Box::pin(async move {
                tx.definitions().forget_unused(Timestamp::from_micros(i64::MAX), 100).await
            })
        })
        .await;
    done.unwrap()
}

const FIRST: DecisionKey = DecisionKey { call_id: ToolCallId::FIRST, n: 0 };

#[tokio::test]
async fn decisions_are_read_in_order_a_page_at_a_time_and_hold_no_secret() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    f.redactor.register("sk-secret-0123456789");
    let mut made: Vec<PolicyDecision> = (0..40).map(|s| decision(&f.ids, s, 3)).collect();
    // The last call was decided twice.
    made.push(PolicyDecision { n: 7, verdict: Outcome::Allow, ..made[39].clone() });
    record(&f, made[..20].to_vec(), false).await;
    record(&f, vec![decision(&f.ids, 50, 1)], true).await;
    record(&f, made[20..].to_vec(), false).await;
    let mut reader = f.store.read().await.unwrap();
    let mut key = FIRST;
    let mut seen = Vec::new();
    loop {
        let page = reader.decisions().after(key, 16).await.unwrap();
        let Some(last) = page.last() else { break };
        key = DecisionKey { call_id: last.call_id, n: last.n };
        seen.extend(page);
    }
    assert!(seen.iter().all(|d| !d.question.contains("sk-secret")), "{:?}", seen[0]);
    let is_whole = |d: &PolicyDecision| {
        d.definition.contains("a.example") && !d.definition.contains("sk-secret")
    };
    assert!(seen.iter().all(is_whole), "{:?}", seen[0]);
    assert_eq!(forgotten(&f).await, 0, "all of them are used");
    let keys = |all: &[PolicyDecision]| -> Vec<_> {
        all.iter().map(|d| (d.call_id, d.n, d.verdict)).collect()
    };
    assert_eq!(keys(&seen), keys(&made), "in order, without the job that failed");
    let since = DecisionKey { call_id: ToolCallId::first_at(at(30)), n: 0 };
    assert_eq!(reader.decisions().count_after(since, 1_000).await.unwrap(), 11);
    assert_eq!(reader.decisions().count_after(FIRST, 5).await.unwrap(), 5);
    let twice = reader.decisions().of_call(made[39].call_id, 10).await.unwrap();
    assert_eq!(keys(&twice), keys(&made[39..]));
    let newest = reader.decisions().of_call(made[39].call_id, 1).await.unwrap();
    assert_eq!(keys(&newest), keys(&made[40..]));
}

#[tokio::test]
async fn old_decisions_are_forgotten_a_few_at_a_time_and_no_newer_one() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let made: Vec<PolicyDecision> = (0..10).map(|s| decision(&f.ids, s, 1)).collect();
    record(&f, made.clone(), false).await;
    let first = ToolCallId::first_at(at(5));
    let mut forgotten = Vec::new();
    for _ in 0..3 {
        let forget = f.store.write(Durability::Normal, move |tx| {
            Box::pin(async move { tx.decisions().forget_before(first, 3).await })
        });
        forgotten.push(forget.await.unwrap());
    }
    assert_eq!(forgotten, [3, 2, 0]);
    let mut reader = f.store.read().await.unwrap();
    let left = reader.decisions().after(FIRST, 100).await.unwrap();
    assert_eq!(left.first().map(|d| d.call_id), Some(made[5].call_id));
    assert_eq!(left.len(), 5);
}
