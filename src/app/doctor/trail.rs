//! Is the audit trail signed, also outside the database?

use super::Item;
use crate::{
    app::{cli::verify_audit, config::Settings, secrets},
    auth::Purpose,
};

/// Checks the whole trail.
pub(super) async fn signed(settings: &Settings) -> Item {
    const NAME: &str = "audit trail";
    if !settings.has_store() {
        return Item::pass(NAME, "begins with the first start");
    }
    let file = settings.checkpoint_file();
    let keys = secrets::existing_keyring(settings).map(|keys| keys.all(Purpose::Checkpoint));
    let fix = "keep the data directory as it is; docs/AUDIT.md says what each finding means";
    match verify_audit(&settings.data_dir, &settings.database, &file, keys.as_deref()).await {
        Err(failure) => Item::warn(NAME, failure.to_string(), "see the item `store`"),
        Ok(report) if !report.ok => Item::fail(NAME, report.problems.join("; "), fix),
        Ok(report) => {
            let (rows, checkpoints) = (report.rows, report.checkpoints);
            let inside = file.starts_with(&settings.data_dir);
            let what = format!("{rows} rows and {checkpoints} checkpoints agree");
            if inside {
                let fix = "name a file on another disk in audit.checkpoint_file";
                return Item::warn(NAME, format!("{what}; both lie in one directory"), fix);
            }
            Item::pass(NAME, what)
        }
    }
}
