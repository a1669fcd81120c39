//! The server of these tests itself: it gives what they need, and nothing of it stays behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::postgres::{Server, Stop, Sync};

/// Set for a copy of this test binary that is to die with a server of its own.
const VICTIM: &str = "AGENT_RUNTIME_TEST_VICTIM";

#[test]
fn each_database_is_new_and_one_role_owns_it() {
    let server = Server::shared();
    let (a, b) = (server.database(), server.database_in_c());
    a.psql("CREATE TABLE t (x TEXT, y TEXT COLLATE \"C\")");
    a.psql("INSERT INTO t VALUES ('a', 'a'), ('B', 'B')");
    assert_eq!(a.psql("SELECT x FROM t ORDER BY x"), "a\nB", "a language's order");
    assert_eq!(a.psql("SELECT y FROM t ORDER BY y"), "B\na", "the order of bytes");
    assert_eq!(b.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    assert_eq!(b.psql("SELECT x FROM (VALUES ('a'), ('B')) AS v(x) ORDER BY x"), "B\na");
    let copy = server.copy_of(&a);
    assert_eq!(copy.psql("SELECT count(*) FROM t"), "2");
    let owner = "SELECT r.rolname, r.rolsuper FROM pg_database d JOIN pg_roles r \
                 ON r.oid = d.datdba WHERE d.datname = current_database()";
    assert_eq!(a.psql(owner), "agent_runtime|f");
    let name = a.name().to_owned();
    drop(a);
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(server.psql("postgres", &left), "0", "a dropped handle drops its database");
}

#[test]
fn a_server_starts_again_with_what_it_had_however_it_ended() {
    let server = Server::start(Sync::Off);
    let database = server.database();
    database.psql("CREATE TABLE t (x BIGINT)");
    for (n, how) in [Stop::Fast, Stop::Immediate, Stop::Kill].into_iter().enumerate() {
        database.psql(&format!("INSERT INTO t VALUES ({n})"));
        let before = server.pid().expect("it runs");
        server.stop(how);
        assert!(!server.is_running());
        assert!(server.try_psql("postgres", "SELECT 1").is_err());
        server.resume();
        assert_ne!(server.pid(), Some(before));
        assert_eq!(database.psql("SELECT count(*) FROM t"), (n + 1).to_string());
    }
    let dir = server.dir().to_owned();
    drop(database);
    drop(server);
    assert!(!dir.exists(), "an orderly end leaves nothing either");
}

/// The part of the next test that is played by a copy of this binary.
#[test]
fn a_victim_dies_while_its_server_runs() {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    let Ok(file) = std::env::var(VICTIM) else { return };
    let server = Server::shared();
    let said = format!("{} {}", server.pid().expect("it runs"), server.dir().display());
    let part = format!("{file}.part");
    fs::write(&part, said).expect("a file");
    fs::rename(&part, &file).expect("a file");
    assert!(!file.ends_with("panic"), "as a failing test does");
    loop {
        std::thread::park();
    }
}

#[test]
fn no_server_and_no_directory_outlive_a_test_process_that_is_killed_or_panics() {
    let dir = tempfile::tempdir().expect("a directory");
    for end in ["kill", "panic"] {
        let file = dir.path().join(end);
        let this = std::env::current_exe().expect("this program");
        #[expect(clippy::disallowed_methods, reason = "the test starts a copy of itself")]
        let mut child = Command::new(this)
            .args(["--exact", "server::a_victim_dies_while_its_server_runs"])
            .env(VICTIM, &file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a copy starts");
        wait_until("the copy starts its server", || file.exists());
        let said = fs::read_to_string(&file).expect("a file");
        let (pid, place) = said.split_once(' ').expect("two words");
        let (pid, place) = (PathBuf::from(format!("/proc/{pid}/stat")), Path::new(place));
        if end == "kill" {
            assert!(is_alive(&pid) && place.exists());
            child.kill().expect("it can be killed");
        }
        child.wait().expect("it ends");
        wait_until("the server ends", || !is_alive(&pid));
        wait_until("its directory goes", || !place.exists());
    }
}

fn is_alive(stat: &Path) -> bool {
    fs::read_to_string(stat).is_ok_and(|text| text.contains("(postgres)") && !text.contains(") Z"))
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain: {what}");
}
