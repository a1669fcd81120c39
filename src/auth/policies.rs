//! Which policy is in force now.
//!
//! Invariant: there always is one. It is replaced as a whole, so that no decision sees half of a
//! change, and a decision holds the one that it began with.

use std::sync::{Arc, PoisonError, RwLock};

use super::policy::Policy;

/// The policy in force. Clones share it.
#[derive(Clone, Debug)]
pub struct Policies {
    current: Arc<RwLock<Arc<Policy>>>,
}

impl Policies {
    /// A handle with this policy in force.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { current: Arc::new(RwLock::new(policy)) }
    }

    /// The policy that decides now.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another policy in force. Calls that are decided from now on see it.
    pub fn replace(&self, policy: Arc<Policy>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }
}
