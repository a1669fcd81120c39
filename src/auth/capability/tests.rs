use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{super::keys::Keys, *};
use crate::domain::{
    Access, AgentDef, Grant, HostName, HostPolicy, IdSource, ManualClock, PathRule, RunId, Secret,
    ToolName,
    tool::{CallFacts, PathUse},
};

fn authority() -> Authority {
    Authority::new(&Keys::new(&Secret::new("k".repeat(32))).unwrap())
}

fn ids() -> IdSource {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    IdSource::new(Arc::new(ManualClock::at_secs(1)), |bytes| {
        bytes.fill(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    })
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

fn claims(permissions: Vec<Permission>) -> Claims {
    Claims {
        id: CapabilityId::new(&ids()),
        run: RunId::new(&ids()),
        agent: "helper".parse().unwrap(),
        permissions,
        issuer: Issuer::Daemon,
        purpose: Use::Run,
        issued: at(100),
        expires: at(200),
        delegatable: true,
        parent: None,
    }
}

fn delegation(permissions: Vec<Permission>, expires: i64) -> Delegation {
    let (id, call) = (CapabilityId::new(&ids()), ToolCallId::new(&ids()));
    Delegation { id, call, permissions, expires: at(expires) }
}

fn never(_: CapabilityId) -> bool {
    false
}

fn exec() -> Permission {
    Permission::on(Pattern::Tool(ToolName::Exec), [Action::Use])
}

fn asks_for(tool: ToolName) -> Ask<'static> {
    Ask {
        category: Category::Tool,
        action: Action::Use,
        resource: Some(Resource::Tool(tool)),
        at: Circumstances::default(),
    }
}

#[test]
fn a_capability_allows_what_it_says_until_it_expires_or_is_revoked() {
    let authority = authority();
    let own = authority.grant(claims(vec![exec()]));
    let check = |ask, now, revoked: bool| authority.check(&own, &[ask], at(now), |_| revoked);
    assert!(own.text().starts_with("cap_v1."));
    assert_eq!(check(asks_for(ToolName::Exec), 199, false), Ok(()));
    let id = own.claims().id;
    let what = "to use the tool `shell`".to_owned();
    let refused = Err(Refusal::NotAllowed { id, what });
    assert_eq!(check(asks_for(ToolName::Shell), 150, false), refused);
    assert_eq!(check(asks_for(ToolName::Exec), 200, false), Err(Refusal::Expired { id }));
    assert_eq!(check(asks_for(ToolName::Exec), 150, true), Err(Refusal::Revoked { id }));
}

#[test]
fn what_another_key_has_signed_is_forged() {
    let others = Authority::new(&Keys::new(&Secret::new("o".repeat(32))).unwrap());
    let foreign = others.grant(claims(vec![exec()]));
    assert_eq!(authority().open(&foreign.text()), Err(Refusal::Forged));
    assert_eq!(authority().check(&foreign, &[], at(110), never), Err(Refusal::Forged));
    let made = authority().delegate(&foreign, delegation(vec![exec()], 150), at(110), never);
    assert_eq!(made, Err(Refusal::Forged));
    for text in ["", "cap_v1.", "cap_v1..", "cap_v2.AA.AA", "cap_v1.AA", "cap_v1.!.!"] {
        assert_eq!(authority().open(text), Err(Refusal::Forged), "{text}");
    }
}

#[test]
fn a_revoked_parent_revokes_what_was_made_out_of_it() {
    let authority = authority();
    let parent = authority.grant(claims(vec![exec()]));
    let child = authority.delegate(&parent, delegation(vec![exec()], 150), at(110), never);
    let child = child.unwrap();
    let parent_id = parent.claims().id;
    let refused = authority.check(&child, &[], at(120), |id| id == parent_id);
    assert_eq!(refused, Err(Refusal::Revoked { id: child.claims().id }));
}

#[test]
fn what_is_handed_on_is_a_part_shorter_and_goes_no_further() {
    let authority = authority();
    let parent = authority.grant(claims(vec![exec()]));
    let part = |permissions, until, now| {
        authority.delegate(&parent, delegation(permissions, until), at(now), never)
    };
    let child = part(vec![exec()], 10_000, 110).unwrap();
    let made = child.claims();
    let parent_id = parent.claims().id;
    assert_eq!((made.parent, made.issuer), (Some(parent_id), Issuer::Capability(parent_id)));
    assert!(!made.delegatable && made.expires < parent.claims().expires);
    // A clock that was set back does not make it live longer either.
    let early = part(vec![exec()], 10_000, 20).unwrap();
    let life = |c: &Claims| c.expires.since(c.issued);
    assert!(life(early.claims()) < life(parent.claims()));
    let again = authority.delegate(&child, delegation(vec![exec()], 120), at(111), never);
    assert_eq!(again, Err(Refusal::NotDelegatable { id: made.id }));
    let shell = Permission::on(Pattern::Tool(ToolName::Shell), [Action::Use]);
    assert!(matches!(part(vec![shell], 120, 110), Err(Refusal::NotAllowed { .. })));
    assert!(matches!(part(vec![exec()], 120, 200), Err(Refusal::Expired { .. })));
    assert!(matches!(part(vec![exec()], 110, 110), Err(Refusal::Expired { .. })));
}

#[test]
fn words_that_are_not_known_make_a_signed_capability_nothing() {
    let authority = authority();
    let path = Permission::on(Pattern::tree("/w".as_ref()).unwrap(), [Action::Read]);
    let released = Constraints { wall_secs_max: Some(5), only_released: true };
    let bytes = bytes::write(&claims(vec![path.under(released)]));
    let sign = |bytes: &[u8]| {
        let mac = authority.key.mac(bytes);
        let (claims, mac) = (BASE64URL_NOPAD.encode(bytes), BASE64URL_NOPAD.encode(&mac));
        authority.open(&format!("cap_v1.{claims}.{mac}")).map(drop)
    };
    assert_eq!(sign(&bytes), Ok(()));
    // The same lengths, so that nothing but the word is wrong.
    for (known, unknown) in [
        ("path", "pork"),
        ("read", "rend"),
        ("only_released", "only_release_"),
        ("wall_secs_max", "wall_secs_may"),
        ("/w/**", "/w/*?"),
        ("/w/**", "/.//*"),
    ] {
        let at = bytes.windows(known.len()).rposition(|w| w == known.as_bytes()).unwrap();
        let mut other = bytes.clone();
        other[at..at + known.len()].copy_from_slice(&unknown.as_bytes()[..known.len()]);
        assert_eq!(sign(&other), Err(Refusal::Forged), "{unknown}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(sign(&longer), Err(Refusal::Forged));
    // Claims that contradict themselves: a part that may be handed on, a parent nobody named.
    let whose = CapabilityId::new(&ids());
    for (issuer, parent, delegatable) in [
        (Issuer::Capability(whose), Some(whose), true),
        (Issuer::Daemon, Some(whose), false),
        (Issuer::Capability(whose), None, false),
    ] {
        let odd = Claims { issuer, delegatable, parent, ..claims(vec![exec()]) };
        assert_eq!(sign(&bytes::write(&odd)), Err(Refusal::Forged));
    }
}

#[test]
fn a_bounded_permission_asks_for_the_bound() {
    let bound = Constraints { wall_secs_max: Some(60), only_released: false };
    let own = exec().under(bound);
    let ask = |wall_secs| Ask {
        at: Circumstances { wall_secs, is_released: false },
        ..asks_for(ToolName::Exec)
    };
    assert!(own.allows(&ask(Some(60))));
    assert!(!own.allows(&ask(Some(61))) && !own.allows(&ask(None)));
    let tighter = exec().under(Constraints { wall_secs_max: Some(59), ..bound });
    assert!(tighter.is_within(&own) && !own.is_within(&tighter) && !exec().is_within(&own));
    let released = exec().under(Constraints { only_released: true, ..bound });
    assert!(!released.allows(&ask(Some(1))));
    assert!(released.is_within(&own) && !own.is_within(&released));
}

fn facts(tool: ToolName, argv: &[&str], paths: &[(&str, bool)]) -> CallFacts {
    let argv = argv.iter().map(|a| (*a).to_owned()).collect();
    let paths =
        paths.iter().map(|(p, w)| PathUse { path: (*p).to_owned(), is_write: *w }).collect();
    CallFacts {
        tool,
        effect: crate::domain::Effect::Unsafe,
        argv,
        sets_env: false,
        is_tree: false,
        paths,
        network: None,
        request: None,
        script: None,
    }
}

fn agent() -> AgentDef {
    AgentDef {
        name: "helper".parse().unwrap(),
        version: "v".to_owned(),
        model: "m".to_owned(),
        system_prompt: String::new(),
        tools: ToolName::ALL.to_vec(),
        roles: Vec::new(),
        workspace: PathBuf::from("/srv/workspace"),
        allowed_paths: vec![PathRule { path: "/srv/docs".into(), access: Access::Ro }],
        allowed_commands: vec!["git".to_owned(), "/opt/tool".to_owned()],
        may_execute_files: false,
        hosts: HostPolicy::default(),
        egress: crate::domain::EgressLimits::default(),
        tool_limits: crate::domain::ToolLimits::default(),
        limits: crate::domain::RunLimits::default(),
        max_output_tokens: 1_000,
    }
}

/// What the calls of an agent need lies within what its run was given, and nothing beyond does.
#[test]
fn a_call_needs_no_more_than_its_agents_definition_gives() {
    use crate::domain::CommandRule::{Any, None, Only};
    let agent = agent();
    let hosts = HostPolicy { allow: vec!["docs.example".parse().unwrap()], deny: Vec::new() };
    let run = claims(of_agent(&agent, &hosts));
    let fits = |facts: &CallFacts, grant: &Grant, released| {
        let Some(needs) = Needs::of(facts, grant, released) else { return false };
        let permissions = needs.permissions();
        let own = Claims { permissions: permissions.clone(), ..run.clone() };
        permissions.iter().all(|p| run.hold(p)) && needs.asks().iter().all(|ask| own.allow(ask))
    };
    let grant = |commands| {
        let limits = agent.tool_limits;
        let paths = agent.allowed_paths.clone();
        Grant { paths, limits, ..Grant::new(agent.workspace.clone(), commands) }
    };
    let listed = Only(agent.allowed_commands.clone());
    assert!(fits(&facts(ToolName::Exec, &["git"], &[]), &grant(listed.clone()), false));
    assert!(!fits(&facts(ToolName::Exec, &["make"], &[]), &grant(listed), false));
    let more = Only(vec!["git".to_owned(), "make".to_owned()]);
    assert!(!fits(&facts(ToolName::Exec, &["make"], &[]), &grant(more.clone()), false));
    assert!(fits(&facts(ToolName::Exec, &["make"], &[]), &grant(more), true));
    assert!(fits(&facts(ToolName::Shell, &[], &[]), &grant(Any), true));
    assert!(!fits(&facts(ToolName::Shell, &[], &[]), &grant(Any), false));
    let read = |path| facts(ToolName::ReadFile, &[], &[(path, false)]);
    assert!(fits(&read("a/b.txt"), &grant(None), false));
    assert!(!fits(&read("../b.txt"), &grant(None), false));
    assert!(!fits(&read("/etc/passwd"), &grant(None), false));
    let far = Grant {
        paths: vec![PathRule { path: PathBuf::from("/etc"), access: Access::Ro }],
        ..grant(Any)
    };
    assert!(!fits(&facts(ToolName::Shell, &[], &[]), &far, true));
    let elsewhere = HostPolicy { allow: vec!["evil.example".parse().unwrap()], deny: Vec::new() };
    let out = Grant { hosts: Arc::new(elsewhere), ..grant(Any) };
    assert!(!fits(&facts(ToolName::Shell, &[], &[]), &out, true));
    let longer = Grant {
        limits: crate::domain::ToolLimits { wall_secs: 1 << 40, ..agent.tool_limits },
        ..grant(Any)
    };
    assert!(!fits(&facts(ToolName::Shell, &[], &[]), &longer, true));
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let tool = proptest::sample::select(ToolName::ALL).prop_map(Pattern::Tool);
    let name = proptest::sample::select(&["a", "b", "ab", "c.d"][..]);
    let tree = proptest::collection::vec(name, 0..4)
        .prop_map(|parts| Pattern::tree(&PathBuf::from(format!("/{}", parts.join("/")))).unwrap());
    let command = proptest::sample::select(&["git", "make", "/bin/sh", "*git"][..])
        .prop_map(|text| Pattern::Command(text.to_owned()));
    let host = (
        proptest::sample::select(
            &["a.example", "*.a.example", "b.a.example", "*.b.a.example", "*", "192.0.2.1"][..],
        ),
        proptest::option::of(proptest::sample::select(&[80_u16, 443, 8443][..])),
        proptest::sample::select(&["", " methods=GET", " methods=GET,POST"][..]),
        proptest::sample::select(&["", " path=/v1", " path=/v1/x", " path=/v12"][..]),
        proptest::sample::select(&["", " allow_private"][..]),
    )
        .prop_map(|(host, port, methods, path, flag)| {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let text = format!("{host}{port}{methods}{path}{flag}");
            Pattern::Host(text.parse().unwrap())
        });
    prop_oneof![tool, tree, command, Just(Pattern::AnyCommand), host]
}

fn any_constraints() -> impl Strategy<Value = Constraints> {
    (proptest::option::of(0_u64..4), any::<bool>())
        .prop_map(|(wall_secs_max, only_released)| Constraints { wall_secs_max, only_released })
}

fn any_permission() -> impl Strategy<Value = Permission> {
    let actions = proptest::sample::subsequence(Action::ALL, 1..=Action::ALL.len());
    let category = proptest::sample::select(Category::ALL);
    (proptest::option::weighted(0.8, any_pattern()), category, actions, any_constraints()).prop_map(
        |(pattern, category, actions, constraints)| {
            let category = pattern.as_ref().map_or(category, Pattern::category);
            let actions: BTreeSet<Action> = actions.into_iter().collect();
            Permission::read(category, actions, pattern, constraints).unwrap()
        },
    )
}

/// A resource with what is needed to ask about it.
#[derive(Clone, Debug)]
enum Thing {
    Tool(ToolName),
    Path(PathBuf),
    Command(&'static str),
    Host(HostName, u16, Option<(&'static str, &'static str)>),
}

impl Thing {
    fn resource(&self) -> Resource<'_> {
        match self {
            Self::Tool(tool) => Resource::Tool(*tool),
            Self::Path(path) => Resource::Path(path),
            Self::Command(command) => Resource::Command(command),
            Self::Host(host, port, request) => {
                Resource::Host { host, port: *port, request: *request }
            }
        }
    }
}

fn any_thing() -> impl Strategy<Value = Thing> {
    let name = proptest::sample::select(&["a", "b", "ab", "c.d", ".."][..]);
    let path = proptest::collection::vec(name, 0..5)
        .prop_map(|parts| Thing::Path(PathBuf::from(format!("/{}", parts.join("/")))));
    let command = proptest::sample::select(&["git", "make", "/bin/sh", "*git", "*", ""][..]);
    let host =
        proptest::sample::select(&["a.example", "b.a.example", "c.b.a.example", "192.0.2.1"][..]);
    let port = proptest::sample::select(&[80_u16, 443, 8443][..]);
    let request = proptest::option::of(proptest::sample::select(
        &[("GET", "/v1"), ("GET", "/v1/x/y"), ("POST", "/v12"), ("PUT", "/")][..],
    ));
    prop_oneof![
        proptest::sample::select(ToolName::ALL).prop_map(Thing::Tool),
        path,
        command.prop_map(Thing::Command),
        (host, port, request).prop_map(|(host, port, r)| Thing::Host(
            host.parse().unwrap(),
            port,
            r
        )),
    ]
}

fn any_ask() -> impl Strategy<Value = (Category, Action, Option<Thing>, Circumstances)> {
    let wall = proptest::option::of(0_u64..4);
    (
        proptest::sample::select(Category::ALL),
        proptest::sample::select(Action::ALL),
        proptest::option::weighted(0.9, any_thing()),
        (wall, any::<bool>())
            .prop_map(|(wall_secs, is_released)| Circumstances { wall_secs, is_released }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn claims_are_read_back_as_they_were_signed(
        permissions in proptest::collection::vec(any_permission(), 0..6),
        delegatable in any::<bool>(),
    ) {
        let own = authority().grant(Claims { delegatable, ..claims(permissions) });
        prop_assert_eq!(authority().open(&own.text()), Ok(own));
    }

    #[test]
    fn no_forged_claim_passes(
        permissions in proptest::collection::vec(any_permission(), 0..3),
        place in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let own = authority().grant(claims(permissions));
        let text = own.text();
        let mut parts = text.strip_prefix(PREFIX).unwrap().split('.');
        let mut signed: Vec<Vec<u8>> =
            parts.by_ref().map(|p| BASE64URL_NOPAD.decode(p.as_bytes()).unwrap()).collect();
        let length = signed[0].len() + signed[1].len();
        let at = place.index(length);
        let (part, at) = if at < signed[0].len() { (0, at) } else { (1, at - signed[0].len()) };
        signed[part][at] ^= 1 << bit;
        let text = format!(
            "{PREFIX}{}.{}", BASE64URL_NOPAD.encode(&signed[0]), BASE64URL_NOPAD.encode(&signed[1])
        );
        prop_assert_eq!(authority().open(&text), Err(Refusal::Forged));
    }

    #[test]
    fn no_changed_text_passes(
        permissions in proptest::collection::vec(any_permission(), 0..3),
        place in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let own = authority().grant(claims(permissions));
        let mut text = own.text().into_bytes();
        let at = place.index(text.len());
        prop_assume!(text[at] != byte);
        text[at] = byte;
        let text = String::from_utf8_lossy(&text).into_owned();
        prop_assert_eq!(authority().open(&text), Err(Refusal::Forged));
    }

    #[test]
    fn no_check_without_a_resource_passes_a_permission_that_has_one(
        permission in any_permission(),
        (category, action, _, at) in any_ask(),
    ) {
        let ask = Ask { category, action, resource: None, at };
        prop_assert!(permission.resource().is_none() || !permission.allows(&ask));
    }

    #[test]
    fn what_lies_within_allows_nothing_that_the_wider_one_denies(
        inner in any_permission(),
        outer in any_permission(),
        (category, action, thing, at) in any_ask(),
    ) {
        let resource = thing.as_ref().map(Thing::resource);
        let ask = Ask { category, action, resource, at };
        if inner.is_within(&outer) && inner.allows(&ask) {
            prop_assert!(outer.allows(&ask), "{inner} within {outer}: {ask:?}");
        }
        prop_assert!(inner.is_within(&inner), "{inner}");
    }

    #[test]
    fn no_subset_escapes_its_parent(
        own in proptest::collection::vec(any_permission(), 0..6),
        wanted in proptest::collection::vec(any_permission(), 0..4),
        until in 90_i64..300,
        now in 90_i64..210,
        (category, action, thing, circumstances) in any_ask(),
    ) {
        let authority = authority();
        let parent = authority.grant(claims(own));
        let made = authority.delegate(&parent, delegation(wanted, until), at(now), never);
        let Ok(child) = made else { return Ok(()) };
        let resource = thing.as_ref().map(Thing::resource);
        let ask = Ask { category, action, resource, at: circumstances };
        let (outer, inner) = (parent.claims(), child.claims());
        prop_assert!(!inner.allow(&ask) || outer.allow(&ask), "{ask:?}");
        prop_assert!(inner.expires < outer.expires && inner.expires > at(now));
        let life = |c: &Claims| c.expires.since(c.issued);
        prop_assert!(life(inner) < life(outer) && life(inner) > Duration::ZERO);
        prop_assert!(!inner.delegatable && inner.parent == Some(outer.id));
        // Where the child passes at some moment, the parent does.
        for now in [at(now), at(until), at(199)] {
            let asks = [ask];
            if authority.check(&child, &asks, now, never).is_ok() {
                prop_assert!(authority.check(&parent, &asks, now, never).is_ok());
            }
        }
    }
}
