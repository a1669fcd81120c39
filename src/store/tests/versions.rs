//! Databases of other releases.

use super::*;

/// Runs a statement behind the store's back.
async fn behind_its_back(place: &Place, sql: &'static str) {
    if let Some(database) = &place.database {
        database.psql(sql);
        return;
    }
    let url = format!("sqlite://{}", database_file(place.path()).display());
    let mut conn = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_refused_unchanged_in_words_that_say_what_to_do() {
    let place = directory();
    let f = open(place.path()).await.unwrap();
    insert(&f, false).await.unwrap();
    let boot = f.store.boot_epoch();
    f.tasks.stop().hard();
    f.tasks.wait().await;
    drop(f);
    behind_its_back(
        &place,
        "INSERT INTO _sqlx_migrations \
         (version, description, installed_on, success, checksum, execution_time) \
         SELECT 9999, 'from the future', installed_on, success, checksum, 0 \
         FROM _sqlx_migrations WHERE version = 1",
    )
    .await;
    let refused = open(place.path()).await.err().expect("refused");
    assert!(matches!(refused, OpenError::Newer { found: 9999, .. }), "{refused:?}");
    let words = refused.to_string();
    for word in ["9999", "newer", "start that version", "backup", "not changed"] {
        assert!(words.contains(word), "`{word}` is not in: {words}");
    }
    behind_its_back(&place, "DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    let f = open(place.path()).await.unwrap();
    assert_eq!(f.store.boot_epoch(), boot + 1, "the refused start was not counted");
}

#[tokio::test]
async fn a_database_whose_history_is_another_is_refused() {
    let place = directory();
    let f = open(place.path()).await.unwrap();
    f.tasks.stop().hard();
    f.tasks.wait().await;
    drop(f);
    behind_its_back(&place, "UPDATE _sqlx_migrations SET description = 'x', checksum = (SELECT checksum FROM _sqlx_migrations WHERE version = 2) WHERE version = 1").await;
    let refused = open(place.path()).await.err().expect("refused");
    assert!(matches!(refused, OpenError::Version { .. }), "{refused:?}");
}
