//! Rows that name a person: those that go with them, and those that stay under a pseudonym.

use super::{
    super::{
        cols::{self, Cols},
        db::{Row, query},
        error::StoreError,
        retention::{Removed, count},
    },
    Erasures,
};
use crate::domain::{ConversationId, PrincipalId};

/// What goes with a person; `$1` is the person.
const REMOVED: &[(&str, &str)] = &[
    ("tokens", "DELETE FROM tokens WHERE principal = $1"),
    ("links", "DELETE FROM links WHERE principal = $1"),
    ("budgets", "DELETE FROM budgets WHERE scope = 'principal' AND subject = $1"),
    ("budget_use", "DELETE FROM budget_use WHERE scope = 'principal' AND subject = $1"),
    ("principal_seen", "DELETE FROM principal_seen WHERE principal = $1"),
    ("approval_patterns", "DELETE FROM approval_patterns WHERE approved_by = $1"),
    ("principals", "DELETE FROM principals WHERE id = $1"),
];

/// Where a person stands in rows that stay: `$1` is the person, `$2` the pseudonym. Tables that
/// administrators fill, small by their limits. What a person wrote there goes.
const SWAPPED: &[(&str, &str)] = &[
    ("tokens", "UPDATE tokens SET created_by = $2 WHERE created_by = $1"),
    ("tokens", "UPDATE tokens SET revoked_by = $2 WHERE revoked_by = $1"),
    ("links", "UPDATE links SET created_by = $2 WHERE created_by = $1"),
    ("links", "UPDATE links SET revoked_by = $2 WHERE revoked_by = $1"),
    ("pairings", "UPDATE pairings SET decided_by = $2, reason = NULL WHERE decided_by = $1"),
    ("principals", "UPDATE principals SET created_by = $2 WHERE created_by = $1"),
    ("policies", "UPDATE policies SET created_by = $2, note = NULL WHERE created_by = $1"),
    (
        "policy_activations",
        "UPDATE policy_activations SET done_by = $2, note = NULL WHERE done_by = $1",
    ),
    ("egress_rules", "UPDATE egress_rules SET created_by = $2, note = NULL WHERE created_by = $1"),
    ("budgets", "UPDATE budgets SET updated_by = $2 WHERE updated_by = $1"),
    ("sealed_secrets", "UPDATE sealed_secrets SET changed_by = $2 WHERE changed_by = $1"),
    ("lockdown", "UPDATE lockdown SET done_by = $2, reason = NULL WHERE done_by = $1"),
    ("backups", "UPDATE backups SET asked_by = $2 WHERE asked_by = $1"),
    ("retention", "UPDATE retention SET updated_by = $2 WHERE updated_by = $1"),
    ("holds", "UPDATE holds SET done_by = $2 WHERE done_by = $1"),
    // What they said to a run of somebody else that has not heard it yet.
    ("steers", "UPDATE steers SET principal = $2, input = '\"[erased]\"' WHERE principal = $1"),
    ("erasures", "UPDATE erasures SET asked_by = $2 WHERE asked_by = $1"),
];

impl Erasures<'_> {
    /// Takes the bundle that a conversation continues from away, where its run is gone.
    pub async fn drop_head(&mut self, conversation: ConversationId) -> Result<(), StoreError> {
        query(
            "UPDATE conversations SET head_bundle_id = NULL WHERE id = $1 \
             AND head_bundle_id IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM bundles b WHERE b.id = head_bundle_id)",
        )
        .bind(conversation.to_string())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("mend a conversation"))
    }

    /// Removes what goes with a person.
    pub async fn remove_person(
        &mut self,
        person: PrincipalId,
        accounts: &[(String, String)],
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        for (table, sql) in REMOVED {
            let done = query(sql)
                .bind(person.to_string())
                .execute(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("remove what is stored about a person"))?;
            count(removed, table, done);
        }
        for (platform, account) in accounts {
            let done = query("DELETE FROM pairings WHERE platform = $1 AND account = $2")
                .bind(platform.clone())
                .bind(account.clone())
                .execute(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("remove requests for links"))?;
            count(removed, "pairings", done);
        }
        Ok(())
    }

    /// Removes when a person was last here; another daemon may have noted it meanwhile.
    pub async fn remove_visits(&mut self, person: PrincipalId) -> Result<(), StoreError> {
        query("DELETE FROM principal_seen WHERE principal = $1")
            .bind(person.to_string())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("remove when a person was here"))
    }

    /// Puts a pseudonym in the place of a person wherever they did something to what stays.
    pub async fn swap_person(
        &mut self,
        person: PrincipalId,
        pseudonym: PrincipalId,
        swapped: &mut Removed,
    ) -> Result<(), StoreError> {
        for (table, sql) in SWAPPED {
            let done = query(sql)
                .bind(person.to_string())
                .bind(pseudonym.to_string())
                .execute(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("put a pseudonym in a person's place"))?;
            count(swapped, &format!("{table}.pseudonym"), done);
        }
        Ok(())
    }

    /// Puts a pseudonym into the sums of use of some days; how many rows.
    pub async fn swap_usage(
        &mut self,
        person: PrincipalId,
        pseudonym: PrincipalId,
        days: std::ops::RangeInclusive<i64>,
    ) -> Result<u64, StoreError> {
        let mut swapped = 0;
        for day in days {
            let done = query("UPDATE usage SET principal = $3 WHERE day = $1 AND principal = $2")
                .bind(day)
                .bind(person.to_string())
                .bind(pseudonym.to_string())
                .execute(&mut *self.conn)
                .await
                .map_err(StoreError::unavailable("put a pseudonym into the sums of use"))?;
            swapped += done;
        }
        Ok(swapped)
    }

    /// The first and the last day of the sums of use.
    pub async fn days_of_use(&mut self) -> Result<Option<(i64, i64)>, StoreError> {
        let row = query("SELECT MIN(day), MAX(day) FROM usage")
            .fetch_one(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the days of use"))?;
        let mut c = Cols::new(&row);
        let (first, last): (Option<i64>, Option<i64>) = (c.raw()?, c.raw()?);
        Ok(first.zip(last))
    }

    /// Puts a pseudonym in the place of who revoked capabilities, between two ids.
    pub async fn swap_capabilities(
        &mut self,
        person: PrincipalId,
        pseudonym: PrincipalId,
        after: &str,
        limit: u32,
    ) -> Result<(u64, Option<String>), StoreError> {
        let row = query(
            "SELECT MAX(id) FROM (SELECT id FROM capabilities WHERE id > $1 ORDER BY id LIMIT $2) p",
        )
        .bind(after.to_owned())
        .bind(i64::from(limit))
        .fetch_one(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read capabilities"))?;
        let last: Option<String> = Cols::new(&row).raw()?;
        let Some(last) = last else { return Ok((0, None)) };
        let done = query(
            "UPDATE capabilities SET revoked_by = $2, reason = NULL \
             WHERE id > $3 AND id <= $4 AND revoked_by = $1",
        )
        .bind(person.to_string())
        .bind(pseudonym.to_string())
        .bind(after.to_owned())
        .bind(last.clone())
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("put a pseudonym into capabilities"))?;
        Ok((done, Some(last)))
    }

    /// Stored answers to repeated requests, from behind a place on: whose, under which key, what.
    pub async fn answers(
        &mut self,
        after: &(String, String),
        limit: u32,
    ) -> Result<Vec<(String, String, String)>, StoreError> {
        let rows = query(
            "SELECT principal, idem_key, response FROM idempotency \
             WHERE (principal, idem_key) > ($1, $2) ORDER BY principal, idem_key LIMIT $3",
        )
        .bind(after.0.clone())
        .bind(after.1.clone())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read stored answers"))?;
        let answer = |row: &Row| {
            let mut c = Cols::new(row);
            Ok((c.text()?, c.text()?, c.text()?))
        };
        rows.iter().map(answer).collect()
    }

    /// Removes a stored answer.
    pub async fn remove_answer(&mut self, principal: &str, key: &str) -> Result<(), StoreError> {
        query("DELETE FROM idempotency WHERE principal = $1 AND idem_key = $2")
            .bind(principal.to_owned())
            .bind(key.to_owned())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("remove a stored answer"))
    }

    /// Puts another actor and other data into a row of the audit trail. Its hash stays: a row that
    /// vouches for it must be written in the same transaction.
    pub async fn replace_audit_row(
        &mut self,
        n: u64,
        actor: &str,
        data: &str,
    ) -> Result<(), StoreError> {
        query("UPDATE audit SET actor = $2, data = $3 WHERE n = $1")
            .bind(cols::int(n))
            .bind(actor.to_owned())
            .bind(data.to_owned())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("replace a row of the audit trail"))
    }
}
