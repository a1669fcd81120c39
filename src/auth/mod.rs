//! May this happen? Who asks, what their role allows, and what a tool call may touch.
//!
//! Invariants: knows no HTTP, no chat SDK and no wire format. Nothing outside this module can make
//! a [`Permit`]. Every refusal is typed and leaves an audit row. [`policy`] imports `domain` alone.

pub mod area;
pub mod authn;
pub mod authorize;
pub mod capability;
pub mod context;
pub mod directory;
pub mod gate;
pub mod hosts;
pub mod keys;
pub mod pairing;
pub mod permit;
pub mod policies;
pub mod policy;
pub mod rates;
pub mod seal;
mod standing;
pub mod trail;

use crate::domain::AuditEntry;

pub use area::{
    Area, ChangeSecrets, ErasePersons, ExportPersons, Inspect, LiftLockdown, Lockdown,
    ManageBackups, ManageBudgets, ManageCapabilities, ManageEgress, ManagePairings, ManagePolicy,
    ManagePrincipals, ManageRetention, ManageTokens, ReadAudit, SeeRetention, SeeSecrets,
};
pub use authn::{AuthError, Authenticator, TokenEntry, TokenTable, Verified};
pub use authorize::{Authorizer, Denied};
pub use context::{CallContext, Scope};
pub use directory::{Arrivals, Directory};
pub use gate::{Admitted, Asked, Gate, GateFacts, GateRules, GateVerdict, Turned};
pub use hosts::HostPolicies;
pub use keys::{Key, Keys, Purpose};
pub use permit::{Control, Decide, Permit, Read, StartRun, Verb};
pub use policies::Policies;
pub use rates::RequestRates;

/// Where refusals are recorded. The composition root gives one that writes to the store; it must
/// not block, and must not lose an entry silently.
pub trait AuditSink: Send + Sync {
    /// Takes one entry for the audit trail.
    fn record(&self, entry: AuditEntry);
}
