//! What may be used in a day: by everybody, an agent, an identity, a conversation. Held before each
//! model call on every level in the transaction that stores its intent, settled after it.
//!
//! Invariants: `used + held` fits the limit of every level when a call begins; what a crash left
//! held is charged. A level's day has a row from its first call on, and only days with a row are
//! counted: a conversation gets one when it is first bounded, filled with what its runs used.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::json;

use super::{Inner, alerts::AlertKind};
use crate::{
    domain::{BudgetLimit, BudgetScope, BudgetSubject, Day, PrincipalId, Usd},
    runtime::tasks::lock,
    store::{BudgetRow, BudgetUse, Durability, RunCore, Store, StoreError, Tx},
};

pub(super) mod admin;

/// Said once: the end is near.
const NEAR: u32 = 1;
/// Said once: a call was refused.
const OVER: u32 = 2;

/// What configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Everybody together.
    pub org: BudgetLimit,
    /// Agents by name.
    pub agents: BTreeMap<String, BudgetLimit>,
    /// Principals that have one of their own.
    pub principals: BTreeMap<PrincipalId, BudgetLimit>,
    /// Every other principal.
    pub each_principal: BudgetLimit,
    /// Every conversation.
    pub each_conversation: BudgetLimit,
}

impl BudgetConfig {
    fn of(&self, subject: &BudgetSubject) -> BudgetLimit {
        match subject.scope {
            BudgetScope::Org => self.org,
            BudgetScope::Agent => self.agents.get(&subject.subject).copied().unwrap_or_default(),
            BudgetScope::Principal => {
                let own = subject.subject.parse().ok().and_then(|id| self.principals.get(&id));
                own.copied().unwrap_or(self.each_principal)
            }
            BudgetScope::Conversation => self.each_conversation,
        }
    }
}

/// The limits in force: what was set while the daemon ran stands before the configuration.
#[derive(Debug)]
pub(super) struct Budgets {
    config: RwLock<Arc<BudgetConfig>>,
    set: RwLock<Arc<BTreeMap<BudgetSubject, BudgetRow>>>,
    /// Numbers the readings in the order of the commits before them.
    readings: Arc<AtomicU64>,
    /// The reading that is in force.
    applied: Mutex<u64>,
}

impl Budgets {
    pub(super) fn new(config: BudgetConfig, set: Vec<BudgetRow>) -> Self {
        let set = set.into_iter().map(|row| (row.subject.clone(), row)).collect();
        let (readings, applied) = (Arc::default(), Mutex::default());
        let (config, set) = (RwLock::new(Arc::new(config)), RwLock::new(Arc::new(set)));
        Self { config, set, readings, applied }
    }

    fn config(&self) -> Arc<BudgetConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts what another configuration says in force; what it said before, where it differs.
    fn configure(&self, new: BudgetConfig) -> Option<Arc<BudgetConfig>> {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        if **config == new {
            return None;
        }
        Some(std::mem::replace(&mut *config, Arc::new(new)))
    }

    fn set(&self) -> Arc<BTreeMap<BudgetSubject, BudgetRow>> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is set, with the number of this reading.
    pub(super) async fn read(&self, store: &Store) -> Result<(u64, Vec<BudgetRow>), StoreError> {
        let readings = Arc::clone(&self.readings);
        // In the writer's queue, so that the numbers follow the order of the commits.
        store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move {
                    let set = tx.budgets().all().await?;
                    Ok::<_, StoreError>((readings.fetch_add(1, Ordering::Relaxed) + 1, set))
                })
            })
            .await
    }

    /// Puts a reading in force, unless a newer one is: of two changes the later one counts, in
    /// whatever order they come here.
    pub(super) fn replace(&self, reading: u64, set: Vec<BudgetRow>) {
        let mut applied = lock(&self.applied);
        if reading <= *applied {
            return;
        }
        *applied = reading;
        let set = set.into_iter().map(|row| (row.subject.clone(), row)).collect();
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }

    pub(super) fn limit(&self, subject: &BudgetSubject) -> BudgetLimit {
        self.set().get(subject).map_or_else(|| self.config().of(subject), |row| row.limit)
    }
}

/// One level that a call must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    subject: BudgetSubject,
    limit: BudgetLimit,
    now: BudgetUse,
}

/// What a call may need at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) tokens: u64,
    pub(super) cost: Usd,
}

/// Why a call does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It will, or may, once the calls under way have settled.
    HeldByOthers,
    /// The day's budget is used up.
    Exhausted(Exhausted),
}

/// A budget that does not cover another call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    pub(super) subject: BudgetSubject,
    /// `usd_per_day` or `tokens_per_day`.
    pub(super) what: &'static str,
    pub(super) allowed: String,
    pub(super) used: String,
    pub(super) needed: String,
}

impl Exhausted {
    /// What happened and what to do, for the one who waits.
    pub(super) fn detail(&self, day: Day) -> String {
        let Self { subject, what, allowed, used, needed } = self;
        let option = what.replace('_', "-");
        format!(
            "today's budget of {subject} does not cover another model call ({what} is {allowed}, \
             {used} is used, the call may need {needed}); an administrator can raise it \
             (`agent-runtime budget set {subject} --{option} …`), or it goes on by itself at \
             {}T00:00Z",
            day.next()
        )
    }
}

impl Level {
    /// Tokens that are left when calls under way use all that they hold.
    fn tokens_left(&self) -> Option<u64> {
        let limit = self.limit.tokens_per_day?;
        Some(limit.saturating_sub(self.now.used_tokens.saturating_add(self.now.held_tokens)))
    }

    /// Tokens that were left if nothing were held.
    fn tokens_unused(&self) -> Option<u64> {
        Some(self.limit.tokens_per_day?.saturating_sub(self.now.used_tokens))
    }

    fn fits_money(&self, cost: Usd) -> Result<(), Unfit> {
        let Some(limit) = self.limit.usd_per_day else { return Ok(()) };
        let without_holds = self.now.used.plus(cost);
        if without_holds.plus(self.now.held) <= limit {
            return Ok(());
        }
        if without_holds <= limit {
            return Err(Unfit::HeldByOthers);
        }
        Err(Unfit::Exhausted(Exhausted {
            subject: self.subject.clone(),
            what: "usd_per_day",
            allowed: limit.to_string(),
            used: self.now.used.to_string(),
            needed: cost.to_string(),
        }))
    }
}

/// The output tokens that a call may have on every level: as many as wanted, fewer at the end of
/// a budget. Pure.
pub(super) fn output_that_fits(
    levels: &[Level],
    input: u64,
    wanted: u64,
    least: u64,
) -> Result<u64, Unfit> {
    let mut output = wanted;
    for level in levels {
        let (Some(left), Some(unused)) = (level.tokens_left(), level.tokens_unused()) else {
            continue;
        };
        let (left, unused) = (left.saturating_sub(input), unused.saturating_sub(input));
        if left >= wanted {
            continue;
        }
        if unused >= wanted || (unused >= least && left < least) {
            return Err(Unfit::HeldByOthers);
        }
        if left < least {
            return Err(Unfit::Exhausted(Exhausted {
                subject: level.subject.clone(),
                what: "tokens_per_day",
                allowed: level.limit.tokens_per_day.unwrap_or_default().to_string(),
                used: level.now.used_tokens.to_string(),
                needed: input.saturating_add(wanted).to_string(),
            }));
        }
        output = output.min(left);
    }
    Ok(output)
}

/// Whether the money is there on every level. Pure.
pub(super) fn money_fits(levels: &[Level], cost: Usd) -> Result<(), Unfit> {
    levels.iter().try_for_each(|level| level.fits_money(cost))
}

/// The levels of a run, widest first, as they stand on a day.
pub(super) async fn levels(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    day: Day,
) -> Result<Vec<Level>, StoreError> {
    let mut levels = Vec::with_capacity(BudgetScope::ALL.len());
    for subject in subjects(run) {
        let limit = inner.budgets.limit(&subject);
        let is_conversation = subject.scope == BudgetScope::Conversation;
        let now = match tx.budget_use(&subject, day).await? {
            Some(now) => now,
            // Not counted while nobody asks for it: there are many conversations.
            None if is_conversation && limit.is_none() => continue,
            None if is_conversation => {
                let others = tx.runs().used_in(run.conversation_id, day, run.id).await?;
                with_own(others, run, day)
            }
            None => BudgetUse::default(),
        };
        levels.push(Level { subject, limit, now });
    }
    Ok(levels)
}

/// Adds what this run has used since the day began and holds on it: its row may lag behind.
fn with_own(mut others: BudgetUse, run: &RunCore, day: Day) -> BudgetUse {
    if run.started_at.is_some_and(|at| at >= day.start()) {
        others.used = others.used.plus(run.usage.cost_usd);
        others.used_tokens = others.used_tokens.saturating_add(run.usage.tokens());
    }
    if run.held_day == day {
        others.held = others.held.plus(run.held_cost);
        others.held_tokens = others.held_tokens.saturating_add(run.held_tokens);
    }
    others
}

fn subjects(run: &RunCore) -> [BudgetSubject; 4] {
    [
        BudgetSubject::ORG,
        BudgetSubject::of(BudgetScope::Agent, &run.agent),
        BudgetSubject::of(BudgetScope::Principal, run.principal),
        BudgetSubject::of(BudgetScope::Conversation, run.conversation_id),
    ]
}

/// Holds the most that a call may use, on every level. It was found to fit.
pub(super) fn hold(tx: &mut Tx, levels: Vec<Level>, day: Day, hold: Hold) {
    for Level { subject, mut now, .. } in levels {
        now.held = now.held.plus(hold.cost);
        now.held_tokens = now.held_tokens.saturating_add(hold.tokens);
        tx.set_budget_use(&subject, day, now);
    }
}

/// Ends a hold: what was used counts, on the day that held it.
pub(super) async fn settle(
    tx: &mut Tx,
    inner: &Inner,
    run: &RunCore,
    used: Hold,
) -> Result<(), StoreError> {
    let day = run.held_day;
    for subject in subjects(run) {
        let Some(mut now) = tx.budget_use(&subject, day).await? else { continue };
        now.held = now.held.minus(run.held_cost);
        now.held_tokens = now.held_tokens.saturating_sub(run.held_tokens);
        now.used = now.used.plus(used.cost);
        now.used_tokens = now.used_tokens.saturating_add(used.tokens);
        let limit = inner.budgets.limit(&subject);
        if now.warned < NEAR && is_near(limit, now) {
            now.warned = NEAR;
            say(tx, inner, AlertKind::Budget80, &subject, limit, now);
        }
        tx.set_budget_use(&subject, day, now);
    }
    Ok(())
}

/// Says that a budget refused a call, once a day.
pub(super) async fn refused(
    tx: &mut Tx,
    inner: &Inner,
    subject: &BudgetSubject,
    day: Day,
) -> Result<(), StoreError> {
    let mut now = tx.budget_use(subject, day).await?.unwrap_or_default();
    if now.warned >= OVER {
        return Ok(());
    }
    now.warned = OVER;
    say(tx, inner, AlertKind::BudgetExhausted, subject, inner.budgets.limit(subject), now);
    tx.set_budget_use(subject, day, now);
    Ok(())
}

fn say(
    tx: &mut Tx,
    inner: &Inner,
    kind: AlertKind,
    subject: &BudgetSubject,
    limit: BudgetLimit,
    now: BudgetUse,
) {
    let data = json!({
        "usd_per_day": limit.usd_per_day, "used_usd": now.used,
        "tokens_per_day": limit.tokens_per_day, "used_tokens": now.used_tokens,
    });
    tx.audit(inner.alerts.entry(kind, &subject.to_string(), data));
}

/// Whether four fifths are used.
fn is_near(limit: BudgetLimit, now: BudgetUse) -> bool {
    let is_over = |used: i128, limit: i128| used * 5 >= limit * 4;
    let money = limit.usd_per_day.is_some_and(|limit| {
        is_over(i128::from(now.used.as_nanos()), i128::from(limit.as_nanos()))
    });
    let tokens = limit
        .tokens_per_day
        .is_some_and(|limit| is_over(i128::from(now.used_tokens), i128::from(limit)));
    money || tokens
}

#[cfg(test)]
mod tests;
