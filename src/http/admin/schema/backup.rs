//! Backups.

use utoipa::ToSchema;

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    Running,
    Done,
    Failed,
    Pruned,
}

#[derive(Debug, ToSchema)]
pub struct Backup {
    pub id: String,
    pub state: BackupState,
    pub due: Option<String>,
    pub asked_by: String,
    pub file: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub step: String,
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
    pub sha256: Option<String>,
    pub error: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct BackupList {
    pub items: Vec<Backup>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct BackupCheck {
    pub backup: Backup,
    pub ok: bool,
    pub problems: Vec<String>,
    pub unchecked: String,
}
