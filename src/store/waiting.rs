//! How many runs of each principal wait in the queue, known to the one writer without counting
//! rows. A store with several writers must keep counter rows instead.

use std::collections::HashMap;

use crate::domain::PrincipalId;

/// The counts, and what the group under way has changed.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    counts: HashMap<PrincipalId, u64>,
    /// Who joined (`true`) or left, in order, since the last commit.
    journal: Vec<(PrincipalId, bool)>,
}

impl Waiting {
    /// As the store has them.
    pub(super) fn of(counts: impl IntoIterator<Item = (PrincipalId, u64)>) -> Self {
        Self { counts: counts.into_iter().collect(), journal: Vec::new() }
    }

    pub(super) fn of_principal(&self, principal: PrincipalId) -> u64 {
        self.counts.get(&principal).copied().unwrap_or(0)
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

    /// What was changed stands.
    pub(super) fn committed(&mut self) {
        self.journal.clear();
    }
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
        assert_eq!((waiting.of_principal(me), waiting.of_principal(you)), (0, 2));
        waiting.undo(mark);
        assert_eq!((waiting.of_principal(me), waiting.of_principal(you)), (2, 1));
        waiting.committed();
        waiting.undo(0);
        assert_eq!(waiting.of_principal(you), 1);
        waiting.left(you);
        assert_eq!(waiting.counts.len(), 1);
    }
}
