//! What a capability says, before it is signed.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::domain::{AgentName, CapabilityId, RunId, Timestamp, ToolCallId, run::UnknownName};

use super::pattern::{Pattern, Resource};

macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $what:literal, { $($(#[$of:meta])* $variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[$of])* $variant),+ }

        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the signed bytes.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let found = Self::ALL.iter().copied().find(|value| value.as_str() == text);
                found.ok_or(UnknownName { what: $what })
            }
        }
    };
}

words!(
    /// The kind of resource that a permission is about.
    Category, "category of a capability", {
        /// Tools.
        Tool => "tool",
        /// Files and directories.
        Path => "path",
        /// Programs.
        Command => "command",
        /// Other machines.
        Host => "host",
    }
);

words!(
    /// What may be done with a resource.
    Action, "action of a capability", {
        /// Call a tool.
        Use => "use",
        /// Read a file or list a directory.
        Read => "read",
        /// Write a file.
        Write => "write",
        /// Execute a file that lies among data.
        Execute => "execute",
        /// Start a program.
        Run => "run",
        /// Connect to a machine.
        Connect => "connect",
    }
);

/// What must hold beside the permission itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constraints {
    /// The call must be bounded to so many seconds of wall clock.
    pub wall_secs_max: Option<u64>,
    /// The call must have been released: by a person, or by a rule of the policy.
    pub only_released: bool,
}

/// How a call stands that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Seconds of wall clock that it is bounded to.
    pub wall_secs: Option<u64>,
    /// A person, or a rule of the policy, has released it.
    pub is_released: bool,
}

impl Constraints {
    fn hold(&self, at: &Circumstances) -> bool {
        let in_time =
            self.wall_secs_max.is_none_or(|most| at.wall_secs.is_some_and(|asked| asked <= most));
        in_time && (!self.only_released || at.is_released)
    }

    /// Whether whatever these let through, `outer` lets through as well.
    fn are_within(&self, outer: &Self) -> bool {
        let in_time = outer
            .wall_secs_max
            .is_none_or(|most| self.wall_secs_max.is_some_and(|own| own <= most));
        in_time && (!outer.only_released || self.only_released)
    }
}

/// One thing that a capability allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    category: Category,
    actions: BTreeSet<Action>,
    resource: Option<Pattern>,
    constraints: Constraints,
}

/// What is asked of a capability.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The kind of resource.
    pub category: Category,
    /// What is to be done with it.
    pub action: Action,
    /// The resource.
    pub resource: Option<Resource<'a>>,
    /// How the call stands.
    pub at: Circumstances,
}

impl Permission {
    /// Allows these actions on what the pattern means.
    pub fn on(resource: Pattern, actions: impl IntoIterator<Item = Action>) -> Self {
        Self {
            category: resource.category(),
            actions: actions.into_iter().collect(),
            resource: Some(resource),
            constraints: Constraints::default(),
        }
    }

    /// As read from signed bytes; none when the parts do not belong together.
    pub(super) fn read(
        category: Category,
        actions: BTreeSet<Action>,
        resource: Option<Pattern>,
        constraints: Constraints,
    ) -> Option<Self> {
        let belongs = resource.as_ref().is_none_or(|pattern| pattern.category() == category);
        (belongs && !actions.is_empty()).then_some(Self {
            category,
            actions,
            resource,
            constraints,
        })
    }

    /// The same under these constraints.
    #[must_use]
    pub fn under(self, constraints: Constraints) -> Self {
        Self { constraints, ..self }
    }

    /// The kind of resource.
    pub const fn category(&self) -> Category {
        self.category
    }

    /// What may be done.
    pub const fn actions(&self) -> &BTreeSet<Action> {
        &self.actions
    }

    /// With what; none means every resource of the kind.
    pub const fn resource(&self) -> Option<&Pattern> {
        self.resource.as_ref()
    }

    /// What must hold beside.
    pub const fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// Whether this permission alone allows what is asked. One about certain resources never
    /// allows what names none.
    pub fn allows(&self, ask: &Ask<'_>) -> bool {
        let is_meant = match (&self.resource, &ask.resource) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(pattern), Some(resource)) => pattern.covers(resource),
        };
        self.category == ask.category
            && self.actions.contains(&ask.action)
            && is_meant
            && self.constraints.hold(&ask.at)
    }

    /// Whether everything that this permission allows, `outer` allows as well.
    pub fn is_within(&self, outer: &Self) -> bool {
        let is_meant = match (&outer.resource, &self.resource) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(outer), Some(inner)) => outer.contains(inner),
        };
        self.category == outer.category
            && self.actions.is_subset(&outer.actions)
            && is_meant
            && self.constraints.are_within(&outer.constraints)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<&str> = self.actions.iter().map(|action| action.as_str()).collect();
        write!(f, "{} {}", self.category.as_str(), actions.join(","))?;
        if let Some(resource) = &self.resource {
            write!(f, " {resource}")?;
        }
        if let Some(secs) = self.constraints.wall_secs_max {
            write!(f, " (at most {secs} s)")?;
        }
        if self.constraints.only_released {
            f.write_str(" (once released)")?;
        }
        Ok(())
    }
}

/// Who gave a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// The daemon, when it took a run up.
    Daemon,
    /// Whoever holds that capability, out of it.
    Capability(CapabilityId),
}

/// What a capability is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// A run, from when it is taken up to when it next waits or ends.
    Run,
    /// One call.
    Call(ToolCallId),
}

/// Everything that a capability says; all of it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Its id.
    pub id: CapabilityId,
    /// The run that it is for.
    pub run: RunId,
    /// The run's agent.
    pub agent: AgentName,
    /// What it allows: what none of these allows is denied.
    pub permissions: Vec<Permission>,
    /// Who gave it.
    pub issuer: Issuer,
    /// What for.
    pub purpose: Use,
    /// From when it holds.
    pub issued: Timestamp,
    /// Until when, that moment not included.
    pub expires: Timestamp,
    /// Whether another may be made out of it.
    pub delegatable: bool,
    /// The one that it was made out of.
    pub parent: Option<CapabilityId>,
}

impl Claims {
    /// Whether one of the permissions allows what is asked.
    pub fn allow(&self, ask: &Ask<'_>) -> bool {
        self.permissions.iter().any(|permission| permission.allows(ask))
    }

    /// Whether a single permission of these holds all that this one does.
    pub fn hold(&self, permission: &Permission) -> bool {
        self.permissions.iter().any(|own| permission.is_within(own))
    }
}
