//! Preparing a model call: what the model is shown, and the hold on the run's budget.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    domain::{AgentDef, Usd},
    llm::{Llm, Request, ToolSchema},
    store::RunCore,
    tools,
};

/// Answers shorter than this are not worth a call: the budget is refused instead.
const USEFUL_OUTPUT_TOKENS: u64 = 64;

/// Why the budget does not allow another call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The limit's name in the API.
    pub(super) limit: &'static str,
    pub(super) allowed: String,
    pub(super) needed: String,
    /// What a person is asked to raise it to.
    pub(super) raise: Value,
}

/// Fits the request into the budget and holds its upper bound.
///
/// # Errors
/// [`Refused`] when what is left does not cover it; nothing is held then.
pub(super) fn reserve(llm: &Llm, run: &mut RunCore, request: &mut Request) -> Result<(), Refused> {
    let input = llm.estimate_input_tokens(request);
    let left = run.limits.max_tokens.saturating_sub(run.usage.tokens());
    let output_left = left.saturating_sub(input);
    if output_left < USEFUL_OUTPUT_TOKENS {
        let needed = run.usage.tokens() + input + u64::from(request.max_output_tokens);
        let raised = needed.max(run.limits.max_tokens.saturating_mul(2));
        return Err(Refused {
            limit: "max_tokens",
            allowed: run.limits.max_tokens.to_string(),
            needed: needed.to_string(),
            raise: json!({ "max_tokens": raised }),
        });
    }
    let output = u64::from(request.max_output_tokens).min(output_left);
    request.max_output_tokens = u32::try_from(output).unwrap_or(u32::MAX);
    let price = llm.price(&request.model, input, output);
    let spent = run.usage.cost_usd.plus(price);
    if spent > run.limits.max_cost_usd {
        let doubled = run.limits.max_cost_usd.plus(run.limits.max_cost_usd);
        return Err(Refused {
            limit: "max_cost_usd",
            allowed: run.limits.max_cost_usd.to_string(),
            needed: spent.to_string(),
            raise: json!({ "max_cost_usd": spent.max(doubled) }),
        });
    }
    run.held_tokens = input + output;
    run.held_cost = price;
    Ok(())
}

/// Settles the hold with what was used.
pub(super) fn settle(run: &mut RunCore, input: u64, output: u64, price: Usd) {
    run.held_tokens = 0;
    run.held_cost = Usd::ZERO;
    run.usage.input_tokens = run.usage.input_tokens.saturating_add(input);
    run.usage.output_tokens = run.usage.output_tokens.saturating_add(output);
    run.usage.cost_usd = run.usage.cost_usd.plus(price);
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
