//! Which machines each agent may reach now: its configuration and what administrators changed
//! since.
//!
//! Invariant: an agent that is not in the table reaches nothing. The table is replaced as a whole,
//! so that no reader sees half of a change.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::domain::{AgentName, HostPolicy};

/// The effective policies by agent. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct HostPolicies {
    table: Arc<RwLock<BTreeMap<AgentName, Arc<HostPolicy>>>>,
}

impl HostPolicies {
    /// A table with these policies.
    pub fn new(policies: BTreeMap<AgentName, HostPolicy>) -> Self {
        let table = Self::default();
        table.replace(policies);
        table
    }

    /// What the agent may reach now; nothing when it is not in the table.
    pub fn effective(&self, agent: &AgentName) -> Arc<HostPolicy> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(agent).cloned().unwrap_or_default()
    }

    /// Replaces every policy. Calls that are decided from now on see the new ones.
    pub fn replace(&self, policies: BTreeMap<AgentName, HostPolicy>) {
        let new = policies.into_iter().map(|(agent, policy)| (agent, Arc::new(policy))).collect();
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_not_in_the_table_reaches_nothing() {
        let name: AgentName = "a".parse().unwrap();
        let allow = vec!["docs.example".parse().unwrap()];
        let open = HostPolicy { allow, deny: Vec::new() };
        let table = HostPolicies::new([(name.clone(), open.clone())].into());
        assert_eq!(*table.effective(&name), open);
        assert_eq!(*table.effective(&"b".parse().unwrap()), HostPolicy::default());
        let shared = table.clone();
        table.replace(BTreeMap::new());
        assert_eq!(*shared.effective(&name), HostPolicy::default());
    }
}
