//! What comes back from a backup, and what is refused.

use std::{collections::BTreeMap, fs, io::Read, path::Path, sync::Arc};

use super::{age::Identity, *};
use crate::{
    domain::Timestamp,
    store::{
        StoreError,
        dump::{RowCells, Table},
        tests::dump::filled,
    },
};

#[derive(Debug)]
struct Beside;

impl Source for Beside {
    fn files(&self) -> Result<Vec<SmallFile>, ArchiveError> {
        Ok(vec![SmallFile { name: "configuration.toml".to_owned(), content: b"a = 1".to_vec() }])
    }

    fn trees(&self, pack: &mut Pack, step: &dyn Fn(&str)) -> Result<(), ArchiveError> {
        step("workspaces");
        pack.directory(Path::new("workspaces/w"), 0o700, 0)?;
        let long = format!("workspaces/w/{}/{}", "d".repeat(120), "n".repeat(150));
        pack.stream(
            Path::new(&long),
            0o640,
            1_800_000_000,
            200_000,
            vec![7_u8; 200_000].as_slice(),
        )?;
        pack.count_file();
        // Shorter and longer than it said: other programs write while it is read.
        pack.stream(Path::new("workspaces/w/short"), 0o600, 0, 4, b"ab".as_slice())?;
        pack.count_file();
        pack.stream(Path::new("workspaces/w/long"), 0o600, 0, 4, b"abcdef".as_slice())?;
        pack.count_file();
        pack.link(Path::new("workspaces/w/link"), Path::new("/etc/passwd"))
    }
}

#[derive(Default)]
struct Taken {
    rows: BTreeMap<String, Vec<RowCells>>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Taker for Taken {
    fn head(&mut self, _: &Head) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn rows(&mut self, table: &Table, rows: Vec<RowCells>) -> Result<(), ArchiveError> {
        self.rows.entry(table.name.clone()).or_default().extend(rows);
        Ok(())
    }

    fn file(
        &mut self,
        name: &Path,
        _: u32,
        _: u64,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        self.files.insert(name.to_str().unwrap().to_owned(), bytes);
        Ok(())
    }

    fn directory(&mut self, name: &Path, _: u32) -> Result<(), ArchiveError> {
        self.files.insert(format!("{}/", name.display()), Vec::new());
        Ok(())
    }

    fn link(&mut self, name: &Path, target: &Path) -> Result<(), ArchiveError> {
        let to = target.to_str().unwrap().as_bytes().to_vec();
        self.files.insert(format!("{} ->", name.display()), to);
        Ok(())
    }
}

fn job(dir: &Path, identity: &Identity) -> Job {
    Job {
        id: "bak_1".to_owned(),
        made_at: Timestamp::from_micros(1_800_000_000_000_000),
        file: dir.join("backups").join("one"),
        recipients: vec![identity.recipient()],
        source: Arc::new(Beside),
        sign: Arc::new(|text| {
            Some(Signature { key_id: "k".to_owned(), mac: text.len().to_string() })
        }),
        progress: Progress::default(),
    }
}

fn opened(file: &Path, identity: &Identity) -> (Result<Checked, ArchiveError>, Taken) {
    let mut taken = Taken::default();
    (read(file, identity, &mut taken, &Progress::default()), taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_holds_everything_and_says_what_changed_under_its_hands() {
    let dir = tempfile::tempdir().unwrap();
    let f = filled(dir.path(), 300).await;
    let identity = Identity::generate().unwrap();
    let job = job(dir.path(), &identity);
    let (file, progress) = (job.file.clone(), job.progress.clone());
    let written = create(job, f.store.snapshot()).await.unwrap();
    let on_disk = fs::read(&file).unwrap();
    assert_eq!(written.bytes, on_disk.len() as u64);
    let (checked, taken) = opened(&file, &identity);
    let checked = checked.unwrap();
    assert_eq!(checked.manifest, written.manifest);
    assert_eq!(checked.signed.signature.unwrap().mac, checked.signed.text.len().to_string());
    assert_eq!(checked.manifest.left_out, LeftOut { changed: 1, ..LeftOut::default() });
    assert_eq!(taken.files["configuration.toml"], b"a = 1");
    assert_eq!(taken.files["workspaces/w/short"], b"ab\0\0");
    assert_eq!(taken.files["workspaces/w/long"], b"abcd");
    assert_eq!(taken.files["workspaces/w/link ->"], b"/etc/passwd");
    assert_eq!(taken.files.values().map(Vec::len).max(), Some(200_000));
    let mut snapshot = f.store.snapshot().await.unwrap();
    for table in snapshot.tables().to_vec() {
        let rows = taken.rows.get(&table.name).map_or(0, |rows| rows.len() as u64);
        assert_eq!(rows, snapshot.count(&table).await.unwrap(), "{}", table.name);
    }
    assert!(taken.rows["events"].len() >= 300);
    assert!(progress.reached().rows >= 900, "{:?}", progress.reached());
    assert!(fs::read_dir(dir.path().join("backups")).unwrap().count() == 1, "something is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_stopped_or_stands_there_already_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let f = filled(dir.path(), 3).await;
    let identity = Identity::generate().unwrap();
    let stopped = job(dir.path(), &identity);
    stopped.progress.stop();
    let refused = create(stopped, f.store.snapshot()).await;
    assert!(matches!(refused, Err(ArchiveError::Stopped)), "{refused:?}");
    assert_eq!(fs::read_dir(dir.path().join("backups")).unwrap().count(), 0);
    let lost = async { Err(StoreError::Busy) };
    let refused = create(job(dir.path(), &identity), lost).await;
    assert!(matches!(refused, Err(ArchiveError::Store(StoreError::Busy))), "{refused:?}");
    assert_eq!(fs::read_dir(dir.path().join("backups")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_cut_changed_or_written_by_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let f = filled(dir.path(), 20).await;
    let identity = Identity::generate().unwrap();
    let job = job(dir.path(), &identity);
    let file = job.file.clone();
    create(job, f.store.snapshot()).await.unwrap();
    let whole = fs::read(&file).unwrap();
    for at in [30, 150, 400, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&file, &changed).unwrap();
        assert!(opened(&file, &identity).0.is_err(), "byte {at} can be changed");
        fs::write(&file, &whole[..at]).unwrap();
        assert!(opened(&file, &identity).0.is_err(), "it can be cut to {at}");
    }
    fs::write(&file, &whole).unwrap();
    let other = Identity::generate().unwrap();
    let refused = opened(&file, &other).0;
    assert!(matches!(refused, Err(ArchiveError::Age(age::AgeError::OtherKey))), "{refused:?}");
    // Anybody can write for the recipient: what leads elsewhere or says nothing of itself stays out.
    for (name, content) in [("../../evil", "x"), ("/etc/evil", "x"), ("database/x/1.jsonl", "[]")] {
        let sealed = age::Sealer::new(Vec::new(), &[identity.recipient()]).unwrap();
        let gz = flate2::write::GzEncoder::new(sealed, flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        let mut header = tar::Header::new_gnu();
        let place = &mut header.as_mut_bytes()[..name.len()];
        place.copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
        let forged = tar.into_inner().unwrap().finish().unwrap().finish().unwrap();
        fs::write(&file, forged).unwrap();
        let (refused, taken) = opened(&file, &identity);
        assert!(matches!(refused, Err(ArchiveError::Wrong(_))), "{name}: {refused:?}");
        assert!(taken.files.is_empty() && taken.rows.is_empty());
    }
}
