//! Versions of the policy: see, store, put in force, go back.
//!
//! Invariants: what is in force is always the last activation of the store; an older one never
//! replaces a newer one. Every change is one transaction with its audit row, and durable when its
//! answer comes. Only a text that was read without a problem is ever stored.

mod explain;
mod force;
mod record;
mod replay;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

pub use explain::{PastApproval, PastCall, PastDecision, PolicyAnswer, PolicyQuestion};
pub(super) use force::InForce;
pub use force::PolicyFault;
pub(super) use record::{Basis, bound_version, record, record_before};
pub use replay::{Difference, Judged, ReplayAsked, ReplayCounts, ReplayPage};

use super::{
    Inner, Orchestrator, Page, Paged,
    commands::{Done, Idempotency},
    error::{CommandError, check_reason_at},
    transition::Actor,
};
use crate::{
    auth::{
        ManagePolicy, Permit,
        policy::{Policy, PolicyError},
    },
    domain::{
        AuditEntry, AuditKind, PolicyActivation, PolicyInfo, PolicyOrigin, PolicyVersion,
        StoredPolicy,
    },
    runtime::Tasks,
    store::{Named, StoreError, Tx},
};

/// What the program's own rules are called where a version is named.
pub const BUILTIN: &str = "builtin";
/// Digits of a version that must be given at least.
const DIGITS_MIN: usize = 6;

/// Why a policy was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PolicyRefused {
    /// Its text is wrong.
    #[error("{0}")]
    Wrong(PolicyError),
    /// Anything else.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// A policy to store.
#[derive(Clone, Debug)]
pub struct NewPolicy {
    /// The policy, read.
    pub policy: Arc<Policy>,
    /// Why, for the record.
    pub note: Option<String>,
    /// Whether to put it in force, too.
    pub activate: bool,
    /// The version that the author began with: when another one is in force by now, nothing is
    /// changed. None: whatever is in force.
    pub base: Option<PolicyVersion>,
}

/// A policy with everything that is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyView {
    /// Its number and version, who stored it, when and why.
    #[serde(flatten)]
    pub info: PolicyInfo,
    /// That it was put in force, when it is.
    pub in_force: Option<PolicyActivation>,
    /// Its text.
    pub source: String,
}

/// A version in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyEntry {
    /// Its number and version, who stored it, when and why.
    #[serde(flatten)]
    pub info: PolicyInfo,
    /// Whether it is in force.
    pub active: bool,
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyChange {
    /// The version that was named.
    pub version: PolicyVersion,
    /// Whether it was new.
    pub stored: bool,
    /// The version that was in force before.
    pub before: Option<PolicyVersion>,
    /// The version that is in force now.
    pub active: Option<PolicyVersion>,
    /// How it was put in force; none when nothing was, or it was already.
    pub activation: Option<PolicyActivation>,
}

impl Orchestrator {
    /// Reads a policy's text, off the async threads: a large one is work.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn read_policy(
        &self,
        _permit: &Permit<ManagePolicy>,
        source: String,
    ) -> Result<Arc<Policy>, PolicyRefused> {
        if self.inner.redactor.finds_secret(&source) {
            return Err(PolicyRefused::Command(CommandError::Invalid {
                code: "policy.secret",
                pointer: Some("/source"),
                detail: "the text holds a secret of this daemon; a policy needs none".to_owned(),
            }));
        }
        parse(source).await?.map(Arc::new).map_err(PolicyRefused::Wrong)
    }

    /// The policy that is in force.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn policy(&self, _permit: &Permit<ManagePolicy>) -> Result<PolicyView, CommandError> {
        let mut reader = self.inner.store.read().await?;
        let active = reader.policies().active().await?;
        let active = active.ok_or(CommandError::NotFound { what: "the policy" })?;
        let StoredPolicy { info, source } = known(reader.policies().get(&active.version).await?)?;
        Ok(PolicyView { info, in_force: Some(active), source })
    }

    /// The policy that decides now, read.
    pub fn current_policy(&self, _permit: &Permit<ManagePolicy>) -> Arc<Policy> {
        self.inner.policy.current()
    }

    /// A stored version, read; named as in [`policy_version`](Self::policy_version).
    ///
    /// # Errors
    /// When there is none, several begin so, or this program cannot read it any more.
    pub async fn stored_policy(
        &self,
        _permit: &Permit<ManagePolicy>,
        name: &str,
    ) -> Result<Arc<Policy>, CommandError> {
        self.inner.readable(name).await
    }

    /// One version, named by its digits, by the first of them, or as `builtin`.
    ///
    /// # Errors
    /// When there is none, or several begin so.
    pub async fn policy_version(
        &self,
        _permit: &Permit<ManagePolicy>,
        name: &str,
    ) -> Result<PolicyView, CommandError> {
        let StoredPolicy { info, source } = self.inner.named(name).await?;
        let active = self.inner.store.read().await?.policies().active().await?;
        let in_force = active.filter(|active| active.version == info.version);
        Ok(PolicyView { info, in_force, source })
    }

    /// Every version, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn policy_versions(
        &self,
        _permit: &Permit<ManagePolicy>,
        page: Page,
    ) -> Result<Paged<PolicyEntry>, StoreError> {
        let mut reader = self.inner.store.read().await?;
        let active = reader.policies().active().await?.map(|active| active.version);
        let Paged { items, next_cursor } = reader.policies().list(&page).await?;
        let entry = |info: PolicyInfo| {
            let active = active.as_ref() == Some(&info.version);
            PolicyEntry { info, active }
        };
        Ok(Paged { items: items.into_iter().map(entry).collect(), next_cursor })
    }

    /// Stores a policy and, where asked, puts it in force. The same text is the same version:
    /// storing it again changes nothing. What is in force decides every call from then on, also
    /// those that were approved and have not started.
    ///
    /// # Errors
    /// When another version than `base` is in force by now.
    pub async fn put_policy(
        &self,
        permit: Permit<ManagePolicy>,
        new: NewPolicy,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<PolicyChange>, CommandError> {
        check_reason_at("/note", new.note.as_deref())?;
        self.change(permit, new, idempotency).await
    }

    /// Puts a stored version in force, or the program's own rules (`builtin`).
    ///
    /// # Errors
    /// When there is no such version, or this program cannot read it any more.
    pub async fn activate_policy(
        &self,
        permit: Permit<ManagePolicy>,
        name: &str,
        note: Option<String>,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<PolicyChange>, CommandError> {
        check_reason_at("/note", note.as_deref())?;
        let policy = self.inner.readable(name).await?;
        let new = NewPolicy { policy, note, activate: true, base: None };
        self.change(permit, new, idempotency).await
    }

    async fn change(
        &self,
        permit: Permit<ManagePolicy>,
        new: NewPolicy,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<PolicyChange>, CommandError> {
        let mut masking = self.inner.masking();
        let note = masking.optional("note", new.note);
        let new = NewPolicy { note, ..new };
        let inner = Arc::clone(&self.inner);
        // On its own feet: who asked may go away between the commit and its taking effect.
        let work = async move {
            let policy = Arc::clone(&new.policy);
            let cx = permit.context().clone();
            let done = inner
                .administer(&cx, idempotency, move |tx| {
                    Box::pin(async move {
                        let actor = Actor::from(permit.context());
                        let changed = change(tx, &actor, new).await?;
                        masking.record(tx, &actor, None);
                        Ok(changed)
                    })
                })
                .await?;
            if let Done::Fresh(PolicyChange { activation: Some(activation), .. }) = &done {
                inner.policy.put_in_force(activation, policy);
                inner.in_force_everywhere().await?;
            }
            Ok(done)
        };
        self.inner.detached(work).await
    }
}

/// Stores and activates, as far as it was not done before.
async fn change(tx: &mut Tx, actor: &Actor, new: NewPolicy) -> Result<PolicyChange, CommandError> {
    let before = tx.policies().active().await?.map(|active| active.version);
    if new.base.is_some() && new.base != before {
        let now = before.as_ref().map_or("none", PolicyVersion::short);
        return Err(CommandError::conflict(
            "policy.changed",
            format!("version {now} is in force by now: look at it and begin with it"),
        ));
    }
    let version = force::version_of(&new.policy)?;
    let by = By { actor, note: new.note.as_deref() };
    let stored = store(tx, &new.policy, &version, by).await?;
    let is_new = new.activate && before.as_ref() != Some(&version);
    let activation =
        if is_new { Some(activate(tx, &version, PolicyOrigin::Admin, by).await?) } else { None };
    let active = if is_new { Some(version.clone()) } else { before.clone() };
    if stored || is_new {
        let what = if is_new { "activated" } else { "stored" };
        tx.audit(entry(by, what, before.as_ref(), active.as_ref(), &version));
    }
    Ok(PolicyChange { version, stored, before, active, activation })
}

/// Who changes something, and why.
#[derive(Clone, Copy, Debug)]
struct By<'a> {
    actor: &'a Actor,
    note: Option<&'a str>,
}

/// Stores a version where it is not there yet; whether it was new.
async fn store(
    tx: &mut Tx,
    policy: &Policy,
    version: &PolicyVersion,
    by: By<'_>,
) -> Result<bool, StoreError> {
    if tx.policies().get(version).await?.is_some() {
        return Ok(false);
    }
    let now = tx.now();
    tx.policies().insert(version, policy.text(), &by.actor.id, by.note, now).await?;
    Ok(true)
}

async fn activate(
    tx: &mut Tx,
    version: &PolicyVersion,
    origin: PolicyOrigin,
    by: By<'_>,
) -> Result<PolicyActivation, StoreError> {
    let last = tx.policies().active().await?.map_or(0, |active| active.n);
    let activation = PolicyActivation {
        n: last + 1,
        version: version.clone(),
        origin,
        at: tx.now(),
        done_by: by.actor.id.clone(),
        note: by.note.map(str::to_owned),
    };
    tx.policies().activate(&activation).await?;
    Ok(activation)
}

/// `before` and `after`: what was and is in force; `version`: what the change is about.
fn entry(
    by: By<'_>,
    what: &str,
    before: Option<&PolicyVersion>,
    after: Option<&PolicyVersion>,
    version: &PolicyVersion,
) -> AuditEntry {
    AuditEntry {
        kind: AuditKind::Policy,
        actor: by.actor.id.clone(),
        surface: by.actor.surface,
        run_id: None,
        request_id: by.actor.request_id.clone(),
        data: json!({
            "what": what, "before": before, "after": after, "version": version, "note": by.note,
        }),
    }
}

/// Reads a text off the async threads.
async fn parse(source: String) -> Result<Result<Policy, PolicyError>, CommandError> {
    Tasks::spawn_blocking(move || Policy::parse(&source)).await.map_err(|error| {
        let what = format!("reading a policy: {error}");
        CommandError::Internal { source: StoreError::Corrupt { what } }
    })
}

fn known(found: Option<StoredPolicy>) -> Result<StoredPolicy, StoreError> {
    let missing = || StoreError::Missing { what: "the text of the policy in force".to_owned() };
    found.ok_or_else(missing)
}

impl Inner {
    /// The stored version that a text names.
    async fn named(&self, name: &str) -> Result<StoredPolicy, CommandError> {
        let invalid = |detail: String| CommandError::Invalid {
            code: "policy.version",
            pointer: Some("/version"),
            detail,
        };
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let beginning =
            if name == BUILTIN { Policy::builtin().version().to_owned() } else { name.to_owned() };
        if !(DIGITS_MIN..=64).contains(&beginning.len()) || !beginning.bytes().all(is_digit) {
            let detail = format!(
                "a version is named by {DIGITS_MIN} to 64 hexadecimal digits in lower case, or `{BUILTIN}`"
            );
            return Err(invalid(detail));
        }
        let mut reader = self.store.read().await?;
        let version = match reader.policies().named(&beginning).await? {
            Named::One(version) => version,
            Named::Several => {
                return Err(invalid(format!(
                    "several versions begin with {beginning}: give more digits"
                )));
            }
            Named::None => return Err(CommandError::NotFound { what: "the version" }),
        };
        Ok(known(reader.policies().get(&version).await?)?)
    }

    /// The policy that a text names, read. One that this program cannot read decides nothing.
    pub(super) async fn readable(&self, name: &str) -> Result<Arc<Policy>, CommandError> {
        if name == BUILTIN {
            return Ok(Arc::new(Policy::builtin()));
        }
        let stored = self.named(name).await?;
        let version = stored.info.version;
        let unreadable = |why: &dyn std::fmt::Display| {
            let detail = format!("version {} cannot be used: {why}", version.short());
            CommandError::conflict("policy.unreadable", detail)
        };
        let policy = parse(stored.source).await?.map_err(|error| unreadable(&error))?;
        if policy.version() != version.as_str() {
            return Err(unreadable(&"its text was changed in the store"));
        }
        Ok(Arc::new(policy))
    }
}
