//! Decides what happens next in each run and makes it durable before it happens.
//!
//! Invariants: a run's state changes only through [`RunState::after`], with its event and its
//! audit row, in one transaction predicated on the run's epoch. The intent of an effect is
//! committed before the effect; an outcome is committed before the model sees it. Nothing waits in
//! memory for a person. Knows no surface, builds no response, touches no sandbox directly.
//!
//! [`RunState::after`]: crate::domain::RunState::after

mod advance;
mod alerts;
mod approvals;
pub mod audit;
pub mod backups;
mod budgets;
mod bundles;
mod calls;
mod capabilities;
mod cluster;
mod commands;
mod consent;
mod create;
mod egress;
mod ending;
mod error;
mod feed;
mod gate;
mod health;
mod hosts;
mod identities;
mod keeping;
mod live;
mod lockdown;
mod masking;
mod model;
mod narrowed;
mod patterns;
mod policy;
mod questions;
mod recovery;
mod run_task;
mod scoped;
pub mod secrets;
mod step;
mod supervisor;
mod transition;
mod usage;
mod verbs;
mod views;
mod work;

#[cfg(test)]
pub(crate) mod tests;

use std::{sync::Arc, time::Duration};

pub use alerts::{AlertKind, Alerts};
pub use approvals::NewDecision;
pub use audit::{AuditOptions, AuditPage, Exported};
pub use backups::{BackupCheck, BackupOptions};
pub use budgets::{
    BudgetConfig,
    admin::{BudgetView, NewBudget},
};
pub use capabilities::CapabilityView;
pub use cluster::{Duty, Membership, ReplicaView};
pub use commands::{Done, Idempotency};
pub use create::{LimitsPatch, NewRun};
pub use egress::{
    CheckedAddress, EgressAnswer, EgressLayer, EgressQuestion, EgressRuleView, NewEgressRule,
};
pub use error::{CommandError, StartError};
pub use feed::{Frame, Subscription};
pub use health::{HealthReport, ModelReport};
pub use hosts::Configured;
pub use identities::{
    Approved, LinkView, NewLink, NewPairing, NewPrincipal, NewToken, PairingKey, PairingMade,
    PairingView, PrincipalPatch, PrincipalSource, PrincipalView, StaleKind, StaleView, TokenMade,
    TokenView,
};
pub use keeping::{
    ErasureView, ExportPiece, ExportPlace, ExportPlaceError, KeepingOptions, NewErasure,
    RetentionReport, RetentionView,
};
pub use live::Live;
pub use lockdown::{LockdownView, Stopped};
pub use patterns::PatternPreview;
pub use policy::{
    BUILTIN, Difference, Judged, NewPolicy, PastApproval, PastCall, PastDecision, PolicyAnswer,
    PolicyChange, PolicyEntry, PolicyFault, PolicyQuestion, PolicyRefused, PolicyView, ReplayAsked,
    ReplayCounts, ReplayPage,
};
pub use secrets::{SecretOptions, SecretView};
pub use usage::{UsageItem, UsageQuestion, UsageReport, UsageTotal};
pub use verbs::{IfEnded, SteerAccepted};
pub use views::{Check, ConversationView, EventPage, NetworkCheck, Readiness, SandboxReport};

pub use crate::store::{AuditFilter, CapabilityFilter, Page, Paged, RunFilter, UsageBy};

use crate::{
    auth::{
        Authorizer, Gate, HostPolicies, Policies, TokenTable, capability::Authority, policy::Policy,
    },
    domain::{Clock, limits},
    llm::Llm,
    runtime::{Redactor, TaskKind, Tasks},
    store::Store,
    tools::Tools,
};

/// Bounds that an operator may change.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Runs that wait before new ones are refused.
    pub queued_max: u64,
    /// Of them by one principal.
    pub queued_per_principal_max: u64,
    /// Runs in progress at once.
    pub active_max: usize,
    /// How long an approval waits before it counts as denied.
    pub approval_ttl: Duration,
    /// How long a run waits for a person before it expires.
    pub wait_max: Duration,
    /// Model calls of one principal's runs in a minute; 0: no bound.
    pub model_requests_per_minute: u64,
    /// Tokens of one principal's runs in a minute; 0: no bound.
    pub model_tokens_per_minute: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queued_max: limits::QUEUED_RUNS_MAX,
            queued_per_principal_max: limits::QUEUED_RUNS_MAX / 2,
            active_max: limits::ACTIVE_RUNS_MAX,
            approval_ttl: limits::APPROVAL_TTL,
            wait_max: limits::WAIT_FOR_PERSON_MAX,
            model_requests_per_minute: 0,
            model_tokens_per_minute: 0,
        }
    }
}

/// What the orchestrator is built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where everything is kept.
    pub store: Store,
    /// Models.
    pub llm: Llm,
    /// Tools.
    pub tools: Tools,
    /// Rules and agents.
    pub authorizer: Authorizer,
    /// Signs what runs and calls may do.
    pub authority: Authority,
    /// Who may act now, and by which tokens.
    pub tokens: TokenTable,
    /// Which machines each agent may reach now.
    pub hosts: HostPolicies,
    /// The policy that decides; what is in force is put there at start and with each change.
    pub policies: Policies,
    /// The policy of the file that the configuration names, if it names one.
    pub policy_file: Option<Arc<Policy>>,
    /// Secrets to keep out of what is stored.
    pub redactor: Redactor,
    /// What those who run the daemon are told.
    pub alerts: Alerts,
    /// Who may make agents work.
    pub gate: Gate,
    /// What may be used in a day.
    pub budgets: BudgetConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Live state; its [`Live::hook`] must be the store's commit hook.
    pub live: Arc<Live>,
    /// What signs the audit trail, and where to.
    pub audit: AuditOptions,
    /// What seals stored secrets.
    pub secrets: SecretOptions,
    /// How long things are kept.
    pub keeping: KeepingOptions,
    /// How backups are made.
    pub backups: BackupOptions,
    /// Its place among the replicas.
    pub membership: Membership,
    /// Where its tasks run.
    pub tasks: Tasks,
}

/// Runs agents. Clones share it.
#[derive(Clone, Debug)]
pub struct Orchestrator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    llm: Llm,
    tools: Tools,
    authorizer: Authorizer,
    authority: Authority,
    lockdown: lockdown::Lockdown,
    tokens: TokenTable,
    access: identities::Access,
    hosts: HostPolicies,
    layers: hosts::Layers,
    policy: policy::InForce,
    redactor: Redactor,
    alerts: Alerts,
    gate: Gate,
    budgets: budgets::Budgets,
    rates: model::ModelRates,
    clock: Arc<dyn Clock>,
    live: Arc<Live>,
    tasks: Tasks,
    signer: audit::Signer,
    probe: health::Probe,
    secrets: SecretOptions,
    keeper: keeping::Keeper,
    backups: BackupOptions,
    secret_marks: secrets::SecretMarks,
    membership: Membership,
    options: Options,
}

impl Orchestrator {
    /// Recovers what the last daemon left behind, then starts to claim runs. Every tool process of
    /// an older daemon must be dead before this is called.
    ///
    /// # Errors
    /// When the store cannot be read, or no policy can be put in force: without one nothing runs.
    pub async fn start(parts: Parts, options: Options) -> Result<Self, StartError> {
        let Parts { store, llm, tools, authorizer, authority, tokens, hosts, .. } = parts;
        let Parts { policies, policy_file, redactor, clock, live, audit, secrets, tasks, .. } =
            parts;
        let Parts { alerts, gate, budgets, membership, keeping, backups, .. } = parts;
        membership.guard(tools.clone())?;
        let set = store.read().await?.budgets().all().await?;
        let layers = hosts::Layers::new(egress::configured(&authorizer.agents()));
        let inner = Arc::new(Inner {
            layers,
            store,
            llm,
            probe: health::Probe::default(),
            lockdown: lockdown::Lockdown::new(tools.clone()),
            tools,
            authorizer,
            authority,
            tokens,
            access: identities::Access::default(),
            hosts,
            policy: policy::InForce::new(policies),
            redactor,
            alerts,
            gate,
            budgets: budgets::Budgets::new(budgets, set),
            rates: model::ModelRates::new(
                options.model_requests_per_minute,
                options.model_tokens_per_minute,
            ),
            clock,
            live,
            tasks: tasks.clone(),
            signer: audit::Signer::new(audit),
            secret_marks: secrets::SecretMarks::new(secrets.opened.clone()),
            secrets,
            keeper: keeping::Keeper::new(keeping),
            backups,
            membership,
            options,
        });
        inner.take_up_policy(policy_file).await?;
        inner.refresh_hosts().await?;
        inner.load_lockdown().await?;
        inner.refresh_access().await?;
        let entered = inner.enter().await?;
        recovery::recover(&inner).await?;
        if inner.membership.is_shared() {
            let watching = Arc::clone(&inner);
            tasks.spawn(TaskKind::Cluster, |stop| cluster::keep(watching, entered, stop));
        }
        let kept = Arc::clone(&inner);
        tasks.spawn(TaskKind::Helper, |stop| identities::keep(kept, stop));
        let supervised = Arc::clone(&inner);
        tasks.spawn(TaskKind::Supervisor, |stop| supervisor::supervise(supervised, stop));
        let retained = Arc::clone(&inner);
        tasks.spawn(TaskKind::Helper, |stop| keeping::keep_retention(retained, stop));
        let erased = Arc::clone(&inner);
        tasks.spawn(TaskKind::Helper, |stop| keeping::keep_erasing(erased, stop));
        let signing = Arc::clone(&inner);
        tasks.spawn(TaskKind::Helper, |stop| signing.keep_signing(stop));
        inner.give_up_those_of_before().await;
        let backing_up = Arc::clone(&inner);
        tasks.spawn(TaskKind::Helper, |stop| backing_up.keep_backing_up(stop));
        Ok(Self { inner })
    }

    /// What must not leave, for surfaces that quote what they were sent.
    pub fn redactor(&self) -> &Redactor {
        &self.inner.redactor
    }

    /// The rules and the agents.
    pub fn authorizer(&self) -> &Authorizer {
        &self.inner.authorizer
    }
}
