//! Making a backup, online: from the first small file to the name of the finished one.

use std::{
    fmt,
    fs::{self, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::runtime::Handle;

use super::{
    ArchiveError, FORMAT, PARTIAL, Progress,
    age::Recipient,
    manifest::{Head, Manifest, Signature},
    pack::{OnDisk, Pack},
};
use crate::{
    domain::Timestamp,
    runtime::Tasks,
    store::{StoreError, dump::Snapshot},
};

/// Bytes of rows of one file in the backup.
const ROWS_BYTES: usize = 4 << 20;

/// A file of this program beside the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallFile {
    /// Its path in the backup.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// What a backup holds beside the database.
pub trait Source: Send + Sync + fmt::Debug {
    /// Small files, read before the moment of the database.
    ///
    /// # Errors
    /// When one cannot be read.
    fn files(&self) -> Result<Vec<SmallFile>, ArchiveError>;

    /// Adds the trees of files; `step` is told what comes.
    ///
    /// # Errors
    /// When the backup cannot be written.
    fn trees(&self, pack: &mut Pack, step: &dyn Fn(&str)) -> Result<(), ArchiveError>;
}

/// Signs the bytes of a manifest; none where there is no key.
pub type Sign = Arc<dyn Fn(&[u8]) -> Option<Signature> + Send + Sync>;

/// A backup to make.
#[derive(Clone)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// The time.
    pub made_at: Timestamp,
    /// Where it goes; the directory is made as needed.
    pub file: PathBuf,
    /// Who can open it.
    pub recipients: Vec<Recipient>,
    /// What is beside the database.
    pub source: Arc<dyn Source>,
    /// Signs the manifest.
    pub sign: Sign,
    /// Told how far it is.
    pub progress: Progress,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file, as hex.
    pub sha256: String,
    /// What it holds.
    pub manifest: Manifest,
}

/// Makes a backup of the moment that `snapshot` gives. When this returns, the file is whole and the
/// disk has it; otherwise there is none.
///
/// # Errors
/// When anything cannot be read or written, or it was stopped.
pub async fn create(
    job: Job,
    snapshot: impl Future<Output = Result<Snapshot, StoreError>>,
) -> Result<Written, ArchiveError> {
    let panicked = || ArchiveError::Wrong("the work ended unexpectedly".to_owned());
    let source = Arc::clone(&job.source);
    job.progress.step("files beside the database");
    let files = Tasks::spawn_blocking(move || source.files()).await;
    let files = files.ok().ok_or_else(panicked)??;
    let snapshot = snapshot.await?;
    let handle = Handle::current();
    let written = Tasks::spawn_blocking(move || write(&job, &files, snapshot, &handle)).await;
    written.ok().ok_or_else(panicked)?
}

fn write(
    job: &Job,
    files: &[SmallFile],
    mut snapshot: Snapshot,
    handle: &Handle,
) -> Result<Written, ArchiveError> {
    let partial = partial(&job.file);
    let opened = (|| {
        let directory = job.file.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&partial)
    })();
    let file = opened.map_err(ArchiveError::io(format!("make {}", partial.display())))?;
    let written = Pack::new(file, &job.recipients, job.progress.clone())
        .and_then(|pack| fill(job, files, &mut snapshot, handle, pack));
    drop(snapshot);
    let named = written.and_then(|written| {
        let (from, to) = (&partial, &job.file);
        let renamed = fs::rename(from, to).and_then(|()| sync_directory(to));
        renamed.map_err(ArchiveError::io(format!("name {}", to.display())))?;
        Ok(written)
    });
    if named.is_err() {
        // What is left of it is of no use, and its name would be in the way.
        fs::remove_file(&partial).unwrap_or_default();
    }
    named
}

/// The name of a file while it is not whole.
fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(PARTIAL);
    name.into()
}

fn sync_directory(file: &Path) -> std::io::Result<()> {
    fs::File::open(file.parent().unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all())
}

fn fill(
    job: &Job,
    files: &[SmallFile],
    snapshot: &mut Snapshot,
    handle: &Handle,
    mut pack: Pack,
) -> Result<Written, ArchiveError> {
    let head = Head {
        format: FORMAT,
        id: job.id.clone(),
        made_at: job.made_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema: snapshot.schema(),
        tables: snapshot.tables().to_vec(),
    };
    pack.put(super::unpack::HEAD, &json(&head)?)?;
    for file in files {
        pack.put(&file.name, &file.content)?;
        pack.count_file();
    }
    let mut tables = Vec::with_capacity(head.tables.len());
    for table in &head.tables {
        job.progress.step(format!("table {}", table.name));
        let mut cursor = snapshot.rows(table);
        let (mut lines, mut part, mut before) = (Vec::new(), 0_u64, 0);
        let mut is_more = true;
        while is_more {
            job.progress.check()?;
            is_more = handle.block_on(snapshot.next(&mut cursor, &mut lines))?;
            job.progress.rows(cursor.rows() - before);
            before = cursor.rows();
            if lines.len() >= ROWS_BYTES || (!is_more && !lines.is_empty()) {
                part += 1;
                pack.put(
                    &format!("{}{}/{part:06}.jsonl", super::unpack::ROWS, table.name),
                    &lines,
                )?;
                lines.clear();
            }
        }
        tables.push(cursor.finish());
    }
    handle.block_on(snapshot.end());
    job.source.trees(&mut pack, &|step| job.progress.step(step))?;
    job.progress.step("the end");
    let (count, sha256, left_out) = pack.so_far();
    let manifest = Manifest { id: job.id.clone(), tables, files: count, sha256, left_out };
    let text = json(&manifest)?;
    pack.put(super::unpack::MANIFEST, &text)?;
    if let Some(signature) = (job.sign)(&text) {
        pack.put(super::unpack::SIGNATURE, &json(&signature)?)?;
    }
    let OnDisk { bytes, sha256 } = pack.finish()?;
    Ok(Written { bytes, sha256, manifest })
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec_pretty(value).map_err(|e| ArchiveError::Wrong(e.to_string()))
}
