//! Which model is tried when: retries with the same one, then its fallbacks, until one answers.
//!
//! Invariant: everything ends at once when the caller's token is cancelled.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use reqwest::Url;
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

use super::{
    Completion, Finish, Request,
    answer::Answer,
    anthropic, builtin,
    client::{Client, Outgoing},
    error::{ErrorClass, Failure, LlmError},
    openai,
    options::{ModelOptions, Options, Provider},
    price,
};
use crate::{
    domain::{Secret, Usd},
    runtime::RetryPolicy,
};

/// Bytes of a token at the very most, in any text that people write: with fewer tokens than this
/// allows, a conversation cannot fit.
const ESTIMATE_FACTOR_MAX: u64 = 3;

/// One configured model.
#[derive(Debug)]
struct Entry {
    options: ModelOptions,
    /// Where requests go; none for the stand-in.
    url: Option<Url>,
    key: RwLock<Option<Secret<String>>>,
}

/// The models.
#[derive(Debug)]
pub(super) struct Router {
    entries: BTreeMap<String, Entry>,
    /// None while every model is the stand-in.
    client: Option<Client>,
    retry: RetryPolicy,
    retry_after_max: Duration,
    random: fn() -> u32,
}

impl Router {
    pub(super) fn new(mut options: Options) -> Result<Self, LlmError> {
        let models = std::mem::take(&mut options.models);
        let config = |model: &str, reason: String| LlmError::Config { model: model.into(), reason };
        let mut client = None;
        for (name, model) in &models {
            if let Some(missing) = model.fallbacks.iter().find(|f| !models.contains_key(*f)) {
                let reason = format!("its fallback `{missing}` is not configured");
                return Err(config(name, reason));
            }
            if model.fallbacks.contains(name) {
                return Err(config(name, "it is its own fallback".to_owned()));
            }
            if model.provider != Provider::Builtin && client.is_none() {
                client = Some(Client::new(&options).map_err(|reason| config(name, reason))?);
            }
        }
        let entry = |(name, mut model): (String, ModelOptions)| {
            let url = endpoint(&model).map_err(|reason| config(&name, reason))?;
            let key = RwLock::new(model.api_key.take());
            Ok((name, Entry { options: model, url, key }))
        };
        Ok(Self {
            entries: models.into_iter().map(entry).collect::<Result<_, _>>()?,
            client,
            retry: options.retry,
            retry_after_max: options.retry_after_max,
            random: options.random,
        })
    }

    pub(super) async fn complete(
        &self,
        request: &Request,
        deltas: Option<&mpsc::Sender<String>>,
        stop: &CancellationToken,
    ) -> Result<Completion, LlmError> {
        // Both branches are cancel-safe: dropping the second closes the connection.
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(LlmError::Cancelled),
            result = Box::pin(self.route(request, deltas)) => result,
        }
    }

    /// The first answer of the model or one of its fallbacks.
    async fn route(
        &self,
        request: &Request,
        deltas: Option<&mpsc::Sender<String>>,
    ) -> Result<Completion, LlmError> {
        let unknown = |model: &String| LlmError::UnknownModel { model: model.clone() };
        let first = self.entries.get(&request.model).ok_or_else(|| unknown(&request.model))?;
        let estimate = price::input_tokens(request);
        let mut error = unknown(&request.model);
        for name in std::iter::once(&request.model).chain(&first.options.fallbacks) {
            let entry = self.entries.get(name).ok_or_else(|| unknown(name))?;
            match self.ask(name, entry, request, estimate, deltas).await {
                Ok(answer) => return Ok(answer.complete(name.clone(), estimate)),
                Err(failure) => error = LlmError::Failed { model: name.clone(), failure },
            }
        }
        Err(error)
    }

    /// One model, as often as its failures allow.
    async fn ask(
        &self,
        name: &str,
        entry: &Entry,
        request: &Request,
        estimate: u64,
        deltas: Option<&mpsc::Sender<String>>,
    ) -> Result<Answer, Failure> {
        let (Some(url), Some(client)) = (&entry.url, &self.client) else {
            return stand_in(request, deltas).await;
        };
        if entry.options.context_tokens.is_some_and(|most| estimate / ESTIMATE_FACTOR_MAX > most) {
            let what = "the conversation is too long for the model";
            return Err(Failure::new(ErrorClass::ContextOverflow, what));
        }
        let out = entry.outgoing(url, request);
        let mut attempt = 1;
        loop {
            let failure = match client.attempt(&out, deltas).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = self.wait(&failure, attempt);
            tracing::warn!(
                model = name,
                attempt,
                class = failure.class.as_str(),
                status = failure.status,
                code = failure.code,
                cause = failure.cause,
                retry_in_ms = wait.map(|w| u64::try_from(w.as_millis()).unwrap_or(u64::MAX)),
                "a model call failed: {}",
                failure.what
            );
            let Some(wait) = wait else { return Err(failure) };
            time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// How long to wait before the next attempt; none when there is no next one.
    fn wait(&self, failure: &Failure, attempt: u32) -> Option<Duration> {
        if !failure.retryable || attempt >= self.retry.attempts {
            return None;
        }
        let asked = failure.retry_after.unwrap_or_default();
        let ours = self.retry.wait(attempt.saturating_add(1), (self.random)());
        (asked <= self.retry_after_max).then(|| asked.max(ours))
    }

    pub(super) fn price(&self, model: &str, input: u64, output: u64) -> Usd {
        self.entries
            .get(model)
            .map_or(Usd::ZERO, |entry| price::price(&entry.options, input, output))
    }

    pub(super) fn ready(&self) -> Result<(), String> {
        if self.entries.is_empty() {
            return Err("no model is configured".to_owned());
        }
        match self.entries.iter().find(|(_, entry)| entry.lacks_key()) {
            Some((name, entry)) => {
                Err(format!("model `{name}` ({}) has no API key", entry.options.provider))
            }
            None => Ok(()),
        }
    }

    pub(super) fn set_key(&self, model: &str, key: Option<Secret<String>>) -> bool {
        let Some(entry) = self.entries.get(model) else { return false };
        *entry.key.write().unwrap_or_else(PoisonError::into_inner) = key;
        true
    }
}

impl Entry {
    fn outgoing(&self, url: &Url, request: &Request) -> Outgoing {
        let model = &self.options.model;
        let body = match self.options.provider {
            Provider::Anthropic => serde_json::to_vec(&anthropic::body(request, model)),
            Provider::OpenAi | Provider::Builtin => {
                serde_json::to_vec(&openai::body(request, model, url.as_str()))
            }
        };
        Outgoing {
            provider: self.options.provider,
            url: url.clone(),
            key: self.key.read().unwrap_or_else(PoisonError::into_inner).clone(),
            // Text and JSON can always be written as JSON.
            body: Bytes::from(body.unwrap_or_default()),
        }
    }

    /// The public services insist on a key; a server of one's own may not.
    fn lacks_key(&self) -> bool {
        let is_public = self.options.base_url.is_empty() && self.url.is_some();
        is_public && self.key.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Where requests for the model go.
fn endpoint(model: &ModelOptions) -> Result<Option<Url>, String> {
    let path = match model.provider {
        Provider::Builtin => return Ok(None),
        Provider::OpenAi => openai::PATH,
        Provider::Anthropic => anthropic::PATH,
    };
    if model.model.is_empty() {
        return Err("the provider's name of the model is missing (`model = …`)".to_owned());
    }
    let base = if model.base_url.is_empty() {
        model.provider.default_base_url()
    } else {
        model.base_url.as_str()
    };
    let base = base.trim_end_matches('/');
    // Both forms of this address are in use; only one of them has the version at its end.
    let base = match model.provider {
        Provider::Anthropic => base.strip_suffix("/v1").unwrap_or(base),
        Provider::OpenAi | Provider::Builtin => base,
    };
    let url = Url::parse(&format!("{base}{path}"))
        .map_err(|error| format!("its base_url is not an address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its base_url must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its base_url holds credentials; use api_key instead".to_owned());
    }
    Ok(Some(url))
}

/// The stand-in's answer, streamed line by line.
async fn stand_in(
    request: &Request,
    deltas: Option<&mpsc::Sender<String>>,
) -> Result<Answer, Failure> {
    let reply = builtin::reply(&request.messages, &request.tools);
    let mut answer = Answer::default();
    answer.finish = Some(Finish::Stop);
    for line in reply.text.split_inclusive('\n') {
        answer.push_text(line)?;
        if let (Some(text), Some(deltas)) = (answer.take_fresh(), deltas) {
            deltas.try_send(text).ok();
            tokio::task::yield_now().await;
        }
    }
    for (index, (name, args)) in (0..).zip(&reply.call) {
        answer.push_call(Some(index), "", name, &args.to_string())?;
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
