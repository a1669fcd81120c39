//! Explanations and replays as a terminal shows them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Failure, Paint,
    door::read,
    out::{self, short},
};

/// Characters of a reason, a rule's words or a call.
const WORDS: usize = 300;

/// An explanation with what it is about.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    call: Option<Past>,
    then: Option<Explanation>,
    now: Explanation,
    with: Option<Explanation>,
}

#[derive(Debug, Deserialize)]
struct Past {
    call_id: String,
    run_id: String,
    agent: String,
    decisions: Vec<Decision>,
    approvals: Vec<Approval>,
}

#[derive(Debug, Deserialize)]
struct Decision {
    at: String,
    verdict: String,
    rule: String,
    layer: String,
    policy_version: String,
}

#[derive(Debug, Deserialize)]
struct Approval {
    id: String,
    state: String,
    decisions: Vec<Said>,
}

#[derive(Debug, Deserialize)]
struct Said {
    principal: String,
    decision: String,
    at: String,
    #[serde(default)]
    reason: Option<String>,
}

/// Why a call is decided so.
#[derive(Debug, PartialEq, Deserialize)]
struct Explanation {
    verdict: String,
    rule: String,
    layer: String,
    reasons: Vec<String>,
    policy_version: String,
    steps: Vec<Step>,
    change: String,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Step {
    layer: String,
    rule: String,
    outcome: String,
    why: String,
    decided: bool,
}

/// What a replay looked at.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) examined: u64,
    same: u64,
    other_rule: u64,
    pub(super) stricter: u64,
    pub(super) looser: u64,
    unreadable: u64,
}

#[derive(Debug, Deserialize)]
struct Difference {
    call_id: String,
    at: String,
    agent: String,
    tool: String,
    call: String,
    before: Judged,
    after: Judged,
}

#[derive(Debug, Deserialize)]
struct Judged {
    verdict: String,
    rule: String,
}

impl Counts {
    pub(super) const fn add(&mut self, other: &Self) {
        self.examined += other.examined;
        self.same += other.same;
        self.other_rule += other.other_rule;
        self.stricter += other.stricter;
        self.looser += other.looser;
        self.unreadable += other.unreadable;
    }
}

/// The first digits of a version, as tables show it.
pub(super) fn short_version(version: &str) -> &str {
    version.get(..12).unwrap_or(version)
}

/// Whether a difference is one of the verdict, and not only of the rule.
pub(super) fn changes_verdict(item: &Value) -> bool {
    item.pointer("/before/verdict") != item.pointer("/after/verdict")
}

pub(super) fn answer(answer: &Answer, paint: Paint) {
    if let Some(call) = &answer.call {
        out::line(format_args!(
            "{}  {}, agent {}",
            paint.bold(&call.call_id),
            call.run_id,
            call.agent
        ));
        for d in &call.decisions {
            out::line(format_args!(
                "  {}  {} by {} ({}), policy {}",
                d.at,
                coloured(&d.verdict, paint),
                short(&d.rule, WORDS),
                d.layer,
                short_version(&d.policy_version)
            ));
        }
        for a in &call.approvals {
            out::line(format_args!("  {}  {}", a.id, a.state));
            for said in &a.decisions {
                let why = said
                    .reason
                    .as_deref()
                    .map_or_else(String::new, |r| format!(": {}", short(r, WORDS)));
                out::line(format_args!(
                    "    {}  {} by {}{why}",
                    said.at, said.decision, said.principal
                ));
            }
        }
    }
    match &answer.then {
        Some(then) if *then == answer.now => explained("then and now", then, paint),
        Some(then) => {
            explained("then", then, paint);
            explained("now", &answer.now, paint);
        }
        None => explained("now", &answer.now, paint),
    }
    if let Some(with) = &answer.with {
        explained("with the other policy", with, paint);
    }
}

fn explained(when: &str, e: &Explanation, paint: Paint) {
    out::line(format_args!(
        "{when}: {} by {} ({}), policy {}",
        coloured(&e.verdict, paint),
        paint.bold(short(&e.rule, WORDS)),
        e.layer,
        short_version(&e.policy_version)
    ));
    for reason in &e.reasons {
        out::line(format_args!("  why      {}", short(reason, WORDS)));
    }
    for step in e.steps.iter().filter(|step| step.outcome != "not_matched") {
        let mark = if step.decided { "decided " } else { "says    " };
        out::line(format_args!(
            "  {mark} {} {} ({}): {}",
            coloured(&step.outcome, paint),
            short(&step.rule, WORDS),
            step.layer,
            short(&step.why, WORDS)
        ));
    }
    out::line(format_args!("  change   {}", paint.dim(short(&e.change, WORDS))));
}

fn coloured(verdict: &str, paint: Paint) -> String {
    match verdict {
        "allow" => paint.good("allow"),
        "ask" => paint.warn("ask"),
        "deny" => paint.bad("deny"),
        other => short(other, 20),
    }
}

/// Counts, then the calls that would be decided otherwise.
pub(super) fn replayed(
    version: &str,
    days: u32,
    counts: &Counts,
    items: Vec<Value>,
) -> Result<(), Failure> {
    let Counts { examined, same, other_rule, stricter, looser, unreadable } = counts;
    out::line(format_args!(
        "{examined} decisions of {days} days under policy {}: {same} the same, {other_rule} by \
         another rule, {stricter} stricter, {looser} looser",
        short_version(version)
    ));
    if *unreadable > 0 {
        out::line(format_args!("{unreadable} cannot be read by this program"));
    }
    let count = items.len();
    let row = |item: Value| {
        let d: Difference = read(item)?;
        Ok([
            d.at,
            d.call_id,
            d.agent,
            d.tool,
            format!("{} by {}", d.before.verdict, short(&d.before.rule, 40)),
            format!("{} by {}", d.after.verdict, short(&d.after.rule, 40)),
            short(&d.call, 60),
        ])
    };
    let rows = items.into_iter().map(row).collect::<Result<Vec<_>, Failure>>()?;
    if !rows.is_empty() {
        out::table(["AT", "CALL", "AGENT", "TOOL", "THEN", "WOULD BE", "WHAT"], &rows);
    }
    if u64::try_from(count).unwrap_or(u64::MAX) < stricter + looser {
        out::note(format_args!("{count} are shown: --show N shows more"));
    }
    Ok(())
}
