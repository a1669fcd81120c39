//! What may be used in a day: reserved before every call, never overspent, raised while runs wait.

use std::time::Duration;

use agent_runtime::{
    domain::{BudgetScope, BudgetSubject, Day, Timestamp},
    store::{BudgetUse, ReadOnlyStore},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    scenes::{event, provider},
    support::{
        checker::truth::database_of,
        daemon::{ADMIN, ALICE, BOB, Daemon, OPERATOR, PATIENCE, VIEWER},
        fake_llm::{Fault, Turn},
    },
};

/// An agent whose calls hold little, and whose tokens cost something.
const THRIFTY: &str = r#"
[models.default]
input_price_per_mtok = "1"
output_price_per_mtok = "2"
[agents.thrifty]
system_prompt = "test"
tools = []
max_output_tokens = 100
"#;

async fn submit(daemon: &Daemon, token: &str, body: &Value) -> String {
    let run = daemon.call(Method::POST, "/api/v1/runs", token, Some(body)).await.unwrap();
    run.expect(202)["id"].as_str().unwrap().to_owned()
}

fn thrifty(input: &str) -> Value {
    json!({"agent": "thrifty", "input": input})
}

/// Today's use of a budget, read beside the daemon or after its death.
async fn used(daemon: &Daemon, subject: &BudgetSubject) -> BudgetUse {
    let now: Timestamp = daemon_time();
    let database = database_of(&daemon.data_dir());
    let store = ReadOnlyStore::open(&daemon.data_dir(), &database).await.unwrap();
    store.read().await.unwrap().budget_uses().get(subject, Day::of(now)).await.unwrap()
}

fn daemon_time() -> Timestamp {
    use agent_runtime::domain::{Clock as _, SystemClock};
    SystemClock.now()
}

/// Every run, as the operator sees them.
async fn runs(daemon: &Daemon) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = daemon.get(&format!("/api/v1/runs?limit=500{cursor}")).await.expect(200);
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// Waits until every run has ended or waits for a budget.
async fn until_settled(daemon: &Daemon) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = runs(daemon).await;
        let is_settled = |run: &Value| {
            run["state"] == "succeeded"
                || (run["state"] == "paused" && run["wait_reason"] == "budget")
        };
        if all.iter().all(is_settled) {
            return all;
        }
        let open: Vec<_> = all.iter().filter(|run| !is_settled(run)).collect();
        assert!(Instant::now() < deadline, "{open:#?}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Rows of the audit trail of one kind.
async fn audit(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let told = daemon.cli(&["audit", "export"]).await;
    let rows = told.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["kind"] == kind).collect()
}

#[tokio::test]
async fn a_hundred_runs_at_once_and_kills_never_overspend_the_day() {
    let fake = provider();
    let slow = || Turn::text("slowly").after([Fault::SlowBytes(Duration::from_millis(3))]);
    fake.script("slow", [slow()]);
    let limit = 4_000;
    let more = format!("{THRIFTY}\n[budget]\ntokens_per_day = {limit}\n");
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &more);
    daemon.run().await;
    let org = BudgetSubject::ORG;
    for n in 0..100 {
        let token = if n % 2 == 0 { ALICE } else { BOB };
        submit(&daemon, token, &thrifty(&format!("script:slow {n}"))).await;
        if n % 40 == 39 {
            daemon.kill();
            let now = used(&daemon, &org).await;
            assert!(now.used_tokens + now.held_tokens <= limit, "{now:?}");
            assert!(now.held_tokens > 0 || now.used_tokens > 0, "{now:?}");
            daemon.run().await;
        }
    }
    let all = until_settled(&daemon).await;
    assert_eq!(all.len(), 100);
    let tokens = |run: &Value| {
        let of = |field: &str| run["usage"][field].as_u64().unwrap();
        of("input_tokens") + of("output_tokens")
    };
    let now = used(&daemon, &org).await;
    assert_eq!(now.held_tokens, 0, "nothing is under way");
    assert!(now.used_tokens <= limit && now.used_tokens * 10 > limit * 8, "{now:?}");
    assert_eq!(now.used_tokens, all.iter().map(tokens).sum::<u64>(), "the books agree");
    let paused = all.iter().filter(|run| run["state"] == "paused").count();
    assert!((1..100).contains(&paused), "{paused} of 100 wait");
    // The same sums by every other way of counting.
    let report = daemon.get("/api/v1/usage?by=principal").await.expect(200);
    let total = &report["total"];
    let counted =
        total["input_tokens"].as_u64().unwrap() + total["output_tokens"].as_u64().unwrap();
    assert_eq!(counted, now.used_tokens);
    // Raised, they all go on by themselves.
    let told = daemon.cli(&["budget", "set", "org", "--tokens-per-day", "none"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let all = until_settled(&daemon).await;
    assert!(all.iter().all(|run| run["state"] == "succeeded"));
}

#[tokio::test]
async fn a_used_up_budget_pauses_the_run_says_what_to_do_and_is_told_once() {
    let fake = provider();
    let more = format!("{THRIFTY}\n[budget.principals.alice]\ntokens_per_day = 1000\n");
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &more);
    daemon.run().await;
    let mut waiting = Vec::new();
    for n in 0..40 {
        let run = submit(&daemon, ALICE, &thrifty(&format!("script:say {n}"))).await;
        let run = daemon.wait_for(&run, &["succeeded", "paused"]).await;
        if run["wait_reason"] == "budget" {
            waiting.push(run["id"].as_str().unwrap().to_owned());
        }
        if waiting.len() == 2 {
            break;
        }
    }
    let [first, second] = waiting.try_into().expect("the budget ends");
    let refused = event(&daemon, &first, "budget.refused").await;
    assert_eq!(refused["data"]["limit"], "principal.tokens_per_day");
    let paused = event(&daemon, &first, "run.paused").await;
    let detail = paused["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("agent-runtime budget set principal prn_"), "{detail}");
    assert!(detail.contains("00:00Z"), "{detail}");
    assert!(daemon.pending(&first).await.is_empty(), "no approval can raise it");
    // Another principal is not concerned.
    let other = submit(&daemon, BOB, &thrifty("script:say bob")).await;
    daemon.wait_for(&other, &["succeeded"]).await;
    let alerts = audit(&daemon, "alert").await;
    let said = |kind: &str| alerts.iter().filter(|a| a["data"]["alert"] == kind).count();
    assert_eq!((said("budget_80"), said("budget_exhausted")), (1, 1), "{alerts:#?}");
    // Somebody may look again whether it is enough; it is not.
    let path = format!("/api/v1/runs/{second}/resume");
    daemon.call(Method::POST, &path, ALICE, Some(&json!({}))).await.unwrap().expect(202);
    daemon.wait_for(&second, &["paused"]).await;
    let told =
        daemon.cli(&["budget", "set", "principal", "alice", "--tokens-per-day", "9000"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for run in [&first, &second] {
        daemon.wait_for(run, &["succeeded"]).await;
    }
    let changes = audit(&daemon, "budget").await;
    let set = changes.iter().find(|row| row["data"]["what"] == "set").unwrap();
    assert_eq!(set["data"]["before"]["tokens_per_day"], 1000);
    assert_eq!(set["data"]["after"]["tokens_per_day"], 9000);
}

#[tokio::test]
async fn money_is_counted_with_prices_and_an_agent_has_its_own_budget() {
    let fake = provider();
    let more = format!("{THRIFTY}\n[agents.thrifty.budget]\nusd_per_day = \"0.0005\"\n");
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &more);
    daemon.run().await;
    let mut refused = None;
    for n in 0..60 {
        let run = submit(&daemon, ALICE, &thrifty(&format!("script:say {n}"))).await;
        if daemon.wait_for(&run, &["succeeded", "paused"]).await["state"] == "paused" {
            refused = Some(run);
            break;
        }
    }
    let refused = event(&daemon, &refused.expect("the money ends"), "budget.refused").await;
    assert_eq!(refused["data"]["limit"], "agent.usd_per_day");
    assert_eq!(refused["data"]["allowed"], "0.0005");
    let now = used(&daemon, &BudgetSubject::of(BudgetScope::Agent, "thrifty")).await;
    assert!(
        now.used <= "0.0005".parse().unwrap() && now.used > "0.0002".parse().unwrap(),
        "{now:?}"
    );
    // Another agent has no such budget.
    let other = submit(&daemon, ALICE, &json!({"agent": "reader", "input": "script:say x"})).await;
    daemon.wait_for(&other, &["succeeded"]).await;
}

#[tokio::test]
async fn a_conversation_that_is_bounded_later_counts_what_its_runs_have_used_today() {
    let fake = provider();
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), THRIFTY);
    daemon.run().await;
    let first = submit(&daemon, ALICE, &thrifty("script:say 1")).await;
    let first = daemon.wait_for(&first, &["succeeded"]).await;
    let conversation = first["conversation_id"].as_str().unwrap().to_owned();
    let told = daemon
        .cli(&["budget", "set", "conversation", &conversation, "--tokens-per-day", "20", "--json"])
        .await
        .json();
    assert_eq!((&told["layer"], &told["tokens_per_day"]), (&json!("set"), &json!(20)));
    let body = json!({
        "agent": "thrifty", "input": "script:say 2", "conversation_id": conversation,
    });
    let second = submit(&daemon, ALICE, &body).await;
    let refused = event(&daemon, &second, "budget.refused").await;
    assert_eq!(refused["data"]["limit"], "conversation.tokens_per_day");
    // What was set is kept over a restart, and cleared it is gone.
    daemon.kill();
    daemon.run().await;
    assert_eq!(daemon.run_of(&second).await["wait_reason"], "budget");
    let told = daemon.cli(&["budget", "clear", "conversation", &conversation]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    daemon.wait_for(&second, &["succeeded"]).await;
    let told = daemon.cli(&["budget", "clear", "conversation", &conversation]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
}

#[tokio::test]
async fn a_budget_that_cannot_be_is_refused_with_the_next_step() {
    let daemon = Daemon::start("").await;
    for (args, says) in [
        (["agent", "nobody", "--tokens-per-day", "1"], "there is no agent `nobody`"),
        (["conversation", "x", "--tokens-per-day", "1"], "conv_"),
        (["org", "x", "--tokens-per-day", "1"], "no subject"),
    ] {
        let told = daemon.cli(&[&["budget", "set"], args.as_slice()].concat()).await;
        assert_eq!(told.code, Some(2), "{told:?}");
        assert!(told.err.contains(says), "{told:?}");
    }
    let told = daemon.cli(&["budget", "set", "org"]).await;
    assert!(told.code == Some(2) && told.err.contains("--usd-per-day"), "{told:?}");
    let told = daemon.cli(&["budget", "show"]).await;
    assert!(told.code == Some(0) && told.out.contains("agent") && told.out.contains("default"));
}

#[tokio::test]
async fn usage_is_added_up_by_agent_principal_and_model_and_members_see_their_own() {
    let fake = provider();
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), THRIFTY);
    daemon.run().await;
    for (token, agent) in [(ALICE, "thrifty"), (ALICE, "reader"), (BOB, "thrifty")] {
        let input = format!("script:say {agent} {}", token.len());
        let run = submit(&daemon, token, &json!({"agent": agent, "input": input})).await;
        daemon.wait_for(&run, &["succeeded"]).await;
    }
    let usage = async |token: &str, query: &str| {
        let path = format!("/api/v1/usage{query}");
        daemon.call(Method::GET, &path, token, None).await.unwrap()
    };
    let keys = |report: &Value| -> Vec<(String, u64)> {
        let items = report["items"].as_array().unwrap();
        items
            .iter()
            .map(|i| (i["key"].as_str().unwrap().to_owned(), i["runs"].as_u64().unwrap()))
            .collect()
    };
    let by_agent = usage(ADMIN, "").await.expect(200);
    assert_eq!(keys(&by_agent), [("reader".to_owned(), 1), ("thrifty".to_owned(), 2)]);
    assert_eq!(by_agent["total"]["llm_calls"], 3);
    assert_ne!(by_agent["total"]["cost_usd"], "0");
    let by_model = usage(OPERATOR, "?by=model").await.expect(200);
    assert_eq!(keys(&by_model), [("default".to_owned(), 3)]);
    let own = usage(BOB, "?by=principal").await.expect(200);
    assert_eq!((keys(&own).len(), &own["total"]["runs"]), (1, &json!(1)));
    assert_eq!(usage(VIEWER, "").await.expect(200)["total"]["runs"], 0);
    // Pages, days, and what cannot be.
    let first = usage(ADMIN, "?limit=1").await.expect(200);
    assert_eq!((keys(&first).len(), &first["next_cursor"]), (1, &json!("reader")));
    let rest = usage(ADMIN, "?limit=1&cursor=reader").await.expect(200);
    assert_eq!(keys(&rest), [("thrifty".to_owned(), 2)]);
    let past = usage(ADMIN, "?from=2020-01-01&to=2020-12-31").await.expect(200);
    assert_eq!((keys(&past).len(), &past["from"]), (0, &json!("2020-01-01")));
    for wrong in ["?from=2020-01-02&to=2020-01-01", "?from=today", "?by=colour", "?x=1"] {
        assert_eq!(usage(ADMIN, wrong).await.status.as_u16(), 422, "{wrong}");
    }
    let told = daemon.cli(&["usage", "--by", "model"]).await;
    assert!(told.code == Some(0) && told.out.contains("total"), "{told:?}");
}

#[tokio::test]
async fn an_attempt_that_was_lost_counts_and_another_one_must_fit_as_well() {
    let fake = provider();
    // The provider has answered, and will bill it; we never see the end.
    fake.script("lost", [Turn::text("well").after([Fault::CutStream(1)])]);
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), THRIFTY);
    daemon.run().await;
    let org = BudgetSubject::ORG;
    let id = submit(&daemon, ALICE, &thrifty("script:say x")).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let one = used(&daemon, &org).await.used_tokens;
    let id = submit(&daemon, ALICE, &thrifty("script:lost 1")).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(fake.seen_of("lost").len(), 2);
    let both = used(&daemon, &org).await;
    assert!(both.used_tokens >= 2 * one + 100, "{one}, then {both:?}: all that was held counts");
    assert_eq!(both.held_tokens, 0);
    // Room for one attempt and not for two.
    let limit = both.used_tokens + 200;
    let set = ["budget", "set", "org", "--tokens-per-day", &limit.to_string()];
    assert_eq!(daemon.cli(&set).await.code, Some(0));
    let id = submit(&daemon, ALICE, &thrifty("script:lost 2")).await;
    daemon.wait_for(&id, &["paused"]).await;
    assert_eq!(fake.seen_of("lost").len(), 3, "it was not tried again");
    let now = used(&daemon, &org).await;
    assert!(now.used_tokens > both.used_tokens && now.used_tokens <= limit, "{now:?} of {limit}");
    assert_eq!(now.held_tokens, 0);
}
