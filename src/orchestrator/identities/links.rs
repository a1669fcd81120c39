//! Links: see, revoke, and whom an account stands for.

use std::sync::Arc;

use serde_json::json;

use super::{
    super::{Inner, Orchestrator, error::CommandError},
    entry,
};
use crate::{
    auth::{CallContext, ManagePairings, Permit},
    domain::{
        AuditKind, LinkId, LinkRecord, PairingRecord, Platform, Principal, PrincipalId, Role,
        limits,
    },
    store::{Page, Paged, StoreError, Tx},
};

/// A link as shown.
pub type LinkView = LinkRecord;

impl Orchestrator {
    /// Links, newest first; revoked ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn links(
        &self,
        _permit: &Permit<ManagePairings>,
        page: Page,
    ) -> Result<Paged<LinkView>, StoreError> {
        let mut paged = self.inner.store.read().await?.links().list(&page).await?;
        for link in &mut paged.items {
            let seen = self.inner.tokens.directory().link_last_seen(link.id);
            link.last_seen_at = link.last_seen_at.max(seen);
        }
        Ok(paged)
    }

    /// Takes a link back: from when this returns, nothing from the account counts.
    ///
    /// # Errors
    /// When there is none, or it stands for somebody beyond the one who asks.
    pub async fn revoke_link(
        &self,
        permit: Permit<ManagePairings>,
        id: LinkId,
    ) -> Result<(), CommandError> {
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        self.inner
            .change_access(&cx, None, move |tx| {
                Box::pin(async move { revoke(tx, &inner, &permit, id).await })
            })
            .await?;
        Ok(())
    }

    /// Whom an account of a chat platform stands for now; none where it is not linked or they may
    /// not act. Counts as a sign of life of the account.
    pub fn resolve(
        &self,
        _permit: &Permit<ManagePairings>,
        platform: &Platform,
        account: &str,
    ) -> Option<Principal> {
        self.inner.tokens.directory().resolve(platform, account, self.inner.clock.now())
    }
}

/// Stores the link that a request asked for.
pub(super) async fn insert(
    tx: &mut Tx,
    cx: &CallContext,
    pairing: &PairingRecord,
    principal: PrincipalId,
    role: Role,
) -> Result<LinkRecord, CommandError> {
    if tx.links().count_live().await? >= limits::LINKS_MAX {
        let detail = format!("{} accounts are linked: revoke some", limits::LINKS_MAX);
        return Err(CommandError::conflict("link.full", detail));
    }
    let link = LinkRecord {
        id: LinkId::new(tx.ids()),
        platform: pairing.platform.clone(),
        account: pairing.account.clone(),
        display: pairing.display.clone(),
        principal,
        role,
        created_at: tx.now(),
        created_by: cx.principal.id,
        last_seen_at: None,
        revoked_at: None,
        revoked_by: None,
    };
    tx.links().insert(&link).await?;
    Ok(link)
}

async fn revoke(
    tx: &mut Tx,
    inner: &Inner,
    permit: &Permit<ManagePairings>,
    id: LinkId,
) -> Result<(), CommandError> {
    let cx = permit.context();
    let link = tx.links().get(id).await?;
    let link = link.ok_or(CommandError::NotFound { what: "the link" })?;
    let role = inner.tokens.directory().current(link.principal).map(|p| p.role);
    let decided = permit.reaches(role.unwrap_or(link.role));
    inner.allowed(cx, "links.revoke", decided)?;
    if link.revoked_at.is_some() {
        return Ok(());
    }
    let now = tx.now();
    tx.links().revoke(id, cx.principal.id, now).await?;
    let after =
        LinkRecord { revoked_at: Some(now), revoked_by: Some(cx.principal.id), ..link.clone() };
    let data = json!({ "what": "link revoked", "before": link, "after": after });
    tx.audit(entry(AuditKind::Rbac, cx, data));
    Ok(())
}
