//! Fault suite (c): random commands against a model that knows only the pure functions, and against
//! the real transactions on a real store; after each command both must say the same.
//!
//! The model is [`step::next`], [`RunState::after`] and [`CallState::after`] with a few counters. The
//! real side is driven by hand: a run's task is claimed, its effects are carried out by the test,
//! and a crash drops it and recovers. A difference is shrunk to the shortest list of commands.
//!
//! `AGENT_RUNTIME_TEST_MODEL_CASES` (48, and 16 on Postgres) and `AGENT_RUNTIME_TEST_SEED` make it longer or different;
//! the seed is printed.

use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};

use super::*;
use crate::{
    domain::{CallInput, RunInput, event::fold, limits},
    llm::{Completion, Finish as Stopped, LlmError, ProposedCall, TokenUsage},
    orchestrator::{
        consent::Looked,
        run_task::RunTask,
        step::{Facts, Finish, Step, next},
        work::{Next, Outcome, Work},
    },
    store::test_server,
    tools::Invoked,
};

mod model;
mod real;

use model::{Asked, Flight, Model};
use real::Real;

/// Runs of one case.
const RUNS_MAX: usize = 3;

/// Where the real store is.
#[derive(Debug)]
enum Place {
    File,
    /// A database of its own.
    Server(test_server::Database),
}

#[derive(Clone, Debug)]
enum Command {
    Create,
    Claim(usize),
    /// The effect in flight comes back; a model's answer asks for these.
    Return(usize, Vec<Asked>),
    /// The model in flight refuses for good.
    Refuse(usize),
    Approve(usize),
    Deny(usize),
    Unknown(usize, bool),
    Cancel(usize),
    Interrupt(usize),
    Resume(usize),
    Steer(usize),
    Retry(usize),
    Crash,
}

/// Plays the commands on both sides; the states that were reached.
async fn play(place: Place, commands: Vec<Command>) -> Vec<(RunState, Option<WaitReason>)> {
    let mut reached = Vec::new();
    let mut real = Real::start(place).await;
    let mut models: Vec<Model> = Vec::new();
    for command in [Command::Create].into_iter().chain(commands) {
        let at = match &command {
            Command::Create | Command::Crash => 0,
            Command::Claim(n)
            | Command::Return(n, _)
            | Command::Refuse(n)
            | Command::Approve(n)
            | Command::Deny(n)
            | Command::Unknown(n, _)
            | Command::Cancel(n)
            | Command::Interrupt(n)
            | Command::Resume(n)
            | Command::Steer(n)
            | Command::Retry(n) => n % models.len(),
        };
        let wanted = match &command {
            Command::Create | Command::Retry(_) if models.len() >= RUNS_MAX => continue,
            Command::Create => {
                models.push(Model::new());
                true
            }
            Command::Retry(_) if models[at].is_retried => continue,
            Command::Retry(_) => {
                let can = models[at].state == RunState::Failed;
                if can {
                    models[at].is_retried = true;
                    models.push(Model::new());
                }
                can
            }
            Command::Crash => {
                models.iter_mut().for_each(Model::crash);
                true
            }
            other => models[at].obey(other),
        };
        let done = real.obey(at, &command).await;
        assert_eq!(done, wanted, "{command:?} on {:?}", models[at]);
        for (at, model) in models.iter().enumerate() {
            real.compare(at, model).await;
            reached.push((model.state, model.wait));
        }
    }
    real.check_witness().await;
    real.check_trail().await;
    reached
}

fn command() -> impl Strategy<Value = Command> {
    let n = 0..RUNS_MAX;
    let asked = prop_oneof![Just(Asked::List), Just(Asked::Exec), Just(Asked::Shell)];
    let asked = prop::collection::vec(asked, 0..4);
    prop_oneof![
        1 => Just(Command::Create),
        7 => n.clone().prop_map(Command::Claim),
        12 => (n.clone(), asked).prop_map(|(n, asked)| Command::Return(n, asked)),
        1 => n.clone().prop_map(Command::Refuse),
        4 => n.clone().prop_map(Command::Approve),
        1 => n.clone().prop_map(Command::Deny),
        4 => (n.clone(), any::<bool>()).prop_map(|(n, runs)| Command::Unknown(n, runs)),
        1 => n.clone().prop_map(Command::Cancel),
        2 => n.clone().prop_map(Command::Interrupt),
        4 => n.clone().prop_map(Command::Resume),
        2 => n.clone().prop_map(Command::Steer),
        1 => n.prop_map(Command::Retry),
        3 => Just(Command::Crash),
    ]
}

fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    let text = std::env::var(name);
    text.ok().and_then(|t| t.parse().ok()).unwrap_or(default)
}

/// Plays random lists of commands, each at a new place.
fn compare_on(store: &str, cases: u64, place: impl Fn() -> Place) {
    let cases = setting("AGENT_RUNTIME_TEST_MODEL_CASES", cases);
    let seed = setting("AGENT_RUNTIME_TEST_SEED", 0x5EED_2026);
    println!("{store}: seed {seed}, {cases} cases");
    let config = ProptestConfig {
        cases: u32::try_from(cases).unwrap(),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let reached = std::sync::Mutex::new(std::collections::HashSet::new());
    let played =
        TestRunner::new(config).run(&prop::collection::vec(command(), 1..60), |commands| {
            let now = runtime.block_on(play(place(), commands));
            reached.lock().unwrap().extend(now);
            Ok(())
        });
    played.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    // It is no proof of anything that was never tried.
    let reached = reached.into_inner().unwrap();
    for wanted in [
        (RunState::AwaitingApproval, None),
        (RunState::Paused, Some(WaitReason::EffectUnknown)),
        (RunState::Paused, Some(WaitReason::Interrupted)),
        (RunState::Cancelling, None),
        (RunState::Succeeded, None),
        (RunState::Failed, None),
        (RunState::Cancelled, None),
    ] {
        assert!(reached.contains(&wanted), "{wanted:?} was never reached");
    }
}

#[test]
fn random_commands_do_to_the_store_what_the_pure_functions_say() {
    compare_on("SQLite", 48, || Place::File);
}

#[test]
fn random_commands_do_to_the_store_on_postgres_what_the_pure_functions_say() {
    let server = test_server::Server::shared();
    // Its tables are made once, and each case gets a copy.
    let template = server.database();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { drop(idle_on_server(&template.socket_url()).await) });
    drop(runtime);
    compare_on("Postgres", 16, || Place::Server(server.copy_of(&template)));
}

#[tokio::test]
async fn a_yes_for_the_run_covers_the_same_arguments_and_no_others() {
    let mut real = Real::start(Place::File).await;
    real.obey(0, &Command::Create).await;
    real.obey(0, &Command::Claim(0)).await;
    let ask = |script: &str| Completion {
        text: String::new(),
        calls: vec![ProposedCall { name: "shell".to_owned(), args: json!({"script": script}) }],
        usage: TokenUsage { input: 1, output: 1, reported: true },
        model: "m".to_owned(),
        finish: Stopped::Stop,
    };
    assert!(real.back(0, Ok(ask("true"))).await);
    let yes = NewDecision {
        decision: Decision::Approve,
        scope: DecisionScope::Run,
        pattern: None,
        outcome: None,
        reason: None,
    };
    assert!(real.decide(0, ApprovalKind::Tool, yes).await);
    assert!(real.obey(0, &Command::Claim(0)).await);
    // The result, then the same call again: it runs unasked.
    assert!(real.back(0, Ok(ask("true"))).await);
    assert!(real.back(0, Ok(ask("true"))).await);
    assert!(matches!(&real.tasks[0], Some((_, _, Next::RunCall(_)))));
    assert!(real.back(0, Ok(ask("true"))).await);
    assert!(real.back(0, Ok(ask("false"))).await);
    assert!(real.tasks[0].is_none(), "other arguments are another question");
    assert_eq!(real.f.core(real.runs[0]).await.state, RunState::AwaitingApproval);
}
