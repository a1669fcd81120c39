//! How many runs of each principal wait in the queue, without counting rows. The one writer of a
//! file knows it; where several write, there is a row for each, and what a group changes is added to
//! it when the group is committed.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use super::{
    backend::postgres,
    bulk::Bulk,
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::PrincipalId;

/// The counts, and what the group under way has changed.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Of everybody, this group included; where others write too, what their rows said when this
    /// group has asked, this group not included.
    counts: HashMap<PrincipalId, u64>,
    is_shared: bool,
    /// Who joined (`true`) or left, in order, since the last commit.
    journal: Vec<(PrincipalId, bool)>,
}

const ADD: Bulk = Bulk {
    before: "INSERT INTO queue_counts (principal, waiting) ",
    columns: 2,
    after: " ON CONFLICT (principal) DO UPDATE SET \
        waiting = queue_counts.waiting + excluded.waiting",
};

impl Waiting {
    /// As the store has them.
    pub(super) fn of(counts: impl IntoIterator<Item = (PrincipalId, u64)>) -> Self {
        Self { counts: counts.into_iter().collect(), ..Self::default() }
    }

    /// Where others write too.
    pub(super) fn shared() -> Self {
        Self { is_shared: true, ..Self::default() }
    }

    pub(super) async fn of_principal(
        &mut self,
        conn: &mut Conn,
        principal: PrincipalId,
    ) -> Result<u64, StoreError> {
        if !self.is_shared {
            return Ok(self.known(principal));
        }
        if let Entry::Vacant(place) = self.counts.entry(principal) {
            let stored = query("SELECT waiting FROM queue_counts WHERE principal = $1")
                .bind(principal.to_string())
                .number(conn)
                .await
                .map_err(StoreError::unavailable("read how many runs wait"))?;
            place.insert(u64::try_from(stored.unwrap_or(0)).unwrap_or(0));
        }
        let changed = self.changed().get(&principal).copied().unwrap_or(0);
        Ok(self.known(principal).saturating_add_signed(changed))
    }

    fn known(&self, principal: PrincipalId) -> u64 {
        self.counts.get(&principal).copied().unwrap_or(0)
    }

    /// What the group adds to each count.
    fn changed(&self) -> BTreeMap<PrincipalId, i64> {
        let mut changed = BTreeMap::new();
        for (principal, joined) in &self.journal {
            *changed.entry(*principal).or_default() += if *joined { 1 } else { -1 };
        }
        changed
    }

    /// Adds them to the rows, in the order of their keys: who adds at the same time does so too.
    pub(super) async fn write(&mut self, conn: &mut Conn) -> Result<(), StoreError> {
        let changed: Vec<_> = self.changed().into_iter().filter(|(_, n)| *n != 0).collect();
        ADD.run(conn, &changed, |query, (principal, n)| {
            Ok(query.bind(principal.to_string()).bind(*n))
        })
        .await
        .map(drop)
    }

    pub(super) fn joined(&mut self, principal: PrincipalId) {
        self.count(principal, true);
        self.journal.push((principal, true));
    }

    pub(super) fn left(&mut self, principal: PrincipalId) {
        self.count(principal, false);
        self.journal.push((principal, false));
    }

    fn count(&mut self, principal: PrincipalId, joins: bool) {
        if self.is_shared {
            return;
        }
        let count = self.counts.entry(principal).or_default();
        *count = if joins { count.saturating_add(1) } else { count.saturating_sub(1) };
        if *count == 0 {
            self.counts.remove(&principal);
        }
    }

    /// A place to go back to.
    pub(super) const fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Undoes everything since the mark.
    pub(super) fn undo(&mut self, mark: usize) {
        while self.journal.len() > mark {
            let Some((principal, joined)) = self.journal.pop() else { return };
            self.count(principal, !joined);
        }
    }

    /// The group failed.
    pub(super) fn abandon_group(&mut self) {
        self.undo(0);
        self.forget();
    }

    /// What was changed stands.
    pub(super) fn committed(&mut self) {
        self.journal.clear();
        self.forget();
    }

    fn forget(&mut self) {
        if self.is_shared {
            self.counts.clear();
        }
    }
}

/// Counts all of them again, while nobody else writes.
pub(super) async fn recount(conn: &mut Conn) -> Result<(), sqlx::Error> {
    conn.run(format!(
        "BEGIN; {}; DELETE FROM queue_counts; \
         INSERT INTO queue_counts (principal, waiting) \
         SELECT principal, COUNT(*) FROM runs WHERE state = 'queued' GROUP BY principal; \
         UPDATE counters SET value = (SELECT COUNT(*) FROM runs WHERE state = 'queued') \
         WHERE name = 'queued'; COMMIT",
        postgres::lock_writers()
    ))
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_undone_was_never_counted_and_nobody_is_kept_for_nothing() {
        let (me, you) =
            (PrincipalId::from(Uuid::from_u128(1)), PrincipalId::from(Uuid::from_u128(2)));
        let mut waiting = Waiting::of([(me, 2)]);
        waiting.joined(you);
        let mark = waiting.mark();
        waiting.left(me);
        waiting.left(me);
        waiting.joined(you);
        assert_eq!((waiting.known(me), waiting.known(you)), (0, 2));
        waiting.undo(mark);
        assert_eq!((waiting.known(me), waiting.known(you)), (2, 1));
        waiting.committed();
        waiting.undo(0);
        assert_eq!(waiting.known(you), 1);
        waiting.left(you);
        assert_eq!(waiting.counts.len(), 1);
    }
}
