//! Who asks for a change may go away at any moment, also between its commit and its taking effect:
//! what is stored comes into force all the same.
//!
//! The race is forced: the one who asks is polled once, which hands the change over, and dropped.

use std::{future::Future, pin::pin, task::Poll};

use super::*;
use crate::auth::{
    LiftLockdown, Lockdown, ManageBudgets, ManagePolicy, ManagePrincipals, ManageTokens, Permit,
    policy::Policy,
};

/// Polls once and drops.
async fn asks_and_leaves<T>(work: impl Future<Output = T>) {
    let mut work = pin!(work);
    let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await;
    assert!(!first, "it was done before anybody could leave");
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what} is stored and never in force");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn manages<A: crate::auth::Area>(f: &Fixture) -> Permit<A> {
    f.orchestrator.authorizer().manage(&cx_of("root", Role::Overlord)).unwrap()
}

#[tokio::test]
async fn a_change_of_rights_takes_effect_when_its_asker_has_left() {
    let f = idle().await;
    let (o, inner) = (&f.orchestrator, &f.orchestrator.inner);
    let directory = inner.tokens.directory();
    let alice = principal_id_of("alice");
    let off = o.enable_principal(manages::<ManagePrincipals>(&f), alice, false, None);
    asks_and_leaves(off).await;
    until("the end of somebody's rights", || directory.current(alice).is_none()).await;
    let patch = PrincipalPatch { role: Some(Role::Viewer), scopes: None };
    let bob = principal_id_of("bob");
    asks_and_leaves(o.patch_principal(manages::<ManagePrincipals>(&f), bob, patch, None)).await;
    until("a lower role", || directory.current(bob).is_some_and(|p| p.role == Role::Viewer)).await;
    let new = NewToken {
        principal: "olga".to_owned(),
        label: None,
        role: None,
        scopes: crate::domain::Scopes::default(),
        ttl_secs: None,
    };
    let made = o.create_token(manages::<ManageTokens>(&f), new, None).await.unwrap();
    let (id, text) = (fresh(made.done).id, made.token);
    let stands = || inner.tokens.verify(text.expose(), inner.clock.now()).is_some();
    assert!(stands());
    asks_and_leaves(o.revoke_token(manages::<ManageTokens>(&f), id)).await;
    until("the end of a token", || !stands()).await;
}

#[tokio::test]
async fn a_change_of_rules_takes_effect_when_its_asker_has_left() {
    let f = idle().await;
    let (o, inner) = (&f.orchestrator, &f.orchestrator.inner);
    let text = "version = 1\ndeny_patterns = false\n";
    let policy = Arc::new(Policy::parse(text).unwrap());
    let version = policy.version().to_owned();
    let new = NewPolicy { policy, note: None, activate: true, base: None };
    asks_and_leaves(o.put_policy(manages::<ManagePolicy>(&f), new, None)).await;
    until("a policy", || inner.policy.current().version() == version).await;
    let rule = NewEgressRule {
        agent: None,
        verdict: EgressVerdict::Deny,
        rule: "denied.example".parse().unwrap(),
        note: None,
    };
    let (name, _) = agent(&[]);
    o.reconfigure_egress([(name.clone(), HostPolicy::default())].into()).await.unwrap();
    asks_and_leaves(o.add_egress_rule(manages::<ManageEgress>(&f), rule, None)).await;
    until("a rule about hosts", || inner.hosts.effective(&name).deny.len() == 1).await;
    let subject = crate::domain::BudgetSubject::ORG;
    let limit = crate::domain::BudgetLimit { tokens_per_day: Some(7), usd_per_day: None };
    let new = NewBudget { subject: subject.clone(), limit };
    asks_and_leaves(o.set_budget(manages::<ManageBudgets>(&f), new, None)).await;
    until("a budget", || inner.budgets.limit(&subject) == limit).await;
}

#[tokio::test]
async fn a_lockdown_begins_and_ends_when_its_asker_has_left() {
    let f = idle().await;
    let (o, inner) = (&f.orchestrator, &f.orchestrator.inner);
    asks_and_leaves(o.lock_down(manages::<Lockdown>(&f), None)).await;
    until("a lockdown", || inner.lockdown.is_on()).await;
    // Until it is carried out it is not lifted.
    let stored = async || {
        let mut reader = inner.store.read().await.unwrap();
        reader.lockdown().get().await.unwrap().is_some()
    };
    while !stored().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    o.lock_down(manages::<Lockdown>(&f), None).await.unwrap();
    asks_and_leaves(o.lift_lockdown(manages::<LiftLockdown>(&f))).await;
    until("the end of a lockdown", || !inner.lockdown.is_on()).await;
}

#[tokio::test]
async fn a_secret_that_was_taken_away_goes_out_of_force_when_its_asker_has_left() {
    let (f, mut reloads) = with_reloads().await;
    let name: crate::domain::SecretName = "KEY".parse().unwrap();
    let value = crate::domain::Secret::new("a value of some length".to_owned());
    let o = &f.orchestrator;
    let asked = async |reloads: &mut crate::runtime::reload::Reloads| {
        let asked = tokio::time::timeout(Duration::from_secs(10), reloads.next()).await;
        let answer = asked.expect("it is stored and never in force").unwrap().unwrap();
        answer.send(Ok(Vec::new())).unwrap_or_default();
    };
    asks_and_leaves(o.set_secret(manages(&f), name.clone(), value)).await;
    asked(&mut reloads).await;
    asks_and_leaves(o.remove_secret(manages(&f), name.clone())).await;
    asked(&mut reloads).await;
    // Asking again puts it out of force again, and then says that there is none.
    let again = o.remove_secret(manages(&f), name);
    let (answer, ()) = tokio::join!(again, asked(&mut reloads));
    assert!(matches!(answer, Err(CommandError::NotFound { .. })), "{answer:?}");
}
