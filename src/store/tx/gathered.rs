//! Writes what a group gathered: rows that are only ever appended, in few statements.

use std::collections::HashMap;

use super::{
    super::{bulk::Bulk, cols, definitions::without_shared, error::StoreError, usage},
    Committed, Tx,
};
use crate::domain::EventId;

impl Tx {
    /// Writes every row that the group gathered, but for the audit trail's.
    pub(super) async fn write_gathered(&mut self) -> Result<(), StoreError> {
        self.known.unwritten.write(&mut self.conn).await?;
        self.flush_messages().await?;
        self.flush_last_seqs().await?;
        self.flush_events().await?;
        self.flush_steps().await?;
        usage::write(&mut self.conn, std::mem::take(&mut self.pending.usage)).await?;
        self.uses.write(&mut self.conn).await?;
        self.flush_bundles().await?;
        self.flush_decisions().await?;
        self.flush_capabilities().await?;
        for (run, owner, seq) in std::mem::take(&mut self.pending.nudges) {
            self.replicas().nudge(run, owner, seq).await?;
        }
        Ok(())
    }

    async fn flush_messages(&mut self) -> Result<(), StoreError> {
        const INSERT: Bulk = Bulk::insert(
            "INSERT INTO messages (conversation_id, seq, id, run_id, role, content, at) ",
            7,
        );
        let rows = std::mem::take(&mut self.pending.messages);
        let redactor = self.redactor.clone();
        INSERT
            .run(&mut self.conn, &rows, |query, m| {
                // A backstop: the callers redact what they let in.
                let content = cols::json(&m.content)?;
                let content = if redactor.finds_secret(&content) {
                    let value = serde_json::from_str(&content).unwrap_or_default();
                    cols::json(&redactor.redact_json(value))?
                } else {
                    content
                };
                Ok(query
                    .bind(m.conversation_id.to_string())
                    .bind(cols::int(m.seq))
                    .bind(m.id.to_string())
                    .bind(m.run_id.to_string())
                    .bind(m.role.as_str())
                    .bind(content)
                    .bind(m.at.as_micros()))
            })
            .await
    }

    async fn flush_last_seqs(&mut self) -> Result<(), StoreError> {
        const UPDATE: Bulk = Bulk {
            before: "UPDATE conversations SET last_seq = v.column2 FROM (",
            columns: 2,
            after: ") AS v WHERE conversations.id = v.column1",
        };
        let rows = self.known.take_new_seqs();
        UPDATE
            .run(&mut self.conn, &rows, |query, (id, last)| {
                Ok(query.bind(id.to_string()).bind(cols::int(*last)))
            })
            .await
    }

    async fn flush_events(&mut self) -> Result<(), StoreError> {
        const INSERT: Bulk =
            Bulk::insert("INSERT INTO events (run_id, seq, conversation_id, epoch, at, body) ", 6);
        let rows = std::mem::take(&mut self.pending.events);
        INSERT
            .run(&mut self.conn, &rows, |query, (event, body)| {
                Ok(query
                    .bind(event.run_id.to_string())
                    .bind(cols::int(event.seq))
                    .bind(event.conversation_id.to_string())
                    .bind(cols::int(event.epoch))
                    .bind(event.at.as_micros())
                    .bind(body.clone()))
            })
            .await?;
        self.pending
            .committed
            .extend(rows.into_iter().map(|(event, body)| Committed { event, bytes: body.len() }));
        Ok(())
    }

    async fn flush_steps(&mut self) -> Result<(), StoreError> {
        const INSERT: Bulk = Bulk::insert(
            "INSERT INTO steps (run_id, n, model, input_tokens, output_tokens, \
            cost_nanos, reported, at) ",
            8,
        );
        let rows = std::mem::take(&mut self.pending.steps);
        INSERT
            .run(&mut self.conn, &rows, |query, step| {
                Ok(query
                    .bind(step.run_id.to_string())
                    .bind(i64::from(step.n))
                    .bind(step.model.clone())
                    .bind(cols::int(step.input_tokens))
                    .bind(cols::int(step.output_tokens))
                    .bind(step.cost.as_nanos())
                    .bind(i64::from(step.reported))
                    .bind(step.at.as_micros()))
            })
            .await
    }

    async fn flush_bundles(&mut self) -> Result<(), StoreError> {
        const INSERT: Bulk = Bulk::insert(
            "INSERT INTO bundles (id, run_id, conversation_id, parent_id, kind, \
            body, created_at) ",
            7,
        );
        let rows = std::mem::take(&mut self.pending.bundles);
        INSERT
            .run(&mut self.conn, &rows, |query, (bundle, body)| {
                Ok(query
                    .bind(bundle.id.to_string())
                    .bind(bundle.run_id.to_string())
                    .bind(bundle.conversation_id.to_string())
                    .bind(bundle.parent_id.map(|id| id.to_string()))
                    .bind(bundle.kind.as_str())
                    .bind(body.clone())
                    .bind(bundle.created_at.as_micros()))
            })
            .await
    }

    async fn flush_decisions(&mut self) -> Result<(), StoreError> {
        const INSERT: Bulk = Bulk::insert(
            "INSERT INTO decisions (call_id, n, run_id, at, agent, \
            policy_version, verdict, rule, layer, question, definition) ",
            11,
        );
        let rows = std::mem::take(&mut self.pending.decisions);
        let mut kept: HashMap<String, String> = HashMap::new();
        for d in rows.iter().filter(|d| !d.definition.is_empty()) {
            if !kept.contains_key(&d.definition) {
                let body = self.redactor.redact(&d.definition).into_owned();
                let hash = self.definitions().keep(&body, d.at).await?;
                kept.insert(d.definition.clone(), hash);
            }
        }
        INSERT
            .run(&mut self.conn, &rows, |query, d| {
                Ok(query
                    .bind(d.call_id.to_string())
                    .bind(cols::int(d.n))
                    .bind(d.run_id.to_string())
                    .bind(d.at.as_micros())
                    .bind(d.agent.to_string())
                    .bind(d.policy_version.as_str().to_owned())
                    .bind(d.verdict.as_str())
                    .bind(d.rule.clone())
                    .bind(d.layer.clone())
                    .bind(self.redactor.redact(&d.question).into_owned())
                    .bind(kept.get(&d.definition).cloned()))
            })
            .await
    }

    async fn flush_capabilities(&mut self) -> Result<(), StoreError> {
        const INSERT: Bulk = Bulk::insert(
            "INSERT INTO capabilities (id, parent_id, run_id, call_id, agent, \
            token, issued_at, expires_at, definition) ",
            9,
        );
        let mut rows = Vec::with_capacity(self.pending.capabilities.len());
        for mut c in std::mem::take(&mut self.pending.capabilities) {
            // Those of runs are alike; those of calls are of their calls.
            let parts = c.call.is_none().then(|| without_shared(&c.token)).flatten();
            let parts = parts.map(|(own, shared)| (own, shared.to_owned()));
            let definition = match parts {
                Some((own, shared)) => {
                    c.token = own;
                    Some(self.definitions().keep(&shared, c.issued_at).await?)
                }
                None => None,
            };
            rows.push((c, definition));
        }
        INSERT
            .run(&mut self.conn, &rows, |query, (c, definition)| {
                Ok(query
                    .bind(c.id.to_string())
                    .bind(c.parent.map(|id| id.to_string()))
                    .bind(c.run.to_string())
                    .bind(c.call.map(|id| id.to_string()))
                    .bind(c.agent.clone())
                    .bind(c.token.clone())
                    .bind(c.issued_at.as_micros())
                    .bind(c.expires_at.as_micros())
                    .bind(definition.clone()))
            })
            .await
    }

    pub(super) async fn flush_audit(&mut self) -> Result<(), StoreError> {
        const INSERT: Bulk = Bulk::insert(
            "INSERT INTO audit (n, id, at, kind, actor, surface, run_id, \
            request_id, data, prev_hash, hash) ",
            11,
        );
        let mut rows = Vec::with_capacity(self.pending.audit.len());
        for (at, entry) in std::mem::take(&mut self.pending.audit) {
            let id = EventId::new(&self.ids);
            rows.push(self.chain.append(id, at, entry, &self.redactor)?);
        }
        INSERT
            .run(&mut self.conn, &rows, |query, (row, data)| {
                Ok(query
                    .bind(cols::int(row.n))
                    .bind(row.id.to_string())
                    .bind(row.at.as_micros())
                    .bind(row.kind.clone())
                    .bind(row.actor.clone())
                    .bind(row.surface.clone())
                    .bind(row.run_id.map(|id| id.to_string()))
                    .bind(row.request_id.clone())
                    .bind(data.clone())
                    .bind(row.prev_hash.clone())
                    .bind(row.hash.clone()))
            })
            .await
    }
}
