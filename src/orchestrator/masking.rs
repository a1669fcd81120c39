//! What people write is stored, and shown to models, without registered secrets.
//!
//! Invariant: what was masked is in the audit trail, by its place and never by its value, in the
//! transaction that stores what is left: somebody who typed a secret should replace it.

use serde_json::json;

use super::{Inner, transition::Actor};
use crate::{
    domain::{AuditEntry, AuditKind, RunId, UserInput},
    runtime::Redactor,
    store::Tx,
};

/// Masks the parts of one command and remembers which of them held a secret.
#[derive(Clone, Debug)]
pub(super) struct Masking {
    redactor: Redactor,
    places: Vec<&'static str>,
}

impl Inner {
    pub(super) fn masking(&self) -> Masking {
        Masking { redactor: self.redactor.clone(), places: Vec::new() }
    }
}

impl Masking {
    /// A text as it may be stored. `place` names the part of the command.
    pub(super) fn text(&mut self, place: &'static str, text: &str) -> String {
        if self.redactor.finds_secret(text) && !self.places.contains(&place) {
            self.places.push(place);
        }
        self.redactor.redact(text).into_owned()
    }

    /// The same where there may be none.
    pub(super) fn optional(&mut self, place: &'static str, text: Option<String>) -> Option<String> {
        text.map(|text| self.text(place, &text))
    }

    /// The same for what an agent is asked.
    pub(super) fn input(&mut self, input: UserInput) -> UserInput {
        input.map(|text| self.text("input", text))
    }

    /// Records what was masked. Called in the job that stores it.
    pub(super) fn record(&self, tx: &mut Tx, actor: &Actor, run_id: Option<RunId>) {
        for place in &self.places {
            tx.audit(AuditEntry {
                kind: AuditKind::SecretBlocked,
                actor: actor.id.clone(),
                surface: actor.surface,
                run_id,
                request_id: actor.request_id.clone(),
                data: json!({ "place": place }),
            });
        }
    }
}
