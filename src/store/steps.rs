//! Model calls and what they used.

use sqlx::SqliteConnection;

use super::{cols, error::StoreError};
use crate::domain::{RunId, Timestamp, Usd};

/// One finished model call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    /// The run.
    pub run_id: RunId,
    /// Position in the run, from 1.
    pub n: u32,
    /// The model that answered.
    pub model: String,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Its price.
    pub cost: Usd,
    /// Whether the provider said what was used; otherwise it was estimated.
    pub reported: bool,
    /// When it ended.
    pub at: Timestamp,
}

/// Access to steps.
#[derive(Debug)]
pub struct Steps<'c> {
    pub(super) conn: &'c mut SqliteConnection,
}

impl Steps<'_> {
    /// Stores a finished model call.
    pub async fn insert(&mut self, step: &StepRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO steps (run_id, n, model, input_tokens, output_tokens, cost_nanos, \
             reported, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(step.run_id.to_string())
        .bind(i64::from(step.n))
        .bind(step.model.clone())
        .bind(cols::int(step.input_tokens))
        .bind(cols::int(step.output_tokens))
        .bind(step.cost.as_nanos())
        .bind(i64::from(step.reported))
        .bind(step.at.as_micros())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a step"))
    }
}
