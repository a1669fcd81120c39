//! A stand-in for a language model: deterministic, without network or key, and honest about it.
//!
//! It follows plain instructions and does nothing else, so that a newcomer can see the whole
//! machine work, and so that tests need no model. Invariant: the reply is a pure function of the
//! messages and tools; after a crash the same conversation continues the same script.

mod parse;
mod story;
mod words;

use std::sync::Arc;

use serde_json::Value;

use self::{
    parse::{Action, Step},
    story::Outcome,
};
use super::ToolSchema;
use crate::domain::{Author, Message, Part};

/// What the stand-in answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) call: Option<(String, Value)>,
}

/// The next step of the last instructions, or their summary once every step has its result.
pub(super) fn reply(messages: &[Arc<Message>], tools: &[ToolSchema]) -> Reply {
    let Some(start) = instructions(messages) else {
        return said(story::help());
    };
    let (_, rest) = messages.split_at(start.saturating_add(1).min(messages.len()));
    let steps = match messages.get(start).map(|m| parse::script(&text(m))) {
        Some(Ok(steps)) => steps,
        Some(Err(trouble)) => return said(story::not_understood(&trouble)),
        None => return said(story::help()),
    };
    let mut outcomes = story::outcomes(rest).into_iter();
    let mut told: Vec<(&Step, Outcome<'_>)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let outcome = match &step.action {
            Action::Say(_) | Action::Help => Outcome::Said,
            Action::Call { tool, .. } if !tools.iter().any(|t| t.name == *tool) => {
                Outcome::Unavailable
            }
            Action::Call { tool, args } => match outcomes.next() {
                Some(outcome) => outcome,
                None => {
                    return Reply {
                        text: story::announce(&steps, index, &told),
                        call: Some(((*tool).to_owned(), args.clone())),
                    };
                }
            },
        };
        told.push((step, outcome));
    }
    said(story::summary(&told, replaced(messages, start)))
}

fn said(text: String) -> Reply {
    Reply { text, call: None }
}

/// Position of the message that holds the instructions to follow: the last one of the user that
/// is neither an answer to a question nor a mere "continue".
fn instructions(messages: &[Arc<Message>]) -> Option<usize> {
    (0..messages.len()).rev().find(|&at| {
        messages.get(at).is_some_and(|m| {
            m.role == Author::User && !is_go_on(&text(m)) && !is_answer(messages, at)
        })
    })
}

fn is_go_on(text: &str) -> bool {
    let plain = text.trim().trim_end_matches(['.', '!']).to_ascii_lowercase();
    matches!(plain.as_str(), "continue" | "go on" | "proceed" | "resume" | "carry on")
}

/// Whether the message answers the question that was asked last. Instructions are not an answer.
fn is_answer(messages: &[Arc<Message>], at: usize) -> bool {
    let (before, rest) = messages.split_at(at);
    let asked = before.iter().rev().find(|m| m.role == Author::Assistant).is_some_and(|m| {
        m.content.iter().any(|p| matches!(p, Part::ToolCall { tool, .. } if tool == "ask_user"))
    });
    let spoken_since = before.iter().rev().take_while(|m| m.role != Author::Assistant);
    let is_first = !spoken_since.into_iter().any(|m| m.role == Author::User);
    asked && is_first && rest.first().is_some_and(|m| parse::script(&text(m)).is_err())
}

/// Whether the instructions came while the same run was still busy with earlier ones.
fn replaced(messages: &[Arc<Message>], start: usize) -> bool {
    let (before, rest) = messages.split_at(start);
    let Some(current) = rest.first() else { return false };
    let same_run = before.iter().rev().take_while(|m| m.run_id == current.run_id);
    same_run.into_iter().any(|m| m.role == Author::User)
}

fn text(message: &Message) -> String {
    let texts = message.content.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        Part::ToolCall { .. } | Part::ToolResult { .. } => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
