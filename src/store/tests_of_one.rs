//! What only one of the two databases has.

mod lost;
mod shared;
mod sqlite;

use super::{
    audit::Verifier,
    tests::{ADDRESS, Fixture, Place, entry, in_database, insert_as, on_postgres, on_sqlite, open},
    *,
};
use crate::domain::{RunId, RunState};

/// Another store on the same database, as a second replica has it.
async fn beside(place: &Place) -> (Place, Fixture) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::copy(place.path().join(ADDRESS), dir.path().join(ADDRESS)).expect("a file");
    let other = Place { dir, database: None };
    let f = open(other.path()).await.expect("a second store");
    (other, f)
}

/// Every row of the audit trail is there, in order, by one chain; how many there are.
async fn check_trail(store: &Store) -> u64 {
    let mut reader = store.read().await.expect("a reader");
    let mut verifier = Verifier::default();
    loop {
        let filter = AuditFilter { after: verifier.end().0, ..AuditFilter::default() };
        let rows = reader.audit().query(&filter, 500).await.expect("rows");
        if rows.is_empty() {
            return verifier.end().0;
        }
        rows.iter().try_for_each(|row| verifier.check(row)).expect("an unbroken chain");
    }
}

/// The ids of every stored run.
async fn stored(store: &Store) -> Vec<RunId> {
    let mut reader = store.read().await.expect("a reader");
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page = Page::new(Some(500), cursor);
        let paged = reader.runs().list(&RunFilter::default(), &page).await.expect("a page");
        ids.extend(paged.items.iter().map(|run| run.id));
        cursor = paged.next_cursor;
        if cursor.is_none() {
            ids.sort_by_key(ToString::to_string);
            return ids;
        }
    }
}
