//! `backup restore` and `backup drill`: a backup becomes a data directory again.

use std::{path::Path, process::ExitCode};

use serde_json::json;

use super::{Context, Failure, args, identity, keys, no_restore, out, said_signed, watched};
use crate::{
    app::{
        backup::{
            drill::{Finding, inspect},
            restore::{self, Place, Restored, Signed},
        },
        cli::failure::FAULT,
        config::Settings,
        secrets,
    },
    auth::Purpose,
    store::{
        Database,
        archive::{Checked, Progress, age::Identity},
    },
};

pub(super) async fn restore(
    context: &Context,
    restore: &args::BackupRestore,
) -> Result<ExitCode, Failure> {
    let target = std::path::absolute(context.data_dir())
        .map_err(|e| Failure::usage(format!("the data directory cannot be named: {e}")))?;
    restore::check_empty(&target).map_err(no_restore)?;
    let identity = identity(&restore.identity)?;
    let progress = Progress::default();
    let checked = watched(&progress, restore::check(&restore.file, &identity, &progress)).await;
    let checked = checked.map_err(no_restore)?;
    let settings = context.load().ok().map(|loaded| loaded.settings);
    let signed = said_signed(&checked, settings.as_ref().and_then(keys).as_deref())?;
    let progress = Progress::default();
    let database = settings.as_ref().map(|s| s.database.clone()).unwrap_or_default();
    let place = Place { data_dir: &target, database: &database };
    let restored = restore::restore(&restore.file, &identity, &checked, place, &progress);
    let Restored { not_made } = watched(&progress, restored).await.map_err(no_restore)?;
    let rows: u64 = checked.manifest.tables.iter().map(|t| t.rows).sum();
    if restore.output.json {
        out::json(&json!({
            "data_dir": target, "made_at": checked.head.made_at, "rows": rows,
            "files": checked.manifest.files, "schema": checked.head.schema, "signature": signed,
            "links_not_made": not_made,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let place = target.display();
    out::line(format_args!(
        "restored to {place}: {rows} rows, {} files, as of {}",
        checked.manifest.files, checked.head.made_at
    ));
    out::line(&signed);
    for (name, to) in not_made {
        let (name, to) = (name.display().to_string(), to.display().to_string());
        out::note(format_args!(
            "warning: the link {} to {} was not made: if it was yours, make it by hand",
            out::tame(&name),
            out::tame(&to)
        ));
    }
    let configured = target.join(restore::CONFIGURED);
    out::line(format_args!("what was configured is in {}", configured.display()));
    if let Some(dir) = settings.map(|s| s.workspaces_dir).filter(|d| !d.starts_with(&target)) {
        out::note(format_args!(
            "the workspaces are in {place}/workspaces: move what is in it to {} (workspaces_dir)",
            dir.display()
        ));
    }
    out::note(format_args!(
        "next: 1. put the permission secret of the old daemon in place (AGENT_RUNTIME_PERMISSION_SECRET_FILE, \
         or {place}/permission-secret with mode 600): stored secrets and the audit's signatures need it\n      \
         2. set the other secrets that configuration.toml names\n      \
         3. make sure that the old daemon does not run any more, then `agent-runtime serve --data-dir {place}`\n      \
         4. `agent-runtime audit verify --data-dir {place}`"
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn drill(
    context: &Context,
    drill: &args::BackupDrill,
) -> Result<ExitCode, Failure> {
    let identity = identity(&drill.identity)?;
    let settings = context.load().ok().map(|loaded| loaded.settings);
    let within = drill.within.clone().unwrap_or_else(std::env::temp_dir);
    let target = within.join(format!("agent-runtime-drill-{}", std::process::id()));
    let result = in_drill(drill, &identity, &target, settings.as_ref()).await;
    // Plain data must not stay behind, whatever was found.
    let removed = match std::fs::remove_dir_all(&target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let (checked, findings, signed) = result?;
    removed.map_err(|e| {
        Failure::fault(format!("{} cannot be removed: {e}", target.display()))
            .next("it holds everything in plain: remove it by hand")
    })?;
    let ok = findings.iter().all(|finding| finding.ok);
    if drill.output.json {
        let made_at = checked.head.made_at;
        out::json(
            &json!({ "ok": ok, "made_at": made_at, "signature": signed, "findings": findings }),
        );
    } else {
        out::line(format_args!(
            "the backup of {} was put back, checked and removed again",
            checked.head.made_at
        ));
        for finding in &findings {
            let mark = if finding.ok { "ok  " } else { "BAD " };
            out::line(format_args!("{mark} {:<12} {}", finding.name, out::tame(&finding.found)));
        }
        out::line(&signed);
    }
    Ok(ExitCode::from(if ok { 0 } else { FAULT }))
}

async fn in_drill(
    drill: &args::BackupDrill,
    identity: &Identity,
    target: &Path,
    settings: Option<&Settings>,
) -> Result<(Checked, Vec<Finding>, String), Failure> {
    let progress = Progress::default();
    let checked = watched(&progress, restore::check(&drill.file, identity, &progress)).await;
    let checked = checked.map_err(no_restore)?;
    let keyring = settings.and_then(secrets::existing_keyring);
    let signing = keyring.as_ref().map(|keys| keys.all(Purpose::Backup));
    let signed = said_signed(&checked, signing.as_deref())?;
    let progress = Progress::default();
    let place = Place { data_dir: target, database: &Database::Sqlite };
    let restored = restore::restore(&drill.file, identity, &checked, place, &progress);
    watched(&progress, restored).await.map_err(no_restore)?;
    let keys = keyring.filter(|_| {
        restore::signed(&checked, signing.as_deref().unwrap_or_default()) == Signed::Ours
    });
    let keys = keys.map(|keys| keys.all(Purpose::Checkpoint));
    let findings = inspect(target, keys.as_deref()).await?;
    Ok((checked, findings, signed))
}
