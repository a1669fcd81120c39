//! What narrows the tools of a run: the scopes of those whose words it has heard.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;

use super::{
    cols::{self, Cols},
    error::StoreError,
};
use crate::domain::{RunId, ToolName};

/// Access to the scopes of runs.
#[derive(Debug)]
pub struct RunScopes<'c> {
    pub(super) conn: &'c mut SqliteConnection,
}

impl RunScopes<'_> {
    /// The only tools that a run may use; none where nothing narrows it.
    pub async fn tools(&mut self, id: RunId) -> Result<Option<BTreeSet<ToolName>>, StoreError> {
        let row = sqlx::query("SELECT tools FROM run_scopes WHERE run_id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the scopes of a run"))?;
        row.map(|row| Cols::new(&row).json()).transpose()
    }

    /// Leaves a run only what was left to it and is in `tools` too.
    pub async fn narrow(
        &mut self,
        id: RunId,
        tools: &BTreeSet<ToolName>,
    ) -> Result<(), StoreError> {
        let left = match self.tools(id).await? {
            Some(before) => before.intersection(tools).copied().collect(),
            None => tools.clone(),
        };
        sqlx::query(
            "INSERT INTO run_scopes (run_id, tools) VALUES ($1, $2) \
             ON CONFLICT (run_id) DO UPDATE SET tools = excluded.tools",
        )
        .bind(id.to_string())
        .bind(cols::json(&left)?)
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("narrow a run"))
    }
}
