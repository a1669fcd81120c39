use std::sync::Arc;

use super::*;
use crate::domain::{
    ConversationId, EventBody, IdSource, ManualClock, Role, Timestamp, event::EphemeralBody,
};

fn run_id() -> RunId {
    RunId::new(&IdSource::new(Arc::new(ManualClock::at_secs(1)), |b| b.fill(1)))
}

#[test]
fn only_an_auth_frame_carries_a_token() {
    let token = |text| token_of(text).map(|t| t.expose().clone());
    assert_eq!(token(r#"{"type":"auth","token":"t"}"#), Some("t".to_owned()));
    assert_eq!(token(r#"{"type":"auth","token":"t","id":"c0"}"#), Some("t".to_owned()));
    for none in ["", "{}", r#"{"type":"ping","token":"t"}"#, r#"{"type":"auth"}"#, "[1]"] {
        assert_eq!(token(none), None, "{none}");
    }
}

#[test]
fn a_frame_is_an_id_a_kind_and_a_body() {
    let text = format!(r#"{{"id":"c1","type":"subscribe","run_id":"{}","after":3}}"#, run_id());
    let mut request = Request::read(&text).unwrap();
    assert_eq!(
        (request.id.as_deref(), request.kind.clone().ok()),
        (Some("c1"), Some(Kind::Subscribe))
    );
    let Subscribe { run_id: id, after } = request.body().unwrap();
    assert_eq!((id, after), (run_id(), 3));
}

#[test]
fn a_bad_frame_says_where() {
    for (text, pointer) in [
        (r#"{"id":7,"type":"ping"}"#, "/id"),
        (r#"{"id":"a"}"#, "/type"),
        (r#"{"type":"dance"}"#, "/type"),
        (r#"{"type":"ping","idempotency_key":1}"#, "/idempotency_key"),
    ] {
        let problem = Request::read(text).and_then(|r| r.kind.map(|_| ())).unwrap_err();
        assert_eq!(problem.errors().first().unwrap().pointer, pointer, "{text}");
    }
    assert_eq!(Request::read("{").unwrap_err().code(), "request.malformed");
    let mut request = Request::read(r#"{"type":"run.cancel","run_id":"conv_x"}"#).unwrap();
    let problem = request.take::<RunId>("run_id").unwrap_err();
    assert_eq!(problem.errors().first().unwrap().pointer, "/run_id");
}

#[test]
fn every_kind_is_named_on_the_wire_as_in_code() {
    for kind in [
        Kind::Subscribe,
        Kind::Unsubscribe,
        Kind::RunCreate,
        Kind::RunInterrupt,
        Kind::RunSteer,
        Kind::RunResume,
        Kind::RunCancel,
        Kind::RunRetry,
        Kind::RunFork,
        Kind::ApprovalDecide,
        Kind::Ping,
    ] {
        let text = format!(r#"{{"type":"{}"}}"#, kind.as_str());
        assert_eq!(Request::read(&text).unwrap().kind, Ok(kind));
    }
}

#[test]
fn replies_have_the_shape_of_the_contract() {
    let value = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    assert_eq!(
        value(reply(Some("c1"), Ok(json!({"a": 1})), "r")),
        json!({"type": "reply", "id": "c1", "ok": true, "data": {"a": 1}})
    );
    let refused = value(reply(None, Err(not_text()), "r"));
    assert_eq!(refused.get("ok"), Some(&json!(false)));
    assert_eq!(refused.pointer("/problem/code"), Some(&json!("request.malformed")));
    assert_eq!(refused.pointer("/problem/request_id"), Some(&json!("r")));
    let principal = Principal {
        id: crate::auth::authn::principal_id_of("ann"),
        name: "ann".to_owned(),
        role: Role::Admin,
        scopes: crate::domain::Scopes::default(),
    };
    let hello = value(hello(&principal));
    assert_eq!(hello.pointer("/principal/role"), Some(&json!("admin")));
    assert_eq!(hello.pointer("/limits/queue_events_max"), Some(&json!(256)));
}

#[test]
fn events_keep_every_field_and_their_type_under_another_name() {
    let conversation_id =
        ConversationId::new(&IdSource::new(Arc::new(ManualClock::at_secs(1)), |b| b.fill(2)));
    let body = EventBody::RunStarted {};
    let at = Timestamp::from_micros(0);
    let one = Event { body, run_id: run_id(), conversation_id, seq: 2, at, epoch: 1 };
    let mut expected = serde_json::to_value(&one).unwrap();
    let fields = expected.as_object_mut().unwrap();
    fields.insert("event".to_owned(), json!("run.started"));
    fields.insert("type".to_owned(), json!("event"));
    assert_eq!(serde_json::from_str::<Value>(&event(&one).unwrap()).unwrap(), expected);

    let body = EphemeralBody::MessageDelta { text: "x".to_owned() };
    let frame = Ephemeral { body, run_id: run_id(), after_seq: 2 };
    let written: Value = serde_json::from_str(&ephemeral(&frame).unwrap()).unwrap();
    assert_eq!(written.get("type"), Some(&json!("event")));
    assert_eq!(written.get("event"), Some(&json!("message.delta")));
    assert_eq!(written.get("after_seq"), Some(&json!(2)));
}

#[test]
fn every_command_is_listed() {
    // A new command does not compile here before it has a place.
    let place = |kind: Kind| match kind {
        Kind::Subscribe => 0,
        Kind::Unsubscribe => 1,
        Kind::RunCreate => 2,
        Kind::RunInterrupt => 3,
        Kind::RunSteer => 4,
        Kind::RunResume => 5,
        Kind::RunCancel => 6,
        Kind::RunRetry => 7,
        Kind::RunFork => 8,
        Kind::ApprovalDecide => 9,
        Kind::Ping => 10,
    };
    assert_eq!(COMMANDS.len(), 11);
    for (n, name) in COMMANDS.iter().enumerate() {
        let kind: Kind = serde_json::from_value(json!(name)).unwrap();
        assert_eq!((place(kind), kind.as_str()), (n, *name));
    }
}
