//! Programs in the sandbox and the network: every way to the allowed site works, every other way
//! ends at the policy, and what was tried is on record.

use serde_json::{Value, json};

use crate::{
    scenes::{approval_of, provider, sh, until, workspace_text},
    support::{
        daemon::Daemon,
        fake_llm::Turn,
        fake_site::{FakeSite, PAGE},
    },
    web::{audit_of, daemon, events_of, get, play},
};

/// A client that knows nothing of proxies: it talks to port 80 of a made-up address.
const BARE: &str = r#"
import socket, sys
s = socket.create_connection(("198.51.100.7", 80), timeout=10)
s.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (sys.argv[2], sys.argv[1])).encode())
data = b""
while True:
    piece = s.recv(65536)
    if not piece: break
    data += piece
print(data.decode(errors="replace"))
"#;

fn bare(host: &str, path: &str) -> Value {
    json!({"argv": ["python3", "-c", BARE, host, path]})
}

#[tokio::test]
async fn the_allowed_site_is_reached_through_the_proxy_and_without_it() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let unset = "unset http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY; ";
    for (name, call) in [
        ("curl", sh("curl -sS http://site.example/by-curl")),
        (
            "python",
            sh("python3 -c 'import urllib.request as u; \
             print(u.urlopen(\"http://site.example/by-python\").read().decode())'"),
        ),
        ("transparent", sh(&format!("{unset}curl -sS http://site.example/transparent"))),
        ("bare", bare("site.example", "/bare")),
    ] {
        let played = play(&daemon, &fake, "web", name, &[("exec", call)]).await;
        assert!(played.told[0].contains(PAGE), "{name}: {:#?}\n{}", played.told, daemon.log());
        assert_eq!(played.run["tainted"], true, "{name}");
        let rows = audit_of(&daemon, &played.id, 1).await;
        let row = rows.iter().find(|r| r["via"] == "http").expect("a row");
        assert_eq!(
            (&row["allowed"], &row["host"]),
            (&json!(true), &json!("site.example")),
            "{row}"
        );
    }
    for path in ["/by-curl", "/by-python", "/transparent", "/bare"] {
        assert_eq!(site.asked_for(path).len(), 1, "{path}: {:#?}", site.asked());
    }
}

#[tokio::test]
async fn every_other_host_is_refused_told_and_recorded() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let calls = [
        ("exec", sh("curl -sS -i http://other.example/secret-path?secret=query")),
        ("exec", sh("curl -sS -i https://other.example/ 2>&1")),
        ("exec", bare("other.example", "/")),
        ("exec", bare("denied.example", "/")),
        ("exec", sh("curl -sS -i http://127.0.0.1/")),
        ("exec", sh("getent hosts other.example || echo no such name")),
    ];
    let played = play(&daemon, &fake, "web", "others", &calls).await;
    assert!(site.asked().is_empty(), "{:#?}", site.asked());
    let told = &played.told;
    assert!(
        told[0].contains("403") && told[0].contains("x-egress-reason: not_listed"),
        "{told:#?}"
    );
    assert!(told[1].contains("403"), "{}", told[1]);
    assert!(told[2].contains("403") && told[2].contains("not_listed"), "{}", told[2]);
    assert!(told[3].contains("403"), "{}", told[3]);
    assert!(told[4].contains("403"), "{}", told[4]);
    assert!(told[5].contains("no such name"), "{}", told[5]);
    assert_eq!(played.run["tainted"], false, "a refusal is ours, not theirs");
    let denied = events_of(&daemon, &played.id, "egress.denied").await;
    assert!(
        denied.iter().any(|d| d["host"] == "other.example" && d["via"] == "http"),
        "{denied:#?}"
    );
    assert!(denied.iter().any(|d| d["via"] == "connect"), "{denied:#?}");
    assert!(denied.iter().any(|d| d["host"] == "denied.example"), "{denied:#?}");
    assert!(denied.iter().all(|d| d["call_id"].is_string()), "{denied:#?}");
    let rows = audit_of(&daemon, &played.id, denied.len()).await;
    assert!(rows.iter().all(|row| row["allowed"] == false), "{rows:#?}");
    assert!(!json!(rows).to_string().contains("secret=query"), "no query is ever recorded");
}

#[tokio::test]
async fn an_agent_without_hosts_has_no_network_at_all() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let calls =
        [("exec", bare("site.example", "/")), ("exec", sh("env | grep -i proxy || echo no proxy"))];
    let played = play(&daemon, &fake, "open", "offline", &calls).await;
    assert!(site.asked().is_empty());
    assert!(!played.told[0].contains("HTTP"), "{}", played.told[0]);
    assert!(played.told[1].contains("no proxy"), "{}", played.told[1]);
    assert!(events_of(&daemon, &played.id, "egress.denied").await.is_empty());
}

#[tokio::test]
async fn after_untrusted_content_a_program_runs_without_network_unless_a_person_agrees() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let send = "curl -sS http://site.example/collect --data private";
    let calls = [
        ("http_request", get("http://site.example/page")),
        ("exec", sh(send)),
        ("exec", sh("echo still working")),
    ];
    let played = play(&daemon, &fake, "web", "quiet", &calls).await;
    assert!(site.asked_for("/collect").is_empty(), "{:#?}", site.asked());
    assert!(played.told[1].contains("`network`: true"), "{}", played.told[1]);
    assert!(played.told[2].contains("still working"), "{}", played.told[2]);
    // With a person's word it goes out.
    let asking = json!({"argv": ["/bin/sh", "-c", send], "network": true});
    fake.script(
        "asking",
        [
            Turn::call("http_request", &get("http://site.example/page")),
            Turn::call("exec", &asking),
            Turn::text("end"),
        ],
    );
    let run = daemon.submit("web", "script:asking").await;
    let approval = approval_of(&daemon, &run).await;
    assert_eq!(approval["tainted"], true);
    assert!(approval["reasons"].to_string().contains("untrusted"), "{approval}");
    assert!(approval["egress"].to_string().contains("site.example:80"), "{approval}");
    daemon.decide(&approval, &json!({"decision": "approve"})).await.expect(200);
    daemon.wait_for(&run, &["succeeded"]).await;
    assert_eq!(site.asked_for("/collect").len(), 1);
}

#[tokio::test]
async fn a_run_keeps_its_tmp_between_calls_and_nobody_finds_it_afterwards() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let mark = "mark-9917";
    let calls = [
        ("exec", sh(&format!("echo {mark} > /tmp/kept; echo $$ > pid; sleep 300 & true"))),
        ("exec", sh("cat /tmp/kept; ls /proc | grep -c '^[0-9]'")),
    ];
    let played = play(&daemon, &fake, "open", "kept", &calls).await;
    assert!(played.told[1].contains(mark), "{:#?}", played.told);
    assert!(!workspace_text(&daemon, "open", "pid").is_empty());
    let later = [("exec", sh("cat /tmp/kept || echo nothing there"))];
    let later = play(&daemon, &fake, "open", "later", &later).await;
    assert!(later.told[0].contains("nothing there"), "{:#?}", later.told);
    assert_eq!(later.run["confinement"], played.run["confinement"]);
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_keeps_nothing() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let ask = json!({"question": "go on?"});
    fake.script(
        "waits",
        [
            Turn::call("exec", &sh("echo kept > /tmp/kept")),
            Turn::call("ask_user", &ask),
            Turn::call("exec", &sh("cat /tmp/kept || echo nothing there")),
            Turn::text("end"),
        ],
    );
    let run = daemon.submit("open", "script:waits").await;
    daemon.wait_for(&run, &["paused"]).await;
    let resumed =
        daemon.post(&format!("/api/v1/runs/{run}/resume"), &json!({"input": "yes"})).await;
    assert!(resumed.status.is_success(), "{}", resumed.text);
    daemon.wait_for(&run, &["succeeded"]).await;
    let told = fake.seen_of("waits");
    let last = told.last().unwrap().results();
    assert!(last.iter().any(|r| r.1.contains("nothing there")), "{last:#?}");
}

#[tokio::test]
async fn readiness_says_that_the_network_of_tools_is_held() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon: Daemon = daemon(&fake, &site).await;
    let ready = daemon.get("/readyz").await.expect(200);
    assert_eq!(ready["checks"]["egress"]["ok"], true, "{ready}");
    let detail = ready["checks"]["egress"]["detail"].as_str().unwrap();
    assert!(detail.contains("every way out"), "{detail}");
}

#[tokio::test]
async fn a_host_that_is_taken_off_the_list_is_cut_off_at_once() {
    let (fake, site) = (provider(), FakeSite::start());
    let daemon = daemon(&fake, &site).await;
    let add = ["egress", "add", "late.example:80", "--allow-private", "--agent", "web"];
    let added = daemon.cli(&add).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    let call = sh("curl -sS -m 25 http://late.example/hang; echo code $?");
    fake.script("late", [Turn::call("exec", &call), Turn::text("end")]);
    let run = daemon.submit("web", "script:late").await;
    until("the request", || (!site.asked_for("/hang").is_empty()).then_some(())).await;
    let started = tokio::time::Instant::now();
    let removed = daemon.cli(&["egress", "remove", "late.example:80 allow_private"]).await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    daemon.wait_for(&run, &["succeeded"]).await;
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "it was not cut");
    let denied = events_of(&daemon, &run, "egress.denied").await;
    assert!(denied.iter().any(|d| d["host"] == "late.example"), "{denied:#?}");
    let later = [("http_request", get("http://late.example/page"))];
    let later = play(&daemon, &fake, "web", "later", &later).await;
    assert_eq!(events_of(&daemon, &later.id, "tool.denied").await.len(), 1);
}
