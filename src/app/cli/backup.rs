//! `backup …`: makes, checks and puts back backups, beside a running daemon or without one.

mod put_back;

use std::{
    io::{IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Context, Failure, args,
    door::{Closed, Door, read, refused},
    out,
};
use crate::{
    app::{
        backup::{
            self,
            restore::{self, RestoreError, Signed},
        },
        build::fault,
        config::{Settings, secret_file},
        secrets,
    },
    auth::{Key, Purpose},
    domain::{BackupId, BackupRecord, BackupState, Clock, IdSource, SystemClock},
    orchestrator::{
        Page,
        backups::{UNCHECKED, file_name, sign},
    },
    runtime::Redactor,
    store::{
        ReadOnlyStore,
        archive::{self, Checked, Job, Progress, age::Identity},
        dump::{self, TargetError},
    },
};

const BACKUPS: &str = "/admin/v1/backup";
/// How often to show how far it is.
const SHOWN: Duration = Duration::from_millis(250);
/// Records that are listed.
const LISTED: u32 = 200;

pub(super) async fn backup(context: &Context, command: args::Backup) -> Result<ExitCode, Failure> {
    match command {
        args::Backup::Keygen(keygen) => self::keygen(&keygen),
        args::Backup::Create(create) => Box::pin(self::create(context, &create)).await,
        args::Backup::Verify(verify) => self::verify(context, &verify).await,
        args::Backup::Restore(restore) => put_back::restore(context, &restore).await,
        args::Backup::Drill(drill) => put_back::drill(context, &drill).await,
        args::Backup::List(output) => self::list(context, output.json).await,
    }
}

fn keygen(keygen: &args::BackupKeygen) -> Result<ExitCode, Failure> {
    let identity = Identity::generate().map_err(fault)?;
    let recipient = identity.recipient();
    let text = format!(
        "# The secret key of agent-runtime's backups. Whoever has it can read them; without it nobody can.\n\
         # public key: {recipient}\n{}\n",
        identity.expose().expose()
    );
    let written = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&keygen.out)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|e| {
        Failure::usage(format!("{} cannot be made: {e}", keygen.out.display()))
            .next("name another file with --out; a key that exists is never replaced")
    })?;
    if keygen.output.json {
        let file = keygen.out.display().to_string();
        out::json(&json!({ "recipient": recipient.to_string(), "identity_file": file }));
        return Ok(ExitCode::SUCCESS);
    }
    out::line(format_args!("public key   {recipient}"));
    out::line(format_args!("secret key   {} (readable by you alone)", keygen.out.display()));
    out::note(
        "next: set AGENT_RUNTIME_BACKUP_RECIPIENTS to the public key, and move the secret key away from \
         this machine: to a password manager, and a printed copy in a safe. Who loses it loses every \
         backup; who has it reads every backup. The daemon never needs it.",
    );
    Ok(ExitCode::SUCCESS)
}

/// Runs the work and shows how far it is, on a terminal.
async fn watched<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    let is_shown = std::io::stderr().is_terminal();
    let mut work = std::pin::pin!(work);
    loop {
        // The work goes on where it was; sleeping is cancel-safe.
        tokio::select! {
            done = &mut work => {
                if is_shown {
                    out::progress("");
                }
                return done;
            }
            () = tokio::time::sleep(SHOWN), if is_shown => out::progress(line(&progress.reached())),
        }
    }
}

fn line(reached: &archive::Reached) -> String {
    let archive::Reached { step, rows, files, bytes } = reached;
    format!("{step}: {rows} rows, {files} files, {}", size(*bytes))
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = "bytes";
    for next in UNITS {
        if value < 10_240 {
            break;
        }
        value /= 1_024;
        unit = next;
    }
    format!("{value} {unit}")
}

async fn create(context: &Context, create: &args::BackupCreate) -> Result<ExitCode, Failure> {
    let record = match Door::open(context) {
        Ok(_) if create.out.is_some() => {
            return Err(Failure::usage("--out is for when no daemon runs")
                .next("leave it out: the daemon writes into backup.dir"));
        }
        Ok(door) => by_daemon(&door).await?,
        Err(Closed::NoDaemon(_)) => alone(context, create).await?,
        Err(closed) => return Err(closed.into()),
    };
    let dir = context.load()?.settings.backup.dir;
    let file = create.out.clone().unwrap_or_else(|| dir.join(&record.file));
    if create.output.json {
        let mut value = serde_json::to_value(&record).map_err(|e| Failure::fault(e.to_string()))?;
        if let Some(object) = value.as_object_mut() {
            object.insert("path".to_owned(), json!(file));
        }
        out::json(&value);
    } else {
        out::line(file.display());
        let BackupRecord { rows, files, bytes, sha256, .. } = &record;
        let sha256 = sha256.as_deref().unwrap_or("-");
        out::line(format_args!(
            "{rows} rows, {files} files, {} encrypted, sha256 {sha256}",
            size(*bytes)
        ));
        if let Some(error) = &record.error {
            out::note(format_args!("warning: {}", out::tame(error)));
        }
        out::note(
            "next: copy it to another place; `agent-runtime backup drill` shows that it can be put back",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the running daemon and waits.
async fn by_daemon(door: &Door) -> Result<BackupRecord, Failure> {
    let begun: Value = door.client.post(BACKUPS, &json!({})).await.map_err(refused)?;
    let mut record: BackupRecord = read(begun)?;
    let is_shown = std::io::stderr().is_terminal();
    while record.state == BackupState::Running {
        tokio::time::sleep(SHOWN).await;
        let path = format!("{BACKUPS}/{}", record.id);
        record = read(door.client.get(&path).await.map_err(refused)?)?;
        if is_shown {
            let BackupRecord { step, rows, files, .. } = &record;
            out::progress(format_args!("{step}: {rows} rows, {files} files"));
        }
    }
    if is_shown {
        out::progress("");
    }
    if record.state == BackupState::Failed {
        let why = record.error.as_deref().unwrap_or("the daemon's log says why");
        return Err(Failure::fault(format!("the backup failed: {}", out::tame(why)))
            .next("mend it and run the command again; nothing is left of it"));
    }
    Ok(record)
}

/// Makes one without a daemon.
async fn alone(context: &Context, create: &args::BackupCreate) -> Result<BackupRecord, Failure> {
    let settings = context.load()?.settings;
    if settings.backup.recipients.is_empty() {
        return Err(Failure::usage("no recipient is configured: nobody could read the backup").next(
            "`agent-runtime backup keygen`, then set AGENT_RUNTIME_BACKUP_RECIPIENTS to the public key",
        ));
    }
    let redactor = Redactor::default();
    crate::app::build::register(&settings, None, &redactor);
    let store = open(&settings).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids = IdSource::new(Arc::clone(&clock), |bytes| {
        getrandom::fill(bytes).unwrap_or_default();
    });
    let (id, now) = (BackupId::new(&ids), clock.now());
    let name = file_name(now, id);
    let file = create.out.clone().unwrap_or_else(|| settings.backup.dir.join(&name));
    if file.exists() {
        return Err(Failure::usage(format!("{} exists already", file.display())));
    }
    let key = keys(&settings).and_then(|keys| keys.into_iter().next());
    let progress = Progress::default();
    let job = Job {
        id: id.to_string(),
        made_at: now,
        file,
        recipients: settings.backup.recipients.clone(),
        source: backup::source(&settings, &redactor),
        sign: Arc::new(move |text| key.as_ref().map(|key| sign(key, text))),
        progress: progress.clone(),
    };
    let written = watched(&progress, archive::create(job, store.snapshot(dump::Purpose::Copy)))
        .await
        .map_err(fault)?;
    out::note("no daemon runs: this backup stands in no list and no audit trail");
    Ok(BackupRecord {
        id,
        state: BackupState::Done,
        due: None,
        asked_by: "local".to_owned(),
        file: name,
        started_at: now,
        ended_at: Some(clock.now()),
        step: "whole".to_owned(),
        rows: written.manifest.tables.iter().map(|t| t.rows).sum(),
        files: written.manifest.files,
        bytes: written.bytes,
        sha256: Some(written.sha256),
        error: None,
    })
}

async fn open(settings: &Settings) -> Result<ReadOnlyStore, Failure> {
    ReadOnlyStore::open(&settings.data_dir, &settings.database).await.map_err(|e| {
        Failure::usage(e.to_string()).next("name the data directory with --data-dir or --config")
    })
}

/// The keys that sign backups of this data directory, where they can be read.
fn keys(settings: &Settings) -> Option<Vec<Key>> {
    secrets::existing_keyring(settings).map(|keyring| keyring.all(Purpose::Backup))
}

fn identity(file: &Path) -> Result<Identity, Failure> {
    let text = secret_file::read(file).map_err(|e| Failure::usage(e.to_string()))?;
    Identity::parse(&text).map_err(|e| {
        Failure::usage(format!("{} {e}", file.display()))
            .next("it is the file that `agent-runtime backup keygen` made")
    })
}

fn no_restore(error: RestoreError) -> Failure {
    let failure = match &error {
        RestoreError::NotEmpty(_) => {
            return Failure::usage(error.to_string())
                .next("name one that does not exist yet with --data-dir");
        }
        RestoreError::Target(TargetError::NotEmpty(_)) => {
            return Failure::usage(error.to_string()).next("nothing was changed");
        }
        RestoreError::Archive(archive::ArchiveError::Age(archive::age::AgeError::OtherKey)) => {
            return Failure::usage(error.to_string()).next(
                "the first lines of a backup name nobody: try the other secret keys that you keep",
            );
        }
        _ => fault(error),
    };
    failure.next("nothing was put anywhere; try another copy of the backup")
}

/// What the signature is worth, in words; none of a forged one.
fn said_signed(checked: &Checked, keys: Option<&[Key]>) -> Result<String, Failure> {
    Ok(match restore::signed(checked, keys.unwrap_or_default()) {
        Signed::Ours => "signed by this daemon's key".to_owned(),
        Signed::Missing => {
            "not signed: it was made where the permission secret could not be read".to_owned()
        }
        Signed::Unknown => {
            "its signature was not checked: the permission secret that made it is not here"
                .to_owned()
        }
        Signed::Forged => {
            return Err(Failure::fault("the signature is forged: somebody else wrote this backup")
                .next("do not restore it; take another copy"));
        }
    })
}

async fn verify(context: &Context, verify: &args::BackupVerify) -> Result<ExitCode, Failure> {
    let settings = context.load().ok().map(|loaded| loaded.settings);
    let recorded = recorded(settings.as_ref(), &verify.file).await;
    let file = verify.file.clone();
    let looked = archive::files::look(&file)
        .map_err(|e| fault(e).next("it is no whole backup; take another copy"))?;
    let is_recorded =
        recorded.as_ref().and_then(|r| r.sha256.as_ref()).map(|sum| *sum == looked.sha256);
    if is_recorded == Some(false) {
        return Err(Failure::fault(
            "the file is not the one that the daemon wrote under this name",
        )
        .next("take another copy"));
    }
    let mut said = vec![format!(
        "{}, {} recipients, sha256 {}",
        size(looked.bytes),
        looked.shape.recipients,
        looked.sha256
    )];
    said.push(match is_recorded {
        Some(true) => "the file is, byte for byte, what the daemon recorded".to_owned(),
        _ => "no record of this file is here to compare it with".to_owned(),
    });
    let mut value = json!({
        "ok": true, "bytes": looked.bytes, "sha256": looked.sha256,
        "recipients": looked.shape.recipients, "recorded": is_recorded,
    });
    let mut more = json!({ "unchecked": UNCHECKED });
    if let Some(key_file) = &verify.identity {
        let (identity, progress) = (identity(key_file)?, Progress::default());
        let checked = watched(&progress, restore::check(&file, &identity, &progress)).await;
        let checked = checked.map_err(no_restore)?;
        let signed = said_signed(&checked, settings.as_ref().and_then(keys).as_deref())?;
        let (head, manifest) = (&checked.head, &checked.manifest);
        let rows: u64 = manifest.tables.iter().map(|t| t.rows).sum();
        said.push(format!(
            "made {} by version {} (schema {}): {} tables, {rows} rows, {} files; every sum agrees",
            head.made_at,
            head.version,
            head.schema,
            manifest.tables.len(),
            manifest.files
        ));
        said.push(left_out(&checked));
        said.push(signed.clone());
        more = json!({
            "id": head.id, "made_at": head.made_at, "schema": head.schema, "rows": rows,
            "files": manifest.files, "left_out": manifest.left_out, "signature": signed,
            "tables": manifest.tables,
        });
    } else {
        said.push(format!("not checked: {UNCHECKED}"));
    }
    if let (Some(all), Value::Object(more)) = (value.as_object_mut(), more) {
        all.extend(more);
    }
    if verify.output.json {
        out::json(&value);
    } else {
        said.iter().filter(|line| !line.is_empty()).for_each(out::line);
    }
    Ok(ExitCode::SUCCESS)
}

fn left_out(checked: &Checked) -> String {
    let archive::LeftOut { special, unreadable, changed } = checked.manifest.left_out;
    if special + unreadable + changed == 0 {
        return String::new();
    }
    format!(
        "left out when it was made: {special} sockets, pipes and devices, {unreadable} files that \
         could not be read; {changed} files were changed while they were read"
    )
}

/// What the store of the configured data directory says about a file of this name.
async fn recorded(settings: Option<&Settings>, file: &Path) -> Option<BackupRecord> {
    let store = open(settings?).await.ok()?;
    let name = file.file_name()?.to_str()?;
    let mut reader = store.read().await.ok()?;
    let page = reader.backups().list(&Page::new(Some(LISTED), None)).await.ok()?;
    page.items.into_iter().find(|record| record.file == name)
}

async fn list(context: &Context, is_json: bool) -> Result<ExitCode, Failure> {
    let settings = context.load()?.settings;
    let dir = &settings.backup.dir;
    let lying = archive::files::list(dir).map_err(fault)?;
    let records = match open(&settings).await {
        Ok(store) => {
            let mut reader = store.read().await.map_err(fault)?;
            let page = reader.backups().list(&Page::new(Some(LISTED), None)).await;
            page.map(|page| page.items).unwrap_or_default()
        }
        Err(_) => Vec::new(),
    };
    let is_here = |name: &str| lying.iter().any(|file| file.name == name);
    let unknown: Vec<_> =
        lying.iter().filter(|file| !records.iter().any(|r| r.file == file.name)).collect();
    if is_json {
        let items: Vec<Value> = records
            .iter()
            .map(|record| {
                let mut value = serde_json::to_value(record).unwrap_or_default();
                if let Some(object) = value.as_object_mut() {
                    object.insert("here".to_owned(), json!(is_here(&record.file)));
                }
                value
            })
            .collect();
        out::json(&json!({ "dir": dir, "backups": items, "unrecorded": unknown }));
        return Ok(ExitCode::SUCCESS);
    }
    let row = |r: &BackupRecord| {
        let what = match (r.state, is_here(&r.file)) {
            (BackupState::Done, false) => "done, not here".to_owned(),
            (state, _) => state.to_string(),
        };
        let note = r.error.as_deref().map(|e| out::short(e, 60)).unwrap_or_default();
        let by = if r.due.is_some() { "schedule".to_owned() } else { r.asked_by.clone() };
        [r.started_at.to_string(), what, size(r.bytes), by, r.file.clone(), note]
    };
    let mut rows: Vec<_> = records.iter().map(row).collect();
    rows.extend(unknown.iter().map(|file| {
        let dash = || "-".to_owned();
        [
            dash(),
            "unrecorded".to_owned(),
            size(file.bytes),
            dash(),
            file.name.clone(),
            String::new(),
        ]
    }));
    out::table(["AT", "STATE", "SIZE", "BY", "FILE", "NOTE"], &rows);
    out::note(format_args!("in {}", dir.display()));
    Ok(ExitCode::SUCCESS)
}
