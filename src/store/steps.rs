//! Model calls and what they used.

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
