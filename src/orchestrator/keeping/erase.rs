//! Erasing a person: asked for, carried out step by step, told in a receipt.
//!
//! Invariants: what is asked for is a row before anything is done; each step can be done again, so
//! that a crash costs at most one batch; the person's name and id are forgotten before the last step,
//! so that nothing of them is written after the database was compacted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{entry, words::Person};
use crate::{
    auth::{ErasePersons, Permit, SeeRetention, authn::local_operator},
    domain::{AuditKind, Erasure, ErasureId, PrincipalId, Role, Timestamp, limits},
    orchestrator::{
        Duty, Inner, Orchestrator,
        commands::{Done, Idempotency},
        error::CommandError,
    },
    runtime::Stop,
    store::{Page, Paged, StoreError},
};

/// Further names by which somebody is known.
const NAMES_MAX: usize = 32;
/// Pause before what failed is tried again, or somebody else may have been asked.
const AGAIN: Duration = Duration::from_secs(5);
/// Pause before it is looked again whether a hold was lifted; who lifts one here says so.
const HELD_AGAIN: Duration = Duration::from_secs(60);
/// Why nothing is erased that is held.
const HELD: &str = "erase.held";

/// Whose data is to be erased.
#[derive(Clone, Debug, Default)]
pub struct NewErasure {
    /// Further names by which they are known: a full name, an address.
    pub names: Vec<String>,
    /// Agents whose workspaces are emptied as a whole: those that nobody else uses.
    pub workspaces: Vec<String>,
    /// Whether nothing is done, only counted.
    pub dry_run: bool,
}

/// An erasure as it is shown: never whom it is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErasureView {
    /// Id; none for a dry run.
    pub id: Option<ErasureId>,
    /// What stands for the person from now on.
    pub pseudonym: Option<PrincipalId>,
    /// What is being done; `done` at the end, `dry_run` where nothing is.
    pub step: String,
    /// Rows and files so far, by what was done with them.
    pub counts: BTreeMap<String, u64>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// By whom.
    pub asked_by: PrincipalId,
    /// When it was done.
    pub ended_at: Option<Timestamp>,
    /// What it came to, at the end.
    pub receipt: Option<Value>,
}

impl From<Erasure> for ErasureView {
    fn from(e: Erasure) -> Self {
        let is_done = e.ended_at.is_some();
        Self {
            id: Some(e.id),
            pseudonym: Some(e.pseudonym),
            step: e.step,
            counts: e.counts,
            asked_at: e.asked_at,
            asked_by: e.asked_by,
            ended_at: e.ended_at,
            receipt: e.receipt.filter(|_| is_done),
        }
    }
}

impl Orchestrator {
    /// Asks for the erasure of a person's data. It is carried out from here on, over restarts; asking
    /// again while it is gives the same erasure.
    ///
    /// # Errors
    /// When nobody knows them, the configuration still names them, or something of theirs is held.
    pub async fn erase(
        &self,
        permit: Permit<ErasePersons>,
        person: PrincipalId,
        new: NewErasure,
        idempotency: Option<Idempotency>,
    ) -> Result<Done<ErasureView>, CommandError> {
        self.inner.check_erasable(&permit, person, &new)?;
        self.inner.check_names(person, &new.names).await?;
        if new.dry_run {
            let cx = permit.context().clone();
            return self.inner.count_person(person, cx.principal.id).await.map(Done::Fresh);
        }
        let cx = permit.context().clone();
        let done = self
            .inner
            // Alone, so that two who ask at the same time ask for one.
            .administer(&cx, idempotency, move |tx| {
                Box::pin(async move {
                    let cx = permit.context();
                    tx.flush().await?;
                    let open = tx.erasures().open().await?;
                    if let Some(open) = open.into_iter().find(|e| e.principal == Some(person)) {
                        return Ok(open.into());
                    }
                    if !tx.erasures().is_known(person).await? {
                        return Err(CommandError::NotFound { what: "the principal" });
                    }
                    if tx.keeping().is_held_person(person).await? {
                        return Err(held());
                    }
                    let row = tx.principals().get(person).await?;
                    if let Some(row) = &row
                        && row.role >= Role::Admin
                        && cx.principal.role < Role::Overlord
                    {
                        return Err(CommandError::NotFound { what: "the principal" });
                    }
                    let (_, known_as) = tx.erasures().known_as(person).await?;
                    let mut names = new.names;
                    names.extend(row.map(|row| row.name));
                    names.extend(known_as);
                    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
                    names.dedup();
                    let erasure = Erasure {
                        id: ErasureId::new(tx.ids()),
                        principal: Some(person),
                        names,
                        pseudonym: PrincipalId::new(tx.ids()),
                        step: super::steps::FIRST.to_owned(),
                        place: String::new(),
                        counts: BTreeMap::new(),
                        asked_at: tx.now(),
                        asked_by: cx.principal.id,
                        ended_at: None,
                        receipt: Some(json!({ "empty": new.workspaces })),
                    };
                    tx.erasures().insert(&erasure).await?;
                    let data = json!({
                        "what": "asked", "erasure": erasure.id, "pseudonym": erasure.pseudonym,
                    });
                    tx.audit(entry(AuditKind::Erase, Some(cx), data));
                    Ok(ErasureView::from(erasure))
                })
            })
            .await?;
        self.inner.keeper.erasures.notify_one();
        Ok(done)
    }

    /// Erasures, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn erasures(
        &self,
        _permit: &Permit<SeeRetention>,
        page: &Page,
    ) -> Result<Paged<ErasureView>, StoreError> {
        let found = self.inner.store.read().await?.erasures().list(page).await?;
        let items = found.items.into_iter().map(ErasureView::from).collect();
        Ok(Paged { items, next_cursor: found.next_cursor })
    }

    /// One of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn erasure(
        &self,
        _permit: &Permit<SeeRetention>,
        id: ErasureId,
    ) -> Result<Option<ErasureView>, StoreError> {
        let found = self.inner.store.read().await?.erasures().get(id).await?;
        Ok(found.map(ErasureView::from))
    }
}

pub(super) fn held() -> CommandError {
    CommandError::conflict(
        HELD,
        "the person, or a conversation that they have part in, is under a legal hold: \
         `agent-runtime retention show` lists the holds",
    )
}

impl Inner {
    fn check_erasable(
        &self,
        permit: &Permit<ErasePersons>,
        person: PrincipalId,
        new: &NewErasure,
    ) -> Result<(), CommandError> {
        if person == local_operator().id {
            return Err(CommandError::conflict(
                "principal.local",
                "the local operator is whoever may use the daemon's own socket, and nobody",
            ));
        }
        permit.is_another(person)?;
        if let Some(own) =
            self.tokens.directory().configured().into_iter().find(|own| own.id == person)
        {
            return Err(CommandError::conflict(
                "erase.configured",
                format!(
                    "`{}` stands in the configuration: take the token out there, send SIGHUP, and \
                     ask again",
                    own.name
                ),
            ));
        }
        let is_line =
            |name: &String| name.trim().len() >= 2 && name.len() <= limits::NAME_BYTES_MAX;
        if new.names.len() > NAMES_MAX || !new.names.iter().all(is_line) {
            let max = limits::NAME_BYTES_MAX;
            return Err(invalid("/names", format!("up to {NAMES_MAX} names of 2 to {max} bytes")));
        }
        let agents = self.authorizer.agents();
        for name in &new.workspaces {
            if !agents.keys().any(|agent| agent.as_str() == name) {
                return Err(invalid(
                    "/workspaces",
                    "names of agents that are configured".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// A name goes wherever it stands, in the audit trail too: it must not be what tells somebody or
    /// something else.
    async fn check_names(&self, person: PrincipalId, names: &[String]) -> Result<(), CommandError> {
        let mut taken: Vec<String> =
            self.authorizer.agents().keys().map(|agent| agent.as_str().to_lowercase()).collect();
        let others = self.everybody().await?.into_iter().filter(|view| view.id != person);
        taken.extend(others.map(|view| view.name.to_lowercase()));
        let is_id = |name: &str| {
            let is_uuid = |rest: &str| {
                rest.len() == 36 && rest.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
            };
            name.split_once('_').is_some_and(|(_, rest)| is_uuid(rest))
        };
        let own = person.to_string();
        let is_anothers = |name: &&String| {
            let name = name.trim();
            name != own && (is_id(name) || taken.contains(&name.to_lowercase()))
        };
        match names.iter().find(is_anothers) {
            None => Ok(()),
            Some(name) => Err(invalid(
                "/names",
                format!("`{name}` names somebody else, an agent, or a thing of the daemon's"),
            )),
        }
    }

    /// What an erasure would find, without doing anything.
    async fn count_person(
        &self,
        person: PrincipalId,
        asked_by: PrincipalId,
    ) -> Result<ErasureView, CommandError> {
        const PAGE: u32 = 500;
        let mut reader = self.store.read().await?;
        if !reader.erasures().is_known(person).await? {
            return Err(CommandError::NotFound { what: "the principal" });
        }
        if reader.keeping().is_held_person(person).await? {
            return Err(held());
        }
        let mut counts = BTreeMap::new();
        let mut after = String::new();
        loop {
            let page = reader.erasures().conversations(person, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.to_string();
            *counts.entry("conversations".to_owned()).or_default() += page.len() as u64;
        }
        after.clear();
        loop {
            let page = reader.erasures().runs(person, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id.to_string();
            *counts.entry("runs".to_owned()).or_default() += page.len() as u64;
        }
        let running = reader.erasures().unended(person, PAGE).await?.len() as u64;
        counts.insert("runs in progress".to_owned(), running);
        let (accounts, known_as) = reader.erasures().known_as(person).await?;
        counts.insert("accounts".to_owned(), accounts.len() as u64);
        let row = reader.principals().get(person).await?;
        let mut names: Vec<String> = row.map(|row| row.name).into_iter().collect();
        names.extend(known_as);
        drop(reader);
        let somebody = Person::new(person, person, &names);
        let (mut after, mut own) = (0, BTreeSet::new());
        loop {
            let looked = self.look_through(&somebody, after, &mut own).await?;
            let Some(last) = looked.last else { break };
            after = last;
            *counts.entry("audit rows".to_owned()).or_default() += looked.rows.len() as u64;
            *counts.entry("runs of others".to_owned()).or_default() += looked.touched.len() as u64;
        }
        Ok(ErasureView {
            id: None,
            pseudonym: None,
            step: "dry_run".to_owned(),
            counts,
            asked_at: self.clock.now(),
            asked_by,
            ended_at: None,
            receipt: None,
        })
    }
}

fn invalid(pointer: &'static str, detail: String) -> CommandError {
    CommandError::Invalid { code: "request.invalid", pointer: Some(pointer), detail }
}

/// Carries out what was asked for, until the daemon stops.
pub(in crate::orchestrator) async fn keep(inner: Arc<Inner>, stop: Stop) {
    loop {
        // Where there are others, somebody may have asked one of them.
        let mut again = inner.membership.is_shared().then_some(AGAIN);
        let open = match inner.store.read().await {
            Ok(mut reader) => reader.erasures().open().await,
            Err(error) => Err(error),
        };
        if open.is_err() {
            again = Some(AGAIN);
        }
        for erasure in open.unwrap_or_default() {
            if !inner.membership.has(Duty::Erasures) {
                break;
            }
            let id = erasure.id;
            tokio::select! {
                done = inner.carry_out(erasure) => if let Err(error) = done {
                    let wait = not_done(id, &error);
                    again = Some(again.map_or(wait, |again| again.min(wait)));
                },
                // Dropped between two batches or in one: it goes on from there.
                () = stop.wait_soft() => return,
            }
        }
        let wait = async {
            match again {
                Some(again) => tokio::time::sleep(again).await,
                None => std::future::pending().await,
            }
        };
        // All are cancel-safe.
        tokio::select! {
            () = inner.keeper.erasures.notified() => {}
            () = wait => {}
            () = stop.wait_soft() => return,
        }
    }
}

/// Says why an erasure does not go on now; how long to wait before it is tried again.
fn not_done(erasure: ErasureId, error: &CommandError) -> Duration {
    if matches!(error, CommandError::Conflict { code: HELD, .. }) {
        tracing::warn!(%erasure, "an erasure waits: something of it is under a legal hold");
        return HELD_AGAIN;
    }
    metrics::counter!("agent_runtime_erasure_failures_total").increment(1);
    tracing::error!(%erasure, %error, "an erasure is not done; it goes on");
    AGAIN
}
