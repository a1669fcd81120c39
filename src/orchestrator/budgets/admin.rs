//! Budgets as administrators see and change them. A change is in force when its answer comes, and
//! lets runs go on that waited for it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::json;

use super::super::{
    BudgetConfig, Done, Idempotency, Inner, Orchestrator, ending::pending, error::CommandError,
    transition::Actor, verbs::send_on,
};
use crate::{
    auth::{CallContext, ManageBudgets, Permit},
    domain::{
        AuditEntry, AuditKind, BudgetLimit, BudgetScope, BudgetSubject, ConversationId, Day,
        PrincipalId, RunId, RunState, Timestamp, Usd, WaitReason, limits,
    },
    runtime::TaskKind,
    store::{BudgetRow, BudgetUse, Durability, Page, Paged, RunCore, StoreError, Tx},
};

/// Runs that are let go on in one go.
const RESUMED: u32 = 256;
/// Pause before what could not be read is read again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a run goes on waiting for budgets, day after day.
const WAIT_DAYS: u32 = 7;

/// A budget, what was used of it and where its limits come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetView {
    /// What kind of subject.
    pub scope: BudgetScope,
    /// Which one; empty for everybody.
    pub subject: String,
    /// Money in a day; none: no bound.
    pub usd_per_day: Option<Usd>,
    /// Tokens in a day; none: no bound.
    pub tokens_per_day: Option<u64>,
    /// `config` or `set`.
    pub layer: &'static str,
    /// The day that the rest is about.
    pub day: Day,
    /// Spent.
    pub used_usd: Usd,
    /// Read and written.
    pub used_tokens: u64,
    /// Held for calls under way.
    pub held_usd: Usd,
    /// Held for calls under way.
    pub held_tokens: u64,
    /// When it was set.
    pub updated_at: Option<Timestamp>,
    /// By whom.
    pub updated_by: Option<PrincipalId>,
}

/// A budget as somebody sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBudget {
    /// Whose.
    pub subject: BudgetSubject,
    /// How much.
    pub limit: BudgetLimit,
}

impl Orchestrator {
    /// Budgets with a limit, or with use today, ordered by scope and subject.
    ///
    /// # Errors
    /// When the store cannot be read, or the cursor is none of ours.
    pub async fn budgets(
        &self,
        _permit: &Permit<ManageBudgets>,
        only: Option<BudgetScope>,
        page: Page,
    ) -> Result<Paged<BudgetView>, CommandError> {
        let inner = &self.inner;
        let day = Day::of(inner.clock.now());
        let after = page.cursor().map(subject_of_cursor).transpose()?;
        let wanted = usize::try_from(page.rows()).unwrap_or(usize::MAX);
        let rows = u32::try_from(wanted).unwrap_or(u32::MAX);
        let mut reader = inner.store.read().await?;
        let mut items = Vec::new();
        for scope in BudgetScope::ALL {
            if only.is_some_and(|only| only != scope) || items.len() >= wanted {
                continue;
            }
            let behind = after.as_ref().filter(|a| a.scope == scope);
            let behind = behind.map_or("", |a| a.subject.as_str());
            let used = reader.budget_uses().of_day(day, scope, behind, rows).await?;
            let mut subjects = inner.known_subjects(scope);
            subjects.extend(used.into_iter().map(|(subject, _)| subject));
            subjects.retain(|subject| after.as_ref().is_none_or(|after| subject > after));
            for subject in subjects.into_iter().take(wanted - items.len()) {
                let now = reader.budget_uses().get(&subject, day).await?;
                items.push(inner.budget_view(subject, day, now));
            }
        }
        Ok(page.cut(items, |view| format!("{} {}", view.scope, view.subject)))
    }

    /// Sets a budget, in the place of the configuration's. It is in force when this returns, and
    /// runs that waited for it go on.
    ///
    /// # Errors
    /// When there is no such subject, or too many budgets are set.
    pub async fn set_budget(
        &self,
        permit: Permit<ManageBudgets>,
        new: NewBudget,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<BudgetView>, CommandError> {
        self.inner.check_subject(&new.subject)?;
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        // On its own feet: who asked may go away between the commit and its taking effect.
        let work = async move {
            let shared = Arc::clone(&inner);
            let done = inner
                .administer(&cx, idempotency, move |tx| {
                    Box::pin(async move { set(tx, &shared, permit.context(), new).await })
                })
                .await?;
            put_budgets_in_force(&inner).await?;
            inner.in_force_everywhere().await?;
            Ok(done)
        };
        self.inner.detached(work).await
    }

    /// Puts the budgets of another configuration in force; those that administrators set stay. Runs
    /// that waited go on.
    ///
    /// # Errors
    /// When runs that wait could not be let go on; the budgets are in force all the same.
    pub async fn reconfigure_budgets(&self, new: BudgetConfig) -> Result<(), CommandError> {
        let Some(before) = self.inner.budgets.configure(new) else { return Ok(()) };
        let words = |config: &BudgetConfig| {
            json!({
                "org": config.org, "agents": config.agents, "principals": config.principals.len(),
                "each_principal": config.each_principal,
                "each_conversation": config.each_conversation,
            })
        };
        let after = self.inner.budgets.config();
        let Actor { id, surface, request_id } = Actor::system();
        let data = json!({
            "what": "reloaded", "before": words(&before), "after": words(&after),
        });
        let kind = AuditKind::Budget;
        let entry = AuditEntry { kind, actor: id, surface, run_id: None, request_id, data };
        self.inner.store.audit(entry).await?;
        put_budgets_in_force(&self.inner).await
    }

    /// Removes a budget that was set: what the configuration says is in force again.
    ///
    /// # Errors
    /// When none was set.
    pub async fn clear_budget(
        &self,
        permit: Permit<ManageBudgets>,
        subject: BudgetSubject,
    ) -> Result<(), CommandError> {
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        let work = async move {
            let shared = Arc::clone(&inner);
            inner
                .administer(&cx, None, move |tx| {
                    Box::pin(async move { clear(tx, &shared, permit.context(), subject).await })
                })
                .await?;
            put_budgets_in_force(&inner).await?;
            inner.in_force_everywhere().await
        };
        self.inner.detached(work).await
    }
}

/// Reads what is set and puts it in force.
async fn refresh(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let (reading, set) = inner.budgets.read(&inner.store).await?;
    inner.budgets.replace(reading, set);
    Ok(())
}

/// As [`refresh`], and lets runs go on that waited; tries again by itself until it is in force.
async fn put_budgets_in_force(inner: &Arc<Inner>) -> Result<(), CommandError> {
    if let Err(error) = refresh(inner).await {
        tracing::error!(%error, "a change of budgets is stored but not in force yet");
        let again = Arc::clone(inner);
        inner.tasks.spawn(TaskKind::Helper, |stop| async move {
            loop {
                // Both branches are cancel-safe.
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = stop.wait_soft() => return,
                }
                if refresh(&again).await.is_ok() {
                    return;
                }
            }
        });
        return Err(error.into());
    }
    let mut after = None;
    loop {
        let mut reader = inner.store.read().await?;
        let waiting = reader.runs().out_of_budget(after, RESUMED).await?;
        drop(reader);
        let Some(last) = waiting.last().copied() else { return Ok(()) };
        after = Some(last);
        for id in waiting {
            let_go_on(inner, id).await?;
        }
    }
}

async fn set(
    tx: &mut Tx,
    inner: &Inner,
    cx: &CallContext,
    new: NewBudget,
) -> Result<BudgetView, CommandError> {
    let NewBudget { subject, limit } = new;
    let all = tx.budgets().all().await?;
    let before = all.iter().find(|row| row.subject == subject);
    if before.is_none() && all.len() >= limits::BUDGETS_MAX {
        let detail = format!("{} budgets are set: clear some", limits::BUDGETS_MAX);
        return Err(CommandError::conflict("budget.full", detail));
    }
    let before = before.map_or_else(|| inner.budgets.limit(&subject), |row| row.limit);
    let row = BudgetRow { subject, limit, updated_at: tx.now(), updated_by: cx.principal.id };
    tx.budgets().put(&row).await?;
    let day = Day::of(tx.now());
    let mut now = BudgetUse::default();
    if let Some(counted) = tx.budget_use(&row.subject, day).await? {
        // Under another limit the end may come near again, and is said again.
        now = BudgetUse { warned: 0, ..counted };
        tx.set_budget_use(&row.subject, day, now);
    }
    tx.audit(entry(cx, "set", &row.subject, before, Some(limit)));
    Ok(view(&row.subject.clone(), Some(&row), limit, day, now))
}

async fn clear(
    tx: &mut Tx,
    inner: &Inner,
    cx: &CallContext,
    subject: BudgetSubject,
) -> Result<(), CommandError> {
    let before = inner.budgets.limit(&subject);
    if !tx.budgets().remove(&subject).await? {
        return Err(CommandError::NotFound { what: "the budget" });
    }
    tx.audit(entry(cx, "cleared", &subject, before, None));
    Ok(())
}

fn entry(
    cx: &CallContext,
    what: &str,
    subject: &BudgetSubject,
    before: BudgetLimit,
    after: Option<BudgetLimit>,
) -> AuditEntry {
    let actor = Actor::from(cx);
    AuditEntry {
        kind: AuditKind::Budget,
        actor: actor.id,
        surface: actor.surface,
        run_id: None,
        request_id: actor.request_id,
        data: json!({
            "what": what, "scope": subject.scope, "subject": subject.subject,
            "before": before, "after": after,
        }),
    }
}

/// Whether a run waits for the budget of a day, and has not done so for too long.
pub(in super::super) async fn waits_for_the_day(
    tx: &mut Tx,
    run: &RunCore,
) -> Result<bool, StoreError> {
    if run.state != RunState::Paused || run.wait_reason != Some(WaitReason::Budget) {
        return Ok(false);
    }
    let is_fresh = Day::of(tx.now()).before(WAIT_DAYS) < Day::of(run.created_at);
    // Where somebody was asked, the answer decides.
    Ok(is_fresh && pending(tx, run.id).await?.is_empty())
}

/// Puts a run that waits for the budget of a day back into the queue: it looks again.
async fn let_go_on(inner: &Arc<Inner>, id: RunId) -> Result<(), CommandError> {
    let shared = Arc::clone(inner);
    inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let Some(mut run) = tx.runs().core(id).await? else { return Ok(()) };
                if waits_for_the_day(tx, &run).await? {
                    send_on(tx, &shared, &mut run, &Actor::system()).await?;
                    let epoch = run.epoch;
                    tx.runs().save(&run, epoch).await?;
                }
                Ok::<(), CommandError>(())
            })
        })
        .await
}

impl Inner {
    /// Those of a scope that exist or have a limit.
    fn known_subjects(&self, scope: BudgetScope) -> BTreeSet<BudgetSubject> {
        let set = self.budgets.set();
        let mut known: BTreeSet<BudgetSubject> =
            set.keys().filter(|s| s.scope == scope).cloned().collect();
        match scope {
            BudgetScope::Org => drop(known.insert(BudgetSubject::ORG)),
            BudgetScope::Agent => known
                .extend(self.authorizer.agents().keys().map(|name| BudgetSubject::of(scope, name))),
            BudgetScope::Principal => known.extend(
                self.budgets.config().principals.keys().map(|id| BudgetSubject::of(scope, id)),
            ),
            BudgetScope::Conversation => {}
        }
        known
    }

    fn budget_view(&self, subject: BudgetSubject, day: Day, now: BudgetUse) -> BudgetView {
        let set = self.budgets.set();
        view(&subject, set.get(&subject), self.budgets.limit(&subject), day, now)
    }

    /// Refuses a subject that cannot be: a limit on it would bound nothing.
    fn check_subject(&self, subject: &BudgetSubject) -> Result<(), CommandError> {
        let text = subject.subject.as_str();
        let wrong = match subject.scope {
            BudgetScope::Org if text.is_empty() => return Ok(()),
            BudgetScope::Org => "the budget of everybody has no subject".to_owned(),
            BudgetScope::Agent => {
                let agents = self.authorizer.agents();
                if agents.keys().any(|name| name.as_str() == text) {
                    return Ok(());
                }
                let known: Vec<String> = agents.keys().map(ToString::to_string).collect();
                format!("there is no agent `{text}`; there are {}", known.join(", "))
            }
            BudgetScope::Principal if text.parse::<PrincipalId>().is_ok() => return Ok(()),
            BudgetScope::Principal => "name the principal by its id, prn_…".to_owned(),
            BudgetScope::Conversation if text.parse::<ConversationId>().is_ok() => return Ok(()),
            BudgetScope::Conversation => "name the conversation by its id, conv_…".to_owned(),
        };
        Err(CommandError::Invalid {
            code: "budget.subject",
            pointer: Some("/subject"),
            detail: wrong,
        })
    }
}

fn view(
    subject: &BudgetSubject,
    row: Option<&BudgetRow>,
    limit: BudgetLimit,
    day: Day,
    now: BudgetUse,
) -> BudgetView {
    BudgetView {
        scope: subject.scope,
        subject: subject.subject.clone(),
        usd_per_day: limit.usd_per_day,
        tokens_per_day: limit.tokens_per_day,
        layer: if row.is_some() { "set" } else { "config" },
        day,
        used_usd: now.used,
        used_tokens: now.used_tokens,
        held_usd: now.held,
        held_tokens: now.held_tokens,
        updated_at: row.map(|row| row.updated_at),
        updated_by: row.map(|row| row.updated_by),
    }
}

fn subject_of_cursor(cursor: &str) -> Result<BudgetSubject, CommandError> {
    let read = || {
        let (scope, subject) = cursor.split_once(' ')?;
        Some(BudgetSubject { scope: scope.parse().ok()?, subject: subject.to_owned() })
    };
    read().ok_or_else(|| CommandError::Invalid {
        code: "request.invalid",
        pointer: Some("/cursor"),
        detail: "not a cursor of this list".to_owned(),
    })
}
