//! Versions, explanations and replays without a daemon around them.

use serde_json::json;

use super::{
    super::tests::{Fixture, cx_of, fresh, idle},
    *,
};
use crate::{
    auth::policy::{Question, Verdict},
    domain::{PolicyDecision, Role, RunId, Surface, ToolCallId, policy::Outcome},
    store::Durability,
};

fn permit(f: &Fixture) -> Permit<ManagePolicy> {
    f.orchestrator.authorizer().manage::<ManagePolicy>(&cx_of("ann", Role::Admin)).unwrap()
}

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(text).unwrap())
}

/// A policy of its own version that adds no rule.
fn empty(name: &str) -> Arc<Policy> {
    policy(&format!("# {name}\nversion = 1\n"))
}

async fn put(f: &Fixture, policy: &Arc<Policy>, activate: bool) -> PolicyChange {
    let new = NewPolicy { policy: Arc::clone(policy), note: None, activate, base: None };
    fresh(f.orchestrator.put_policy(permit(f), new, None).await.unwrap())
}

fn in_force(f: &Fixture) -> String {
    f.orchestrator.inner.policy.current().version().to_owned()
}

async fn trail(f: &Fixture) -> Vec<serde_json::Value> {
    let filter = crate::store::AuditFilter {
        kind: Some(AuditKind::Policy.as_str().to_owned()),
        ..crate::store::AuditFilter::default()
    };
    let rows = f.orchestrator.inner.store.read().await.unwrap().audit().query(&filter, 100).await;
    rows.unwrap().into_iter().map(|row| row.data).collect()
}

#[tokio::test]
async fn the_same_text_is_the_same_version_and_only_changes_are_recorded() {
    let f = idle().await;
    let builtin = Policy::builtin().version().to_owned();
    assert_eq!(in_force(&f), builtin);
    let a = empty("a");
    let first = put(&f, &a, true).await;
    assert!(first.stored && first.activation.is_some());
    assert_eq!(first.before.map(|v| v.to_string()), Some(builtin.clone()));
    assert_eq!(in_force(&f), a.version());
    let again = put(&f, &a, true).await;
    assert!(!again.stored && again.activation.is_none(), "{again:?}");
    let kept = put(&f, &empty("b"), false).await;
    assert!(kept.stored && kept.activation.is_none());
    assert_eq!(in_force(&f), a.version(), "it is only stored");
    let rows = trail(&f).await;
    let whats: Vec<_> = rows.iter().map(|row| row["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["builtin_taken_up", "activated", "stored"]);
    assert_eq!((&rows[1]["before"], &rows[1]["after"]), (&json!(builtin), &json!(a.version())));
    assert_eq!((&rows[2]["before"], &rows[2]["after"]), (&json!(a.version()), &json!(a.version())));
}

#[tokio::test]
async fn an_author_who_began_with_another_version_changes_nothing() {
    let f = idle().await;
    let (a, b) = (empty("a"), empty("b"));
    let base = put(&f, &a, true).await.before;
    let new = NewPolicy { policy: b, note: None, activate: true, base };
    let refused = f.orchestrator.put_policy(permit(&f), new, None).await;
    assert!(
        matches!(refused, Err(CommandError::Conflict { code: "policy.changed", .. })),
        "{refused:?}"
    );
    assert_eq!(in_force(&f), a.version());
}

#[tokio::test]
async fn an_older_version_comes_back_by_its_first_digits_and_the_programs_own_by_name() {
    let f = idle().await;
    let (a, b) = (empty("a"), empty("b"));
    put(&f, &a, true).await;
    put(&f, &b, true).await;
    let activate = async |name: &str| {
        f.orchestrator.activate_policy(permit(&f), name, None, None).await.map(fresh)
    };
    let digits: String = a.version().chars().take(8).collect();
    let back = activate(&digits).await.unwrap();
    assert_eq!((back.stored, in_force(&f)), (false, a.version().to_owned()));
    activate(BUILTIN).await.unwrap();
    assert_eq!(in_force(&f), Policy::builtin().version());
    assert!(matches!(activate("abc").await, Err(CommandError::Invalid { .. })), "too short");
    let none = activate("000000000000").await;
    assert!(matches!(none, Err(CommandError::NotFound { .. })), "{none:?}");
    assert_eq!(in_force(&f), Policy::builtin().version());
}

#[tokio::test]
async fn the_file_counts_when_its_text_is_new_and_never_a_second_time() {
    let f = idle().await;
    let (file, other, newer) = (empty("file"), empty("admin"), empty("newer file"));
    let reload = async |file: &Arc<Policy>| {
        f.orchestrator.reload_policy(Some(Arc::clone(file))).await.unwrap();
        in_force(&f)
    };
    assert_eq!(reload(&file).await, file.version());
    put(&f, &other, true).await;
    assert_eq!(reload(&file).await, other.version(), "the file did not change");
    assert_eq!(reload(&newer).await, newer.version());
    assert_eq!(reload(&file).await, file.version(), "an older text is a change, too");
    let whats: Vec<_> =
        trail(&f).await.iter().map(|row| row["what"].as_str().unwrap().to_owned()).collect();
    let files = whats.iter().filter(|what| *what == "file_taken_up").count();
    assert_eq!((files, whats.len()), (3, 5), "{whats:?}");
}

/// Puts a text in force behind the program's back.
async fn smuggle(f: &Fixture, digit: &str, text: &'static str) {
    let version: PolicyVersion = digit.repeat(64).parse().unwrap();
    let stored: Result<(), StoreError> = f
        .orchestrator
        .inner
        .store
        .write(Durability::Full, move |tx| {
            Box::pin(async move {
                let now = tx.now();
                tx.policies().insert(&version, text, "system", None, now).await?;
                let system = Actor::system();
                let by = By { actor: &system, note: None };
                activate(tx, &version, PolicyOrigin::Admin, by).await.map(drop)
            })
        })
        .await;
    stored.unwrap();
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_or_was_changed_in_the_store_stops_the_start() {
    let f = idle().await;
    // As a newer program may have left it; as an intruder may have.
    for (digit, text) in [("a", "of = \"another age\"\n"), ("b", "version = 1\n")] {
        smuggle(&f, digit, text).await;
        let fault = f.orchestrator.inner.take_up_policy(None).await.unwrap_err();
        assert!(fault.to_string().contains("policy.file"), "{fault}");
        let name = digit.repeat(8);
        let refused = f.orchestrator.activate_policy(permit(&f), &name, None, None).await;
        assert!(matches!(refused, Err(CommandError::Conflict { code: "policy.unreadable", .. })));
        // A file with another text is the way out.
        let file = empty(&format!("mended {digit}"));
        f.orchestrator.inner.take_up_policy(Some(Arc::clone(&file))).await.unwrap();
        assert_eq!(in_force(&f), file.version());
    }
}

/// Records decisions about one call of the agent as the live path does, many times; the calls.
async fn recorded(f: &Fixture, count: usize) -> Vec<ToolCallId> {
    let agents = f.orchestrator.authorizer().agents();
    let agent = agents.values().next().unwrap();
    let facts = crate::tools::parse("read_file", &json!({"path": "a.txt"})).unwrap().facts();
    let hosts = Arc::default();
    let question = Question {
        agent,
        hosts: &hosts,
        facts: &facts,
        tainted: false,
        role: Role::Member,
        surface: Surface::Api,
        conversation: None,
    };
    let policy = f.orchestrator.inner.policy.current();
    let verdict: Verdict = crate::auth::policy::decide(&policy, &question);
    let kept = crate::auth::policy::Recorded::of(&question);
    let ids = super::super::tests::ids();
    let mut decisions: Vec<PolicyDecision> = Vec::new();
    for _ in 0..count {
        decisions.push(PolicyDecision {
            call_id: ToolCallId::new(&ids),
            n: 3,
            run_id: RunId::new(&ids),
            at: crate::domain::Timestamp::from_micros(0),
            agent: agent.name.clone(),
            policy_version: policy.version().parse().unwrap(),
            verdict: verdict.outcome(),
            rule: verdict.rule().to_string(),
            layer: verdict.layer().to_string(),
            question: kept.split().unwrap().1,
            definition: kept.split().unwrap().0,
        });
    }
    decisions.sort_by_key(|d| d.call_id.to_string());
    let calls = decisions.iter().map(|d| d.call_id).collect();
    let done: Result<(), StoreError> = f
        .orchestrator
        .inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                for decision in decisions {
                    tx.decision(decision);
                }
                Ok(())
            })
        })
        .await;
    done.unwrap();
    calls
}

async fn replay_all(
    f: &Fixture,
    policy: &Arc<Policy>,
    limit: usize,
) -> (ReplayCounts, Vec<Difference>, Option<u64>) {
    let mut counts = ReplayCounts::default();
    let (mut items, mut cursor, mut total) = (Vec::new(), None, None);
    loop {
        let asked = ReplayAsked { policy: Arc::clone(policy), days: 1, cursor, limit };
        let page = f.orchestrator.replay_policy(&permit(f), asked).await.unwrap();
        assert!(page.items.len() <= limit);
        total = total.or(page.total);
        counts.add(page.counts);
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return (counts, items, total);
        }
    }
}

#[tokio::test]
async fn a_replay_under_the_policy_in_force_differs_in_nothing() {
    let f = idle().await;
    recorded(&f, 1_200).await;
    let (counts, items, total) = replay_all(&f, &f.orchestrator.inner.policy.current(), 10).await;
    assert_eq!(items, []);
    assert_eq!(
        (counts, total),
        (ReplayCounts { examined: 1_200, same: 1_200, ..ReplayCounts::default() }, Some(1_200))
    );
}

#[tokio::test]
async fn a_past_call_is_explained_and_an_unknown_one_is_not_found() {
    let f = idle().await;
    let calls = recorded(&f, 1).await;
    let answer = f.orchestrator.explain_call(&permit(&f), calls[0], None).await.unwrap();
    let call = answer.call.unwrap();
    assert_eq!(call.decisions.len(), 1);
    let then = answer.then.unwrap();
    assert_eq!(then.rule.as_str(), call.decisions[0].rule);
    assert_eq!(then, answer.now);
    let nobody = ToolCallId::new(&super::super::tests::ids());
    let missing = f.orchestrator.explain_call(&permit(&f), nobody, None).await;
    assert!(matches!(missing, Err(CommandError::NotFound { .. })));
}

#[tokio::test]
async fn a_question_about_an_unknown_agent_or_tool_names_what_is_wrong() {
    let f = idle().await;
    let ask = |agent: &str, tool: &str, args: serde_json::Value| {
        let asked = PolicyQuestion {
            agent: agent.parse().unwrap(),
            tool: tool.to_owned(),
            args,
            role: Role::Member,
            surface: Surface::Api,
            tainted: false,
        };
        f.orchestrator.explain_question(&permit(&f), &asked, None)
    };
    let pointer = |answer: Result<PolicyAnswer, CommandError>| match answer {
        Err(CommandError::Invalid { pointer, .. }) => pointer.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(pointer(ask("nobody", "exec", json!({}))), "/agent");
    assert_eq!(pointer(ask("a", "teleport", json!({}))), "/tool");
    assert_eq!(pointer(ask("a", "exec", json!({"argv": 1}))), "/args");
    let answer = ask("a", "exec", json!({"argv": ["ls"]})).unwrap();
    assert_eq!((answer.now.verdict, answer.call), (Outcome::Deny, None));
}
