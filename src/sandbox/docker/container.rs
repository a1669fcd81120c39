//! One container: made, verified, and gone for sure.
//!
//! Invariants: a container lives only while the daemon holds the connection to its standard input,
//! which the kernel closes with the daemon; whoever drops one leaves its name to the keeper, which
//! removes it. Nothing of a tool runs before the mounted trees have been found to be those that
//! were meant.

use std::{sync::Arc, time::Duration};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};
use serde::Deserialize;
use tokio::{net::UnixStream, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Inner,
    api::{ApiError, in_query},
    exec::{self, Exec},
    spec::{KEEPERS, LABEL, Spec},
    tool_ids,
};
use crate::{
    domain::ToolLimits,
    runtime::tasks::lock,
    sandbox::{
        End, SandboxError,
        output::Capture,
        plan::{Plan, Tree},
        protected,
        wire::{AtStep, Failure},
    },
};

/// How long a container may take to be gone.
const REMOVE_MAX: Duration = Duration::from_secs(10);
/// How often to look.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks at a container's processes before it is given up as not clean.
const LOOKS: u32 = 4;
/// How long the look at the mounted trees may take.
const VERIFY_WALL: Duration = Duration::from_secs(10);

/// A name that is in use; dropping it leaves the container to the keeper.
#[derive(Debug)]
struct Name {
    text: String,
    inner: Arc<Inner>,
}

impl Drop for Name {
    fn drop(&mut self) {
        lock(&self.inner.doomed).push(std::mem::take(&mut self.text));
        self.inner.wake.notify_one();
    }
}

/// A running container.
#[derive(Debug)]
pub(super) struct Container {
    name: Name,
    pub(super) limits: ToolLimits,
    /// Its standard input: closing it ends the container.
    _stdin: UnixStream,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Top {
    processes: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Id")]
    id: String,
}

impl Container {
    /// Makes and starts a container, and checks what is mounted in it.
    pub(super) async fn start(
        inner: &Arc<Inner>,
        plan: &Plan,
        limits: ToolLimits,
        may_execute_files: bool,
    ) -> Result<Self, SandboxError> {
        let plan = &with_protected_names(plan)?;
        // Held until the container has been looked at: as long as they are, their numbers name
        // nothing else.
        let meant = plan.trees.iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
        let spec = Spec {
            image: &inner.options.image,
            data_dir: &inner.data_dir,
            plan,
            limits: &limits,
            may_execute_files,
        };
        let text = format!("agent-runtime-{}", uuid::Uuid::now_v7().simple());
        let path = format!("/containers/create?name={text}");
        // From here on the name is the keeper's if anything goes wrong.
        let name = Name { text, inner: Arc::clone(inner) };
        let _made: Listed = inner.api.make("make a container", &path, &spec.to_json()).await?;
        let at = |what: &str| format!("/containers/{}/{what}", name.text);
        let (stdin, _) =
            inner.api.hijack("attach to a container", &at("attach?stream=1&stdin=1"), None).await?;
        inner.api.act("start a container", "POST", &at("start")).await?;
        let container = Self { name, limits, _stdin: stdin };
        container.verify(plan, &meant).await?;
        Ok(container)
    }

    /// Compares the mounted trees with those that were opened without following any link. The
    /// engine goes by name, and somebody who can write above a tree may have put a link there.
    async fn verify(&self, plan: &Plan, meant: &[std::fs::File]) -> Result<(), SandboxError> {
        let mut argv = vec!["stat".to_owned(), "-c".to_owned(), "%d %i".to_owned()];
        argv.extend(plan.trees.iter().map(|t| t.target.display().to_string()));
        let exec = Exec {
            argv,
            env: Vec::new(),
            cwd: "/".to_owned(),
            // Whom the workspace belongs to, so that its protected names can be looked at.
            user: tool_ids(),
            stdin: Vec::new(),
            wall: VERIFY_WALL,
            capture: Capture::new(64 << 10, None),
        };
        let failed = |reason: String| Err(SandboxError::Unavailable { reason });
        let ended = exec::run(self, exec, &CancellationToken::new()).await?;
        let seen = String::from_utf8_lossy(&ended.output).into_owned();
        if ended.end != End::Exited(0) {
            return failed(format!("the image's `stat` is needed and failed: {}", seen.trim()));
        }
        let mut lines = seen.lines();
        for (tree, file) in plan.trees.iter().zip(meant) {
            let found = fstat(file).at("look at a tree")?;
            if lines.next() != Some(&format!("{} {}", found.st_dev, found.st_ino)) {
                let what = "is a link, or was replaced while the container was made";
                return failed(format!("{} {what}", tree.source.display()));
            }
        }
        Ok(())
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.name.inner
    }

    pub(super) fn name(&self) -> &str {
        &self.name.text
    }

    /// Whether only the keepers are left. Anything that cannot be told is no.
    pub(super) async fn is_clean(&self) -> bool {
        let path = format!("/containers/{}/top", self.name());
        for _ in 0..LOOKS {
            match self.inner().api.get::<Top>("list processes", &path).await {
                Ok(top) if top.processes.len() == KEEPERS => return true,
                // The last one may just be on its way out.
                Ok(_) => sleep(PAUSE).await,
                Err(_) => return false,
            }
        }
        false
    }

    /// Kills everything in it and returns when it is gone.
    pub(super) async fn remove(self) -> Result<(), ApiError> {
        remove(self.inner(), self.name()).await
    }
}

/// Removes a container and returns when there is no such container any more.
pub(super) async fn remove(inner: &Inner, name: &str) -> Result<(), ApiError> {
    let path = format!("/containers/{name}?force=1&v=1");
    let deadline = tokio::time::Instant::now() + REMOVE_MAX;
    loop {
        let last = match inner.api.act("remove a container", "DELETE", &path).await {
            Err(ApiError::Refused { status: 404, .. }) => return Ok(()),
            // Nobody to ask: whoever wants it gone comes again.
            Err(error @ ApiError::Unreachable { .. }) => return Err(error),
            // Being removed already; or just removed, which the next look will tell.
            Ok(()) | Err(ApiError::Refused { status: 409, .. }) => None,
            Err(error) => Some(error),
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(last.unwrap_or(ApiError::Silent { doing: "remove a container" }));
        }
        sleep(PAUSE).await;
    }
}

/// Removes every container that a daemon on this data directory has made.
pub(super) async fn remove_leftovers(inner: &Inner) -> Result<usize, ApiError> {
    let label = format!("{LABEL}={}", inner.data_dir.display());
    let filters = in_query(&serde_json::json!({ "label": [label] }).to_string());
    let path = format!("/containers/json?all=1&filters={filters}");
    let listed: Vec<Listed> = inner.api.get("list containers", &path).await?;
    for container in &listed {
        remove(inner, &container.id).await?;
    }
    Ok(listed.len())
}

/// The plan with the protected names as trees of their own.
fn with_protected_names(plan: &Plan) -> Result<Plan, SandboxError> {
    protected::prepare(&plan.home)?;
    let mut plan = plan.clone();
    plan.trees.extend(protected::trees(&plan.home).into_iter().map(|(path, access)| Tree {
        source: path.clone(),
        target: path,
        access,
        may_execute: false,
    }));
    Ok(plan)
}

fn open(tree: &Tree) -> Result<std::fs::File, Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = openat2(CWD, &tree.source, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .at(format!("open {}", tree.source.display()))?;
    Ok(std::fs::File::from(file))
}
