//! What was used: tokens, money and runs, by day, added up by agent, principal or model.

use serde::Serialize;

use super::{Orchestrator, error::CommandError};
use crate::{
    auth::{Permit, Read},
    domain::{Day, Usd, limits},
    store::{Page, UsageBy, UsageFilter, UsageSum},
};

/// Which use to add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageQuestion {
    /// The first day; thirty days before the last one when none.
    pub from: Option<Day>,
    /// The last day; today when none.
    pub to: Option<Day>,
    /// By what.
    pub by: UsageBy,
}

/// What was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageReport {
    /// The first day.
    pub from: Day,
    /// The last day.
    pub to: Day,
    /// By what: `agent`, `principal` or `model`.
    pub by: &'static str,
    /// The sums, in the order of their keys.
    pub items: Vec<UsageItem>,
    /// The sum of everything in these days.
    pub total: UsageTotal,
    /// Where the next page begins; none at the end.
    pub next_cursor: Option<String>,
}

/// One sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageItem {
    /// The agent's name, the principal's id or the entry of the model list.
    pub key: String,
    /// What was used.
    #[serde(flatten)]
    pub total: UsageTotal,
}

/// What was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UsageTotal {
    /// Runs, each counted with its first model call.
    pub runs: u64,
    /// Model calls.
    pub llm_calls: u64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Money.
    pub cost_usd: Usd,
}

impl From<UsageSum> for UsageTotal {
    fn from(sum: UsageSum) -> Self {
        Self {
            runs: sum.runs,
            llm_calls: sum.calls,
            input_tokens: sum.input_tokens,
            output_tokens: sum.output_tokens,
            cost_usd: sum.cost,
        }
    }
}

impl Orchestrator {
    /// What was used, as far as the caller may know: their own runs, or everybody's.
    ///
    /// # Errors
    /// When the days are in the wrong order, or the store cannot be read.
    pub async fn usage(
        &self,
        permit: &Permit<Read>,
        question: UsageQuestion,
        page: Page,
    ) -> Result<UsageReport, CommandError> {
        let to = question.to.unwrap_or_else(|| Day::of(self.inner.clock.now()));
        let from = question.from.unwrap_or_else(|| to.before(limits::USAGE_DAYS));
        if from > to {
            return Err(CommandError::Invalid {
                code: "request.invalid",
                pointer: Some("/from"),
                detail: format!("`from` ({from}) lies behind `to` ({to})"),
            });
        }
        let scope = permit.scope();
        // The sums do not tell conversations apart: whoever may not know all of them sees their own.
        let is_narrowed = scope.scopes().agents.is_some() || scope.scopes().conversations.is_some();
        let me = is_narrowed.then_some(permit.context().principal.id);
        let principal = scope.owner().or(me);
        let filter = UsageFilter { from, to, principal };
        let mut reader = self.inner.store.read().await?;
        let rows = u32::try_from(page.rows()).unwrap_or(u32::MAX);
        let after = page.cursor().unwrap_or_default();
        let sums = reader.usage().sums(&filter, question.by, after, rows).await?;
        let total = reader.usage().total(&filter).await?.into();
        let items = sums.into_iter().map(|(key, sum)| UsageItem { key, total: sum.into() });
        let page = page.cut(items.collect(), |item| item.key.clone());
        let by = match question.by {
            UsageBy::Agent => "agent",
            UsageBy::Principal => "principal",
            UsageBy::Model => "model",
        };
        Ok(UsageReport { from, to, by, items: page.items, total, next_cursor: page.next_cursor })
    }
}
