//! Erasing a person: the durable jobs, and the rows of a person wherever they stand.
//!
//! Invariants: every statement takes a bounded number of rows, found by a key or in a table that is
//! small by a limit; doing it again changes nothing. What is to be masked is decided above: here
//! texts come and go as they are stored.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
    page::{Page, Paged},
    retention::{Removed, count},
};
use crate::domain::{ConversationId, Erasure, ErasureId, PrincipalId, RunId, Timestamp};

/// Access to erasures and to what is stored about a person.
#[derive(Debug)]
pub struct Erasures<'c> {
    pub(super) conn: &'c mut Conn,
}

/// A run of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOfPerson {
    /// The run.
    pub id: RunId,
    /// Where.
    pub conversation: ConversationId,
    /// Its agent's name.
    pub agent: String,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A row that holds texts, by its key within a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// Its id, or its number.
    pub key: String,
    /// The texts, as stored.
    pub texts: Vec<Option<String>>,
}

macro_rules! columns {
    () => {
        "id, principal, names, pseudonym, step, place, counts, asked_at, asked_by, ended_at, receipt"
    };
}

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
    ("retention", "UPDATE retention SET updated_by = $2 WHERE updated_by = $1"),
    ("holds", "UPDATE holds SET done_by = $2 WHERE done_by = $1"),
    // What they said to a run of somebody else that has not heard it yet.
    ("steers", "UPDATE steers SET principal = $2, input = '\"[erased]\"' WHERE principal = $1"),
    ("erasures", "UPDATE erasures SET asked_by = $2 WHERE asked_by = $1"),
];

impl Erasures<'_> {
    /// Stores a new erasure. There must be no open one of the person.
    pub async fn insert(&mut self, e: &Erasure) -> Result<(), StoreError> {
        query(concat!(
            "INSERT INTO erasures (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        ))
        .bind(e.id.to_string())
        .bind(e.principal.map(|id| id.to_string()))
        .bind(cols::json(&e.names)?)
        .bind(e.pseudonym.to_string())
        .bind(e.step.clone())
        .bind(e.place.clone())
        .bind(cols::json(&e.counts)?)
        .bind(e.asked_at.as_micros())
        .bind(e.asked_by.to_string())
        .bind(e.ended_at.map(Timestamp::as_micros))
        .bind(e.receipt.as_ref().map(cols::json).transpose()?)
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store an erasure"))
    }

    /// Stores how far an erasure came, and whom it is about as long as it says so.
    pub async fn save(&mut self, e: &Erasure) -> Result<(), StoreError> {
        query(
            "UPDATE erasures SET principal = $2, names = $3, step = $4, place = $5, counts = $6, \
             ended_at = $7, receipt = $8 WHERE id = $1",
        )
        .bind(e.id.to_string())
        .bind(e.principal.map(|id| id.to_string()))
        .bind(e.principal.map(|_| cols::json(&e.names)).transpose()?)
        .bind(e.step.clone())
        .bind(e.place.clone())
        .bind(cols::json(&e.counts)?)
        .bind(e.ended_at.map(Timestamp::as_micros))
        .bind(e.receipt.as_ref().map(cols::json).transpose()?)
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store an erasure"))
    }

    /// One erasure.
    pub async fn get(&mut self, id: ErasureId) -> Result<Option<Erasure>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM erasures WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read an erasure"))?;
        row.as_ref().map(erasure).transpose()
    }

    /// The erasures that are not done, oldest first.
    pub async fn open(&mut self) -> Result<Vec<Erasure>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM erasures WHERE ended_at IS NULL ORDER BY id"
        ))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the erasures"))?;
        rows.iter().map(erasure).collect()
    }

    /// Erasures, newest first.
    pub async fn list(&mut self, page: &Page) -> Result<Paged<Erasure>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM erasures WHERE id < $1 ORDER BY id DESC LIMIT $2"
        ))
        .bind(page.before())
        .bind(page.rows())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list erasures"))?;
        let items = rows.iter().map(erasure).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |e| e.id.to_string()))
    }

    /// The accounts, with what they are shown as, that are or were linked to a person; ids of the
    /// links and of the tokens too, and the public part of these.
    pub async fn known_as(
        &mut self,
        person: PrincipalId,
    ) -> Result<(Vec<(String, String)>, Vec<String>), StoreError> {
        let failed = || StoreError::unavailable("read what a person is known as");
        let rows = query("SELECT id, platform, account, display FROM links WHERE principal = $1")
            .bind(person.to_string())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(failed())?;
        let (mut accounts, mut names) = (Vec::new(), Vec::new());
        for row in &rows {
            let mut c = Cols::new(row);
            names.push(c.text()?);
            let (platform, account) = (c.text()?, c.text()?);
            names.push(account.clone());
            names.extend(c.raw::<Option<String>>()?);
            accounts.push((platform, account));
        }
        let rows = query("SELECT id, public_id, label FROM tokens WHERE principal = $1")
            .bind(person.to_string())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(failed())?;
        for row in &rows {
            let mut c = Cols::new(row);
            names.push(c.text()?);
            names.push(c.text()?);
            names.extend(c.raw::<Option<String>>()?);
        }
        Ok((accounts, names))
    }

    /// Whether anything is stored about a person: a row of their own, a conversation, a run.
    pub async fn is_known(&mut self, person: PrincipalId) -> Result<bool, StoreError> {
        let found = query(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM principals WHERE id = $1) \
             OR EXISTS (SELECT 1 FROM principal_seen WHERE principal = $1) \
             OR EXISTS (SELECT 1 FROM conversations WHERE principal = $1) \
             OR EXISTS (SELECT 1 FROM runs WHERE principal = $1) \
             OR EXISTS (SELECT 1 FROM tokens WHERE principal = $1) \
             OR EXISTS (SELECT 1 FROM links WHERE principal = $1)",
        )
        .bind(person.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a person"))?;
        Ok(found.is_some())
    }

    /// Runs that have not ended and are a person's, or stand in a conversation of theirs.
    pub async fn unended(
        &mut self,
        person: PrincipalId,
        limit: u32,
    ) -> Result<Vec<RunId>, StoreError> {
        let rows = query(
            "SELECT id FROM runs WHERE state IN ('queued', 'running', 'awaiting_approval', \
             'paused', 'cancelling') AND (principal = $1 OR conversation_id IN \
             (SELECT id FROM conversations WHERE principal = $1)) ORDER BY id LIMIT $2",
        )
        .bind(person.to_string())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a person's runs"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// Conversations of a person, deleted ones too, from behind one on.
    pub async fn conversations(
        &mut self,
        person: PrincipalId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let rows = query(
            "SELECT id FROM conversations WHERE principal = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(person.to_string())
        .bind(after.to_owned())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read a person's conversations"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// Runs of a person, from behind one on.
    pub async fn runs(
        &mut self,
        person: PrincipalId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<RunOfPerson>, StoreError> {
        let rows = query(
            "SELECT id, conversation_id, agent, ended_at FROM runs \
             WHERE principal = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(person.to_string())
        .bind(after.to_owned())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read a person's runs"))?;
        let run = |row: &Row| {
            let mut c = Cols::new(row);
            Ok(RunOfPerson {
                id: c.parsed()?,
                conversation: c.parsed()?,
                agent: c.text()?,
                ended_at: c.time_opt()?,
            })
        };
        rows.iter().map(run).collect()
    }

    /// Calls of a run that wrote files or started programs: the tool and its arguments.
    pub async fn calls_on_files(
        &mut self,
        run: RunId,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let rows = query(
            "SELECT tool, args FROM tool_calls WHERE run_id = $1 AND attempts > 0 \
             AND tool IN ('write_file', 'edit_file', 'exec', 'shell') ORDER BY step, idx",
        )
        .bind(run.to_string())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the calls of a run"))?;
        let call = |row: &Row| {
            let mut c = Cols::new(row);
            Ok((c.text()?, c.text()?))
        };
        rows.iter().map(call).collect()
    }

    /// Whether a run is a person's or stands in a conversation of theirs; none where there is no
    /// such run.
    pub async fn is_theirs(
        &mut self,
        run: RunId,
        person: PrincipalId,
    ) -> Result<Option<bool>, StoreError> {
        let found = query(
            "SELECT CAST(CASE WHEN r.principal = $2 OR c.principal = $2 THEN 1 ELSE 0 END AS BIGINT) \
             FROM runs r LEFT JOIN conversations c ON c.id = r.conversation_id WHERE r.id = $1",
        )
        .bind(run.to_string())
        .bind(person.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look whose run it is"))?;
        found.map(|row| Cols::new(&row).flag()).transpose()
    }

    /// Conversations that were forked from a conversation, whosever they are.
    pub async fn forks_of(
        &mut self,
        conversation: ConversationId,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let rows = query(
            "SELECT id FROM conversations WHERE forked_from IN (SELECT b.id FROM runs r \
             JOIN bundles b ON b.run_id = r.id WHERE r.conversation_id = $1) ORDER BY id",
        )
        .bind(conversation.to_string())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for forks of a conversation"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// Puts `content` in the place of what a conversation holds of runs that are a person's or stand
    /// in a conversation of theirs, up to `limit` messages; how many. Flush the transaction first.
    pub async fn mask_messages(
        &mut self,
        conversation: ConversationId,
        person: PrincipalId,
        content: &str,
        limit: u32,
    ) -> Result<u64, StoreError> {
        query(
            "UPDATE messages SET content = $3 WHERE conversation_id = $1 AND seq IN (\
             SELECT m.seq FROM messages m JOIN runs r ON r.id = m.run_id \
             LEFT JOIN conversations c ON c.id = r.conversation_id \
             WHERE m.conversation_id = $1 AND m.content <> $3 \
             AND (r.principal = $2 OR c.principal = $2) ORDER BY m.seq LIMIT $4)",
        )
        .bind(conversation.to_string())
        .bind(person.to_string())
        .bind(content.to_owned())
        .bind(i64::from(limit))
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("mask messages"))
    }

    /// Rows of a run that hold texts, from behind a key on. `$1` is the run, `$2` the key, `$3` the
    /// most rows.
    pub async fn texts(
        &mut self,
        kind: TextsOf,
        run: RunId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Texts>, StoreError> {
        let is_number = matches!(kind, TextsOf::Events | TextsOf::Messages);
        let query = query(kind.read()).bind(run.to_string());
        let query = if is_number {
            query.bind(after.parse::<i64>().unwrap_or(0))
        } else {
            query.bind(after.to_owned())
        };
        let rows = query
            .bind(i64::from(limit))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read texts of a run"))?;
        let texts = |row: &Row| {
            let mut c = Cols::new(row);
            let key = if is_number { c.raw::<i64>()?.to_string() } else { c.text()? };
            let texts = (0..kind.columns()).map(|_| c.raw()).collect::<Result<_, _>>()?;
            Ok(Texts { key, texts })
        };
        rows.iter().map(texts).collect()
    }

    /// Puts texts back in the place where they were read.
    pub async fn put_texts(
        &mut self,
        kind: TextsOf,
        run: RunId,
        row: &Texts,
    ) -> Result<(), StoreError> {
        let is_number = matches!(kind, TextsOf::Events | TextsOf::Messages);
        let mut query = query(kind.write()).bind(run.to_string());
        query = if is_number {
            query.bind(row.key.parse::<i64>().unwrap_or(0))
        } else {
            query.bind(row.key.clone())
        };
        for text in &row.texts {
            query = query.bind(text.clone());
        }
        query
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("mask texts of a run"))
    }

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

/// Which rows of a run hold texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextsOf {
    /// Its events.
    Events,
    /// Its messages, in its own conversation.
    Messages,
    /// Its tool calls: arguments and outcome.
    Calls,
    /// Its approvals.
    Approvals,
    /// The run itself: input, output, error.
    Run,
}

impl TextsOf {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Events, Self::Messages, Self::Calls, Self::Approvals, Self::Run];

    const fn columns(self) -> usize {
        match self {
            Self::Events | Self::Messages | Self::Approvals => 1,
            Self::Calls => 2,
            Self::Run => 3,
        }
    }

    const fn read(self) -> &'static str {
        match self {
            Self::Events => {
                "SELECT seq, body FROM events WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
            }
            Self::Messages => {
                "SELECT seq, content FROM messages WHERE conversation_id = \
                 (SELECT conversation_id FROM runs WHERE id = $1) AND run_id = $1 AND seq > $2 \
                 ORDER BY seq LIMIT $3"
            }
            Self::Calls => {
                "SELECT id, args, outcome FROM tool_calls WHERE run_id = $1 AND id > $2 \
                 ORDER BY id LIMIT $3"
            }
            Self::Approvals => {
                "SELECT id, body FROM approvals WHERE run_id = $1 AND id > $2 ORDER BY id LIMIT $3"
            }
            Self::Run => {
                "SELECT id, input, output, error FROM runs WHERE id = $1 AND id > $2 LIMIT $3"
            }
        }
    }

    const fn write(self) -> &'static str {
        match self {
            Self::Events => "UPDATE events SET body = $3 WHERE run_id = $1 AND seq = $2",
            Self::Messages => {
                "UPDATE messages SET content = $3 WHERE conversation_id = \
                 (SELECT conversation_id FROM runs WHERE id = $1) AND run_id = $1 AND seq = $2"
            }
            Self::Calls => {
                "UPDATE tool_calls SET args = $3, outcome = $4 WHERE run_id = $1 AND id = $2"
            }
            Self::Approvals => "UPDATE approvals SET body = $3 WHERE run_id = $1 AND id = $2",
            Self::Run => {
                "UPDATE runs SET input = $3, output = $4, error = $5 WHERE id = $1 AND id = $2"
            }
        }
    }
}

fn erasure(row: &Row) -> Result<Erasure, StoreError> {
    let mut c = Cols::new(row);
    Ok(Erasure {
        id: c.parsed()?,
        principal: c.parsed_opt()?,
        names: c.json_opt::<Vec<String>>()?.unwrap_or_default(),
        pseudonym: c.parsed()?,
        step: c.text()?,
        place: c.text()?,
        counts: c.json()?,
        asked_at: c.time()?,
        asked_by: c.parsed()?,
        ended_at: c.time_opt()?,
        receipt: c.json_opt()?,
    })
}
