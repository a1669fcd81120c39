//! What hostile backups can do: nothing outside of the new directory.

use std::{os::unix::fs::MetadataExt, sync::Arc};

use super::*;
use crate::{
    app::backup::drill::inspect,
    domain::Timestamp,
    store::{
        ReadOnlyStore,
        archive::{Job, Pack, SmallFile, Source, create},
        dump::read_line,
    },
};

/// A schema of this version.
const SCHEMA: i64 = 7;
/// One of long ago.
const OLD_SCHEMA: i64 = 1;

/// Something that a backup can hold.
#[derive(Clone, Debug)]
enum Part {
    File(&'static str, u32),
    Directory(&'static str),
    Link(&'static str, PathBuf),
}

/// A backup whose sums agree, by somebody who knows the recipient.
#[derive(Debug)]
struct Hostile(Vec<Part>);

impl Source for Hostile {
    fn files(&self) -> Result<Vec<SmallFile>, ArchiveError> {
        Ok(Vec::new())
    }

    fn trees(&self, pack: &mut Pack, _: &dyn Fn(&str)) -> Result<(), ArchiveError> {
        for part in &self.0 {
            match part {
                Part::File(name, mode) => {
                    pack.stream(Path::new(name), *mode, 0, 4, b"evil".as_slice())?;
                    pack.count_file();
                }
                Part::Directory(name) => pack.directory(Path::new(name), 0o777, 0)?,
                Part::Link(name, target) => pack.link(Path::new(name), target)?,
            }
        }
        Ok(())
    }
}

struct Scene {
    dir: tempfile::TempDir,
    identity: Identity,
    outside: PathBuf,
    target: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (outside, target) = (dir.path().join("outside"), dir.path().join("data"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("theirs"), "theirs").unwrap();
        Self { identity: Identity::generate().unwrap(), outside, target, dir }
    }

    async fn backup(&self, parts: Vec<Part>) -> PathBuf {
        self.backup_of(SCHEMA, parts).await
    }

    async fn backup_of(&self, schema: i64, parts: Vec<Part>) -> PathBuf {
        let from = tempfile::tempdir().unwrap();
        let made = Target::create(from.path(), &Database::Sqlite, schema, Purpose::Copy).await;
        let mut target = made.unwrap();
        let counters = target.tables().iter().find(|t| t.name == "counters").unwrap().clone();
        for line in ["[\"boot_epoch\",3]\n", "[\"queued\",0]\n"] {
            let row = read_line(&counters, line.as_bytes()).unwrap();
            target.insert(&counters, &[row]).await.unwrap();
        }
        target.commit().await.unwrap();
        let store = ReadOnlyStore::open(from.path(), &Database::Sqlite).await.unwrap();
        let file = self.dir.path().join("backup");
        fs::remove_file(&file).ok();
        let job = Job {
            id: "bak_1".to_owned(),
            made_at: Timestamp::from_micros(1_800_000_000_000_000),
            file: file.clone(),
            recipients: vec![self.identity.recipient()],
            source: Arc::new(Hostile(parts)),
            sign: Arc::new(|_| None),
            progress: Progress::default(),
        };
        create(job, store.snapshot(Purpose::Copy)).await.unwrap();
        file
    }

    async fn restore(&self, parts: Vec<Part>) -> Result<Restored, RestoreError> {
        let (file, progress) = (self.backup(parts).await, Progress::default());
        let checked = check(&file, &self.identity, &progress).await?;
        let place = Place { data_dir: &self.target, database: &Database::Sqlite };
        restore(&file, &self.identity, &checked, place, &progress).await
    }

    /// Nothing was added to, taken from or changed outside.
    fn assert_outside_is_as_it_was(&self) {
        let names = |dir: &Path| {
            let mut names: Vec<String> = fs::read_dir(dir)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&self.outside), ["theirs"]);
        assert_eq!(fs::read_to_string(self.outside.join("theirs")).unwrap(), "theirs");
        let beside = names(self.dir.path());
        let known = ["backup", "data", "outside"];
        assert!(beside.iter().all(|name| known.contains(&name.as_str())), "{beside:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_whose_links_lead_outside_writes_nothing_there() {
    let scene = Scene::new();
    let link = |name| Part::Link(name, scene.outside.clone());
    let theirs = |name| Part::Link(name, scene.outside.join("theirs"));
    for parts in [
        // Through a link, in either order.
        vec![link("workspaces/w/x"), Part::File("workspaces/w/x/evil", 0o600)],
        vec![Part::File("workspaces/w/x/evil", 0o600), link("workspaces/w/x")],
        vec![link("workspaces/w/x"), Part::Directory("workspaces/w/x/evil")],
        vec![link("workspaces/w/x"), Part::Directory("workspaces/w/x")],
        // A link through a link.
        vec![link("workspaces/w/x"), link("workspaces/w/x/evil")],
        vec![link("workspaces/w/x/evil"), link("workspaces/w/x")],
        vec![link("workspaces/w/x"), link("workspaces/w/x/y/evil")],
        // The same name twice.
        vec![theirs("workspaces/w/x"), Part::File("workspaces/w/x", 0o600)],
        vec![Part::File("workspaces/w/x", 0o600), Part::File("workspaces/w/x", 0o600)],
        vec![link("workspaces/w/x"), theirs("workspaces/w/x")],
    ] {
        let said = format!("{parts:?}");
        let refused = scene.restore(parts).await;
        assert!(refused.is_err(), "{said}: {refused:?}");
        assert!(!scene.target.exists(), "{said}");
        scene.assert_outside_is_as_it_was();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_the_daemon_would_follow_are_not_made_but_told_and_no_right_of_others_comes_back()
 {
    let scene = Scene::new();
    let link = |name| Part::Link(name, scene.outside.clone());
    let parts = vec![
        link("pki"),
        link("workspaces"),
        link("workspaces/w"),
        link("restored-configuration"),
        link("agent-runtime.db"),
        link("permission-secret"),
        Part::File("pki/ca.crt", 0o600),
        Part::File("agent-runtime.lock", 0o600),
        Part::File("workspaces/v/program", 0o6777),
        link("workspaces/v/mine"),
    ];
    let restored = scene.restore(parts).await.unwrap();
    let not_made: Vec<&str> =
        restored.not_made.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    let expected = [
        "pki",
        "workspaces",
        "workspaces/w",
        "restored-configuration",
        "agent-runtime.db",
        "permission-secret",
    ];
    assert_eq!(not_made, expected);
    scene.assert_outside_is_as_it_was();
    for name in ["pki", "workspaces", CONFIGURED, "agent-runtime.db"] {
        assert!(!fs::symlink_metadata(scene.target.join(name)).unwrap().is_symlink(), "{name}");
    }
    // What has no place of its own stands beside the store, where nothing reads it.
    assert!(scene.target.join(CONFIGURED).join("agent-runtime.lock").exists());
    assert!(!scene.target.join("agent-runtime.lock").exists());
    assert_eq!(fs::read_link(scene.target.join("workspaces/v/mine")).unwrap(), scene.outside);
    let mode = fs::metadata(scene.target.join("workspaces/v/program")).unwrap().mode();
    assert_eq!(mode & 0o7000, 0, "{mode:o}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_at_the_target_is_never_replaced() {
    let scene = Scene::new();
    let (file, progress) = (scene.backup(Vec::new()).await, Progress::default());
    let checked = check(&file, &scene.identity, &progress).await.unwrap();
    let place = Place { data_dir: &scene.target, database: &Database::Sqlite };
    let restore = || restore(&file, &scene.identity, &checked, place, &progress);
    fs::write(&scene.target, "a file").unwrap();
    assert!(restore().await.is_err());
    assert_eq!(fs::read_to_string(&scene.target).unwrap(), "a file");
    fs::remove_file(&scene.target).unwrap();
    fs::create_dir(&scene.target).unwrap();
    fs::write(scene.target.join("mine"), "mine").unwrap();
    let refused = restore().await;
    assert!(matches!(refused, Err(RestoreError::NotEmpty(_))), "{refused:?}");
    // It came between the look and the end.
    let temporary = beside(&scene.target).unwrap();
    let target = Target::create(&temporary, &Database::Sqlite, checked.head.schema, Purpose::Copy);
    assert!(name(target.await.unwrap(), &temporary, place).await.is_err());
    assert_eq!(fs::read_to_string(scene.target.join("mine")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&scene.target).unwrap().count(), 1);
    fs::remove_dir_all(&temporary).unwrap();
    fs::remove_file(scene.target.join("mine")).unwrap();
    restore().await.unwrap();
    assert!(scene.target.join("agent-runtime.db").exists(), "an empty directory is a place");
    scene.assert_outside_is_as_it_was();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_an_old_schema_comes_back_and_is_drilled_as_a_daemon_would_open_it() {
    let scene = Scene::new();
    let (file, progress) = (scene.backup_of(OLD_SCHEMA, Vec::new()).await, Progress::default());
    let checked = check(&file, &scene.identity, &progress).await.unwrap();
    assert_eq!(checked.head.schema, OLD_SCHEMA);
    let place = Place { data_dir: &scene.target, database: &Database::Sqlite };
    restore(&file, &scene.identity, &checked, place, &progress).await.unwrap();
    let findings = inspect(&scene.target, None).await.unwrap_or_else(|_| panic!("no findings"));
    assert!(findings.iter().all(|finding| finding.ok), "{findings:?}");
}
