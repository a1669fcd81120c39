//! Preparing a model call: what the model is shown, and the hold on its run's limits and on the
//! budgets of the day.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Inner,
    budgets::{self, Exhausted, Hold, Unfit},
};
use crate::{
    domain::{AgentDef, Day, PrincipalId, Usd},
    llm::{Llm, Request, ToolSchema},
    runtime::Rates,
    store::{RunCore, StepRow, StoreError, Tx, UsageKey, UsageSum},
    tools,
};

/// Answers shorter than this are not worth a call: the budget is refused instead.
const USEFUL_OUTPUT_TOKENS: u64 = 64;
/// How long a run waits for what other calls hold of a budget, before it asks again.
const HELD_WAIT: Duration = Duration::from_secs(2);
/// Principals whose rate of model calls is counted at once; more share one count.
const PRINCIPALS_MAX: usize = 16_384;

/// Why the limits of the run do not allow another call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The limit's name in the API.
    pub(super) limit: &'static str,
    pub(super) allowed: String,
    pub(super) needed: String,
    /// What a person is asked to raise it to.
    pub(super) raise: Value,
}

/// What stands in the way of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A limit of the run: a person can raise it.
    RunLimit(Refused),
    /// A budget of the day: an administrator can raise it, or the day ends.
    Budget(Exhausted),
    /// Time alone.
    Wait {
        /// How long.
        wait: Duration,
        /// What for.
        what: &'static str,
    },
}

impl From<Unfit> for Obstacle {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::HeldByOthers => Self::Wait {
                wait: HELD_WAIT,
                what: "other model calls hold the rest of a budget; trying again",
            },
            Unfit::Exhausted(exhausted) => Self::Budget(exhausted),
        }
    }
}

/// How often and how much one principal's runs may ask models.
#[derive(Debug)]
pub(super) struct ModelRates {
    requests: Rates<PrincipalId>,
    tokens: Rates<PrincipalId>,
}

impl ModelRates {
    pub(super) fn new(requests_per_minute: u64, tokens_per_minute: u64) -> Self {
        Self {
            requests: Rates::per_minute(requests_per_minute, PRINCIPALS_MAX),
            tokens: Rates::per_minute(tokens_per_minute, PRINCIPALS_MAX),
        }
    }

    fn take(&self, principal: PrincipalId, tokens: u64) -> Result<(), Obstacle> {
        let now = Instant::now();
        let wait = |wait, what| Obstacle::Wait { wait, what };
        if let Err(often) = self.requests.take(principal, 1, now) {
            return Err(wait(often.retry_after, "many model calls in a minute; trying again"));
        }
        if let Err(often) = self.tokens.take(principal, tokens, now) {
            self.requests.give_back(&principal, 1);
            return Err(wait(often.retry_after, "many tokens in a minute; trying again"));
        }
        Ok(())
    }
}

/// Fits the request into the run's limits, the budgets of the day and the rates of its principal,
/// and holds its upper bound on all of them; or says what is in the way, and nothing is held.
pub(super) async fn reserve(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    request: &mut Request,
) -> Result<Result<(), Obstacle>, StoreError> {
    let day = Day::of(tx.now());
    let levels = budgets::levels(tx, inner, run, day).await?;
    let fitted = fit(&inner.llm, run, request, &levels);
    let hold = match fitted.and_then(|hold| {
        inner.rates.take(run.principal, hold.tokens)?;
        Ok(hold)
    }) {
        Ok(hold) => hold,
        Err(obstacle) => return Ok(Err(obstacle)),
    };
    run.held_tokens = hold.tokens;
    run.held_cost = hold.cost;
    run.held_day = day;
    budgets::hold(tx, levels, day, hold);
    Ok(Ok(()))
}

/// An attempt was lost that may have been billed: charges what was held for it, and holds as much for
/// another one. `false`: another one does not fit, and nothing is held.
pub(super) async fn hold_again(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    request: &Request,
) -> Result<bool, StoreError> {
    charge(tx, inner, run).await?;
    let mut same = request.clone();
    if reserve(tx, inner, run, &mut same).await?.is_err() {
        return Ok(false);
    }
    // The request goes out as it is: there is no room for a shorter answer.
    if same.max_output_tokens < request.max_output_tokens {
        release(tx, inner, run).await?;
        return Ok(false);
    }
    Ok(true)
}

/// The request's upper bound, after its answer was cut to what is left.
fn fit(
    llm: &Llm,
    run: &RunCore,
    request: &mut Request,
    levels: &[budgets::Level],
) -> Result<Hold, Obstacle> {
    let input = llm.estimate_input_tokens(request);
    let left = run.limits.max_tokens.saturating_sub(run.usage.tokens());
    let output_left = left.saturating_sub(input);
    if output_left < USEFUL_OUTPUT_TOKENS {
        let needed = run.usage.tokens() + input + u64::from(request.max_output_tokens);
        let raised = needed.max(run.limits.max_tokens.saturating_mul(2));
        return Err(Obstacle::RunLimit(Refused {
            limit: "max_tokens",
            allowed: run.limits.max_tokens.to_string(),
            needed: needed.to_string(),
            raise: json!({ "max_tokens": raised }),
        }));
    }
    let wanted = u64::from(request.max_output_tokens).min(output_left);
    let least = USEFUL_OUTPUT_TOKENS.min(wanted);
    let output = budgets::output_that_fits(levels, input, wanted, least)?;
    let price = llm.price_at_most(&request.model, input, output);
    let spent = run.usage.cost_usd.plus(price);
    if spent > run.limits.max_cost_usd {
        let doubled = run.limits.max_cost_usd.plus(run.limits.max_cost_usd);
        return Err(Obstacle::RunLimit(Refused {
            limit: "max_cost_usd",
            allowed: run.limits.max_cost_usd.to_string(),
            needed: spent.to_string(),
            raise: json!({ "max_cost_usd": spent.max(doubled) }),
        }));
    }
    budgets::money_fits(levels, price)?;
    request.max_output_tokens = u32::try_from(output).unwrap_or(u32::MAX);
    Ok(Hold { tokens: input + output, cost: price })
}

/// Settles the hold of a call that was answered: what the step says was used.
pub(super) async fn settle(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    step: &StepRow,
) -> Result<(), StoreError> {
    let sum = UsageSum {
        runs: u64::from(run.usage.tokens() == 0),
        calls: 1,
        input_tokens: step.input_tokens,
        output_tokens: step.output_tokens,
        cost: step.cost,
    };
    end_hold(tx, inner, run, &step.model, sum).await
}

/// Gives the hold of a call back that cannot have cost anything.
pub(super) async fn release(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
) -> Result<(), StoreError> {
    end_hold(tx, inner, run, "", UsageSum::default()).await
}

/// Charges the hold, if there is one: a call that was lost may have been answered and billed, so
/// that its upper bound counts as used.
pub(super) async fn charge(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
) -> Result<(), StoreError> {
    if run.held_tokens == 0 && run.held_cost == Usd::ZERO {
        return Ok(());
    }
    let agents = inner.authorizer.agents();
    let agent = agents.values().find(|a| a.name.as_str() == run.agent);
    let model = agent.map_or_else(String::new, |agent| agent.model.clone());
    let sum = UsageSum {
        runs: u64::from(run.usage.tokens() == 0),
        calls: 1,
        input_tokens: run.held_tokens,
        output_tokens: 0,
        cost: run.held_cost,
    };
    end_hold(tx, inner, run, &model, sum).await
}

async fn end_hold(
    tx: &mut Tx,
    inner: &Inner,
    run: &mut RunCore,
    model: &str,
    sum: UsageSum,
) -> Result<(), StoreError> {
    let tokens = sum.input_tokens.saturating_add(sum.output_tokens);
    budgets::settle(tx, inner, run, Hold { tokens, cost: sum.cost }).await?;
    inner.rates.tokens.give_back(&run.principal, run.held_tokens.saturating_sub(tokens));
    if sum.calls > 0 {
        let key = UsageKey {
            day: Day::of(tx.now()),
            principal: run.principal,
            agent: run.agent.clone(),
            model: model.to_owned(),
        };
        tx.usage(key, sum);
        inner.alerts.tokens_used(run.principal, tokens);
    }
    run.held_tokens = 0;
    run.held_cost = Usd::ZERO;
    run.usage.input_tokens = run.usage.input_tokens.saturating_add(sum.input_tokens);
    run.usage.output_tokens = run.usage.output_tokens.saturating_add(sum.output_tokens);
    run.usage.cost_usd = run.usage.cost_usd.plus(sum.cost);
    Ok(())
}

/// The tools that an agent may ask for, as a model is told of them.
pub(super) fn schemas(agent: &AgentDef) -> Arc<[ToolSchema]> {
    tools::specs()
        .iter()
        .filter(|spec| agent.tools.contains(&spec.name))
        .map(|spec| ToolSchema {
            name: spec.name.to_string(),
            description: spec.description.to_owned(),
            parameters: spec.schema.clone(),
        })
        .collect()
}
