//! What the tests of the network share: an agent that may reach one site, and a look at what was
//! recorded.

use serde_json::{Value, json};

use crate::support::{
    daemon::Daemon,
    fake_llm::{FakeLlm, Turn},
    fake_site::FakeSite,
};

/// `web` may reach `site.example` at port 80 with every method, and run any program. `reader_web`
/// has nothing to give away.
pub(crate) fn agents(site: &FakeSite) -> String {
    format!(
        r#"
[agents.web]
system_prompt = "test"
tools = ["exec", "shell", "read_file", "write_file", "http_request"]
roles = ["member", "operator", "admin", "overlord"]
allowed_commands = ["*"]
allowed_domains = [{{ host = "site.example", port = 80, allow_private = true }}]
denied_domains = ["denied.example"]
[agents.blind]
system_prompt = "test"
tools = ["http_request"]
roles = ["member", "operator", "admin", "overlord"]
allowed_domains = [{{ host = "site.example", port = 80, allow_private = true }}]
[egress]
connect_to = {{ "site.example:80" = "{0}", "late.example:80" = "{0}" }}
"#,
        site.addr()
    )
}

pub(crate) async fn daemon(fake: &FakeLlm, site: &FakeSite) -> Daemon {
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &agents(site));
    daemon.run().await;
    daemon
}

/// Arguments of a GET.
pub(crate) fn get(url: &str) -> Value {
    json!({"method": "GET", "url": url})
}

/// A run that has ended, and what the model was told of each call.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) id: String,
    pub(crate) run: Value,
    pub(crate) told: Vec<String>,
}

/// Plays the calls one by one.
pub(crate) async fn play(
    daemon: &Daemon,
    fake: &FakeLlm,
    agent: &str,
    name: &str,
    calls: &[(&str, Value)],
) -> Played {
    let turns = calls.iter().map(|(tool, args)| Turn::call(tool, args));
    fake.script(name, turns.chain([Turn::text("done")]).collect::<Vec<_>>());
    let body = json!({"agent": agent, "input": format!("script:{name}")});
    let run = daemon.post("/api/v1/runs?wait=60", &body).await.expect(200);
    assert_eq!(run["state"], "succeeded", "{run:#}\n{}", daemon.log());
    let seen = fake.seen_of(name);
    let told = seen.last().expect("a request").results().iter().map(|r| r.1.to_owned()).collect();
    let id = run["id"].as_str().expect("an id").to_owned();
    Played { id, run, told }
}

/// The data of a run's events of one type.
pub(crate) async fn events_of(daemon: &Daemon, run: &str, kind: &str) -> Vec<Value> {
    let events = daemon.events(run).await;
    events.iter().filter(|e| e["type"] == kind).map(|e| e["data"].clone()).collect()
}

/// The data of the egress rows in the audit trail of a run, waited for: they are written beside
/// the run.
pub(crate) async fn audit_of(daemon: &Daemon, run: &str, least: usize) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + crate::support::daemon::PATIENCE;
    loop {
        let told = daemon.cli(&["audit", "export"]).await;
        let rows: Vec<Value> = told
            .out
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|row| row["kind"] == "egress" && row["run_id"] == run)
            .map(|row| row["data"].clone())
            .collect();
        if rows.len() >= least {
            return rows;
        }
        assert!(tokio::time::Instant::now() < deadline, "only {rows:#?}\n{told:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
