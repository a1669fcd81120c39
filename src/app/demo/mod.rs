//! `demo`: the main job on real parts, step by step, each step checked.
//!
//! Invariant: it speaks to the daemon through the public API alone, and looks at what came of it
//! from outside: files, a listener, the exit code. A step that was not observed fails the demo.

mod daemon;
mod story;
mod witness;

use std::{fs, process::ExitCode, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use self::{
    daemon::Daemon,
    story::{Person, Story, Until},
    witness::Door,
};
use super::{
    cli::{Context, Failure, Paint, Renderer, out, starter, verify_audit},
    client::Client,
    config::{CHECKPOINT_FILE, Starter},
};
use crate::domain::{Approval, ApprovalKind, EventBody, ToolStatus, UnknownOutcome, event::fold};

/// How to run it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Answer every question with yes.
    pub(crate) yes: bool,
    /// Leave the data directory.
    pub(crate) keep: bool,
}

/// The agent of the demonstration may use every tool; what is not listed asks a person.
const CONFIG: &str = r#"
[agents.demo]
system_prompt = "You follow instructions."
tools = ["read_file", "list_files", "search_files", "write_file", "edit_file", "exec", "shell"]
allowed_commands = ["id", "cat", "bash", "python3", "perl"]
[log]
format = "text"
"#;

/// Appends one line, then works for long enough to be killed in the middle.
const UNSAFE_SCRIPT: &str = "echo sent >> sent.log; sleep 20; echo finished";

struct Demo {
    daemon: Daemon,
    client: Client,
    person: Person,
    paint: Paint,
    is_root: bool,
    stories: Vec<Story>,
    failed: Vec<&'static str>,
    count: u32,
}

pub(crate) async fn run(context: &Context, options: Options) -> Result<ExitCode, Failure> {
    let paint = Paint::stdout(context.wants_no_colour());
    out::line(paint.bold("Agent Runtime: the main job on real parts"));
    out::line(
        "The model is the built-in stand-in: it follows plain instructions and is no language model.",
    );
    out::line("Everything else is real: daemon, store, policy, sandbox, approvals, recovery.\n");
    let is_root = starter(false) == Starter::Root;
    let mut daemon = Daemon::prepare(CONFIG, options.keep)?;
    let client = daemon.start(is_root).await?;
    let mut demo = Demo {
        daemon,
        client,
        person: Person { says_yes: options.yes },
        paint,
        is_root,
        stories: Vec::new(),
        failed: Vec::new(),
        count: 0,
    };
    let result = demo.steps().await;
    if options.keep {
        let (data, log) = (demo.daemon.data_dir(), demo.daemon.log_file());
        out::line(format_args!("\nkept: {} and {}", data.display(), log.display()));
    }
    if let Err(failure) = result {
        let place = demo.daemon.last_words();
        return Err(
            failure.next(format!("the demonstration stopped at step {}; {place}", demo.count))
        );
    }
    if demo.failed.is_empty() {
        out::line(paint.good(format_args!("\n✓ all {} steps were observed", demo.count)));
        return Ok(ExitCode::SUCCESS);
    }
    let list: Vec<String> = demo.failed.iter().map(|f| format!("    {f}")).collect();
    Err(Failure::fault(format!("not observed:\n{}", list.join("\n")))
        .next("run it again with --keep and read the log"))
}

impl Demo {
    async fn steps(&mut self) -> Result<(), Failure> {
        self.begin().await?;
        self.files().await?;
        self.program().await?;
        self.walls().await?;
        self.approval().await?;
        self.crash().await?;
        self.replay().await?;
        self.stop().await
    }

    fn title(&mut self, text: &str) {
        self.count += 1;
        out::line(self.paint.bold(format_args!("\n{}. {text}", self.count)));
    }

    /// Notes whether something was observed.
    fn observe(&mut self, what: &'static str, was_seen: bool) {
        if was_seen {
            out::line(self.paint.good(format_args!("  ✓ {what}")));
        } else {
            out::line(self.paint.bad(format_args!("  ✗ {what}: NOT observed")));
            self.failed.push(what);
        }
    }

    /// Runs instructions to their end.
    async fn play(&mut self, instructions: &str) -> Result<Story, Failure> {
        let mut story = Story::begin(&self.client, instructions).await?;
        let mut renderer = Renderer::new(self.paint, "  ");
        story.watch(&self.client, &mut renderer, self.person, Until::Ended).await?;
        Ok(story)
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.daemon.workspace().join(name)).unwrap_or_default()
    }

    /// Waits until a file of the workspace has so many lines.
    async fn await_lines(&self, name: &str, wanted: usize) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.file(name).lines().count() < wanted && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        self.file(name).lines().count() == wanted
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.title(
            "A daemon: SQLite in a fresh directory, a free port on loopback, a generated token",
        );
        let info: Value = self.client.get("/api/v1/info").await?;
        out::line(self.paint.dim(format_args!("  {} answers: {info}", self.client.base())));
        let name = info.get("name").and_then(Value::as_str);
        self.observe("the daemon answers an authenticated request", name.is_some());
        Ok(())
    }

    async fn files(&mut self) -> Result<(), Failure> {
        self.title("An agent reads and edits files of its workspace");
        let story = self
            .play(
                "write notes.txt: The colour is green.\nread notes.txt\nedit notes.txt: green => blue\n\
                 read notes.txt\nlist",
            )
            .await?;
        let reads = story.outcomes("read_file");
        let was_read = reads
            .last()
            .is_some_and(|(status, text)| *status == ToolStatus::Ok && text.contains("blue"));
        let was_listed =
            story.outcomes("list_files").iter().any(|(_, text)| text.contains("notes.txt"));
        self.observe(
            "the agent read back what it had edited",
            was_read && was_listed && story.succeeded(),
        );
        let is_there = self.file("notes.txt").contains("The colour is blue.");
        self.observe("the file in the workspace says so too", is_there);
        self.stories.push(story);
        Ok(())
    }

    async fn program(&mut self) -> Result<(), Failure> {
        self.title("It runs a program in the sandbox");
        let story = self.play("run id\nrun cat notes.txt").await?;
        let runs = story.outcomes("exec");
        let all_good = runs.len() == 2 && runs.iter().all(|(status, _)| *status == ToolStatus::Ok);
        let sees_file = runs.last().is_some_and(|(_, text)| text.contains("blue"));
        let is_confined = story.saw(|body| match body {
            EventBody::ToolCompleted { confinement, .. } => {
                confinement.is_some_and(|c| c != crate::domain::Confinement::None)
            }
            _ => false,
        });
        self.observe(
            "two programs ran confined and saw the workspace",
            all_good && sees_file && is_confined,
        );
        let is_root = runs.first().is_some_and(|(_, text)| text.contains("uid=0("));
        self.observe("they did not run as root", all_good && !is_root);
        self.stories.push(story);
        Ok(())
    }

    async fn walls(&mut self) -> Result<(), Failure> {
        self.title("It tries to read a file outside and to open a connection, and is stopped");
        let secret = self.daemon.data_dir().join(super::config::BOOTSTRAP_TOKEN_FILE);
        let door = Door::open()?;
        let knock = witness::knock(door.port()?).ok_or_else(|| {
            Failure::fault("this machine has no bash, python3 or perl to open a connection with")
        })?;
        let works_outside = witness::unconfined(&knock) && door.visitors() == 1;
        self.observe("(control: without the sandbox the same program does connect)", works_outside);
        let story = self
            .play(&format!(
                "read {path}\nrun cat {path}\nrun {knock}",
                path = secret.display(),
                knock = witness::as_instruction(&knock)
            ))
            .await?;
        let token = fs::read_to_string(&secret).unwrap_or_default();
        let leaks = token.trim().is_empty()
            || story.events.iter().any(|e| {
                serde_json::to_string(&e.body).is_ok_and(|text| text.contains(token.trim()))
            });
        let reads = story.outcomes("read_file");
        let runs = story.outcomes("exec");
        let is_denied =
            reads.len() == 1 && reads.iter().all(|(status, _)| *status != ToolStatus::Ok);
        self.observe("policy denied the file tool the path outside", is_denied);
        let cat = runs.first().is_some_and(|(status, _)| *status != ToolStatus::Ok);
        self.observe("the sandbox hid the same file from a program", cat && !leaks);
        let knocked = runs.get(1).is_some_and(|(status, _)| *status != ToolStatus::Ok);
        self.observe(
            "the connection failed, and nobody came to the door",
            knocked && door.visitors() == 0,
        );
        self.stories.push(story);
        Ok(())
    }

    async fn approval(&mut self) -> Result<(), Failure> {
        self.title("It asks for approval of a risky call and goes on after the answer");
        let story = self
            .play("shell echo \"released $(cat notes.txt)\" > release.txt\nread release.txt")
            .await?;
        let asked = story.saw(|body| matches!(body, EventBody::ApprovalRequested { .. }));
        let decided = story.events.iter().find_map(|e| match &e.body {
            EventBody::ApprovalDecided { state, .. } => Some(*state),
            _ => None,
        });
        self.observe("a person was asked before the shell ran", asked && decided.is_some());
        let is_there = self.file("release.txt").contains("released");
        let was_allowed = decided == Some(crate::domain::ApprovalState::Approved);
        self.observe(
            "the run went on as the person decided",
            story.succeeded() && is_there == was_allowed,
        );
        self.stories.push(story);
        Ok(())
    }

    async fn crash(&mut self) -> Result<(), Failure> {
        self.title(
            "The daemon is killed with SIGKILL in the middle of a call that must not happen twice",
        );
        let mut renderer = Renderer::new(self.paint, "  ");
        let mut story =
            Story::begin(&self.client, &format!("shell {UNSAFE_SCRIPT}\nread sent.log")).await?;
        story.watch(&self.client, &mut renderer, self.person, Until::CallStarted).await?;
        let has_happened = self.await_lines("sent.log", 1).await;
        self.observe("the call has had its effect and has not ended", has_happened);
        self.daemon.kill()?;
        out::line(self.paint.bad("  ⚡ SIGKILL"));
        self.client = self.daemon.start(self.is_root).await?;
        out::line(self.paint.dim(format_args!("  the daemon is back at {}", self.client.base())));
        story.watch(&self.client, &mut renderer, self.person, Until::Ended).await?;
        let asked = story.events.iter().any(|e| is_unknown(&e.body));
        self.observe("it did not guess: a person was asked what became of the call", asked);
        self.observe("the run finished", story.succeeded());
        let lines = self.file("sent.log").lines().count();
        let again = usize::from(story.saw(said_run_it));
        self.observe("nothing was repeated without a person's word", lines == 1 + again);
        self.stories.push(story);
        Ok(())
    }

    async fn replay(&mut self) -> Result<(), Failure> {
        self.title("Every run's event log is read again and replayed");
        let mut all_good = true;
        for story in &self.stories {
            let events = self.client.events(story.id).await?;
            let state = self.client.run(story.id).await?.state;
            let folded = fold(&events);
            let is_same = folded == Ok(state) && events == story.events;
            let verdict = match &folded {
                Ok(found) => format!("{} events fold to {found}", events.len()),
                Err(error) => error.to_string(),
            };
            all_good &= is_same && state.is_terminal();
            let mark = if is_same { "=" } else { "≠" };
            out::line(self.paint.dim(format_args!("  {} {verdict} {mark} {state}", story.id)));
        }
        self.observe(
            "each log has no gap, folds to the state of its run and equals what was seen live",
            all_good,
        );
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), Failure> {
        self.title("The daemon is told to stop, and its audit trail is verified");
        let code = self.daemon.stop().await?;
        self.observe("it stopped when asked, with exit code 0", code == Some(0));
        let data_dir = self.daemon.data_dir();
        let verified = verify_audit(
            &data_dir,
            &crate::store::Database::Sqlite,
            &data_dir.join(CHECKPOINT_FILE),
            None,
        )
        .await?;
        out::line(
            self.paint.dim(format_args!("  {} rows, last hash {}", verified.rows, verified.hash)),
        );
        self.observe(
            "the chain of audit rows is whole and agrees with its signed checkpoints",
            verified.ok && verified.checkpoints > 0,
        );
        Ok(())
    }
}

fn said_run_it(body: &EventBody) -> bool {
    matches!(body, EventBody::ApprovalDecided { decision, .. } if decision.outcome == Some(UnknownOutcome::Run))
}

fn is_unknown(body: &EventBody) -> bool {
    let is_it = |approval: &Approval| approval.kind == ApprovalKind::UnknownEffect;
    matches!(body, EventBody::ApprovalRequested { approval } if is_it(approval))
}
