//! Requests to link an account of a chat platform: ask, see, approve, deny.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::json;

use super::{
    super::{
        Inner, Orchestrator,
        commands::{Done, Idempotency},
        error::{CommandError, check_reason},
        transition::Actor,
    },
    entry, invalid,
    links::{self, LinkView},
    principals::{self, NewPrincipal},
};
use crate::{
    auth::{ManagePairings, Permit, authn::local_operator, pairing::Code},
    domain::{
        AuditKind, PairingId, PairingRecord, PairingState, Platform, Principal, Role, Scopes,
        Timestamp, limits,
    },
    store::{Page, Paged, StoreError, Tx},
};

const ACTION: &str = "pairings.manage";

/// An account that asks to be linked.
#[derive(Clone, Debug)]
pub struct NewPairing {
    /// The platform.
    pub platform: Platform,
    /// The account's id there.
    pub account: String,
    /// What the platform calls its holder.
    pub display: Option<String>,
}

/// A request as shown.
pub type PairingView = PairingRecord;

/// A request that was made, and its code where it was made now.
#[derive(Clone, Debug)]
pub struct PairingMade {
    /// What is kept of it.
    pub done: Done<PairingView>,
    /// The code, for the account's holder alone: shown here and never again.
    pub code: Code,
}

/// Which request is meant.
#[derive(Clone, Debug)]
pub enum PairingKey {
    /// The one with this code, which the account's holder has told.
    Code(String),
    /// The one with this id, with its code where that was told.
    Id(PairingId, Option<String>),
}

/// What an account is linked to.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// The most that the account gives.
    pub role: Role,
    /// Whom it stands for: an id or a name of somebody who may act; somebody new where none.
    pub principal: Option<String>,
    /// What somebody new is called; as on the platform where none.
    pub name: Option<String>,
}

/// What an approval gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Approved {
    /// The request.
    pub pairing: PairingView,
    /// The account, linked from now on.
    pub link: LinkView,
}

impl Orchestrator {
    /// Asks for an account to be linked. An older request of the account is void from then on.
    ///
    /// # Errors
    /// When the account is linked already, or too many requests wait.
    pub async fn request_pairing(
        &self,
        permit: Permit<ManagePairings>,
        new: NewPairing,
        idempotency: Option<Idempotency>,
    ) -> Result<PairingMade, CommandError> {
        self.inner.check_text("/account", &new.account)?;
        if let Some(display) = &new.display {
            self.inner.check_text("/display", display)?;
        }
        let code = Code::new().map_err(|error| {
            tracing::error!(%error, "no pairing code was made");
            CommandError::conflict("pairing.no_randomness", error.to_string())
        })?;
        let (cx, hash) = (permit.context().clone(), code.hash());
        let done = self
            .inner
            .administer(&cx, idempotency, move |tx| {
                Box::pin(async move { request(tx, &permit, new, &hash).await })
            })
            .await?;
        Ok(PairingMade { done, code })
    }

    /// Requests, newest first; in one state where given.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn pairings(
        &self,
        _permit: &Permit<ManagePairings>,
        state: Option<PairingState>,
        page: Page,
    ) -> Result<Paged<PairingView>, StoreError> {
        self.inner.expire_pairings().await?;
        self.inner.store.read().await?.pairings().list(state, &page).await
    }

    /// Links the account of a request. Wrong codes are counted; five lock the approver out.
    ///
    /// # Errors
    /// When there is no such request any more, the approver is locked out, or the rights are not
    /// theirs to give.
    pub async fn approve_pairing(
        &self,
        permit: Permit<ManagePairings>,
        key: PairingKey,
        new: NewLink,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Approved>, CommandError> {
        if let Some(name) = &new.name {
            self.inner.check_text("/name", name)?;
        }
        if new.name.is_some() && new.principal.is_some() {
            let detail = "give `principal` for somebody who is there, or `name` for somebody new";
            return Err(invalid("/name", detail));
        }
        let cx = permit.context().clone();
        self.inner.allowed(&cx, ACTION, permit.reaches(new.role))?;
        self.inner.allowed(&cx, ACTION, permit.gives(new.role, &Scopes::default()))?;
        let whom = self.inner.whom(&permit, &new)?;
        let inner = Arc::clone(&self.inner);
        // On its own feet: who goes away before the answer is counted all the same.
        let work = async move { inner.try_code(permit, key, new, whom, idempotency).await };
        self.inner.detached(work).await
    }

    /// Refuses a request.
    ///
    /// # Errors
    /// When it does not wait any more.
    pub async fn deny_pairing(
        &self,
        permit: Permit<ManagePairings>,
        id: PairingId,
        reason: Option<String>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<PairingView>, CommandError> {
        check_reason(reason.as_deref())?;
        let mut masking = self.inner.masking();
        let reason = masking.optional("reason", reason);
        let cx = permit.context().clone();
        self.inner
            .administer(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let denied = deny(tx, &permit, id, reason).await?;
                    masking.record(tx, &Actor::from(permit.context()), None);
                    Ok(denied)
                })
            })
            .await
    }
}

/// What no request was found by; tells a wrong code from a wrong id.
const WRONG_CODE: &str = "a pairing with this code";

impl Inner {
    async fn try_code(
        self: &Arc<Self>,
        permit: Permit<ManagePairings>,
        key: PairingKey,
        new: NewLink,
        whom: Option<Principal>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<Approved>, CommandError> {
        let cx = permit.context().clone();
        let approver = cx.principal.id;
        if let Some(wait) = self.access.guesses.locked(approver, self.clock.now()) {
            self.guess_failed(&permit, "locked").await?;
            return Err(CommandError::Locked { retry_after: wait });
        }
        let (inner, shared) = (Arc::clone(self), permit.clone());
        let done = self
            .administer(&cx, idempotency, move |tx| {
                Box::pin(async move { approve(tx, &inner, &shared, key, new, whom).await })
            })
            .await;
        if matches!(done, Err(CommandError::NotFound { what: WRONG_CODE })) {
            self.access.guesses.failed(approver, self.clock.now());
            self.guess_failed(&permit, "wrong").await?;
        }
        let done = done?;
        self.put_access_in_force().await?;
        self.in_force_everywhere().await?;
        Ok(done)
    }

    /// Whom the account shall stand for, of those who may act; somebody new when none.
    fn whom(
        &self,
        permit: &Permit<ManagePairings>,
        new: &NewLink,
    ) -> Result<Option<Principal>, CommandError> {
        let Some(wanted) = &new.principal else { return Ok(None) };
        let principal = self.known(wanted)?;
        if principal.id == local_operator().id {
            let detail = "the local operator has no accounts; name or create a principal";
            return Err(invalid("/principal", detail));
        }
        self.allowed(permit.context(), ACTION, permit.reaches(principal.role))?;
        if new.role > principal.role {
            let name = &principal.name;
            let detail = format!("`{name}` is {}: a link gives at most that", principal.role);
            return Err(invalid("/role", detail));
        }
        Ok(Some(principal))
    }

    /// Counts and records a code that was refused. The store is asked first: what it cannot record
    /// is not tried either.
    async fn guess_failed(
        &self,
        permit: &Permit<ManagePairings>,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        let cx = permit.context();
        metrics::counter!("agent_runtime_pairing_failures_total", "reason" => reason).increment(1);
        tracing::warn!(
            principal = %cx.principal.id, reason, request_id = %cx.request_id,
            "a pairing code was refused"
        );
        self.store.audit(entry(AuditKind::PairingFailed, cx, json!({ "reason": reason }))).await
    }
}

async fn request(
    tx: &mut Tx,
    permit: &Permit<ManagePairings>,
    new: NewPairing,
    hash: &str,
) -> Result<PairingView, CommandError> {
    let NewPairing { platform, account, display } = new;
    let now = tx.now();
    tx.pairings().expire(now).await?;
    check_free(tx, &platform, &account).await?;
    let is_new = !tx.pairings().void(&platform, &account).await?;
    if is_new && tx.pairings().count_pending().await? >= limits::PAIRINGS_MAX {
        let (what, retry_after) = ("the list of pairings", Duration::from_secs(60));
        return Err(CommandError::Full { what, retry_after });
    }
    let pairing = PairingRecord {
        id: PairingId::new(tx.ids()),
        platform,
        account,
        display,
        state: PairingState::Pending,
        created_at: now,
        expires_at: now.plus(limits::PAIRING_TTL),
        decided_at: None,
        decided_by: None,
        reason: None,
    };
    tx.pairings().insert(&pairing, hash).await?;
    let what = if is_new { "requested" } else { "requested again" };
    let data = json!({ "what": what, "before": null, "after": pairing });
    tx.audit(entry(AuditKind::Pairing, permit.context(), data));
    Ok(pairing)
}

async fn check_free(tx: &mut Tx, platform: &Platform, account: &str) -> Result<(), CommandError> {
    let Some(link) = tx.links().of_account(platform, account).await? else { return Ok(()) };
    let detail = format!(
        "this account is linked already, as {}; revoke that link first if it shall be another",
        link.id
    );
    Err(CommandError::conflict("link.exists", detail))
}

/// The request that is meant, where it waits.
async fn meant(tx: &mut Tx, key: PairingKey) -> Result<PairingRecord, CommandError> {
    let wrong = || CommandError::NotFound { what: WRONG_CODE };
    let hash = |typed: &str| Code::read(typed).map(|code| code.hash()).ok_or_else(wrong);
    let pairing = match key {
        PairingKey::Code(code) => {
            let found = tx.pairings().with_code(&hash(&code)?).await?;
            found.filter(|p| p.expires_at > tx.now()).ok_or_else(wrong)?
        }
        PairingKey::Id(id, code) => {
            let found = tx.pairings().get(id).await?;
            let pairing = found.ok_or(CommandError::NotFound { what: "the pairing" })?;
            if let Some(code) = code {
                let with_code = tx.pairings().with_code(&hash(&code)?).await?;
                with_code.filter(|p| p.id == id).ok_or_else(wrong)?;
            }
            pairing
        }
    };
    check_waits(&pairing, tx.now())?;
    Ok(pairing)
}

fn check_waits(pairing: &PairingRecord, now: Timestamp) -> Result<(), CommandError> {
    let state = match pairing.state {
        PairingState::Pending if pairing.expires_at > now => return Ok(()),
        PairingState::Pending => PairingState::Expired,
        state => state,
    };
    let detail = format!("this request is {state}; the account's holder can ask again");
    Err(CommandError::conflict("pairing.stale", detail))
}

async fn approve(
    tx: &mut Tx,
    inner: &Inner,
    permit: &Permit<ManagePairings>,
    key: PairingKey,
    new: NewLink,
    whom: Option<Principal>,
) -> Result<Approved, CommandError> {
    let cx = permit.context();
    let before = meant(tx, key).await?;
    check_free(tx, &before.platform, &before.account).await?;
    let principal = if let Some(principal) = whom {
        principal.id
    } else {
        let name = new.name.or_else(|| before.display.clone());
        let name = name.unwrap_or_else(|| format!("{}:{}", before.platform, before.account));
        let new = NewPrincipal { name, role: new.role, scopes: Scopes::default() };
        principals::create(tx, inner, cx, new).await?.id
    };
    let link = links::insert(tx, cx, &before, principal, new.role).await?;
    let after = PairingRecord {
        state: PairingState::Approved,
        decided_at: Some(tx.now()),
        decided_by: Some(cx.principal.id),
        ..before.clone()
    };
    tx.pairings().decide(&after).await?;
    let data = json!({ "what": "approved", "before": before, "after": after, "link": link });
    tx.audit(entry(AuditKind::Pairing, cx, data));
    Ok(Approved { pairing: after, link })
}

async fn deny(
    tx: &mut Tx,
    permit: &Permit<ManagePairings>,
    id: PairingId,
    reason: Option<String>,
) -> Result<PairingView, CommandError> {
    let cx = permit.context();
    let before = meant(tx, PairingKey::Id(id, None)).await?;
    let after = PairingRecord {
        state: PairingState::Denied,
        decided_at: Some(tx.now()),
        decided_by: Some(cx.principal.id),
        reason,
        ..before.clone()
    };
    tx.pairings().decide(&after).await?;
    let data = json!({ "what": "denied", "before": before, "after": after });
    tx.audit(entry(AuditKind::Pairing, cx, data));
    Ok(after)
}
