//! Backups of a daemon, its schedule and what follows.

use std::sync::Arc;

use super::*;
use crate::{
    domain::Role,
    orchestrator::tests::{Fixture, cx_of, fresh, idle},
    store::archive::{Pack, SmallFile, age::Identity},
};

/// A directory with nothing beside the database.
#[derive(Debug)]
pub(in crate::orchestrator) struct Nothing;

impl Source for Nothing {
    fn files(&self) -> Result<Vec<SmallFile>, ArchiveError> {
        Ok(Vec::new())
    }

    fn trees(&self, _: &mut Pack, _: &dyn Fn(&str)) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// The example key pair of the age format's test kit.
pub(in crate::orchestrator) fn identity() -> Identity {
    let text = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    Identity::parse(&crate::domain::Secret::new(text.to_owned())).unwrap()
}

fn permit(f: &Fixture) -> Permit<ManageBackups> {
    let authorizer = f.orchestrator.authorizer();
    authorizer.manage::<ManageBackups>(&cx_of("admin", Role::Admin)).unwrap()
}

async fn ended(f: &Fixture, id: BackupId) -> BackupRecord {
    for _ in 0..2_000 {
        let record = f.orchestrator.backup(&permit(f), id).await.unwrap();
        if record.state != BackupState::Running {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not end");
}

async fn make(f: &Fixture) -> BackupRecord {
    let begun = fresh(f.orchestrator.create_backup(permit(f), None).await.unwrap());
    ended(f, begun.id).await
}

async fn audited(f: &Fixture) -> Vec<String> {
    let filter = crate::store::AuditFilter {
        kind: Some("backup".to_owned()),
        ..crate::store::AuditFilter::default()
    };
    let mut reader = f.orchestrator.inner.store.read().await.unwrap();
    let rows = reader.audit().query(&filter, 100).await.unwrap();
    rows.iter().map(|row| row.data["what"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_asked_for_is_made_recorded_signed_and_old_ones_are_removed() {
    let f = idle().await;
    let dir = f.orchestrator.inner.backups.dir.clone();
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(make(&f).await);
    }
    for record in &made {
        assert_eq!((record.state, record.error.clone()), (BackupState::Done, None));
        assert!(record.rows > 0 && record.bytes > 0, "{record:?}");
    }
    // Two are kept: the oldest goes once the third is whole.
    for _ in 0..500 {
        if audited(&f).await.contains(&"removed".to_owned()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let names: Vec<String> =
        archive::files::list(&dir).unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(names, [made[1].file.clone(), made[2].file.clone()]);
    let states = f.orchestrator.backups(&permit(&f), &Page::default()).await.unwrap().items;
    let states: Vec<_> = states.iter().map(|r| r.state).collect();
    assert_eq!(states, [BackupState::Done, BackupState::Done, BackupState::Pruned]);
    assert_eq!(audited(&f).await, ["began", "made", "began", "made", "began", "made", "removed"]);
    // The last one opens, and this daemon's key signed it.
    let file = dir.join(&made[2].file);
    let read =
        archive::read(&file, &identity(), &mut archive::Nowhere, &Progress::default()).unwrap();
    let signature = read.signed.signature.unwrap();
    let key = f.orchestrator.inner.backups.key.clone();
    assert_eq!(verifies(std::slice::from_ref(&key), &signature, &read.signed.text), Some(true));
    assert_eq!(verifies(std::slice::from_ref(&key), &signature, b"another"), Some(false));
    assert_eq!(verifies(&[], &signature, &read.signed.text), None);
    // What the daemon can check without the secret key, it does.
    let check = f.orchestrator.verify_backup(&permit(&f), made[2].id).await.unwrap();
    assert!(check.ok && check.unchecked.contains("secret key"), "{check:?}");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let check = f.orchestrator.verify_backup(&permit(&f), made[2].id).await.unwrap();
    assert!(!check.ok, "{check:?}");
    std::fs::remove_file(&file).unwrap();
    let check = f.orchestrator.verify_backup(&permit(&f), made[2].id).await.unwrap();
    assert!(!check.ok, "{check:?}");
    let gone = f.orchestrator.verify_backup(&permit(&f), made[0].id).await;
    assert!(matches!(gone, Err(CommandError::Conflict { code: "backup.no_file", .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_backup_is_made_at_a_time_and_one_whose_maker_is_silent_is_given_up() {
    let f = idle().await;
    let inner = Arc::clone(&f.orchestrator.inner);
    let begin = |silent_for: i64| {
        let inner = Arc::clone(&inner);
        async move {
            let stored = inner.store.write(Durability::Full, move |tx| {
                Box::pin(async move {
                    let new = new_backup(tx, "somebody".to_owned(), None);
                    // What was begun before this daemon started is given up at once.
                    let at = new.started_at.as_micros() - silent_for * 1_000_000;
                    assert!(tx.backups().begin(&new, Timestamp::from_micros(at)).await?);
                    Ok::<_, StoreError>(new.id)
                })
            });
            stored.await.unwrap()
        }
    };
    let other = begin(30).await;
    let refused = f.orchestrator.create_backup(permit(&f), None).await;
    assert!(matches!(refused, Err(CommandError::Conflict { code: "backup.running", .. })));
    // Whoever makes it says that it ends.
    let record = f.orchestrator.backup(&permit(&f), other).await.unwrap();
    let failed = BackupRecord { state: BackupState::Failed, ..record };
    let stored = inner.store.write(Durability::Full, move |tx| {
        Box::pin(async move { tx.backups().save(&failed, failed.started_at).await })
    });
    assert!(stored.await.unwrap());
    let silent = begin(61).await;
    assert_eq!(make(&f).await.state, BackupState::Done);
    let given_up = f.orchestrator.backup(&permit(&f), silent).await.unwrap();
    assert_eq!(given_up.state, BackupState::Failed);
    assert!(given_up.error.is_some());
    assert_eq!(audited(&f).await, ["abandoned", "began", "made"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_moment_of_the_schedule_has_one_backup_and_a_failed_one_is_tried_again_later() {
    let f = idle().await;
    let inner = &f.orchestrator.inner;
    let time: DailyTime = "03:30".parse().unwrap();
    let first = inner.begin_due(time).await.unwrap().expect("it is due");
    assert_eq!(first.due, Some(time.last(inner.clock.now())));
    assert_eq!(inner.begin_due(time).await.unwrap(), None, "it is being made");
    let end = |record: &BackupRecord, state, minutes_ago: i64| {
        let at = inner.clock.now().as_micros() - minutes_ago * 60 * 1_000_000;
        let at = Timestamp::from_micros(at);
        let ended = BackupRecord { state, ended_at: Some(at), ..record.clone() };
        inner.store.write(Durability::Full, move |tx| {
            Box::pin(async move { tx.backups().save(&ended, at).await })
        })
    };
    assert!(end(&first, BackupState::Failed, 29).await.unwrap());
    assert_eq!(inner.begin_due(time).await.unwrap(), None, "it failed a moment ago");
    let again = inner.store.write(Durability::Full, move |tx| {
        Box::pin(async move {
            let new = new_backup(tx, "system".to_owned(), first.due);
            assert!(tx.backups().begin(&new, new.started_at).await?, "a failed one is in the way");
            Ok::<_, StoreError>(new)
        })
    });
    let again = again.await.unwrap();
    assert!(end(&again, BackupState::Failed, 31).await.unwrap());
    let third = inner.begin_due(time).await.unwrap().expect("it is tried again");
    Arc::clone(inner).back_up(third.clone(), Stop::default()).await;
    assert_eq!(ended(&f, third.id).await.state, BackupState::Done);
    assert_eq!(inner.begin_due(time).await.unwrap(), None, "it was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_backup_is_never_removed_whatever_the_records_say() {
    let f = idle().await;
    let inner = &f.orchestrator.inner;
    let dir = inner.backups.dir.clone();
    assert_eq!(inner.backups.keep, 2);
    let (first, second) = (make(&f).await, make(&f).await);
    // Newer ones that are gone, cut or empty do not count; nothing older goes for them.
    for damage in [None, Some(0), Some(100)] {
        let newer = make(&f).await;
        settled(&f, &newer).await;
        let file = dir.join(&newer.file);
        match damage {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => {
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .unwrap()
                    .set_len(bytes)
                    .unwrap();
            }
        }
        inner.prune().await;
    }
    let is_here = |record: &BackupRecord| dir.join(&record.file).exists();
    // The third was whole when it was made: the first went then, and that was right.
    assert!(!is_here(&first) && is_here(&second), "the last good one is gone");
    // The newest is as long as it was, and another: what is older is all that is good.
    let (third, fourth) = (make(&f).await, make(&f).await);
    settled(&f, &fourth).await;
    let here = archive::files::list(&dir).unwrap().len();
    let file = dir.join(&fourth.file);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let keep_one = BackupOptions { keep: 1, ..inner.backups.clone() };
    inner.prune_as(&keep_one).await;
    assert_eq!(archive::files::list(&dir).unwrap().len(), here);
    assert!(is_here(&third));
    let again = inner.alerts.raise(AlertKind::BackupFailed, &fourth.file, json!({}));
    assert!(!again, "nobody was told");
}

/// Waits until what follows a backup has been done: pruning is the last of it.
async fn settled(f: &Fixture, record: &BackupRecord) {
    assert_eq!(record.state, BackupState::Done, "{record:?}");
    for _ in 0..200 {
        let good = {
            let mut reader = f.orchestrator.inner.store.read().await.unwrap();
            reader.backups().newest(BackupState::Done, 100).await.unwrap()
        };
        let dir = &f.orchestrator.inner.backups.dir;
        let whole = good.iter().filter(|r| {
            std::fs::metadata(dir.join(&r.file)).is_ok_and(|found| found.len() == r.bytes)
        });
        if whole.count() <= 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("old ones are not removed");
}
