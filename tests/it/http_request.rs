//! The tool `http_request` through whole runs: what it reaches, what it is refused, what follows
//! from what it has read.

use serde_json::{Value, json};

use crate::{
    scenes::{approval_of, event, kinds, provider, sh, until},
    support::{
        daemon::Daemon,
        fake_llm::{FakeLlm, Turn},
        fake_site::{FakeSite, PAGE},
    },
    web::{agents, audit_of, daemon, events_of, get, play},
};

#[tokio::test]
async fn an_allowed_page_is_read_and_the_run_is_tainted_from_then_on() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let clean = play(&daemon, &fake, "web", "clean", &[("exec", sh("echo nothing"))]).await;
    assert_eq!(clean.run["tainted"], false);
    let read =
        play(&daemon, &fake, "web", "read", &[("http_request", get("http://site.example/page"))])
            .await;
    assert!(read.told[0].starts_with("HTTP 200\n") && read.told[0].contains(PAGE), "{read:#?}");
    assert_eq!(read.run["tainted"], true);
    let asked = site.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].host.as_str()), ("GET", "site.example"));
    let rows = audit_of(&daemon, &read.id, 1).await;
    let row = rows.iter().find(|r| r["via"] == "fetch").unwrap();
    assert_eq!(
        (&row["agent"], &row["host"], &row["port"]),
        (&json!("web"), &json!("site.example"), &json!(80))
    );
    assert_eq!((&row["allowed"], &row["address"]), (&json!(true), &json!("127.0.0.1")));
    assert!(row["bytes_down"].as_u64().unwrap() > 0 && row["call_id"].is_string(), "{row}");
}

#[tokio::test]
async fn what_comes_back_is_bounded_and_binary_is_told_by_its_size() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let played = play(
        &daemon,
        &fake,
        "web",
        "forms",
        &[
            ("http_request", get("http://site.example/big")),
            ("http_request", get("http://site.example/binary")),
            ("http_request", get("http://site.example/missing")),
            ("http_request", get("http://site.example/moved")),
            ("http_request", json!({"method": "HEAD", "url": "http://site.example/page"})),
        ],
    )
    .await;
    let told = &played.told;
    assert!(told[0].len() <= 70_000 && told[0].contains("cut"), "{} bytes", told[0].len());
    assert!(told[1].contains("binary: 7 bytes of image/png"), "{}", told[1]);
    assert!(told[2].starts_with("HTTP 404") && told[2].contains("nothing here"), "{}", told[2]);
    assert!(told[3].contains(PAGE) && told[3].contains("1 redirects"), "{}", told[3]);
    assert!(told[4].starts_with("HTTP 200") && !told[4].contains(PAGE), "{}", told[4]);
    let completed = events_of(&daemon, &played.id, "tool.completed").await;
    assert_eq!(completed[0]["truncated"], true);
}

#[tokio::test]
async fn what_no_rule_allows_is_denied_with_the_reason_and_nothing_is_sent() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let port = site.addr().port();
    let played = play(
        &daemon,
        &fake,
        "web",
        "denied",
        &[
            ("http_request", get("http://other.example/page")),
            ("http_request", get("https://site.example/page")),
            ("http_request", get("http://denied.example/")),
            ("http_request", get(&format!("http://127.0.0.1:{port}/page"))),
            ("http_request", get(&format!("http://localhost:{port}/page"))),
            ("http_request", get("http://169.254.169.254/latest/meta-data/")),
            ("http_request", get("http://site.example@evil.example/")),
            ("http_request", get("http://site.example.evil.example/")),
            ("http_request", get("ftp://site.example/")),
        ],
    )
    .await;
    assert!(site.asked().is_empty(), "{:#?}", site.asked());
    assert!(played.told[0].contains("other.example:80"), "{}", played.told[0]);
    assert!(played.told[2].contains("Denied"), "{}", played.told[2]);
    let denied = events_of(&daemon, &played.id, "tool.denied").await;
    assert_eq!(denied.len(), 9, "{denied:#?}");
    assert_eq!(denied[0]["rule"], "host.not_allowed");
    assert_eq!(played.run["tainted"], false);
    // The same daemon lets the listed one through.
    let control =
        play(&daemon, &fake, "web", "control", &[("http_request", get("http://site.example/"))])
            .await;
    assert!(control.told[0].contains(PAGE));
}

#[tokio::test]
async fn a_redirect_is_decided_again() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let calls = [
        ("http_request", get("http://site.example/away")),
        ("http_request", get("http://site.example/inside")),
    ];
    let played = play(&daemon, &fake, "blind", "away", &calls).await;
    assert!(site.asked_for("/page").is_empty(), "{:#?}", site.asked());
    let denied = events_of(&daemon, &played.id, "egress.denied").await;
    assert_eq!(denied[0]["host"], "elsewhere.example", "{denied:#?}");
    assert_eq!(denied[0]["reason"], "not_listed");
    assert_eq!(denied[1]["host"], "127.0.0.1", "{denied:#?}");
    assert!(played.told[0].contains("not_listed"), "{}", played.told[0]);
    // The redirect itself came from outside.
    assert_eq!(played.run["tainted"], true);
    // Who could give something away by now does not get as far as that.
    let calls = [
        ("http_request", get("http://site.example/page")),
        ("http_request", get("http://site.example/away")),
        ("http_request", get("http://site.example/moved")),
    ];
    let played = play(&daemon, &fake, "web", "exposed", &calls).await;
    assert!(events_of(&daemon, &played.id, "egress.denied").await.is_empty());
    assert!(played.told[1].contains("was not followed; to go there"), "{}", played.told[1]);
    assert!(played.told[1].contains("location: http://elsewhere.example/page"));
    assert!(played.told[2].contains(PAGE), "its own host is followed: {}", played.told[2]);
}

#[tokio::test]
async fn a_post_asks_and_the_card_names_the_one_place() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let post = json!({"method": "POST", "url": "http://site.example/post", "body": "the words"});
    fake.script("post", [Turn::call("http_request", &post), Turn::text("sent")]);
    let run = daemon.submit("web", "script:post").await;
    let approval = approval_of(&daemon, &run).await;
    assert_eq!(approval["egress"], json!(["site.example:80"]));
    assert_eq!((&approval["risk"], &approval["required_role"]), (&json!("high"), &json!("admin")));
    assert_eq!(approval["tainted"], false);
    assert!(site.asked().is_empty(), "nothing is sent before somebody says yes");
    daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
    daemon.wait_for(&run, &["succeeded"]).await;
    let asked = site.asked();
    assert_eq!((asked.len(), asked[0].body.as_str()), (1, "the words"));
    // A program with network: the card names the rules.
    fake.script("shell", [Turn::call("shell", &json!({"script": "true"})), Turn::text("end")]);
    let run = daemon.submit("web", "script:shell").await;
    let approval = approval_of(&daemon, &run).await;
    let rules = approval["egress"].as_array().unwrap();
    assert!(rules[0].as_str().unwrap().starts_with("site.example:80"), "{rules:?}");
}

/// Reads a page, then asks for what the test is about.
fn after_reading(call: &str, args: &Value) -> [Turn; 3] {
    [
        Turn::call("http_request", &get("http://site.example/page")),
        Turn::call(call, args),
        Turn::text("end"),
    ]
}

#[tokio::test]
async fn after_untrusted_content_a_request_that_carries_data_asks_and_says_why() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let query = get("http://site.example/collect?data=private");
    fake.script("query", after_reading("http_request", &query));
    let run = daemon.submit("web", "script:query").await;
    let approval = approval_of(&daemon, &run).await;
    assert_eq!(approval["tainted"], true);
    let reasons = approval["reasons"].to_string();
    assert!(reasons.contains("untrusted content"), "{reasons}");
    assert!(site.asked_for("/collect").is_empty());
    daemon
        .decide(&approval, &json!({"decision": "deny", "reason": "not from there"}))
        .await
        .expect(200);
    daemon.wait_for(&run, &["succeeded"]).await;
    assert!(site.asked_for("/collect").is_empty());
    // Plain reading goes on, and who has nothing to give away is not asked either.
    let pages = [
        ("http_request", get("http://site.example/page")),
        ("http_request", get("http://site.example/other")),
    ];
    play(&daemon, &fake, "web", "pages", &pages).await;
    let queries = [
        ("http_request", get("http://site.example/page")),
        ("http_request", get("http://site.example/collect?q=a")),
    ];
    play(&daemon, &fake, "blind", "queries", &queries).await;
    assert_eq!(site.asked_for("/collect").len(), 1);
}

#[tokio::test]
async fn taint_stays_with_the_conversation_and_with_its_forks() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let read =
        play(&daemon, &fake, "web", "first", &[("http_request", get("http://site.example/page"))])
            .await;
    let thread = &read.run["conversation_id"];
    let body = json!({"agent": "web", "input": "script:say", "conversation_id": thread});
    let next = daemon.post("/api/v1/runs?wait=30", &body).await.expect(200);
    assert_eq!((&next["state"], &next["tainted"]), (&json!("succeeded"), &json!(true)));
    let forked = daemon
        .post(&format!("/api/v1/runs/{}/fork", read.id), &json!({"input": "script:say fork"}))
        .await
        .expect(202);
    let id = forked["id"].as_str().unwrap();
    assert_eq!(daemon.wait_for(id, &["succeeded"]).await["tainted"], true);
    let fresh = json!({"agent": "web", "input": "script:say"});
    let fresh = daemon.post("/api/v1/runs?wait=30", &fresh).await.expect(200);
    assert_eq!(fresh["tainted"], false, "another conversation has read nothing");
}

async fn crash_in(method: &str, fake: &FakeLlm, site: &FakeSite) -> (Daemon, String) {
    let mut daemon = daemon(fake, site).await;
    let args = json!({"method": method, "url": "http://site.example/hang"});
    fake.script("hang-there", [Turn::call("http_request", &args), Turn::text("end")]);
    let run = daemon.submit("web", "script:hang-there").await;
    if method != "GET" {
        let approval = approval_of(&daemon, &run).await;
        daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
    }
    until("the request", || (!site.asked().is_empty()).then_some(())).await;
    daemon.kill();
    daemon.run().await;
    (daemon, run)
}

#[tokio::test]
async fn a_get_that_a_crash_interrupted_is_sent_again() {
    let (fake, site) = (provider(), FakeSite::start());
    let (daemon, run) = crash_in("GET", &fake, &site).await;
    let run = daemon.wait_for(&run, &["succeeded"]).await;
    assert_eq!(site.asked_for("/hang").len(), 2);
    assert_eq!(run["tainted"], true);
}

#[tokio::test]
async fn a_post_that_a_crash_interrupted_is_not_sent_again_before_a_person_has_spoken() {
    let (fake, site) = (provider(), FakeSite::start());
    let (daemon, run) = crash_in("POST", &fake, &site).await;
    daemon.wait_for(&run, &["paused"]).await;
    let approval = approval_of(&daemon, &run).await;
    assert_eq!(approval["kind"], "unknown_effect");
    assert_eq!(approval["tainted"], true, "what it read before the crash is not known");
    assert_eq!(site.asked_for("/hang").len(), 1);
    let happened = json!({"decision": "approve", "outcome": "happened"});
    daemon.decide(&approval, &happened).await.expect(200);
    daemon.wait_for(&run, &["succeeded"]).await;
    assert_eq!(site.asked_for("/hang").len(), 1);
}

#[tokio::test]
async fn a_cancel_ends_a_request_that_hangs() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let args = get("http://site.example/hang");
    fake.script("hanging", [Turn::call("http_request", &args), Turn::text("end")]);
    let run = daemon.submit("web", "script:hanging").await;
    until("the request", || (!site.asked().is_empty()).then_some(())).await;
    crate::scenes::verb(&daemon, &run, "cancel", &json!({})).await;
    daemon.wait_for(&run, &["cancelled"]).await;
    event(&daemon, &run, "run.cancelled").await;
    assert!(!kinds(&daemon, &run).await.contains(&"egress.denied".to_owned()));
}

#[tokio::test]
async fn the_tool_is_listed_and_the_stand_in_model_uses_it_when_told_to_fetch() {
    let site = FakeSite::start();
    let mut daemon = Daemon::prepare_with("", &agents(&site));
    daemon.run().await;
    let tools = daemon.get("/api/v1/tools").await.expect(200)["items"].clone();
    let tool = tools.as_array().unwrap().iter().find(|t| t["name"] == "http_request").unwrap();
    assert_eq!((&tool["effect"], &tool["risk"]), (&json!("pure"), &json!("low")));
    assert_eq!(tool["schema"]["required"], json!(["method", "url"]));
    let body = json!({"agent": "web", "input": "fetch http://site.example/page"});
    let run = daemon.post("/api/v1/runs?wait=30", &body).await.expect(200);
    assert_eq!((&run["state"], &run["tainted"]), (&json!("succeeded"), &json!(true)), "{run:#}");
    assert_eq!(site.asked_for("/page").len(), 1);
    let id = run["id"].as_str().unwrap();
    let completed = events_of(&daemon, id, "tool.completed").await;
    assert!(completed[0]["output"].as_str().unwrap().contains(PAGE), "{completed:#?}");
}

#[tokio::test]
async fn a_bound_secret_goes_to_its_place_and_a_placeholder_elsewhere_is_a_finding() {
    let (fake, site) = (provider(), FakeSite::start());
    let more = format!(
        "{}\n[egress.secrets.key]\nvalue = \"top-secret-8841\"\nhost = \"site.example\"\nport = 80\n\
         path_prefix = \"/api\"\n",
        agents(&site)
    );
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &more);
    daemon.run().await;
    let with_key = |path: &str| {
        json!({
            "method": "GET", "url": format!("http://site.example{path}"),
            "headers": {"authorization": "Bearer {{secret:key}}"},
        })
    };
    let calls = [("http_request", with_key("/elsewhere")), ("http_request", with_key("/api/x"))];
    let played = play(&daemon, &fake, "blind", "keys", &calls).await;
    assert!(played.told[0].contains("secret_misused"), "{}", played.told[0]);
    assert!(site.asked_for("/elsewhere").is_empty());
    let asked = site.asked_for("/api/x");
    assert_eq!(asked[0].headers["authorization"], "Bearer top-secret-8841");
    assert_eq!(events_of(&daemon, &played.id, "secret.blocked").await.len(), 1);
    let all = json!(daemon.events(&played.id).await).to_string();
    assert!(!all.contains("top-secret-8841"));
    let rows = audit_of(&daemon, &played.id, 2).await;
    assert!(rows.iter().any(|r| r["secrets"] == json!(["key"])), "{rows:#?}");
}
