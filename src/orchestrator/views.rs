//! Reading: what one scope may know of runs, events, approvals and conversations.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{
    Orchestrator,
    commands::{Done, is_visible},
    create::visible_conversation,
    error::CommandError,
    feed::{Frame, Subscription},
    narrowed::sift,
    transition::Actor,
};
use crate::{
    auth::{Control, Inspect, Permit, Read},
    domain::{
        Approval, ApprovalId, ApprovalState, AuditEntry, AuditKind, ConversationId, Event, Message,
        PrincipalId, Run, RunId, RunState, limits,
    },
    store::{Bundle, Conversation, Page, Paged, RunFilter, StoreError},
    tools::NetworkStatus,
};

use super::commands::Idempotency;

/// A page of events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventPage {
    /// The events, in order.
    pub items: Vec<Event>,
    /// Where the next page begins: the number of the last event here, or the `after` asked for.
    pub next_after: u64,
}

/// One thing that must work for the daemon to be ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Whether it works.
    pub ok: bool,
    /// What it is, or what is wrong and what to do.
    pub detail: String,
}

/// Whether the daemon can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The store reads and writes.
    pub store: Check,
    /// At least the configured models can be asked.
    pub llm: Check,
    /// Tools can be confined as demanded.
    pub sandbox: Check,
    /// Process tools have no way out but the doors.
    pub egress: Check,
    /// The daemon is locked down; none while it is not.
    pub lockdown: Option<Check>,
    /// This replica may not work; none while it may.
    pub replica: Option<Check>,
}

impl Readiness {
    /// Whether everything works.
    pub const fn is_ready(&self) -> bool {
        let works = self.store.ok && self.llm.ok && self.sandbox.ok && self.egress.ok;
        works && self.lockdown.is_none() && self.replica.is_none()
    }
}

impl Orchestrator {
    /// One run; none also when this scope may not know of it.
    pub async fn run(&self, permit: &Permit<Read>, id: RunId) -> Result<Option<Run>, StoreError> {
        let run = self.inner.store.read().await?.runs().get(id).await?;
        let scope = permit.scope();
        Ok(run.filter(|run| scope.includes_run(run.principal, &run.agent, run.conversation_id)))
    }

    /// Runs, newest first.
    pub async fn runs(
        &self,
        permit: &Permit<Read>,
        filter: RunFilter,
        page: Page,
    ) -> Result<Paged<Run>, StoreError> {
        let scope = permit.scope();
        let filter = RunFilter { principal: scope.owner(), ..filter };
        if !scope.scopes().is_partial() {
            return self.inner.store.read().await?.runs().list(&filter, &page).await;
        }
        let (scope, filter, inner) = (&scope, &filter, &self.inner);
        sift(page, |page| async move {
            let mut found = inner.store.read().await?.runs().list(filter, &page).await?;
            found
                .items
                .retain(|run| scope.includes_run(run.principal, &run.agent, run.conversation_id));
            Ok((found.items, found.next_cursor))
        })
        .await
    }

    /// Events of a run after number `after`.
    pub async fn events(
        &self,
        permit: &Permit<Read>,
        id: RunId,
        after: u64,
        limit: u32,
    ) -> Result<Option<EventPage>, StoreError> {
        let mut reader = self.inner.store.read().await?;
        let run = reader.runs().core(id).await?;
        if !run.is_some_and(|run| is_visible(&permit.scope(), &run)) {
            return Ok(None);
        }
        let items = reader.events().of_run(id, after, limit.clamp(1, limits::PAGE_MAX)).await?;
        let next_after = items.last().map_or(after, |event| event.seq);
        Ok(Some(EventPage { items, next_after }))
    }

    /// Listens to a run from the event after `after` on; none when this scope may not know of it.
    pub async fn subscribe(
        &self,
        permit: &Permit<Read>,
        id: RunId,
        after: u64,
    ) -> Result<Option<Subscription>, StoreError> {
        let run = self.inner.store.read().await?.runs().core(id).await?;
        let visible = run.filter(|run| is_visible(&permit.scope(), run));
        let feed = &self.inner.live.feed;
        // Nobody has seen an event that is not stored yet: who claims so would wait for ever.
        let listen = |seq| feed.subscribe(self.inner.store.clone(), id, after.min(seq));
        Ok(visible.map(|run| listen(run.seq)))
    }

    /// Waits until a run is terminal, paused or awaiting approval, or `longest` is over; the run
    /// as it is then.
    pub async fn wait_until_settled(
        &self,
        permit: &Permit<Read>,
        id: RunId,
        longest: Duration,
    ) -> Result<Option<Run>, StoreError> {
        let events = self.inner.live.feed.subscribe(self.inner.store.clone(), id, 0);
        let found = self.inner.store.read().await?.runs().core(id).await?;
        let Some(start) = found.filter(|run| is_visible(&permit.scope(), run)) else {
            return Ok(None);
        };
        let mut events = events.going_on_after(start.seq);
        let settled = async {
            let mut state = start.state;
            while !is_settled(state) {
                match events.next().await? {
                    Some(Frame::Event(event)) => {
                        let next = event.body.input(state).and_then(|input| state.after(input));
                        state = next.unwrap_or(state);
                    }
                    Some(Frame::Ephemeral(_) | Frame::Resync { .. }) => {}
                    None => break,
                }
            }
            Ok(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(longest, settled).await {
            return Err(error);
        }
        self.run(permit, id).await
    }

    /// The bundles of a run, oldest first; none when this scope may not know of it.
    pub async fn bundles(
        &self,
        permit: &Permit<Read>,
        id: RunId,
    ) -> Result<Option<Vec<Bundle>>, StoreError> {
        let mut reader = self.inner.store.read().await?;
        let run = reader.runs().core(id).await?;
        if !run.is_some_and(|run| is_visible(&permit.scope(), &run)) {
            return Ok(None);
        }
        Ok(Some(reader.bundles().of_run(id).await?))
    }

    /// Approvals, newest first.
    pub async fn approvals(
        &self,
        permit: &Permit<Read>,
        state: Option<ApprovalState>,
        page: Page,
    ) -> Result<Paged<Approval>, StoreError> {
        let scope = permit.scope();
        if !scope.scopes().is_partial() {
            let mut reader = self.inner.store.read().await?;
            return reader.approvals().list(state, scope.owner(), &page).await;
        }
        let (scope, inner) = (&scope, &self.inner);
        sift(page, |page| async move {
            let mut reader = inner.store.read().await?;
            let found = reader.approvals().list(state, scope.owner(), &page).await?;
            let mut kept = Vec::new();
            for approval in found.items {
                let run = reader.runs().core(approval.run_id).await?;
                if run.is_some_and(|run| is_visible(scope, &run)) {
                    kept.push(approval);
                }
            }
            Ok((kept, found.next_cursor))
        })
        .await
    }

    /// One approval; none also when this scope may not know of it.
    pub async fn approval(
        &self,
        permit: &Permit<Read>,
        id: ApprovalId,
    ) -> Result<Option<Approval>, StoreError> {
        let mut reader = self.inner.store.read().await?;
        let Some(approval) = reader.approvals().get(id).await? else { return Ok(None) };
        let run = reader.runs().core(approval.run_id).await?;
        let is_visible = run.is_some_and(|run| is_visible(&permit.scope(), &run));
        Ok(is_visible.then_some(approval))
    }

    /// Opens an empty conversation.
    pub async fn create_conversation(
        &self,
        permit: Permit<Control>,
        title: Option<String>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<ConversationView>, CommandError> {
        let mut masking = self.inner.masking();
        let title = masking.optional("title", title);
        let cx = permit.context().clone();
        let principal = cx.principal.id;
        self.inner
            .command(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let id = ConversationId::new(tx.ids());
                    let conversation =
                        Conversation { title, ..Conversation::new(id, principal, tx.now()) };
                    tx.conversations().put(&conversation).await?;
                    masking.record(tx, &Actor::from(permit.context()), None);
                    Ok(ConversationView::from(conversation))
                })
            })
            .await
    }

    /// Conversations, newest first.
    pub async fn conversations(
        &self,
        permit: &Permit<Read>,
        page: Page,
    ) -> Result<Paged<ConversationView>, StoreError> {
        let scope = permit.scope();
        let (scope, inner) = (&scope, &self.inner);
        let read = |page: Page| async move {
            let mut reader = inner.store.read().await?;
            let found = reader.conversations().list(scope.owner(), &page).await?;
            let is_in_scope = |c: &Conversation| scope.includes_conversation(c.principal, c.id);
            let items = found.items.into_iter().filter(is_in_scope).map(ConversationView::from);
            Ok((items.collect(), found.next_cursor))
        };
        sift(page, read).await
    }

    /// One conversation; none also when this scope may not know of it.
    pub async fn conversation(
        &self,
        permit: &Permit<Read>,
        id: ConversationId,
    ) -> Result<Option<ConversationView>, StoreError> {
        let found = self.inner.store.read().await?.conversations().get(id).await?;
        let is_visible = |c: &Conversation| {
            c.deleted_at.is_none() && permit.scope().includes_conversation(c.principal, c.id)
        };
        Ok(found.filter(is_visible).map(ConversationView::from))
    }

    /// Messages after number `after`, oldest first; none when this scope may not know of them.
    pub async fn messages(
        &self,
        permit: &Permit<Read>,
        id: ConversationId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<Message>>, StoreError> {
        if self.conversation(permit, id).await?.is_none() {
            return Ok(None);
        }
        let mut reader = self.inner.store.read().await?;
        let limit = limit.clamp(1, limits::PAGE_MAX);
        reader.conversations().messages(id, after, limit).await.map(Some)
    }

    /// Deletes a conversation and its messages. Its runs stay listed; the audit trail keeps that
    /// it existed.
    pub async fn delete_conversation(
        &self,
        permit: Permit<Control>,
        id: ConversationId,
    ) -> Result<(), CommandError> {
        let cx = permit.context().clone();
        self.inner
            .command(&cx, None, move |tx| {
                Box::pin(async move {
                    let mut found = visible_conversation(tx, permit.scope(), id).await?;
                    if let Some(active) = found.active_run_id {
                        return Err(CommandError::conflict(
                            "conversation.busy",
                            format!("{active} is active in this conversation; cancel it first"),
                        ));
                    }
                    tx.flush().await?;
                    found.deleted_at = Some(tx.now());
                    found.title = None;
                    tx.conversations().put(&found).await?;
                    tx.conversations().delete_messages(id).await?;
                    let actor = Actor::from(permit.context());
                    tx.audit(AuditEntry {
                        kind: AuditKind::ConversationDeleted,
                        actor: actor.id,
                        surface: actor.surface,
                        run_id: None,
                        request_id: actor.request_id,
                        data: json!({ "conversation_id": id }),
                    });
                    Ok(())
                })
            })
            .await
            .map(drop)
    }

    /// Whether everything that a run needs works now.
    pub async fn readiness(&self) -> Readiness {
        let store = self.inner.probe.ask(&self.inner.store).await;
        let llm = match self.inner.llm.ready() {
            Ok(()) => Check { ok: true, detail: "every model can be asked".to_owned() },
            Err(detail) => Check { ok: false, detail },
        };
        let status = self.inner.tools.sandbox_status();
        let detail = status.reason.unwrap_or_else(|| status.level.as_str().to_owned());
        let sandbox = Check { ok: status.usable, detail };
        let egress = check_network(self.inner.tools.network_status());
        let replica = self.inner.membership.check();
        Readiness { store, llm, sandbox, egress, lockdown: self.inner.check_lockdown(), replica }
    }

    /// How tools are confined now, as a whole.
    pub fn sandbox_report(&self, _permit: &Permit<Inspect>) -> SandboxReport {
        SandboxReport {
            status: self.inner.tools.sandbox_status(),
            sessions_free: self.inner.tools.sessions_free(),
            network: self.inner.tools.network_status().into(),
        }
    }

    /// How tools are confined now.
    pub fn sandbox_status(&self) -> crate::tools::SandboxStatus {
        self.inner.tools.sandbox_status()
    }
}

fn check_network(status: NetworkStatus) -> Check {
    match status {
        NetworkStatus::Absent => {
            Check { ok: true, detail: "no process tool reaches any machine".to_owned() }
        }
        NetworkStatus::Held => {
            Check { ok: true, detail: "every way out of a tool leads to the policy".to_owned() }
        }
        NetworkStatus::Failed { reason, is_enforced } => Check { ok: !is_enforced, detail: reason },
    }
}

/// How tools are confined now, for those who run the daemon.
#[derive(Clone, Debug)]
pub struct SandboxReport {
    /// What was measured, and whether process tools run.
    pub status: crate::tools::SandboxStatus,
    /// Places for kept sandboxes that are free.
    pub sessions_free: usize,
    /// What the check of the network at start found.
    pub network: NetworkCheck,
}

/// What the check of the network at start found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkCheck {
    /// `unchecked`, `held`, `refused` (process tools get no network) or `leaking`.
    pub status: &'static str,
    /// What was found.
    pub reason: Option<String>,
}

impl From<crate::tools::NetworkStatus> for NetworkCheck {
    fn from(status: crate::tools::NetworkStatus) -> Self {
        use crate::tools::NetworkStatus;
        match status {
            NetworkStatus::Absent => Self { status: "unchecked", reason: None },
            NetworkStatus::Held => Self { status: "held", reason: None },
            NetworkStatus::Failed { reason, is_enforced } => {
                let status = if is_enforced { "refused" } else { "leaking" };
                Self { status, reason: Some(reason) }
            }
        }
    }
}

/// A conversation as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConversationView {
    /// Id.
    pub id: ConversationId,
    /// The owner's label.
    pub title: Option<String>,
    /// Whose it is.
    pub principal: PrincipalId,
    /// Number of its last message.
    pub last_seq: u64,
    /// The run that works in it now.
    pub active_run_id: Option<RunId>,
    /// The bundle that a continuation starts from.
    pub head_bundle_id: Option<crate::domain::BundleId>,
    /// The bundle that it was forked from.
    pub forked_from: Option<crate::domain::BundleId>,
    /// When it was created.
    pub created_at: crate::domain::Timestamp,
}

impl From<Conversation> for ConversationView {
    fn from(c: Conversation) -> Self {
        Self {
            id: c.id,
            title: c.title,
            principal: c.principal,
            last_seq: c.last_seq,
            active_run_id: c.active_run_id,
            head_bundle_id: c.head_bundle_id,
            forked_from: c.forked_from,
            created_at: c.created_at,
        }
    }
}

const fn is_settled(state: RunState) -> bool {
    match state {
        RunState::Queued | RunState::Running | RunState::Cancelling => false,
        RunState::AwaitingApproval
        | RunState::Paused
        | RunState::Succeeded
        | RunState::Failed
        | RunState::Cancelled
        | RunState::Expired => true,
    }
}
