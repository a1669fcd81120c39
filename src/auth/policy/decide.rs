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
use crate::domain::{HostPolicy, HostRule, Risk, ToolName};

/// Decides one call of an agent.
pub fn decide(policy: &Policy, question: &Question<'_>) -> Verdict {
    let Weighed { own, instead, .. } = weigh(policy, question);
    instead.unwrap_or(own)
}

/// What the layers said.
#[derive(Debug)]
pub(super) struct Weighed<'p> {
    /// The definition and the built-in rules alone.
    pub(super) own: Verdict,
    /// The verdict of all together, where it is another.
    instead: Option<Verdict>,
    /// Rules of the file that are about the call, by name; none where it was denied before.
    pub(super) matched: Vec<&'p Rule>,
    /// A deny pattern, looked for only where nothing denies the call before.
    pub(super) pattern: Option<Found<'p>>,
}

impl Weighed<'_> {
    /// The verdict of all together.
    pub(super) fn verdict(&self) -> &Verdict {
        self.instead.as_ref().unwrap_or(&self.own)
    }
}

pub(super) fn weigh<'p>(policy: &'p Policy, question: &Question<'_>) -> Weighed<'p> {
    let own = builtin::judge(question, Said::default());
    let risk = match &own {
        Verdict::Allow { risk, .. } | Verdict::Ask { risk, .. } => *risk,
        Verdict::Deny { .. } => {
            return Weighed { own, instead: None, matched: Vec::new(), pattern: None };
        }
    };
    let view = View::of(question, risk);
    let matched: Vec<&Rule> =
        policy.candidates(&view).filter(|rule| rule.mismatch(&view).is_none()).collect();
    let with = |effect: Outcome| matched.iter().copied().filter(move |rule| rule.effect == effect);
    if let Some(rule) = with(Outcome::Deny).next() {
        let instead = Some(denied_by(rule));
        return Weighed { own, instead, matched, pattern: None };
    }
    if let Some(found) = policy.patterns().find(question.facts) {
        let instead = Some(denied_by_pattern(found));
        return Weighed { own, instead, matched, pattern: Some(found) };
    }
    let asking: Vec<&Rule> = with(Outcome::Ask).collect();
    let mut instead = if asking.is_empty() {
        with(Outcome::Allow).next().and_then(|rule| allowed_by(rule, &own, question))
    } else {
        let said = Said { is_asked: true, ..Said::default() };
        Some(asked(builtin::judge(question, said), &asking, question))
    };
    let closed = closed_hosts(instead.as_ref().unwrap_or(&own), policy, &view, &matched);
    if !closed.is_empty() {
        instead = Some(narrowed(instead.unwrap_or_else(|| own.clone()), closed, question));
    }
    Weighed { own, instead, matched, pattern: None }
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
    let (mut grant, own_risk, mut reasons, egress, own_quorum, named) = match own {
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
    // The card shows one destination: a redirect to another is another question.
    grant.same_host_only |= question.facts.request.is_some();
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
fn allowed_by(rule: &Rule, own: &Verdict, question: &Question<'_>) -> Option<Verdict> {
    let said = match own {
        Verdict::Ask { rule, .. } if *rule == command::NOT_LISTED => {
            Said { program: true, ..Said::default() }
        }
        Verdict::Ask { rule, .. } if *rule == network::METHOD => {
            Said { method: true, ..Said::default() }
        }
        _ => return None,
    };
    Some(match builtin::judge(question, said) {
        Verdict::Allow { mut grant, risk, rule: own_rule, .. } => {
            // The rule has seen one destination.
            grant.same_host_only |= said.method;
            // A note for the model hangs on this name. The layer says that a rule released it.
            let name = if own_rule == network::OFFLINE { own_rule } else { rule.name.clone() };
            Verdict::Allow { grant, risk, rule: name, layer: Layer::Rules }
        }
        other => other,
    })
}

/// The hosts of every rule that would deny or ask, were the call a request to them: programs and
/// redirects come to a host when nobody can be asked any more. Not those of the rules that asked
/// about this very request. None where the call reaches no host at all.
fn closed_hosts(
    verdict: &Verdict,
    policy: &Policy,
    view: &View<'_>,
    matched: &[&Rule],
) -> Vec<HostRule> {
    let reaches = match verdict {
        Verdict::Allow { grant, .. } | Verdict::Ask { grant, .. } => !grant.hosts.is_empty(),
        Verdict::Deny { .. } => false,
    };
    if !reaches {
        return Vec::new();
    }
    let is_new = |rule: &&Rule| !matched.iter().any(|m| m.name == rule.name);
    policy
        .narrowing(view)
        .filter(|rule| is_new(rule) && rule.mismatch_but_host(view).is_none())
        .flat_map(|rule| rule.about.hosts.iter().flatten().cloned())
        .collect()
}

/// Takes hosts from what the call may reach, and from what its card shows.
fn narrowed(mut verdict: Verdict, closed: Vec<HostRule>, question: &Question<'_>) -> Verdict {
    let (Verdict::Allow { grant, .. } | Verdict::Ask { grant, .. }) = &mut verdict else {
        return verdict;
    };
    let HostPolicy { allow, deny } = grant.hosts.as_ref().clone();
    let deny = deny.into_iter().chain(closed).collect();
    let hosts = Arc::new(HostPolicy { allow, deny });
    grant.hosts = Arc::clone(&hosts);
    let is_process = matches!(question.facts.tool, ToolName::Exec | ToolName::Shell);
    if let (Verdict::Ask { egress, .. }, true) = (&mut verdict, is_process) {
        *egress = network::texts(&hosts);
    }
    verdict
}
