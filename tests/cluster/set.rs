//! A set of replicas: one database, one directory of workspaces, one permission secret.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    scenes::{provider, until_alive},
    support::{
        daemon::Daemon,
        fake_llm::{FakeLlm, Turn},
        postgres::{Database, Server},
    },
};

/// The longest that a takeover may take: the lease, a look, and the recovery, on a slow machine.
pub(crate) const TAKEOVER: Duration = Duration::from_secs(40);
pub(crate) const SECRET: &str = "a-permission-secret-of-all-the-replicas-0123";

pub(crate) struct Set {
    pub(crate) fake: FakeLlm,
    pub(crate) database: Database,
    shared: TempDir,
}

impl Set {
    pub(crate) fn new() -> Self {
        Self::of(provider())
    }

    /// The same with a provider of the test's.
    pub(crate) fn of(fake: FakeLlm) -> Self {
        let shared = tempfile::Builder::new().prefix("art-shared-").tempdir().expect("a directory");
        Self { fake, database: Server::shared().database(), shared }
    }

    /// A replica that is not started yet.
    pub(crate) fn prepare(&self) -> Daemon {
        self.prepare_with("")
    }

    /// The same with more configuration.
    pub(crate) fn prepare_with(&self, more: &str) -> Daemon {
        let mut daemon = Daemon::prepare_with(&self.fake.openai_url(), more);
        daemon.set_env("AGENT_RUNTIME_DATABASE_URL", &self.database.url());
        daemon.set_env("AGENT_RUNTIME_PERMISSION_SECRET", SECRET);
        let workspaces = self.workspaces();
        daemon.set_env("AGENT_RUNTIME_WORKSPACES_DIR", workspaces.to_str().expect("a path"));
        daemon
    }

    /// A replica at work.
    pub(crate) async fn replica(&self) -> Daemon {
        let mut daemon = self.prepare();
        daemon.run().await;
        daemon
    }

    /// A pair of which only the first has room for runs: the other one's only place is taken.
    pub(crate) async fn pair(&self, marker: &str, more: &str) -> (Daemon, Daemon) {
        let tool = json!({"argv": ["/bin/sh", "-c", "sleep 300", marker]});
        self.fake.script("busy", [Turn::call("exec", &tool), Turn::text("done")]);
        let mut full = self.prepare_with(more);
        full.set_env("AGENT_RUNTIME_LIMITS_ACTIVE_RUNS", "1");
        full.run().await;
        full.submit("open", "script:busy").await;
        until_alive(marker, true).await;
        let mut free = self.prepare_with(more);
        free.run().await;
        (free, full)
    }

    pub(crate) fn workspaces(&self) -> PathBuf {
        self.shared.path().join("workspaces")
    }

    pub(crate) fn workspace(&self, agent: &str) -> PathBuf {
        self.workspaces().join(agent)
    }

    /// The first column of each row.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        self.database.psql(sql).lines().map(str::to_owned).collect()
    }

    /// The replica that works on a run.
    pub(crate) fn owner(&self, run: &str) -> String {
        self.database.psql(&format!("SELECT owner FROM runs WHERE id = '{run}'"))
    }
}

/// Polls a replica until `look` gives something.
pub(crate) async fn eventually<T>(
    what: &str,
    longest: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + longest;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a replica sees the run in one of these states, however long a takeover takes.
pub(crate) async fn until_state(daemon: &Daemon, run: &str, states: &[&str]) -> Value {
    eventually(&format!("{run} in {states:?}"), TAKEOVER, async || {
        let found = daemon.run_of(run).await;
        states.contains(&found["state"].as_str().unwrap_or_default()).then_some(found)
    })
    .await
}
