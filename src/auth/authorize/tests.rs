use std::sync::Mutex;

use super::*;
use crate::{
    auth::authn::principal_id_of,
    domain::{
        Approval, ApprovalId, ApprovalKind, ApprovalState, IdSource, ManualClock, Principal, Risk,
        RunId, RunLimits, Scopes, Surface, Timestamp, ToolLimits,
    },
    runtime::tasks::lock,
};

#[derive(Default)]
struct Rows(Mutex<Vec<AuditEntry>>);

impl AuditSink for Rows {
    fn record(&self, entry: AuditEntry) {
        lock(&self.0).push(entry);
    }
}

fn agent(name: &str, roles: &[Role]) -> (AgentName, Arc<AgentDef>) {
    let name: AgentName = name.parse().unwrap();
    let def = AgentDef {
        name: name.clone(),
        version: "v".to_owned(),
        model: "m".to_owned(),
        system_prompt: String::new(),
        tools: Vec::new(),
        roles: roles.to_vec(),
        workspace: "/w".into(),
        allowed_paths: Vec::new(),
        allowed_commands: Vec::new(),
        may_execute_files: false,
        hosts: crate::domain::HostPolicy::default(),
        egress: crate::domain::EgressLimits::default(),
        tool_limits: ToolLimits::default(),
        limits: RunLimits::default(),
        max_output_tokens: 1,
    };
    (name, Arc::new(def))
}

fn authorizer(requester_may_approve: bool) -> (Authorizer, Arc<Rows>) {
    let rows = Arc::new(Rows::default());
    let agents = Agents::from([
        agent("open", &[Role::Member]),
        agent("ops", &[Role::Operator]),
        agent("viewers", &[Role::Viewer]),
        agent("nobody", &[]),
    ]);
    (Authorizer::new(Options { requester_may_approve }, agents, rows.clone()), rows)
}

fn cx(role: Role) -> CallContext {
    let name = role.as_str();
    CallContext {
        principal: Principal {
            id: principal_id_of(name),
            name: name.to_owned(),
            role,
            scopes: Scopes::default(),
        },
        surface: Surface::Api,
        request_id: "req-1".to_owned(),
    }
}

/// An action, whether each role may do it, and the attempt.
type Row<'a> = (&'a str, [bool; 5], &'a dyn Fn(&CallContext) -> bool);

#[test]
fn each_role_may_do_what_the_table_says_and_nothing_more() {
    let (auth, rows) = authorizer(true);
    // viewer, member, operator, admin, overlord
    let table: [Row<'_>; 12] = [
        ("start open", [false, true, true, true, true], &|c| auth.start_run(c, "open").is_ok()),
        ("start ops", [false, false, true, true, true], &|c| auth.start_run(c, "ops").is_ok()),
        ("start viewers", [false, true, true, true, true], &|c| {
            auth.start_run(c, "viewers").is_ok()
        }),
        ("start nobody", [false; 5], &|c| auth.start_run(c, "nobody").is_ok()),
        ("interrupt", [false, true, true, true, true], &|c| {
            auth.control(c, Verb::Interrupt).is_ok()
        }),
        ("steer", [false, true, true, true, true], &|c| auth.control(c, Verb::Steer).is_ok()),
        ("resume", [false, true, true, true, true], &|c| auth.control(c, Verb::Resume).is_ok()),
        ("cancel", [false, true, true, true, true], &|c| auth.control(c, Verb::Cancel).is_ok()),
        ("fork", [false, true, true, true, true], &|c| auth.control(c, Verb::Fork).is_ok()),
        ("retry", [false, false, true, true, true], &|c| auth.control(c, Verb::Retry).is_ok()),
        ("delete conversation", [false, true, true, true, true], &|c| {
            auth.control(c, Verb::DeleteConversation).is_ok()
        }),
        ("decide", [false, false, true, true, true], &|c| auth.decide(c).is_ok()),
    ];
    let mut denials = 0;
    for (action, expected, allowed) in table {
        for (role, expected) in Role::ALL.into_iter().zip(expected) {
            assert_eq!(allowed(&cx(role)), expected, "{role} {action}");
            denials += usize::from(!expected);
        }
    }
    assert_eq!(lock(&rows.0).len(), denials, "each refusal leaves one row");
}

#[test]
fn each_area_is_administered_from_its_role_on() {
    let (auth, rows) = authorizer(true);
    let mut denials = 0;
    for role in Role::ALL {
        let c = cx(role);
        let allowed = [
            auth.manage::<area::ManageEgress>(&c).is_ok(),
            auth.manage::<area::Inspect>(&c).is_ok(),
            auth.manage::<area::ManagePrincipals>(&c).is_ok(),
            auth.manage::<area::ManageTokens>(&c).is_ok(),
            auth.manage::<area::ManagePairings>(&c).is_ok(),
            auth.manage::<area::ManagePolicy>(&c).is_ok(),
            auth.manage::<area::ManageCapabilities>(&c).is_ok(),
            auth.manage::<area::ManageBudgets>(&c).is_ok(),
            auth.manage::<area::ReadAudit>(&c).is_ok(),
            auth.manage::<area::SeeSecrets>(&c).is_ok(),
            auth.manage::<area::ChangeSecrets>(&c).is_ok(),
            auth.manage::<area::ManageBackups>(&c).is_ok(),
            auth.manage::<area::Lockdown>(&c).is_ok(),
            auth.manage::<area::LiftLockdown>(&c).is_ok(),
            auth.manage::<area::SeeRetention>(&c).is_ok(),
            auth.manage::<area::ManageRetention>(&c).is_ok(),
            auth.manage::<area::ErasePersons>(&c).is_ok(),
            auth.manage::<area::ExportPersons>(&c).is_ok(),
        ];
        assert_eq!(allowed.len(), area::AREAS.len(), "an area is not tried");
        for (allowed, (name, least)) in allowed.into_iter().zip(area::AREAS) {
            let expected = match *name {
                "secrets.change" | "lockdown.lift" | "retention.manage" | "persons.erase" => {
                    role == Role::Overlord
                }
                _ => role >= Role::Admin,
            };
            assert_eq!(allowed, expected, "{role} {name} {least}");
            denials += usize::from(!expected);
        }
    }
    assert_eq!(lock(&rows.0).len(), denials, "each refusal leaves one row");
}

#[test]
fn viewers_and_members_see_only_their_own() {
    let (auth, _) = authorizer(true);
    let conversation = conversation(1);
    for role in Role::ALL {
        let me = cx(role);
        let scope = auth.read(&me).unwrap().scope();
        assert_eq!(scope.owner(), (role < Role::Operator).then_some(me.principal.id));
        for (owner, expected) in
            [(me.principal.id, true), (principal_id_of("somebody else"), role >= Role::Operator)]
        {
            assert_eq!(scope.includes_run(owner, "open", conversation), expected);
            assert_eq!(scope.includes_conversation(owner, conversation), expected);
        }
    }
}

fn conversation(n: u8) -> ConversationId {
    ConversationId::from(uuid::Uuid::from_bytes([n; 16]))
}

fn narrowed(role: Role, scopes: &str) -> CallContext {
    let mut cx = cx(role);
    cx.principal.scopes = serde_json::from_str(scopes).unwrap();
    cx
}

#[test]
fn scopes_narrow_what_a_role_may_do_and_the_refusal_says_what_to_ask_for() {
    let (auth, rows) = authorizer(true);
    let of_agent = narrowed(Role::Operator, r#"{"agents":["open"]}"#);
    assert!(auth.start_run(&of_agent, "open").is_ok());
    let refused = auth.start_run(&of_agent, "ops").map(drop).unwrap_err();
    assert_eq!(
        refused,
        Denied::Scope { kind: ScopeKind::Agent, wanted: "ops".to_owned() },
        "though the role reaches it"
    );
    assert!(refused.to_string().contains("agent `ops`"), "{refused}");
    let names: Vec<_> = auth.startable(&of_agent).iter().map(|a| a.name.to_string()).collect();
    assert_eq!(names, ["open"]);
    let scope = of_agent.scope();
    let (me, other) = (of_agent.principal.id, principal_id_of("somebody else"));
    assert!(scope.includes_run(other, "open", conversation(1)));
    assert!(!scope.includes_run(other, "ops", conversation(1)));
    assert!(!scope.includes_run(me, "ops", conversation(1)), "not even their own");
    assert!(scope.includes_conversation(me, conversation(1)));
    assert!(
        !scope.includes_conversation(other, conversation(1)),
        "it may hold other agents' words"
    );
    let id = conversation(7);
    let in_one = narrowed(Role::Member, &format!(r#"{{"conversations":["{id}"]}}"#));
    assert!(in_one.scope().includes_conversation(in_one.principal.id, id));
    assert!(!in_one.scope().includes_conversation(in_one.principal.id, conversation(8)));
    for verb in [Verb::CreateConversation, Verb::Fork] {
        let refused = auth.control(&in_one, verb).map(drop).unwrap_err();
        assert_eq!(refused.rule(), "scope.conversation", "{verb:?} makes a new one");
    }
    assert!(auth.control(&in_one, Verb::Cancel).is_ok());
    assert_eq!(lock(&rows.0).len(), 3, "each refusal leaves one row");
}

#[test]
fn a_surface_that_is_left_out_reaches_nothing() {
    let (auth, _) = authorizer(true);
    let elsewhere = narrowed(Role::Overlord, r#"{"surfaces":["admin"]}"#);
    let rule = |denied: Denied| denied.rule();
    assert_eq!(auth.read(&elsewhere).map(drop).map_err(rule), Err("scope.surface"));
    assert_eq!(auth.start_run(&elsewhere, "open").map(drop).map_err(rule), Err("scope.surface"));
    assert_eq!(auth.decide(&elsewhere).map(drop).map_err(rule), Err("scope.surface"));
    for verb in Verb::ALL {
        assert_eq!(auth.control(&elsewhere, verb).map(drop).map_err(rule), Err("scope.surface"));
    }
    let managed = auth.manage::<area::Inspect>(&elsewhere).map(drop).map_err(rule);
    assert_eq!(managed, Err("scope.surface"));
    assert!(auth.startable(&elsewhere).is_empty());
    let here = CallContext { surface: Surface::Admin, ..elsewhere };
    assert!(auth.read(&here).is_ok() && auth.manage::<area::Inspect>(&here).is_ok());
}

#[test]
fn who_is_narrowed_to_parts_does_not_administer_the_whole() {
    let (auth, _) = authorizer(true);
    for scopes in [r#"{"agents":["open"]}"#, r#"{"tools":[]}"#, r#"{"conversations":[]}"#] {
        let cx = narrowed(Role::Overlord, scopes);
        let denied = auth.manage::<area::ManageTokens>(&cx).map(drop).unwrap_err();
        assert_eq!(denied.rule(), "scope.administration", "{scopes}");
    }
}

#[test]
fn an_approval_of_a_tool_out_of_scope_is_for_somebody_else() {
    let (auth, _) = authorizer(true);
    let cx = narrowed(Role::Admin, r#"{"tools":["read_file"]}"#);
    let permit = auth.decide(&cx).unwrap();
    let theirs = principal_id_of("somebody else");
    let denied = permit.check(&approval(Role::Operator), theirs).unwrap_err();
    assert_eq!(denied, Denied::Scope { kind: ScopeKind::Tool, wanted: "shell".to_owned() });
    let budget = Approval { tool: "budget".to_owned(), ..approval(Role::Operator) };
    assert!(permit.check(&budget, theirs).is_ok(), "it is about no tool");
}

#[test]
fn an_unknown_agent_and_a_closed_one_are_told_apart() {
    let (auth, rows) = authorizer(true);
    for name in ["missing", "../etc", ""] {
        let answer = auth.start_run(&cx(Role::Overlord), name).map(|_| ());
        assert_eq!(answer, Err(Denied::UnknownAgent), "{name}");
    }
    let closed = auth.start_run(&cx(Role::Member), "ops").map(|_| ());
    let agent = "ops".parse().unwrap();
    assert_eq!(closed, Err(Denied::AgentClosed { agent, role: Role::Member }));
    let rows = lock(&rows.0);
    let last = rows.last().unwrap();
    assert_eq!(
        (last.kind, last.data.get("rule").unwrap()),
        (AuditKind::AccessDenied, &json!("agent.closed"))
    );
}

#[test]
fn replaced_agents_count_at_once() {
    let (auth, _) = authorizer(true);
    let other = auth.clone();
    other.set_agents(Agents::from([agent("new", &[Role::Member])]));
    assert!(auth.start_run(&cx(Role::Member), "new").is_ok());
    assert!(auth.start_run(&cx(Role::Member), "open").is_err());
    let names: Vec<_> =
        auth.startable(&cx(Role::Member)).iter().map(|a| a.name.to_string()).collect();
    assert_eq!(names, ["new"]);
}

fn approval(required_role: Role) -> Approval {
    let ids = IdSource::new(Arc::new(ManualClock::at_secs(1)), |b| b.fill(1));
    Approval {
        id: ApprovalId::new(&ids),
        run_id: RunId::new(&ids),
        call_id: None,
        kind: ApprovalKind::Tool,
        tool: "shell".to_owned(),
        args: json!({}),
        args_hash: String::new(),
        policy_version: String::new(),
        cwd: ".".to_owned(),
        risk: Risk::High,
        reasons: Vec::new(),
        tainted: false,
        binding: String::new(),
        bound: crate::domain::Bound::default(),
        egress: Vec::new(),
        required_role,
        quorum: 1,
        state: ApprovalState::Pending,
        decisions: Vec::new(),
        created_at: Timestamp::from_micros(0),
        expires_at: Timestamp::from_micros(1),
    }
}

#[test]
fn an_approval_takes_its_own_role_and_where_asked_another_person() {
    for requester_may_approve in [true, false] {
        let (auth, _) = authorizer(requester_may_approve);
        for role in [Role::Operator, Role::Admin, Role::Overlord] {
            let me = cx(role);
            let permit = auth.decide(&me).unwrap();
            for required in [Role::Operator, Role::Admin] {
                let (mine, theirs) = (me.principal.id, principal_id_of("somebody else"));
                let reaches = role >= required;
                assert_eq!(permit.check(&approval(required), theirs).is_ok(), reaches);
                let own = permit.check(&approval(required), mine);
                assert_eq!(own.is_ok(), reaches && requester_may_approve);
            }
        }
    }
}
