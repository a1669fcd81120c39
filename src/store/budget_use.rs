//! What was used of each budget in each day, and what is held for model calls under way.
//!
//! Invariants: the writer remembers the rows that it works with: as long as it lives where it is the
//! only one, until the end of the group where others write too, since it has locked them so long.
//! What a failed job has changed goes back to what it was. Rows are written once for each physical
//! commit, however many calls changed them.

use std::collections::{HashMap, HashSet};

use super::{
    bulk::Bulk,
    cols::{self, Cols},
    db::{Conn, Lock, query},
    error::StoreError,
};
use crate::domain::{BudgetSubject, Day, Usd};

/// Rows that are remembered at most; what is forgotten is read again.
const REMEMBERED_MAX: usize = 4_096;

/// What was used of one budget in one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetUse {
    /// Money that was spent.
    pub used: Usd,
    /// Tokens that were read and written.
    pub used_tokens: u64,
    /// The most that calls under way may spend.
    pub held: Usd,
    /// The most that they may read and write.
    pub held_tokens: u64,
    /// How loud it was said that the end is near: 0 not, 1 at four fifths, 2 at the end.
    pub warned: u32,
}

type Key = (BudgetSubject, Day);

const SET: Bulk = Bulk {
    before: "INSERT INTO budget_use (scope, subject, period, used_nanos, used_tokens, \
        held_nanos, held_tokens, warned) ",
    columns: 8,
    after: " ON CONFLICT (scope, subject, period) DO UPDATE SET \
        used_nanos = excluded.used_nanos, used_tokens = excluded.used_tokens, \
        held_nanos = excluded.held_nanos, held_tokens = excluded.held_tokens, \
        warned = excluded.warned",
};

/// The rows that the writer knows.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// `None`: there is no such row.
    rows: HashMap<Key, Option<BudgetUse>>,
    unwritten: HashSet<Key>,
    /// What was there before each change since the last commit.
    journal: Vec<(Key, Option<BudgetUse>)>,
}

impl Uses {
    pub(super) const fn mark(&self) -> usize {
        self.journal.len()
    }

    pub(super) fn undo(&mut self, mark: usize, is_shared: bool) {
        while self.journal.len() > mark {
            let Some((key, before)) = self.journal.pop() else { break };
            match before {
                // The database may have the newer one.
                Some(_) => self.unwritten.insert(key.clone()),
                None => self.unwritten.remove(&key),
            };
            self.rows.insert(key, before);
        }
        if is_shared {
            // The locks of those that the failed job has read went with it.
            self.rows.retain(|key, _| self.unwritten.contains(key));
        }
    }

    pub(super) fn abandon_group(&mut self) {
        *self = Self::default();
    }

    pub(super) fn committed(&mut self, is_shared: bool) {
        self.journal.clear();
        if is_shared || self.rows.len() > REMEMBERED_MAX {
            self.rows.clear();
        }
    }

    pub(super) async fn get(
        &mut self,
        conn: &mut Conn,
        subject: &BudgetSubject,
        day: Day,
    ) -> Result<Option<BudgetUse>, StoreError> {
        let key = (subject.clone(), day);
        if let Some(known) = self.rows.get(&key) {
            return Ok(*known);
        }
        let mut found = read(conn, subject, day, Lock::Update).await?;
        if found.is_none() && conn.is_shared() {
            // A row that is not there cannot be locked.
            make(conn, subject, day).await?;
            found = read(conn, subject, day, Lock::Update).await?;
        }
        self.rows.insert(key, found);
        Ok(found)
    }

    /// Sets a row that was read before.
    pub(super) fn put(&mut self, subject: &BudgetSubject, day: Day, now: BudgetUse) {
        let key = (subject.clone(), day);
        let before = self.rows.insert(key.clone(), Some(now)).flatten();
        self.unwritten.insert(key.clone());
        self.journal.push((key, before));
    }

    pub(super) async fn write(&mut self, conn: &mut Conn) -> Result<(), StoreError> {
        let keys: Vec<Key> = self.unwritten.drain().collect();
        let known = |key: Key| {
            let row = self.rows.get(&key).copied().flatten()?;
            Some((key, row))
        };
        let rows: Vec<(Key, BudgetUse)> = keys.into_iter().filter_map(known).collect();
        SET.run(conn, &rows, |query, ((subject, day), row)| {
            Ok(query
                .bind(subject.scope.as_str())
                .bind(subject.subject.clone())
                .bind(i64::from(day.number()))
                .bind(row.used.as_nanos())
                .bind(cols::int(row.used_tokens))
                .bind(row.held.as_nanos())
                .bind(cols::int(row.held_tokens))
                .bind(i64::from(row.warned)))
        })
        .await
    }
}

async fn read(
    conn: &mut Conn,
    subject: &BudgetSubject,
    day: Day,
    lock: Lock,
) -> Result<Option<BudgetUse>, StoreError> {
    let row = query(
        "SELECT used_nanos, used_tokens, held_nanos, held_tokens, warned FROM budget_use \
         WHERE scope = $1 AND subject = $2 AND period = $3",
    )
    .bind(subject.scope.as_str())
    .bind(subject.subject.clone())
    .bind(i64::from(day.number()))
    .lock(lock)
    .fetch_optional(conn)
    .await
    .map_err(StoreError::unavailable("read the use of a budget"))?;
    row.map(|row| budget_use(&mut Cols::new(&row))).transpose()
}

/// Makes an empty row where there is none.
async fn make(conn: &mut Conn, subject: &BudgetSubject, day: Day) -> Result<(), StoreError> {
    query(
        "INSERT INTO budget_use (scope, subject, period, used_nanos, used_tokens, held_nanos, \
         held_tokens, warned) VALUES ($1, $2, $3, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING",
    )
    .bind(subject.scope.as_str())
    .bind(subject.subject.clone())
    .bind(i64::from(day.number()))
    .execute(conn)
    .await
    .map(drop)
    .map_err(StoreError::unavailable("begin to count the use of a budget"))
}

/// Reads what is committed.
#[derive(Debug)]
pub struct BudgetUses<'c> {
    pub(super) conn: &'c mut Conn,
}

impl BudgetUses<'_> {
    /// The use of one subject in a day; nothing when nothing was used.
    pub async fn get(
        &mut self,
        subject: &BudgetSubject,
        day: Day,
    ) -> Result<BudgetUse, StoreError> {
        Ok(read(&mut *self.conn, subject, day, Lock::None).await?.unwrap_or_default())
    }

    /// Those who used something in a day, behind `after`, in the order of scope and subject.
    pub async fn of_day(
        &mut self,
        day: Day,
        scope: crate::domain::BudgetScope,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(BudgetSubject, BudgetUse)>, StoreError> {
        let rows = query(
            "SELECT used_nanos, used_tokens, held_nanos, held_tokens, warned, subject \
             FROM budget_use WHERE scope = $1 AND subject > $2 AND period = $3 \
             ORDER BY subject LIMIT $4",
        )
        .bind(scope.as_str())
        .bind(after.to_owned())
        .bind(i64::from(day.number()))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the use of budgets"))?;
        rows.iter()
            .map(|row| {
                let mut c = Cols::new(row);
                let found = budget_use(&mut c)?;
                Ok((BudgetSubject { scope, subject: c.text()? }, found))
            })
            .collect()
    }

    /// Money and tokens that are held over all days by a scope, to be held against the runs.
    #[cfg(test)]
    pub async fn held(&mut self, scope: crate::domain::BudgetScope) -> Result<u64, StoreError> {
        let held: i64 = query(
            "SELECT CAST(COALESCE(SUM(held_tokens), 0) AS BIGINT) FROM budget_use WHERE scope = $1",
        )
        .bind(scope.as_str())
        .one_number(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the use of budgets"))?;
        Ok(u64::try_from(held).unwrap_or(0))
    }
}

fn budget_use(c: &mut Cols<'_>) -> Result<BudgetUse, StoreError> {
    Ok(BudgetUse {
        used: Usd::from_nanos(c.raw()?),
        used_tokens: c.number()?,
        held: Usd::from_nanos(c.raw()?),
        held_tokens: c.number()?,
        warned: c.number()?,
    })
}
