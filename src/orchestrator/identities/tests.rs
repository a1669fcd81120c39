//! Who may change whose rights, as administrators and not only as the local operator.

use super::{
    super::tests::{Fixture, cx_of, fresh, idle},
    *,
};
use crate::{
    auth::{ManagePairings, ManagePrincipals, ManageTokens, Permit, authn::principal_id_of},
    domain::{Role, Scopes, Surface},
};

const ADMIN: (&str, Role) = ("ann", Role::Admin);
const OVERLORD: (&str, Role) = ("root", Role::Overlord);

fn people(f: &Fixture, (name, role): (&str, Role)) -> Permit<ManagePrincipals> {
    f.orchestrator.authorizer().manage(&cx_of(name, role)).unwrap()
}

fn tokens(f: &Fixture, (name, role): (&str, Role)) -> Permit<ManageTokens> {
    f.orchestrator.authorizer().manage(&cx_of(name, role)).unwrap()
}

fn pairings(f: &Fixture, (name, role): (&str, Role)) -> Permit<ManagePairings> {
    f.orchestrator.authorizer().manage(&cx_of(name, role)).unwrap()
}

async fn create(
    f: &Fixture,
    by: (&str, Role),
    name: &str,
    role: Role,
) -> Result<PrincipalView, CommandError> {
    let new = NewPrincipal { name: name.to_owned(), role, scopes: Scopes::default() };
    f.orchestrator.create_principal(people(f, by), new, None).await.map(fresh)
}

fn is_forbidden<T>(result: Result<T, CommandError>) -> bool {
    matches!(result, Err(CommandError::Forbidden(_)))
}

async fn token(
    f: &Fixture,
    by: (&str, Role),
    principal: &str,
    role: Option<Role>,
) -> Result<TokenView, CommandError> {
    let new = NewToken {
        principal: principal.to_owned(),
        label: None,
        role,
        scopes: Scopes::default(),
        ttl_secs: None,
    };
    f.orchestrator.create_token(tokens(f, by), new, None).await.map(|made| fresh(made.done))
}

#[tokio::test]
async fn administrators_deal_with_everybody_up_to_operator_and_an_overlord_with_everybody() {
    let f = idle().await;
    for role in Role::ALL {
        let made = create(&f, ADMIN, &format!("by ann, {role}"), role).await;
        assert_eq!(is_forbidden(made), role >= Role::Admin, "{role}");
        create(&f, OVERLORD, &format!("by root, {role}"), role).await.unwrap();
    }
    let other = create(&f, OVERLORD, "other admin", Role::Admin).await.unwrap();
    let patch = PrincipalPatch { role: Some(Role::Viewer), scopes: None };
    let f2 = &f.orchestrator;
    let patched = f2.patch_principal(people(&f, ADMIN), other.id, patch.clone(), None).await;
    assert!(is_forbidden(patched), "an admin does not demote an admin");
    assert!(is_forbidden(f2.enable_principal(people(&f, ADMIN), other.id, false, None).await));
    f2.patch_principal(people(&f, OVERLORD), other.id, patch, None).await.unwrap();
    let low = create(&f, ADMIN, "low", Role::Member).await.unwrap();
    let raise = |role| PrincipalPatch { role: Some(role), scopes: None };
    assert!(is_forbidden(
        f2.patch_principal(people(&f, ADMIN), low.id, raise(Role::Admin), None).await
    ));
    f2.patch_principal(people(&f, ADMIN), low.id, raise(Role::Operator), None).await.unwrap();
}

#[tokio::test]
async fn nobody_changes_their_own_rights() {
    let f = idle().await;
    for who in [ADMIN, OVERLORD] {
        let me = principal_id_of(who.0);
        let patch = PrincipalPatch { role: Some(Role::Viewer), scopes: None };
        let o = &f.orchestrator;
        assert!(is_forbidden(o.patch_principal(people(&f, who), me, patch, None).await));
        assert!(is_forbidden(o.enable_principal(people(&f, who), me, false, None).await));
    }
}

#[tokio::test]
async fn a_token_is_never_above_its_maker_nor_a_second_voice_of_another_administrator() {
    let f = idle().await;
    assert!(is_forbidden(token(&f, ADMIN, "root", Some(Role::Member)).await), "an overlord's");
    assert!(is_forbidden(token(&f, ADMIN, "ann", Some(Role::Overlord)).await), "above the maker");
    assert_eq!(token(&f, ADMIN, "ann", None).await.unwrap().role, Role::Admin);
    assert_eq!(token(&f, ADMIN, "alice", None).await.unwrap().role, Role::Member);
    let above = token(&f, OVERLORD, "alice", Some(Role::Admin)).await;
    assert!(
        matches!(above, Err(CommandError::Invalid { pointer: Some("/role"), .. })),
        "{above:?}"
    );
    // An administrator ends their own and those of others up to operator.
    let own = token(&f, ADMIN, "ann", None).await.unwrap();
    let roots = token(&f, OVERLORD, "root", None).await.unwrap();
    let o = &f.orchestrator;
    o.revoke_token(tokens(&f, ADMIN), own.id).await.unwrap();
    assert!(is_forbidden(o.revoke_token(tokens(&f, ADMIN), roots.id).await));
}

#[tokio::test]
async fn scopes_that_are_given_are_within_those_of_the_giver() {
    let f = idle().await;
    let mut cx = cx_of("root", Role::Overlord);
    cx.principal.scopes = Scopes { surfaces: Some([Surface::Api].into()), ..Scopes::default() };
    let permit = || f.orchestrator.authorizer().manage::<ManagePrincipals>(&cx).unwrap();
    let new = |scopes| NewPrincipal { name: "x".to_owned(), role: Role::Member, scopes };
    let wide = f.orchestrator.create_principal(permit(), new(Scopes::default()), None).await;
    assert!(is_forbidden(wide));
    let within = new(cx.principal.scopes.clone());
    f.orchestrator.create_principal(permit(), within, None).await.unwrap();
}

#[tokio::test]
async fn an_approver_gives_at_most_their_own_role_and_is_locked_alone() {
    let f = idle().await;
    let o = &f.orchestrator;
    let ask = async |account: &str| {
        let new = NewPairing {
            platform: "telegram".parse().unwrap(),
            account: account.to_owned(),
            display: None,
        };
        let made = o.request_pairing(pairings(&f, OVERLORD), new, None).await.unwrap();
        made.code.shown()
    };
    let approve = async |by, code: &str, role, principal: Option<&str>| {
        let key = PairingKey::Code(code.to_owned());
        let new = NewLink { role, principal: principal.map(str::to_owned), name: None };
        o.approve_pairing(pairings(&f, by), key, new, None).await.map(fresh)
    };
    let code = ask("1").await;
    assert!(is_forbidden(approve(ADMIN, &code, Role::Admin, None).await));
    assert!(is_forbidden(approve(ADMIN, &code, Role::Member, Some("root")).await));
    let linked = approve(ADMIN, &code, Role::Operator, None).await.unwrap();
    assert_eq!(linked.link.role, Role::Operator);
    let directory = o.inner.tokens.directory();
    let telegram = "telegram".parse().unwrap();
    let who = directory.resolve(&telegram, "1", o.inner.clock.now()).unwrap();
    assert_eq!((who.name.as_str(), who.role), ("telegram:1", Role::Operator));
    let code = ask("2").await;
    for _ in 0..5 {
        let wrong = approve(ADMIN, "AAAA-AAAA-AAAA-AAAA", Role::Member, None).await;
        assert!(matches!(wrong, Err(CommandError::NotFound { .. })), "{wrong:?}");
    }
    let locked = approve(ADMIN, &code, Role::Member, None).await;
    assert!(matches!(locked, Err(CommandError::Locked { .. })), "{locked:?}");
    approve(OVERLORD, &code, Role::Member, None).await.unwrap();
}

#[tokio::test]
async fn a_code_is_worth_nothing_once_its_time_is_over() {
    let f = idle().await;
    let o = &f.orchestrator;
    let new = NewPairing {
        platform: "telegram".parse().unwrap(),
        account: "1".to_owned(),
        display: None,
    };
    let made = o.request_pairing(pairings(&f, OVERLORD), new, None).await.unwrap();
    let id = fresh(made.done).id;
    // As the keeper does when ten minutes are over.
    let late = o.inner.clock.now().plus(limits::PAIRING_TTL);
    let expired: Result<(), StoreError> = o
        .inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move { tx.pairings().expire(late).await })
        })
        .await;
    expired.unwrap();
    let new = || NewLink { role: Role::Member, principal: None, name: None };
    let by_code = PairingKey::Code(made.code.shown());
    let refused = o.approve_pairing(pairings(&f, OVERLORD), by_code, new(), None).await;
    assert!(matches!(refused, Err(CommandError::NotFound { .. })), "{refused:?}");
    let by_id = PairingKey::Id(id, None);
    let refused = o.approve_pairing(pairings(&f, OVERLORD), by_id, new(), None).await;
    assert!(matches!(refused, Err(CommandError::Conflict { .. })), "{refused:?}");
}
