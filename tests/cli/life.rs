//! Starting, refusing to start, reloading, stopping.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    process::Stdio,
    time::Duration,
};

use reqwest::Method;

use crate::{
    Ran, program, run,
    support::daemon::{ADMIN, Daemon},
};

#[test]
fn what_is_wrong_with_the_configuration_is_one_clear_error_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    for (text, word) in [
        ("[http]\nadr = \"x\"", "c.toml:2: unknown key `http.adr`: did you mean `http.addr`?"),
        ("[http]\naddr = \"0.0.0.0:1\"", "http.trusted_proxy"),
        ("env = \"production\"", "production never generates a token"),
        ("database_url = \"mysql://x/y\"", "must be postgres://"),
        ("[agents.x]\ntools = [\"fly\"]", "not a tool"),
        ("[log]\nlevel = \"a=b=c\"", "log level `a=b=c` is not valid"),
    ] {
        fs::write(&config, text).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        let args = ["--config", "c.toml", "--data-dir", "data", "serve", "--allow-root"];
        run(dir.path(), &args).bad(2, word);
        assert!(!dir.path().join("data").exists(), "{text}");
    }
    run(dir.path(), &["--config", "none.toml", "serve"]).bad(2, "none.toml: cannot be read");
    let mut command = program(dir.path(), &["serve"]);
    Ran::from(command.env("AGENT_RUNTIME_DATA_DIRR", "x").output().unwrap())
        .bad(2, "did you mean `AGENT_RUNTIME_DATA_DIR`?");
}

#[test]
fn root_must_say_that_it_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let checked = run(dir.path(), &["config", "check"]);
    if is_root {
        checked.bad(2, "--allow-root");
    } else {
        checked.good();
    }
    run(dir.path(), &["config", "check", "--allow-root"]).good();
}

#[tokio::test]
async fn it_stops_when_asked_with_code_0_and_starts_again() {
    let mut daemon = Daemon::start("").await;
    let id = daemon.submit("open", "list").await;
    daemon.wait_for(&id, &["succeeded"]).await;
    assert_eq!(daemon.stop().await, Some(0));
    daemon.run().await;
    assert_eq!(daemon.run_of(&id).await["state"], "succeeded");
    daemon.signal(2);
    assert_eq!(daemon.exit_code().await, Some(0));
    let verified =
        Ran::from(daemon.command(&["audit", "verify", "--json"]).output().unwrap()).good();
    assert_eq!(verified.json()["ok"], true);
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let daemon = Daemon::start("").await;
    let args = ["serve", "--http-addr", "127.0.0.1:0", "--allow-root"];
    let second = Ran::from(daemon.command(&args).output().unwrap());
    second.bad(1, "another daemon is using");
    let elsewhere = tempfile::tempdir().unwrap();
    let taken = daemon.base().trim_start_matches("http://").to_owned();
    let args = ["--data-dir", "data", "serve", "--allow-root", "--http-addr", &taken];
    run(elsewhere.path(), &args).bad(1, "cannot listen on");
    daemon.get("/api/v1/me").await.expect(200);
}

#[tokio::test]
async fn a_generated_token_is_kept_shown_once_and_never_logged_again() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--data-dir", "data", "serve", "--allow-root", "--http-addr", "127.0.0.1:0"];
    let mut tokens = Vec::new();
    for is_first in [true, false] {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = program(dir.path(), &args);
        command.env("AGENT_RUNTIME_LOG_LEVEL", "trace").stdin(Stdio::null()).stdout(log);
        let mut child = command.spawn().unwrap();
        let health = ["--data-dir", "data", "health"];
        while run(dir.path(), &health).code != Some(0) {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        run(dir.path(), &["--data-dir", "data", "run", "list"]).good();
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(dir.path().join("data/http-addr")).unwrap();
        let file = dir.path().join("data/bootstrap-token");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let token = fs::read_to_string(file).unwrap().trim().to_owned();
        let shown = fs::read_to_string(dir.path().join("log")).unwrap().matches(&token).count();
        assert_eq!(shown, usize::from(is_first));
        tokens.push(token);
    }
    assert_eq!(tokens[0], tokens[1]);
    assert!(tokens[0].starts_with("art_") && tokens[0].len() > 50);
}

#[tokio::test]
async fn sighup_takes_over_tokens_and_level_and_a_wrong_file_changes_nothing() {
    let mut daemon = Daemon::prepare("");
    let file = daemon.dir().join("test.toml");
    let original = fs::read_to_string(&file).unwrap();
    daemon.run().await;
    let status = async |token: &str| {
        daemon.call(Method::GET, "/api/v1/me", token, None).await.unwrap().status.as_u16()
    };
    let new = "another-token-0123456789-0123456789-0123456";
    fs::write(&file, original.replace(ADMIN, new) + "[log]\nlevel = \"debug\"\n").unwrap();
    daemon.signal(1);
    while status(new).await != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(ADMIN).await, 401);
    assert!(daemon.log().contains("reloaded"));
    fs::write(&file, "[http]\nadr = 1\n").unwrap();
    daemon.signal(1);
    while !daemon.log().contains("was not reloaded") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(new).await, 200);
}

#[tokio::test]
async fn the_service_manager_is_told_ready_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let args = ["--data-dir", "data", "serve", "--allow-root", "--http-addr", "127.0.0.1:0"];
    let mut command = program(dir.path(), &args);
    command
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let told = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_demonstration_observes_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(dir.path(), &["demo", "--yes"]);
    let ran = Ran::from(command.env("TMPDIR", dir.path()).output().unwrap()).good();
    assert!(ran.out.contains("all 8 steps were observed"), "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'), "colours without a terminal");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the demo left something behind");
}

#[test]
fn a_person_who_says_no_is_obeyed_in_the_demonstration() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(dir.path(), &["demo"]);
    command.env("TMPDIR", dir.path());
    // No to the release; yes to the call that is cut short; skip it after the crash.
    let ran = crate::feed(&mut command, "n\ny\ns\n").good();
    assert!(ran.out.contains("the run went on as the person decided"), "{}", ran.out);
    assert!(ran.out.contains("denied"), "{}", ran.out);
}
