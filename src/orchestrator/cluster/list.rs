//! The replicas, for those who run them.

use super::Duty;
use crate::{
    auth::{Inspect, Permit},
    domain::Timestamp,
    orchestrator::Orchestrator,
    store::{Replica, StoreError},
};

/// Replicas that are listed at most: those that live, and the last ones that do not.
const LISTED_MAX: u32 = 100;

/// A replica as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// What it says about itself, and what the database heard of it.
    pub replica: Replica,
    /// `starting`, `working`, `draining`, `late` (its lease is over and nobody has taken it over yet)
    /// or `ended`.
    pub state: &'static str,
    /// Whether it is the one that answers.
    pub is_this: bool,
    /// What it does for all.
    pub duties: Vec<&'static str>,
}

impl Orchestrator {
    /// The replicas of this database, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn replicas(
        &self,
        _permit: &Permit<Inspect>,
    ) -> Result<Vec<ReplicaView>, StoreError> {
        let store = &self.inner.store;
        let mut beside = store.beside().await?;
        let now = beside.now().await?;
        let mut held = Vec::new();
        for duty in Duty::ALL {
            if let Some(lease) = beside.leases().get(duty.as_str()).await?
                && lease.expires_at >= now
            {
                held.push((lease.boot_epoch, duty.as_str()));
            }
        }
        let found = beside.replicas().newest(LISTED_MAX).await?;
        let own = store.boot_epoch();
        let is_alone = !store.is_shared();
        let view = |replica: Replica| {
            let is_this = replica.boot_epoch == own;
            let of = |(epoch, duty): &(u64, &'static str)| {
                (*epoch == replica.boot_epoch).then_some(*duty)
            };
            let duties = if is_alone && is_this {
                Duty::ALL.iter().map(|duty| duty.as_str()).collect()
            } else {
                held.iter().filter_map(of).collect()
            };
            let state = if is_alone && is_this { "working" } else { state(&replica, now) };
            ReplicaView { replica, state, is_this, duties }
        };
        Ok(found.into_iter().map(view).collect())
    }
}

fn state(replica: &Replica, now: Timestamp) -> &'static str {
    if replica.ended_at.is_some() {
        "ended"
    } else if replica.expires_at < now {
        "late"
    } else if replica.is_draining {
        "draining"
    } else if replica.seen_generation.is_none() {
        "starting"
    } else {
        "working"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NewReplica;

    #[test]
    fn a_replica_is_shown_as_others_may_rely_on_it() {
        let at = Timestamp::from_micros;
        let about = NewReplica {
            name: "a".to_owned(),
            address: String::new(),
            version: "1".to_owned(),
            schema: 4,
        };
        let starting = Replica {
            boot_epoch: 1,
            about,
            started_at: at(0),
            beat_at: at(0),
            expires_at: at(15),
            seen_generation: None,
            is_draining: false,
            ended_at: None,
            is_recovered: false,
        };
        let working = Replica { seen_generation: Some(3), ..starting.clone() };
        let draining = Replica { is_draining: true, ..working.clone() };
        let ended = Replica { ended_at: Some(at(16)), ..working.clone() };
        let all = [&starting, &working, &draining, &ended].map(|replica| state(replica, at(15)));
        assert_eq!(all, ["starting", "working", "draining", "ended"]);
        assert_eq!(state(&working, at(16)), "late");
        assert_eq!(state(&ended, at(16)), "ended");
    }
}
