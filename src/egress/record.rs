//! One record per decision.

use std::sync::Arc;

use crate::domain::{AgentName, EgressRecord};

/// Gets a record: whose agent, which run, what.
pub type OnRecord = Arc<dyn Fn(&AgentName, &str, &EgressRecord) + Send + Sync>;

/// What a call did on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The first records, at most 256, in the order in which they ended.
    pub records: Vec<EgressRecord>,
    /// How many more there were.
    pub more: u64,
}
