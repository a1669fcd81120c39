//! Creating runs: the one place that inserts one, for every way a run can begin.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    Inner, Options, Orchestrator,
    commands::{Done, Idempotency, visible_run},
    error::{CommandError, check_input},
    scoped::left_by,
    transition::Actor,
    verbs,
};
use crate::{
    auth::{Admitted, Permit, Scope, StartRun},
    domain::{
        AgentDef, AuditKind, BundleId, ConversationId, Day, EventBody, InterruptMode, OnBusy,
        PrincipalId, Run, RunId, RunLimits, RunState, Surface, Usage, Usd, UserInput, limits,
    },
    store::{Conversation, Narrowed, RunCore, StoreError, Tx},
};

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The thread to go on with; a new one when none.
    pub conversation_id: Option<ConversationId>,
    /// The bundle to continue from: must be the thread's newest, and nobody else may be
    /// continuing it.
    pub bundle_id: Option<BundleId>,
    /// What is asked.
    pub input: UserInput,
    /// What to do when the thread's run is active.
    pub on_busy: OnBusy,
    /// Lower bounds than the agent's.
    pub limits: LimitsPatch,
    /// The caller's own labels.
    pub metadata: BTreeMap<String, String>,
}

/// Bounds that a caller sets; each can only lower the agent's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsPatch {
    /// Seconds of work.
    pub timeout_secs: Option<u64>,
    /// Model calls.
    pub max_steps: Option<u32>,
    /// Tool calls.
    pub max_tool_calls: Option<u32>,
    /// Tokens.
    pub max_tokens: Option<u64>,
    /// Money.
    pub max_cost_usd: Option<Usd>,
}

impl LimitsPatch {
    /// What another run was bounded by.
    pub(super) const fn of(run: RunLimits) -> Self {
        Self {
            timeout_secs: Some(run.timeout_secs),
            max_steps: Some(run.max_steps),
            max_tool_calls: Some(run.max_tool_calls),
            max_tokens: Some(run.max_tokens),
            max_cost_usd: Some(run.max_cost_usd),
        }
    }

    pub(super) fn lower(&self, agent: RunLimits) -> RunLimits {
        fn least<T: Ord>(asked: Option<T>, most: T) -> T {
            match asked {
                Some(asked) => asked.min(most),
                None => most,
            }
        }
        RunLimits {
            timeout_secs: least(self.timeout_secs, agent.timeout_secs),
            max_steps: least(self.max_steps, agent.max_steps),
            max_tool_calls: least(self.max_tool_calls, agent.max_tool_calls),
            max_tokens: least(self.max_tokens, agent.max_tokens),
            max_cost_usd: least(self.max_cost_usd, agent.max_cost_usd),
        }
    }
}

impl Orchestrator {
    /// Creates a run. With [`OnBusy::Steer`] on a busy thread the input becomes a steer and the
    /// active run is returned.
    pub async fn create(
        &self,
        permit: Permit<StartRun>,
        new: NewRun,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Run>, CommandError> {
        check(&new)?;
        let mut masking = self.inner.masking();
        let mut clean = |text: &str| masking.text("metadata", text);
        let metadata = new.metadata.iter().map(|(name, value)| (clean(name), clean(value)));
        let metadata = metadata.collect();
        let new = NewRun { input: masking.input(new.input), metadata, ..new };
        let inner = std::sync::Arc::clone(&self.inner);
        let cx = permit.context().clone();
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let actor = Actor::from(permit.context());
                    let run = create(tx, &inner, permit, new).await?;
                    masking.record(tx, &actor, Some(run.id));
                    Ok(run)
                })
            })
            .await
    }
}

fn check(new: &NewRun) -> Result<(), CommandError> {
    let invalid = |pointer, detail: String| CommandError::Invalid {
        code: "run.invalid",
        pointer: Some(pointer),
        detail,
    };
    check_input(&new.input)?;
    if new.metadata.len() > limits::METADATA_ENTRIES_MAX {
        let detail = format!("at most {} entries", limits::METADATA_ENTRIES_MAX);
        return Err(invalid("/metadata", detail));
    }
    let longest = new.metadata.iter().flat_map(|(k, v)| [k.len(), v.len()]).max().unwrap_or(0);
    if longest > limits::METADATA_BYTES_MAX {
        let detail = format!("a key or value has at most {} bytes", limits::METADATA_BYTES_MAX);
        return Err(invalid("/metadata", detail));
    }
    if new.limits.timeout_secs == Some(0) || new.limits.max_steps == Some(0) {
        return Err(invalid("/limits", "timeout_secs and max_steps are at least 1".to_owned()));
    }
    Ok(())
}

async fn create(
    tx: &mut Tx,
    inner: &Inner,
    permit: Permit<StartRun>,
    new: NewRun,
) -> Result<Run, CommandError> {
    permit.in_conversation(new.conversation_id)?;
    let admitted = inner.admit(permit.context())?;
    let mut conversation = if let Some(id) = new.conversation_id {
        visible_conversation(tx, permit.scope(), id).await?
    } else {
        // Stored together with its run.
        tx.new_conversation(permit.context().principal.id)
    };
    if let Some(bundle) = new.bundle_id {
        check_continuation(&conversation, bundle)?;
    }
    if let Some(active) = conversation.active_run_id {
        match new.on_busy {
            OnBusy::Enqueue => {}
            OnBusy::Reject => {
                return Err(CommandError::conflict(
                    "conversation.busy",
                    format!("{active} is active in this conversation; wait for it, or use on_busy"),
                ));
            }
            OnBusy::Interrupt => {
                check_active(tx, permit.scope(), active).await?;
                if verbs::interrupt_active(tx, active, permit.context()).await? {
                    conversation.active_run_id = None;
                }
            }
            OnBusy::Steer => {
                check_active(tx, permit.scope(), active).await?;
                return verbs::steer_active(tx, active, permit.context(), new.input, admitted)
                    .await;
            }
        }
    }
    let agent = &permit.action().agent;
    let draft = Draft {
        principal: permit.context().principal.id,
        surface: permit.context().surface,
        agent,
        limits: new.limits.lower(agent.limits),
        input: new.input,
        metadata: new.metadata,
        retry_of: None,
        base_bundle_id: new.bundle_id.or(conversation.head_bundle_id),
        admitted,
        narrowed: left_by(permit.context()),
        tainted: false,
    };
    let actor = Actor::from(permit.context());
    insert(tx, inner, &mut conversation, draft, &actor).await
}

/// Refuses to act upon an active run that this scope may not know of: an operator may work in
/// somebody's conversation, with rights that its owner lacks.
async fn check_active(tx: &mut Tx, scope: Scope, active: RunId) -> Result<(), CommandError> {
    match visible_run(tx, scope, active).await {
        Err(CommandError::NotFound { .. }) => Err(CommandError::conflict(
            "conversation.busy",
            "a run of somebody else is active in this conversation; wait for it",
        )),
        found => found.map(drop),
    }
}

/// Refuses a second concurrent continuation of one bundle.
fn check_continuation(c: &Conversation, bundle: BundleId) -> Result<(), CommandError> {
    if c.head_bundle_id != Some(bundle) {
        return Err(CommandError::conflict(
            "bundle.superseded",
            "another continuation of this bundle has finished; continue the conversation's newest \
             bundle, or fork",
        ));
    }
    if let Some(active) = c.active_run_id {
        return Err(CommandError::conflict(
            "bundle.busy",
            format!("{active} already continues this bundle; wait for it, or fork"),
        ));
    }
    Ok(())
}

pub(super) async fn visible_conversation(
    tx: &mut Tx,
    scope: Scope,
    id: ConversationId,
) -> Result<Conversation, CommandError> {
    tx.conversations()
        .get(id)
        .await?
        .filter(|c| c.deleted_at.is_none() && scope.includes_conversation(c.principal, c.id))
        .ok_or(CommandError::NotFound { what: "the conversation" })
}

/// Everything that differs between the ways a run can begin.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) principal: PrincipalId,
    pub(super) surface: Surface,
    pub(super) agent: &'a AgentDef,
    pub(super) limits: RunLimits,
    pub(super) input: UserInput,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) retry_of: Option<RunId>,
    pub(super) base_bundle_id: Option<BundleId>,
    /// Proof that who starts it may make agents work.
    pub(super) admitted: Admitted,
    /// What those whose words it begins with leave to it.
    pub(super) narrowed: Narrowed,
    /// Whether it begins with words of somebody else, or of a run that has read untrusted content.
    pub(super) tainted: bool,
}

/// Inserts a run with its first message, event and audit row, and gives it its place in the
/// conversation: at work if the conversation is free, otherwise behind those that wait.
pub(super) async fn insert(
    tx: &mut Tx,
    inner: &Inner,
    conversation: &mut Conversation,
    draft: Draft<'_>,
    actor: &Actor,
) -> Result<Run, CommandError> {
    inner.check_not_locked()?;
    if tx.queued() >= inner.options.queued_max {
        return Err(CommandError::QUEUE_FULL);
    }
    if tx.queued_of(draft.principal).await? >= inner.options.queued_per_principal_max {
        return Err(CommandError::OWN_QUEUE_FULL);
    }
    let (mut core, run) = rows(tx, &inner.options, conversation, &draft);
    if core.ready {
        conversation.active_run_id = Some(core.id);
    } else {
        conversation.waiting += 1;
    }
    // Its message joins the thread when it is first claimed: until then the run before it may
    // still be talking.
    let body = EventBody::RunCreated {
        agent: core.agent.clone(),
        input: draft.input.text(),
        retry_of: draft.retry_of,
    };
    tx.event(&mut core, body)?;
    tx.joined_queue(core.principal);
    let data = json!({ "to": RunState::Queued, "agent": core.agent, "retry_of": draft.retry_of });
    tx.audit(actor.entry(AuditKind::RunState, &core, data));
    inner.alerts.queue(tx.queued());
    let run = Run { seq: core.seq, ..run };
    tx.runs().insert(&core, &run);
    // A row only where it says something: most tokens are no lower than who holds them.
    let now = inner.tokens.directory().current(draft.principal).map(|principal| principal.role);
    let role = draft.narrowed.role.filter(|role| now.is_none_or(|now| *role < now));
    let narrowed = Narrowed { role, ..draft.narrowed };
    if narrowed != Narrowed::default() {
        tx.run_scopes().narrow(core.id, &narrowed).await?;
    }
    tx.conversations().put(conversation).await?;
    draft.admitted.store();
    metrics::counter!("agent_runtime_runs_created_total").increment(1);
    Ok(run)
}

fn rows(
    tx: &Tx,
    options: &Options,
    conversation: &Conversation,
    draft: &Draft<'_>,
) -> (RunCore, Run) {
    let now = tx.now();
    let core = RunCore {
        id: RunId::new(tx.ids()),
        conversation_id: conversation.id,
        agent: draft.agent.name.to_string(),
        agent_version: draft.agent.version.clone(),
        principal: draft.principal,
        surface: draft.surface,
        state: RunState::Queued,
        wait_reason: None,
        epoch: 0,
        owner: None,
        seq: 0,
        step: 0,
        ready: conversation.active_run_id.is_none(),
        recoveries: 0,
        backoffs: 0,
        interrupt: None,
        steers_waiting: 0,
        usage: Usage::default(),
        held_tokens: 0,
        held_cost: Usd::ZERO,
        held_day: Day::default(),
        limits: draft.limits,
        worked_ms: 0,
        wake_at: Some(now.plus(options.wait_max)),
        confinement: None,
        tainted: draft.tainted,
        head_bundle_id: draft.base_bundle_id,
        created_at: now,
        started_at: None,
        ended_at: None,
        ending: None,
    };
    let run = Run {
        id: core.id,
        conversation_id: core.conversation_id,
        agent: core.agent.clone(),
        state: core.state,
        wait_reason: None,
        input: draft.input.clone(),
        output: None,
        error: None,
        seq: 0,
        epoch: 0,
        usage: core.usage,
        confinement: None,
        tainted: core.tainted,
        parent_run_id: None,
        retry_of: draft.retry_of,
        principal: core.principal,
        surface: core.surface,
        metadata: draft.metadata.clone(),
        limits: core.limits,
        base_bundle_id: draft.base_bundle_id,
        created_at: now,
        started_at: None,
        ended_at: None,
    };
    (core, run)
}

/// Interrupts the active run of a busy conversation.
pub(super) const BUSY_INTERRUPT: InterruptMode = InterruptMode::Graceful;

/// The whole run as stored; it exists because the caller has just read or written it.
pub(super) async fn whole(tx: &mut Tx, id: RunId) -> Result<Run, CommandError> {
    let run = tx.runs().get(id).await?;
    run.ok_or_else(|| StoreError::Missing { what: id.to_string() }.into())
}
