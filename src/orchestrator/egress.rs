//! What administrators do to the list of machines that agents may reach: see, add, remove, test.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Inner, Orchestrator,
    commands::{Done, Idempotency},
    error::{CommandError, check_reason_at},
    hosts::{Configured, Source, source},
    transition::Actor,
};
use crate::{
    auth::{CallContext, ManageEgress, Permit},
    domain::{
        AgentName, AuditEntry, AuditKind, EgressRule, EgressRuleId, EgressVerdict, HostName,
        HostPolicy, HostRule, PrincipalId, Timestamp,
        host::{Destination, HostDenial, HostVerdict},
        limits,
    },
    store::{StoreError, Tx},
    tools,
};

/// A rule to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEgressRule {
    /// The agent that it is for; every agent when none.
    pub agent: Option<AgentName>,
    /// Whether it allows or denies.
    pub verdict: EgressVerdict,
    /// The hosts.
    pub rule: HostRule,
    /// Why, for the record.
    pub note: Option<String>,
}

/// Where a rule stands, or what else decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressLayer {
    /// A rule of the configuration.
    Config,
    /// A rule of the list.
    List,
    /// No rule: what nothing allows is denied.
    Default,
    /// The addresses that the name has.
    Address,
}

/// A rule as shown, wherever it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EgressRuleView {
    /// Its id, in the list.
    pub id: Option<EgressRuleId>,
    /// Where it stands.
    pub layer: EgressLayer,
    /// The agent that it is for; every agent when none.
    pub agent: Option<AgentName>,
    /// Whether it allows or denies.
    pub verdict: EgressVerdict,
    /// The hosts.
    pub rule: HostRule,
    /// Why, in the words of who added it.
    pub note: Option<String>,
    /// When it was added.
    pub created_at: Option<Timestamp>,
    /// Who added it.
    pub created_by: Option<PrincipalId>,
}

impl EgressRuleView {
    /// The rules of an agent's configuration.
    pub fn of_policy(agent: &AgentName, policy: &HostPolicy) -> Vec<Self> {
        let view = |(verdict, rule): (EgressVerdict, &HostRule)| Self {
            id: None,
            layer: EgressLayer::Config,
            agent: Some(agent.clone()),
            verdict,
            rule: rule.clone(),
            note: None,
            created_at: None,
            created_by: None,
        };
        let allow = policy.allow.iter().map(|rule| (EgressVerdict::Allow, rule));
        let deny = policy.deny.iter().map(|rule| (EgressVerdict::Deny, rule));
        allow.chain(deny).map(view).collect()
    }
}

impl From<EgressRule> for EgressRuleView {
    fn from(rule: EgressRule) -> Self {
        Self {
            id: Some(rule.id),
            layer: EgressLayer::List,
            agent: rule.agent,
            verdict: rule.verdict,
            rule: rule.rule,
            note: rule.note,
            created_at: Some(rule.created_at),
            created_by: Some(rule.created_by),
        }
    }
}

/// A connection that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressQuestion {
    /// Whose.
    pub agent: AgentName,
    /// Where to.
    pub host: HostName,
    /// The port there.
    pub port: u16,
    /// The method and path of an HTTP request that can be seen; none of a tunnel.
    pub request: Option<(String, String)>,
}

/// An address of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedAddress {
    /// The address.
    pub address: std::net::IpAddr,
    /// Why it is not dialled; none when it may be.
    pub refused: Option<String>,
}

/// What would become of a connection, why, and what would change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EgressAnswer {
    /// Whether it would be let through.
    pub verdict: EgressVerdict,
    /// The agent.
    pub agent: AgentName,
    /// The host in its canonical form.
    pub host: HostName,
    /// The port.
    pub port: u16,
    /// The code of the reason, when it would not.
    pub reason: Option<&'static str>,
    /// What decided.
    pub layer: EgressLayer,
    /// The rule that decided, if one did.
    pub rule: Option<String>,
    /// Its id, in the list.
    pub rule_id: Option<EgressRuleId>,
    /// The addresses of the host, where rules allow to look them up.
    pub addresses: Vec<CheckedAddress>,
    /// One sentence for people.
    pub detail: String,
    /// What to do for the opposite.
    pub change: String,
}

impl Orchestrator {
    /// Every rule: those of the configuration, then those of the list, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn egress_rules(
        &self,
        _permit: &Permit<ManageEgress>,
    ) -> Result<Vec<EgressRuleView>, StoreError> {
        let (configured, _) = self.inner.layers.now();
        let mut all: Vec<EgressRuleView> = configured
            .iter()
            .flat_map(|(agent, policy)| EgressRuleView::of_policy(agent, policy))
            .collect();
        let listed = self.inner.store.read().await?.egress_rules().all().await?;
        all.extend(listed.into_iter().map(EgressRuleView::from));
        Ok(all)
    }

    /// Adds a rule to the list. It is in force when this returns, also for calls under way.
    ///
    /// # Errors
    /// When the agent does not exist, the rule stands there already or the list is full.
    pub async fn add_egress_rule(
        &self,
        permit: Permit<ManageEgress>,
        new: NewEgressRule,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<EgressRuleView>, CommandError> {
        self.inner.check_agent(new.agent.as_ref())?;
        check_reason_at("/note", new.note.as_deref())?;
        let mut masking = self.inner.masking();
        let note = masking.optional("note", new.note);
        let new = NewEgressRule { note, ..new };
        let (inner, cx) = (Arc::clone(&self.inner), permit.context().clone());
        // On its own feet: who asked may go away between the commit and its taking effect.
        let work = async move {
            let work = inner.administer(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let added = add(tx, permit.context(), new).await?;
                    masking.record(tx, &Actor::from(permit.context()), None);
                    Ok(added)
                })
            });
            let done = work.await?;
            inner.put_hosts_in_force().await?;
            inner.in_force_everywhere().await?;
            Ok(done)
        };
        self.inner.detached(work).await
    }

    /// Removes a rule from the list. What only it allowed is cut when this returns.
    ///
    /// # Errors
    /// When there is no such rule.
    pub async fn remove_egress_rule(
        &self,
        permit: Permit<ManageEgress>,
        id: EgressRuleId,
    ) -> Result<(), CommandError> {
        let (inner, cx) = (Arc::clone(&self.inner), permit.context().clone());
        let work = async move {
            let work = inner.administer(&cx, None, move |tx| {
                Box::pin(async move { remove(tx, permit.context(), id).await })
            });
            work.await?;
            inner.put_hosts_in_force().await?;
            inner.in_force_everywhere().await
        };
        self.inner.detached(work).await
    }

    /// Says what would become of a connection, and why. Connects to nothing.
    ///
    /// # Errors
    /// When the agent does not exist.
    pub async fn test_egress(
        &self,
        _permit: &Permit<ManageEgress>,
        question: EgressQuestion,
    ) -> Result<EgressAnswer, CommandError> {
        self.inner.check_agent(Some(&question.agent))?;
        Ok(self.inner.explain(question).await)
    }

    /// Puts other rules of the configuration in force, also for calls under way. The list stays as
    /// it is. They are in force when this returns, so that of two reloads the later one wins; the
    /// future records what changed.
    ///
    /// # Errors
    /// When the change cannot be recorded; it is in force all the same.
    pub fn reconfigure_egress(
        &self,
        configured: Configured,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let changes = self.inner.reconfigure_hosts(configured);
        let store = self.inner.store.clone();
        async move {
            for change in changes {
                let data = json!({
                    "what": "reloaded",
                    "agent": change.agent,
                    "before": change.before,
                    "after": change.after,
                });
                store.audit(entry(Actor::system(), data)).await?;
            }
            Ok(())
        }
    }
}

async fn add(
    tx: &mut Tx,
    cx: &CallContext,
    new: NewEgressRule,
) -> Result<EgressRuleView, CommandError> {
    let NewEgressRule { agent, verdict, rule, note } = new;
    let all = tx.egress_rules().all().await?;
    let same = |r: &&EgressRule| (&r.agent, r.verdict, &r.rule) == (&agent, verdict, &rule);
    if let Some(same) = all.iter().find(same) {
        let detail = format!("the rule stands there already, as {}", same.id);
        return Err(CommandError::conflict("egress.exists", detail));
    }
    if all.len() >= limits::EGRESS_RULES_MAX {
        let detail = format!("the list holds {} rules: remove some", limits::EGRESS_RULES_MAX);
        return Err(CommandError::conflict("egress.full", detail));
    }
    let rule = EgressRule {
        id: EgressRuleId::new(tx.ids()),
        agent,
        verdict,
        rule,
        note,
        created_at: tx.now(),
        created_by: cx.principal.id,
    };
    tx.egress_rules().insert(&rule).await?;
    let data = json!({ "what": "added", "before": null, "after": rule });
    tx.audit(entry(Actor::from(cx), data));
    Ok(rule.into())
}

async fn remove(tx: &mut Tx, cx: &CallContext, id: EgressRuleId) -> Result<(), CommandError> {
    let all = tx.egress_rules().all().await?;
    let found = all.into_iter().find(|rule| rule.id == id);
    let found = found.ok_or(CommandError::NotFound { what: "the rule" })?;
    tx.egress_rules().remove(id).await?;
    let data = json!({ "what": "removed", "before": found, "after": null });
    tx.audit(entry(Actor::from(cx), data));
    Ok(())
}

fn entry(actor: Actor, data: Value) -> AuditEntry {
    AuditEntry {
        kind: AuditKind::EgressList,
        actor: actor.id,
        surface: actor.surface,
        run_id: None,
        request_id: actor.request_id,
        data,
    }
}

impl Inner {
    pub(super) fn check_agent(&self, agent: Option<&AgentName>) -> Result<(), CommandError> {
        match agent {
            Some(agent) if !self.authorizer.agents().contains_key(agent) => {
                let known: Vec<String> =
                    self.authorizer.agents().keys().map(ToString::to_string).collect();
                let detail = format!("there is no agent `{agent}`; there are {}", known.join(", "));
                Err(CommandError::Invalid {
                    code: "agent.unknown",
                    pointer: Some("/agent"),
                    detail,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn explain(&self, question: EgressQuestion) -> EgressAnswer {
        let EgressQuestion { agent, host, port, request } = question;
        let policy = self.hosts.effective(&agent);
        let destination = match &request {
            Some((method, path)) => Destination::request(&host, port, method, path),
            None => Destination::tunnel(&host, port),
        };
        let place = place(&host, port);
        let (configured, rules) = self.layers.now();
        let configured = configured.get(&agent).cloned().unwrap_or_default();
        let found = |verdict, rule: &HostRule| source(&configured, &agent, &rules, verdict, rule);
        let mut answer = EgressAnswer {
            verdict: EgressVerdict::Deny,
            agent: agent.clone(),
            host: host.clone(),
            port,
            reason: None,
            layer: EgressLayer::Default,
            rule: None,
            rule_id: None,
            addresses: Vec::new(),
            detail: String::new(),
            change: String::new(),
        };
        let rule = match policy.decide(&destination) {
            HostVerdict::Allow { rule } => rule,
            HostVerdict::Deny(denial) => {
                answer.reason = Some(denial.code());
                answer.detail = denial.to_string();
                answer.change = format!("agent-runtime egress add {place} --agent {agent}");
                match &denial {
                    HostDenial::NotListed { .. } => {}
                    HostDenial::Denied { rule } => {
                        let own = policy.deny.iter().find(|own| own.to_string() == *rule);
                        answer.decided_by(own.and_then(|own| found(EgressVerdict::Deny, own)));
                        answer.rule = Some(rule.clone());
                        answer.change = answer.rule_id.map_or_else(
                            || format!("remove `{rule}` from denied_domains of [agents.{agent}], then send SIGHUP"),
                            |id| format!("agent-runtime egress remove {id}"),
                        );
                    }
                    HostDenial::Method { rule, .. }
                    | HostDenial::Path { rule, .. }
                    | HostDenial::AmbiguousPath { rule, .. } => {
                        let own = policy.allow.iter().find(|own| own.to_string() == *rule);
                        answer.decided_by(own.and_then(|own| found(EgressVerdict::Allow, own)));
                        answer.rule = Some(rule.clone());
                    }
                }
                return answer;
            }
        };
        answer.rule = Some(rule.to_string());
        answer.decided_by(found(EgressVerdict::Allow, rule));
        let question = tools::Destination { host: host.to_string(), port, request };
        let explained = self.tools.explain(&agent, &question).await;
        answer.addresses = explained
            .addresses
            .into_iter()
            .map(|(address, refused)| CheckedAddress { address, refused })
            .collect();
        match explained.decision {
            Ok(_) => {
                answer.verdict = EgressVerdict::Allow;
                let by = answer.rule.as_deref().unwrap_or_default();
                answer.detail = format!("the rule `{by}` allows it");
                answer.change = answer.rule_id.map_or_else(
                    || format!("agent-runtime egress add {place} --deny --agent {agent}"),
                    |id| format!("agent-runtime egress remove {id}"),
                );
            }
            Err(reason) => {
                answer.layer = EgressLayer::Address;
                answer.reason = Some(reason.as_str());
                answer.detail = explained.text;
                answer.change = if answer.reason == Some(tools::ADDRESS_REFUSED) {
                    format!("agent-runtime egress add {place} --allow-private --agent {agent}")
                } else {
                    "no rule is in the way: look at the name and at the DNS of this machine"
                        .to_owned()
                };
            }
        }
        answer
    }
}

impl EgressAnswer {
    fn decided_by(&mut self, source: Option<Source<'_>>) {
        match source {
            Some(Source::Configuration) => self.layer = EgressLayer::Config,
            Some(Source::List(rule)) => {
                self.layer = EgressLayer::List;
                self.rule_id = Some(rule.id);
            }
            None => {}
        }
    }
}

/// As `egress add` takes it.
fn place(host: &HostName, port: u16) -> String {
    let host = host.authority();
    if port == crate::domain::host::DEFAULT_PORT { host } else { format!("{host}:{port}") }
}

/// What the configuration says of every agent.
pub(super) fn configured(agents: &crate::auth::authorize::Agents) -> Configured {
    let policy = |def: &crate::domain::AgentDef| -> HostPolicy { def.hosts.clone() };
    agents.iter().map(|(name, def)| (name.clone(), policy(def))).collect()
}
