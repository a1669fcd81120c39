//! Files of a person in the workspaces of agents, as far as the calls of their runs tell.
//!
//! Invariants: a file belongs to a person only when a call of theirs wrote the whole of it and nobody
//! changed it later; what others may have a part in is neither removed nor given away.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    steps::{PAGE, asked_to_empty, count, note},
    words::Person,
};
use crate::{
    domain::{Erasure, Timestamp, ToolStatus},
    orchestrator::Inner,
    store::{FileCall, StoreError},
    tools::keeping::FileRemoval,
};

/// Places that a receipt lists; more are only counted.
const LISTED_MAX: usize = 200;

/// What a call did to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// All of its content.
    Whole,
    /// A part of what was there, by somebody else perhaps.
    Part,
    /// Nobody knows whether it wrote.
    Perhaps,
}

/// What a call tells of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It wrote this one.
    File { path: String, wrote: Wrote },
    /// It was a program, which may have written anything.
    Program,
    /// It failed.
    Nothing,
}

/// A file that the runs of a person wrote: the most that they did, and when the last call was over.
#[derive(Clone, Copy, Debug)]
struct Written {
    wrote: Wrote,
    before: Timestamp,
}

impl Told {
    pub(super) fn of(call: &FileCall) -> Self {
        if call.tool == "exec" || call.tool == "shell" {
            return Self::Program;
        }
        let args = serde_json::from_str::<Value>(&call.args).unwrap_or_default();
        let text = |name: &str| args.get(name).and_then(Value::as_str);
        let Some(path) = text("path") else { return Self::Program };
        let is_whole = call.tool == "write_file" && text("mode") != Some("append");
        let wrote = match call.outcome.as_ref().map(|outcome| outcome.status) {
            Some(ToolStatus::Ok) if is_whole => Wrote::Whole,
            Some(ToolStatus::Ok) => Wrote::Part,
            Some(ToolStatus::Error) => return Self::Nothing,
            Some(
                ToolStatus::Timeout | ToolStatus::Killed | ToolStatus::Limit | ToolStatus::Unknown,
            )
            | None => Wrote::Perhaps,
        };
        Self::File { path: path.to_owned(), wrote }
    }
}

impl Inner {
    /// Removes files that their runs wrote as a whole, unless somebody changed them later; empties
    /// the workspaces that whoever asked named. What is left is for a person to look at.
    pub(super) async fn erase_files(
        &self,
        person: &Person,
        erasure: &mut Erasure,
    ) -> Result<(), StoreError> {
        let (files, mut programs) = self.files_of(person).await?;
        let agents = self.authorizer.agents();
        let workspace = |agent: &str| {
            agents.values().find(|a| a.name.as_str() == agent).map(|a| a.workspace.clone())
        };
        let mut left = Vec::new();
        for ((agent, path), Written { wrote, before }) in files {
            let why = match (workspace(&agent), wrote) {
                (None, _) => "no agent of that name is configured".to_owned(),
                (_, Wrote::Part) => "a part of it was written; somebody else made it".to_owned(),
                (_, Wrote::Perhaps) => "nobody knows whether it was written".to_owned(),
                (Some(place), Wrote::Whole) => {
                    match self.tools.remove_file(place, path.clone(), before).await {
                        Ok(FileRemoval::Removed) => {
                            count(erasure, "files", 1);
                            continue;
                        }
                        Ok(FileRemoval::Missing) => continue,
                        Ok(FileRemoval::Newer) => "changed later, by somebody else perhaps".into(),
                        Err(error) => error,
                    }
                }
            };
            left.push(format!("{agent}: {path}: {why}"));
        }
        for agent in asked_to_empty(erasure) {
            let Some(place) = workspace(&agent) else { continue };
            match self.tools.empty_workspace(place).await {
                Ok(done) => {
                    count(erasure, "files", done.removed);
                    left.retain(|line| !line.starts_with(&format!("{agent}: ")));
                    if done.left > 0 {
                        left.push(format!("{agent}: {} protected or busy things stay", done.left));
                    }
                }
                Err(error) => left.push(format!("{agent}: {error}")),
            }
            programs.remove(&agent);
        }
        let clean = |text: String| person.scrub(&text).unwrap_or(text);
        let left: Vec<_> = left.into_iter().map(clean).take(LISTED_MAX).collect();
        note(erasure, "files_left", json!(left));
        note(erasure, "workspaces_to_look_through", json!(programs));
        if self.membership.is_shared() {
            let elsewhere = "workspaces and logs of other replicas: only the one that carried this \
                             out has looked at its own";
            note(erasure, "other_replicas", json!(elsewhere));
        }
        Ok(())
    }

    /// Files that the runs of a person wrote, by agent and path, and agents whose programs they
    /// started.
    async fn files_of(
        &self,
        person: &Person,
    ) -> Result<(BTreeMap<(String, String), Written>, BTreeSet<String>), StoreError> {
        let mut files: BTreeMap<(String, String), Written> = BTreeMap::new();
        let mut programs = BTreeSet::new();
        let mut after = String::new();
        loop {
            let mut reader = self.store.read().await?;
            let page = reader.erasures().runs(person.id, &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok((files, programs)) };
            after = last.id.to_string();
            for run in page {
                for call in reader.erasures().calls_on_files(run.id).await? {
                    match Told::of(&call) {
                        Told::Nothing => {}
                        Told::Program => drop(programs.insert(run.agent.clone())),
                        Told::File { path, wrote } => {
                            let before = call.before.unwrap_or_else(|| self.clock.now());
                            let new = Written { wrote, before };
                            files
                                .entry((run.agent.clone(), path))
                                .and_modify(|known| known.add(new))
                                .or_insert(new);
                        }
                    }
                }
            }
        }
    }
}

impl Written {
    /// One more call wrote it. A part of what they had written themselves is theirs.
    fn add(&mut self, later: Self) {
        self.before = self.before.max(later.before);
        match (self.wrote, later.wrote) {
            (_, Wrote::Whole) => self.wrote = Wrote::Whole,
            (Wrote::Perhaps, Wrote::Part) => self.wrote = Wrote::Part,
            (Wrote::Whole | Wrote::Part, _) | (Wrote::Perhaps, Wrote::Perhaps) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ToolOutcome;

    fn call(tool: &str, mode: &str, status: Option<ToolStatus>) -> FileCall {
        let outcome = status.map(|status| ToolOutcome {
            status,
            exit_code: None,
            output: String::new(),
            truncated: false,
            duration_ms: 0,
            confinement: None,
        });
        let args = json!({ "path": "a", "mode": mode }).to_string();
        FileCall { tool: tool.to_owned(), args, outcome, before: None }
    }

    #[test]
    fn a_file_is_theirs_only_when_a_call_that_succeeded_wrote_all_of_it() {
        let told = |tool: &str, mode: &str, status| Told::of(&call(tool, mode, status));
        let file = |wrote| Told::File { path: "a".to_owned(), wrote };
        let ok = Some(ToolStatus::Ok);
        assert_eq!(told("write_file", "create", ok), file(Wrote::Whole));
        assert_eq!(told("write_file", "overwrite", ok), file(Wrote::Whole));
        assert_eq!(told("write_file", "append", ok), file(Wrote::Part));
        assert_eq!(told("edit_file", "", ok), file(Wrote::Part));
        // The file was there, and is somebody else's.
        assert_eq!(told("write_file", "create", Some(ToolStatus::Error)), Told::Nothing);
        for status in [None, Some(ToolStatus::Unknown), Some(ToolStatus::Killed)] {
            assert_eq!(told("write_file", "create", status), file(Wrote::Perhaps));
        }
        assert_eq!(told("exec", "", ok), Told::Program);
    }

    #[test]
    fn a_part_of_what_they_wrote_themselves_is_theirs() {
        let at = Timestamp::from_micros;
        let of = |wrote, n| Written { wrote, before: at(n) };
        let mut own = of(Wrote::Whole, 5);
        own.add(of(Wrote::Part, 9));
        assert_eq!((own.wrote, own.before), (Wrote::Whole, at(9)));
        let mut others = of(Wrote::Part, 5);
        others.add(of(Wrote::Perhaps, 4));
        assert_eq!((others.wrote, others.before), (Wrote::Part, at(5)));
        others.add(of(Wrote::Whole, 6));
        assert_eq!(others.wrote, Wrote::Whole);
    }
}
