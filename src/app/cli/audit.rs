//! `audit …`: reads the trail of the data directory, beside a running daemon or without one.

use std::{io::BufReader, path::Path, process::ExitCode};

use serde_json::Value;

use super::{
    Context, Failure, args,
    door::{Door, refused},
    out,
};
use crate::{
    app::{
        config::{CHECKPOINT_FILE, secret_file},
        secrets,
    },
    auth::{
        keys::{Key, Keys, Purpose},
        trail::{Report, verify_export},
    },
    domain::{Clock, SystemClock, audit::AuditRow},
    orchestrator::audit::{export_trail, verify_trail},
    store::{AuditFilter, Database, ReadOnlyStore, Reader, outside},
};

pub(super) async fn audit(context: &Context, command: args::Audit) -> Result<ExitCode, Failure> {
    match command {
        args::Audit::Verify(verify) => {
            let keys = match verify.key_files.as_slice() {
                [] => known_keys(context),
                files => Some(files.iter().map(|f| key(f)).collect::<Result<_, _>>()?),
            };
            let report = if let Some(file) = &verify.file {
                let unreadable = |e: std::io::Error| {
                    Failure::usage(format!("{} cannot be read: {e}", file.display()))
                };
                let lines = BufReader::new(std::fs::File::open(file).map_err(unreadable)?);
                verify_export(lines, keys.as_deref()).map_err(unreadable)?
            } else {
                let data_dir = context.data_dir();
                let file = context.load().ok().map(|l| l.settings.checkpoint_file());
                let file = file.unwrap_or_else(|| data_dir.join(CHECKPOINT_FILE));
                self::verify(&data_dir, &context.database(), &file, keys.as_deref()).await?
            };
            tell(&report, verify.output.json)
        }
        args::Audit::Query(query) => self::query(context, query).await,
        args::Audit::Export => export(context).await,
        args::Audit::Checkpoint(output) => {
            let door = Door::open(context)?;
            let made: Value = door
                .client
                .post("/admin/v1/audit/checkpoint", &Value::Null)
                .await
                .map_err(refused)?;
            if output.json {
                out::json(&made);
            } else {
                let part = |name: &str| made.get(name).map(ToString::to_string).unwrap_or_default();
                out::line(format_args!("signed up to row {}, hash {}", part("n"), part("hash")));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The keys of this data directory, where they can be read. Nothing is made here.
fn known_keys(context: &Context) -> Option<Vec<Key>> {
    let settings = context.load().ok()?.settings;
    secrets::existing_keyring(&settings).map(|keyring| keyring.all(Purpose::Checkpoint))
}

fn key(file: &Path) -> Result<Key, Failure> {
    let secret = secret_file::read(file).map_err(|e| Failure::usage(e.to_string()))?;
    let keys = Keys::new(&secret).map_err(|e| Failure::usage(e.to_string()))?;
    Ok(keys.key(Purpose::Checkpoint))
}

async fn query(context: &Context, query: args::AuditQuery) -> Result<ExitCode, Failure> {
    let filter = AuditFilter {
        after: query.after,
        since: query.since,
        until: query.until,
        kind: query.kind.map(|kind| kind.as_str().to_owned()),
        actor: query.actor,
        run_id: query.run,
    };
    let mut reader = open(&context.data_dir(), &context.database()).await?;
    let rows = reader.audit().query(&filter, query.limit).await.map_err(fault)?;
    if query.output.json {
        out::json(&serde_json::to_value(&rows).map_err(|e| Failure::fault(e.to_string()))?);
        return Ok(ExitCode::SUCCESS);
    }
    let row = |r: &AuditRow| {
        let run = r.run_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let data = out::short(&r.data.to_string(), 80);
        [r.n.to_string(), r.at.to_string(), r.kind.clone(), r.actor.clone(), run, data]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    out::table(["N", "AT", "KIND", "ACTOR", "RUN", "DATA"], &rows);
    Ok(ExitCode::SUCCESS)
}

/// Checks the trail of the data directory against its checkpoints, with the keys where there are.
pub(crate) async fn verify(
    data_dir: &Path,
    database: &Database,
    file: &Path,
    keys: Option<&[Key]>,
) -> Result<Report, Failure> {
    // First what stands outside: the daemon may sign on while this reads.
    let outside = outside::read(file)
        .map_err(|e| Failure::fault(format!("{} cannot be read: {e}", file.display())))?;
    let mut reader = open(data_dir, database).await?;
    verify_trail(&mut reader, outside, keys).await.map_err(fault)
}

async fn export(context: &Context) -> Result<ExitCode, Failure> {
    let key = known_keys(context).and_then(|keys| keys.into_iter().next());
    let mut reader = open(&context.data_dir(), &context.database()).await?;
    let mut after = Some(0);
    while let Some(from) = after {
        let now = SystemClock.now();
        let piece = export_trail(&mut reader, from, key.as_ref(), now).await.map_err(fault)?;
        for line in &piece.lines {
            out::line(serde_json::to_string(line).map_err(|e| Failure::fault(e.to_string()))?);
        }
        after = piece.next;
    }
    if key.is_none() {
        out::note("the permission secret cannot be read: the end of the export is not signed");
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(report: &Report, is_json: bool) -> Result<ExitCode, Failure> {
    if is_json {
        out::json(&serde_json::to_value(report).map_err(|e| Failure::fault(e.to_string()))?);
        return Ok(ExitCode::from(if report.ok { 0 } else { super::failure::FAULT }));
    }
    let Report { rows, hash, checkpoints, signed, unsigned_rows, problems, ok } = report;
    if !ok {
        let what = problems.iter().map(|p| out::tame(p)).collect::<Vec<_>>().join("; ");
        return Err(Failure::fault(format!("the trail is broken after {rows} good rows: {what}"))
            .next("keep the data directory as it is and compare it with a backup"));
    }
    let signatures = match signed {
        Some(signed) => format!("{signed} signatures hold"),
        None => "signatures were not checked: no permission secret".to_owned(),
    };
    out::line(format_args!("the trail is whole: {rows} rows, last hash {hash}"));
    out::line(format_args!(
        "{checkpoints} checkpoints agree, {signatures}; {unsigned_rows} rows after the last one"
    ));
    Ok(ExitCode::SUCCESS)
}

async fn open(data_dir: &Path, database: &Database) -> Result<Reader, Failure> {
    let store = ReadOnlyStore::open(data_dir, database).await.map_err(|e| {
        Failure::usage(e.to_string()).next("name the data directory with --data-dir or --config")
    })?;
    store.read().await.map_err(fault)
}

fn fault(error: impl std::error::Error) -> Failure {
    crate::app::build::fault(error)
}
