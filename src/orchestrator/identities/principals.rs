//! Principals: see, create, change, disable, enable.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::{
    super::{
        Inner, Orchestrator,
        commands::{Done, Idempotency},
        error::CommandError,
    },
    entry, invalid,
};
use crate::{
    auth::{CallContext, ManagePrincipals, Permit, authn::local_operator},
    domain::{AuditKind, Principal, PrincipalId, PrincipalRecord, Role, Scopes, Timestamp, limits},
    store::{Page, Paged, StoreError, Tx},
};

const ACTION: &str = "principals.manage";

/// Somebody to create.
#[derive(Clone, Debug)]
pub struct NewPrincipal {
    /// What people call them.
    pub name: String,
    /// Their standing.
    pub role: Role,
    /// What narrows it.
    pub scopes: Scopes,
}

/// What to change about somebody; absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct PrincipalPatch {
    /// Their standing.
    pub role: Option<Role>,
    /// What narrows it, as a whole.
    pub scopes: Option<Scopes>,
}

/// Where somebody comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalSource {
    /// A token of the configuration.
    Config,
    /// Somebody made them while the daemon ran.
    Stored,
    /// Whoever may use the daemon's own socket; cannot be changed.
    Local,
}

/// Somebody, as in force now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrincipalView {
    /// Stable id.
    pub id: PrincipalId,
    /// What people call them.
    pub name: String,
    /// Their standing.
    pub role: Role,
    /// What narrows it.
    pub scopes: Scopes,
    /// Where they come from.
    pub source: PrincipalSource,
    /// Since when they may do nothing.
    pub disabled_at: Option<Timestamp>,
    /// When they were here last; up to a minute late after a restart.
    pub last_seen_at: Option<Timestamp>,
    /// When they, or a change about them, were stored first.
    pub created_at: Option<Timestamp>,
    /// By whom.
    pub created_by: Option<PrincipalId>,
}

impl PrincipalView {
    fn of(own: Option<&Principal>, row: Option<&PrincipalRecord>) -> Option<Self> {
        let local = local_operator();
        let (id, name) = match (own, row) {
            (Some(own), _) => (own.id, own.name.clone()),
            (None, Some(row)) if !row.configured => (row.id, row.name.clone()),
            (None, _) => return None,
        };
        let (role, scopes) = match (own, row) {
            (Some(own), Some(row)) => {
                let narrowed = own.clone().narrowed(row.role, &row.scopes);
                (narrowed.role, narrowed.scopes)
            }
            (Some(own), None) => (own.role, own.scopes.clone()),
            (None, Some(row)) => (row.role, row.scopes.clone()),
            (None, None) => return None,
        };
        let source = match own {
            Some(own) if own.id == local.id => PrincipalSource::Local,
            Some(_) => PrincipalSource::Config,
            None => PrincipalSource::Stored,
        };
        Some(Self {
            id,
            name,
            role,
            scopes,
            source,
            disabled_at: row.and_then(|row| row.disabled_at),
            last_seen_at: None,
            created_at: row.map(|row| row.created_at),
            created_by: row.map(|row| row.created_by),
        })
    }
}

impl Orchestrator {
    /// Everybody, those of the configuration too, newest id first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn principals(
        &self,
        _permit: &Permit<ManagePrincipals>,
        page: Page,
    ) -> Result<Paged<PrincipalView>, StoreError> {
        let all = self.inner.everybody().await?;
        Ok(page.of_memory(all, |p| p.id.to_string()))
    }

    /// One of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn principal(
        &self,
        _permit: &Permit<ManagePrincipals>,
        id: PrincipalId,
    ) -> Result<Option<PrincipalView>, StoreError> {
        let all = self.inner.everybody().await?;
        Ok(all.into_iter().find(|p| p.id == id))
    }

    /// Creates somebody, who may act once they have a token or a link.
    ///
    /// # Errors
    /// When the role is not theirs to give, the name is taken or there are too many.
    pub async fn create_principal(
        &self,
        permit: Permit<ManagePrincipals>,
        new: NewPrincipal,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<PrincipalView>, CommandError> {
        let cx = permit.context().clone();
        check_new(&self.inner, &new)?;
        self.inner.allowed(&cx, ACTION, permit.reaches(new.role))?;
        self.inner.allowed(&cx, ACTION, permit.gives(new.role, &new.scopes))?;
        let inner = Arc::clone(&self.inner);
        let done = self
            .inner
            .change_access(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let row = create(tx, &inner, permit.context(), new).await?;
                    view(&inner, &row)
                })
            })
            .await?;
        Ok(done)
    }

    /// Changes somebody's role or scopes. Connections whose rights shrank are cut.
    ///
    /// # Errors
    /// When they are not theirs to change, or stand lower in the configuration.
    pub async fn patch_principal(
        &self,
        permit: Permit<ManagePrincipals>,
        id: PrincipalId,
        patch: PrincipalPatch,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<PrincipalView>, CommandError> {
        check_scopes(patch.scopes.as_ref())?;
        self.change_principal(permit, id, idempotency, "changed", move |row, permit, _| {
            row.role = patch.role.unwrap_or(row.role);
            if let Some(scopes) = patch.scopes {
                row.scopes = scopes;
            }
            permit.reaches(row.role).and_then(|()| permit.gives(row.role, &row.scopes))
        })
        .await
    }

    /// Ends (or gives back) somebody's right to act: tokens, links and connections count as theirs.
    ///
    /// # Errors
    /// When they are not theirs to change.
    pub async fn enable_principal(
        &self,
        permit: Permit<ManagePrincipals>,
        id: PrincipalId,
        is_enabled: bool,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<PrincipalView>, CommandError> {
        let what = if is_enabled { "enabled" } else { "disabled" };
        self.change_principal(permit, id, idempotency, what, move |row, permit, now| {
            row.disabled_at = if is_enabled { None } else { row.disabled_at.or(Some(now)) };
            // Who enables somebody gives them their rights again.
            if is_enabled { permit.gives(row.role, &row.scopes) } else { Ok(()) }
        })
        .await
    }

    async fn change_principal(
        &self,
        permit: Permit<ManagePrincipals>,
        id: PrincipalId,
        idempotency: Option<Idempotency>,
        what: &'static str,
        change: impl FnOnce(
            &mut PrincipalRecord,
            &Permit<ManagePrincipals>,
            Timestamp,
        ) -> Result<(), crate::auth::Denied>
        + Send
        + 'static,
    ) -> Result<Done<PrincipalView>, CommandError> {
        let cx = permit.context().clone();
        let inner = Arc::clone(&self.inner);
        self.inner.allowed(&cx, ACTION, permit.is_another(id))?;
        let done = self
            .inner
            .change_access(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let cx = permit.context();
                    let (mut row, is_new) = row_of(tx, &inner, cx, id).await?;
                    let before = view(&inner, &row)?;
                    inner.allowed(cx, ACTION, permit.reaches(before.role))?;
                    let old = row.clone();
                    inner.allowed(cx, ACTION, change(&mut row, &permit, tx.now()))?;
                    check_ceiling(&inner, &row)?;
                    if row == old {
                        return Ok(before);
                    }
                    if is_new {
                        check_room(tx).await?;
                    }
                    tx.principals().put(&row).await?;
                    let after = view(&inner, &row)?;
                    let data = json!({
                        "what": format!("principal {what}"), "before": before, "after": after,
                    });
                    tx.audit(entry(AuditKind::Rbac, cx, data));
                    Ok(after)
                })
            })
            .await?;
        Ok(done)
    }
}

/// The row of somebody; a fresh one of somebody of the configuration whom nothing was changed about.
async fn row_of(
    tx: &mut Tx,
    inner: &Inner,
    cx: &CallContext,
    id: PrincipalId,
) -> Result<(PrincipalRecord, bool), CommandError> {
    if id == local_operator().id {
        return Err(CommandError::conflict(
            "principal.local",
            "the local operator is whoever may use the daemon's own socket: file permissions decide \
             that, and nobody can be locked out of it",
        ));
    }
    let own = inner.tokens.directory().configured().into_iter().find(|p| p.id == id);
    match (tx.principals().get(id).await?, own) {
        (Some(row), own) if own.is_some() || !row.configured => Ok((row, false)),
        (_, Some(own)) => {
            let row = PrincipalRecord {
                id,
                name: own.name,
                role: own.role,
                scopes: own.scopes,
                configured: true,
                disabled_at: None,
                created_at: tx.now(),
                created_by: cx.principal.id,
            };
            Ok((row, true))
        }
        (_, None) => Err(CommandError::NotFound { what: "the principal" }),
    }
}

/// A row that would not take effect is refused: the configuration is a ceiling.
fn check_ceiling(inner: &Inner, row: &PrincipalRecord) -> Result<(), CommandError> {
    let own = inner.tokens.directory().configured().into_iter().find(|p| p.id == row.id);
    match own {
        Some(own) if row.role > own.role => Err(invalid(
            "/role",
            format!(
                "`{}` stands in the configuration as {}: raise the role there, then send SIGHUP",
                own.name, own.role
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

fn view(inner: &Inner, row: &PrincipalRecord) -> Result<PrincipalView, CommandError> {
    let own = inner.tokens.directory().configured().into_iter().find(|p| p.id == row.id);
    let view = PrincipalView::of(own.as_ref(), Some(row));
    view.ok_or(CommandError::NotFound { what: "the principal" })
}

fn check_new(inner: &Inner, new: &NewPrincipal) -> Result<(), CommandError> {
    inner.check_text("/name", &new.name)?;
    if new.name.parse::<PrincipalId>().is_ok() {
        return Err(invalid("/name", "a name does not look like an id"));
    }
    check_scopes(Some(&new.scopes))
}

pub(super) fn check_scopes(scopes: Option<&Scopes>) -> Result<(), CommandError> {
    match scopes.and_then(Scopes::too_long) {
        Some(list) => {
            let max = limits::SCOPE_ENTRIES_MAX;
            Err(invalid("/scopes", format!("`{list}` has more than {max} entries")))
        }
        None => Ok(()),
    }
}

async fn check_room(tx: &mut Tx) -> Result<(), CommandError> {
    if tx.principals().count().await? < limits::PRINCIPALS_MAX {
        return Ok(());
    }
    let max = limits::PRINCIPALS_MAX;
    Err(CommandError::conflict("principal.full", format!("{max} principals are stored")))
}

/// Stores somebody new, with an audit row.
pub(super) async fn create(
    tx: &mut Tx,
    inner: &Inner,
    cx: &CallContext,
    new: NewPrincipal,
) -> Result<PrincipalRecord, CommandError> {
    let NewPrincipal { name, role, scopes } = new;
    let is_configured = inner.tokens.directory().configured().iter().any(|p| p.name == name);
    if is_configured || tx.principals().named(&name).await?.is_some() {
        let detail = format!("somebody is called `{name}` already; choose another name");
        return Err(CommandError::conflict("principal.exists", detail));
    }
    check_room(tx).await?;
    let row = PrincipalRecord {
        id: PrincipalId::new(tx.ids()),
        name,
        role,
        scopes,
        configured: false,
        disabled_at: None,
        created_at: tx.now(),
        created_by: cx.principal.id,
    };
    tx.principals().put(&row).await?;
    let data = json!({ "what": "principal created", "before": null, "after": row });
    tx.audit(entry(AuditKind::Rbac, cx, data));
    Ok(row)
}

impl Inner {
    /// Everybody, with when they were here last.
    pub(super) async fn everybody(&self) -> Result<Vec<PrincipalView>, StoreError> {
        let rows = self.store.read().await?.principals().all().await?;
        let configured = self.tokens.directory().configured();
        let row_of = |id: PrincipalId| rows.iter().find(|row| row.id == id);
        let own = configured.iter().filter_map(|own| PrincipalView::of(Some(own), row_of(own.id)));
        let is_own = |row: &&PrincipalRecord| configured.iter().any(|own| own.id == row.id);
        let others = rows.iter().filter(|row| !is_own(row));
        let others = others.filter_map(|row| PrincipalView::of(None, Some(row)));
        let seen = |view: PrincipalView| {
            let last_seen_at = self.tokens.directory().last_seen(view.id);
            PrincipalView { last_seen_at, ..view }
        };
        Ok(own.chain(others).map(seen).collect())
    }
}
