//! Whose rights somebody may change, and which they may give: never their own, never more than they
//! have, and those of administrators only as an overlord.

use crate::domain::{Principal, PrincipalId, Role, Scopes};

use super::{area::Area, authorize::Denied, permit::Permit};

impl<A: Area> Permit<A> {
    /// Whether they may deal with somebody of this standing.
    ///
    /// # Errors
    /// When it is an administrator's and they are no overlord.
    pub fn reaches(&self, role: Role) -> Result<(), Denied> {
        reaches(&self.context().principal, role)
    }

    /// Whether they may give a standing, narrowed by these scopes.
    ///
    /// # Errors
    /// When it is more than they have.
    pub fn gives(&self, role: Role, scopes: &Scopes) -> Result<(), Denied> {
        gives(&self.context().principal, role, scopes)
    }

    /// Whether somebody is somebody else.
    ///
    /// # Errors
    /// When it is themselves.
    pub fn is_another(&self, id: PrincipalId) -> Result<(), Denied> {
        if self.context().principal.id == id { Err(Denied::OwnRights) } else { Ok(()) }
    }
}

fn reaches(me: &Principal, role: Role) -> Result<(), Denied> {
    if role < Role::Admin || me.role >= Role::Overlord {
        return Ok(());
    }
    let action = "deal with the rights of administrators";
    Err(Denied::Role { role: me.role, action, required: Role::Overlord })
}

fn gives(me: &Principal, role: Role, scopes: &Scopes) -> Result<(), Denied> {
    if role > me.role {
        let action = "give a higher role than their own";
        return Err(Denied::Role { role: me.role, action, required: role });
    }
    if scopes.is_within(&me.scopes) { Ok(()) } else { Err(Denied::WiderScopes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{auth::authn::principal_id_of, domain::Surface};

    fn me(role: Role) -> Principal {
        let scopes = Scopes { surfaces: Some([Surface::Admin].into()), ..Scopes::default() };
        Principal { id: principal_id_of("me"), name: "me".to_owned(), role, scopes }
    }

    fn roles() -> impl Strategy<Value = Role> {
        proptest::sample::select(Role::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn nobody_gives_more_than_they_have(own in roles(), role in roles(), wide in any::<bool>()) {
            let me = me(own);
            let scopes = if wide { Scopes::default() } else { me.scopes.clone() };
            let given = gives(&me, role, &scopes);
            prop_assert_eq!(given.is_ok(), role <= own && !wide);
        }

        #[test]
        fn only_an_overlord_deals_with_administrators(own in roles(), role in roles()) {
            let expected = role <= Role::Operator || own == Role::Overlord;
            prop_assert_eq!(reaches(&me(own), role).is_ok(), expected);
        }
    }
}
