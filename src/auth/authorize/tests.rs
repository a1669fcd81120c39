use std::sync::Mutex;

use super::*;
use crate::{
    auth::authn::principal_id_of,
    auth::context::Scope,
    domain::{
        Approval, ApprovalId, ApprovalKind, ApprovalState, IdSource, ManualClock, Principal, Risk,
        RunId, RunLimits, Surface, Timestamp, ToolLimits,
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
        principal: Principal { id: principal_id_of(name), name: name.to_owned(), role },
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
            auth.manage::<area::Lockdown>(&c).is_ok(),
            auth.manage::<area::LiftLockdown>(&c).is_ok(),
        ];
        assert_eq!(allowed.len(), area::AREAS.len(), "an area is not tried");
        for (allowed, (name, least)) in allowed.into_iter().zip(area::AREAS) {
            let expected = match *name {
                "secrets.change" | "lockdown.lift" => role == Role::Overlord,
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
    for role in Role::ALL {
        let me = cx(role);
        let expected = if role < Role::Operator { Scope::Own(me.principal.id) } else { Scope::Any };
        assert_eq!(auth.read(&me).action().scope, expected);
        assert!(expected.includes(me.principal.id));
        assert_eq!(expected.includes(principal_id_of("somebody else")), role >= Role::Operator);
        if let Ok(permit) = auth.control(&me, Verb::Cancel) {
            assert_eq!(permit.action().scope, expected);
        }
    }
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
