//! Rights that nobody uses: principals, tokens and links that were not seen for a while.

use std::time::Duration;

use serde::Serialize;

use super::{super::Orchestrator, principals::PrincipalSource};
use crate::{
    auth::{ManagePrincipals, Permit},
    domain::{PrincipalId, Timestamp, limits},
    store::{Page, Paged, StoreError},
};

/// What kind of right it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StaleKind {
    /// A person or program.
    Principal,
    /// A bearer token.
    Token,
    /// A linked account.
    Link,
}

/// A right that was not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StaleView {
    /// What kind.
    pub kind: StaleKind,
    /// Its id.
    pub id: String,
    /// Its name, label or account.
    pub name: String,
    /// Whose it is.
    pub principal: PrincipalId,
    /// When it was used last; none: never, as far as is known.
    pub last_seen_at: Option<Timestamp>,
    /// When it was made; unknown of those of the configuration.
    pub created_at: Option<Timestamp>,
    /// What ends it.
    pub remedy: String,
}

impl Orchestrator {
    /// What was not used since so many days, and is older.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stale(
        &self,
        _permit: &Permit<ManagePrincipals>,
        days: u32,
        page: Page,
    ) -> Result<Paged<StaleView>, StoreError> {
        self.inner.store_uses().await?;
        let now = self.inner.clock.now();
        let age = Duration::from_secs(u64::from(days) * 24 * 3600);
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let cutoff = Timestamp::from_micros(now.as_micros().saturating_sub(micros));
        let mut all = Vec::new();
        for p in self.inner.everybody().await? {
            let was_here = p.last_seen_at.or(p.created_at).is_some_and(|at| at >= cutoff);
            if p.source == PrincipalSource::Local || p.disabled_at.is_some() || was_here {
                continue;
            }
            all.push(StaleView {
                kind: StaleKind::Principal,
                id: p.id.to_string(),
                remedy: format!("agent-runtime principal disable {}", p.id),
                name: p.name,
                principal: p.id,
                last_seen_at: p.last_seen_at,
                created_at: p.created_at,
            });
        }
        let mut reader = self.inner.store.read().await?;
        let max = u32::try_from(limits::TOKENS_MAX.max(limits::LINKS_MAX)).unwrap_or(u32::MAX);
        for token in reader.tokens().stale(cutoff, now, max).await? {
            all.push(StaleView {
                kind: StaleKind::Token,
                id: token.id.to_string(),
                name: token.label.unwrap_or(token.public_id),
                principal: token.principal,
                last_seen_at: token.last_used_at,
                created_at: Some(token.created_at),
                remedy: format!("agent-runtime token revoke {}", token.id),
            });
        }
        for link in reader.links().stale(cutoff, max).await? {
            all.push(StaleView {
                kind: StaleKind::Link,
                id: link.id.to_string(),
                name: format!("{}:{}", link.platform, link.account),
                principal: link.principal,
                last_seen_at: link.last_seen_at,
                created_at: Some(link.created_at),
                remedy: format!("agent-runtime link revoke {}", link.id),
            });
        }
        Ok(page.of_memory(all, |view| view.id.clone()))
    }
}
