//! `egress …` against a running daemon: the list of hosts is changed at run time, audited, kept.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use crate::{Ran, support::daemon::Daemon};

/// An agent with rules of its own, and names that need no DNS.
const NETWORK: &str = r#"
[agents.net]
system_prompt = "test"
roles = ["admin"]
allowed_domains = ["docs.example.com", "pages.example.com:80", "near.example.com"]
denied_domains = ["ads.example.com"]
[egress]
connect_to = { "docs.example.com:443" = "1.1.1.1:443", "api.example.com:443" = "1.1.1.1:443", "near.example.com:443" = "127.0.0.1:443" }
"#;

fn egress(daemon: &Daemon, args: &[&str]) -> Ran {
    daemon.command(&[&["egress"], args].concat()).output().unwrap().into()
}

async fn started() -> Daemon {
    let mut daemon = Daemon::prepare_with("", NETWORK);
    daemon.run().await;
    daemon
}

fn listed(daemon: &Daemon) -> Vec<Value> {
    let page = egress(daemon, &["list", "--json"]).good().json();
    let items = page["items"].as_array().unwrap().iter();
    items.filter(|rule| rule["layer"] == "list").cloned().collect()
}

fn audit(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let args = ["audit", "query", "--json", "--kind", kind];
    let ran = Ran::from(daemon.command(&args).output().unwrap()).good();
    ran.json().as_array().unwrap().clone()
}

#[tokio::test]
async fn a_host_is_allowed_tested_denied_and_removed_at_run_time() {
    let daemon = started().await;
    let test = |host: &str| egress(&daemon, &["test", host, "--agent", "net", "--json"]);
    let refused = test("api.example.com");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let answer = refused.json();
    assert_eq!((&answer["reason"], &answer["layer"]), (&json!("not_listed"), &json!("default")));
    assert_eq!(answer["addresses"], json!([]), "what is not listed is not looked up");
    // The answer says what to do; it is done as it says.
    let change = answer["change"].as_str().unwrap();
    assert_eq!(change, "agent-runtime egress add api.example.com --agent net");
    let words: Vec<&str> = change.split(' ').skip(2).collect();
    let added = egress(&daemon, &[&words[..], &["--note", "ticket 12", "--json"]].concat()).good();
    let id = added.json()["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("egr_"), "{id}");
    let allowed = test("api.example.com").good().json();
    assert_eq!((&allowed["verdict"], &allowed["layer"]), (&json!("allow"), &json!("list")));
    assert_eq!((&allowed["rule"], &allowed["rule_id"]), (&json!("api.example.com"), &json!(id)));
    assert_eq!(allowed["addresses"], json!([{ "address": "1.1.1.1", "refused": null }]));
    assert_eq!(allowed["change"], json!(format!("agent-runtime egress remove {id}")));
    let other = egress(&daemon, &["test", "api.example.com", "--agent", "open"]);
    assert_eq!(other.code, Some(1), "the rule is for one agent: {other:?}");
    // Twice is refused, and names the first.
    egress(&daemon, &words).bad(1, "egress.exists");
    let table = egress(&daemon, &["list", "--agent", "net"]).good().out;
    for text in ["docs.example.com", "ads.example.com", "config", &id, "ticket 12"] {
        assert!(table.contains(text), "{text}: {table}");
    }
    // A deny of the list wins over an allow, wherever that stands.
    for host in ["api.example.com", "docs.example.com"] {
        egress(&daemon, &["add", host, "--deny"]).good();
        let denied = test(host).json();
        assert_eq!((&denied["verdict"], &denied["layer"]), (&json!("deny"), &json!("list")));
        assert_eq!(denied["reason"], "denied_by_rule");
    }
    egress(&daemon, &["remove", "docs.example.com"]).good();
    assert_eq!(test("docs.example.com").good().json()["layer"], "config");
    egress(&daemon, &["remove", "api.example.com"]).bad(2, "2 rules");
    egress(&daemon, &["remove", &id]).good();
    egress(&daemon, &["remove", &id]).bad(1, "there is no rule");
    egress(&daemon, &["remove", "ads.example.com"]).bad(2, "stands in the configuration");
    assert_eq!(listed(&daemon).len(), 1);
    // Each change left one row, with what was and what is.
    let rows = audit(&daemon, "egress_list");
    let what: Vec<&str> = rows.iter().map(|row| row["data"]["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["added", "added", "added", "removed", "removed"]);
    assert!(rows.iter().all(|row| row["surface"] == "admin" && row["request_id"] != json!(null)));
    assert_eq!(rows[0]["data"]["before"], json!(null));
    assert_eq!(rows[0]["data"]["after"]["rule"], "api.example.com");
    assert_eq!(rows[0]["data"]["after"]["note"], "ticket 12");
    assert_eq!(
        (&rows[4]["data"]["before"]["id"], &rows[4]["data"]["after"]),
        (&json!(id), &json!(null))
    );
    assert!(Ran::from(daemon.command(&["audit", "verify"]).output().unwrap()).code == Some(0));
}

#[tokio::test]
async fn a_person_is_told_which_rule_decides_what_the_addresses_are_and_what_would_change_it() {
    let daemon = started().await;
    let test = |args: &[&str]| egress(&daemon, &[&["test", "--agent", "net"], args].concat());
    let allowed = test(&["docs.example.com"]).good().out;
    for text in ["allow", "docs.example.com port 443", "the configuration", "1.1.1.1", "--deny"] {
        assert!(allowed.contains(text), "{text}: {allowed}");
    }
    let near = test(&["near.example.com"]);
    assert_eq!(near.code, Some(1), "{near:?}");
    for text in ["deny", "address_refused", "127.0.0.1 refused", "--allow-private"] {
        assert!(near.out.contains(text), "{text}: {}", near.out);
    }
    let denied = test(&["ads.example.com"]);
    assert_eq!(denied.code, Some(1));
    assert!(denied.out.contains("denied_domains of [agents.net]"), "{}", denied.out);
    let port = test(&["docs.example.com:8443"]);
    assert!(port.out.contains("egress add docs.example.com:8443"), "{}", port.out);
    egress(
        &daemon,
        &["add", "get.example.com", "--method", "GET", "--path", "/v1/", "--agent", "net"],
    )
    .good();
    let tunnel = test(&["get.example.com", "--json"]).json();
    assert_eq!(tunnel["reason"], "method_not_allowed");
    let wrong = test(&["get.example.com", "--method", "GET", "--path", "/v2", "--json"]).json();
    assert_eq!(wrong["reason"], "path_not_allowed");
    assert!(!allowed.contains('\u{1b}'), "colours without a terminal");
}

#[tokio::test]
async fn wrong_hosts_and_agents_are_refused_in_one_readable_line() {
    let daemon = started().await;
    for (args, word) in [
        (&["add", "https://a.example/x"][..], "/rule: "),
        (&["add", "a..example"], "remove the extra dot"),
        (&["add", "a.*.example"], "`*` stands alone"),
        (&["add", "*."], "/rule: "),
        (&["add", "b\u{fc}cher.example"], "xn--bcher-kva.example"),
        (&["add", "p\u{430}ypal.example"], "ASCII"),
        (&["add", "a.example:0"], "1 to 65535"),
        (&["add", "a.example:70000"], "1 to 65535"),
        (&["add", "0x7f.1"], "/rule: "),
        (&["add", "a.example", "--method", "get"], "upper case"),
        (&["add", "a.example", "--path", "v1"], "/rule"),
        (&["add", "a.example", "--agent", "nobody"], "/agent: there is no agent `nobody`"),
        (&["add", "a.example", "--agent", "NOT A NAME"], "/agent: "),
        (&["test", "a..example"], "/host: "),
        (&["test", "a.example:0"], "1 to 65535"),
        (&["test", "a.example", "--agent", "nobody"], "/agent: "),
        (&["test", "a.example", "--method", "get it"], "/method: "),
    ] {
        let ran = egress(&daemon, args);
        assert_eq!(ran.err.trim().lines().count(), 1, "{args:?}: {ran:?}");
        ran.bad(2, word);
    }
    assert_eq!(listed(&daemon), Vec::<Value>::new(), "nothing was stored");
}

#[tokio::test]
async fn the_list_outlives_a_restart_and_can_be_read_without_a_daemon() {
    let mut daemon = started().await;
    egress(&daemon, &["add", "api.example.com", "--agent", "net"]).good();
    egress(&daemon, &["add", "*.example.net:8443", "--deny"]).good();
    let before = listed(&daemon);
    assert_eq!(daemon.stop().await, Some(0));
    assert!(!daemon.data_dir().join("admin.sock").exists(), "the socket is gone with the daemon");
    for args in [&["add", "a.example"][..], &["remove", "a.example"], &["test", "a.example"]] {
        egress(&daemon, args).bad(3, "no daemon answers at");
    }
    let offline = egress(&daemon, &["list", "--json"]).good();
    assert!(offline.err.contains("what the next start will put in force"), "{}", offline.err);
    let kept = offline.json();
    let kept: Vec<Value> = kept["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["layer"] == "list")
        .cloned()
        .collect();
    assert_eq!(kept, before);
    daemon.run().await;
    assert_eq!(listed(&daemon), before);
    let test = egress(&daemon, &["test", "api.example.com", "--agent", "net", "--json"]);
    assert_eq!(test.good().json()["layer"], "list");
    // A daemon that was killed leaves its socket; the next one takes its place.
    daemon.kill();
    assert!(daemon.data_dir().join("admin.sock").exists());
    egress(&daemon, &["test", "a.example"]).bad(3, "no daemon answers at");
    daemon.run().await;
    assert_eq!(listed(&daemon), before);
}

#[tokio::test]
async fn sighup_takes_over_the_domains_and_a_wrong_file_changes_nothing() {
    let mut daemon = Daemon::prepare_with("", NETWORK);
    let file = daemon.dir().join("test.toml");
    let original = fs::read_to_string(&file).unwrap();
    daemon.run().await;
    let code = |host: &str| egress(&daemon, &["test", host, "--agent", "net"]).code;
    assert_eq!((code("docs.example.com"), code("api.example.com")), (Some(0), Some(1)));
    fs::write(&file, original.replace("[\"docs.example.com\",", "[\"api.example.com\",")).unwrap();
    daemon.signal(1);
    while code("api.example.com") != Some(0) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(code("docs.example.com"), Some(1));
    let rows = loop {
        let rows = audit(&daemon, "egress_list");
        if !rows.is_empty() {
            break rows;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&rows[0]["data"]["what"], &rows[0]["data"]["agent"]),
        (&json!("reloaded"), &json!("net"))
    );
    assert_eq!(rows[0]["data"]["before"]["allow"][0], "docs.example.com");
    assert_eq!(rows[0]["data"]["after"]["allow"][0], "api.example.com");
    fs::write(&file, original.replace("[\"docs.example.com\",", "[\"not a host\",")).unwrap();
    daemon.signal(1);
    while !daemon.log().contains("was not reloaded") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!((code("docs.example.com"), code("api.example.com")), (Some(1), Some(0)));
}

/// Our program as the user `nobody`, who can read it but nothing of ours.
fn as_nobody(program: &Path, daemon: &Daemon) -> Ran {
    #[expect(clippy::disallowed_methods, reason = "the test starts our own program")]
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .arg("--data-dir")
        .arg(daemon.data_dir())
        .args(["egress", "add", "a.example"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/");
    command.output().unwrap().into()
}

#[tokio::test]
async fn the_admin_door_is_for_the_daemons_own_user_alone() {
    let daemon = started().await;
    let socket = daemon.data_dir().join("admin.sock");
    let meta = fs::metadata(&socket).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let own = fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(meta.uid(), own);
    if own != 0 {
        // Only root can be somebody else; the mode above keeps strangers out.
        return;
    }
    let open =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("agent-runtime");
    fs::copy(env!("CARGO_BIN_EXE_agent-runtime"), &program).unwrap();
    for path in [home.path(), &program, daemon.dir(), &daemon.data_dir()] {
        open(path, 0o755);
    }
    as_nobody(&program, &daemon).bad(3, "may not be opened by you");
    // Even where somebody has opened the file to everybody, the kernel says who calls.
    open(&socket, 0o666);
    as_nobody(&program, &daemon).bad(3, "hung up");
    let rows = loop {
        let rows = audit(&daemon, "auth_failed");
        if !rows.is_empty() {
            break rows;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((&rows[0]["data"]["uid"], &rows[0]["surface"]), (&json!(65534), &json!("admin")));
    egress(&daemon, &["list"]).good();
    assert_eq!(listed(&daemon), Vec::<Value>::new(), "the stranger changed nothing");
}

#[tokio::test]
async fn the_admin_door_can_be_left_shut() {
    let mut daemon = Daemon::prepare_with("", "[http]\nadmin_socket = false\n");
    daemon.run().await;
    assert!(!daemon.data_dir().join("admin.sock").exists());
    egress(&daemon, &["add", "a.example"]).bad(3, "no daemon answers at");
}
