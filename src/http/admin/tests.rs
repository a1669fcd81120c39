use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::{
    domain::EgressVerdict,
    orchestrator::{
        BudgetView, CheckedAddress, EgressAnswer, EgressLayer, EgressRuleView, ModelReport,
    },
};

#[test]
fn the_route_table_is_the_documented_admin_api() {
    let document = serde_json::to_value(openapi()).unwrap();
    let paths = document.get("paths").and_then(Value::as_object).unwrap();
    let documented: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let table: BTreeSet<(String, String)> =
        ROUTES.iter().map(|(method, path)| (method.to_string(), (*path).to_owned())).collect();
    assert_eq!(table.len(), ROUTES.len(), "a route is listed twice");
    assert_eq!(documented, table);
    for (_, path) in ROUTES {
        assert!(path.starts_with("/admin/v1/"), "{path}");
    }
}

#[test]
fn the_documented_shapes_are_what_is_written() {
    let text = openapi().to_json().unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let pattern = regex::Regex::new(r##""#/components/schemas/([A-Za-z]+)""##).unwrap();
    for found in pattern.captures_iter(&text) {
        let pointer = format!("/components/schemas/{}", &found[1]);
        assert!(document.pointer(&pointer).is_some(), "{pointer} is missing");
    }
    let documented = |name: &str| -> BTreeSet<String> {
        let pointer = format!("/components/schemas/{name}/properties");
        let properties = document.pointer(&pointer).unwrap_or_else(|| panic!("{name} is missing"));
        properties.as_object().unwrap().keys().cloned().collect()
    };
    let written =
        |value: Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let rule = EgressRuleView {
        id: None,
        layer: EgressLayer::Config,
        agent: None,
        verdict: EgressVerdict::Deny,
        rule: "a.example".parse().unwrap(),
        note: None,
        created_at: None,
        created_by: None,
    };
    assert_eq!(written(json!(rule)), documented("EgressRule"));
    let address = CheckedAddress { address: "192.0.2.1".parse().unwrap(), refused: None };
    assert_eq!(written(json!(address)), documented("CheckedAddress"));
    let answer = EgressAnswer {
        verdict: EgressVerdict::Allow,
        agent: "a".parse().unwrap(),
        host: "a.example".parse().unwrap(),
        port: 443,
        reason: None,
        layer: EgressLayer::List,
        rule: None,
        rule_id: None,
        addresses: vec![address],
        detail: String::new(),
        change: String::new(),
    };
    assert_eq!(written(json!(answer)), documented("EgressAnswer"));
    let budget = BudgetView {
        scope: crate::domain::BudgetScope::Org,
        subject: String::new(),
        usd_per_day: None,
        tokens_per_day: None,
        layer: "config",
        day: crate::domain::Day::default(),
        used_usd: crate::domain::Usd::ZERO,
        used_tokens: 0,
        held_usd: crate::domain::Usd::ZERO,
        held_tokens: 0,
        updated_at: None,
        updated_by: None,
    };
    assert_eq!(written(json!(budget)), documented("Budget"));
    let model = ModelReport {
        model: String::new(),
        provider: "openai",
        state: "closed",
        class: None,
        rests_secs: None,
    };
    assert_eq!(written(json!(model)), documented("ModelReport"));
}
