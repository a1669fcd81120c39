//! `audit …`: reads the trail of the data directory, beside a running daemon or without one.

use std::{io::BufRead, path::Path, process::ExitCode};

use serde_json::json;

use super::{Context, Failure, args, out};
use crate::{
    domain::audit::AuditRow,
    store::{AuditFilter, ReadOnlyStore, Reader, audit::Verifier},
};

/// Rows read at once.
const PAGE: u32 = 500;

pub(super) async fn audit(context: &Context, command: args::Audit) -> Result<ExitCode, Failure> {
    match command {
        args::Audit::Verify(verify) => {
            let result = match &verify.file {
                Some(file) => verify_export(file)?,
                None => self::verify(&context.data_dir()).await?,
            };
            report(&result, verify.output.json)
        }
        args::Audit::Query(query) => {
            let filter = AuditFilter {
                after: query.after,
                kind: query.kind,
                actor: query.actor,
                run_id: query.run,
            };
            let mut reader = open(&context.data_dir()).await?;
            let rows = reader.audit().query(&filter, query.limit).await.map_err(fault)?;
            if query.output.json {
                out::json(&serde_json::to_value(&rows).map_err(|e| Failure::fault(e.to_string()))?);
                return Ok(ExitCode::SUCCESS);
            }
            let row = |r: &AuditRow| {
                let run = r.run_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
                let actor = r.actor.clone();
                [
                    r.n.to_string(),
                    r.at.to_string(),
                    r.kind.clone(),
                    actor,
                    run,
                    out::short(&r.data.to_string(), 80),
                ]
            };
            let rows: Vec<_> = rows.iter().map(row).collect();
            out::table(["N", "AT", "KIND", "ACTOR", "RUN", "DATA"], &rows);
            Ok(ExitCode::SUCCESS)
        }
        args::Audit::Export => {
            each(&context.data_dir(), |row| {
                out::line(serde_json::to_string(&row).map_err(|e| Failure::fault(e.to_string()))?);
                Ok(())
            })
            .await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What a check of the chain found.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Good rows.
    pub(crate) rows: u64,
    /// Hash of the last good one.
    pub(crate) hash: String,
    /// What is wrong after it.
    pub(crate) broken: Option<String>,
}

/// Checks the chain of a data directory.
pub(crate) async fn verify(data_dir: &Path) -> Result<Verified, Failure> {
    let mut verifier = Verifier::default();
    let mut broken = None;
    each(data_dir, |row| {
        if broken.is_none() {
            broken = verifier.check(&row).err().map(|e| e.to_string());
        }
        Ok(())
    })
    .await?;
    let (rows, hash) = verifier.end();
    Ok(Verified { rows, hash: hash.to_owned(), broken })
}

fn verify_export(file: &Path) -> Result<Verified, Failure> {
    let unreadable =
        |e: std::io::Error| Failure::usage(format!("{} cannot be read: {e}", file.display()));
    let mut verifier = Verifier::default();
    let mut broken = None;
    for line in std::io::BufReader::new(std::fs::File::open(file).map_err(unreadable)?).lines() {
        let line = line.map_err(unreadable)?;
        let row = serde_json::from_str::<AuditRow>(&line)
            .map_err(|e| format!("a line is no audit row: {e}"));
        let checked = row.and_then(|row| verifier.check(&row).map_err(|e| e.to_string()));
        if let Err(what) = checked {
            broken = Some(what);
            break;
        }
    }
    let (rows, hash) = verifier.end();
    Ok(Verified { rows, hash: hash.to_owned(), broken })
}

fn report(found: &Verified, is_json: bool) -> Result<ExitCode, Failure> {
    if is_json {
        let is_good = found.broken.is_none();
        out::json(
            &json!({ "ok": is_good, "rows": found.rows, "hash": found.hash, "problem": found.broken }),
        );
        return Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(super::failure::FAULT) });
    }
    match &found.broken {
        None => {
            out::line(format_args!(
                "the chain is whole: {} rows, last hash {}",
                found.rows, found.hash
            ));
            Ok(ExitCode::SUCCESS)
        }
        Some(what) => Err(Failure::fault(format!(
            "the chain is broken after {} good rows: {what}",
            found.rows
        ))
        .next("keep the data directory as it is; compare it with an earlier export")),
    }
}

/// Calls `take` with every row, in order.
async fn each(
    data_dir: &Path,
    mut take: impl FnMut(AuditRow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut reader = open(data_dir).await?;
    let mut filter = AuditFilter::default();
    loop {
        let rows = reader.audit().query(&filter, PAGE).await.map_err(fault)?;
        let Some(last) = rows.last() else { return Ok(()) };
        filter.after = last.n;
        rows.into_iter().try_for_each(&mut take)?;
    }
}

async fn open(data_dir: &Path) -> Result<Reader, Failure> {
    let store = ReadOnlyStore::open(data_dir).await.map_err(|e| {
        Failure::usage(e.to_string()).next("name the daemon's data directory with --data-dir")
    })?;
    store.read().await.map_err(fault)
}

fn fault(error: crate::store::StoreError) -> Failure {
    Failure::fault(error.to_string())
}
