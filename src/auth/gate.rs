//! Who may make agents work: by role, by whether they were spoken to, and how often. One gate for
//! every way a run can begin; an [`Admitted`] is the proof that it was passed.
//!
//! [`decide`] is pure. [`Gate`] adds the only state: how many runs somebody started lately.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    domain::{PrincipalId, Role},
    runtime::Rates,
};

/// People whose starts are counted at once; more share one count.
const PEOPLE_MAX: usize = 16_384;

/// What configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRules {
    /// The least role that may make agents work at all.
    pub min_role: Role,
    /// From this role on the rates do not count.
    pub exempt_role: Role,
    /// Runs that one person may start in a minute from a chat; 0: no bound.
    pub chat_runs_per_minute: u64,
    /// The same over REST and WebSocket.
    pub api_runs_per_minute: u64,
}

impl Default for GateRules {
    fn default() -> Self {
        Self {
            min_role: Role::Member,
            exempt_role: Role::Operator,
            chat_runs_per_minute: 8,
            api_runs_per_minute: 0,
        }
    }
}

/// How somebody asked an agent to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By a request that says so: REST, WebSocket, the command line.
    Api,
    /// By a message in a chat.
    Chat {
        /// The message came in a conversation with the agent alone.
        is_direct: bool,
        /// The message names the agent.
        is_mention: bool,
    },
}

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateFacts {
    /// The standing of the one who asks.
    pub role: Role,
    /// How they asked.
    pub asked: Asked,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateVerdict {
    /// They may.
    Admit,
    /// They may, as often as the rate of their way in allows.
    AdmitWithin,
    /// The role is too low.
    RoleTooLow,
    /// People talk among themselves: nobody asked the agent.
    NotAddressed,
}

/// Decides. Pure: no clock, no store.
pub fn decide(rules: &GateRules, facts: &GateFacts) -> GateVerdict {
    match facts.asked {
        // First, so that talk among people never costs or reveals anything.
        Asked::Chat { is_direct: false, is_mention: false } => GateVerdict::NotAddressed,
        Asked::Chat { .. } | Asked::Api if facts.role < rules.min_role => GateVerdict::RoleTooLow,
        Asked::Chat { .. } | Asked::Api if facts.role >= rules.exempt_role => GateVerdict::Admit,
        Asked::Chat { .. } | Asked::Api => GateVerdict::AdmitWithin,
    }
}

/// Proof that somebody has passed the gate.
#[derive(Debug)]
pub struct Admitted(());

impl Admitted {
    /// Spends it on what waits in the store for its turn.
    pub const fn store(self) {}
}

/// Why somebody was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Turned {
    /// The role is too low.
    #[error("the role {role} may not make agents work here; it needs {required} or higher")]
    Role {
        /// What they have.
        role: Role,
        /// What it takes.
        required: Role,
    },
    /// Nobody asked the agent.
    #[error("the agent was not spoken to: mention it, or write to it directly")]
    NotAddressed,
    /// They started too many runs.
    #[error("you may start {per_minute} runs in a minute; try again in {} s", retry_after.as_secs().max(1))]
    TooOften {
        /// Runs in a minute.
        per_minute: u64,
        /// When to try again.
        retry_after: Duration,
        /// The first refusal of a burst.
        is_news: bool,
    },
}

/// The gate. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: GateRules,
    api: Rates<PrincipalId>,
    chat: Rates<PrincipalId>,
}

impl Gate {
    /// A gate with these rules.
    pub fn new(rules: GateRules) -> Self {
        let api = Rates::per_minute(rules.api_runs_per_minute, PEOPLE_MAX);
        let chat = Rates::per_minute(rules.chat_runs_per_minute, PEOPLE_MAX);
        Self(Arc::new(Inner { rules, api, chat }))
    }

    /// Lets what passed the gate before and was stored through again, as long as who sent it may
    /// still make agents work. It was counted when it came.
    pub fn readmit(&self, role: Role) -> Option<Admitted> {
        (role >= self.0.rules.min_role).then_some(Admitted(()))
    }

    /// Lets somebody through, and counts them.
    ///
    /// # Errors
    /// [`Turned`], for the caller to record.
    pub fn pass(
        &self,
        principal: PrincipalId,
        facts: GateFacts,
        now: Instant,
    ) -> Result<Admitted, Turned> {
        let rules = &self.0.rules;
        let (rates, per_minute) = match facts.asked {
            Asked::Api => (&self.0.api, rules.api_runs_per_minute),
            Asked::Chat { .. } => (&self.0.chat, rules.chat_runs_per_minute),
        };
        match decide(rules, &facts) {
            GateVerdict::Admit => Ok(Admitted(())),
            GateVerdict::AdmitWithin => match rates.take(principal, 1, now) {
                Ok(()) => Ok(Admitted(())),
                Err(often) => Err(Turned::TooOften {
                    per_minute,
                    retry_after: often.retry_after,
                    is_news: often.is_news,
                }),
            },
            GateVerdict::RoleTooLow => {
                Err(Turned::Role { role: facts.role, required: rules.min_role })
            }
            GateVerdict::NotAddressed => Err(Turned::NotAddressed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{IdSource, ManualClock};

    const DIRECT: Asked = Asked::Chat { is_direct: true, is_mention: false };
    const MENTION: Asked = Asked::Chat { is_direct: false, is_mention: true };
    const OVERHEARD: Asked = Asked::Chat { is_direct: false, is_mention: false };

    #[test]
    fn the_gate_decides_by_role_and_by_whether_the_agent_was_spoken_to() {
        let rules = GateRules::default();
        for (role, asked, expected) in [
            (Role::Viewer, Asked::Api, GateVerdict::RoleTooLow),
            (Role::Member, Asked::Api, GateVerdict::AdmitWithin),
            (Role::Operator, Asked::Api, GateVerdict::Admit),
            (Role::Overlord, Asked::Api, GateVerdict::Admit),
            (Role::Viewer, DIRECT, GateVerdict::RoleTooLow),
            (Role::Viewer, OVERHEARD, GateVerdict::NotAddressed),
            (Role::Member, DIRECT, GateVerdict::AdmitWithin),
            (Role::Member, MENTION, GateVerdict::AdmitWithin),
            (Role::Member, OVERHEARD, GateVerdict::NotAddressed),
            (Role::Admin, MENTION, GateVerdict::Admit),
            (Role::Overlord, OVERHEARD, GateVerdict::NotAddressed),
        ] {
            assert_eq!(decide(&rules, &GateFacts { role, asked }), expected, "{role} {asked:?}");
        }
        let strict = GateRules { min_role: Role::Admin, ..rules };
        let operator = GateFacts { role: Role::Operator, asked: Asked::Api };
        assert_eq!(decide(&strict, &operator), GateVerdict::RoleTooLow, "exempt is not admitted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_starts_eight_runs_a_minute_from_a_chat_and_operators_any_number() {
        let ids = IdSource::new(Arc::new(ManualClock::at_secs(1)), |bytes| bytes.fill(7));
        let (gate, me) = (Gate::new(GateRules::default()), PrincipalId::new(&ids));
        let pass = |role, asked| gate.pass(me, GateFacts { role, asked }, Instant::now()).map(drop);
        for _ in 0..8 {
            pass(Role::Member, DIRECT).unwrap();
        }
        let refused = pass(Role::Member, MENTION).unwrap_err();
        assert!(matches!(refused, Turned::TooOften { per_minute: 8, is_news: true, .. }));
        assert_eq!(pass(Role::Member, OVERHEARD), Err(Turned::NotAddressed));
        for _ in 0..100 {
            pass(Role::Operator, DIRECT).unwrap();
            pass(Role::Member, Asked::Api).unwrap();
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(pass(Role::Member, DIRECT), Ok(()));
    }
}
