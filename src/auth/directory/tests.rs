use super::*;
use crate::auth::authn::principal_id_of;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

fn principal(name: &str, role: Role) -> Principal {
    let (id, name) = (principal_id_of(name), name.to_owned());
    Principal { id, name, role, scopes: Scopes::default() }
}

fn row(name: &str, role: Role, configured: bool) -> PrincipalRecord {
    PrincipalRecord {
        id: principal_id_of(name),
        name: name.to_owned(),
        role,
        scopes: Scopes::default(),
        configured,
        disabled_at: None,
        created_at: at(0),
        created_by: local_operator().id,
    }
}

fn link(principal: &str, role: Role) -> LinkRecord {
    LinkRecord {
        id: "lnk_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        platform: "telegram".parse().unwrap(),
        account: "123".to_owned(),
        display: None,
        principal: principal_id_of(principal),
        role,
        created_at: at(0),
        created_by: local_operator().id,
        last_seen_at: None,
        revoked_at: None,
        revoked_by: None,
    }
}

fn role(directory: &Directory, name: &str) -> Option<Role> {
    directory.current(principal_id_of(name)).map(|p| p.role)
}

#[test]
fn a_row_narrows_somebody_of_the_configuration_and_never_raises_them() {
    let directory = Directory::new(vec![principal("ann", Role::Operator)]);
    assert_eq!(role(&directory, "ann"), Some(Role::Operator));
    let load = |row: PrincipalRecord| directory.load(vec![row], Vec::new(), &HashMap::new());
    load(row("ann", Role::Member, true));
    assert_eq!(role(&directory, "ann"), Some(Role::Member));
    load(row("ann", Role::Overlord, true));
    assert_eq!(role(&directory, "ann"), Some(Role::Operator));
    load(PrincipalRecord { disabled_at: Some(at(1)), ..row("ann", Role::Operator, true) });
    assert_eq!(role(&directory, "ann"), None);
}

#[test]
fn who_left_the_configuration_is_gone_with_or_without_a_row() {
    let directory = Directory::new(vec![principal("ann", Role::Operator)]);
    let rows = vec![row("ann", Role::Operator, true), row("bob", Role::Member, false)];
    directory.load(rows, Vec::new(), &HashMap::new());
    directory.configure(Vec::new());
    assert_eq!((role(&directory, "ann"), role(&directory, "bob")), (None, Some(Role::Member)));
    assert_eq!(role(&directory, "carol"), None, "unknown");
}

#[test]
fn no_change_locks_the_local_operator_out() {
    let directory = Directory::new(Vec::new());
    let local = local_operator();
    let gone = PrincipalRecord {
        disabled_at: Some(at(1)),
        role: Role::Viewer,
        ..row(&local.name, Role::Viewer, true)
    };
    assert_eq!(gone.id, local.id);
    directory.load(vec![gone], Vec::new(), &HashMap::new());
    directory.configure(Vec::new());
    assert_eq!(directory.current(local.id), Some(local));
}

#[test]
fn a_linked_account_stands_for_its_principal_within_the_links_role() {
    let directory = Directory::new(vec![principal("ann", Role::Admin)]);
    let telegram: Platform = "telegram".parse().unwrap();
    let who = |account: &str| directory.resolve(&telegram, account, at(7)).map(|p| p.role);
    assert_eq!(who("123"), None, "not linked");
    let load = |link| directory.load(Vec::new(), vec![link], &HashMap::new());
    load(link("ann", Role::Member));
    assert_eq!((who("123"), who("124")), (Some(Role::Member), None));
    assert_eq!(directory.last_seen(principal_id_of("ann")), Some(at(7)));
    assert_eq!(directory.link_last_seen(link("ann", Role::Member).id), Some(at(7)));
    load(link("ann", Role::Overlord));
    assert_eq!(who("123"), Some(Role::Admin), "not above the principal");
    load(LinkRecord { revoked_at: Some(at(8)), ..link("ann", Role::Member) });
    assert_eq!(who("123"), None, "revoked");
    load(link("nobody", Role::Member));
    assert_eq!(who("123"), None, "whom it stands for is unknown");
}

#[test]
fn each_change_wakes_those_who_watch() {
    let directory = Directory::new(Vec::new());
    let mut watcher = directory.watch();
    watcher.mark_unchanged();
    directory.configure(Vec::new());
    assert!(watcher.has_changed().unwrap());
    watcher.mark_unchanged();
    directory.load(Vec::new(), Vec::new(), &HashMap::new());
    assert!(watcher.has_changed().unwrap());
}

#[test]
fn who_was_here_is_told_once_and_not_forgotten_by_a_change() {
    let directory = Directory::new(vec![principal("ann", Role::Member)]);
    let ann = principal_id_of("ann");
    assert!(directory.arrives(ann, at(5)).is_some());
    directory.configure(vec![principal("ann", Role::Operator)]);
    assert_eq!(directory.take_seen().people, [(ann, at(5))]);
    assert!(directory.take_seen().people.is_empty());
    directory.load(Vec::new(), Vec::new(), &[(ann, at(3))].into());
    assert_eq!(directory.last_seen(ann), Some(at(5)), "what is stored may be older");
    assert_eq!(directory.arrives(principal_id_of("bob"), at(6)), None);
}
