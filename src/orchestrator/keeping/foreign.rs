//! What a person left in the runs and conversations of others.
//!
//! Invariant: others keep their runs and their words; of the person's own words, wherever they were
//! copied to, only that there were some.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{trail::Touched, words::Person};
use crate::{
    domain::{ConversationId, RunId},
    orchestrator::Inner,
    store::{Durability, StoreError, Texts, TextsOf},
};

/// Rows that are read and written at once.
const PAGE: u32 = 100;

impl Inner {
    /// Takes a person's words out of a run of somebody else; how many rows.
    pub(super) async fn mask_in_run(
        &self,
        person: &Person,
        run: RunId,
        touched: &Touched,
    ) -> Result<u64, StoreError> {
        let said = self.said_in(person, run, touched).await?;
        let person = person.having_said(said);
        let mut masked = 0;
        for kind in TextsOf::ALL {
            let mut after = String::new();
            loop {
                let mut reader = self.store.read().await?;
                let page = reader.erasures().texts(kind, run, &after, PAGE).await?;
                drop(reader);
                let Some(last) = page.last() else { break };
                after.clone_from(&last.key);
                let changed: Vec<Texts> =
                    page.into_iter().filter_map(|row| without(&person, row)).collect();
                masked += changed.len() as u64;
                if !changed.is_empty() {
                    self.put_texts(kind, run, changed).await?;
                }
            }
        }
        Ok(masked)
    }

    async fn put_texts(
        &self,
        kind: TextsOf,
        run: RunId,
        rows: Vec<Texts>,
    ) -> Result<(), StoreError> {
        self.store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move {
                    tx.flush().await?;
                    for row in &rows {
                        tx.erasures().put_texts(kind, run, row).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// What a person wrote to a run of somebody else, from its events.
    async fn said_in(
        &self,
        person: &Person,
        run: RunId,
        touched: &Touched,
    ) -> Result<Vec<String>, StoreError> {
        let mut said = Vec::new();
        let mut questions = BTreeSet::new();
        let mut after = String::new();
        loop {
            let mut reader = self.store.read().await?;
            let page = reader.erasures().texts(TextsOf::Events, run, &after, PAGE).await?;
            drop(reader);
            let Some(last) = page.last() else { return Ok(said) };
            after.clone_from(&last.key);
            for text in page.iter().flat_map(|row| row.texts.iter().flatten()) {
                let Ok(event) = serde_json::from_str::<Value>(text) else { continue };
                said.extend(said_by(person, &event, touched, &mut questions));
            }
        }
    }

    /// Masks what conversations of others hold of a person's runs: those that they worked in, and
    /// those that were forked from any of these. How many messages.
    pub(super) async fn mask_copies(&self, person: &Person) -> Result<u64, StoreError> {
        let mut own = BTreeSet::new();
        let mut known = BTreeSet::new();
        let mut pending = Vec::new();
        let mut after = String::new();
        loop {
            let mut reader = self.store.read().await?;
            let page = reader.erasures().conversations(person.id, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.to_string();
            own.extend(page.iter().copied());
            pending.extend(page);
        }
        after.clear();
        loop {
            let mut reader = self.store.read().await?;
            let page = reader.erasures().runs(person.id, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id.to_string();
            pending.extend(page.iter().map(|run| run.conversation));
        }
        let mut masked = 0;
        while let Some(conversation) = pending.pop() {
            if !known.insert(conversation) {
                continue;
            }
            if !own.contains(&conversation) {
                masked += self.mask_messages(person, conversation).await?;
            }
            let mut reader = self.store.read().await?;
            pending.extend(reader.erasures().forks_of(conversation).await?);
        }
        Ok(masked)
    }

    async fn mask_messages(
        &self,
        person: &Person,
        conversation: ConversationId,
    ) -> Result<u64, StoreError> {
        let content = json!([{ "type": "text", "text": super::words::ERASED }]).to_string();
        let (id, mut masked) = (person.id, 0);
        loop {
            let content = content.clone();
            let rows = self
                .store
                .write(Durability::Normal, move |tx| {
                    Box::pin(async move {
                        tx.flush().await?;
                        tx.erasures().mask_messages(conversation, id, &content, PAGE).await
                    })
                })
                .await?;
            masked += rows;
            if rows < u64::from(PAGE) {
                return Ok(masked);
            }
        }
    }
}

/// The row without the person; none where it did not hold them.
fn without(person: &Person, mut row: Texts) -> Option<Texts> {
    let mut is_changed = false;
    for text in row.texts.iter_mut().flatten() {
        // Most texts are JSON; the output of a run is not.
        let clean = match serde_json::from_str::<Value>(text) {
            Ok(mut value) => person.scrub_json(&mut value, false).then(|| value.to_string()),
            Err(_) => person.scrub(text),
        };
        if let Some(clean) = clean {
            *text = clean;
            is_changed = true;
        }
    }
    is_changed.then_some(row)
}

/// What an event holds of a person's own words.
fn said_by(
    person: &Person,
    event: &Value,
    touched: &Touched,
    questions: &mut BTreeSet<String>,
) -> Option<String> {
    let kind = event.get("type")?.as_str()?;
    let data = event.get("data")?;
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
    match kind {
        "run.steer_accepted" | "run.steer_failed" => {
            touched.steers.contains(&text("steer_id")?).then(|| text("input")).flatten()
        }
        "approval.decided" => {
            let decision = data.get("decision")?;
            let is_theirs = decision.get("principal")?.as_str()? == person.id.to_string();
            let reason = || decision.get("reason")?.as_str().map(str::to_owned);
            is_theirs.then(reason).flatten()
        }
        "run.cancel_requested" | "run.cancelled" => {
            touched.cancelled.then(|| text("reason")).flatten()
        }
        "tool.requested" => {
            if text("tool")? == "ask_user" {
                questions.extend(text("call_id"));
            }
            None
        }
        // Who answered which question is not told apart: all answers of the run go.
        "tool.completed" => (touched.answered && questions.contains(&text("call_id")?))
            .then(|| text("output"))
            .flatten(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{IdSource, ManualClock, PrincipalId};

    #[test]
    fn only_their_own_words_are_taken_from_the_run_of_somebody_else() {
        let ids = IdSource::new(Arc::new(ManualClock::at_secs(1)), |b| b.fill(7));
        let ann = PrincipalId::new(&ids);
        let person = Person::new(ann, ann, &[]);
        let touched =
            Touched { steers: ["str_1".to_owned()].into(), cancelled: false, answered: true };
        let mut questions = BTreeSet::new();
        let mut said = |event: Value| said_by(&person, &event, &touched, &mut questions);
        let steer = |id: &str| json!({ "type": "run.steer_accepted", "data": { "steer_id": id, "input": "hurry" } });
        assert_eq!(said(steer("str_1")).as_deref(), Some("hurry"));
        assert_eq!(said(steer("str_2")), None);
        let decided = |who: String| json!({ "type": "approval.decided", "data": { "decision": { "principal": who, "reason": "why" } } });
        assert_eq!(said(decided(ann.to_string())).as_deref(), Some("why"));
        assert_eq!(said(decided("prn_other".to_owned())), None);
        let cancel = json!({ "type": "run.cancel_requested", "data": { "reason": "x" } });
        assert_eq!(said(cancel), None);
        let asked =
            json!({ "type": "tool.requested", "data": { "tool": "ask_user", "call_id": "c" } });
        assert_eq!(said(asked), None);
        let done = |id: &str| json!({ "type": "tool.completed", "data": { "call_id": id, "output": "at noon" } });
        assert_eq!(said(done("c")).as_deref(), Some("at noon"));
        assert_eq!(said(done("d")), None);
    }
}
