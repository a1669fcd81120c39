//! Which tables a dump takes along.

/// What a table is to a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What people and runs have made: every dump holds it.
    Content,
    /// What names this store among others: it goes along when the store itself does, and a second
    /// store makes its own at its first start.
    Identity,
    /// Which daemons are at work on this very database, and what follows from other tables: never
    /// in a dump. A copy would believe in daemons and leases that it has not.
    AtWork,
}

/// What a dump is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A second store: this one may go on.
    Copy,
    /// The store itself goes elsewhere: nobody opens this one again.
    Move,
}

impl Class {
    /// Whether a dump for this purpose holds such a table.
    pub const fn is_kept(self, purpose: Purpose) -> bool {
        match self {
            Self::Content => true,
            Self::Identity => matches!(purpose, Purpose::Move),
            Self::AtWork => false,
        }
    }
}

/// Every table. A test fails when the schema has one that is not here.
const TABLES: &[(&str, Class)] = &[
    ("approval_patterns", Class::Content),
    ("approvals", Class::Content),
    ("audit", Class::Content),
    ("audit_checkpoints", Class::Content),
    ("audit_cut", Class::Content),
    ("backups", Class::Content),
    ("budget_use", Class::Content),
    ("budgets", Class::Content),
    ("bundles", Class::Content),
    ("capabilities", Class::Content),
    ("cluster", Class::Identity),
    ("conversations", Class::Content),
    ("counters", Class::Content),
    ("decisions", Class::Content),
    ("definitions", Class::Content),
    ("egress_rules", Class::Content),
    ("erasures", Class::Content),
    ("events", Class::Content),
    ("holds", Class::Content),
    ("idempotency", Class::Content),
    ("leases", Class::AtWork),
    ("links", Class::Content),
    ("lockdown", Class::Content),
    ("messages", Class::Content),
    ("nudges", Class::AtWork),
    ("pairings", Class::Content),
    ("policies", Class::Content),
    ("policy_activations", Class::Content),
    ("principal_seen", Class::Content),
    ("principals", Class::Content),
    // Counted again at every start.
    ("queue_counts", Class::AtWork),
    ("replicas", Class::AtWork),
    ("retention", Class::Content),
    ("run_scopes", Class::Content),
    ("runs", Class::Content),
    ("sealed_secrets", Class::Content),
    ("secret_ages", Class::Content),
    ("steers", Class::Content),
    ("steps", Class::Content),
    ("tokens", Class::Content),
    ("tool_calls", Class::Content),
    ("usage", Class::Content),
];

/// What a table is; none for one that nobody has thought about yet.
pub(in crate::store) fn known(table: &str) -> Option<Class> {
    TABLES.iter().find(|(name, _)| *name == table).map(|(_, class)| *class)
}

/// What a table is. One that nobody has thought about is kept: too much can be put right.
pub(super) fn of(table: &str) -> Class {
    known(table).unwrap_or(Class::Content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_neither_the_daemons_nor_the_name_of_the_store_and_each_table_stands_once() {
        let names: Vec<&str> = TABLES.iter().map(|(name, _)| *name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        let left = |purpose| {
            let is_left = |(_, class): &&(&str, Class)| !class.is_kept(purpose);
            TABLES.iter().filter(is_left).map(|(name, _)| *name).collect::<Vec<_>>()
        };
        assert_eq!(left(Purpose::Move), ["leases", "nudges", "queue_counts", "replicas"]);
        let of_a_copy = ["cluster", "leases", "nudges", "queue_counts", "replicas"];
        assert_eq!(left(Purpose::Copy), of_a_copy);
    }
}
