//! What the stand-in says: announcements, outcomes, the summary, and its help.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use super::parse::{Action, Step, Trouble};
use crate::{
    domain::{Author, Message, Part, ToolStatus},
    llm::transcript::NO_RESULT,
};

/// What became of a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome<'m> {
    /// It only said something.
    Said,
    /// This agent has no such tool.
    Unavailable,
    /// The tool's result.
    Result(ToolStatus, &'m str),
    /// A person answered the question.
    Answered(String),
}

/// Lines and bytes of a result that the summary quotes, when there is one step and when more.
const QUOTE_ALONE: (usize, usize) = (200, 8_000);
const QUOTE: (usize, usize) = (12, 800);

/// Said in every summary: nobody should take this for a language model.
const NOTE: &str = "(Told by the built-in stand-in, which is not a language model: it only \
    follows plain instructions. `help` lists them; AGENT_RUNTIME_LLM_PROVIDER connects a model.)";

/// The outcomes of the calls in the messages, in order.
pub(super) fn outcomes(messages: &[Arc<Message>]) -> Vec<Outcome<'_>> {
    let results: BTreeMap<_, _> = messages
        .iter()
        .flat_map(|m| &m.content)
        .filter_map(|part| match part {
            Part::ToolResult { call_id, status, text } => Some((*call_id, (*status, text))),
            Part::Text { .. } | Part::ToolCall { .. } => None,
        })
        .collect();
    let mut outcomes = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        for part in &message.content {
            let Part::ToolCall { call_id, tool, .. } = part else { continue };
            // Whoever answers a question may do so in a message of their own.
            let answer = messages
                .iter()
                .skip(at + 1)
                .take_while(|m| m.role != Author::Assistant)
                .find(|m| tool == "ask_user" && m.role == Author::User);
            outcomes.push(match (answer, results.get(call_id)) {
                (Some(answer), _) => Outcome::Answered(super::text(answer)),
                (None, Some((status, text))) => Outcome::Result(*status, text.as_str()),
                (None, None) => Outcome::Result(ToolStatus::Unknown, NO_RESULT),
            });
        }
    }
    outcomes
}

/// The line before a call. The first one says who is speaking; things to say that come between
/// the last call and this one are said here.
pub(super) fn announce(steps: &[Step], index: usize, told: &[(&Step, Outcome<'_>)]) -> String {
    let mut text = String::new();
    let is_first =
        !told.iter().any(|(_, o)| matches!(o, Outcome::Result(..) | Outcome::Answered(_)));
    if is_first {
        text.push_str("I am the built-in stand-in, not a language model; I follow your ");
        text.push_str(if steps.len() == 1 { "instruction.\n" } else { "instructions.\n" });
    }
    let fresh = told.iter().rev().map_while(|(step, outcome)| match (&step.action, outcome) {
        (Action::Say(said), _) => Some(format!("{said}\n")),
        (_, Outcome::Unavailable) => Some(format!("I cannot {}.\n", step.title)),
        _ => None,
    });
    let fresh: Vec<String> = fresh.collect();
    text.extend(fresh.into_iter().rev());
    let title = steps.get(index).map_or("", |s| s.title.as_str());
    if steps.len() == 1 {
        text + "Now: " + title
    } else {
        text + &format!("Step {} of {}: {title}", index + 1, steps.len())
    }
}

/// The final answer: what became of every step.
pub(super) fn summary(told: &[(&Step, Outcome<'_>)], replaced: bool) -> String {
    let mut text = String::new();
    if replaced {
        text.push_str("Your new message replaced the rest of the earlier instructions.\n\n");
    }
    let quote = if told.len() == 1 { QUOTE_ALONE } else { QUOTE };
    let failed = told.iter().filter(|(_, outcome)| !outcome.is_good()).count();
    match (told.len(), failed) {
        (1, _) => {}
        (all, 0) => put(&mut text, format_args!("Done: all {all} steps succeeded.\n\n")),
        (all, failed) => put(
            &mut text,
            format_args!("Done: {} of {all} steps succeeded, {failed} did not.\n\n", all - failed),
        ),
    }
    for (n, (step, outcome)) in (1..).zip(told) {
        if told.len() > 1 {
            put(&mut text, format_args!("{n}. "));
        }
        match (&step.action, outcome) {
            (Action::Say(said), _) => put(&mut text, format_args!("{said}\n")),
            (Action::Help, _) => put(&mut text, format_args!("{WHO}\n\n{HELP}\n")),
            (Action::Call { .. }, outcome) => outcome.tell(&mut text, &step.title, quote),
        }
    }
    text + "\n" + NOTE
}

impl Outcome<'_> {
    const fn is_good(&self) -> bool {
        match self {
            Self::Said | Self::Answered(_) => true,
            Self::Unavailable => false,
            Self::Result(status, _) => matches!(status, ToolStatus::Ok),
        }
    }

    fn tell(&self, text: &mut String, title: &str, quote: (usize, usize)) {
        match self {
            Self::Said => put(text, format_args!("{title}\n")),
            Self::Unavailable => {
                put(text, format_args!("{title} — not possible: the agent has no such tool\n"));
            }
            Self::Answered(answer) => {
                put(text, format_args!("{title} — answered\n"));
                excerpt(text, answer, quote);
            }
            Self::Result(status, output) => {
                let word = match status {
                    ToolStatus::Ok => "ok",
                    ToolStatus::Error => "failed or refused",
                    ToolStatus::Timeout => "took too long and was stopped",
                    ToolStatus::Killed => "was stopped",
                    ToolStatus::Limit => "hit a limit",
                    ToolStatus::Unknown => "nobody knows whether it happened",
                };
                put(text, format_args!("{title} — {word}\n"));
                excerpt(text, output, quote);
            }
        }
    }
}

/// The beginning of the output, every line marked, at most `(lines, bytes)` of it.
fn excerpt(text: &mut String, output: &str, (lines_max, bytes_max): (usize, usize)) {
    let all: Vec<&str> = output.trim_end().lines().collect();
    let (mut shown, mut bytes) = (0, 0);
    for line in all.iter().take(lines_max) {
        let room = bytes_max.saturating_sub(bytes);
        if room == 0 {
            break;
        }
        let end = line.floor_char_boundary(room);
        let cut = if end < line.len() { "…" } else { "" };
        let line = line.get(..end).unwrap_or_default();
        put(text, format_args!("   | {line}{cut}\n"));
        bytes += line.len() + 1;
        shown += 1;
    }
    if shown < all.len() {
        put(text, format_args!("   | … and {} more lines\n", all.len() - shown));
    }
}

fn put(text: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    text.write_fmt(args).ok();
}

/// The answer to instructions that were not understood.
pub(super) fn not_understood(trouble: &Trouble) -> String {
    format!(
        "I am the built-in stand-in, not a language model, and I did not understand\n\n   \
         | {}\n\n({}). Nothing was done.\n\n{HELP}",
        trouble.line, trouble.why
    )
}

/// Who speaks, and what it understands.
pub(super) fn help() -> String {
    format!("{WHO}\n\n{HELP}\n\n{NOTE}")
}

const WHO: &str = "I am the built-in stand-in, not a language model.";

const HELP: &str = "\
I follow these instructions, one per line or joined with `then`:

   list [PATH]                 the files in a directory (`list -r` for all below)
   read PATH                   a file
   write PATH: TEXT            a file with that text (\\n begins a new line);
                               `write PATH <<END`, lines, `END` for longer texts
   append PATH: TEXT           at the end of a file
   edit PATH: OLD => NEW       in a file
   search PATTERN [in PATH]    in the contents of files
   run PROGRAM ARGUMENTS…      one program, without a shell
   shell SCRIPT                a script for /bin/sh
   fetch URL                   where the agent may use http_request
   ask QUESTION [A | B]        a person, and wait for the answer
   say TEXT                    that text
   help                        this list

For example:

   write notes.txt: buy milk then read notes.txt then run wc -c notes.txt

A step that fails or is refused does not end the script; the summary tells what became of each.
A new message replaces what is left of the script; `continue` goes on with it.";
