use std::{sync::Mutex, time::Duration};

use super::*;
use crate::{
    domain::{ManualClock, Role, Secret},
    runtime::tasks::lock,
};

#[derive(Default)]
struct Rows(Mutex<Vec<AuditEntry>>);

impl AuditSink for Rows {
    fn record(&self, entry: AuditEntry) {
        lock(&self.0).push(entry);
    }
}

struct Fixture {
    auth: Authenticator,
    rows: Arc<Rows>,
    clock: Arc<ManualClock>,
}

fn fixture() -> Fixture {
    let rows = Arc::new(Rows::default());
    let clock = Arc::new(ManualClock::at_secs(1_000));
    let table = TokenTable::new(vec![TokenEntry {
        principal: principal_id_of("ann"),
        name: "ann".to_owned(),
        role: Role::Admin,
        token: Secret::new("art_good_secret".to_owned()),
    }]);
    Fixture { auth: Authenticator::new(table, clock.clone(), rows.clone()), rows, clock }
}

impl Fixture {
    fn tries(&self, token: Option<&str>, address: &str) -> Result<String, AuthError> {
        let address = address.parse().unwrap();
        self.auth.authenticate(token, address, "req-1").map(|v| v.principal.name)
    }

    fn rows(&self) -> usize {
        lock(&self.rows.0).len()
    }
}

#[test]
fn five_wrong_tokens_lock_the_address_even_for_the_right_one() {
    let f = fixture();
    for _ in 0..5 {
        assert_eq!(f.tries(Some("wrong"), "192.0.2.1"), Err(AuthError::Invalid));
    }
    let locked = Err(AuthError::Locked { retry_after: Duration::from_secs(60) });
    assert_eq!(f.tries(Some("art_good_secret"), "192.0.2.1"), locked);
    assert_eq!(f.tries(Some("art_good_secret"), "192.0.2.2"), Ok("ann".to_owned()));
    assert_eq!(f.rows(), 5, "refusals while locked add no rows");
    f.clock.advance(Duration::from_secs(60));
    assert_eq!(f.tries(Some("art_good_secret"), "192.0.2.1"), Ok("ann".to_owned()));
}

#[test]
fn five_wrong_secrets_lock_the_token_id_from_anywhere() {
    let f = fixture();
    for n in 1..=5 {
        let from = format!("192.0.2.{n}");
        assert_eq!(f.tries(Some("art_good_guess"), &from), Err(AuthError::Invalid));
    }
    let answer = f.tries(Some("art_good_secret"), "198.51.100.1");
    assert!(matches!(answer, Err(AuthError::Locked { .. })), "{answer:?}");
}

#[test]
fn no_credential_is_refused_and_recorded_within_bounds_but_does_not_lock() {
    let f = fixture();
    for _ in 0..50 {
        assert_eq!(f.tries(None, "192.0.2.1"), Err(AuthError::Missing));
    }
    assert_eq!(f.rows(), 5);
    assert_eq!(f.tries(Some("art_good_secret"), "192.0.2.1"), Ok("ann".to_owned()));
}

#[test]
fn the_trail_names_the_address_and_the_token_id_but_never_the_token() {
    let f = fixture();
    let answer = f.tries(Some("art_good_hunter2"), "192.0.2.1");
    assert_eq!(answer, Err(AuthError::Invalid));
    let rows = lock(&f.rows.0);
    let row = rows.first().unwrap();
    assert_eq!(row.kind, AuditKind::AuthFailed);
    assert_eq!(
        row.data,
        json!({ "reason": "invalid", "address": "192.0.2.1", "token_id": "good" })
    );
    assert!(!format!("{row:?}").contains("hunter2"));
}

#[test]
fn only_the_daemons_own_user_and_root_come_through_the_local_door() {
    let f = fixture();
    assert!(f.auth.admits_user(1_000, 1_000) && f.auth.admits_user(0, 1_000));
    assert!(f.auth.admits_user(0, 0));
    assert_eq!(f.rows(), 0);
    for stranger in [1_001, u32::MAX] {
        assert!(!f.auth.admits_user(stranger, 1_000), "{stranger}");
    }
    assert!(!f.auth.admits_user(1_000, 0));
    assert_eq!(f.rows(), 3, "each refusal leaves one row");
    for _ in 0..100 {
        assert!(!f.auth.admits_user(1_001, 1_000));
    }
    assert!(f.rows() < 10, "a user that goes on leaves no more");
    let operator = local_operator();
    assert_eq!(operator.role, Role::Overlord);
    assert!(operator.name.parse::<crate::domain::AgentName>().is_err(), "no token has this name");
}
