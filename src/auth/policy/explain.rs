//! Why a call was decided as it was, and what would change it.

use serde::{Deserialize, Serialize};

use super::{
    Layer, Outcome, Policy, Question, RuleName, Verdict,
    decide::{Weighed, weigh},
    network::OFFLINE,
    rule::{Rule, View},
};
use crate::domain::{Risk, Role, ToolName};

/// Rules that were looked at and are about other calls: more are counted.
const OTHERS_SHOWN_MAX: usize = 32;

/// Why a call was decided as it was. Made by the very function that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The verdict in one word.
    pub verdict: Outcome,
    /// The rule that decided.
    pub rule: RuleName,
    /// Where that rule stands.
    pub layer: Layer,
    /// Why: of a denial the reason, of a question every reason on its card.
    pub reasons: Vec<String>,
    /// How risky the call is; none where it is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// Least role that may decide, where a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_role: Option<Role>,
    /// How many people must say yes, where one is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// The policy's version.
    pub policy_version: String,
    /// What was looked at, in the order of the layers.
    pub steps: Vec<Step>,
    /// Rules of the file that are not among the steps, since they are plainly about other calls.
    pub other_rules: usize,
    /// What would change the verdict, in one sentence.
    pub change: String,
}

/// A rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where it stands.
    pub layer: Layer,
    /// Its name.
    pub rule: RuleName,
    /// What it says of the call.
    pub outcome: StepOutcome,
    /// Why, in words.
    pub why: String,
    /// Whether it made the verdict.
    pub decided: bool,
}

/// What one rule says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It is about other calls.
    NotMatched,
    /// It allows.
    Allow,
    /// It asks.
    Ask,
    /// It denies.
    Deny,
}

impl StepOutcome {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotMatched => "not_matched",
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

impl From<Outcome> for StepOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Allow => Self::Allow,
            Outcome::Ask => Self::Ask,
            Outcome::Deny => Self::Deny,
        }
    }
}

/// Explains the verdict on a call.
pub fn explain(policy: &Policy, question: &Question<'_>) -> Explanation {
    let weighed = weigh(policy, question);
    let verdict = weighed.verdict();
    let (reasons, risk, required_role, quorum) = match verdict {
        Verdict::Allow { risk, .. } => (Vec::new(), Some(*risk), None, None),
        Verdict::Ask { reasons, risk, required_role, quorum, .. } => {
            (reasons.clone(), Some(*risk), Some(*required_role), Some(*quorum))
        }
        Verdict::Deny { reason, .. } => (vec![reason.clone()], None, None, None),
    };
    let (steps, rules_shown) = steps(policy, question, &weighed);
    Explanation {
        verdict: verdict.outcome(),
        rule: verdict.rule().clone(),
        layer: verdict.layer(),
        reasons,
        risk,
        required_role,
        quorum,
        policy_version: policy.version().to_owned(),
        other_rules: policy.rules_count().saturating_sub(rules_shown),
        change: change(question, &weighed),
        steps,
    }
}

/// The steps, and how many of them are rules of the file.
fn steps(policy: &Policy, question: &Question<'_>, weighed: &Weighed<'_>) -> (Vec<Step>, usize) {
    let Weighed { own, matched, pattern, .. } = weighed;
    let verdict = weighed.verdict();
    let decided =
        |layer: Layer, rule: &RuleName| verdict.layer() == layer && verdict.rule() == rule;
    let mut steps = vec![Step {
        layer: own.layer(),
        rule: own.rule().clone(),
        outcome: own.outcome().into(),
        why: first_reason(own),
        decided: decided(own.layer(), own.rule()),
    }];
    let risk = match own {
        Verdict::Allow { risk, .. } | Verdict::Ask { risk, .. } => *risk,
        // Nothing further is looked at.
        Verdict::Deny { .. } => return (steps, 0),
    };
    steps.extend(matched.iter().map(|rule| Step {
        layer: Layer::Rules,
        rule: rule.name.clone(),
        outcome: rule.effect.into(),
        why: rule.reason.clone().unwrap_or_else(|| "it is about this call".to_owned()),
        decided: decided(Layer::Rules, &rule.name),
    }));
    let view = View::of(question, risk);
    let others = policy.candidates(&view).filter_map(|rule| Some((rule, rule.mismatch(&view)?)));
    steps.extend(others.take(OTHERS_SHOWN_MAX).map(|(rule, why)| Step {
        layer: Layer::Rules,
        rule: rule.name.clone(),
        outcome: StepOutcome::NotMatched,
        why: why.to_string(),
        decided: false,
    }));
    let rules_shown = steps.len().saturating_sub(1);
    // A rule that allows has answered the first question, and another built-in rule spoke up, or gave
    // the verdict its name.
    if pattern.is_none() && !steps.iter().any(|step| step.decided) {
        steps.push(Step {
            layer: verdict.layer(),
            rule: verdict.rule().clone(),
            outcome: verdict.outcome().into(),
            why: first_reason(verdict),
            decided: true,
        });
    }
    if let Some(found) = pattern {
        let rule = RuleName::from(format!("deny.{}", found.name));
        steps.push(Step {
            layer: Layer::DenyPatterns,
            outcome: StepOutcome::Deny,
            why: found.reason.to_owned(),
            decided: decided(Layer::DenyPatterns, &rule),
            rule,
        });
    }
    (steps, rules_shown)
}

fn first_reason(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow { rule, .. } if *rule == OFFLINE => {
            "it may run, without network, since the run has read content from outside".to_owned()
        }
        Verdict::Allow { .. } => "the agent's definition allows it".to_owned(),
        Verdict::Ask { reasons, .. } => reasons.first().cloned().unwrap_or_default(),
        Verdict::Deny { reason, .. } => reason.clone(),
    }
}

/// One sentence that a person can act on.
fn change(question: &Question<'_>, weighed: &Weighed<'_>) -> String {
    let matched = &weighed.matched;
    let verdict = weighed.verdict();
    let rule = verdict.rule();
    match (verdict, verdict.layer()) {
        (Verdict::Deny { .. }, Layer::Rules) => {
            format!("remove the policy's rule `{rule}`, or narrow what it is about")
        }
        (Verdict::Deny { .. }, Layer::DenyPatterns) => {
            weighed.pattern.map_or_else(String::new, |found| {
                let name = found.name;
                if found.is_usual {
                    format!("add \"{name}\" to `disabled_deny_patterns` of the policy")
                } else {
                    format!("remove `{name}` from `custom_deny_patterns` of the policy")
                }
            })
        }
        (Verdict::Ask { .. }, _) if matched.iter().any(|r| r.effect == Outcome::Ask) => {
            let names: Vec<String> = matched
                .iter()
                .filter(|r| r.effect == Outcome::Ask)
                .map(|r: &&Rule| format!("`{}`", r.name))
                .collect();
            let own = change_of_own(question, weighed.own.rule().as_str());
            let own = match weighed.own {
                Verdict::Ask { .. } => format!("; then {own}"),
                Verdict::Allow { .. } | Verdict::Deny { .. } => String::new(),
            };
            format!("an approval lets it run once; for good, narrow {}{own}", names.join(", "))
        }
        (Verdict::Ask { .. }, _) => {
            format!("an approval lets it run; unasked: {}", change_of_own(question, rule.as_str()))
        }
        (Verdict::Deny { .. }, _) => change_of_own(question, rule.as_str()),
        (Verdict::Allow { .. }, Layer::Rules) => {
            let released = matched.iter().find(|r| r.effect == Outcome::Allow);
            let rule = released.map_or(rule, |released| &released.name);
            format!("without the policy's rule `{rule}` a person would be asked")
        }
        (Verdict::Allow { .. }, _) => format!(
            "a rule with effect = \"ask\" or \"deny\" and tools = [\"{}\"] would stop it",
            question.facts.tool
        ),
    }
}

/// What would change what the definition or a built-in rule says.
fn change_of_own(question: &Question<'_>, rule: &str) -> String {
    let Question { agent, facts, .. } = *question;
    let name = &agent.name;
    let program = || facts.argv.first().map(|p| p.chars().take(80).collect::<String>());
    match rule {
        "tool.not_allowed" => {
            format!("add \"{}\" to `tools` of [agents.{name}]", facts.tool)
        }
        "path.outside" => format!(
            "name a path below {}, or add its tree to `allowed_paths` of [agents.{name}]",
            agent.workspace.display()
        ),
        "path.read_only" => format!(
            "write below {}, or give the tree access = \"rw\" in `allowed_paths` of \
             [agents.{name}]",
            agent.workspace.display()
        ),
        "path.invalid" => "name a path of 1 to 4,096 bytes without NUL".to_owned(),
        "host.not_allowed" => match &facts.request {
            Some(request) => format!(
                "`agent-runtime egress add {}:{} --agent {name}`, or `allowed_domains` of \
                 [agents.{name}]",
                request.host.authority(),
                request.port
            ),
            None => {
                format!("leave out `network`, or add hosts to `allowed_domains` of [agents.{name}]")
            }
        },
        "host.invalid" => "name an address, such as https://example.com/".to_owned(),
        "command.invalid" => "give `argv` a program, and no NUL".to_owned(),
        "command.not_listed" => {
            let program = program().unwrap_or_default();
            format!(
                "add {program:?} to `allowed_commands` of [agents.{name}], or a rule with effect = \
                 \"allow\" and command = [[{program:?}]] to the policy"
            )
        }
        "command.env" => "leave out the environment variables".to_owned(),
        "shell.ask" => {
            "use `exec` with a program that may run unasked; a script always asks".to_owned()
        }
        "http.method" => {
            let (method, host) = facts.request.as_ref().map_or_else(
                || ("POST".to_owned(), "HOST".to_owned()),
                |request| (request.method.clone(), request.host.authority()),
            );
            format!(
                "a rule with effect = \"allow\" and hosts = [{{ host = \"{host}\", methods = \
                 [\"{method}\"] }}] in the policy"
            )
        }
        "taint.way_out" if facts.tool == ToolName::HttpRequest => {
            "ask for the bare address, without query, body or headers, at a host that is listed by \
             its full name; or start a new run that has read nothing from outside"
                .to_owned()
        }
        "taint.way_out" => {
            "leave out `network`, or start a new run that has read nothing from outside".to_owned()
        }
        _ => format!("change [agents.{name}]"),
    }
}
