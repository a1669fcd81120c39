//! Claims as bytes, and back. What is signed are these bytes.
//!
//! Invariants: every field is written with its length, in one fixed order, so that no two claims
//! have the same bytes. What is read must be written back as the same bytes; a word that is not
//! known, an order that is not ours or anything behind the end makes the whole of it nothing.

use std::collections::BTreeSet;

use crate::domain::Timestamp;

use super::{
    claims::{Action, Category, Claims, Constraints, Issuer, Permission, Use},
    pattern::Pattern,
};

/// Stands before everything: bytes of another kind or version never mean anything here.
const KIND: &[u8] = b"agent-runtime capability 1";
/// Permissions of one capability: each rule about hosts is one.
pub const PERMISSIONS_MAX: usize = 4_096;
const DAEMON: &str = "daemon";
const RUN: &str = "run";
const WALL_SECS: &str = "wall_secs_max";
const RELEASED: &str = "only_released";

/// The canonical bytes of all claims.
pub(super) fn write(claims: &Claims) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    field(&mut out, KIND);
    field(&mut out, claims.id.to_string().as_bytes());
    field(&mut out, claims.run.to_string().as_bytes());
    field(&mut out, claims.agent.as_str().as_bytes());
    match claims.issuer {
        Issuer::Daemon => field(&mut out, DAEMON.as_bytes()),
        Issuer::Capability(id) => field(&mut out, id.to_string().as_bytes()),
    }
    match claims.purpose {
        Use::Run => field(&mut out, RUN.as_bytes()),
        Use::Call(call) => field(&mut out, call.to_string().as_bytes()),
    }
    field(&mut out, &claims.issued.as_micros().to_be_bytes());
    field(&mut out, &claims.expires.as_micros().to_be_bytes());
    field(&mut out, &[u8::from(claims.delegatable)]);
    maybe(&mut out, claims.parent.map(|id| id.to_string()));
    count(&mut out, claims.permissions.len());
    for permission in &claims.permissions {
        field(&mut out, permission.category().as_str().as_bytes());
        count(&mut out, permission.actions().len());
        for action in permission.actions() {
            field(&mut out, action.as_str().as_bytes());
        }
        maybe(&mut out, permission.resource().map(ToString::to_string));
        let Constraints { wall_secs_max, only_released } = *permission.constraints();
        count(&mut out, usize::from(wall_secs_max.is_some()) + usize::from(only_released));
        if let Some(secs) = wall_secs_max {
            field(&mut out, WALL_SECS.as_bytes());
            field(&mut out, &secs.to_be_bytes());
        }
        if only_released {
            field(&mut out, RELEASED.as_bytes());
            field(&mut out, &[]);
        }
    }
    out
}

/// Reads claims; none for anything but bytes that [`write`] gives.
pub(super) fn read(bytes: &[u8]) -> Option<Claims> {
    let mut rest = Rest(bytes);
    if rest.field()? != KIND {
        return None;
    }
    let claims = Claims {
        id: rest.text()?.parse().ok()?,
        run: rest.text()?.parse().ok()?,
        agent: rest.text()?.parse().ok()?,
        issuer: match rest.text()? {
            DAEMON => Issuer::Daemon,
            id => Issuer::Capability(id.parse().ok()?),
        },
        purpose: match rest.text()? {
            RUN => Use::Run,
            call => Use::Call(call.parse().ok()?),
        },
        issued: rest.time()?,
        expires: rest.time()?,
        delegatable: rest.flag()?,
        parent: match rest.list()?.as_slice() {
            [] => None,
            [id] => Some(id.parse().ok()?),
            _ => return None,
        },
        permissions: rest.permissions()?,
    };
    // One form alone: what reads as these claims and is written otherwise is not ours.
    (rest.0.is_empty() && write(&claims) == bytes).then_some(claims)
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    // Text of ours: lengths are far below the bound, and a longer one would not read back.
    count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn count(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

/// A list of none or one.
fn maybe(out: &mut Vec<u8>, text: Option<String>) {
    count(out, usize::from(text.is_some()));
    if let Some(text) = text {
        field(out, text.as_bytes());
    }
}

/// What is not read yet.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn count(&mut self) -> Option<usize> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        usize::try_from(u32::from_be_bytes(*number)).ok()
    }

    fn field(&mut self) -> Option<&'b [u8]> {
        let length = self.count()?;
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.field()?).ok()
    }

    fn time(&mut self) -> Option<Timestamp> {
        let micros = <[u8; 8]>::try_from(self.field()?).ok()?;
        Some(Timestamp::from_micros(i64::from_be_bytes(micros)))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.field()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// Texts, no more than there are words of ours.
    fn list(&mut self) -> Option<Vec<&'b str>> {
        let length = self.count().filter(|length| *length <= Action::ALL.len())?;
        (0..length).map(|_| self.text()).collect()
    }

    fn permissions(&mut self) -> Option<Vec<Permission>> {
        let length = self.count()?;
        if length > PERMISSIONS_MAX {
            return None;
        }
        (0..length).map(|_| self.permission()).collect()
    }

    fn permission(&mut self) -> Option<Permission> {
        let category: Category = self.text()?.parse().ok()?;
        let actions: Option<BTreeSet<Action>> =
            self.list()?.into_iter().map(|word| word.parse().ok()).collect();
        let resource = match self.list()?.as_slice() {
            [] => None,
            [text] => Some(Pattern::parse(category, text)?),
            _ => return None,
        };
        let mut constraints = Constraints::default();
        for _ in 0..self.count().filter(|n| *n <= 2)? {
            match (self.text()?, self.field()?) {
                (WALL_SECS, secs) => {
                    let secs = <[u8; 8]>::try_from(secs).ok()?;
                    constraints.wall_secs_max = Some(u64::from_be_bytes(secs));
                }
                (RELEASED, []) => constraints.only_released = true,
                // A constraint that nobody here can check holds for nothing.
                _ => return None,
            }
        }
        Permission::read(category, actions?, resource, constraints)
    }
}
