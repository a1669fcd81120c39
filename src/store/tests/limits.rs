//! What is counted: who waits, what was used and is held, by whom on which day.

use super::*;
use crate::domain::{BudgetScope, BudgetSubject};

const DAY: Day = Day::from_number(20_000);

fn org() -> BudgetSubject {
    BudgetSubject::ORG
}

/// Adds tokens to everybody's use in a job of its own.
async fn use_tokens(f: &Fixture, tokens: u64, fails: bool) -> Result<(), StoreError> {
    f.store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let mut now = tx.budget_use(&org(), DAY).await?.unwrap_or_default();
                now.used_tokens += tokens;
                now.held_tokens += 1;
                tx.set_budget_use(&org(), DAY, now);
                if fails { Err(StoreError::Stale { what: "test".to_owned() }) } else { Ok(()) }
            })
        })
        .await
}

#[tokio::test]
async fn what_failed_jobs_counted_was_never_counted_whatever_their_neighbours_did() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    for round in 0..5 {
        let jobs = (0..60).map(|n| use_tokens(&f, 10, n % 3 == round % 3));
        futures_util::future::join_all(jobs).await;
    }
    let mut reader = f.store.read().await.unwrap();
    let now = reader.budget_uses().get(&org(), DAY).await.unwrap();
    assert_eq!((now.used_tokens, now.held_tokens), (5 * 40 * 10, 5 * 40));
    assert_eq!(reader.budget_uses().held(BudgetScope::Org).await.unwrap(), 200);
    // Another daemon reads what this one wrote.
    drop(reader);
    f.tasks.stop().hard();
    f.tasks.wait().await;
    drop(f);
    let f = open(dir.path()).await.unwrap();
    use_tokens(&f, 1, false).await.unwrap();
    let mut reader = f.store.read().await.unwrap();
    let now = reader.budget_uses().get(&org(), DAY).await.unwrap();
    assert_eq!(now.used_tokens, 2_001);
}

#[tokio::test]
async fn use_is_added_up_by_day_whoever_adds_to_it() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let me = PrincipalId::new(&f.ids);
    let add = |day: u32, agent: &'static str, fails: bool| {
        f.store.write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let key = UsageKey {
                    day: Day::from_number(day),
                    principal: me,
                    agent: agent.to_owned(),
                    model: "m".to_owned(),
                };
                let sum = UsageSum { runs: 1, calls: 2, input_tokens: 3, ..UsageSum::default() };
                tx.usage(key, sum);
                if fails { Err(StoreError::Stale { what: "test".to_owned() }) } else { Ok(()) }
            })
        })
    };
    let jobs = (0..100).map(|n| add(n % 2, if n < 50 { "a" } else { "b" }, n % 5 == 0));
    futures_util::future::join_all(jobs).await;
    let filter =
        UsageFilter { from: Day::from_number(0), to: Day::from_number(1), principal: None };
    let mut reader = f.store.read().await.unwrap();
    let sums = reader.usage().sums(&filter, UsageBy::Agent, "", 10).await.unwrap();
    let runs: Vec<_> = sums.iter().map(|(key, sum)| (key.as_str(), sum.runs, sum.calls)).collect();
    assert_eq!(runs, [("a", 40, 80), ("b", 40, 80)]);
    let one_day = UsageFilter { to: Day::from_number(0), ..filter.clone() };
    assert_eq!(reader.usage().total(&one_day).await.unwrap().runs, 40);
    let nobody = UsageFilter { principal: Some(PrincipalId::new(&f.ids)), ..filter };
    assert_eq!(reader.usage().total(&nobody).await.unwrap(), UsageSum::default());
}

#[tokio::test]
async fn claims_go_from_principal_to_principal() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    for _ in 0..3 {
        insert(&f, false).await.unwrap();
    }
    let mut reader = f.store.read().await.unwrap();
    let who = reader.runs().claimants(None, 10).await.unwrap();
    assert_eq!(who.len(), 3);
    assert!(who.is_sorted());
    assert_eq!(reader.runs().claimants(Some(who[0]), 1).await.unwrap(), who[1..2]);
    assert_eq!(reader.runs().claimants(Some(who[2]), 10).await.unwrap(), []);
    assert_eq!(reader.runs().claimable(who[1], 10).await.unwrap().len(), 1);
}
