//! Our words: the types that every other module speaks.
//!
//! Invariants: nothing here does I/O, is async, reads a clock on its own or knows another module.
//! Every state machine is a pure, total function without wildcard arms.

pub mod agent;
pub mod approval;
pub mod audit;
pub mod backup;
pub mod binding;
pub mod budget;
pub mod capability;
pub mod egress;
pub mod egress_rule;
pub mod event;
pub mod grant;
pub mod host;
pub mod identity;
pub mod ids;
pub mod keeping;
pub mod limits;
pub mod message;
pub mod money;
pub mod pattern;
pub mod policy;
pub mod principal;
pub mod run;
pub mod scopes;
pub mod secret;
pub mod steady;
pub mod time;
pub mod tool;

pub use agent::{AgentDef, AgentName};
pub use approval::{
    Approval, ApprovalKind, ApprovalState, Decision, DecisionScope, UnknownOutcome,
};
pub use audit::{AuditEntry, AuditKind};
pub use backup::{BackupRecord, BackupState, DailyTime};
pub use binding::{Binding, Bound, BoundDirectory, BoundExecutable, BoundFile, BoundTarget};
pub use budget::{BudgetLimit, BudgetScope, BudgetScopeError, BudgetSubject, Day, DayError};
pub use capability::{CapabilityRecord, CapabilityState, LockdownRecord, Revocation, RevokedFor};
pub use egress::{EgressRecord, EgressVia};
pub use egress_rule::{EgressRule, EgressVerdict};
pub use event::{Event, EventBody};
pub use grant::{Access, CommandRule, Grant, PathRule, ToolLimits};
pub use host::{
    Destination, EgressLimits, HostDenial, HostName, HostPattern, HostPolicy, HostRule, HostVerdict,
};
pub use identity::{
    LinkRecord, PairingRecord, PairingState, Platform, PrincipalRecord, TokenRecord,
};
pub use ids::{
    ApprovalId, BackupId, BundleId, CapabilityId, ConversationId, EgressRuleId, ErasureId, EventId,
    IdSource, LinkId, MessageId, PairingId, PatternId, PrincipalId, RunId, SteerId, TokenId,
    ToolCallId,
};
pub use keeping::{Erasure, Hold, HoldKind, Retention, RetentionClass};
pub use message::{Author, Message, Part, UserInput};
pub use money::Usd;
pub use pattern::{ApprovalPattern, PatternBounds};
pub use policy::{
    PolicyActivation, PolicyDecision, PolicyInfo, PolicyOrigin, PolicyVersion, StoredPolicy,
};
pub use principal::{Principal, Role, Surface};
pub use run::{
    Confinement, InterruptMode, OnBusy, Run, RunError, RunInput, RunLimits, RunState, Usage,
    WaitReason,
};
pub use scopes::{ScopeKind, Scopes};
pub use secret::{SealedSecret, Secret, SecretAge, SecretName, SecretSource};
pub use steady::SteadyClock;
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use tool::{
    CallFacts, CallInput, CallState, Effect, Risk, ToolCall, ToolName, ToolOutcome, ToolStatus,
};
