//! Many tasks spend from budgets of four levels at once, through the real writer: some of their
//! transactions fail, some of their calls are lost, and no level is ever passed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::{
    domain::{BudgetLimit, BudgetScope, BudgetSubject, Day, Usd},
    orchestrator::budgets::{self, Hold, Level, Unfit},
    store::{BudgetRow, BudgetUse, Tx},
};

/// What a token costs here, in billionths of a dollar.
const NANOS_PER_TOKEN: i64 = 3;
/// The least that a call is made for.
const LEAST: u64 = 8;

/// One model call of a task.
#[derive(Clone, Copy, Debug)]
struct Call {
    input: u64,
    wanted: u64,
    /// How much of what was held it uses; none: it is lost, and all of it counts.
    used_percent: Option<u64>,
    /// The transaction that holds, or the one that settles, fails the first time.
    fails: (bool, bool),
}

/// Who spends: an agent, a person and a conversation, each one of a few.
type Who = (usize, usize, usize);

#[derive(Clone, Debug)]
struct Plan {
    /// Of everybody; of two agents, three people and three conversations.
    limits: Vec<Option<(u64, u64)>>,
    tasks: Vec<(Who, Vec<Call>)>,
}

const LEVELS: usize = 1 + 2 + 3 + 3;

fn call() -> impl Strategy<Value = Call> {
    let used = prop_oneof![4 => (0_u64..=100).prop_map(Some), 1 => Just(None)];
    let fails = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (1_u64..200, LEAST..400, used, fails).prop_map(|(input, wanted, used_percent, fails)| Call {
        input,
        wanted,
        used_percent,
        fails,
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    // Some are never reached, most are, and a few allow nothing.
    let limit = prop_oneof![
        1 => Just(None),
        6 => (0_u64..9_000, 0_u64..27_000).prop_map(Some),
    ];
    let who = (0_usize..2, 0_usize..3, 0_usize..3);
    let task = (who, prop::collection::vec(call(), 1..8));
    (prop::collection::vec(limit, LEVELS..=LEVELS), prop::collection::vec(task, 4..16))
        .prop_map(|(limits, tasks)| Plan { limits, tasks })
}

fn bound(limit: Option<(u64, u64)>) -> BudgetLimit {
    limit.map_or(BudgetLimit::NONE, |(tokens, nanos)| BudgetLimit {
        tokens_per_day: Some(tokens),
        usd_per_day: Some(price(nanos)),
    })
}

fn price(nanos: u64) -> Usd {
    Usd::from_nanos(i64::try_from(nanos).unwrap())
}

fn cost(tokens: u64) -> Usd {
    Usd::from_nanos(i64::try_from(tokens).unwrap() * NANOS_PER_TOKEN)
}

/// What a level has used by what its calls say, beside what the store says.
type Ledger = Arc<Mutex<BTreeMap<(BudgetSubject, Day), (u64, i64)>>>;

fn subjects(run: &RunCore) -> [BudgetSubject; 4] {
    [
        BudgetSubject::ORG,
        BudgetSubject::of(BudgetScope::Agent, &run.agent),
        BudgetSubject::of(BudgetScope::Principal, run.principal),
        BudgetSubject::of(BudgetScope::Conversation, run.conversation_id),
    ]
}

/// In the same transaction: what is wrong about a level, if anything is. Nothing panics there.
async fn check(tx: &mut Tx, inner: &Inner, run: &RunCore, day: Day) -> Result<(), StoreError> {
    for subject in subjects(run) {
        let now = tx.budget_use(&subject, day).await?.unwrap_or_default();
        let limit = inner.budgets.limit(&subject);
        let is_counted = subject.scope != BudgetScope::Conversation || !limit.is_none();
        let tokens = now.used_tokens + now.held_tokens;
        let fits = limit.tokens_per_day.is_none_or(|most| tokens <= most)
            && limit.usd_per_day.is_none_or(|most| now.used.plus(now.held) <= most)
            && (!is_counted || now.held_tokens >= run.held_tokens);
        if !fits {
            return Err(StoreError::Stale { what: format!("{subject}: {now:?} of {limit:?}") });
        }
    }
    Ok(())
}

fn fit(levels: &[Level], call: Call) -> Result<Hold, Unfit> {
    let least = LEAST.min(call.wanted);
    let output = budgets::output_that_fits(levels, call.input, call.wanted, least)?;
    let tokens = call.input + output;
    budgets::money_fits(levels, cost(tokens))?;
    Ok(Hold { tokens, cost: cost(tokens) })
}

fn broken() -> StoreError {
    StoreError::Stale { what: "the test".to_owned() }
}

/// Holds for a call; the run as it is while the call is under way, none when it does not fit.
async fn begin(
    inner: &Arc<Inner>,
    mut run: RunCore,
    call: Call,
    fails: bool,
) -> Result<Option<RunCore>, StoreError> {
    let here = Arc::clone(inner);
    inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let day = Day::of(tx.now());
                let levels = budgets::levels(tx, &here, &run, day).await?;
                let Ok(hold) = fit(&levels, call) else { return Ok(None) };
                (run.held_tokens, run.held_cost, run.held_day) = (hold.tokens, hold.cost, day);
                budgets::hold(tx, levels, day, hold);
                check(tx, &here, &run, day).await?;
                if fails { Err(broken()) } else { Ok(Some(run)) }
            })
        })
        .await
}

async fn end(inner: &Arc<Inner>, run: RunCore, used: Hold, fails: bool) -> Result<(), StoreError> {
    let here = Arc::clone(inner);
    inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                budgets::settle(tx, &here, &run, used).await?;
                if fails { Err(broken()) } else { Ok(()) }
            })
        })
        .await
}

/// Calls one after the other; how many did not fit.
async fn spend(inner: Arc<Inner>, run: RunCore, calls: Vec<Call>, ledger: Ledger) -> usize {
    let mut refused = 0;
    for call in calls {
        let mut begun = begin(&inner, run.clone(), call, call.fails.0).await;
        if begun.is_err() {
            begun = begin(&inner, run.clone(), call, false).await;
        }
        let Some(under_way) = begun.unwrap() else {
            refused += 1;
            continue;
        };
        for _ in 0..call.input % 4 {
            tokio::task::yield_now().await;
        }
        let percent = call.used_percent.unwrap_or(100);
        let tokens = under_way.held_tokens * percent / 100;
        let used = Hold { tokens, cost: cost(tokens) };
        if end(&inner, under_way.clone(), used, call.fails.1).await.is_err() {
            end(&inner, under_way.clone(), used, false).await.unwrap();
        }
        for subject in subjects(&under_way) {
            let mut ledger = ledger.lock().unwrap();
            let sum = ledger.entry((subject, under_way.held_day)).or_default();
            sum.0 += tokens;
            sum.1 += used.cost.as_nanos();
        }
    }
    refused
}

/// Spends as planned; how many calls did not fit.
async fn spent(f: &Fixture, round: u64, plan: Plan) -> usize {
    let inner = &f.orchestrator.inner;
    let base = f.create(None).await;
    let base = f.core(base.id).await;
    // A budget of the conversations of other cases, and of their people, is another one.
    let agents: Vec<String> = (0..2).map(|n| format!("agent-{round}-{n}")).collect();
    let people: Vec<_> = (0..3).map(|n| principal_id_of(&format!("{round} {n}"))).collect();
    let threads: Vec<_> = (0..3).map(|_| ConversationId::new(&ids())).collect();
    let mut named = vec![BudgetSubject::ORG];
    named.extend(agents.iter().map(|a| BudgetSubject::of(BudgetScope::Agent, a)));
    named.extend(people.iter().map(|p| BudgetSubject::of(BudgetScope::Principal, p)));
    named.extend(threads.iter().map(|c| BudgetSubject::of(BudgetScope::Conversation, c)));
    let mut rows: Vec<BudgetRow> = Vec::new();
    for (subject, limit) in named.iter().zip(&plan.limits) {
        let mut limit = bound(*limit);
        if subject.scope == BudgetScope::Org {
            // What earlier cases have used is used.
            let now = use_of(f, subject, Day::of(SystemClock.now())).await;
            limit.tokens_per_day = limit.tokens_per_day.map(|t| t * 2 + now.used_tokens);
            limit.usd_per_day = limit.usd_per_day.map(|c| c.plus(c).plus(now.used));
        }
        rows.push(BudgetRow {
            subject: subject.clone(),
            limit,
            updated_at: Timestamp::from_micros(0),
            updated_by: base.principal,
        });
    }
    inner.budgets.replace(round, rows);
    let before = use_of(f, &BudgetSubject::ORG, Day::of(SystemClock.now())).await;
    let ledger = Ledger::default();
    let mut tasks = Vec::new();
    for ((agent, person, thread), calls) in plan.tasks {
        let mut run = base.clone();
        run.agent.clone_from(&agents[agent]);
        run.principal = people[person];
        run.conversation_id = threads[thread];
        tasks.push(spend(Arc::clone(inner), run, calls, Arc::clone(&ledger)));
    }
    #[expect(clippy::disallowed_methods, reason = "they spend on both threads of the test")]
    let tasks = tasks.into_iter().map(tokio::spawn);
    let refused = futures_util::future::join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    let ledger = ledger.lock().unwrap().clone();
    for ((subject, day), (tokens, nanos)) in ledger {
        let now = use_of(f, &subject, day).await;
        let old = if subject == BudgetSubject::ORG { before } else { BudgetUse::default() };
        let limit = inner.budgets.limit(&subject);
        assert_eq!((now.held_tokens, now.held), (0, Usd::ZERO), "{subject} holds for nobody");
        // A conversation that nobody bounds is not counted.
        if subject.scope != BudgetScope::Conversation || !limit.is_none() {
            assert_eq!(now.used_tokens - old.used_tokens, tokens, "{subject}");
            assert_eq!(now.used.as_nanos() - old.used.as_nanos(), nanos, "{subject}");
        }
        assert!(limit.tokens_per_day.is_none_or(|most| now.used_tokens <= most), "{subject}");
        assert!(limit.usd_per_day.is_none_or(|most| now.used <= most), "{subject}");
    }
    refused
}

async fn use_of(f: &Fixture, subject: &BudgetSubject, day: Day) -> BudgetUse {
    let mut reader = f.orchestrator.inner.store.read().await.unwrap();
    reader.budget_uses().get(subject, day).await.unwrap()
}

#[test]
fn whoever_spends_at_once_no_level_of_budget_is_ever_passed() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let f = runtime.block_on(idle());
    let (round, refused, calls) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let config = ProptestConfig { cases: 60, max_shrink_iters: 200, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&plan(), |plan| {
            let round = round.fetch_add(1, Ordering::Relaxed) + 1;
            let wanted = plan.tasks.iter().map(|(_, calls)| calls.len()).sum();
            calls.fetch_add(wanted, Ordering::Relaxed);
            refused.fetch_add(runtime.block_on(spent(&f, round, plan)), Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    let (refused, calls) = (refused.into_inner(), calls.into_inner());
    assert!(refused > calls / 20 && refused < calls * 9 / 10, "{refused} of {calls} did not fit");
    runtime.block_on(async { drop(f) });
}
