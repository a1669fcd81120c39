use std::collections::BTreeSet;

use super::*;

fn routes_of(document: &OpenApi) -> BTreeSet<(String, String)> {
    let json = serde_json::to_value(document).unwrap();
    let paths = json.get("paths").and_then(|p| p.as_object()).unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

#[test]
fn the_route_table_is_the_documented_api() {
    let table: BTreeSet<_> =
        ROUTES.iter().map(|(method, path)| (method.to_string(), (*path).to_owned())).collect();
    assert_eq!(table.len(), ROUTES.len(), "a route is listed twice");
    assert_eq!(routes_of(&openapi()), table);
}

#[test]
fn only_probes_docs_and_the_handshake_are_open() {
    for (_, path) in ROUTES {
        let expected = match *path {
            "/health" | "/healthz" | "/live" | "/ready" | "/readyz" => Access::Probe,
            "/api/v1/ws" => Access::Handshake,
            _ => Access::Bearer,
        };
        assert_eq!(access(path), expected, "{path}");
    }
    for path in ["/", "/docsx", "/health/", "/api/v1/ws/", "/admin/v1/x", "//health", "/metrics"] {
        assert_eq!(access(path), Access::Bearer, "{path}");
    }
    for path in ["/docs", "/docs/", "/docs/swagger-ui.css", "/openapi.json"] {
        assert_eq!(access(path), Access::Open, "{path}");
    }
}

#[test]
fn the_document_has_no_dangling_reference_and_names_the_scheme() {
    let text = openapi().to_json().unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pattern = regex::Regex::new(r##""#/components/schemas/([A-Za-z]+)""##).unwrap();
    for found in pattern.captures_iter(&text) {
        let pointer = format!("/components/schemas/{}", &found[1]);
        assert!(document.pointer(&pointer).is_some(), "{pointer} is missing");
    }
    assert!(document.pointer("/components/securitySchemes/bearer").is_some());
}
