//! The run-time list of hosts on a real file.

use super::*;
use crate::domain::{EgressRule, EgressRuleId, EgressVerdict};

fn rule(ids: &IdSource, agent: Option<&str>, verdict: EgressVerdict, text: &str) -> EgressRule {
    EgressRule {
        id: EgressRuleId::new(ids),
        agent: agent.map(|a| a.parse().unwrap()),
        verdict,
        rule: text.parse().unwrap(),
        note: agent.map(|a| format!("for {a}")),
        created_at: Timestamp::from_micros(1_800_000_000_000_000),
        created_by: PrincipalId::new(ids),
    }
}

async fn add(f: &Fixture, rule: &EgressRule) -> Result<(), StoreError> {
    let rule = rule.clone();
    f.store
        .write(Durability::Full, move |tx| {
            Box::pin(async move { tx.egress_rules().insert(&rule).await })
        })
        .await
}

async fn remove(f: &Fixture, id: EgressRuleId) -> bool {
    let removed = f.store.write(Durability::Full, move |tx| {
        Box::pin(async move { tx.egress_rules().remove(id).await })
    });
    removed.await.unwrap()
}

async fn all(f: &Fixture) -> Vec<EgressRule> {
    f.store.read().await.unwrap().egress_rules().all().await.unwrap()
}

#[tokio::test]
async fn rules_are_kept_as_given_in_order_and_a_restart_changes_nothing() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    assert_eq!(all(&f).await, []);
    let mut rules = [
        rule(&f.ids, None, EgressVerdict::Allow, "*.example.com:8443"),
        rule(&f.ids, Some("a"), EgressVerdict::Allow, "api.example.com methods=GET,POST path=/v1"),
        rule(&f.ids, Some("a"), EgressVerdict::Deny, "*"),
        rule(&f.ids, None, EgressVerdict::Allow, "[2606:4700::1]:443 allow_private opaque"),
    ];
    // Ids of one moment are in no order of their own.
    rules.sort_by_key(|rule| rule.id.to_string());
    for rule in &rules {
        add(&f, rule).await.unwrap();
    }
    assert_eq!(all(&f).await, rules);
    f.tasks.stop().hard();
    f.tasks.wait().await;
    drop(f);
    let f = open(dir.path()).await.unwrap();
    assert_eq!(all(&f).await, rules);
    assert!(remove(&f, rules[1].id).await);
    assert!(!remove(&f, rules[1].id).await, "it is gone");
    let left: Vec<_> = all(&f).await.into_iter().map(|rule| rule.id).collect();
    assert_eq!(left, [rules[0].id, rules[2].id, rules[3].id]);
}

#[tokio::test]
async fn one_rule_stands_once_for_an_agent_and_once_for_all() {
    let dir = directory();
    let f = open(dir.path()).await.unwrap();
    let make = |agent, verdict| rule(&f.ids, agent, verdict, "a.example");
    for agent in [None, Some("a"), Some("b")] {
        for verdict in EgressVerdict::ALL {
            add(&f, &make(agent, verdict)).await.unwrap();
        }
    }
    for agent in [None, Some("a")] {
        let again = add(&f, &make(agent, EgressVerdict::Allow)).await;
        assert!(matches!(again, Err(StoreError::Unavailable { .. })), "{agent:?}");
    }
    assert_eq!(all(&f).await.len(), 6, "a refused job leaves nothing");
}
