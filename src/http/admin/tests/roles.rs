//! Every admin route against every role: what the table says and nothing else. A new route that is
//! not in the table fails the test.

use std::collections::BTreeSet;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use tower::ServiceExt;

use super::super::*;
use crate::{
    auth::{AuditSink, TokenTable, authn::principal_id_of},
    domain::{AuditEntry, Principal, Role, Scopes, SystemClock},
    orchestrator::tests::{Fixture, idle},
};

/// The least role of each route, and a body that is well-formed: `{}` where nothing is asked.
const TABLE: &[(&str, &str, Role, &str)] = &[
    ("GET", "/admin/v1/egress/domains", Role::Admin, ""),
    ("POST", "/admin/v1/egress/domains", Role::Admin, r#"{"rule":"example.com"}"#),
    ("DELETE", "/admin/v1/egress/domains/{id}", Role::Admin, ""),
    ("POST", "/admin/v1/egress/test", Role::Admin, r#"{"host":"example.com","agent":"a"}"#),
    ("GET", "/admin/v1/sandbox", Role::Admin, ""),
    ("GET", "/admin/v1/secrets", Role::Admin, ""),
    ("POST", "/admin/v1/secrets", Role::Overlord, r#"{"name":"key","value":"0123456789"}"#),
    ("DELETE", "/admin/v1/secrets/{id}", Role::Overlord, ""),
    ("POST", "/admin/v1/secrets/rewrap", Role::Overlord, ""),
    ("POST", "/admin/v1/reload", Role::Overlord, ""),
    ("GET", "/admin/v1/audit", Role::Admin, ""),
    ("GET", "/admin/v1/audit/export", Role::Admin, ""),
    ("GET", "/admin/v1/audit/verify", Role::Admin, ""),
    ("POST", "/admin/v1/audit/checkpoint", Role::Admin, ""),
    ("GET", "/admin/v1/backup", Role::Admin, ""),
    ("POST", "/admin/v1/backup", Role::Admin, "{}"),
    ("GET", "/admin/v1/backup/{id}", Role::Admin, ""),
    ("POST", "/admin/v1/backup/{id}/verify", Role::Admin, "{}"),
    ("GET", "/admin/v1/health", Role::Admin, ""),
    ("GET", "/admin/v1/replicas", Role::Admin, ""),
    ("GET", "/admin/v1/budgets", Role::Admin, ""),
    ("PUT", "/admin/v1/budgets", Role::Admin, r#"{"scope":"org","tokens_per_day":1000000}"#),
    ("DELETE", "/admin/v1/budgets", Role::Admin, "?scope=org"),
    ("GET", "/admin/v1/policy", Role::Admin, ""),
    ("PUT", "/admin/v1/policy", Role::Admin, r#"{"source":"version = 1\n"}"#),
    ("POST", "/admin/v1/policy/activate", Role::Admin, r#"{"version":"builtin"}"#),
    (
        "POST",
        "/admin/v1/policy/explain",
        Role::Admin,
        r#"{"agent":"a","tool":"list_files","args":{}}"#,
    ),
    ("POST", "/admin/v1/policy/replay", Role::Admin, "{}"),
    ("POST", "/admin/v1/policy/validate", Role::Admin, r#"{"source":"version = 1\n"}"#),
    ("GET", "/admin/v1/policy/versions", Role::Admin, ""),
    ("GET", "/admin/v1/policy/versions/{id}", Role::Admin, ""),
    ("GET", "/admin/v1/capabilities", Role::Admin, ""),
    ("GET", "/admin/v1/capabilities/{id}", Role::Admin, ""),
    ("POST", "/admin/v1/capabilities/{id}/revoke", Role::Admin, "{}"),
    ("POST", "/admin/v1/lockdown", Role::Admin, "{}"),
    ("GET", "/admin/v1/lockdown", Role::Admin, ""),
    ("DELETE", "/admin/v1/lockdown", Role::Overlord, ""),
    ("GET", "/admin/v1/principals", Role::Admin, ""),
    ("POST", "/admin/v1/principals", Role::Admin, r#"{"name":"NAME","role":"member"}"#),
    ("GET", "/admin/v1/principals/stale", Role::Admin, ""),
    ("GET", "/admin/v1/principals/{id}", Role::Admin, ""),
    ("PATCH", "/admin/v1/principals/{id}", Role::Admin, r#"{"role":"viewer"}"#),
    ("POST", "/admin/v1/principals/{id}/disable", Role::Admin, "{}"),
    ("POST", "/admin/v1/principals/{id}/enable", Role::Admin, "{}"),
    ("POST", "/admin/v1/principals/{id}/erase", Role::Overlord, r#"{"dry_run":true}"#),
    ("GET", "/admin/v1/principals/{id}/export", Role::Admin, ""),
    ("GET", "/admin/v1/erasures", Role::Admin, ""),
    ("GET", "/admin/v1/erasures/{id}", Role::Admin, ""),
    ("GET", "/admin/v1/retention", Role::Admin, ""),
    ("PUT", "/admin/v1/retention", Role::Overlord, r#"{"class":"app","days":31}"#),
    ("POST", "/admin/v1/retention/run", Role::Overlord, r#"{"dry_run":true}"#),
    (
        "POST",
        "/admin/v1/retention/holds",
        Role::Overlord,
        r#"{"kind":"principal","subject":"prn_01890a5d-ac96-774b-bcce-b302099a8058"}"#,
    ),
    ("DELETE", "/admin/v1/retention/holds", Role::Overlord, "?kind=principal&subject=prn_x"),
    ("GET", "/admin/v1/tokens", Role::Admin, ""),
    ("POST", "/admin/v1/tokens", Role::Admin, r#"{"principal":"alice"}"#),
    ("DELETE", "/admin/v1/tokens/{id}", Role::Admin, ""),
    ("GET", "/admin/v1/pairings", Role::Admin, ""),
    ("POST", "/admin/v1/pairings", Role::Admin, r#"{"platform":"telegram","account":"1"}"#),
    ("POST", "/admin/v1/pairings/approve", Role::Admin, r#"{"code":"x","role":"member"}"#),
    ("POST", "/admin/v1/pairings/{id}/approve", Role::Admin, r#"{"role":"member"}"#),
    ("POST", "/admin/v1/pairings/{id}/deny", Role::Admin, "{}"),
    ("GET", "/admin/v1/links", Role::Admin, ""),
    ("GET", "/admin/v1/links/resolve", Role::Admin, "?platform=telegram&account=1"),
    ("DELETE", "/admin/v1/links/{id}", Role::Admin, ""),
];

struct Nowhere;

impl AuditSink for Nowhere {
    fn record(&self, _: AuditEntry) {}
}

/// The prefix of the ids below a path.
fn prefix(path: &str) -> &'static str {
    let kinds = [
        ("/egress/", "egr_"),
        ("/capabilities/", "cap_"),
        ("/principals/", "prn_"),
        ("/tokens/", "tok_"),
        ("/pairings/", "pair_"),
        ("/links/", "lnk_"),
        ("/erasures/", "era_"),
        ("/backup/", "bak_"),
    ];
    kinds.into_iter().find(|(part, _)| path.contains(part)).map_or("run_", |(_, prefix)| prefix)
}

/// The admin API as somebody with this role comes through a door to it.
fn door_of(role: Role, f: &Fixture) -> Router {
    let ids = IdSource::new(Arc::new(SystemClock), |b| getrandom::fill(b).unwrap());
    let authenticator =
        Authenticator::new(TokenTable::new(Vec::new()), Arc::new(SystemClock), Arc::new(Nowhere));
    let parts = Parts {
        orchestrator: f.orchestrator.clone(),
        authorizer: f.orchestrator.authorizer().clone(),
        authenticator,
        ids: ids.clone(),
        bounds: Bounds {
            backend: "sandbox",
            min_level: crate::domain::Confinement::None,
            sessions_max: 1,
            session_idle_secs: 1,
            processes_max: 1,
        },
    };
    let name = role.to_string();
    let principal = Principal { id: principal_id_of(&name), name, role, scopes: Scopes::default() };
    let door = Door::new(principal, ids, f.orchestrator.redactor().clone(), REQUESTS_MAX);
    router(parts).layer(middleware::from_fn_with_state(door, door::door))
}

async fn status(door: &Router, method: &str, path: &str, extra: &str) -> StatusCode {
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    let path = path.replace("/versions/{id}", "/versions/builtin");
    let path = path.replace("{id}", &format!("{}{uuid}", prefix(&path)));
    let (path, body) = match extra.strip_prefix('?') {
        Some(query) => (format!("{path}?{query}"), ""),
        None => (path, extra),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    door.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn every_admin_route_answers_every_role_as_the_table_says() {
    let listed: BTreeSet<(&str, &str)> = TABLE.iter().map(|row| (row.0, row.1)).collect();
    let routes: BTreeSet<(&str, &str)> = ROUTES.iter().map(|(m, p)| (m.as_str(), *p)).collect();
    assert_eq!(listed.len(), TABLE.len(), "a route is listed twice");
    assert_eq!(listed, routes, "a route is missing from the table, or one in it is gone");
    let f = idle().await;
    for role in Role::ALL {
        let door = door_of(role, &f);
        for (method, path, least, extra) in TABLE {
            let extra = extra.replace("NAME", &format!("new of {role}"));
            let got = status(&door, method, path, &extra).await;
            let expected = role < *least;
            assert_eq!(got == StatusCode::FORBIDDEN, expected, "{method} {path} for {role}: {got}");
            let is_plain = got != StatusCode::UNPROCESSABLE_ENTITY && !got.is_server_error();
            assert!(is_plain, "{method} {path} for {role}: {got}");
        }
    }
}
