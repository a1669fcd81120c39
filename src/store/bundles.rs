//! Immutable snapshots that a run can be continued or forked from.

use super::{
    cols::Cols,
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{BundleId, ConversationId, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a bundle was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleKind {
    /// A safe point inside a run: a pause, a question to a person.
    SafePoint,
    /// The end of a run that succeeded: what the next run of the conversation continues from.
    Final,
}

impl BundleKind {
    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SafePoint => "safe_point",
            Self::Final => "final",
        }
    }
}

/// What a bundle holds: recovery state only, references instead of content, never a secret, a
/// token, an approval or audit data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// Id.
    pub id: BundleId,
    /// The run that committed it.
    pub run_id: RunId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// The bundle that it continues.
    pub parent_id: Option<BundleId>,
    /// Why it was committed.
    pub kind: BundleKind,
    /// Where the work happens: workspace, agent and its version.
    pub environment: Value,
    /// Where the work stands: step cursor and the state of its tools.
    pub context: Value,
    /// Which messages were part of it: conversation and last message number.
    pub history: HistoryRef,
    /// When it was committed.
    pub created_at: Timestamp,
}

/// Messages by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRef {
    /// The thread.
    pub conversation_id: ConversationId,
    /// Its last message that belongs to the bundle.
    pub last_seq: u64,
}

/// Access to bundles.
#[derive(Debug)]
pub struct Bundles<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Bundles<'_> {
    /// One bundle.
    pub async fn get(&mut self, id: BundleId) -> Result<Option<Bundle>, StoreError> {
        let row = query("SELECT body FROM bundles WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a bundle"))?;
        row.map(|row| Cols::new(&row).json()).transpose()
    }

    /// The bundles of a run, oldest first.
    pub async fn of_run(&mut self, run: RunId) -> Result<Vec<Bundle>, StoreError> {
        let rows = query("SELECT body FROM bundles WHERE run_id = $1 ORDER BY id")
            .bind(run.to_string())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read bundles"))?;
        rows.iter().map(|row| Cols::new(row).json()).collect()
    }
}
