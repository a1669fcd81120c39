//! A daemon under the conditions of one level of confinement, and as one kind of user.

use std::{fs, os::unix::fs::lchown, path::Path};

use serde_json::{Value, json};

use crate::{
    support::{
        daemon::Daemon,
        fake_llm::{FakeLlm, Turn},
    },
    world::World,
};

/// How well the room lets tools be confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Full,
    FullNoproc,
    Landlock,
}

impl Level {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::FullNoproc => "full-noproc",
            Self::Landlock => "landlock",
        }
    }

    const fn cage(self) -> &'static str {
        match self {
            Self::Full => "plain",
            Self::FullNoproc => "noproc",
            Self::Landlock => "nouserns",
        }
    }
}

/// Who the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    /// Somebody with no capability and no group.
    Plain,
}

/// The plain user: nobody's account on Debian.
const PLAIN_UID: u32 = 65_511;

impl User {
    const fn uid(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Plain => PLAIN_UID,
        }
    }

    /// Who the tools are.
    pub(crate) const fn tool_uid(self) -> u32 {
        match self {
            Self::Root => agent_runtime::sandbox::TOOL_UID,
            Self::Plain => PLAIN_UID,
        }
    }
}

/// What a call gave back.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) output: String,
    pub(crate) signal: Option<i32>,
}

impl Seen {
    /// Whether the probe itself says that its call worked.
    pub(crate) fn is_ok(&self) -> bool {
        self.output.starts_with("ok")
    }

    pub(crate) fn leaks(&self) -> bool {
        self.output.contains(crate::world::SECRET)
    }

    /// The number after a word, such as `made 12`.
    pub(crate) fn number(&self, word: &str) -> u64 {
        let rest = self.output.lines().find_map(|l| l.strip_prefix(word));
        rest.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }
}

/// The daemon and its model.
pub(crate) struct Room {
    pub(crate) level: Level,
    pub(crate) daemon: Daemon,
    fake: FakeLlm,
}

impl Room {
    pub(crate) async fn open(level: Level, user: User, world: &World, more: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these rooms are built by root");
        let fake = FakeLlm::start();
        let bin = world.at("bin");
        let agent = |name: &str, more: &str| {
            format!(
                "[agents.{name}]\nsystem_prompt = \"test\"\ntools = [\"exec\", \"shell\", \
                 \"read_file\", \"write_file\", \"edit_file\", \"list_files\", \"search_files\"]\n\
                 roles = [\"admin\"]\nallowed_commands = [\"*\"]\n\
                 allowed_paths = [{{ path = \"{bin}\", access = \"ro\" }}{more}\n"
            )
        };
        let library = world.at("library");
        // What is tried here must be stopped by the sandbox and not by how a command looks.
        let policy = world.at("policy.toml");
        fs::write(&policy, "version = 1\ndeny_patterns = false\n").unwrap();
        let config = [
            format!("[policy]\nfile = \"{policy}\"\n"),
            format!("[sandbox]\nmin_level = \"{}\"\n", level.name()),
            agent("attacked", "]"),
            agent("reader2", &format!(", {{ path = \"{library}\", access = \"ro\" }}]")),
            agent(
                "tight",
                "]\n[agents.tight.tool_limits]\nprocesses = 50\nmemory_bytes = 268435456\n\
                 tmp_bytes = 16777216\ntmp_inodes = 1000\nfile_bytes = 20971520\nopen_files = 64\n\
                 wall_secs = 10",
            ),
            more.to_owned(),
        ]
        .join("\n");
        fs::create_dir_all(&library).unwrap();
        crate::world::open_up(Path::new(&library));
        let mut daemon = Daemon::prepare_with(&fake.openai_url(), &config);
        let cage = world.at("bin/cage");
        let uid = user.uid().to_string();
        daemon.start_through(&world.path("bin/agent-runtime"), &[&cage, level.cage(), &uid]);
        fs::create_dir_all(daemon.data_dir()).unwrap();
        if user != User::Root {
            give(daemon.dir(), user.uid());
        }
        daemon.run().await;
        let info = daemon.get("/api/v1/info").await.expect(200);
        assert_eq!(info["sandbox_level"], level.name(), "{info}\n{}", daemon.log());
        Self { level, daemon, fake }
    }

    /// Lets the model make these calls in one run; what each of them gave back.
    pub(crate) async fn play(&self, agent: &str, name: &str, calls: &[(&str, Value)]) -> Vec<Seen> {
        let script: String =
            name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let turns = calls.iter().map(|(tool, args)| Turn::call(tool, args));
        self.fake.script(&script, turns.chain([Turn::text("done")]).collect::<Vec<_>>());
        let body = json!({"agent": agent, "input": format!("script:{script}")});
        let run = self.daemon.post("/api/v1/runs?wait=60", &body).await.expect(200);
        assert_eq!(run["state"], "succeeded", "{name}: {run:#}\n{}", self.daemon.log());
        let events = self.daemon.events(run["id"].as_str().unwrap()).await;
        let seen: Vec<Seen> = events.iter().filter_map(seen).collect();
        assert_eq!(seen.len(), calls.len(), "{name}: {events:#?}");
        seen
    }

    /// Runs the probe with these arguments.
    pub(crate) async fn probe(
        &self,
        world: &World,
        agent: &str,
        name: &str,
        args: &[String],
    ) -> Seen {
        let mut line = vec![world.at("bin/probes")];
        line.extend(args.iter().cloned());
        let mut seen = self.play(agent, name, &[("exec", json!({"argv": line}))]).await;
        seen.remove(0)
    }
}

/// What an event says of a call that has ended.
fn seen(event: &Value) -> Option<Seen> {
    let data = &event["data"];
    match event["type"].as_str()? {
        "tool.denied" => Some(Seen { output: data["reason"].as_str()?.to_owned(), signal: None }),
        "tool.completed" => {
            let output = data["output"].as_str()?.to_owned();
            let signal = output
                .rsplit_once("[ended by signal ")
                .and_then(|(_, rest)| rest.trim_end().trim_end_matches(']').parse().ok());
            Some(Seen { output, signal })
        }
        _ => None,
    }
}

/// Gives a directory and everything in it to a user.
fn give(path: &Path, uid: u32) {
    lchown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}
