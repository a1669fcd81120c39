//! Tokens: create (shown once), see, revoke.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{
    super::{
        Inner, Orchestrator,
        commands::{Done, Idempotency},
        error::CommandError,
    },
    entry, invalid,
    principals::check_scopes,
};
use crate::{
    auth::{
        ManageTokens, Permit,
        authn::{self, TokenHash, local_operator, token_id},
    },
    domain::{
        AuditKind, Principal, PrincipalId, Role, Scopes, Secret, Timestamp, TokenId, TokenRecord,
        limits,
    },
    store::{Page, Paged, StoreError, Tx},
};

const ACTION: &str = "tokens.manage";
/// Longest life of a token that ends by itself: ten years.
const TTL_SECS_MAX: u64 = 10 * 366 * 24 * 3600;

/// A token to make.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Whom it stands for: an id or a name.
    pub principal: String,
    /// What it is for.
    pub label: Option<String>,
    /// The most that it gives; the principal's own where none, and at most the maker's.
    pub role: Option<Role>,
    /// What narrows it further.
    pub scopes: Scopes,
    /// Seconds until it ends by itself.
    pub ttl_secs: Option<u64>,
}

/// A token as shown.
pub type TokenView = TokenRecord;

/// A token that was made, and its text where it was made now.
#[derive(Clone, Debug)]
pub struct TokenMade {
    /// What is kept of it.
    pub done: Done<TokenView>,
    /// Its text: shown here and never again, since only a hash is kept.
    pub token: Secret<String>,
}

impl Orchestrator {
    /// Makes a token.
    ///
    /// # Errors
    /// When it would give more than the maker or the principal has, or there are too many.
    pub async fn create_token(
        &self,
        permit: Permit<ManageTokens>,
        new: NewToken,
        idempotency: Option<Idempotency>,
    ) -> Result<TokenMade, CommandError> {
        check_scopes(Some(&new.scopes))?;
        if let Some(label) = &new.label {
            self.inner.check_text("/label", label)?;
        }
        if new.ttl_secs.is_some_and(|secs| !(1..=TTL_SECS_MAX).contains(&secs)) {
            return Err(invalid("/ttl_secs", "between a second and ten years"));
        }
        let cx = permit.context().clone();
        let principal = self.inner.known(&new.principal)?;
        let role = self.inner.role_for(&permit, &principal, &new)?;
        let token = authn::generate().map_err(|error| {
            tracing::error!(%error, "no token was made");
            CommandError::conflict("token.no_randomness", error.to_string())
        })?;
        // It is masked wherever it turns up, as long as this process lives.
        self.inner.redactor.register(token.expose());
        let (hash, text) = (TokenHash::of(token.expose()).to_hex(), token.clone());
        let done = self
            .inner
            .change_access(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let public_id = token_id(text.expose()).unwrap_or_default().to_owned();
                    let record = record(tx, permit.context().principal.id, principal.id, new, role);
                    let record = TokenRecord { public_id, ..record };
                    store(tx, &permit, record, &hash).await
                })
            })
            .await?;
        Ok(TokenMade { done, token })
    }

    /// Tokens, newest first; of one principal where given. Revoked ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tokens(
        &self,
        _permit: &Permit<ManageTokens>,
        principal: Option<PrincipalId>,
        page: Page,
    ) -> Result<Paged<TokenView>, StoreError> {
        let mut paged = self.inner.store.read().await?.tokens().list(principal, &page).await?;
        for token in &mut paged.items {
            let used = self.inner.tokens.last_used(&token.public_id);
            token.last_used_at = token.last_used_at.max(used);
        }
        Ok(paged)
    }

    /// Takes a token back. Its connections are cut when this returns.
    ///
    /// # Errors
    /// When there is none, or it stands for somebody beyond the one who asks.
    pub async fn revoke_token(
        &self,
        permit: Permit<ManageTokens>,
        id: TokenId,
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
}

impl Inner {
    /// The role of a token for somebody, where it may be given.
    fn role_for(
        &self,
        permit: &Permit<ManageTokens>,
        principal: &Principal,
        new: &NewToken,
    ) -> Result<Role, CommandError> {
        let cx = permit.context();
        let me = &cx.principal;
        if principal.id == local_operator().id {
            let detail = "the local operator has no tokens: who may use the daemon's own socket \
                          needs none; create a principal for whom it is";
            return Err(invalid("/principal", detail));
        }
        // A token of another administrator would be a second voice in their name.
        if principal.id != me.id {
            self.allowed(cx, ACTION, permit.reaches(principal.role))?;
        }
        let role = new.role.unwrap_or_else(|| principal.role.min(me.role));
        self.allowed(cx, ACTION, permit.gives(role, &new.scopes.narrowed_by(&principal.scopes)))?;
        if role > principal.role {
            let name = &principal.name;
            let detail = format!("`{name}` is {}: a token gives at most that", principal.role);
            return Err(invalid("/role", detail));
        }
        Ok(role)
    }
}

fn record(
    tx: &Tx,
    me: PrincipalId,
    principal: PrincipalId,
    new: NewToken,
    role: Role,
) -> TokenRecord {
    let now = tx.now();
    TokenRecord {
        id: TokenId::new(tx.ids()),
        public_id: String::new(),
        principal,
        label: new.label,
        role,
        scopes: new.scopes,
        created_at: now,
        created_by: me,
        expires_at: new.ttl_secs.map(|secs| now.plus(Duration::from_secs(secs))),
        last_used_at: None,
        revoked_at: None,
        revoked_by: None,
    }
}

async fn store(
    tx: &mut Tx,
    permit: &Permit<ManageTokens>,
    token: TokenRecord,
    hash: &str,
) -> Result<TokenView, CommandError> {
    let now: Timestamp = tx.now();
    if tx.tokens().count_live(now).await? >= limits::TOKENS_MAX {
        let max = limits::TOKENS_MAX;
        let detail = format!("{max} tokens are in force: revoke some");
        return Err(CommandError::conflict("token.full", detail));
    }
    tx.tokens().insert(&token, hash).await?;
    let data = json!({ "what": "token created", "before": null, "after": token });
    tx.audit(entry(AuditKind::Rbac, permit.context(), data));
    Ok(token)
}

async fn revoke(
    tx: &mut Tx,
    inner: &Inner,
    permit: &Permit<ManageTokens>,
    id: TokenId,
) -> Result<(), CommandError> {
    let cx = permit.context();
    let token = tx.tokens().get(id).await?;
    let token = token.ok_or(CommandError::NotFound { what: "the token" })?;
    if token.principal != cx.principal.id {
        let role = inner.tokens.directory().current(token.principal).map(|p| p.role);
        inner.allowed(cx, ACTION, permit.reaches(role.unwrap_or(token.role)))?;
    }
    if token.revoked_at.is_some() {
        return Ok(());
    }
    let now = tx.now();
    tx.tokens().revoke(id, cx.principal.id, now).await?;
    let after =
        TokenRecord { revoked_at: Some(now), revoked_by: Some(cx.principal.id), ..token.clone() };
    let data = json!({ "what": "token revoked", "before": token, "after": after });
    tx.audit(entry(AuditKind::Rbac, cx, data));
    Ok(())
}
