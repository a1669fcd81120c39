//! `chat`: talk to an agent in the terminal, or through a pipe.
//!
//! On a terminal a line typed while a run works becomes a message to it. From a pipe, each line is
//! taken only when something is asked for: a message, an answer, a yes or no.

use std::{
    io::{IsTerminal, stdin},
    process::ExitCode,
};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    Context, Failure, args, ask, connect,
    out::{self, Paint},
    render::Renderer,
};
use crate::{
    app::client::{Client, ClientError, Follow, Live, Page, run_body},
    domain::{Approval, EventBody, Run, RunId, WaitReason},
};

const HELP: &str = "Commands:
  /help                 this list
  /runs                 runs of this conversation
  /steer TEXT           a message to the run in progress (or just type it)
  /interrupt [hard]     pause the run; hard kills its running tool
  /resume [TEXT]        send a paused run on
  /cancel [REASON]      end the run
  /approvals            what waits for an answer
  /new                  begin a new conversation
  /quit                 leave (or Ctrl-D)
Ctrl-C interrupts the run; once more leaves.";

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The prompt.
    Prompt,
    /// The end.
    Leave,
}

struct Chat {
    client: Client,
    agent: String,
    conversation: Option<String>,
    /// The last run, and the last event of it that was shown.
    run: Option<(RunId, u64)>,
    /// It waits for `/resume` or an answer.
    is_paused: bool,
    has_failed: bool,
    lines: Lines<BufReader<Stdin>>,
    interrupt: Signal,
    is_terminal: bool,
    paint: Paint,
}

pub(super) async fn chat(context: &Context, options: args::Chat) -> Result<ExitCode, Failure> {
    let interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::fault(format!("cannot watch for Ctrl-C: {e}")))?;
    let mut chat = Chat {
        client: connect::client(context, &options.connect)?,
        agent: options.agent,
        conversation: options.conversation,
        run: None,
        is_paused: false,
        has_failed: false,
        lines: BufReader::new(tokio::io::stdin()).lines(),
        interrupt,
        is_terminal: stdin().is_terminal(),
        paint: Paint::stdout(context.wants_no_colour()),
    };
    if chat.is_terminal {
        let info: serde_json::Value = chat.client.get("/api/v1/me").await?;
        let text = |key: &str| info.get(key).and_then(|v| v.as_str()).unwrap_or("?").to_owned();
        let name = info.pointer("/principal/name").and_then(|v| v.as_str()).unwrap_or("?");
        let who = format!("{name} ({})", text("role"));
        out::line(chat.paint.dim(format_args!(
            "{} as {who}, agent {}. /help lists the commands.",
            chat.client.base(),
            chat.agent
        )));
    }
    while let Some(line) = chat.read("> ").await? {
        if chat.take(line.trim()).await? == Next::Leave {
            break;
        }
    }
    Ok(if chat.has_failed { ExitCode::from(super::failure::FAULT) } else { ExitCode::SUCCESS })
}

impl Chat {
    /// The next line; `None` at the end of the input and on Ctrl-C.
    async fn read(&mut self, prompt: &str) -> Result<Option<String>, Failure> {
        if self.is_terminal {
            out::part(self.paint.bold(prompt));
        }
        // Both are cancel-safe: a line is kept by `Lines`, a signal by its stream.
        tokio::select! {
            line = self.lines.next_line() => line.map_err(unreadable),
            _ = self.interrupt.recv() => {
                out::line("");
                Ok(None)
            }
        }
    }

    /// A line at the prompt.
    async fn take(&mut self, line: &str) -> Result<Next, Failure> {
        if line.is_empty() {
            return Ok(Next::Prompt);
        }
        let result = match line.strip_prefix('/') {
            Some(command) => self.command(command).await,
            None => self.message(line).await,
        };
        match result {
            Ok(next) => Ok(next),
            // A refusal is for the person to read; the conversation goes on.
            Err(ClientError::Problem(problem)) if problem.status != 401 && self.is_terminal => {
                out::line(self.paint.bad(problem));
                Ok(Next::Prompt)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn message(&mut self, text: &str) -> Result<Next, ClientError> {
        if let Some((run, _)) = self.run.filter(|_| self.is_paused) {
            self.client.control(run, "resume", &json!({ "input": text })).await?;
            return self.watch().await;
        }
        let mut body = run_body(&self.agent, text);
        if let (Some(body), Some(conversation)) = (body.as_object_mut(), &self.conversation) {
            body.insert("conversation_id".to_owned(), json!(conversation));
        }
        let run = self.client.create_run(&body).await?;
        self.conversation = Some(run.conversation_id.to_string());
        self.run = Some((run.id, 0));
        self.watch().await
    }

    async fn command(&mut self, command: &str) -> Result<Next, ClientError> {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let rest = rest.trim();
        match name {
            "quit" | "q" | "exit" => return Ok(Next::Leave),
            "new" => {
                self.conversation = None;
                self.run = None;
                self.is_paused = false;
            }
            "runs" => self.runs().await?,
            "approvals" => {
                for approval in self.client.pending().await? {
                    super::render::approval_lines(&approval).iter().for_each(out::line);
                }
            }
            "steer" | "interrupt" | "resume" | "cancel" => {
                let Some((run, _)) = self.run else {
                    out::line("there is no run yet: type a message");
                    return Ok(Next::Prompt);
                };
                self.control(run, name, rest).await?;
                if name != "interrupt" {
                    return self.watch().await;
                }
            }
            "help" => out::line(HELP),
            _ => out::line(format_args!("unknown command /{name}; /help lists them")),
        }
        Ok(Next::Prompt)
    }

    async fn control(&self, run: RunId, verb: &str, rest: &str) -> Result<(), ClientError> {
        let body = match verb {
            "steer" => json!({ "input": rest, "if_ended": "fail" }),
            "interrupt" => json!({ "mode": if rest == "hard" { "hard" } else { "graceful" } }),
            "resume" if !rest.is_empty() => json!({ "input": rest }),
            "cancel" if !rest.is_empty() => json!({ "reason": rest }),
            _ => json!({}),
        };
        self.client.control(run, verb, &body).await?;
        Ok(())
    }

    async fn runs(&self) -> Result<(), ClientError> {
        let Some(conversation) = &self.conversation else {
            out::line("this conversation has no runs yet");
            return Ok(());
        };
        let path = format!("/api/v1/runs?conversation_id={conversation}&limit=20");
        let page: Page<Run> = self.client.get(&path).await?;
        for run in page.items {
            out::line(format_args!(
                "{} {} {}",
                run.id,
                run.state,
                out::short(&run.input.text(), 60)
            ));
        }
        Ok(())
    }

    /// Shows the run until it ends or waits for something that only the prompt can give.
    async fn watch(&mut self) -> Result<Next, ClientError> {
        let Some((run, after)) = self.run else { return Ok(Next::Prompt) };
        self.is_paused = false;
        let mut follow = self.client.follow(run, after);
        let mut renderer = Renderer::new(self.paint, "");
        let mut has_interrupted = false;
        loop {
            // All are cancel-safe: `Follow` and `Lines` keep what they have read.
            let live = tokio::select! {
                live = follow.next() => live?,
                _ = self.interrupt.recv() => {
                    renderer.close();
                    if has_interrupted {
                        return Ok(Next::Leave);
                    }
                    has_interrupted = true;
                    out::line("interrupting: a running tool may finish (/interrupt hard kills it); Ctrl-C again leaves");
                    self.told(self.control(run, "interrupt", "").await)?;
                    continue;
                }
                line = self.lines.next_line(), if self.is_terminal => {
                    let Ok(Some(line)) = line else { return Ok(Next::Leave) };
                    let line = line.trim();
                    let words = line.strip_prefix('/').map(|c| c.split_once(' ').unwrap_or((c, "")));
                    match words {
                        Some((verb @ ("steer" | "interrupt" | "cancel"), rest)) => {
                            self.told(self.control(run, verb, rest.trim()).await)?;
                        }
                        Some(("quit" | "q" | "exit", _)) => return Ok(Next::Leave),
                        Some(_) => out::line(HELP),
                        None if line.is_empty() => {}
                        None => self.told(self.control(run, "steer", line).await)?,
                    }
                    continue;
                }
            };
            renderer.show(&live);
            self.run = Some((run, follow.after()));
            let Live::Event(event) = live else { continue };
            if let Some(next) = self.after_event(&event.body, &mut follow, &mut renderer).await? {
                return Ok(next);
            }
        }
    }

    /// What an event means for the conversation; `None` goes on watching.
    async fn after_event(
        &mut self,
        body: &EventBody,
        follow: &mut Follow,
        renderer: &mut Renderer,
    ) -> Result<Option<Next>, ClientError> {
        match body {
            EventBody::ApprovalRequested { approval } => self.decide(approval).await,
            EventBody::RunPaused { reason, .. }
            | EventBody::RunRecovered { paused: Some(reason), .. } => match reason {
                WaitReason::Interrupted | WaitReason::Operator | WaitReason::Lockdown => {
                    self.is_paused = true;
                    out::line("type a message or /resume to go on, /cancel to end it");
                    Ok(Some(Next::Prompt))
                }
                WaitReason::Input => {
                    self.is_paused = true;
                    Ok(Some(Next::Prompt))
                }
                WaitReason::EffectUnknown | WaitReason::Budget | WaitReason::Backoff => Ok(None),
            },
            EventBody::RunSucceeded { .. } => {
                renderer.close();
                self.has_failed = false;
                Ok(Some(Next::Prompt))
            }
            EventBody::RunFailed { .. }
            | EventBody::RunCancelled { .. }
            | EventBody::RunExpired { .. } => {
                self.has_failed = true;
                Ok(Some(Next::Prompt))
            }
            EventBody::SteerFailed { started_run_id: Some(run), .. } => {
                self.run = Some((*run, 0));
                *follow = self.client.follow(*run, 0);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn decide(&mut self, approval: &Approval) -> Result<Option<Next>, ClientError> {
        let prompt = ask::question(approval.kind);
        let Ok(Some(answer)) = self.read(prompt).await else {
            out::note(format_args!(
                "not answered: `agent-runtime approval approve {}`",
                approval.id
            ));
            self.has_failed = true;
            return Ok(Some(Next::Leave));
        };
        let decision = ask::decision(approval, &answer);
        self.told(self.client.decide(approval.id, &decision).await.map(|_| ()))?;
        Ok(None)
    }

    /// A refusal is shown; anything worse ends the watch.
    fn told(&self, result: Result<(), ClientError>) -> Result<(), ClientError> {
        match result {
            Err(ClientError::Problem(problem)) => {
                out::line(self.paint.bad(problem));
                Ok(())
            }
            other => other,
        }
    }
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::fault(format!("the input cannot be read: {error}"))
}
