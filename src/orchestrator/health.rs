//! How the parts are, as those who run the daemon see it.

use serde::Serialize;

use super::{Orchestrator, Readiness};
use crate::{
    auth::{Inspect, Permit},
    llm::BreakerState,
};

/// How everything is.
#[derive(Clone, Debug)]
pub struct HealthReport {
    /// What probes look at.
    pub readiness: Readiness,
    /// Each model.
    pub models: Vec<ModelReport>,
    /// Runs with a task here.
    pub active_runs: usize,
}

/// One model, and whether it rests after failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// Entry of the model list.
    pub model: String,
    /// The protocol that it speaks.
    pub provider: &'static str,
    /// `closed`: asked; `open`: rests; `half_open`: the next call tries it.
    pub state: &'static str,
    /// What it rests for.
    pub class: Option<&'static str>,
    /// Seconds that it still rests.
    pub rests_secs: Option<u64>,
}

impl Orchestrator {
    /// How the parts are now.
    pub async fn health(&self, _permit: &Permit<Inspect>) -> HealthReport {
        let models = self.inner.llm.health().into_iter().map(|model| {
            let (class, rests_secs) = match model.state {
                BreakerState::Closed => (None, None),
                BreakerState::Open { class, rests } => {
                    (Some(class.as_str()), Some(rests.as_secs().max(1)))
                }
                BreakerState::HalfOpen { class } => (Some(class.as_str()), None),
            };
            ModelReport {
                model: model.model,
                provider: model.provider.as_str(),
                state: model.state.as_str(),
                class,
                rests_secs,
            }
        });
        HealthReport {
            models: models.collect(),
            readiness: self.readiness().await,
            active_runs: self.inner.live.active_count(),
        }
    }
}
