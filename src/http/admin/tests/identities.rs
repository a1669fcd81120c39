//! The documented shapes of answers about who may act are what is written.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::openapi;
use crate::{
    auth::authn::principal_id_of,
    domain::{LinkRecord, PairingRecord, PairingState, Role, Scopes, Timestamp, TokenRecord},
    orchestrator::{PrincipalSource, PrincipalView, StaleKind, StaleView},
};

const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_documented_shapes_of_identities_are_what_is_written() {
    let document = serde_json::to_value(openapi()).unwrap();
    let documented = |name: &str| {
        let pointer = format!("/components/schemas/{name}/properties");
        keys(document.pointer(&pointer).unwrap_or_else(|| panic!("{name} is missing")))
    };
    let (at, ann) = (Timestamp::from_micros(0), principal_id_of("ann"));
    let (name, scopes) = ("ann".to_owned(), Scopes::default());
    let principal = PrincipalView {
        id: ann,
        name: name.clone(),
        role: Role::Member,
        scopes: scopes.clone(),
        source: PrincipalSource::Stored,
        disabled_at: None,
        last_seen_at: None,
        created_at: None,
        created_by: None,
    };
    assert_eq!(keys(&json!(principal)), documented("Principal"));
    let token = TokenRecord {
        id: format!("tok_{UUID}").parse().unwrap(),
        public_id: "x".to_owned(),
        principal: ann,
        label: None,
        role: Role::Member,
        scopes,
        created_at: at,
        created_by: ann,
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
        revoked_by: None,
    };
    assert_eq!(keys(&json!(token)), documented("Token"));
    let pairing = PairingRecord {
        id: format!("pair_{UUID}").parse().unwrap(),
        platform: "telegram".parse().unwrap(),
        account: "1".to_owned(),
        display: None,
        state: PairingState::Pending,
        created_at: at,
        expires_at: at,
        decided_at: None,
        decided_by: None,
        reason: None,
    };
    assert_eq!(keys(&json!(pairing)), documented("Pairing"));
    let link = LinkRecord {
        id: format!("lnk_{UUID}").parse().unwrap(),
        platform: "telegram".parse().unwrap(),
        account: "1".to_owned(),
        display: None,
        principal: ann,
        role: Role::Member,
        created_at: at,
        created_by: ann,
        last_seen_at: None,
        revoked_at: None,
        revoked_by: None,
    };
    assert_eq!(keys(&json!(link)), documented("Link"));
    let stale = StaleView {
        kind: StaleKind::Link,
        id: UUID.to_owned(),
        name,
        principal: ann,
        last_seen_at: None,
        created_at: None,
        remedy: String::new(),
    };
    assert_eq!(keys(&json!(stale)), documented("Stale"));
    let every = Scopes {
        agents: Some([].into()),
        tools: Some([].into()),
        surfaces: Some([].into()),
        conversations: Some([].into()),
    };
    assert_eq!(keys(&json!(every)), documented("Scopes"));
}
