//! Which machines agents may reach now: the rules of the configuration and those that
//! administrators added since, in one place.
//!
//! Invariants: what is in force is always both layers together, as they stood at one moment; an
//! older list never replaces a newer one. An agent that the configuration no longer has reaches
//! nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::Inner;
use crate::{
    domain::{AgentName, EgressRule, EgressVerdict, HostPolicy, HostRule},
    runtime::{TaskKind, tasks::lock},
    store::{Durability, StoreError},
};

/// Pause before a list that could not be read is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// What each agent's configuration allows and denies.
pub type Configured = BTreeMap<AgentName, HostPolicy>;

/// Both layers.
#[derive(Debug, Default)]
pub(super) struct Layers {
    state: Mutex<State>,
    /// Numbers the readings of the list in the order of the commits before them.
    readings: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    /// None: the agent is gone from the configuration, and the list is not for it either.
    configured: BTreeMap<AgentName, Option<HostPolicy>>,
    rules: Arc<Vec<EgressRule>>,
    reading: u64,
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<'r> {
    /// In the configuration.
    Configuration,
    /// In the list.
    List(&'r EgressRule),
}

impl Layers {
    pub(super) fn new(configured: Configured) -> Self {
        let layers = Self::default();
        lock(&layers.state).configured =
            configured.into_iter().map(|(agent, policy)| (agent, Some(policy))).collect();
        layers
    }

    /// The layers as they are, without the agents that are gone.
    pub(super) fn now(&self) -> (Configured, Arc<Vec<EgressRule>>) {
        let state = lock(&self.state);
        let with_policy = |(agent, policy): (&AgentName, &Option<HostPolicy>)| {
            policy.clone().map(|policy| (agent.clone(), policy))
        };
        (state.configured.iter().filter_map(with_policy).collect(), Arc::clone(&state.rules))
    }
}

impl Inner {
    /// Reads the list and puts it in force. Call it after every change, and at start.
    pub(super) async fn refresh_hosts(&self) -> Result<(), StoreError> {
        let readings = Arc::clone(&self.layers.readings);
        // In the writer's queue, so that the numbers follow the order of the commits.
        let (reading, rules) = self
            .store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move {
                    let rules = tx.egress_rules().all().await?;
                    Ok::<_, StoreError>((readings.fetch_add(1, Ordering::Relaxed) + 1, rules))
                })
            })
            .await?;
        let mut state = lock(&self.layers.state);
        if reading > state.reading {
            (state.reading, state.rules) = (reading, Arc::new(rules));
            self.enforce(&state);
        }
        Ok(())
    }

    /// As [`refresh_hosts`](Self::refresh_hosts); tries again by itself until the list is in force.
    pub(super) async fn put_hosts_in_force(self: &Arc<Self>) -> Result<(), StoreError> {
        let done = self.refresh_hosts().await;
        if let Err(error) = &done {
            tracing::error!(%error, "a change of the list of hosts is stored but not in force yet");
            let inner = Arc::clone(self);
            self.tasks.spawn(TaskKind::Helper, |stop| async move {
                loop {
                    // Both branches are cancel-safe.
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = stop.wait_soft() => return,
                    }
                    if inner.refresh_hosts().await.is_ok() {
                        return;
                    }
                }
            });
        }
        done
    }

    /// Puts other rules of the configuration in force; the agents whose rules differ.
    pub(super) fn reconfigure_hosts(&self, mut new: Configured) -> Vec<Change> {
        let mut state = lock(&self.layers.state);
        let mut changes = Vec::new();
        for (agent, own) in &mut state.configured {
            // A new agent needs a restart; one that is gone goes on in its runs, with nothing.
            let policy = new.remove(agent);
            if *own != policy {
                let before = std::mem::replace(own, policy.clone());
                changes.push(Change { agent: agent.clone(), before, after: policy });
            }
        }
        if !changes.is_empty() {
            self.enforce(&state);
        }
        changes
    }

    /// Under the lock, so that two changes do not pass each other.
    fn enforce(&self, state: &State) {
        let effective: Configured = state
            .configured
            .iter()
            .map(|(agent, policy)| {
                let policy = policy.as_ref().map(|own| effective(own, agent, &state.rules));
                (agent.clone(), policy.unwrap_or_default())
            })
            .collect();
        self.hosts.replace(effective.clone());
        for agent in effective.keys() {
            self.tools.set_host_policy(agent, self.hosts.effective(agent));
        }
    }
}

/// What a reload changed for one agent; none where the configuration does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) agent: AgentName,
    pub(super) before: Option<HostPolicy>,
    pub(super) after: Option<HostPolicy>,
}

fn effective(configured: &HostPolicy, agent: &AgentName, rules: &[EgressRule]) -> HostPolicy {
    let mut policy = configured.clone();
    for rule in rules.iter().filter(|rule| rule.is_for(agent)) {
        match rule.verdict {
            EgressVerdict::Allow => policy.allow.push(rule.rule.clone()),
            EgressVerdict::Deny => policy.deny.push(rule.rule.clone()),
        }
    }
    policy
}

/// Where the rule that decided stands; the configuration where both have it.
pub(super) fn source<'r>(
    configured: &HostPolicy,
    agent: &AgentName,
    rules: &'r [EgressRule],
    verdict: EgressVerdict,
    rule: &HostRule,
) -> Option<Source<'r>> {
    let own = match verdict {
        EgressVerdict::Allow => &configured.allow,
        EgressVerdict::Deny => &configured.deny,
    };
    if own.contains(rule) {
        return Some(Source::Configuration);
    }
    rules
        .iter()
        .find(|r| r.is_for(agent) && r.verdict == verdict && r.rule == *rule)
        .map(Source::List)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::authn::principal_id_of,
        domain::{EgressRuleId, IdSource, ManualClock, Timestamp},
    };

    fn rule(agent: Option<&str>, verdict: EgressVerdict, text: &str) -> EgressRule {
        let ids = IdSource::new(Arc::new(ManualClock::at_secs(1)), |b| b.fill(1));
        EgressRule {
            id: EgressRuleId::new(&ids),
            agent: agent.map(|a| a.parse().unwrap()),
            verdict,
            rule: text.parse().unwrap(),
            note: None,
            created_at: Timestamp::from_micros(0),
            created_by: principal_id_of("ann"),
        }
    }

    #[test]
    fn a_rule_counts_for_its_agent_or_for_every_one_beside_the_configuration() {
        let configured = HostPolicy { allow: vec!["a.example".parse().unwrap()], deny: Vec::new() };
        let rules = [
            rule(Some("one"), EgressVerdict::Allow, "b.example"),
            rule(None, EgressVerdict::Allow, "c.example:8443"),
            rule(None, EgressVerdict::Deny, "a.example"),
        ];
        let (one, two): (AgentName, AgentName) = ("one".parse().unwrap(), "two".parse().unwrap());
        let texts = |rules: &[HostRule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
        let of_one = effective(&configured, &one, &rules);
        assert_eq!(texts(&of_one.allow), ["a.example", "b.example", "c.example:8443"]);
        assert_eq!(texts(&of_one.deny), ["a.example"]);
        let of_two = effective(&configured, &two, &rules);
        assert_eq!(texts(&of_two.allow), ["a.example", "c.example:8443"]);
        let found = |agent, verdict, text: &str| {
            source(&configured, agent, &rules, verdict, &text.parse().unwrap())
        };
        assert_eq!(found(&one, EgressVerdict::Allow, "a.example"), Some(Source::Configuration));
        assert_eq!(found(&one, EgressVerdict::Allow, "b.example"), Some(Source::List(&rules[0])));
        assert_eq!(found(&two, EgressVerdict::Allow, "b.example"), None);
        assert_eq!(found(&two, EgressVerdict::Deny, "a.example"), Some(Source::List(&rules[2])));
    }
}
