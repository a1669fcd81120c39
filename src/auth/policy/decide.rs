//! The order of the layers, and how what they say becomes one verdict.
//!
//! 1. The agent's definition and the built-in rules. What they deny is denied.
//! 2. Rules of the file that deny, then deny patterns.
//! 3. Questions, of the built-in rules and of the file, become one.
//! 4. A rule that allows answers the two built-in questions it can answer.

use std::sync::Arc;

use super::{
    Policy, Question,
    builtin::{self, Said, TAINTED},
    command, network,
    patterns::Found,
    rule::{Rule, View},
    verdict::{Layer, Outcome, Verdict},
};
use crate::domain::{Grant, HostPolicy, HostRule, Risk, ToolName};

/// Decides one call of an agent.
pub fn decide(policy: &Policy, question: &Question<'_>) -> Verdict {
    weigh(policy, question).verdict
}

/// What the layers said.
#[derive(Debug)]
pub(super) struct Weighed<'p> {
    /// All together.
    pub(super) verdict: Verdict,
    /// The definition and the built-in rules alone.
    pub(super) own: Verdict,
    /// Rules of the file that are about the call, by name; none where it was denied before.
    pub(super) matched: Vec<&'p Rule>,
    /// A deny pattern, looked for only where nothing denies the call before.
    pub(super) pattern: Option<Found<'p>>,
}

pub(super) fn weigh<'p>(policy: &'p Policy, question: &Question<'_>) -> Weighed<'p> {
    let own = builtin::judge(question, Said::default());
    let risk = match &own {
        Verdict::Allow { risk, .. } | Verdict::Ask { risk, .. } => *risk,
        Verdict::Deny { .. } => {
            return Weighed { verdict: own.clone(), own, matched: Vec::new(), pattern: None };
        }
    };
    let view = View::of(question, risk);
    let matched: Vec<&Rule> =
        policy.candidates(&view).filter(|rule| rule.mismatch(&view).is_none()).collect();
    let with = |effect: Outcome| matched.iter().copied().filter(move |rule| rule.effect == effect);
    if let Some(rule) = with(Outcome::Deny).next() {
        let verdict = denied_by(rule);
        return Weighed { verdict, own, matched, pattern: None };
    }
    if let Some(found) = policy.patterns().find(question.facts) {
        let verdict = denied_by_pattern(found);
        return Weighed { verdict, own, matched, pattern: Some(found) };
    }
    let asking: Vec<&Rule> = with(Outcome::Ask).collect();
    let verdict = if !asking.is_empty() {
        let said = Said { is_asked: true, ..Said::default() };
        asked(builtin::judge(question, said), &asking, question)
    } else if let Some(rule) = with(Outcome::Allow).next() {
        allowed_by(rule, &own, question)
    } else {
        own.clone()
    };
    let verdict = narrowed(verdict, policy, &view, &matched);
    Weighed { verdict, own, matched, pattern: None }
}

fn denied_by(rule: &Rule) -> Verdict {
    let default = || format!("the policy's rule `{}` forbids it", rule.name);
    Verdict::Deny {
        reason: rule.reason.clone().unwrap_or_else(default),
        rule: rule.name.clone(),
        layer: Layer::Rules,
    }
}

fn denied_by_pattern(found: Found<'_>) -> Verdict {
    Verdict::Deny {
        reason: found.reason.to_owned(),
        rule: format!("deny.{}", found.name).into(),
        layer: Layer::DenyPatterns,
    }
}

/// One question out of what is built in and of every rule that asks: the highest risk, role and
/// number of people, all reasons.
fn asked(own: Verdict, asking: &[&Rule], question: &Question<'_>) -> Verdict {
    let reasons_of_rules = asking.iter().map(|rule| {
        let default = || format!("the policy's rule `{}` wants a person to agree", rule.name);
        rule.reason.clone().unwrap_or_else(default)
    });
    let least_risk = asking.iter().filter_map(|rule| rule.set_risk).max().unwrap_or(Risk::Low);
    let least_quorum = asking.iter().filter_map(|rule| rule.quorum).max().unwrap_or(1);
    let (grant, own_risk, mut reasons, egress, own_quorum, named) = match own {
        Verdict::Ask { grant, risk, reasons, egress, quorum, rule, layer, .. } => {
            (grant, risk, reasons, egress, quorum, Some((rule, layer)))
        }
        Verdict::Allow { grant, risk, .. } => {
            let egress = match &question.facts.request {
                Some(request) => network::destination(request),
                None => network::texts(&grant.hosts),
            };
            let reasons = question.tainted.then(|| TAINTED.to_owned()).into_iter().collect();
            (grant, risk, reasons, egress, 1, None)
        }
        denied @ Verdict::Deny { .. } => return denied,
    };
    reasons.extend(reasons_of_rules);
    let risk = own_risk.max(least_risk);
    let wanted = asking.iter().filter_map(|rule| rule.require_role).max();
    let required_role = builtin::required_role(risk);
    let by_file = || asking.first().map(|rule| (rule.name.clone(), Layer::Rules));
    let (rule, layer) =
        named.or_else(by_file).unwrap_or_else(|| ("rules.ask".into(), Layer::Rules));
    Verdict::Ask {
        grant,
        risk,
        reasons,
        egress,
        required_role: wanted.map_or(required_role, |wanted| wanted.max(required_role)),
        quorum: own_quorum.max(least_quorum),
        rule,
        layer,
    }
}

/// What becomes of a built-in question that a rule answers. Only two can be answered: a program
/// that is not on the agent's list, and a method that changes something. Whatever else asks (a
/// script, variables, untrusted content) still does.
fn allowed_by(rule: &Rule, own: &Verdict, question: &Question<'_>) -> Verdict {
    let said = match own {
        Verdict::Ask { rule, .. } if *rule == command::NOT_LISTED => {
            Said { program: true, ..Said::default() }
        }
        Verdict::Ask { rule, .. } if *rule == network::METHOD => {
            Said { method: true, ..Said::default() }
        }
        _ => return own.clone(),
    };
    match builtin::judge(question, said) {
        Verdict::Allow { mut grant, risk, rule: own_rule, layer } => {
            // The rule has seen one destination.
            grant.same_host_only |= said.method;
            // A note for the model hangs on this name.
            if own_rule == network::OFFLINE {
                return Verdict::Allow { grant, risk, rule: own_rule, layer };
            }
            Verdict::Allow { grant, risk, rule: rule.name.clone(), layer: Layer::Rules }
        }
        other => other,
    }
}

/// Takes from what the call may reach the hosts of every rule that would deny or ask, were it a
/// request: programs and redirects come to a host when nobody can be asked any more. Those of the
/// rules that asked about this very request stay.
fn narrowed(verdict: Verdict, policy: &Policy, view: &View<'_>, matched: &[&Rule]) -> Verdict {
    let narrow = |grant: &mut Grant| {
        if grant.hosts.is_empty() {
            return false;
        }
        let is_new = |rule: &&Rule| !matched.iter().any(|m| m.name == rule.name);
        let hosts: Vec<HostRule> = policy
            .narrowing(view)
            .filter(|rule| is_new(rule) && rule.mismatch_but_host(view).is_none())
            .flat_map(|rule| rule.about.hosts.iter().flatten().cloned())
            .collect();
        if hosts.is_empty() {
            return false;
        }
        let HostPolicy { allow, deny } = grant.hosts.as_ref().clone();
        let deny = deny.into_iter().chain(hosts).collect();
        grant.hosts = Arc::new(HostPolicy { allow, deny });
        true
    };
    match verdict {
        Verdict::Allow { mut grant, risk, rule, layer } => {
            narrow(&mut grant);
            Verdict::Allow { grant, risk, rule, layer }
        }
        Verdict::Ask {
            mut grant,
            risk,
            reasons,
            mut egress,
            required_role,
            quorum,
            rule,
            layer,
        } => {
            let is_process = matches!(view.question.facts.tool, ToolName::Exec | ToolName::Shell);
            if narrow(&mut grant) && is_process {
                egress = network::texts(&grant.hosts);
            }
            Verdict::Ask { grant, risk, reasons, egress, required_role, quorum, rule, layer }
        }
        Verdict::Deny { .. } => verdict,
    }
}
