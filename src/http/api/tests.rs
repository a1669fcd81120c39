use std::collections::BTreeSet;

use serde_json::json;

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

/// The names of an object's fields, as a type really writes them.
fn written<T: serde::Serialize + serde::de::DeserializeOwned>(
    example: serde_json::Value,
) -> BTreeSet<String> {
    let value: T = serde_json::from_value(example).unwrap();
    serde_json::to_value(value).unwrap().as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_documented_shapes_are_what_is_written() {
    use crate::domain;
    let document = serde_json::to_value(openapi()).unwrap();
    let documented = |name: &str| -> BTreeSet<String> {
        let pointer = format!("/components/schemas/{name}/properties");
        let properties = document.pointer(&pointer).unwrap_or_else(|| panic!("{name} is missing"));
        properties.as_object().unwrap().keys().cloned().collect()
    };
    let id = |prefix: &str| format!("{prefix}01890a5d-ac96-774b-bcce-b302099a8057");
    let at = "2026-01-02T03:04:05.678Z";
    let usage = json!({"input_tokens": 1, "output_tokens": 1, "cost_usd": "0", "llm_calls": 1, "tool_calls": 1});
    let limits = json!({"timeout_secs": 1, "max_steps": 1, "max_tool_calls": 1, "max_tokens": 1, "max_cost_usd": "1"});
    let run = json!({
        "id": id("run_"), "conversation_id": id("conv_"), "agent": "a", "state": "queued",
        "wait_reason": null, "input": "i", "output": null, "error": null, "seq": 1, "epoch": 0,
        "usage": usage, "confinement": null, "tainted": false, "parent_run_id": null,
        "retry_of": null, "principal": id("prn_"), "surface": "api", "metadata": {},
        "limits": limits, "base_bundle_id": null, "created_at": at, "started_at": null,
        "ended_at": null,
    });
    let decision = json!({
        "principal": id("prn_"), "decision": "deny", "reason": null, "at": at, "surface": "api",
        "scope": "once", "pattern": null, "outcome": null,
    });
    let approval = json!({
        "id": id("apr_"), "run_id": id("run_"), "call_id": null, "kind": "tool", "tool": "shell",
        "args": {}, "args_hash": "", "policy_version": "", "cwd": "/", "risk": "high",
        "reasons": [], "tainted": false, "egress": [], "required_role": "admin", "quorum": 1,
        "state": "pending", "decisions": [], "created_at": at, "expires_at": at,
    });
    let message = json!({
        "id": id("msg_"), "conversation_id": id("conv_"), "seq": 1, "run_id": id("run_"),
        "role": "user", "content": [], "at": at,
    });
    let event = json!({
        "type": "run.paused", "data": {"reason": "input", "detail": null}, "run_id": id("run_"),
        "conversation_id": id("conv_"), "seq": 1, "at": at, "epoch": 1,
    });
    assert_eq!(written::<domain::Run>(run), documented("Run"));
    assert_eq!(written::<domain::Usage>(usage), documented("Usage"));
    assert_eq!(written::<domain::RunLimits>(limits), documented("RunLimits"));
    assert_eq!(written::<domain::Approval>(approval), documented("Approval"));
    assert_eq!(written::<domain::approval::DecisionRecord>(decision), documented("DecisionRecord"));
    assert_eq!(written::<domain::Message>(message), documented("Message"));
    assert_eq!(written::<domain::Event>(event), documented("Event"));
}

#[test]
fn the_documented_choices_are_all_that_there_are() {
    use crate::domain::{ApprovalState, Confinement, Effect, Risk, Role, RunState};
    let document = serde_json::to_value(openapi()).unwrap();
    let documented = |name: &str| -> Vec<String> {
        let pointer = format!("/components/schemas/{name}/enum");
        let values = document.pointer(&pointer).unwrap_or_else(|| panic!("{name} is missing"));
        values.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let names = |all: &mut dyn Iterator<Item = &'static str>| -> Vec<String> {
        all.map(str::to_owned).collect()
    };
    let states = names(&mut RunState::ALL.into_iter().map(RunState::as_str));
    assert_eq!(documented("RunState"), states);
    let levels = names(&mut Confinement::ALL.into_iter().map(Confinement::as_str));
    assert_eq!(documented("Confinement"), levels);
    let roles = names(&mut Role::ALL.into_iter().map(Role::as_str));
    assert_eq!(documented("Role"), roles);
    let risks = names(&mut Risk::ALL.iter().copied().map(Risk::as_str));
    assert_eq!(documented("Risk"), risks);
    let effects = names(&mut Effect::ALL.iter().copied().map(Effect::as_str));
    assert_eq!(documented("Effect"), effects);
    let approvals = names(&mut ApprovalState::ALL.into_iter().map(ApprovalState::as_str));
    assert_eq!(documented("ApprovalState"), approvals);
}
