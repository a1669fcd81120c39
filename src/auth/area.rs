//! What administrators see and change: one type per area, so that a function that acts on tokens
//! cannot be given the permission to change policy. The one table of their roles.

use crate::domain::Role;

/// An area of administration, as the action of a [`Permit`](super::Permit). Only this file has any.
pub trait Area: sealed::Proof {
    /// The action's name in the audit trail.
    const NAME: &'static str;
    /// As a sentence says it: "the role … may not …".
    const PHRASE: &'static str;
    /// The least role.
    const ROLE: Role;
}

mod sealed {
    /// Made in `auth` alone.
    pub trait Proof {
        fn proof() -> Self;
    }
}

pub(in crate::auth) fn proof<A: Area>() -> A {
    A::proof()
}

macro_rules! areas {
    ($($(#[doc = $doc:literal])+ $type:ident: $role:ident, $name:literal, $phrase:literal;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $type(());

            impl sealed::Proof for $type {
                fn proof() -> Self {
                    Self(())
                }
            }

            impl Area for $type {
                const NAME: &'static str = $name;
                const PHRASE: &'static str = $phrase;
                const ROLE: Role = Role::$role;
            }
        )+

        /// Every area with its least role, for tests that go through all of them.
        pub const AREAS: &[(&str, Role)] = &[$(($name, Role::$role)),+];
    };
}

areas! {
    /// See and change which machines agents may reach.
    ManageEgress: Admin, "egress.manage", "see or change which machines agents may reach";
    /// See how this daemon works: its sandbox and its bounds.
    Inspect: Admin, "daemon.inspect", "inspect the daemon";
    /// See and change who may act, up to their own standing.
    ManagePrincipals: Admin, "principals.manage", "see or change who may act";
    /// See, make and revoke tokens, up to their own standing.
    ManageTokens: Admin, "tokens.manage", "see, make or revoke tokens";
    /// See, approve and deny pairings, and revoke links.
    ManagePairings: Admin, "pairings.manage", "see or decide who is linked to an account";
    /// See, check, replace and replay the policy.
    ManagePolicy: Admin, "policy.manage", "see or change the policy";
    /// See and revoke capabilities.
    ManageCapabilities: Admin, "capabilities.manage", "see or revoke capabilities";
    /// See and change budgets.
    ManageBudgets: Admin, "budgets.manage", "see or change budgets";
    /// Read, export and check the audit trail.
    ReadAudit: Admin, "audit.read", "read the audit trail";
    /// See the names and ages of secrets.
    SeeSecrets: Admin, "secrets.see", "see which secrets there are";
    /// Store, replace and rotate secrets.
    ChangeSecrets: Overlord, "secrets.change", "change secrets";
    /// Make, see and check backups.
    ManageBackups: Admin, "backups.manage", "make or see backups";
    /// Stop everything that agents do.
    Lockdown: Admin, "lockdown.set", "lock the daemon down";
    /// Let agents work again.
    LiftLockdown: Overlord, "lockdown.lift", "lift a lockdown";
    /// See how long things are kept, what must be, and who was erased.
    SeeRetention: Admin, "retention.read", "see how long things are kept";
    /// Say how long things are kept, and remove what is old.
    ManageRetention: Overlord, "retention.manage", "change how long things are kept";
    /// Erase a person's data.
    ErasePersons: Overlord, "persons.erase", "erase a person's data";
    /// Export a person's data, up to their own standing.
    ExportPersons: Admin, "persons.export", "export a person's data";
}
