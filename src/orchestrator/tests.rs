//! The orchestrator in one process: a real store, the stand-in model, no sandbox. `idle` claims
//! nothing, so that a test can put a run into the state that a crash or a fault would leave.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    auth::{AuditSink, CallContext, ManageEgress, Verb, authn::principal_id_of, authorize},
    domain::{
        AgentDef, AgentName, Approval, ApprovalId, ApprovalKind, ApprovalState, AuditEntry,
        CallState, ConversationId, Decision, DecisionScope, Effect, EgressVerdict, EventBody,
        HostPolicy, IdSource, InterruptMode, OnBusy, Principal, Risk, Role, Run, RunId, RunLimits,
        RunState, Surface, SystemClock, Timestamp, ToolCall, ToolCallId, ToolLimits, ToolName,
        UnknownOutcome, UserInput, WaitReason, event::EphemeralBody,
    },
    llm::{ModelOptions, Options as LlmOptions},
    runtime::Stop,
    store::{Durability, RunCore, StoreError},
};

mod histories;
mod leaving;
mod quorum;
mod spending;

struct Nowhere;

impl AuditSink for Nowhere {
    fn record(&self, _: AuditEntry) {}
}

/// An orchestrator, and what it needs to stay there.
pub(crate) struct Fixture {
    pub(crate) orchestrator: Orchestrator,
    tasks: Tasks,
    redactor: Redactor,
    _dir: TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.tasks.stop().hard();
    }
}

fn agent(roles: &[Role]) -> (AgentName, Arc<AgentDef>) {
    let name: AgentName = "a".parse().unwrap();
    let def = AgentDef {
        name: name.clone(),
        version: "v".to_owned(),
        model: "m".to_owned(),
        system_prompt: String::new(),
        tools: vec![ToolName::ListFiles, ToolName::AskUser],
        roles: roles.to_vec(),
        workspace: "/nowhere".into(),
        allowed_paths: Vec::new(),
        allowed_commands: Vec::new(),
        may_execute_files: false,
        hosts: crate::domain::HostPolicy::default(),
        egress: crate::domain::EgressLimits::default(),
        tool_limits: ToolLimits::default(),
        limits: RunLimits::default(),
        max_output_tokens: 1_000,
    };
    (name, Arc::new(def))
}

async fn working() -> Fixture {
    start(Options::default()).await
}

pub(crate) async fn idle() -> Fixture {
    start(Options { active_max: 0, ..Options::default() }).await
}

/// Nothing runs, time is the test's, and so is the database.
pub(crate) async fn idle_on(
    database: crate::store::Database,
    clock: Arc<crate::domain::ManualClock>,
) -> Fixture {
    start_at(Options { active_max: 0, ..Options::default() }, true, clock, database).await.0
}

/// The same on a server, with the time of the machine. There it is a replica without company: nobody
/// looks after its runs but the test.
async fn idle_on_server(url: &str) -> Fixture {
    let options = Options { active_max: 0, ..Options::default() };
    let database = crate::store::Database::Postgres(url.parse().unwrap());
    start_at(options, true, Arc::new(SystemClock), database).await.0
}

async fn start(options: Options) -> Fixture {
    start_with(options, true).await.0
}

/// Where requests for a reload arrive as well.
async fn with_reloads() -> (Fixture, crate::runtime::reload::Reloads) {
    start_with(Options { active_max: 0, ..Options::default() }, true).await
}

async fn start_with(
    options: Options,
    requester_may_approve: bool,
) -> (Fixture, crate::runtime::reload::Reloads) {
    let database = crate::store::Database::Sqlite;
    start_at(options, requester_may_approve, Arc::new(SystemClock), database).await
}

async fn start_at(
    options: Options,
    requester_may_approve: bool,
    clock: Arc<dyn Clock>,
    database: crate::store::Database,
) -> (Fixture, crate::runtime::reload::Reloads) {
    let (reloader, reloads) = crate::runtime::reload::reloads();
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new(Stop::default());
    let live = Arc::new(Live::default());
    let redactor = Redactor::default();
    let store = crate::store::Options {
        data_dir: dir.path().to_owned(),
        database,
        clock: Arc::clone(&clock),
        ids: IdSource::new(Arc::clone(&clock), |bytes| getrandom::fill(bytes).unwrap()),
        redactor: redactor.clone(),
        on_commit: live.hook(),
    };
    let models = [("m".to_owned(), ModelOptions::default())].into();
    let rules = authorize::Options { requester_may_approve };
    let agents = authorize::Agents::from([agent(&[Role::Member])]);
    let store = Store::open(store, &tasks).await.unwrap();
    let parts = Parts {
        membership: Membership::alone(store.clone()),
        store,
        llm: Llm::new(LlmOptions { models, ..LlmOptions::default() }).unwrap(),
        tools: Tools::without_processes(dir.path(), redactor.clone(), &tasks).await,
        authorizer: Authorizer::new(rules, agents, Arc::new(Nowhere)),
        authority: {
            let keys = crate::auth::Keys::new(&crate::domain::Secret::new("k".repeat(32)));
            crate::auth::capability::Authority::new(&keys.unwrap())
        },
        tokens: crate::auth::TokenTable::new(people()),
        hosts: crate::auth::HostPolicies::default(),
        policies: crate::auth::Policies::new(Arc::new(crate::auth::policy::Policy::builtin())),
        policy_file: None,
        redactor: redactor.clone(),
        gate: crate::auth::Gate::new(crate::auth::GateRules::default()),
        budgets: BudgetConfig::default(),
        alerts: Alerts::new(Arc::clone(&clock), Arc::new(Nowhere)),
        clock,
        live,
        audit: AuditOptions {
            keys: vec![keys().key(crate::auth::Purpose::Checkpoint)],
            checkpoint_file: dir.path().join("checkpoints"),
        },
        secrets: SecretOptions {
            sealing: vec![keys().key(crate::auth::Purpose::Sealing)],
            reloader,
            opened: Vec::new(),
        },
        keeping: KeepingOptions::default(),
        backups: BackupOptions {
            recipients: vec![backups::file_tests::identity().recipient()],
            dir: dir.path().join("backups"),
            schedule: None,
            keep: 2,
            after_command: Vec::new(),
            home: dir.path().to_owned(),
            source: Arc::new(backups::file_tests::Nothing),
            key: keys().key(crate::auth::Purpose::Backup),
        },
        tasks: tasks.clone(),
    };
    let orchestrator = Orchestrator::start(parts, options).await.unwrap();
    (Fixture { orchestrator, tasks, redactor, _dir: dir }, reloads)
}

fn keys() -> crate::auth::Keys {
    crate::auth::Keys::new(&crate::domain::Secret::new("k".repeat(32))).unwrap()
}

/// Whom the configuration knows.
fn people() -> Vec<crate::auth::TokenEntry> {
    let entry = |(name, role): (&str, Role)| crate::auth::TokenEntry {
        principal: principal_id_of(name),
        name: name.to_owned(),
        role,
        token: crate::domain::Secret::new(format!("token of {name}")),
    };
    [
        ("alice", Role::Member),
        ("bob", Role::Member),
        ("olga", Role::Operator),
        ("ann", Role::Admin),
        ("root", Role::Overlord),
    ]
    .map(entry)
    .into()
}

pub(crate) fn ids() -> IdSource {
    IdSource::new(Arc::new(SystemClock), |bytes| getrandom::fill(bytes).unwrap())
}

fn cx() -> CallContext {
    cx_of("alice", Role::Member)
}

pub(crate) fn cx_of(name: &str, role: Role) -> CallContext {
    let principal = Principal {
        id: principal_id_of(name),
        name: name.to_owned(),
        role,
        scopes: crate::domain::Scopes::default(),
    };
    CallContext { principal, surface: Surface::Api, request_id: "req".to_owned() }
}

fn said(text: &str) -> UserInput {
    UserInput::Text(text.to_owned())
}

pub(crate) fn fresh<T>(done: Done<T>) -> T {
    match done {
        Done::Fresh(value) => value,
        Done::Replayed(_) => panic!("it was replayed"),
    }
}

impl Fixture {
    /// A run of alice's that waits, in a new conversation.
    pub(crate) async fn queued(&self) -> Run {
        self.create(None).await
    }

    /// Ends it.
    pub(crate) async fn cancelled(&self, id: RunId) {
        let permit = self.control(Verb::Cancel);
        self.orchestrator.cancel(permit, id, None, None).await.unwrap();
    }

    /// The same by somebody who may end anybody's.
    pub(crate) async fn ended_by_root(&self, id: RunId) {
        let root = cx_of("root", Role::Overlord);
        let permit = self.orchestrator.authorizer().control(&root, Verb::Cancel).unwrap();
        self.orchestrator.cancel(permit, id, None, None).await.unwrap();
    }

    async fn create(&self, conversation_id: Option<ConversationId>) -> Run {
        self.create_as(&cx(), conversation_id).await
    }

    /// A run of somebody's that waits, in a conversation or a new one.
    pub(crate) async fn create_as(
        &self,
        cx: &CallContext,
        conversation_id: Option<ConversationId>,
    ) -> Run {
        let permit = self.orchestrator.authorizer().start_run(cx, "a").unwrap();
        let new = NewRun {
            conversation_id,
            bundle_id: None,
            input: said("hello"),
            on_busy: OnBusy::Enqueue,
            limits: LimitsPatch::default(),
            metadata: std::collections::BTreeMap::new(),
        };
        fresh(self.orchestrator.create(permit, new, None).await.unwrap())
    }

    fn control(&self, verb: Verb) -> crate::auth::Permit<crate::auth::Control> {
        self.orchestrator.authorizer().control(&cx(), verb).unwrap()
    }

    async fn core(&self, id: RunId) -> RunCore {
        let mut reader = self.orchestrator.inner.store.read().await.unwrap();
        reader.runs().core(id).await.unwrap().unwrap()
    }

    async fn edit(&self, id: RunId, change: impl FnOnce(&mut RunCore) + Send + 'static) {
        let done: Result<(), StoreError> = self
            .orchestrator
            .inner
            .store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move {
                    let mut core = tx.runs().core(id).await?.unwrap();
                    let believed = core.epoch;
                    change(&mut core);
                    tx.runs().save(&core, believed).await
                })
            })
            .await;
        done.unwrap();
    }

    async fn ended(&self, id: RunId) -> Run {
        let permit = self.orchestrator.authorizer().read(&cx()).unwrap();
        let longest = Duration::from_secs(10);
        let run = self.orchestrator.wait_until_settled(&permit, id, longest).await;
        run.unwrap().unwrap()
    }

    /// A question that is out of time unless `hours` are left.
    async fn ask(
        &self,
        run: &Run,
        call_id: Option<ToolCallId>,
        kind: ApprovalKind,
        hours: u64,
    ) -> ApprovalId {
        let approval = Approval {
            id: ApprovalId::new(&ids()),
            run_id: run.id,
            call_id,
            kind,
            tool: "t".to_owned(),
            args: json!({}),
            args_hash: String::new(),
            policy_version: "v".to_owned(),
            cwd: String::new(),
            risk: Risk::High,
            reasons: Vec::new(),
            tainted: false,
            egress: Vec::new(),
            binding: String::new(),
            bound: crate::domain::Bound::default(),
            required_role: Role::Operator,
            quorum: 1,
            state: ApprovalState::Pending,
            decisions: Vec::new(),
            created_at: Timestamp::from_micros(0),
            expires_at: SystemClock.now().plus(Duration::from_secs(hours * 3_600)),
        };
        let (id, principal) = (approval.id, run.principal);
        let done: Result<(), StoreError> = self
            .orchestrator
            .inner
            .store
            .write(Durability::Normal, move |tx| {
                Box::pin(async move { tx.approvals().insert(&approval, principal).await })
            })
            .await;
        done.unwrap();
        id
    }
}

#[tokio::test]
async fn an_interrupt_that_a_crash_overtook_still_stops_the_run() {
    let f = idle().await;
    let run = f.create(None).await;
    f.edit(run.id, |core| {
        core.state = RunState::Running;
        core.epoch = 1;
        core.interrupt = Some(InterruptMode::Graceful);
    })
    .await;
    recovery::recover(&f.orchestrator.inner).await.unwrap();
    let core = f.core(run.id).await;
    assert_eq!(core.state, RunState::Paused);
    assert_eq!((core.wait_reason, core.interrupt), (Some(WaitReason::Interrupted), None));
}

#[tokio::test]
async fn one_damaged_approval_does_not_keep_the_others_from_expiring() {
    let f = idle().await;
    let damaged = f.create(None).await;
    // It names a call that does not exist, and it is first in line.
    f.ask(&damaged, Some(ToolCallId::new(&ids())), ApprovalKind::Tool, 0).await;
    let whole = f.create(None).await;
    f.edit(whole.id, |core| {
        core.state = RunState::Paused;
        core.wait_reason = Some(WaitReason::Budget);
    })
    .await;
    f.ask(&whole, None, ApprovalKind::Budget, 0).await;
    supervisor::timers(&f.orchestrator.inner).await.unwrap();
    assert_eq!(f.core(whole.id).await.state, RunState::Failed);
}

#[tokio::test]
async fn a_run_whose_task_cannot_go_on_fails_instead_of_staying_busy() {
    let f = working().await;
    // Makes the answer's event impossible to store, which no retry can mend.
    f.redactor.register("message.completed");
    let first = f.create(None).await;
    let second = f.create(Some(first.conversation_id)).await;
    for id in [first.id, second.id] {
        let run = f.ended(id).await;
        assert_eq!(run.state, RunState::Failed);
        assert_eq!(run.error.unwrap().code, "run.internal");
    }
}

#[tokio::test]
async fn a_run_that_waited_continues_the_bundle_that_was_left_to_it() {
    let f = working().await;
    let first = f.create(None).await;
    let second = f.create(Some(first.conversation_id)).await;
    assert_eq!(f.ended(second.id).await.state, RunState::Succeeded);
    let permit = f.orchestrator.authorizer().read(&cx()).unwrap();
    let of = async |id| f.orchestrator.bundles(&permit, id).await.unwrap().unwrap();
    let last = of(first.id).await.pop().unwrap();
    assert_eq!(of(second.id).await.first().unwrap().parent_id, Some(last.id));
}

#[tokio::test]
async fn a_listener_that_claims_to_have_seen_the_future_still_sees_the_end() {
    let f = idle().await;
    let run = f.create(None).await;
    let permit = f.orchestrator.authorizer().read(&cx()).unwrap();
    let mut events = f.orchestrator.subscribe(&permit, run.id, 999).await.unwrap().unwrap();
    let cancelled = f.orchestrator.cancel(f.control(Verb::Cancel), run.id, None, None).await;
    assert_eq!(fresh(cancelled.unwrap()).state, RunState::Cancelled);
    let mut seen = Vec::new();
    let all = async {
        while let Some(frame) = events.next().await.unwrap() {
            if let Frame::Event(event) = frame {
                seen.push(event.body.kind());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), all).await.expect("it ends");
    assert_eq!(seen, ["run.cancel_requested", "run.cancelled"]);
}

#[tokio::test]
async fn a_fork_needs_the_history_and_the_right_to_start_the_agent() {
    let f = working().await;
    let run = f.create(None).await;
    assert_eq!(f.ended(run.id).await.state, RunState::Succeeded);
    let fork = || {
        let permit = f.control(Verb::Fork);
        f.orchestrator.fork(permit, run.id, None, said("again"), None)
    };
    assert!(fork().await.is_ok());
    f.orchestrator.authorizer().set_agents(authorize::Agents::from([agent(&[Role::Admin])]));
    assert!(matches!(fork().await, Err(CommandError::Forbidden(_))));
    f.orchestrator.authorizer().set_agents(authorize::Agents::new());
    assert!(matches!(fork().await, Err(CommandError::Conflict { code: "agent.removed", .. })));
    f.orchestrator.authorizer().set_agents(authorize::Agents::from([agent(&[Role::Member])]));
    let permit = f.control(Verb::DeleteConversation);
    f.orchestrator.delete_conversation(permit, run.conversation_id).await.unwrap();
    assert!(matches!(fork().await, Err(CommandError::NotFound { .. })));
}

#[tokio::test]
async fn a_no_that_says_run_it_is_refused() {
    let f = idle().await;
    let run = f.create(None).await;
    let call = Some(ToolCallId::new(&ids()));
    let id = f.ask(&run, call, ApprovalKind::UnknownEffect, 1).await;
    let permit = f.orchestrator.authorizer().decide(&cx_of("olga", Role::Operator)).unwrap();
    let decision = NewDecision {
        decision: Decision::Deny,
        scope: DecisionScope::Once,
        pattern: None,
        outcome: Some(UnknownOutcome::Run),
        reason: None,
    };
    let answer = f.orchestrator.decide(permit, id, decision, None).await;
    assert!(
        matches!(answer, Err(CommandError::Invalid { code: "approval.outcome", .. })),
        "{answer:?}"
    );
}

/// What becomes of a shell call of which a person said after a crash that it shall run, when the
/// agent may reach `then` by that time.
async fn run_again(then: &str) -> calls::Decided {
    run_again_with(&idle().await, then, false).await
}

/// The same; `speaks`: who said yes has spoken to the run since.
async fn run_again_with(f: &Fixture, then: &str, speaks: bool) -> calls::Decided {
    let policy = |host: &str| HostPolicy { allow: vec![host.parse().unwrap()], deny: Vec::new() };
    let id = f.create(None).await.id;
    let (name, def) = agent(&[Role::Member]);
    let def = AgentDef { tools: vec![ToolName::Shell], ..AgentDef::clone(&def) };
    let inner = Arc::clone(&f.orchestrator.inner);
    inner.hosts.replace([(name.clone(), policy("shown.example"))].into());
    let then = policy(then);
    let mut call = ToolCall {
        id: ToolCallId::new(&ids()),
        run_id: id,
        step: 1,
        index: 0,
        tool: "shell".to_owned(),
        args: json!({"script": "true"}),
        args_hash: "h".to_owned(),
        effect: Effect::Unsafe,
        risk: Risk::Low,
        state: CallState::Unknown,
        attempts: 1,
        outcome: None,
    };
    let store = inner.store.clone();
    let decided: Result<calls::Decided, StoreError> = store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let mut run = tx.runs().core(id).await?.unwrap();
                run.state = RunState::Running;
                tx.calls().insert(&call);
                questions::ask_unknown(tx, &inner, &mut run, &def, &call).await?;
                let mut card = tx.approvals().of_run(id).await?.pop().unwrap();
                assert_eq!(card.egress[0], "shown.example");
                assert_eq!((card.risk, card.required_role), (Risk::High, Role::Admin));
                card.state = ApprovalState::Approved;
                card.decisions.push(crate::domain::approval::DecisionRecord {
                    principal: principal_id_of("ann"),
                    decision: Decision::Approve,
                    reason: None,
                    at: Timestamp::from_micros(0),
                    surface: Surface::Api,
                    scope: DecisionScope::Once,
                    pattern: None,
                    outcome: Some(UnknownOutcome::Run),
                });
                tx.approvals().save(&card).await?;
                if speaks {
                    let ann = transition::Actor::from(&cx_of("ann", Role::Admin));
                    let steer = json!({ "verb": "steer" });
                    tx.audit(ann.entry(crate::domain::AuditKind::Control, &run, steer));
                }
                call.state = CallState::Approved;
                inner.hosts.replace([(name, then)].into());
                let mut held = capabilities::give(tx, &inner, &run, &def).await?;
                let at = calls::At { agent: &def, looked: None };
                let first = calls::decide(tx, &inner, &mut run, at, &mut held, &mut call).await?;
                let calls::Decided::Look { grant, .. } = first else { panic!("{first:?}") };
                let bound = Ok(Arc::default());
                let looked = consent::Looked { call_id: call.id, grant, bound };
                let at = calls::At { looked: Some(&looked), ..at };
                calls::decide(tx, &inner, &mut run, at, &mut held, &mut call).await
            })
        })
        .await;
    decided.unwrap()
}

#[tokio::test]
async fn a_call_runs_again_only_with_the_hosts_that_its_card_showed() {
    let same = run_again("shown.example").await;
    assert!(matches!(same, calls::Decided::Start { .. }), "{same:?}");
    let other = run_again("new.example").await;
    assert!(matches!(other, calls::Decided::Gated), "{other:?}");
}

#[tokio::test]
async fn who_said_yes_and_speaks_to_the_run_since_is_one_of_those_who_ask() {
    let quiet = || Options { active_max: 0, ..Options::default() };
    for (may_approve, speaks, starts) in
        [(false, false, true), (false, true, false), (true, true, true)]
    {
        let (f, _reloads) = start_with(quiet(), may_approve).await;
        let decided = run_again_with(&f, "shown.example", speaks).await;
        let is_started = matches!(decided, calls::Decided::Start { .. });
        assert_eq!(is_started, starts, "{may_approve} {speaks}: {decided:?}");
        assert!(starts || matches!(decided, calls::Decided::Gated), "{decided:?}");
    }
}

#[tokio::test]
async fn an_agent_that_the_configuration_lost_reaches_nothing_and_the_last_reload_counts() {
    let f = idle().await;
    let (name, _) = agent(&[]);
    let effective = || {
        let policy = f.orchestrator.inner.hosts.effective(&name);
        policy.allow.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let with = |host: &str| -> Configured {
        let allow = vec![host.parse().unwrap()];
        [(name.clone(), HostPolicy { allow, deny: Vec::new() })].into()
    };
    let permit =
        f.orchestrator.authorizer().manage::<ManageEgress>(&cx_of("ann", Role::Admin)).unwrap();
    let listed = NewEgressRule {
        agent: None,
        verdict: EgressVerdict::Allow,
        rule: "listed.example".parse().unwrap(),
        note: None,
    };
    f.orchestrator.add_egress_rule(permit, listed, None).await.unwrap();
    assert_eq!(effective(), ["listed.example"]);
    f.orchestrator.reconfigure_egress(Configured::new()).await.unwrap();
    assert_eq!(effective(), Vec::<String>::new());
    // A change of the list does not bring it back.
    f.orchestrator.inner.refresh_hosts().await.unwrap();
    assert_eq!(effective(), Vec::<String>::new());
    let older = f.orchestrator.reconfigure_egress(with("older.example"));
    let newer = f.orchestrator.reconfigure_egress(with("newer.example"));
    newer.await.unwrap();
    older.await.unwrap();
    assert_eq!(effective(), ["newer.example", "listed.example"]);
}

#[tokio::test]
async fn live_frames_do_not_keep_a_slow_listener_from_catching_up() {
    let f = idle().await;
    let run = f.create(None).await;
    let permit = f.orchestrator.authorizer().read(&cx()).unwrap();
    let mut events = f.orchestrator.subscribe(&permit, run.id, 1).await.unwrap().unwrap();
    let feed = &f.orchestrator.inner.live.feed;
    let event = |seq| {
        let event = crate::domain::Event {
            body: EventBody::RunStarted {},
            run_id: run.id,
            conversation_id: run.conversation_id,
            seq,
            at: run.created_at,
            epoch: 1,
        };
        crate::store::Committed { event: Arc::new(event), bytes: 1 }
    };
    feed.publish(&[event(2)]);
    assert!(matches!(events.next().await.unwrap(), Some(Frame::Event(_))), "it has caught up");
    feed.publish(&(3..400).map(event).collect::<Vec<_>>());
    for n in 0..256 {
        assert!(matches!(events.next().await.unwrap(), Some(Frame::Event(_))));
        if n == 200 {
            let text = "a piece".to_owned();
            feed.publish_ephemeral(run.id, 2, EphemeralBody::MessageDelta { text });
        }
    }
    let next = events.next().await.unwrap();
    assert!(matches!(next, Some(Frame::Resync { after: 258 })), "{next:?}");
}
