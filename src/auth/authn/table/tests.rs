use super::{super::principal_id_of, *};
use crate::domain::{Secret, ToolName};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

fn entry(name: &str, role: Role, token: &str) -> TokenEntry {
    TokenEntry {
        principal: principal_id_of(name),
        name: name.to_owned(),
        role,
        token: Secret::new(token.to_owned()),
    }
}

#[test]
fn only_the_exact_token_is_recognised() {
    let table = TokenTable::new(vec![
        entry("ann", Role::Admin, "art_a_111"),
        entry("bob", Role::Viewer, "opaque-and-long-enough"),
    ]);
    let who =
        |token: &str| table.verify(token, at(0)).map(|v| (v.principal.name, v.principal.role));
    assert_eq!(who("art_a_111"), Some(("ann".to_owned(), Role::Admin)));
    assert_eq!(who("opaque-and-long-enough"), Some(("bob".to_owned(), Role::Viewer)));
    for wrong in ["", "art_a_112", "art_a_1111", "ART_A_111", "art_a_", " art_a_111", "opaque"] {
        assert_eq!(who(wrong), None, "{wrong}");
    }
    assert_eq!(who(&"x".repeat(100_000)), None);
}

#[test]
fn an_empty_token_in_the_configuration_lets_nobody_in() {
    let table = TokenTable::new(vec![entry("ann", Role::Admin, "")]);
    assert_eq!(table.verify("", at(0)), None);
}

#[test]
fn a_replaced_token_ends_at_once_and_watchers_hear_of_it() {
    let table = TokenTable::new(vec![entry("ann", Role::Admin, "first")]);
    let (shared, watcher) = (table.clone(), table.watch());
    let before = table.verify("first", at(0)).unwrap();
    shared.replace(vec![entry("ann", Role::Viewer, "second")]);
    assert!(watcher.has_changed().unwrap());
    assert_eq!(table.current(&before.token, at(0)), None);
    assert_eq!(table.verify("first", at(0)), None);
    let after = table.verify("second", at(0)).unwrap().principal;
    assert_eq!((after.id, after.role), (before.principal.id, Role::Viewer));
}

#[test]
fn debug_shows_no_token() {
    let table = TokenTable::new(vec![entry("ann", Role::Admin, "art_a_111")]);
    assert_eq!(format!("{table:?}"), "TokenTable { tokens: 1 }");
}

fn stored(n: u8, role: Role, expires_at: Option<Timestamp>) -> (TokenRecord, TokenHash) {
    let record = TokenRecord {
        id: format!("tok_01890a5d-ac96-774b-bcce-b302099a80{n:02}").parse().unwrap(),
        public_id: format!("id{n}"),
        principal: principal_id_of("ann"),
        label: None,
        role,
        scopes: Scopes { tools: Some([ToolName::ReadFile].into()), ..Scopes::default() },
        created_at: at(0),
        created_by: principal_id_of("ann"),
        expires_at,
        last_used_at: None,
        revoked_at: None,
        revoked_by: None,
    };
    (record, TokenHash::of(&format!("art_id{n}_secret")))
}

fn with_stored(tokens: Vec<(TokenRecord, TokenHash)>) -> TokenTable {
    let table = TokenTable::new(vec![entry("ann", Role::Operator, "art_a_111")]);
    table.load(tokens);
    table
}

#[test]
fn a_stored_token_gives_no_more_than_its_role_its_scopes_and_its_principal() {
    let table = with_stored(vec![stored(1, Role::Member, None), stored(2, Role::Admin, None)]);
    let who = |token: &str| table.verify(token, at(1)).map(|v| v.principal);
    let low = who("art_id1_secret").unwrap();
    assert_eq!((low.id, low.role), (principal_id_of("ann"), Role::Member));
    assert!(low.scopes.allows_tool(ToolName::ReadFile) && !low.scopes.allows_tool(ToolName::Exec));
    assert_eq!(who("art_id2_secret").unwrap().role, Role::Operator, "not above the principal");
    assert_eq!(who("art_a_111").unwrap().scopes, Scopes::default());
    for wrong in ["art_id1_secre", "art_id1_secret2", "art_id2_111", "art_id3_secret", "id1"] {
        assert_eq!(who(wrong), None, "{wrong}");
    }
    // Who is disabled in the configuration's place is nobody, whatever the token.
    table.replace(vec![entry("bob", Role::Operator, "art_b_111")]);
    assert_eq!(who("art_id1_secret"), None);
}

#[test]
fn a_revoked_or_expired_token_is_nobodys_and_watchers_hear_of_it() {
    let table =
        with_stored(vec![stored(1, Role::Member, None), stored(2, Role::Member, Some(at(10)))]);
    let one = table.verify("art_id1_secret", at(9)).unwrap().token;
    let two = table.verify("art_id2_secret", at(9)).unwrap().token;
    assert_eq!(table.verify("art_id2_secret", at(10)), None, "at the moment itself");
    let mut watcher = table.watch();
    watcher.mark_unchanged();
    table.end_expired(at(9));
    assert!(!watcher.has_changed().unwrap());
    table.end_expired(at(10));
    assert!(watcher.has_changed().unwrap());
    assert_eq!(table.current(&two, at(9)), None, "forgotten");
    let (record, hash) = stored(1, Role::Member, None);
    table.load(vec![(TokenRecord { revoked_at: Some(at(9)), ..record }, hash)]);
    assert_eq!(table.current(&one, at(10)), None);
}

#[test]
fn uses_are_noted_once_and_survive_a_change_of_the_table() {
    let table = with_stored(vec![stored(1, Role::Member, None)]);
    assert!(table.take_used().is_empty());
    table.verify("art_id1_secret", at(5)).unwrap();
    table.load(vec![stored(1, Role::Member, None), stored(2, Role::Member, None)]);
    let used: Vec<Timestamp> = table.take_used().into_iter().map(|(_, at)| at).collect();
    assert_eq!(used, [at(5)]);
    assert!(table.take_used().is_empty());
    assert_eq!((table.last_used("id1"), table.last_used("id2")), (Some(at(5)), None));
    let seen = table.directory().take_seen();
    assert_eq!(seen.people, [(principal_id_of("ann"), at(5))]);
}
