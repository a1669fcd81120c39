//! `migrate`: moves a store from one database to another.
//!
//! Invariants: the source is only read; the target counts whole or not at all; what was moved is read
//! again on the other side, table by table.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::{Context, Failure, args, out};
use crate::{
    app::build::fault,
    domain::SystemClock,
    store::{
        Database, ReadOnlyStore, database_file,
        dump::{Purpose, Snapshot, TableSum, Target, TargetError, read_line},
        hold,
    },
};

/// One end of the move.
struct End {
    /// The data directory; of a server, one that is not used.
    dir: PathBuf,
    database: Database,
    shown: String,
}

fn end(url: &str) -> Result<End, Failure> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        if path != database_file(&dir) {
            let wanted = database_file(&dir);
            return Err(Failure::usage(format!(
                "{} is no database of a data directory",
                path.display()
            ))
            .next(format!("name the file, such as sqlite://{}", wanted.display())));
        }
        let shown = path.display().to_string();
        return Ok(End { dir, database: Database::Sqlite, shown });
    }
    match url.parse::<crate::store::Postgres>() {
        Ok(server) if url.starts_with("postgres") => {
            let shown = server.place();
            Ok(End { dir: PathBuf::new(), database: Database::Postgres(server), shown })
        }
        _ => Err(Failure::usage("an address begins with sqlite:// or postgres://")
            .next("`agent-runtime migrate --help` shows both")),
    }
}

pub(super) async fn migrate(_: &Context, migrate: args::Migrate) -> Result<ExitCode, Failure> {
    let (from, to) = (end(&migrate.from)?, end(&migrate.to)?);
    if from.shown == to.shown {
        return Err(Failure::usage("both addresses name the same database"));
    }
    let is_file = |end: &End| matches!(end.database, Database::Sqlite);
    if is_file(&from) && !database_file(&from.dir).exists() {
        return Err(Failure::usage(format!("there is no database {}", from.shown))
            .next("name the file agent-runtime.db of the data directory"));
    }
    let in_use = |what: String| {
        Failure::usage(what)
            .next("stop the daemons first; --snapshot copies one moment of a source in use")
    };
    let _held = if is_file(&from) && !migrate.snapshot {
        Some(hold(&from.dir).map_err(|e| in_use(e.to_string()))?)
    } else {
        None
    };
    let store = ReadOnlyStore::open(&from.dir, &from.database).await.map_err(fault)?;
    // Where the source goes on, the copy is a store of its own.
    let purpose = if migrate.snapshot { Purpose::Copy } else { Purpose::Move };
    let mut snapshot = store.snapshot(purpose).await.map_err(fault)?;
    let at_work = snapshot.at_work(&SystemClock).await.map_err(fault)?;
    if at_work > 0 && !is_file(&from) && !migrate.snapshot {
        return Err(in_use(format!("{at_work} daemons work on {}", from.shown)));
    }
    let starts = snapshot.starts().await.map_err(fault)?;
    let mut moving = Moving { store, snapshot, purpose, starts };
    let sums = moving.fill(&to).await?;
    tell(&migrate, &from, &to, &sums);
    Ok(ExitCode::SUCCESS)
}

/// A source that is being copied.
struct Moving {
    store: ReadOnlyStore,
    snapshot: Snapshot,
    purpose: Purpose,
    /// How often a daemon had opened it.
    starts: i64,
}

impl Moving {
    /// Fills the target; what every table holds there now.
    async fn fill(&mut self, to: &End) -> Result<Vec<TableSum>, Failure> {
        let Database::Sqlite = to.database else {
            return self.fill_in(&to.dir, &to.database).await;
        };
        let _held = hold(&to.dir).map_err(no_target)?;
        let file = database_file(&to.dir);
        if file.exists() {
            return Err(Failure::usage(format!("{} is there already", file.display()))
                .next("choose a data directory that has no database"));
        }
        // Under another name until it is whole: a daemon that starts must not find half of it.
        let temporary = to.dir.join(format!(".migrating-{}", std::process::id()));
        let made = fs::create_dir(&temporary);
        made.map_err(|e| Failure::fault(format!("{} cannot be made: {e}", temporary.display())))?;
        let filled = self.fill_in(&temporary, &to.database).await.and_then(|sums| {
            fs::rename(database_file(&temporary), &file)
                .and_then(|()| fs::File::open(&to.dir)?.sync_all())
                .map_err(|e| Failure::fault(format!("{} cannot be named: {e}", file.display())))?;
            Ok(sums)
        });
        fs::remove_dir_all(&temporary).unwrap_or_default();
        filled
    }

    async fn fill_in(&mut self, dir: &Path, database: &Database) -> Result<Vec<TableSum>, Failure> {
        let target = Target::create(dir, database, self.snapshot.schema(), self.purpose).await;
        let (target, sums) = copy(&mut self.snapshot, target.map_err(no_target)?).await?;
        self.snapshot.end().await;
        if self.purpose == Purpose::Move {
            let mut now = self.store.snapshot(self.purpose).await.map_err(fault)?;
            if now.starts().await.map_err(fault)? != self.starts {
                return Err(Failure::fault(
                    "a daemon was started on the source meanwhile: the copy is already old",
                )
                .next("nothing was kept of it; stop the daemon and run the command again"));
            }
        }
        target.commit().await.map_err(fault)?;
        Ok(sums)
    }
}

fn no_target(error: impl Into<TargetError>) -> Failure {
    let error = error.into();
    match error {
        TargetError::NotEmpty(_) => Failure::usage(error.to_string())
            .next("nothing was changed; make a new database for it"),
        other => fault(other),
    }
}

/// Copies every table and reads it again on the other side.
async fn copy(
    snapshot: &mut Snapshot,
    mut target: Target,
) -> Result<(Target, Vec<TableSum>), Failure> {
    let is_shown = std::io::stderr().is_terminal();
    let tables = snapshot.tables().to_vec();
    if target.tables() != tables {
        return Err(Failure::fault(
            "the tables of the source are not those of its schema in this version",
        )
        .next("use the version of the program that made the source"));
    }
    let mut sums = Vec::with_capacity(tables.len());
    for (number, table) in tables.iter().enumerate() {
        let mut cursor = snapshot.rows(table);
        let mut is_more = true;
        while is_more {
            let mut lines = Vec::new();
            is_more = snapshot.next(&mut cursor, &mut lines).await.map_err(fault)?;
            let rows = lines.split_inclusive(|b| *b == b'\n').map(|line| read_line(table, line));
            let rows = rows.collect::<Result<Vec<_>, _>>().map_err(fault)?;
            target.insert(table, &rows).await.map_err(fault)?;
            if is_shown {
                let (of, rows) = (tables.len(), cursor.rows());
                out::progress(format_args!(
                    "table {} of {of}, {}: {rows} rows",
                    number + 1,
                    table.name
                ));
            }
        }
        let (read, found) = (cursor.finish(), target.sum(table).await.map_err(fault)?);
        if read != found {
            let what = format!(
                "table {} has {} rows there and {} here, or others",
                table.name, found.rows, read.rows
            );
            return Err(
                Failure::fault(what).next("nothing was kept of the copy; run the command again")
            );
        }
        sums.push(read);
    }
    if is_shown {
        out::progress("");
    }
    Ok((target, sums))
}

fn tell(migrate: &args::Migrate, from: &End, to: &End, sums: &[TableSum]) {
    let rows: u64 = sums.iter().map(|sum| sum.rows).sum();
    if migrate.output.json {
        out::json(&json!({ "from": from.shown, "to": to.shown, "rows": rows, "tables": sums }));
        return;
    }
    let row =
        |sum: &TableSum| [sum.name.clone(), sum.rows.to_string(), out::short(&sum.sha256, 16)];
    out::table(["TABLE", "ROWS", "SHA-256"], &sums.iter().map(row).collect::<Vec<_>>());
    out::line(format_args!(
        "{} tables, {rows} rows: counts and hashes of every table agree in {} and {}",
        sums.len(),
        from.shown,
        to.shown
    ));
    let setting = match to.database {
        Database::Sqlite => {
            format!("take AGENT_RUNTIME_DATABASE_URL away and start the daemon with --data-dir {}", to.dir.display())
        }
        Database::Postgres(_) => {
            "set AGENT_RUNTIME_DATABASE_URL to the new address and start the daemon with the same data \
             directory, for its workspaces and its permission secret"
                .to_owned()
        }
    };
    out::note(format_args!(
        "next: {setting}. Check it with `agent-runtime audit verify`, then put {} away: it must not be \
         started again.",
        from.shown
    ));
}
