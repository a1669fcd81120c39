//! Tools through whole runs: what they do inside their workspace and that they do nothing outside.

use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use crate::{
    scenes::{kinds, provider, sh, workspace_text},
    support::{
        daemon::Daemon,
        fake_llm::{FakeLlm, Turn},
    },
};

/// Plays the calls one by one; what the model was told of each.
async fn play(
    daemon: &Daemon,
    fake: &FakeLlm,
    agent: &str,
    name: &str,
    calls: &[(&str, Value)],
) -> Vec<String> {
    let turns = calls.iter().map(|(tool, args)| Turn::call(tool, args));
    fake.script(name, turns.chain([Turn::text("done")]).collect::<Vec<_>>());
    let body = json!({"agent": agent, "input": format!("script:{name}")});
    let run = daemon.post("/api/v1/runs?wait=60", &body).await.expect(200);
    assert_eq!(run["state"], "succeeded", "{run:#}\n{}", daemon.log());
    let seen = fake.seen_of(name);
    seen.last().expect("a request").results().iter().map(|r| r.1.to_owned()).collect()
}

/// Type and rule of each refusal and the status of each execution, in order.
async fn outcomes(daemon: &Daemon, run: &str) -> Vec<String> {
    let events = daemon.events(run).await;
    let outcome = |e: &Value| match e["type"].as_str()? {
        "tool.denied" => Some(format!("denied {}", e["data"]["rule"].as_str()?)),
        "tool.completed" => Some(e["data"]["status"].as_str()?.to_owned()),
        _ => None,
    };
    events.iter().filter_map(outcome).collect()
}

async fn last_run(daemon: &Daemon) -> String {
    let page = daemon.get("/api/v1/runs?limit=1").await.expect(200);
    page["items"][0]["id"].as_str().expect("a run").to_owned()
}

#[tokio::test]
async fn files_are_written_read_edited_listed_and_searched_inside() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let told = play(
        &daemon,
        &fake,
        "open",
        "files",
        &[
            (
                "write_file",
                json!({"path": "src/a.txt", "content": "one\ntwo\nthree\n", "mode": "create"}),
            ),
            ("read_file", json!({"path": "src/a.txt", "offset": 2, "limit": 1})),
            ("edit_file", json!({"path": "src/a.txt", "old": "two", "new": "2"})),
            ("write_file", json!({"path": "src/a.txt", "content": "four\n", "mode": "append"})),
            ("list_files", json!({"recursive": true})),
            ("search_files", json!({"pattern": "thr.e"})),
            ("write_file", json!({"path": "src/a.txt", "content": "x", "mode": "create"})),
            ("edit_file", json!({"path": "src/a.txt", "old": "absent", "new": "x"})),
            ("read_file", json!({"path": "src/missing.txt"})),
            ("exec", sh("cat src/a.txt; id -u")),
        ],
    )
    .await;
    let file = daemon.workspace("open").join("src/a.txt");
    assert_eq!(fs::read_to_string(file).unwrap(), "one\n2\nthree\nfour\n");
    assert!(told[1].contains("two") && !told[1].contains("one\n"), "{told:#?}");
    assert!(told[4].contains("src/a.txt"), "{}", told[4]);
    assert!(told[5].contains("src/a.txt") && told[5].contains("three"), "{}", told[5]);
    assert!(told[7].contains("does not occur"), "{}", told[7]);
    assert!(told[9].contains("one\n2\nthree\nfour"), "files and programs see the same place");
    assert!(!told[9].lines().any(|line| line == "0"), "no tool runs as root: {}", told[9]);
    let run = last_run(&daemon).await;
    let wanted = ["ok", "ok", "ok", "ok", "ok", "ok", "error", "error", "error", "ok"];
    assert_eq!(outcomes(&daemon, &run).await, wanted);
}

#[tokio::test]
async fn nothing_outside_the_workspace_is_read_written_or_listed() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let outside = daemon.dir().join("outside.txt");
    fs::write(&outside, "canary-7261").unwrap();
    fs::set_permissions(&outside, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let link = daemon.workspace("open").join("link.txt");
    let tree = daemon.workspace("open").join("tree");
    symlink(&outside, &link).unwrap();
    symlink(daemon.dir(), &tree).unwrap();
    let path = outside.to_str().unwrap();
    let told = play(
        &daemon,
        &fake,
        "open",
        "outside",
        &[
            ("read_file", json!({"path": path})),
            ("read_file", json!({"path": "../../../outside.txt"})),
            ("write_file", json!({"path": path, "content": "gone", "mode": "overwrite"})),
            ("edit_file", json!({"path": "/etc/hostname", "old": "a", "new": "b"})),
            ("list_files", json!({"path": ".."})),
            ("search_files", json!({"pattern": "root", "path": "/etc"})),
            ("read_file", json!({"path": "link.txt"})),
            ("write_file", json!({"path": "link.txt", "content": "gone", "mode": "append"})),
            ("read_file", json!({"path": "tree/outside.txt"})),
            ("write_file", json!({"path": "tree/new.txt", "content": "new", "mode": "create"})),
            ("search_files", json!({"pattern": "canary"})),
            (
                "exec",
                sh(&format!("cat {path} link.txt tree/outside.txt; echo gone > {path}; ls {path}")),
            ),
        ],
    )
    .await;
    for (n, text) in told.iter().enumerate() {
        assert!(!text.contains("canary-7261"), "{n}: {text}");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "canary-7261");
    assert!(!daemon.dir().join("new.txt").exists());
    let run = last_run(&daemon).await;
    let found = outcomes(&daemon, &run).await;
    assert_eq!(found[..6], vec!["denied path.outside"; 6]);
    // A link is found out when it is opened.
    assert_eq!(found[6..10], ["error"; 4]);
    assert!(told[0].contains("outside the workspace"), "{}", told[0]);
    // The same program reads what lies inside: the attempts would have worked unconfined.
    let told = play(
        &daemon,
        &fake,
        "open",
        "control",
        &[
            ("write_file", json!({"path": "in.txt", "content": "canary-7261", "mode": "create"})),
            ("exec", sh("cat in.txt")),
        ],
    )
    .await;
    assert!(told[1].contains("canary-7261"));
}

#[tokio::test]
async fn agents_see_nothing_of_each_other() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    play(
        &daemon,
        &fake,
        "open",
        "mine",
        &[
            ("write_file", json!({"path": "mine.txt", "content": "canary-9124", "mode": "create"})),
            ("exec", sh("echo canary-9124 > /tmp/mine.txt; cat /tmp/mine.txt")),
        ],
    )
    .await;
    let theirs = daemon.workspace("open").join("mine.txt");
    let told = play(
        &daemon,
        &fake,
        "reader",
        "theirs",
        &[
            ("read_file", json!({"path": "mine.txt"})),
            ("read_file", json!({"path": "../open/mine.txt"})),
            ("read_file", json!({"path": theirs})),
            ("list_files", json!({"recursive": true})),
            ("exec", sh("cat mine.txt")),
            ("write_file", json!({"path": "x", "content": "x", "mode": "create"})),
        ],
    )
    .await;
    assert!(!told.concat().contains("canary-9124"), "{told:#?}");
    let run = last_run(&daemon).await;
    let wanted = [
        "error",
        "denied path.outside",
        "denied path.outside",
        "ok",
        "denied tool.not_allowed",
        "denied tool.not_allowed",
    ];
    assert_eq!(outcomes(&daemon, &run).await, wanted);
    // Nor does a later call of the same agent see an earlier one's /tmp.
    let told = play(
        &daemon,
        &fake,
        "open",
        "later",
        &[(
            "exec",
            sh(&format!(
                "cat /tmp/mine.txt {}/reader/x; ls /tmp",
                daemon.data_dir().join("workspaces").display()
            )),
        )],
    )
    .await;
    assert!(!told[0].contains("canary-9124"), "{}", told[0]);
    assert_eq!(workspace_text(&daemon, "open", "mine.txt"), "canary-9124");
}

#[tokio::test]
async fn wrong_arguments_are_answered_so_that_the_model_can_correct_them() {
    let fake = provider();
    fake.script(
        "wrong",
        [
            Turn::text("")
                .and("read_file", &json!({"file": "a"}))
                .and_raw("read_file", "{\"path\": ")
                .and("no_such_tool", &json!({}))
                .and("exec", &json!({"argv": []})),
            Turn::text("sorry"),
        ],
    );
    let daemon = Daemon::start(&fake.openai_url()).await;
    let body = json!({"agent": "open", "input": "script:wrong"});
    let run = daemon.post("/api/v1/runs?wait=30", &body).await.expect(200);
    assert_eq!(run["output"], "sorry", "{run}");
    let seen = fake.seen_of("wrong");
    let results = seen[1].results();
    assert!(results[0].1.contains("unknown field `file`"), "{results:?}");
    assert!(results[1].1.contains("JSON object"), "{results:?}");
    assert!(results[2].1.contains("no tool `no_such_tool`"), "{results:?}");
    assert!(results[3].1.contains("argv"), "{results:?}");
    let kinds = kinds(&daemon, run["id"].as_str().unwrap()).await;
    assert!(!kinds.contains(&"tool.started".to_owned()), "none was executed");
}

#[tokio::test]
async fn a_tool_that_says_or_takes_too_much_is_cut() {
    let fake = provider();
    let daemon = Daemon::start(&fake.openai_url()).await;
    let told = play(
        &daemon,
        &fake,
        "open",
        "much",
        &[
            ("exec", sh("head -c 5000000 /dev/zero | tr '\\0' x")),
            ("exec", json!({"argv": ["/bin/sleep", "50"], "timeout_secs": 1})),
            ("exec", sh("kill -9 $$")),
            ("exec", json!({"argv": ["/no/such/program"]})),
        ],
    )
    .await;
    assert!(told[0].len() <= 70_000, "{} bytes", told[0].len());
    let run = last_run(&daemon).await;
    let events = daemon.events(&run).await;
    let completed: Vec<_> = events.iter().filter(|e| e["type"] == "tool.completed").collect();
    assert_eq!(completed[0]["data"]["truncated"], true);
    assert_eq!(completed[1]["data"]["status"], "timeout");
    assert_eq!(completed[2]["data"]["status"], "killed");
    assert_eq!(completed[3]["data"]["status"], "error");
    assert!(completed[1]["data"]["duration_ms"].as_u64().unwrap() < 5_000);
}

#[tokio::test]
async fn what_a_principal_may_use_is_listed_with_schema_risk_and_effect() {
    let daemon = Daemon::start("").await;
    let tools = daemon.get("/api/v1/tools").await.expect(200)["items"].clone();
    let tools = tools.as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|t| t["name"].as_str().unwrap()).collect();
    for name in [
        "exec",
        "shell",
        "read_file",
        "write_file",
        "edit_file",
        "list_files",
        "search_files",
        "ask_user",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    for tool in tools {
        assert_eq!(tool["schema"]["type"], "object", "{tool}");
        assert!(tool["risk"].is_string() && tool["effect"].is_string(), "{tool}");
    }
    let info = daemon.get("/api/v1/info").await.expect(200);
    assert_eq!((&info["name"], &info["store"]), (&json!("agent-runtime"), &json!("sqlite")));
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert!(info["sandbox_level"].as_str().unwrap().starts_with("full"), "{info}");
}
