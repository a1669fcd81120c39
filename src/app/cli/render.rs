//! How events look in a terminal; `chat`, `run tail` and the demo share it.

use serde_json::Value;

use super::out::{self, Paint, short, tame};
use crate::{
    app::client::Live,
    domain::{
        Approval, Author, EgressRecord, EventBody, Part, ToolStatus,
        event::{EphemeralBody, OutputStream},
    },
};

/// Longest piece of output that one line shows.
const OUTPUT_CHARS: usize = 400;

/// Prints a run as it goes.
#[derive(Debug)]
pub(crate) struct Renderer {
    paint: Paint,
    prefix: &'static str,
    /// Pieces of the answer were printed, and the line is still open.
    is_open: bool,
    /// What was printed of the answer so far. Pieces can be lost on the way; the whole that
    /// follows tells.
    streamed: String,
}

impl Renderer {
    /// Every line begins with `prefix`.
    pub(crate) const fn new(paint: Paint, prefix: &'static str) -> Self {
        Self { paint, prefix, is_open: false, streamed: String::new() }
    }

    /// Prints what came.
    pub(crate) fn show(&mut self, live: &Live) {
        match live {
            Live::Piece(EphemeralBody::MessageDelta { text }) => {
                if !self.is_open {
                    out::part(self.prefix);
                }
                self.is_open = true;
                self.streamed.push_str(text);
                out::part(tame(text).replace('\n', &format!("\n{}", self.prefix)));
            }
            Live::Piece(EphemeralBody::ToolOutput { text, stream, .. }) => {
                let mark = match stream {
                    OutputStream::Stdout => "│",
                    OutputStream::Stderr => "┆",
                };
                for line in tame(text).lines() {
                    self.line(self.paint.dim(format_args!("  {mark} {line}")));
                }
            }
            Live::Event(event) => self.event(&event.body),
        }
    }

    /// Closes an open line.
    pub(crate) fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            out::line("");
        }
    }

    fn line(&mut self, text: impl std::fmt::Display) {
        self.close();
        out::line(format_args!("{}{text}", self.prefix));
    }

    fn event(&mut self, body: &EventBody) {
        let paint = self.paint;
        match body {
            EventBody::MessageCompleted { message } if message.role == Author::Assistant => {
                let shown = std::mem::take(&mut self.streamed);
                self.close();
                let text = text_of(&message.content);
                if text != shown {
                    tame(&text).lines().for_each(|l| self.line(l));
                }
            }
            EventBody::ToolRequested { tool, args, .. } => self.line(call_line(paint, tool, args)),
            EventBody::ToolDenied { reason, rule, .. } => {
                let reason = short(reason, OUTPUT_CHARS);
                self.line(paint.bad(format_args!("  ✗ denied: {reason} ({rule})")));
            }
            EventBody::ToolCompleted {
                status, exit_code, output, truncated, duration_ms, ..
            } => {
                self.outcome(*status, *exit_code, output, *truncated, *duration_ms);
            }
            EventBody::ApprovalRequested { approval } => self.approval(approval),
            EventBody::ApprovalDecided { state, decision, .. } => {
                let outcome = decision
                    .outcome
                    .map_or_else(String::new, |o| format!(" ({o:?})").to_lowercase());
                self.line(paint.warn(format_args!("  {}{outcome}", state.as_str())));
            }
            EventBody::ApprovalExpired { .. } => {
                self.line(paint.warn("  nobody answered in time: denied"));
            }
            EventBody::ApprovalVoided { reason, .. } => {
                let reason = short(reason, OUTPUT_CHARS);
                self.line(paint.warn(format_args!("  the answer holds no longer: {reason}")));
            }
            EventBody::RunRecovered { from_epoch, to_epoch, paused, .. } => {
                let next = paused.map_or_else(
                    || "goes on".to_owned(),
                    |reason| format!("waits ({})", reason.as_str()),
                );
                let text =
                    format!("↻ found after a crash (epoch {from_epoch} → {to_epoch}), {next}");
                self.line(paint.warn(text));
            }
            EventBody::RunPaused { reason, detail } => {
                let detail = detail
                    .as_ref()
                    .map_or_else(String::new, |d| format!(": {}", short(d, OUTPUT_CHARS)));
                self.line(paint.warn(format_args!("‖ paused ({}){detail}", reason.as_str())));
            }
            EventBody::RunResumed { .. } => self.line(paint.dim("▸ resumed")),
            EventBody::SteerApplied { .. } => {
                self.line(paint.dim("▸ your message reached the agent"));
            }
            EventBody::SteerFailed { .. } => {
                self.line(paint.warn("▸ the run ended before your message reached it"));
            }
            EventBody::SecretBlocked { place } => {
                self.line(
                    paint.warn(format_args!("a secret was kept out of {}", short(place, 80))),
                );
            }
            EventBody::EgressDenied { attempt } => self.line(paint.bad(refused(attempt))),
            EventBody::BudgetRefused { limit, allowed, needed } => {
                self.line(paint.warn(format_args!(
                    "the run's {limit} is used up: {needed} needed, {allowed} allowed"
                )));
            }
            EventBody::CapabilityRevoked { call_id, reason, .. } => {
                self.line(paint.warn(revoked(call_id.is_some(), reason.as_deref())));
            }
            EventBody::RunSucceeded { .. } => self.line(paint.good("✓ done")),
            EventBody::RunFailed { error, .. } | EventBody::RunExpired { error, .. } => {
                let message = short(&error.message, OUTPUT_CHARS);
                self.line(paint.bad(format_args!("✗ {message} ({})", error.code)));
            }
            EventBody::RunCancelled { reason, .. } => {
                let reason =
                    reason.as_ref().map_or_else(String::new, |r| format!(": {}", short(r, 200)));
                self.line(paint.warn(format_args!("✗ cancelled{reason}")));
            }
            EventBody::RunCreated { .. }
            | EventBody::RunStarted { .. }
            | EventBody::MessageCompleted { .. }
            | EventBody::ToolStarted { .. }
            | EventBody::SteerAccepted { .. }
            | EventBody::InterruptRequested { .. }
            | EventBody::CancelRequested { .. }
            | EventBody::BundleCommitted { .. } => {}
        }
    }

    fn outcome(
        &mut self,
        status: ToolStatus,
        code: Option<i32>,
        output: &str,
        truncated: bool,
        ms: u64,
    ) {
        let paint = self.paint;
        let code = code.map_or_else(String::new, |c| format!(", exit {c}"));
        let cut = if truncated { ", cut" } else { "" };
        let head = format!("  ← {status}{code}{cut}, {ms} ms");
        self.line(if status == ToolStatus::Ok { paint.good(head) } else { paint.bad(head) });
        let text: String = tame(output).chars().take(OUTPUT_CHARS).collect();
        for line in text.lines().take(8) {
            self.line(paint.dim(format_args!("    {line}")));
        }
    }

    fn approval(&mut self, approval: &Approval) {
        for line in approval_lines(approval) {
            self.line(self.paint.warn(line));
        }
    }
}

/// That an administrator took away what the run, or one call of it, may do.
fn revoked(is_call: bool, reason: Option<&str>) -> String {
    let whose = if is_call { "this call" } else { "this run" };
    let reason = reason.map_or_else(String::new, |reason| format!(": {}", short(reason, 200)));
    format!("an administrator took away what {whose} may do{reason}")
}

/// A refused attempt to reach another machine.
fn refused(attempt: &EgressRecord) -> String {
    let (host, reason) = (short(&attempt.host, 80), short(&attempt.reason, 80));
    format!("  ✗ network: {host}:{} refused ({reason})", attempt.port)
}

fn text_of(content: &[Part]) -> String {
    let texts = content.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        Part::ToolCall { .. } | Part::ToolResult { .. } => None,
    });
    texts.collect()
}

/// A call on one line.
fn call_line(paint: Paint, tool: &str, args: &Value) -> String {
    format!("→ {} {}", paint.bold(short(tool, 40)), short(&args_text(args), OUTPUT_CHARS))
}

/// What a person must know to decide, a line each; nothing is left out of the arguments.
pub(super) fn approval_lines(approval: &Approval) -> Vec<String> {
    let mut lines = vec![format!(
        "? {} asks: {} ({} risk, {} or above decides, {})",
        approval.run_id,
        tame(&approval.tool),
        approval.risk,
        approval.required_role,
        approval.id
    )];
    match &approval.args {
        Value::Object(args) => {
            for (name, value) in args {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let text = tame(&text).replace('\n', "\n      ");
                lines.push(format!("    {}: {text}", tame(name)));
            }
        }
        other => lines.push(format!("    {}", tame(&other.to_string()))),
    }
    lines.extend(approval.reasons.iter().map(|reason| format!("    because {}", tame(reason))));
    lines
}

/// `argv` and single arguments as one would type them.
fn args_text(args: &Value) -> String {
    let Value::Object(map) = args else { return args.to_string() };
    if let Some(Value::Array(argv)) = map.get("argv") {
        let words = argv.iter().map(|w| w.as_str().map_or_else(|| w.to_string(), quoted));
        return words.collect::<Vec<_>>().join(" ");
    }
    let show = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={}", quoted(text)),
        other => format!("{name}={other}"),
    };
    map.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./=:,+@".contains(&b));
    if is_plain { text.to_owned() } else { format!("{text:?}") }
}
