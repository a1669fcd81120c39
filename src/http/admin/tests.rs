use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{
        CapabilityId, CapabilityState, EgressVerdict, IdSource, LockdownRecord, ManualClock,
        Revocation, RevokedFor, RunId, Timestamp,
    },
    orchestrator::{
        BudgetView, CapabilityView, CheckedAddress, EgressAnswer, EgressLayer, EgressRuleView,
        LockdownView, ModelReport, Stopped,
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
    let ids = IdSource::new(Arc::new(ManualClock::at_secs(1)), |bytes| bytes.fill(1));
    let at = Timestamp::from_micros(0);
    let revocation = Revocation { at, by: String::new(), cause: RevokedFor::Person, reason: None };
    assert_eq!(written(json!(revocation)), documented("Revocation"));
    let capability = CapabilityView {
        id: CapabilityId::new(&ids),
        parent: None,
        run_id: RunId::new(&ids),
        call_id: None,
        agent: String::new(),
        state: CapabilityState::Live,
        permissions: Vec::new(),
        is_signed: true,
        delegatable: true,
        issued_at: at,
        expires_at: at,
        revoked: Some(revocation),
    };
    assert_eq!(written(json!(capability)), documented("Capability"));
    let record = LockdownRecord { since: at, by: String::new(), reason: None };
    assert_eq!(written(json!(record)), documented("LockdownRecord"));
    let stopped = Stopped {
        runs: 0,
        calls: 0,
        idle_sandboxes: 0,
        capabilities: 0,
        is_done: true,
        took_ms: 0,
    };
    assert_eq!(written(json!(stopped)), documented("Stopped"));
    let lockdown = LockdownView { locked: true, lockdown: Some(record), stopped: Some(stopped) };
    assert_eq!(written(json!(lockdown)), documented("Lockdown"));
}

/// Holds a value against the shape that is documented under a name.
fn is_documented() -> impl Fn(&str, Value) {
    let document: Value = serde_json::from_str(&openapi().to_json().unwrap()).unwrap();
    move |name, value| {
        let pointer = format!("/components/schemas/{name}/properties");
        let properties = document.pointer(&pointer).unwrap_or_else(|| panic!("{name} is missing"));
        let documented: BTreeSet<_> = properties.as_object().unwrap().keys().collect();
        let written: BTreeSet<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(written, documented, "{name}");
    }
}

#[test]
fn the_documented_shapes_of_what_is_kept_and_erased_are_what_is_written() {
    use crate::{
        domain::{Hold, HoldKind, PrincipalId, Retention},
        orchestrator::{ErasureView, RetentionReport, RetentionView},
    };
    let check = is_documented();
    let ids = IdSource::new(Arc::new(ManualClock::at_secs(1)), |bytes| bytes.fill(1));
    let (at, who) = (Timestamp::from_micros(0), PrincipalId::new(&ids));
    let subject = who.to_string();
    let hold = Hold { kind: HoldKind::Principal, subject, reason: None, at, done_by: who };
    check("Hold", json!(hold));
    check("RetentionReport", json!(RetentionReport::default()));
    check("RetentionDays", json!(Retention::default()));
    let view = RetentionView {
        days: Retention::default(),
        configured: Retention::default(),
        holds: vec![hold],
        last: None,
    };
    check("Retention", json!(view));
    let erasure = ErasureView {
        id: None,
        pseudonym: None,
        step: String::new(),
        counts: std::collections::BTreeMap::new(),
        asked_at: at,
        asked_by: who,
        ended_at: None,
        receipt: None,
    };
    check("Erasure", json!(erasure));
}

#[test]
fn the_documented_shapes_of_policy_are_what_is_written() {
    use crate::{
        auth::policy::{Explanation, Layer, Outcome, Step, StepOutcome},
        domain::{PolicyActivation, PolicyInfo, PolicyOrigin, PolicyVersion, Timestamp},
        orchestrator::{PolicyChange, PolicyEntry, PolicyView},
    };
    let check = is_documented();
    let at = Timestamp::from_micros(0);
    let version: PolicyVersion = "a".repeat(64).parse().unwrap();
    let info = PolicyInfo {
        n: 1,
        version: version.clone(),
        note: None,
        created_at: at,
        created_by: "system".to_owned(),
    };
    let activation = PolicyActivation {
        n: 1,
        version: version.clone(),
        origin: PolicyOrigin::File,
        at,
        done_by: "system".to_owned(),
        note: None,
    };
    check("PolicyActivation", json!(activation));
    check("PolicyEntry", json!(PolicyEntry { info: info.clone(), active: true }));
    check("Policy", json!(PolicyView { info, in_force: None, source: String::new() }));
    let change = PolicyChange {
        version: version.clone(),
        stored: true,
        before: None,
        active: None,
        activation: None,
    };
    check("PolicyChange", json!(change));
    let step = Step {
        layer: Layer::Rules,
        rule: "r".into(),
        outcome: StepOutcome::Ask,
        why: String::new(),
        decided: true,
    };
    check("PolicyStep", json!(step));
    let explanation = Explanation {
        verdict: Outcome::Ask,
        rule: "r".into(),
        layer: Layer::Rules,
        reasons: Vec::new(),
        risk: Some(crate::domain::Risk::High),
        required_role: Some(crate::domain::Role::Admin),
        quorum: Some(1),
        policy_version: version.to_string(),
        steps: vec![step],
        other_rules: 0,
        change: String::new(),
    };
    check("PolicyExplanation", json!(explanation));
}

#[test]
fn the_documented_shapes_of_past_decisions_are_what_is_written() {
    use crate::{
        auth::policy::Outcome,
        domain::{PolicyVersion, Timestamp, ToolName},
        orchestrator::{
            Difference, Judged, PastApproval, PastCall, PastDecision, ReplayCounts, ReplayPage,
        },
    };
    let check = is_documented();
    let at = Timestamp::from_micros(0);
    let version: PolicyVersion = "a".repeat(64).parse().unwrap();
    let decision = PastDecision {
        after_event: 1,
        at,
        verdict: Outcome::Deny,
        rule: String::new(),
        layer: String::new(),
        policy_version: version.clone(),
    };
    check("PastDecision", json!(decision));
    let approval = PastApproval {
        id: "apr_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        state: crate::domain::ApprovalState::Denied,
        decisions: Vec::new(),
    };
    check("PastApproval", json!(approval));
    let (call_id, run_id) = (
        "call_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        "run_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
    );
    let agent: crate::domain::AgentName = "a".parse().unwrap();
    let past = PastCall {
        call_id,
        run_id,
        agent: agent.clone(),
        decisions: Vec::new(),
        approvals: Vec::new(),
    };
    check("PastCall", json!(past));
    let judged = Judged {
        verdict: Outcome::Allow,
        rule: String::new(),
        layer: String::new(),
        policy_version: version.clone(),
    };
    check("Judged", json!(judged));
    let difference = Difference {
        call_id,
        run_id,
        at,
        agent,
        tool: ToolName::Exec,
        call: String::new(),
        before: judged.clone(),
        after: judged,
    };
    check("Difference", json!(difference));
    check("ReplayCounts", json!(ReplayCounts::default()));
    let page = ReplayPage {
        policy_version: version,
        counts: ReplayCounts::default(),
        items: Vec::new(),
        next_cursor: None,
        total: None,
    };
    check("ReplayPage", json!(page));
}

#[test]
fn the_shapes_of_secrets_and_of_the_trail_are_what_is_written() {
    use crate::{
        auth::trail::Report,
        domain::{
            EventId, SecretSource,
            audit::{AuditRow, Checkpoint},
        },
        orchestrator::{AuditPage, SecretView},
    };
    let document = serde_json::to_value(openapi()).unwrap();
    let check = |name: &str, value: Value| {
        let pointer = format!("/components/schemas/{name}/properties");
        let documented = document.pointer(&pointer).unwrap_or_else(|| panic!("{name} is missing"));
        let names = |value: &Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&value), names(documented), "{name}");
    };
    let at = Timestamp::from_micros(0);
    let secret = SecretView {
        name: String::new(),
        source: SecretSource::File,
        since: at,
        days: 0,
        last_used_at: None,
        warning: None,
    };
    check("Secret", json!(secret));
    let ids = IdSource::new(Arc::new(ManualClock::at_secs(1)), |bytes| bytes.fill(1));
    let text = String::new;
    let row = AuditRow {
        n: 1,
        id: EventId::new(&ids),
        at,
        kind: text(),
        actor: text(),
        surface: text(),
        run_id: None,
        request_id: None,
        data: Value::Null,
        prev_hash: text(),
        hash: text(),
    };
    check("AuditRow", json!(row));
    check("AuditPage", json!(AuditPage { items: vec![row], next_cursor: None }));
    check("AuditReport", json!(Report::default()));
    let checkpoint = Checkpoint { n: 1, hash: text(), at, key_id: text(), mac: text() };
    check("Checkpoint", json!(checkpoint));
}

#[test]
fn the_documented_shapes_of_limits_are_what_is_written() {
    let document = serde_json::to_value(openapi()).unwrap();
    let documented = |name: &str| -> BTreeSet<String> {
        let pointer = format!("/components/schemas/{name}/properties");
        let properties = document.pointer(&pointer).unwrap_or_else(|| panic!("{name} is missing"));
        properties.as_object().unwrap().keys().cloned().collect()
    };
    let written =
        |value: Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
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

mod identities;
mod roles;
