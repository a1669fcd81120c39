//! How the parts are, as those who run the daemon see it.

use std::{sync::Mutex, time::Duration};

use serde::Serialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{Check, Orchestrator, Readiness};
use crate::{
    auth::{Inspect, Permit},
    llm::BreakerState,
    runtime::tasks::lock,
    store::Store,
};

/// How long what the store said is believed. A probe waits for the disk, and anybody may ask.
const BELIEVED: Duration = Duration::from_secs(1);
/// How long the store may take.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// Asks the store whether it works: one question at a time, however many ask.
#[derive(Debug)]
pub(super) struct Probe {
    turn: Semaphore,
    last: Mutex<Option<(Instant, Check)>>,
}

impl Default for Probe {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), last: Mutex::default() }
    }
}

impl Probe {
    pub(super) async fn ask(&self, store: &Store) -> Check {
        // Never closed; without a turn there is no harm in asking either.
        let _turn = self.turn.acquire().await.ok();
        if let Some((at, check)) = &*lock(&self.last)
            && at.elapsed() < BELIEVED
        {
            return check.clone();
        }
        let check = match timeout(PROBE_MAX, store.probe()).await {
            Ok(Ok(())) => Check { ok: true, detail: "reads and writes".to_owned() },
            Ok(Err(error)) => Check { ok: false, detail: error.to_string() },
            Err(_) => Check { ok: false, detail: "cannot write within two seconds".to_owned() },
        };
        *lock(&self.last) = Some((Instant::now(), check.clone()));
        check
    }
}

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
