//! The restore drill: is what comes back a store that a daemon can go on with?

use std::path::Path;

use crate::{
    app::cli::Failure,
    auth::Key,
    domain::{Run, event::fold},
    orchestrator::audit::verify_trail,
    store::{Database, Page, ReadOnlyStore, Reader, RunFilter, outside, upgrade},
};

use super::{super::build::fault, source::CHECKPOINTS};

/// Rows read at once.
const PAGE: u32 = 500;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Finding {
    /// What.
    pub(crate) name: &'static str,
    /// Whether it is well.
    pub(crate) ok: bool,
    /// What was found.
    pub(crate) found: String,
}

impl Finding {
    fn of(name: &'static str, result: Result<String, String>) -> Self {
        let (ok, found) = match result {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        Self { name, ok, found }
    }
}

/// Looks at a restored directory as a daemon and an auditor would.
///
/// # Errors
/// When it cannot be read at all.
pub(crate) async fn inspect(dir: &Path, keys: Option<&[Key]>) -> Result<Vec<Finding>, Failure> {
    // As a daemon's start does: an older backup has an older schema.
    upgrade(dir).await.map_err(fault)?;
    let store = ReadOnlyStore::open(dir, &Database::Sqlite).await.map_err(fault)?;
    let damage = store.damage().await.map_err(fault)?;
    let database = damage.map_or(Ok("no damage".to_owned()), Err);
    let mut reader = store.read().await.map_err(fault)?;
    let outside =
        outside::read(&dir.join(CHECKPOINTS)).map_err(|e| Failure::fault(e.to_string()))?;
    let report = verify_trail(&mut reader, outside, keys).await.map_err(fault)?;
    let trail = if report.ok {
        let signed = match report.signed {
            Some(signed) => format!("{signed} signatures hold"),
            None => "signatures were not checked: no permission secret".to_owned(),
        };
        Ok(format!("{} rows, {} checkpoints, {signed}", report.rows, report.checkpoints))
    } else {
        Err(report.problems.join("; "))
    };
    let runs = runs(&mut reader).await?;
    Ok(vec![
        Finding::of("database", database),
        Finding::of("audit trail", trail),
        Finding::of("runs", runs),
    ])
}

/// Whether every run's state is what its events say.
async fn runs(reader: &mut Reader) -> Result<Result<String, String>, Failure> {
    let (mut count, mut cursor) = (0_u64, None);
    loop {
        let page = Page::new(Some(PAGE), cursor);
        let paged = reader.runs().list(&RunFilter::default(), &page).await.map_err(fault)?;
        for run in &paged.items {
            if let Some(wrong) = wrong(reader, run).await? {
                return Ok(Err(wrong));
            }
            count += 1;
        }
        cursor = paged.next_cursor;
        if cursor.is_none() {
            return Ok(Ok(format!("{count} runs, each as its events say")));
        }
    }
}

async fn wrong(reader: &mut Reader, run: &Run) -> Result<Option<String>, Failure> {
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(0, |e: &crate::domain::Event| e.seq);
        let page = reader.events().of_run(run.id, after, PAGE).await.map_err(fault)?;
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    let found = match fold(&events) {
        Ok(state) if state != run.state => format!("its events say {state}, not {}", run.state),
        Ok(_) if events.last().map(|e| e.seq) != Some(run.seq) => "events are missing".to_owned(),
        Ok(_) => return Ok(None),
        Err(error) => error.to_string(),
    };
    Ok(Some(format!("{}: {found}", run.id)))
}
