//! A canary in every place where a secret stands, a workload that tries to get each of them out over
//! every surface and in every encoding, and a search through all that was written and answered.
//!
//! The control is a value that is planted in the same way and registered nowhere: the same search
//! must find it, or it would find nothing at all.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenes::approval_of,
    secrets::set,
    support::{
        daemon::{ADMIN, ALICE, BOB, Daemon, OPERATOR, PROVIDER_KEY, VIEWER},
        fake_llm::{FakeLlm, Turn},
        live::{Sse, Ws},
    },
};

const PERMISSION: &str = "canary/permission+secret&<0123456789>=";
const PREVIOUS: &str = "canary-previous-permission-secret-987654";
const BOUND: &str = "canary bound \"egress\" secret%2F/+=~42";
const SEALED: &str = "canary-sealed-secret/with+signs&more?";
const PROXY_PASSWORD: &str = "canary-proxy-password-5150";
/// Planted like the others, registered nowhere.
const CONTROL: &str = "control-value-that-nobody-registered/77";

/// Every canary, by the place where it stands.
fn canaries() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("token of the configuration", ADMIN),
        ("token of an operator", OPERATOR),
        ("token of a member", ALICE),
        ("token of another member", BOB),
        ("token of a viewer", VIEWER),
        ("model key", PROVIDER_KEY),
        ("permission secret", PERMISSION),
        ("previous permission secret", PREVIOUS),
        ("bound egress secret", BOUND),
        ("sealed secret", SEALED),
        ("proxy password", PROXY_PASSWORD),
    ])
}

/// Encodings of a value, written down here again: a test that took them from the program would miss
/// what the program misses.
fn encodings(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE},
    };
    let bytes = value.as_bytes();
    let percent = |upper: bool| -> String {
        let one = |b: &u8| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(*b).to_string()
            }
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        };
        bytes.iter().map(one).collect()
    };
    let hex = data_encoding::HEXLOWER.encode(bytes);
    let json = serde_json::to_string(value).unwrap();
    let html = value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    let mut all = vec![
        ("raw", value.to_owned()),
        ("json", json.trim_matches('"').to_owned()),
        ("html", html),
        ("percent", percent(true)),
        ("percent, lower case", percent(false)),
        ("hex", hex.clone()),
        ("hex, upper case", hex.to_ascii_uppercase()),
    ];
    for (name, engine) in [("base64", &STANDARD), ("base64url", &URL_SAFE)] {
        for before in 0..3 {
            let text = engine.encode([&vec![b'?'; before], bytes].concat());
            // The last characters depend on what follows.
            let inner = text.get([0, 2, 3][before]..text.len() - 4).unwrap();
            all.push((name, inner.to_owned()));
        }
    }
    let mut all: Vec<(&str, Vec<u8>)> = all.into_iter().map(|(n, t)| (n, t.into_bytes())).collect();
    all.push(("utf-16", value.encode_utf16().flat_map(u16::to_le_bytes).collect()));
    all
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// What was found where.
fn search(
    seen: &[(String, Vec<u8>)],
    values: &BTreeMap<&'static str, &'static str>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (place, value) in values {
        for (encoding, needle) in encodings(value) {
            for (where_, text) in seen {
                if holds(text, &needle) {
                    found.push(format!("{place} as {encoding} in {where_}"));
                }
            }
        }
    }
    found
}

/// Every file below a directory but these.
fn files(dir: &Path, except: &[PathBuf], out: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if except.contains(&path) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&path, except, out);
        } else if kind.is_file() {
            out.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

/// What every surface has answered.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, what: &str, text: impl Into<String>) {
        self.0.push((what.to_owned(), text.into().into_bytes()));
    }

    async fn call(
        &mut self,
        daemon: &Daemon,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Value {
        let answer = daemon.call(method, path, token, body).await.unwrap();
        self.add(path, format!("{:?} {}", answer.headers, answer.text));
        serde_json::from_str(&answer.text).unwrap_or_default()
    }

    async fn cli(&mut self, daemon: &Daemon, args: &[&str]) {
        let told = daemon.cli(args).await;
        self.add(&args.join(" "), format!("{}{}", told.out, told.err));
    }
}

fn secret_file(path: &Path, text: &str) {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut options = fs::OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A daemon with a canary in every place, and the files that may hold them.
async fn daemon(fake: &FakeLlm) -> (Daemon, Vec<PathBuf>) {
    let proxy = format!("http://user:{PROXY_PASSWORD}@127.0.0.1:9");
    let more = format!(
        "[egress]\nproxy_url = {proxy:?}\n\
         [egress.secrets.bound]\nvalue_file = \"bound\"\nhost = \"api.example.com\"\n\
         [egress.secrets.kept]\nhost = \"kept.example.com\"\n\
         [agents.web]\nsystem_prompt = \"test\"\ntools = [\"http_request\", \"exec\"]\n\
         roles = [\"member\", \"admin\"]\nallowed_commands = [\"*\"]\n\
         allowed_domains = [\"api.example.com\", \"kept.example.com\"]\n\
         [models.far]\nprovider = \"openai\"\nmodel = \"far\"\nbase_url = \"http://127.0.0.1:9\"\n\
         api_key_secret = \"kept\"\n\
         [agents.far]\nsystem_prompt = \"test\"\nmodel = \"far\"\nroles = [\"member\", \"admin\"]\n",
    );
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &more);
    secret_file(&daemon.dir().join("bound"), BOUND);
    secret_file(&daemon.dir().join("permission"), PERMISSION);
    secret_file(&daemon.dir().join("previous"), PREVIOUS);
    let named = |name: &str| daemon.dir().join(name).display().to_string();
    let (permission, previous) = (named("permission"), named("previous"));
    daemon.set_env("AGENT_RUNTIME_PERMISSION_SECRET_FILE", &permission);
    daemon.set_env("AGENT_RUNTIME_PERMISSION_SECRET_PREVIOUS_FILE", &previous);
    daemon.set_env("AGENT_RUNTIME_LOG_LEVEL", "trace");
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    daemon.set_env("AGENT_RUNTIME_METRICS_ADDR", &metrics.to_string());
    daemon.run().await;
    assert_eq!(set(&daemon, "kept", SEALED).code, Some(0));
    let allowed = ["bound", "permission", "previous", "test.toml"];
    let allowed = allowed.iter().map(|name| daemon.dir().join(name)).collect();
    (daemon, allowed)
}

/// Text with a value in every encoding, whole: what [`encodings`] looks for are parts of these, where
/// the ends of an encoding depend on what stands beside the value.
fn everything(value: &str) -> String {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE},
    };
    let mut text = String::new();
    for (name, bytes) in encodings(value).into_iter().filter(|(name, _)| !name.contains("base64")) {
        if let Ok(form) = String::from_utf8(bytes) {
            writeln!(text, "{name}: {form}").unwrap();
        }
    }
    for before in 0..3 {
        let plain = format!("{}{value}~", "?".repeat(before));
        writeln!(text, "base64: {}", STANDARD.encode(&plain)).unwrap();
        writeln!(text, "base64url: {}", URL_SAFE.encode(&plain)).unwrap();
    }
    text
}

/// One value through every surface.
async fn leak(daemon: &Daemon, fake: &FakeLlm, seen: &mut Seen, n: usize, value: &str) {
    let script = format!("leak{n}");
    // The tools read it from a file, since what a model writes is masked before it runs.
    let read = json!({"path": format!("leak{n}.txt")});
    let shell = format!(
        "cat leak{n}.txt; base64 leak{n}.txt; base64 -w 20 leak{n}.txt; od -An -tx1 leak{n}.txt | tr -d ' \\n'; cat leak{n}.txt >&2"
    );
    fake.script(
        &script,
        [
            Turn::call("exec", &json!({"argv": ["/bin/sh", "-c", shell]})),
            Turn::call("read_file", &read),
            Turn::call("exec", &json!({"argv": ["/bin/echo", value]})),
            Turn::call("write_file", &json!({"path": "echo.txt", "content": value})),
            Turn::call("list_files", &json!({"path": format!("/nowhere/{value}")})),
            Turn::call("nonsense", &json!({"what": value})),
            Turn::text(&everything(value)),
        ],
    );
    let planted = daemon.workspace("open").join(format!("leak{n}.txt"));
    fs::create_dir_all(planted.parent().unwrap()).unwrap();
    fs::write(&planted, value).unwrap();
    let body = json!({
        "agent": "open", "input": format!("script:{script} {value}"),
        "metadata": {"note": value},
    });
    let mut socket = Ws::open(daemon, daemon.admin()).await;
    let run = seen.call(daemon, Method::POST, "/api/v1/runs", daemon.admin(), Some(&body)).await;
    let id = run["id"].as_str().unwrap().to_owned();
    let heard = socket.ask(json!({"type": "subscribe", "run_id": id})).await;
    seen.add("ws subscribe", heard.to_string());
    let mut events = Sse::open(daemon, daemon.admin(), &id, 0).await;
    daemon.wait_for(&id, &["succeeded", "failed"]).await;
    while let Ok(Some(event)) =
        tokio::time::timeout(Duration::from_millis(300), events.next()).await
    {
        seen.add("sse", event.data.to_string());
    }
    while let Ok(Some(frame)) =
        tokio::time::timeout(Duration::from_millis(300), socket.next_event()).await
    {
        seen.add("ws", frame.to_string());
    }
    for wrong in [
        json!({"type": value, "id": "x"}),
        json!({"type": "run.create", "agent": value, "input": value}),
        json!({"type": "run.steer", "run_id": id, "input": value, "more": value}),
    ] {
        seen.add("ws problem", socket.ask(wrong).await.to_string());
    }
    for path in ["", "/events?limit=500", "/bundles"] {
        seen.call(daemon, Method::GET, &format!("/api/v1/runs/{id}{path}"), daemon.admin(), None)
            .await;
    }
    errors(daemon, seen, n, value).await;
    people(daemon, fake, seen, n, value).await;
}

/// Requests that are wrong, with the value in every part that a problem may quote.
async fn errors(daemon: &Daemon, seen: &mut Seen, n: usize, value: &str) {
    let quoted: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    for (method, path, body) in [
        (Method::POST, "/api/v1/runs".to_owned(), json!({"agent": value, "input": "x"})),
        (
            Method::POST,
            "/api/v1/runs".to_owned(),
            json!({"agent": "open", "input": "x", "on_busy": value}),
        ),
        (Method::POST, "/api/v1/runs".to_owned(), {
            let mut body = json!({"agent": "open", "input": "x"});
            body[value] = json!(1);
            body
        }),
        (Method::GET, format!("/api/v1/runs/{quoted}"), Value::Null),
        (Method::GET, format!("/api/v1/runs?state={quoted}"), Value::Null),
        (Method::GET, format!("/{quoted}"), Value::Null),
    ] {
        let body = Some(&body).filter(|b| !b.is_null());
        seen.call(daemon, method, &path, daemon.admin(), body).await;
    }
    // More of them would lock the address out.
    if n < 4 {
        let strange = value.replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let strange = format!("art_{strange}");
        seen.call(daemon, Method::GET, "/api/v1/me", &strange, None).await;
    }
}

/// Approvals, answers, reasons and notes.
async fn people(daemon: &Daemon, fake: &FakeLlm, seen: &mut Seen, n: usize, value: &str) {
    let (asks, runs) = (format!("asks{n}"), format!("runs{n}"));
    fake.script(
        &asks,
        [
            Turn::call("ask_user", &json!({"question": format!("Is it {value}?")})),
            Turn::text("thanks"),
        ],
    );
    fake.script(
        &runs,
        [Turn::call("exec", &json!({"argv": ["/bin/echo", value]})), Turn::text("done")],
    );
    let start = |script: &str| json!({"agent": "careful", "input": format!("script:{script}")});
    let run =
        seen.call(daemon, Method::POST, "/api/v1/runs", daemon.admin(), Some(&start(&runs))).await;
    let id = run["id"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned();
    let approval = approval_of(daemon, &id).await;
    seen.add("approval", approval.to_string());
    let path = format!("/api/v1/approvals/{}/decision", approval["id"].as_str().unwrap());
    let no = json!({"decision": "deny", "reason": format!("because {value}")});
    seen.call(daemon, Method::POST, &path, daemon.admin(), Some(&no)).await;
    daemon.wait_for(&id, &["succeeded"]).await;
    let run =
        seen.call(daemon, Method::POST, "/api/v1/runs", daemon.admin(), Some(&start(&asks))).await;
    let id = run["id"].as_str().unwrap().to_owned();
    daemon.wait_for(&id, &["waiting_input", "paused", "waiting"]).await;
    let steer = json!({"input": format!("also {value}")});
    seen.call(
        daemon,
        Method::POST,
        &format!("/api/v1/runs/{id}/steer"),
        daemon.admin(),
        Some(&steer),
    )
    .await;
    let cancel = json!({"reason": format!("no more {value}")});
    seen.call(
        daemon,
        Method::POST,
        &format!("/api/v1/runs/{id}/cancel"),
        daemon.admin(),
        Some(&cancel),
    )
    .await;
    daemon.wait_for(&id, &["cancelled"]).await;
    patterns(daemon, fake, seen, n, value).await;
    seen.cli(daemon, &["egress", "add", "a.example.com", "--note", value]).await;
    seen.cli(daemon, &["egress", "remove", "a.example.com"]).await;
    seen.cli(daemon, &["run", "show", &id]).await;
}

/// A yes to calls like one that names the value: tried on the past, given, used and shown.
async fn patterns(daemon: &Daemon, fake: &FakeLlm, seen: &mut Seen, n: usize, value: &str) {
    let script = format!("like{n}");
    let call = |word: &str| Turn::call("exec", &json!({"argv": ["/bin/echo", value, word]}));
    fake.script(&script, [call("first"), call("second"), Turn::text("done")]);
    let body = json!({"agent": "careful", "input": format!("script:{script}")});
    let run = seen.call(daemon, Method::POST, "/api/v1/runs", daemon.admin(), Some(&body)).await;
    let id = run["id"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned();
    let card = approval_of(daemon, &id).await;
    let path = format!("/api/v1/approvals/{}", card["id"].as_str().unwrap());
    let prefix = &card["args"]["argv"].as_array().unwrap()[..2];
    let pattern = json!({"argv_prefix": prefix, "ttl_secs": 60, "uses": 2});
    let preview = format!("{path}/pattern-preview");
    seen.call(daemon, Method::POST, &preview, daemon.admin(), Some(&pattern)).await;
    let yes = json!({
        "decision": "approve", "scope": "pattern", "pattern": pattern,
        "reason": format!("it is only {value}"),
    });
    let decision = format!("{path}/decision");
    let decided = seen.call(daemon, Method::POST, &decision, daemon.admin(), Some(&yes)).await;
    assert_eq!(decided["state"], "approved", "{decided}");
    daemon.wait_for(&id, &["succeeded"]).await;
    let patterns = "/api/v1/approval-patterns";
    let listed = seen.call(daemon, Method::GET, patterns, daemon.admin(), None).await;
    assert_eq!(listed["items"][0]["uses_left"], 1, "one call has used it: {listed}");
    seen.cli(daemon, &["approval", "patterns"]).await;
    let revoke = ["approval", "revoke-pattern", listed["items"][0]["id"].as_str().unwrap()];
    seen.cli(daemon, &revoke).await;
}

#[tokio::test]
async fn no_canary_leaves_its_place_over_any_surface_in_any_encoding() {
    let fake = FakeLlm::start();
    let (mut daemon, allowed) = daemon(&fake).await;
    let mut canaries = canaries();
    // Nobody but the one who asks for it has seen this one.
    let made = daemon.cli(&["token", "create", "bob", "--json"]).await.json();
    canaries.insert("token that an administrator made", kept(&made["token"]));
    let mut seen = Seen::default();
    let values: Vec<&str> = canaries.values().copied().chain([CONTROL]).collect();
    for (n, value) in values.iter().enumerate() {
        leak(&daemon, &fake, &mut seen, n, value).await;
    }
    // Requests that carry a secret, and fail on the way: their errors hold none.
    for (name, host) in [("bound", "api.example.com"), ("kept", "kept.example.com")] {
        let headers = json!({"authorization": format!("Bearer {{{{secret:{name}}}}}")});
        let args = json!({"method": "GET", "url": format!("https://{host}/x"), "headers": headers});
        fake.script(name, [Turn::call("http_request", &args), Turn::text("done")]);
        let id = daemon.submit("web", &format!("script:{name}")).await;
        daemon.wait_for(&id, &["succeeded"]).await;
        seen.call(&daemon, Method::GET, &format!("/api/v1/runs/{id}/events"), ADMIN, None).await;
    }
    let id = daemon.submit("far", "hello").await;
    seen.call(&daemon, Method::GET, &format!("/api/v1/runs/{id}"), ADMIN, None).await;
    for path in ["/api/v1/me", "/api/v1/info", "/api/v1/agents", "/readyz", "/openapi.json"] {
        seen.call(&daemon, Method::GET, path, ADMIN, None).await;
    }
    for args in [
        &["secret", "list"][..],
        &["secret", "reload"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["audit", "query", "--limit", "2000", "--json"],
        &["audit", "export"],
        &["run", "list"],
        &["doctor", "--json"],
    ] {
        seen.cli(&daemon, args).await;
    }
    let metrics = daemon.log();
    let address = metrics.lines().rev().find(|l| l.contains("\"metrics\""));
    let address = address.and_then(|l| serde_json::from_str::<Value>(l).ok());
    let address = address.unwrap()["address"].as_str().unwrap().to_owned();
    let metrics = daemon.http().get(format!("http://{address}/metrics")).send().await.unwrap();
    seen.add("metrics", metrics.text().await.unwrap());
    for request in fake.seen() {
        seen.add("a request to the model", request.conversation.clone());
        request.results().iter().for_each(|r| seen.add("a result for the model", r.1));
    }
    assert_eq!(daemon.stop().await, Some(0));
    seen.add("the log", daemon.log());
    let planted = (0..values.len()).map(|n| daemon.workspace("open").join(format!("leak{n}.txt")));
    let except: Vec<PathBuf> = allowed.into_iter().chain(planted).collect();
    files(daemon.dir(), &except, &mut seen.0);
    for path in &except[..4] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
    let found = search(&seen.0, &canaries);
    assert!(found.is_empty(), "{} places: {:#?}", found.len(), &found[..found.len().min(40)]);
    // The same search finds what is not registered, on every kind of surface.
    let control = search(&seen.0, &BTreeMap::from([("control", CONTROL)]));
    for (encoding, place) in [
        ("raw", "sse"),
        ("raw", "ws"),
        ("raw", "/api/v1/runs"),
        ("raw", "audit export"),
        ("raw", "agent-runtime.db"),
        // No payload is logged; a path is.
        ("percent", "the log"),
        ("base64", "sse"),
        ("hex", "sse"),
        ("percent", "sse"),
        ("raw", "a result for the model"),
    ] {
        let is_found =
            control.iter().any(|f| f.contains(&format!("as {encoding} in")) && f.contains(place));
        assert!(is_found, "the search is blind: {encoding} in {place}\n{control:#?}");
    }
}

/// A value that is known only while the test runs.
fn kept(value: &Value) -> &'static str {
    value.as_str().expect("a text").to_owned().leak()
}

#[tokio::test]
async fn the_token_of_the_first_start_stands_in_its_file_and_was_shown_once() {
    let fake = FakeLlm::start();
    let mut daemon = Daemon::prepare(&fake.openai_url());
    let file = daemon.dir().join("test.toml");
    let config = fs::read_to_string(&file).unwrap();
    let without = config.split_at(config.find("[llm]").unwrap()).1.to_owned();
    fs::write(&file, without).unwrap();
    daemon.set_env("AGENT_RUNTIME_LOG_LEVEL", "trace");
    daemon.run().await;
    let place = daemon.data_dir().join("bootstrap-token");
    let token = kept(&json!(fs::read_to_string(&place).unwrap().trim()));
    daemon.ask_as(token);
    let mut seen = Seen::default();
    for (n, value) in [token, CONTROL].into_iter().enumerate() {
        leak(&daemon, &fake, &mut seen, n, value).await;
    }
    for args in [&["secret", "list"][..], &["config", "show"], &["audit", "export"], &["doctor"]] {
        seen.cli(&daemon, args).await;
    }
    assert_eq!(daemon.stop().await, Some(0));
    // Once, at the start that made it.
    let log = daemon.log();
    assert_eq!(log.matches(token).count(), 1);
    seen.add("the log", log.replacen(token, "", 1));
    let planted = (0..2).map(|n| daemon.workspace("open").join(format!("leak{n}.txt")));
    let log = daemon.dir().join("daemon.log");
    let except: Vec<PathBuf> = [place, log].into_iter().chain(planted).collect();
    files(daemon.dir(), &except, &mut seen.0);
    let found = search(&seen.0, &BTreeMap::from([("bootstrap token", token)]));
    assert!(found.is_empty(), "{} places: {:#?}", found.len(), &found[..found.len().min(40)]);
    let control = search(&seen.0, &BTreeMap::from([("control", CONTROL)]));
    assert!(control.iter().any(|f| f.contains("agent-runtime.db")), "the search is blind");
}
