//! Capabilities: signed words about what a run, or one call of it, may do.
//!
//! Invariants: pure, no I/O and no clock of its own. Nothing is believed that this daemon's key
//! has not signed as a whole. One that was made out of another allows nothing more, ends no later,
//! and can be handed on no further. What is not known (a kind, an action, a constraint) is denied.

mod bytes;
mod claims;
mod grants;
mod pattern;

use data_encoding::BASE64URL_NOPAD;

pub use bytes::PERMISSIONS_MAX;
pub use claims::{
    Action, Ask, Category, Circumstances, Claims, Constraints, Issuer, Permission, Use,
};
pub use grants::{Needs, of_agent};
pub use pattern::{Pattern, Resource};

use super::keys::{KEY_BYTES, Key, Keys, Purpose};
use crate::domain::{CapabilityId, Timestamp, ToolCallId};

/// Begins the text of a capability; another way of signing gets another one.
const PREFIX: &str = "cap_v1.";

/// Why a capability does not allow something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error("the run holds no capability: it was taken away")]
    Missing,
    /// Not a capability, or not signed by this daemon.
    #[error("this is no capability that this daemon has signed")]
    Forged,
    /// It is not valid any more.
    #[error("the capability {id} has expired")]
    Expired {
        /// Which one.
        id: CapabilityId,
    },
    /// It was revoked, or one that it was made out of.
    #[error("the capability {id} was revoked")]
    Revoked {
        /// Which one.
        id: CapabilityId,
    },
    /// It does not allow what is asked.
    #[error("the capability {id} does not allow {what}")]
    NotAllowed {
        /// Which one.
        id: CapabilityId,
        /// What was asked.
        what: String,
    },
    /// It may not be handed on.
    #[error("the capability {id} may not be handed on")]
    NotDelegatable {
        /// Which one.
        id: CapabilityId,
    },
}

impl Refusal {
    /// The name of the rule, for events and the audit trail.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Missing => "capability.missing",
            Self::Forged => "capability.forged",
            Self::Expired { .. } => "capability.expired",
            Self::Revoked { .. } => "capability.revoked",
            Self::NotAllowed { .. } => "capability.not_allowed",
            Self::NotDelegatable { .. } => "capability.not_delegatable",
        }
    }
}

/// Claims with their signature. Made by [`Authority`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Capability {
    claims: Claims,
    /// The claims as they were signed.
    bytes: Vec<u8>,
    mac: [u8; KEY_BYTES],
}

impl std::fmt::Debug for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capability").field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl Capability {
    /// What it says.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The signed text: `cap_v1.<claims>.<mac>`, both in base64url without padding.
    pub fn text(&self) -> String {
        let (claims, mac) =
            (BASE64URL_NOPAD.encode(&self.bytes), BASE64URL_NOPAD.encode(&self.mac));
        format!("{PREFIX}{claims}.{mac}")
    }
}

/// What is to be made out of a capability.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// The new one's id.
    pub id: CapabilityId,
    /// The call that it is for.
    pub call: ToolCallId,
    /// What it allows; each must lie within one permission of the parent.
    pub permissions: Vec<Permission>,
    /// Until when at most; it always ends before the parent does.
    pub expires: Timestamp,
}

/// Signs and checks with this daemon's key.
#[derive(Clone, Debug)]
pub struct Authority {
    key: Key,
}

impl Authority {
    /// Signs with the key for capabilities.
    pub fn new(keys: &Keys) -> Self {
        Self { key: keys.key(Purpose::Capability) }
    }

    /// Gives a capability to a run.
    pub fn grant(&self, claims: Claims) -> Capability {
        let bytes = bytes::write(&claims);
        let mac = self.key.mac(&bytes);
        Capability { claims, bytes, mac }
    }

    /// Reads a capability that this daemon has signed.
    ///
    /// # Errors
    /// [`Refusal::Forged`], whatever is wrong with it.
    pub fn open(&self, text: &str) -> Result<Capability, Refusal> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.'));
        let (claims, mac) = parts.ok_or(Refusal::Forged)?;
        let decode = |part: &str| {
            BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_not_base64| Refusal::Forged)
        };
        let (bytes, mac) = (decode(claims)?, decode(mac)?);
        // The signature first: nothing else of a forged one is looked at.
        if !self.key.verifies(&bytes, &mac) {
            return Err(Refusal::Forged);
        }
        let claims = bytes::read(&bytes).filter(is_sound).ok_or(Refusal::Forged)?;
        let mac = mac.try_into().map_err(|_length| Refusal::Forged)?;
        Ok(Capability { claims, bytes, mac })
    }

    /// Whether a capability is this daemon's, valid now, not revoked (nor the one that it was made
    /// out of), and allows all that is asked.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check(
        &self,
        capability: &Capability,
        asks: &[Ask<'_>],
        now: Timestamp,
        is_revoked: impl Fn(CapabilityId) -> bool,
    ) -> Result<(), Refusal> {
        self.in_force(capability, now, is_revoked)?;
        let claims = &capability.claims;
        match asks.iter().find(|ask| !claims.allow(ask)) {
            Some(ask) => Err(Refusal::NotAllowed { id: claims.id, what: told(ask) }),
            None => Ok(()),
        }
    }

    fn in_force(
        &self,
        capability: &Capability,
        now: Timestamp,
        is_revoked: impl Fn(CapabilityId) -> bool,
    ) -> Result<(), Refusal> {
        let Capability { claims, bytes, mac } = capability;
        let Claims { id, expires, parent, .. } = *claims;
        if !self.key.verifies(bytes, mac) {
            return Err(Refusal::Forged);
        }
        if is_revoked(id) || parent.is_some_and(is_revoked) {
            return Err(Refusal::Revoked { id });
        }
        // Not before `issued` is not asked: whoever signed it held it already, and a clock that was
        // set back would stop every run.
        if now >= expires { Err(Refusal::Expired { id }) } else { Ok(()) }
    }

    /// Makes a capability for one call out of a run's: a part of it, shorter, and for nobody else.
    ///
    /// # Errors
    /// What is in the way; nothing is made that goes beyond the parent.
    pub fn delegate(
        &self,
        parent: &Capability,
        new: Delegation,
        now: Timestamp,
        is_revoked: impl Fn(CapabilityId) -> bool,
    ) -> Result<Capability, Refusal> {
        self.in_force(parent, now, is_revoked)?;
        let parent = &parent.claims;
        if !parent.delegatable {
            return Err(Refusal::NotDelegatable { id: parent.id });
        }
        if let Some(beyond) = new.permissions.iter().find(|p| !parent.hold(p)) {
            return Err(Refusal::NotAllowed { id: parent.id, what: beyond.to_string() });
        }
        // It ends before the parent does and lives for less time, also when the clock was set back.
        let life = parent.expires.since(parent.issued);
        let before = |at: Timestamp| Timestamp::from_micros(at.as_micros().saturating_sub(1));
        let expires = new.expires.min(before(parent.expires)).min(before(now.plus(life)));
        if expires <= now {
            return Err(Refusal::Expired { id: parent.id });
        }
        Ok(self.grant(Claims {
            id: new.id,
            run: parent.run,
            agent: parent.agent.clone(),
            permissions: new.permissions,
            issuer: Issuer::Capability(parent.id),
            purpose: Use::Call(new.call),
            issued: now,
            expires,
            delegatable: false,
            parent: Some(parent.id),
        }))
    }
}

/// Claims that contradict themselves were never meant, whoever signed them.
fn is_sound(claims: &Claims) -> bool {
    let comes_from = match claims.issuer {
        Issuer::Daemon => None,
        Issuer::Capability(id) => Some(id),
    };
    claims.parent == comes_from && !(claims.parent.is_some() && claims.delegatable)
}

/// What was asked, for people.
fn told(ask: &Ask<'_>) -> String {
    let what = match ask.resource {
        None => "without naming it".to_owned(),
        Some(Resource::Tool(tool)) => format!("`{tool}`"),
        Some(Resource::Path(path)) => format!("`{}`", path.display()),
        Some(Resource::Command(command)) => format!("`{command}`"),
        Some(Resource::Host { host, port, .. }) => format!("{}:{port}", host.authority()),
    };
    format!("to {} the {} {what}", ask.action.as_str(), ask.category.as_str())
}

#[cfg(test)]
mod tests;
