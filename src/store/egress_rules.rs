//! Which machines agents may reach, as administrators changed it.

use super::{
    cols::Cols,
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::{EgressRule, EgressRuleId};

/// Access to the rules.
#[derive(Debug)]
pub struct EgressRules<'c> {
    pub(super) conn: &'c mut Conn,
}

impl EgressRules<'_> {
    /// Every rule, oldest first. There are at most
    /// [`EGRESS_RULES_MAX`](crate::domain::limits::EGRESS_RULES_MAX).
    pub async fn all(&mut self) -> Result<Vec<EgressRule>, StoreError> {
        let rows = query(
            "SELECT id, agent, verdict, rule, note, created_at, created_by FROM egress_rules \
             ORDER BY id",
        )
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the egress rules"))?;
        rows.iter().map(egress_rule).collect()
    }

    /// Stores a rule. The same one for the same agent must not be there.
    pub async fn insert(&mut self, rule: &EgressRule) -> Result<(), StoreError> {
        query(
            "INSERT INTO egress_rules (id, agent, verdict, rule, note, created_at, created_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(rule.id.to_string())
        .bind(rule.agent.as_ref().map(ToString::to_string))
        .bind(rule.verdict.as_str())
        .bind(rule.rule.to_string())
        .bind(rule.note.clone())
        .bind(rule.created_at.as_micros())
        .bind(rule.created_by.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store an egress rule"))
    }

    /// Removes a rule; whether it was there.
    pub async fn remove(&mut self, id: EgressRuleId) -> Result<bool, StoreError> {
        query("DELETE FROM egress_rules WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *self.conn)
            .await
            .map(|done| done > 0)
            .map_err(StoreError::unavailable("remove an egress rule"))
    }
}

fn egress_rule(row: &Row) -> Result<EgressRule, StoreError> {
    let mut c = Cols::new(row);
    Ok(EgressRule {
        id: c.parsed()?,
        agent: c.parsed_opt()?,
        verdict: c.parsed()?,
        rule: c.parsed()?,
        note: c.raw()?,
        created_at: c.time()?,
        created_by: c.parsed()?,
    })
}
