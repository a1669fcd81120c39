//! One run of the demonstration: started, followed, answered, and what was seen of it.

use std::{
    io::{IsTerminal, stdin},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{
    app::{
        cli::{Failure, Renderer, decision, out, question},
        client::{Client, Live, run_body},
    },
    domain::{Approval, ApprovalKind, Event, EventBody, RunId, ToolStatus},
};

/// Longest time that one run may take, waiting for people left out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who answers the approvals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    /// Yes to everything, without asking.
    pub(super) says_yes: bool,
}

impl Person {
    /// The decision, and whether it was taken without a person.
    pub(super) fn decide(self, approval: &Approval) -> Result<Value, Failure> {
        let prompt = question(approval.kind);
        let automatic = match approval.kind {
            ApprovalKind::Tool | ApprovalKind::Budget => "y",
            ApprovalKind::UnknownEffect => "h",
        };
        out::part(format_args!("    {prompt}"));
        if self.says_yes {
            out::line(format_args!("{automatic}   (--yes)"));
            return Ok(decision(approval, automatic));
        }
        let mut answer = String::new();
        stdin().read_line(&mut answer).map_err(|e| Failure::fault(format!("no answer: {e}")))?;
        if answer.is_empty() {
            return Err(
                Failure::fault("no answer").next("use --yes where nobody sits at the terminal")
            );
        }
        if !stdin().is_terminal() {
            out::line(answer.trim());
        }
        Ok(decision(approval, &answer))
    }
}

/// A run and what was seen of it.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) id: RunId,
    pub(super) events: Vec<Event>,
}

/// When to stop watching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The run has ended.
    Ended,
    /// A call has started.
    CallStarted,
}

impl Story {
    /// Starts a run of the agent `demo`.
    pub(super) async fn begin(client: &Client, instructions: &str) -> Result<Self, Failure> {
        for line in instructions.lines() {
            out::line(format_args!("  you: {line}"));
        }
        let mut body = run_body("demo", instructions);
        if let Some(body) = body.as_object_mut() {
            body.insert("metadata".to_owned(), json!({ "source": "demo" }));
        }
        let run = client.create_run(&body).await?;
        Ok(Self { id: run.id, events: Vec::new() })
    }

    /// Shows the run as it goes and answers its approvals.
    pub(super) async fn watch(
        &mut self,
        client: &Client,
        renderer: &mut Renderer,
        person: Person,
        until: Until,
    ) -> Result<(), Failure> {
        let after = self.events.last().map_or(0, |e| e.seq);
        let mut follow = client.follow(self.id, after);
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let Ok(live) = timeout_at(deadline, follow.next()).await else {
                renderer.close();
                let waited = PATIENCE.as_secs();
                return Err(Failure::fault(format!("{} made no end within {waited} s", self.id)));
            };
            let live = live?;
            renderer.show(&live);
            let Live::Event(event) = live else { continue };
            let body = event.body.clone();
            self.events.push(*event);
            match body {
                EventBody::ApprovalRequested { approval } => {
                    let decision = person.decide(&approval)?;
                    client.decide(approval.id, &decision).await?;
                    deadline = Instant::now() + PATIENCE;
                }
                EventBody::ToolStarted { .. } if until == Until::CallStarted => {
                    renderer.close();
                    return Ok(());
                }
                body if is_end(&body) => return Ok(()),
                _ => {}
            }
        }
    }

    /// The outcomes of the calls of a tool: status and output.
    pub(super) fn outcomes(&self, tool: &str) -> Vec<(ToolStatus, &str)> {
        let calls: Vec<_> = self
            .events
            .iter()
            .filter_map(|e| match &e.body {
                EventBody::ToolRequested { call_id, tool: name, .. } if name == tool => {
                    Some(*call_id)
                }
                _ => None,
            })
            .collect();
        self.events
            .iter()
            .filter_map(|e| match &e.body {
                EventBody::ToolCompleted { call_id, status, output, .. }
                    if calls.contains(call_id) =>
                {
                    Some((*status, output.as_str()))
                }
                EventBody::ToolDenied { call_id, reason, .. } if calls.contains(call_id) => {
                    Some((ToolStatus::Error, reason.as_str()))
                }
                _ => None,
            })
            .collect()
    }

    /// Whether an event of this kind was seen.
    pub(super) fn saw(&self, is_it: impl Fn(&EventBody) -> bool) -> bool {
        self.events.iter().any(|e| is_it(&e.body))
    }

    /// Whether it ended with a final answer.
    pub(super) fn succeeded(&self) -> bool {
        self.saw(|body| matches!(body, EventBody::RunSucceeded { .. }))
    }
}

fn is_end(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::RunSucceeded { .. }
            | EventBody::RunFailed { .. }
            | EventBody::RunCancelled { .. }
            | EventBody::RunExpired { .. }
    )
}
