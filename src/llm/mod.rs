//! Asks a language model for the next step of a conversation.
//!
//! Invariants: runs no tool, reads no policy, keeps no history; every answer is bounded; keys,
//! bodies and providers' sentences never reach a log line or an error. Model output is hostile:
//! it is handed on as data, never acted on.
//!
//! ```text
//! Llm ─ router (retries, fallbacks, breakers) ─ client (one attempt) ─ sse ─ openai | anthropic ─ answer
//!                    └─ builtin (a stand-in without a network)
//! ```

mod answer;
mod anthropic;
mod breaker;
mod builtin;
mod client;
mod error;
mod openai;
mod options;
mod price;
mod router;
mod sse;
mod status;
#[cfg(test)]
mod testing;
mod transcript;

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use breaker::{BreakerOptions, BreakerState};
pub use error::{ErrorClass, Failure, LlmError};
pub use options::{Again, BreakerChange, ModelOptions, Options, Provider, ProviderError, Watcher};
pub use router::ModelHealth;

use crate::domain::{Message, Secret, Usd};

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Entry of the model list.
    pub model: String,
    /// System prompt.
    pub system: Arc<str>,
    /// The conversation, oldest first.
    pub messages: Vec<Arc<Message>>,
    /// Tools that the model may ask for.
    pub tools: Arc<[ToolSchema]>,
    /// Most tokens of the answer.
    pub max_output_tokens: u32,
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolSchema {
    /// Name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// What the model said.
    pub text: String,
    /// The tool calls that it asks for, in order.
    pub calls: Vec<ProposedCall>,
    /// Tokens.
    pub usage: TokenUsage,
    /// Entry of the model list that answered; a fallback's name after a failover.
    pub model: String,
    /// Why the model stopped.
    pub finish: Finish,
}

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// What the model read.
    pub input: u64,
    /// What the model wrote.
    pub output: u64,
    /// Whether the provider counted; otherwise it is an estimate on the careful side.
    pub reported: bool,
}

/// A tool call that the model asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ProposedCall {
    /// The tool's name as the model wrote it; may name no tool.
    pub name: String,
    /// The arguments. Where they were no JSON: the text itself, as `Value::String`.
    pub args: Value,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// It had said all, or waits for the results of its calls.
    Stop,
    /// It ran out of tokens; its last call may be cut.
    Length,
    /// It, or the provider's filter, refused to go on.
    Refused,
}

/// Asks models. Clones share connections and keys.
#[derive(Clone, Debug)]
pub struct Llm {
    router: Arc<router::Router>,
}

impl Llm {
    /// Checks the options and prepares the connections; asks nobody yet.
    ///
    /// # Errors
    /// [`LlmError::Config`] when an entry cannot work: an address that is none, a fallback that
    /// does not exist, or no TLS provider installed in the process.
    pub fn new(options: Options) -> Result<Self, LlmError> {
        Ok(Self { router: Arc::new(router::Router::new(options)?) })
    }

    /// Asks a model and waits for the whole answer; retries and fallbacks included, so it can
    /// take several times the timeout of one attempt. While the answer arrives its text is
    /// offered to `deltas`; a full queue loses pieces, and an attempt that fails halfway is
    /// repeated from the start, so only the returned text counts.
    ///
    /// After an attempt that may have been billed `again` is asked before the next one; without it
    /// there is no bound but that of attempts.
    ///
    /// Cancel-safe. Ends at once with [`LlmError::Cancelled`] when `stop` is cancelled.
    ///
    /// # Errors
    /// The last failure, once every attempt with every model failed.
    pub async fn complete(
        &self,
        request: Request,
        deltas: Option<mpsc::Sender<String>>,
        again: Option<Again>,
        stop: CancellationToken,
    ) -> Result<Completion, LlmError> {
        let watched = router::Watched { deltas: deltas.as_ref(), again: again.as_ref() };
        self.router.complete(&request, watched, &stop).await
    }

    /// Tokens that the request will cost as input, on the careful side: what a budget should
    /// hold before the call.
    pub fn estimate_input_tokens(&self, request: &Request) -> u64 {
        price::input_tokens(request)
    }

    /// What so many tokens cost; zero for a model that is not configured.
    pub fn price(&self, model: &str, input: u64, output: u64) -> Usd {
        self.router.price(model, input, output)
    }

    /// The most that so many tokens can cost, whichever of the model's fallbacks answers: what a
    /// budget should hold before the call.
    pub fn price_at_most(&self, model: &str, input: u64, output: u64) -> Usd {
        self.router.price_at_most(model, input, output)
    }

    /// Each model, and whether it rests after failures.
    pub fn health(&self) -> Vec<ModelHealth> {
        self.router.health()
    }

    /// Whether every model can be asked, and not all of them rest.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn ready(&self) -> Result<(), String> {
        self.router.ready()
    }

    /// What the key is called that requests to this model carry; none where there is no key.
    pub fn key_name(&self, model: &str) -> Option<String> {
        self.router.key_name(model)
    }

    /// Replaces a model's key; calls that begin later use it, and a model that rested because of
    /// the old one is asked again. `false`: no such model.
    pub fn set_key(&self, model: &str, key: Option<Secret<String>>) -> bool {
        self.router.set_key(model, key)
    }
}
