//! One attempt: what the model asks for, how to tell from outside that it worked, and the control.

use std::{
    collections::BTreeSet,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::Stdio,
};

use crate::{
    room::{Level, Room, Seen},
    world::{World, command},
};

type Judge = Box<dyn Fn(&World, &Seen) -> bool>;
type Reset = Box<dyn Fn(&World)>;

/// An attempt.
pub(crate) struct Case {
    name: &'static str,
    agent: &'static str,
    args: Vec<String>,
    control: Option<Vec<String>>,
    has_escaped: Judge,
    reset: Reset,
    /// Whether the control runs as the tools' user and not as root.
    is_control_plain: bool,
    /// Why it gets through at `landlock`; docs/SANDBOX.md says so too.
    remainder: Option<&'static str>,
}

/// An attempt by the probe that counts as escaped when the probe says that its call worked.
pub(crate) fn case(name: &'static str, args: &[&str]) -> Case {
    Case {
        name,
        agent: "attacked",
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        control: None,
        has_escaped: Box::new(|_, seen| seen.is_ok()),
        reset: Box::new(|_| {}),
        is_control_plain: false,
        remainder: None,
    }
}

impl Case {
    /// What outside shows that it worked.
    pub(crate) fn if_seen(mut self, judge: impl Fn(&World, &Seen) -> bool + 'static) -> Self {
        self.has_escaped = Box::new(judge);
        self
    }

    /// Counts as escaped when the secret comes back.
    pub(crate) fn if_leaks(self) -> Self {
        self.if_seen(|_, seen| seen.leaks())
    }

    /// Puts outside as it was, before and after.
    pub(crate) fn reset(mut self, reset: impl Fn(&World) + 'static) -> Self {
        self.reset = Box::new(reset);
        self
    }

    /// Other arguments without the sandbox, where a path is private within.
    pub(crate) fn unconfined(mut self, args: &[&str]) -> Self {
        self.control = Some(args.iter().map(|a| (*a).to_owned()).collect());
        self
    }

    /// Without the sandbox it is the tools' user who makes it.
    pub(crate) fn control_as_tool(mut self) -> Self {
        self.is_control_plain = true;
        self
    }

    /// Another agent makes it.
    pub(crate) fn by(mut self, agent: &'static str) -> Self {
        self.agent = agent;
        self
    }

    /// The same by an agent that may reach some other machines.
    pub(crate) fn with_network(mut self) -> Self {
        if self.agent == "attacked" {
            self.agent = "net";
        }
        self
    }

    /// Gets through at `landlock`, for this reason.
    pub(crate) fn remains_at_landlock(mut self, reason: &'static str) -> Self {
        self.remainder = Some(reason);
        self
    }
}

/// Makes every attempt in the room and again outside, and fails with all that went wrong.
pub(crate) async fn judge(world: &World, room: &Room, cases: Vec<Case>) {
    let names: BTreeSet<_> = cases.iter().map(|c| c.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let mut wrong = Vec::new();
    for case in &cases {
        (case.reset)(world);
        let args = named(world, &case.args);
        let seen = room.probe(world, case.agent, case.name, &args).await;
        let has_escaped = (case.has_escaped)(world, &seen);
        let may = case.remainder.filter(|_| room.level == Level::Landlock);
        match (has_escaped, may) {
            (true, None) => wrong.push(format!("{}: ESCAPED: {seen:?}", case.name)),
            (false, Some(reason)) => {
                wrong.push(format!("{}: is said to remain ({reason}) but does not", case.name));
            }
            (true, Some(_)) | (false, None) => {}
        }
        (case.reset)(world);
        let free = unconfined(world, case);
        if !(case.has_escaped)(world, &free) {
            wrong.push(format!("{}: the control proves nothing: {free:?}", case.name));
        }
        (case.reset)(world);
        println!("{:<46} confined: {:<26} free: {}", case.name, short(&seen), short(&free));
    }
    println!("{} attempts at {}, {} wrong", cases.len(), room.level.name(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The arguments with the victim's number in them.
fn named(world: &World, args: &[String]) -> Vec<String> {
    let name = |arg: &String| match arg.as_str() {
        "VICTIM" => world.victim().to_string(),
        _ => arg.clone(),
    };
    args.iter().map(name).collect()
}

fn short(seen: &Seen) -> String {
    let line: String = seen.output.lines().next().unwrap_or("").chars().take(26).collect();
    seen.signal.map_or(line, |signal| format!("signal {signal}"))
}

fn unconfined(world: &World, case: &Case) -> Seen {
    let args = named(world, case.control.as_ref().unwrap_or(&case.args));
    let mut control = command(world.path("bin/probes"));
    control.args(args).current_dir(world.path(".")).stdin(Stdio::null());
    if case.is_control_plain {
        let uid = world.user().tool_uid();
        control.uid(uid).gid(uid);
    }
    let output = control.output().unwrap();
    Seen {
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        signal: output.status.signal(),
    }
}
