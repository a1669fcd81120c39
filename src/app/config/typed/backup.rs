//! How backups are made, and what a backup says about the configuration.

use std::path::{Path, PathBuf};

use super::{
    super::{
        keys::Kind,
        resolve::{Effective, Entry, Origin},
        settings::Backup,
    },
    Reader,
};
use crate::{domain::DailyTime, store::archive::age::Recipient};

/// Name of the directory for backups, where none is named.
const DIRECTORY: &str = "backups";

impl Reader<'_> {
    pub(super) fn backup(&mut self, data_dir: &Path, workspaces_dir: &Path) -> Backup {
        let dir = self.some("backup.dir").map(PathBuf::from);
        let dir = dir.unwrap_or_else(|| data_dir.join(DIRECTORY));
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        if dir.starts_with(workspaces_dir) {
            self.bad("backup.dir", "lies in the workspaces, where tools could change it");
        }
        let mut recipients = Vec::new();
        for text in self.texts("backup.recipients") {
            match text.parse::<Recipient>() {
                Ok(recipient) => recipients.push(recipient),
                Err(error) => {
                    self.bad("backup.recipients", format!("holds `{text}`, which {error}"));
                }
            }
        }
        let schedule: Option<DailyTime> =
            self.some("backup.schedule").and_then(|_| self.choice("backup.schedule"));
        if schedule.is_some() && recipients.is_empty() {
            let what =
                "needs `backup.recipients`: `agent-runtime backup keygen` makes a pair of keys";
            self.bad("backup.schedule", what);
        }
        Backup {
            dir,
            recipients,
            schedule,
            keep: self.int("backup.keep"),
            after_command: self.texts("backup.after_command"),
            configuration: without_secrets(self.effective),
        }
    }
}

/// The settings that are not as this version has them anyway, as TOML; of a secret only where its
/// value came from.
fn without_secrets(effective: &Effective) -> String {
    let mut text =
        "# What was configured when this backup was made. No secret is in it: each is named with\n\
                    # where its value came from, and has to be set again.\n"
            .to_owned();
    for (key, entry) in effective.iter().filter(|(_, entry)| entry.origin != Origin::Default) {
        text += &line(key, entry);
        text.push('\n');
    }
    text
}

fn line(key: &str, entry: &Entry) -> String {
    let origin = &entry.origin;
    if entry.kind == Kind::Secret {
        return if entry.secret.is_some() {
            format!("# {key}: a secret, not in this backup; it came from {origin}")
        } else {
            format!("# {key}: not set")
        };
    }
    // What stands in `[[auth.tokens]]` has its name in the place of a number.
    let mark = if key.starts_with("auth.tokens.") { "# " } else { "" };
    let value =
        toml::Value::try_from(&entry.value).map_or_else(|_| "\"\"".to_owned(), |v| v.to_string());
    let key = key.split('.').map(quoted).collect::<Vec<_>>().join(".");
    format!("{mark}{key} = {value}")
}

/// A part of a key, as TOML takes it.
fn quoted(part: &str) -> String {
    let is_bare = !part.is_empty()
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_bare { part.to_owned() } else { toml::Value::from(part).to_string() }
}
