//! What a dump holds, and what a store takes back.

use super::*;
use crate::store::dump::{
    Purpose, Snapshot, Table, TableSum, Target, TargetError, known, read_line,
};

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
    let target = Target::create(to, &database(to), snapshot.schema(), Purpose::Copy).await;
    let mut target = target.unwrap();
    assert_eq!(target.tables(), snapshot.tables());
    fill(snapshot, &mut target).await?;
    target.commit().await
}

async fn fill(snapshot: &mut Snapshot, target: &mut Target) -> Result<(), StoreError> {
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
    Ok(())
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
    let unknown: Vec<&String> = made.iter().filter(|name| known(name).is_none()).collect();
    assert!(unknown.is_empty(), "no list of store::dump::classes says what to do with {unknown:?}");
    let names: Vec<&str> = snapshot.tables().iter().map(|t| t.name.as_str()).collect();
    made.retain(|name| known(name).unwrap().is_kept(Purpose::Copy));
    assert_eq!(names, made);
    copy(&mut snapshot, to.path()).await.unwrap();
    let before = sums(&mut snapshot).await;
    let again = ReadOnlyStore::open(to.path(), &database(to.path())).await.unwrap();
    assert_eq!(sums(&mut again.snapshot(Purpose::Copy).await.unwrap()).await, before);
    let rows = |name: &str| before.iter().find(|t| t.name == name).unwrap().rows;
    assert_eq!((rows("runs"), rows("events"), rows("audit")), (150, 150, 150));
    // A daemon opens it and goes on where the other one was, under a name of its own and alone.
    let g = open(to.path()).await.unwrap();
    assert_eq!(g.store.boot_epoch(), f.store.boot_epoch() + 1);
    let cluster = async |f: &Fixture| f.store.read().await.unwrap().cluster().get().await.unwrap();
    let (old, new) = (cluster(&f).await.unwrap(), cluster(&g).await.unwrap());
    assert_ne!(old.id, new.id, "it would be taken for the other one");
    let replicas = g.store.read().await.unwrap().replicas().newest(10).await.unwrap();
    let replicas: Vec<u64> = replicas.iter().map(|replica| replica.boot_epoch).collect();
    assert_eq!(replicas, [g.store.boot_epoch()], "it believes in daemons of the other one");
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
    let create = async |dir: &Path, schema| {
        Target::create(dir, &Database::Sqlite, schema, Purpose::Copy).await
    };
    let mut target = create(to.path(), snapshot.schema()).await.unwrap();
    let table: Table = snapshot.tables().iter().find(|t| t.name == "counters").unwrap().clone();
    let row = read_line(&table, b"[\"x\",1]\n").unwrap();
    target.insert(&table, std::slice::from_ref(&row)).await.unwrap();
    assert!(target.insert(&table, &[row]).await.is_err(), "the same key twice");
    drop(target);
    // As it was made: nothing of the above counts.
    let left = ReadOnlyStore::open(to.path(), &Database::Sqlite).await.unwrap();
    assert_eq!(left.snapshot(Purpose::Copy).await.unwrap().starts().await.unwrap(), 0);
    let refused = create(to.path(), snapshot.schema()).await;
    assert!(matches!(refused, Err(TargetError::Open(OpenError::Directory { .. }))), "{refused:?}");
    let fresh = on_sqlite();
    let refused = create(fresh.path(), 9_999).await;
    assert!(matches!(refused, Err(TargetError::Open(OpenError::Version { .. }))), "{refused:?}");
    assert!(!database_file(fresh.path()).exists());
}

#[tokio::test]
async fn a_store_that_goes_elsewhere_keeps_its_name_and_leaves_its_daemons_behind() {
    let (from, to) = (directory(), on_sqlite());
    let f = filled(from.path(), 3).await;
    let old = f.store.read().await.unwrap().cluster().get().await.unwrap().unwrap();
    let store = ReadOnlyStore::open(from.path(), &database(from.path())).await.unwrap();
    let mut snapshot = store.snapshot(Purpose::Move).await.unwrap();
    let clock = ManualClock::at_secs(1_800_000_000);
    assert_eq!(snapshot.at_work(&clock).await.unwrap(), 1, "the one that has it open");
    let schema = snapshot.schema();
    let mut target =
        Target::create(to.path(), &Database::Sqlite, schema, Purpose::Move).await.unwrap();
    fill(&mut snapshot, &mut target).await.unwrap();
    target.commit().await.unwrap();
    let g = open(to.path()).await.unwrap();
    let new = g.store.read().await.unwrap().cluster().get().await.unwrap().unwrap();
    assert_eq!(new.id, old.id);
    let replicas = g.store.read().await.unwrap().replicas().newest(10).await.unwrap();
    assert_eq!(replicas.len(), 1, "{replicas:?}");
}
