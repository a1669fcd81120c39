//! The checker finds what it looks for: a true history passes, and each planted violation of each
//! invariant is found under its number.
#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use agent_runtime::{
    domain::{
        BudgetScope, BudgetSubject, Day, Event, EventBody, Message, Run, RunId, ToolCall, Usd,
        audit::AuditRow,
    },
    store::{BudgetUse, Conversation, RunCore, audit},
};
use serde_json::{Value, json};
use support::checker::{Truth, Witness, witness::Seen};

fn id(prefix: &str, n: u8) -> String {
    format!("{prefix}00000000-0000-7000-8000-0000000000{n:02}")
}

fn run_id() -> String {
    id("run_", 1)
}

fn call_id() -> String {
    id("call_", 1)
}

const AT: &str = "2026-01-02T03:04:05.000000Z";
const LATER: &str = "2026-01-02T05:00:00.000000Z";
const TOO_LATE: &str = "2026-01-02T06:00:00.000000Z";

fn args() -> Value {
    json!({"argv": ["/bin/true"]})
}

fn args_hash() -> String {
    agent_runtime::tools::args_hash("exec", &args())
}

fn usage() -> Value {
    json!({"input_tokens": 1, "output_tokens": 1, "cost_usd": "0", "llm_calls": 2, "tool_calls": 1})
}

/// A gated unsafe call that a person approved, and its run's good end.
fn bodies() -> Vec<(u64, Value)> {
    let approval = json!({
        "id": id("apr_", 1), "run_id": run_id(), "call_id": call_id(), "kind": "tool",
        "tool": "exec", "args": args(), "args_hash": args_hash(), "policy_version": "v",
        "cwd": "/", "risk": "high", "reasons": [], "tainted": false, "egress": [],
        "required_role": "operator", "quorum": 1, "state": "pending", "decisions": [],
        "created_at": AT, "expires_at": LATER,
    });
    let decision = json!({
        "principal": id("prn_", 1), "decision": "approve", "at": AT, "surface": "api",
    });
    vec![
        (
            0,
            json!({"type": "run.created", "data": {"agent": "a", "input": "hi", "retry_of": null}}),
        ),
        (1, json!({"type": "run.started", "data": {}})),
        (
            1,
            json!({"type": "tool.requested", "data": {"call_id": call_id(), "tool": "exec",
            "args": args(), "effect": "unsafe", "risk": "high"}}),
        ),
        (1, json!({"type": "approval.requested", "data": approval})),
        (
            1,
            json!({"type": "approval.decided", "data": {"approval_id": id("apr_", 1),
            "call_id": call_id(), "state": "approved", "decision": decision}}),
        ),
        (2, json!({"type": "run.started", "data": {}})),
        (
            2,
            json!({"type": "tool.started", "data": {"call_id": call_id(), "tool": "exec",
            "attempt": 1}}),
        ),
        (
            2,
            json!({"type": "tool.completed", "data": {"call_id": call_id(), "status": "ok",
            "exit_code": 0, "output": "", "truncated": false, "duration_ms": 1,
            "confinement": "full"}}),
        ),
        (2, json!({"type": "run.succeeded", "data": {"output": "done", "usage": usage()}})),
    ]
}

fn event(seq: u64, epoch: u64, mut body: Value) -> Event {
    let rest = json!({"run_id": run_id(), "conversation_id": id("conv_", 1), "seq": seq,
        "at": AT, "epoch": epoch});
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

fn events(bodies: Vec<(u64, Value)>) -> Vec<Event> {
    bodies.into_iter().zip(1..).map(|((epoch, body), seq)| event(seq, epoch, body)).collect()
}

fn run(state: &str, seq: usize) -> Run {
    serde_json::from_value(json!({
        "id": run_id(), "conversation_id": id("conv_", 1), "agent": "a", "state": state,
        "wait_reason": null, "input": "hi", "output": "done", "error": null, "seq": seq,
        "epoch": 2, "usage": usage(), "confinement": "full", "tainted": false,
        "parent_run_id": null, "retry_of": null, "principal": id("prn_", 1), "surface": "api",
        "metadata": {}, "limits": {}, "base_bundle_id": null, "created_at": AT,
        "started_at": AT, "ended_at": AT,
    }))
    .unwrap()
}

fn core(run: &Run) -> RunCore {
    RunCore {
        id: run.id,
        conversation_id: run.conversation_id,
        agent: run.agent.clone(),
        agent_version: String::new(),
        principal: run.principal,
        surface: run.surface,
        state: run.state,
        wait_reason: run.wait_reason,
        epoch: run.epoch,
        owner: None,
        seq: run.seq,
        step: 1,
        ready: false,
        recoveries: 0,
        backoffs: 0,
        interrupt: None,
        steers_waiting: 0,
        usage: run.usage,
        held_tokens: 0,
        held_cost: Usd::from_nanos(0),
        held_day: Day::of(run.created_at),
        limits: run.limits,
        worked_ms: 0,
        wake_at: None,
        confinement: run.confinement,
        tainted: false,
        head_bundle_id: None,
        created_at: run.created_at,
        started_at: run.started_at,
        ended_at: run.ended_at,
        ending: None,
    }
}

fn audit_rows(kinds: &[&str]) -> Vec<AuditRow> {
    let mut before = "0".repeat(64);
    let rows = kinds.iter().zip(1_u64..).map(|(kind, n)| {
        let mut row: AuditRow = serde_json::from_value(json!({
            "n": n, "id": id("evt_", 1), "at": AT, "kind": "run_state", "actor": "system",
            "surface": "system", "run_id": run_id(), "request_id": null,
            "data": {"event": kind}, "prev_hash": before, "hash": "",
        }))
        .unwrap();
        row.hash = audit::hash(&row);
        before.clone_from(&row.hash);
        row
    });
    rows.collect()
}

/// A store that keeps every promise.
fn sound() -> Truth {
    let events = events(bodies());
    let run = run("succeeded", events.len());
    let call: ToolCall = serde_json::from_value(json!({
        "id": call_id(), "run_id": run_id(), "step": 1, "index": 0, "tool": "exec",
        "args": args(), "args_hash": args_hash(), "effect": "unsafe", "risk": "high",
        "state": "done", "attempts": 1,
        "outcome": {"status": "ok", "exit_code": 0, "output": "", "truncated": false,
            "duration_ms": 1, "confinement": "full"},
    }))
    .unwrap();
    let message: Message = serde_json::from_value(json!({
        "id": id("msg_", 1), "conversation_id": id("conv_", 1), "seq": 1, "run_id": run_id(),
        "role": "user", "content": [{"type": "text", "text": "hi"}], "at": AT,
    }))
    .unwrap();
    let mut thread = Conversation::new(run.conversation_id, run.principal, run.created_at);
    thread.last_seq = 1;
    let approvals = events
        .iter()
        .filter_map(|e| match &e.body {
            EventBody::ApprovalRequested { approval } => Some((**approval).clone()),
            _ => None,
        })
        .map(|mut approval| {
            approval.state = agent_runtime::domain::ApprovalState::Approved;
            let decision = json!({"principal": id("prn_", 1), "decision": "approve", "at": AT,
                "surface": "api"});
            approval.decisions.push(serde_json::from_value(decision).unwrap());
            approval
        })
        .collect();
    let audit = audit_rows(&[
        "run.created",
        "run.started",
        "approval.requested",
        "approval.decided",
        "run.started",
        "run.succeeded",
    ]);
    Truth {
        cores: [(run.id, core(&run))].into(),
        events: [(run.id, events)].into(),
        calls: [(call.id, call)].into(),
        approvals,
        threads: vec![(thread, vec![message])],
        audit,
        runs: vec![run],
        ..Truth::default()
    }
}

fn witness() -> Witness {
    let mut witness = Witness::default();
    for line in [
        json!({"kind": "created", "key": "k", "run": run_id()}),
        json!({"kind": "decided", "approval": id("apr_", 1), "decision": "approve"}),
        json!({"kind": "limit", "scope": "org", "subject": "", "nanos": null, "tokens": 100}),
        json!({"script": "s", "results": [{"id": call_id(), "text": ""}]}),
        json!({"kind": "saw", "client": "c", "run": run_id(), "seq": 1, "type": "run.created"}),
        json!({"kind": "saw", "client": "c", "run": run_id(), "seq": 2, "type": "run.started"}),
    ] {
        witness.add_line(&line);
    }
    witness.executed.push(call_id());
    witness.secrets.push("a canary of secrets".to_owned());
    witness
}

fn key() -> RunId {
    run_id().parse().unwrap()
}

/// Numbers of the invariants that are broken.
fn broken(truth: &Truth, witness: &Witness) -> Vec<u8> {
    let mut numbers: Vec<u8> = truth.violations(witness).iter().map(|v| v.invariant).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// A true history, spoilt.
#[track_caller]
fn finds(invariant: u8, spoil: impl FnOnce(&mut Truth, &mut Witness)) {
    let (mut truth, mut witness) = (sound(), witness());
    spoil(&mut truth, &mut witness);
    let found = broken(&truth, &witness);
    assert!(found.contains(&invariant), "{invariant} is not among {found:?}");
}

/// Replaces the events, and what counts them.
fn retell(truth: &mut Truth, bodies: Vec<(u64, Value)>) {
    let events = events(bodies);
    truth.runs[0].seq = events.len() as u64;
    truth.runs[0].epoch = events.last().unwrap().epoch;
    truth.events.insert(key(), events);
}

#[test]
fn a_true_history_breaks_nothing() {
    let found = sound().violations(&witness());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_lost_request_or_a_second_run_of_a_key_is_found() {
    finds(1, |truth, _| truth.runs.clear());
    finds(1, |_, witness| witness.created.push(("k".to_owned(), id("run_", 2))));
    finds(1, |truth, _| {
        let mut twin = truth.runs[0].clone();
        twin.metadata.insert("witness-key".to_owned(), "k".to_owned());
        truth.runs = vec![twin.clone(), twin];
    });
    finds(1, |truth, _| truth.approvals[0].decisions.clear());
    finds(1, |truth, witness| {
        retell(truth, bodies().into_iter().take(2).collect());
        truth.runs[0].state = agent_runtime::domain::RunState::Running;
        witness.cancelled.push(run_id());
    });
}

#[test]
fn a_gap_a_wrong_state_or_an_event_after_the_end_is_found() {
    finds(2, |truth, _| drop(truth.events.get_mut(&key()).unwrap().remove(3)));
    finds(2, |truth, _| truth.runs[0].state = agent_runtime::domain::RunState::Failed);
    finds(2, |truth, _| truth.runs[0].seq += 1);
    finds(2, |truth, _| {
        let mut more = bodies();
        more.push((2, json!({"type": "run.interrupt_requested", "data": {"mode": "hard"}})));
        retell(truth, more);
    });
}

#[test]
fn a_second_execution_an_effect_without_intent_and_a_result_out_of_nowhere_are_found() {
    finds(3, |_, witness| witness.executed.push(call_id()));
    finds(3, |_, witness| witness.executed.push(id("call_", 2)));
    finds(3, |_, witness| witness.executed.push("nonsense".to_owned()));
    finds(3, |_, witness| witness.shown.push(id("call_", 2)));
    finds(3, |truth, _| truth.calls.values_mut().for_each(|call| call.outcome = None));
    // Without any witness: started, crashed, started again.
    finds(3, |truth, witness| {
        let mut again = bodies();
        again.truncate(7);
        again.push((
            3,
            json!({"type": "run.recovered", "data": {"from_epoch": 2, "to_epoch": 3,
            "recoveries": 1, "paused": null}}),
        ));
        again.push((4, json!({"type": "run.started", "data": {}})));
        again.push((
            4,
            json!({"type": "tool.started", "data": {"call_id": call_id(),
            "tool": "exec", "attempt": 2}}),
        ));
        retell(truth, again);
        witness.executed.clear();
    });
}

#[test]
fn a_recorded_word_lets_an_unsafe_call_run_once_more_and_no_more() {
    let (mut truth, mut witness) = (sound(), witness());
    let mut again = bodies();
    again.truncate(7);
    let decision = json!({"principal": id("prn_", 1), "decision": "approve", "at": AT,
        "surface": "api", "outcome": "run"});
    let mut question = bodies()[3].1.clone();
    question["data"]["kind"] = json!("unknown_effect");
    question["data"]["id"] = json!(id("apr_", 2));
    again.push((
        3,
        json!({"type": "run.recovered", "data": {"from_epoch": 2, "to_epoch": 3,
        "recoveries": 1, "paused": "effect_unknown"}}),
    ));
    again.push((3, question));
    again.push((
        3,
        json!({"type": "approval.decided", "data": {"approval_id": id("apr_", 2),
        "call_id": call_id(), "state": "approved", "decision": decision}}),
    ));
    again.push((3, json!({"type": "run.resumed", "data": {"reason": "effect_unknown"}})));
    again.push((4, json!({"type": "run.started", "data": {}})));
    again.extend(bodies().into_iter().skip(6).map(|(_, body)| (4, body)));
    retell(&mut truth, again);
    witness.executed.push(call_id());
    let of = |truth: &Truth, witness: &Witness| broken(truth, witness).contains(&3);
    assert!(!of(&truth, &witness));
    witness.executed.push(call_id());
    assert!(of(&truth, &witness));
}

#[test]
fn a_stale_or_skipped_epoch_and_two_owners_at_once_are_found() {
    finds(4, |truth, _| truth.events.get_mut(&key()).unwrap()[7].epoch = 1);
    finds(4, |truth, _| {
        let skipped = bodies().into_iter().map(|(e, b)| (if e == 2 { 3 } else { e }, b));
        let skipped = skipped.collect();
        retell(truth, skipped);
    });
    finds(4, |truth, _| truth.runs[0].epoch = 3);
    finds(4, |_, witness| witness.executed.push(format!("overlap {}", call_id())));
}

#[test]
fn a_call_that_nobody_approved_in_time_or_with_other_arguments_is_found() {
    finds(5, |truth, _| {
        let mut denied = bodies();
        denied[4].1["data"]["state"] = json!("denied");
        retell(truth, denied);
    });
    finds(5, |truth, _| {
        let mut late = bodies();
        late[4].1["data"]["decision"]["at"] = json!(TOO_LATE);
        retell(truth, late);
    });
    finds(5, |truth, _| {
        let mut other = bodies();
        other[3].1["data"]["args_hash"] = json!("another");
        retell(truth, other);
    });
    finds(5, |truth, _| {
        let call = truth.calls.values_mut().next().unwrap();
        call.args = json!({"argv": ["/bin/false"]});
    });
}

#[test]
fn money_beyond_a_limit_or_held_for_nobody_is_found() {
    let day = Day::of(run("queued", 1).created_at);
    let used = |used_tokens, held_tokens| BudgetUse {
        used: Usd::from_nanos(0),
        used_tokens,
        held: Usd::from_nanos(0),
        held_tokens,
        warned: 0,
    };
    assert_eq!(BudgetSubject::ORG.scope, BudgetScope::Org);
    let org = (BudgetSubject::ORG, day);
    finds(6, |truth, _| truth.uses.extend([(org.clone(), used(101, 0))]));
    finds(6, |truth, _| truth.uses.extend([(org.clone(), used(0, 7))]));
    finds(6, |truth, _| truth.cores.get_mut(&key()).unwrap().held_tokens = 7);
}

#[test]
fn a_missing_or_doubled_message_and_a_lost_steer_are_found() {
    finds(7, |truth, _| truth.threads[0].1.clear());
    finds(7, |truth, _| {
        let mut twin = truth.threads[0].1[0].clone();
        twin.seq = 2;
        truth.threads[0].1.push(twin);
        truth.threads[0].0.last_seq = 2;
    });
    finds(7, |_, witness| witness.steered.push((run_id(), id("steer_", 1))));
}

#[test]
fn a_run_that_comes_to_no_rest_is_found() {
    for state in ["queued", "running", "cancelling", "paused"] {
        finds(8, |truth, _| truth.runs[0].state = state.parse().unwrap());
    }
}

#[test]
fn a_change_without_its_row_and_a_broken_chain_are_found() {
    finds(9, |truth, _| drop(truth.audit.pop()));
    finds(9, |truth, _| truth.audit[2].actor = "somebody else".to_owned());
    finds(9, |truth, _| {
        let checkpoint = json!({"n": 1, "hash": "x", "at": AT, "key_id": "", "mac": ""});
        truth.checkpoints.push(serde_json::from_value(checkpoint).unwrap());
    });
}

#[test]
fn an_event_that_a_client_missed_got_twice_or_got_another_way_is_found() {
    let seen = |seq, kind: &str| Seen { seq, kind: kind.to_owned() };
    let client = ("c".to_owned(), run_id());
    for event in [seen(2, "run.started"), seen(5, "approval.decided"), seen(3, "run.started")] {
        finds(10, |_, witness| witness.seen.get_mut(&client).unwrap().push(event));
    }
}

#[test]
fn a_secret_is_found_wherever_it_stands_and_in_its_usual_forms() {
    let canary = "a canary of secrets";
    finds(11, |truth, _| truth.runs[0].output = Some(format!("look: {canary}")));
    finds(11, |truth, _| truth.audit[0].data = json!({"x": canary}));
    let hex = data_encoding::HEXLOWER.encode(canary.as_bytes());
    finds(11, |_, witness| witness.texts.push(("the log".to_owned(), hex)));
    let base64 = data_encoding::BASE64.encode(canary.as_bytes());
    finds(11, |truth, _| truth.calls.values_mut().next().unwrap().args = json!({"x": base64}));
}

#[test]
fn a_held_lock_and_a_process_in_the_directory_are_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tools.lock"), "").unwrap();
    assert_eq!(support::checker::leftovers_of(dir.path()), []);
    #[expect(clippy::disallowed_methods, reason = "a process that a daemon may have left")]
    let mut left =
        std::process::Command::new("/bin/sleep").arg("60").current_dir(dir.path()).spawn().unwrap();
    let found = support::checker::leftovers_of(dir.path());
    left.kill().unwrap();
    left.wait().unwrap();
    assert!(found.iter().any(|v| v.invariant == 12), "{found:?}");
    std::fs::remove_file(dir.path().join("tools.lock")).unwrap();
    assert!(!support::checker::leftovers_of(dir.path()).is_empty());
}
