//! The whole daemon on the docker backend.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    lab::{IMAGE, alive, containers, docker, docker_says, eventually, socket},
    support::{
        daemon::{ADMIN, Daemon},
        fake_llm::{FakeLlm, Turn},
    },
};

fn settings(socket: &Path) -> String {
    format!(
        "[sandbox]\nbackend = \"docker\"\n[sandbox.docker]\nimage = {IMAGE:?}\nsocket = {socket:?}\n"
    )
}

fn sh(script: &str) -> serde_json::Value {
    json!({"argv": ["sh", "-c", script]})
}

#[tokio::test]
async fn a_run_executes_in_a_container_and_records_the_level() {
    let fake = FakeLlm::start();
    fake.script(
        "look",
        [Turn::call("exec", &sh("echo mine >made; id -u; ls /")), Turn::text("ok")],
    );
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &settings(&socket()));
    daemon.run().await;
    let ready = daemon.get("/readyz").await.expect(200);
    let detail = ready["checks"]["sandbox"]["detail"].as_str().unwrap();
    assert!(detail.contains("docker") && detail.contains("no network"), "{ready}");
    let body = json!({"agent": "open", "input": "script:look"});
    let run = daemon.post("/api/v1/runs?wait=60", &body).await.expect(200);
    assert_eq!(run["state"], "succeeded", "{run:#}\n{}", daemon.log());
    assert_eq!(run["confinement"], "docker", "{run:#}");
    let seen = fake.seen_of("look");
    let told = seen.last().unwrap().results()[0].1.to_owned();
    assert!(told.contains("65529") && told.contains("proc"), "{told}");
    assert_eq!(fs::read_to_string(daemon.workspace("open").join("made")).unwrap(), "mine\n");
}

#[tokio::test]
async fn what_a_killed_daemon_left_is_gone_before_the_next_one_is_ready() {
    let fake = FakeLlm::start();
    fake.script("long", [Turn::call("exec", &sh("sleep 971201")), Turn::text("done")]);
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &settings(&socket()));
    daemon.run().await;
    let data_dir = fs::canonicalize(daemon.data_dir()).unwrap();
    daemon.submit("open", "script:long").await;
    eventually("the tool runs", || alive("971201") > 0).await;
    daemon.kill();
    // It ends with the daemon's connection: nobody need be there to remove it.
    eventually("the tool is dead", || alive("971201") == 0).await;
    eventually("its container is gone", || containers(&data_dir).is_empty()).await;

    // One that does not end by itself, as if the engine had not noticed.
    let label = format!("agent-runtime.data-dir={}", data_dir.display());
    let foreign = "agent-runtime.data-dir=/somewhere/else";
    let keep = |label: &str, marker: &str| {
        let run =
            ["run", "--detach", "--network", "none", "--label", label, IMAGE, "sleep", marker];
        docker_says(&run).trim().to_owned()
    };
    keep(&label, "971202");
    let other = keep(foreign, "971203");
    eventually("both run", || alive("971202") > 0 && alive("971203") > 0).await;
    daemon.run().await;
    assert_eq!(alive("971202"), 0, "{}", daemon.log());
    assert!(daemon.log().contains("containers of a daemon that is gone"), "{}", daemon.log());
    // The control: another data directory's is left alone.
    assert_ne!(alive("971203"), 0);
    docker(&["rm", "--force", &other]);
}

#[tokio::test]
async fn without_an_engine_the_daemon_starts_and_says_why_no_program_runs() {
    let fake = FakeLlm::start();
    fake.script("try", [Turn::call("exec", &sh("touch ran")), Turn::text("done")]);
    let missing = settings(Path::new("/nowhere/docker.sock"));
    let mut daemon = Daemon::prepare_with(&fake.openai_url(), &missing);
    daemon.spawn().await;
    let url = format!("{}/readyz", daemon.base());
    let request = daemon.http().get(url).bearer_auth(ADMIN);
    let answer = Daemon::answer(request).await.unwrap();
    let ready = answer.expect(503);
    let detail = ready["checks"]["sandbox"]["detail"].as_str().unwrap();
    assert!(detail.contains("cannot connect to the docker engine"), "{ready}");
    let body = json!({"agent": "open", "input": "script:try"});
    let run = daemon.post("/api/v1/runs?wait=60", &body).await.expect(200);
    assert_ne!(run["confinement"], "docker", "{run:#}");
    assert!(!daemon.workspace("open").join("ran").exists());
}
