//! What the operator decides about models. `app::config` fills it from the file and environment.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::breaker::{BreakerOptions, BreakerState};
use futures_util::future::BoxFuture;

use crate::{
    domain::{Clock, Secret, SystemClock, Usd},
    runtime::RetryPolicy,
};

/// Which protocol a model speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Anything that serves `POST /chat/completions` as OpenAI does.
    OpenAi,
    /// Anything that serves `POST /v1/messages` as Anthropic does.
    Anthropic,
    /// The stand-in that follows plain instructions; no network, no key, no language model.
    #[default]
    Builtin,
}

/// The text named no provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a provider: use openai (any compatible server), anthropic or builtin")]
pub struct ProviderError;

impl Provider {
    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Builtin => "builtin",
        }
    }

    /// Where requests go when the configuration does not say.
    pub const fn default_base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com",
            Self::Builtin => "",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Provider {
    type Err = ProviderError;

    fn from_str(text: &str) -> Result<Self, ProviderError> {
        [Self::OpenAi, Self::Anthropic, Self::Builtin]
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or(ProviderError)
    }
}

/// One entry of the model list.
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// Protocol.
    pub provider: Provider,
    /// Where; the provider's public address when empty.
    pub base_url: String,
    /// Bearer key. A server on one's own machine may need none.
    pub api_key: Option<Secret<String>>,
    /// What the key is called where secrets are listed.
    pub key_name: String,
    /// The model's name as the provider knows it.
    pub model: String,
    /// Entries to try, in order, when this one fails.
    pub fallbacks: Vec<String>,
    /// Price of a million input tokens.
    pub input_price_per_mtok: Usd,
    /// Price of a million output tokens.
    pub output_price_per_mtok: Usd,
    /// Tokens that fit the model, when known: a conversation that cannot fit is not sent.
    pub context_tokens: Option<u64>,
}

/// A model rests after failures, or is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerChange {
    /// The entry of the model list.
    pub model: String,
    /// Where it stands now.
    pub state: BreakerState,
}

/// Who is told when a model begins to rest or is asked again. It must not block.
#[derive(Clone)]
pub struct Watcher(pub Arc<dyn Fn(BreakerChange) + Send + Sync>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

/// Asked before another attempt when the one before may have been billed: whether another one may
/// cost as much again.
#[derive(Clone)]
pub struct Again(pub Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>);

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Again")
    }
}

/// The models, and how patient to be with them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The entries by name; `agents.*.model` and `fallbacks` refer to them.
    pub models: BTreeMap<String, ModelOptions>,
    /// Longest silence, before the answer begins and within it. An answer that keeps coming is
    /// not cut by it: a long one may well take minutes.
    pub timeout: Duration,
    /// Longest time of one attempt, from connecting to the last byte.
    pub total_timeout: Duration,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// How often and how fast to try the same model again.
    pub retry: RetryPolicy,
    /// A longer `Retry-After` is not waited for: the next model is tried instead.
    pub retry_after_max: Duration,
    /// A proxy for requests to models, such as `http://127.0.0.1:3128`. The environment's proxy
    /// variables are not read: where prompts go is the configuration's decision.
    pub proxy: Option<Secret<String>>,
    /// When a model that fails is left alone, and for how long.
    pub breaker: BreakerOptions,
    /// Who is told of models that rest.
    pub watcher: Option<Watcher>,
    /// For dates in `Retry-After`.
    pub clock: Arc<dyn Clock>,
    /// Randomness for jitter, uniformly distributed.
    pub random: fn() -> u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            models: BTreeMap::new(),
            timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(10),
            retry: RetryPolicy {
                attempts: 3,
                first: Duration::from_millis(500),
                longest: Duration::from_secs(8),
            },
            retry_after_max: Duration::from_secs(30),
            proxy: None,
            breaker: BreakerOptions::default(),
            watcher: None,
            clock: Arc::new(SystemClock),
            // Without randomness the jitter is lost, not the retry.
            random: || getrandom::u32().unwrap_or(u32::MAX / 2),
        }
    }
}
