//! What a dump holds, and what a store takes back.

use super::*;
use crate::store::dump::{Snapshot, Table, TableSum, Target, TargetError, read_line};

/// A store with so many runs.
pub(in crate::store) async fn filled(dir: &Path, runs: usize) -> Fixture {
    let f = open(dir).await.unwrap();
    for _ in 0..runs {
        insert(&f, false).await.unwrap();
    }
    f
}

async fn sums(snapshot: &mut Snapshot) -> Vec<TableSum> {
    let mut sums = Vec::new();
    for table in snapshot.tables().to_vec() {
        sums.push(snapshot.sum(&table).await.unwrap());
    }
    sums
}

/// The database of a directory of these tests.
fn database(dir: &Path) -> Database {
    match std::fs::read_to_string(dir.join(ADDRESS)) {
        Ok(url) => Database::Postgres(url.parse().unwrap()),
        Err(_) => Database::Sqlite,
    }
}

/// Copies every row into the store of another directory.
async fn copy(snapshot: &mut Snapshot, to: &Path) -> Result<(), StoreError> {
    let mut target = Target::create(to, &database(to), snapshot.schema()).await.unwrap();
    assert_eq!(target.tables(), snapshot.tables());
    for table in snapshot.tables().to_vec() {
        let mut cursor = snapshot.rows(&table);
        let mut is_more = true;
        while is_more {
            let mut lines = Vec::new();
            is_more = snapshot.next(&mut cursor, &mut lines).await?;
            let rows = lines.split_inclusive(|b| *b == b'\n').map(|l| read_line(&table, l));
            target.insert(&table, &rows.collect::<Result<Vec<_>, _>>()?).await?;
        }
    }
    target.commit().await
}

#[tokio::test]
async fn every_table_of_the_database_comes_back_row_by_row() {
    let (from, to) = (directory(), directory());
    let f = filled(from.path(), 150).await;
    let mut snapshot = f.store.snapshot().await.unwrap();
    // The migrations say which tables there are: a dump without one of them would lose it.
    let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut made: Vec<String> = Vec::new();
    for file in std::fs::read_dir(texts).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("CREATE TABLE "));
        made.extend(names.map(|n| n.trim_end_matches(" (").to_owned()));
    }
    made.sort();
    assert!(made.len() > 25, "{made:?}");
    let names: Vec<&str> = snapshot.tables().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, made);
    copy(&mut snapshot, to.path()).await.unwrap();
    let before = sums(&mut snapshot).await;
    let again = ReadOnlyStore::open(to.path(), &database(to.path())).await.unwrap();
    assert_eq!(sums(&mut again.snapshot().await.unwrap()).await, before);
    let rows = |name: &str| before.iter().find(|t| t.name == name).unwrap().rows;
    assert_eq!((rows("runs"), rows("events"), rows("audit")), (150, 150, 150));
    // A daemon opens it and goes on where the other one was.
    let g = open(to.path()).await.unwrap();
    assert_eq!(g.store.boot_epoch(), f.store.boot_epoch() + 1);
    insert(&g, false).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_is_one_moment_whatever_is_written_meanwhile() {
    let dir = directory();
    let f = filled(dir.path(), 100).await;
    let mut snapshot = f.store.snapshot().await.unwrap();
    let runs = snapshot.tables().iter().find(|t| t.name == "runs").unwrap().clone();
    let mut cursor = snapshot.rows(&runs);
    let mut lines = Vec::new();
    assert!(snapshot.next(&mut cursor, &mut lines).await.unwrap(), "one batch holds everything");
    for _ in 0..50 {
        insert(&f, false).await.unwrap();
    }
    while snapshot.next(&mut cursor, &mut lines).await.unwrap() {}
    assert_eq!(cursor.finish().rows, 100);
    assert_eq!(snapshot.count(&runs).await.unwrap(), 100);
    snapshot.end().await;
    let mut now = f.store.snapshot().await.unwrap();
    assert_eq!(now.count(&runs).await.unwrap(), 150);
}

#[tokio::test]
async fn a_store_is_filled_whole_or_not_at_all_and_never_over_another() {
    let (from, to) = (directory(), on_sqlite());
    let f = filled(from.path(), 5).await;
    let snapshot = f.store.snapshot().await.unwrap();
    let mut target = Target::create(to.path(), &Database::Sqlite, snapshot.schema()).await.unwrap();
    let table: Table = snapshot.tables().iter().find(|t| t.name == "counters").unwrap().clone();
    let row = read_line(&table, b"[\"x\",1]\n").unwrap();
    target.insert(&table, std::slice::from_ref(&row)).await.unwrap();
    assert!(target.insert(&table, &[row]).await.is_err(), "the same key twice");
    drop(target);
    // As it was made: nothing of the above counts.
    let left = ReadOnlyStore::open(to.path(), &Database::Sqlite).await.unwrap();
    assert_eq!(left.snapshot().await.unwrap().starts().await.unwrap(), 0);
    let refused = Target::create(to.path(), &Database::Sqlite, snapshot.schema()).await;
    assert!(matches!(refused, Err(TargetError::Open(OpenError::Directory { .. }))), "{refused:?}");
    let fresh = on_sqlite();
    let refused = Target::create(fresh.path(), &Database::Sqlite, 9_999).await;
    assert!(matches!(refused, Err(TargetError::Open(OpenError::Version { .. }))), "{refused:?}");
    assert!(!database_file(fresh.path()).exists());
}
