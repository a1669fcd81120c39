//! Which model is tried when: retries with the same one, then those of its fallbacks that can help,
//! until one answers. A model that rests after failures is passed over.
//!
//! Invariant: everything ends at once when the caller's token is cancelled.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use reqwest::Url;
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

use super::{
    Completion, Finish, Request,
    answer::Answer,
    anthropic,
    breaker::{Admission, Breaker, BreakerState, Change},
    builtin,
    client::{Client, Outgoing},
    error::{ErrorClass, Failure, LlmError},
    openai,
    options::{Again, BreakerChange, ModelOptions, Options, Provider, Watcher},
    price,
};
use crate::{
    domain::{Secret, Usd},
    runtime::{RetryPolicy, tasks::lock},
};

/// Bytes of a token at the very most, in any text that people write: with fewer tokens than this
/// allows, a conversation cannot fit.
const ESTIMATE_FACTOR_MAX: u64 = 3;

/// Who goes with a call: those who see its text arrive, and who says whether it may cost more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched<'a> {
    pub(super) deltas: Option<&'a mpsc::Sender<String>>,
    pub(super) again: Option<&'a Again>,
}

impl Watched<'_> {
    /// Whether there may be another attempt after this failure.
    async fn covers_another(&self, failure: &Failure) -> bool {
        match self.again {
            Some(Again(ask)) if failure.may_cost => ask().await,
            Some(_) | None => true,
        }
    }
}

/// One configured model.
#[derive(Debug)]
struct Entry {
    options: ModelOptions,
    /// Where requests go; none for the stand-in.
    url: Option<Url>,
    key: RwLock<Option<Secret<String>>>,
    breaker: Mutex<Breaker>,
}

/// A model and whether it rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelHealth {
    /// The entry of the model list.
    pub model: String,
    /// Which protocol it speaks.
    pub provider: Provider,
    /// Whether it can be asked.
    pub state: BreakerState,
}

/// The models.
#[derive(Debug)]
pub(super) struct Router {
    entries: BTreeMap<String, Entry>,
    /// None while every model is the stand-in.
    client: Option<Client>,
    retry: RetryPolicy,
    retry_after_max: Duration,
    watcher: Option<Watcher>,
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
            let breaker = Mutex::new(Breaker::new(options.breaker));
            Ok((name, Entry { options: model, url, key, breaker }))
        };
        Ok(Self {
            entries: models.into_iter().map(entry).collect::<Result<_, _>>()?,
            client,
            retry: options.retry,
            retry_after_max: options.retry_after_max,
            watcher: options.watcher,
            random: options.random,
        })
    }

    pub(super) async fn complete(
        &self,
        request: &Request,
        watched: Watched<'_>,
        stop: &CancellationToken,
    ) -> Result<Completion, LlmError> {
        // Both branches are cancel-safe: dropping the second closes the connection.
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(LlmError::Cancelled),
            result = Box::pin(self.route(request, watched)) => result,
        }
    }

    /// The first answer of the model or one of its fallbacks.
    async fn route(&self, request: &Request, watched: Watched<'_>) -> Result<Completion, LlmError> {
        let unknown = |model: &String| LlmError::UnknownModel { model: model.clone() };
        let first = self.entries.get(&request.model).ok_or_else(|| unknown(&request.model))?;
        let estimate = price::input_tokens(request);
        let mut failed: Option<(&Entry, &String, Failure)> = None;
        let mut last: Option<Failure> = None;
        for name in std::iter::once(&request.model).chain(&first.options.fallbacks) {
            let entry = self.entries.get(name).ok_or_else(|| unknown(name))?;
            if failed.as_ref().is_some_and(|(by, _, why)| !helps(why, by, entry, estimate)) {
                continue;
            }
            // What the last attempt may have cost is settled before another one begins.
            if let Some(lost) = last.take()
                && !watched.covers_another(&lost).await
            {
                break;
            }
            match self.ask(name, entry, request, estimate, watched).await {
                Ok(answer) => return Ok(answer.complete(name.clone(), estimate)),
                Err(Unanswered { failure, is_over }) => {
                    last = Some(failure.clone());
                    if failed.as_ref().is_none_or(|(_, _, known)| says_more(&failure, known)) {
                        failed = Some((entry, name, failure));
                    }
                    if is_over {
                        break;
                    }
                }
            }
        }
        Err(match failed {
            Some((_, model, failure)) => {
                // Whatever says most: what is still held was for the last one.
                let may_cost = last.is_some_and(|last| last.may_cost);
                LlmError::Failed { model: model.clone(), failure: Failure { may_cost, ..failure } }
            }
            None => unknown(&request.model),
        })
    }

    /// One model, as often as its failures allow.
    async fn ask(
        &self,
        name: &str,
        entry: &Entry,
        request: &Request,
        estimate: u64,
        watched: Watched<'_>,
    ) -> Result<Answer, Unanswered> {
        let (Some(url), Some(client)) = (&entry.url, &self.client) else {
            return Ok(stand_in(request, watched.deltas).await?);
        };
        if entry.options.context_tokens.is_some_and(|most| estimate / ESTIMATE_FACTOR_MAX > most) {
            let what = "the conversation is too long for the model";
            return Err(Failure::new(ErrorClass::ContextOverflow, what).into());
        }
        let mut out = entry.outgoing(url, request);
        let mut attempt = 1;
        loop {
            let (admission, generation) = {
                let mut breaker = lock(&entry.breaker);
                (breaker.admit(time::Instant::now()), breaker.generation())
            };
            // After the generation: the key is of this one or of a newer one, never of an older.
            out.key = entry.key();
            let probe = match admission {
                Admission::Refused { class, retry_after } => {
                    return Err(Failure::resting(class, retry_after).into());
                }
                Admission::Probe => Some(Probe { breaker: &entry.breaker, generation }),
                Admission::Free => None,
            };
            let result = client.attempt(&out, watched.deltas).await;
            let is_probe = probe.is_some();
            let failure = match result {
                Ok(answer) => {
                    let change = entry.heard(generation, |breaker| breaker.succeeded(is_probe));
                    self.changed(name, change);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let now = time::Instant::now();
            let (class, asked) = (failure.class, failure.retry_after);
            let change =
                entry.heard(generation, |breaker| breaker.failed(class, asked, is_probe, now));
            // What it found is known now: its place is not given back.
            drop(probe);
            self.changed(name, change);
            // One probe, one attempt; and a model that has just begun to rest is left alone.
            let is_last = is_probe || matches!(change, Change::Opened { .. });
            let wait = if is_last { None } else { self.wait(&failure, attempt) };
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
            let Some(wait) = wait else { return Err(failure.into()) };
            time::sleep(wait).await;
            if !watched.covers_another(&failure).await {
                // Its cost is settled, and nothing is held any more: no fallback either.
                let failure = Failure { may_cost: false, ..failure };
                return Err(Unanswered { failure, is_over: true });
            }
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

    pub(super) fn price_at_most(&self, model: &str, input: u64, output: u64) -> Usd {
        let fallbacks = self.entries.get(model).map(|entry| entry.options.fallbacks.as_slice());
        let dearest = fallbacks.into_iter().flatten().map(|name| self.price(name, input, output));
        dearest.max().unwrap_or(Usd::ZERO).max(self.price(model, input, output))
    }

    pub(super) fn health(&self) -> Vec<ModelHealth> {
        let now = time::Instant::now();
        let health = |(name, entry): (&String, &Entry)| ModelHealth {
            model: name.clone(),
            provider: entry.options.provider,
            state: lock(&entry.breaker).state(now),
        };
        self.entries.iter().map(health).collect()
    }

    /// Counts and tells what the end of a call has changed.
    fn changed(&self, model: &str, change: Change) {
        let (state, open) = match change {
            Change::None => return,
            Change::Opened { class, rests } => (BreakerState::Open { class, rests }, 1.0),
            Change::Closed => (BreakerState::Closed, 0.0),
        };
        let name = model.to_owned();
        metrics::gauge!("agent_runtime_llm_breaker_open", "model" => name.clone()).set(open);
        metrics::counter!(
            "agent_runtime_llm_breaker_changes_total", "model" => name.clone(),
            "to" => state.as_str()
        )
        .increment(1);
        if let Some(Watcher(tell)) = &self.watcher {
            tell(BreakerChange { model: name, state });
        }
    }

    pub(super) fn ready(&self) -> Result<(), String> {
        if self.entries.is_empty() {
            return Err("no model is configured".to_owned());
        }
        if let Some((name, entry)) = self.entries.iter().find(|(_, entry)| entry.lacks_key()) {
            return Err(format!("model `{name}` ({}) has no API key", entry.options.provider));
        }
        let resting: Vec<String> = self
            .health()
            .iter()
            .filter_map(|model| match model.state {
                BreakerState::Open { class, rests } => {
                    Some(format!("`{}` for {} s ({class})", model.model, rests.as_secs().max(1)))
                }
                BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
            })
            .collect();
        if resting.len() == self.entries.len() {
            return Err(format!("every model rests after failures: {}", resting.join(", ")));
        }
        Ok(())
    }

    pub(super) fn key_name(&self, model: &str) -> Option<String> {
        let entry = self.entries.get(model)?;
        let is_sent = entry.url.is_some() && entry.key().is_some();
        is_sent.then(|| entry.options.key_name.clone())
    }

    pub(super) fn set_key(&self, model: &str, key: Option<Secret<String>>) -> bool {
        let Some(entry) = self.entries.get(model) else { return false };
        let before =
            std::mem::replace(&mut *entry.key.write().unwrap_or_else(PoisonError::into_inner), key);
        let now = entry.key.read().unwrap_or_else(PoisonError::into_inner);
        let is_new = before.as_ref().map(Secret::expose) != now.as_ref().map(Secret::expose);
        drop(now);
        if is_new {
            self.changed(model, lock(&entry.breaker).renew());
        }
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
            key: self.key(),
            // Text and JSON can always be written as JSON.
            body: Bytes::from(body.unwrap_or_default()),
        }
    }

    fn key(&self) -> Option<Secret<String>> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the end of a call changes; nothing when its key was replaced meanwhile.
    fn heard(&self, generation: u64, hear: impl FnOnce(&mut Breaker) -> Change) -> Change {
        let mut breaker = lock(&self.breaker);
        if breaker.generation() == generation { hear(&mut breaker) } else { Change::None }
    }

    /// The public services insist on a key; a server of one's own may not.
    fn lacks_key(&self) -> bool {
        let is_public = self.options.base_url.is_empty() && self.url.is_some();
        is_public && self.key.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Why a model gave no answer.
struct Unanswered {
    failure: Failure,
    /// No other model may be asked: nothing more is covered.
    is_over: bool,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self { failure, is_over: false }
    }
}

/// The one call that tries a model that rested. Dropped before it was heard of, it leaves its place.
struct Probe<'b> {
    breaker: &'b Mutex<Breaker>,
    generation: u64,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        let mut breaker = lock(self.breaker);
        if breaker.generation() == self.generation {
            breaker.end_probe();
        }
    }
}

/// Whether another model may answer what this one could not.
fn helps(why: &Failure, from: &Entry, to: &Entry, estimate: u64) -> bool {
    let (from, to) = (&from.options, &to.options);
    match why.class {
        // Only one with more room, as far as that is known.
        ErrorClass::ContextOverflow => match (from.context_tokens, to.context_tokens) {
            (_, None) => true,
            (Some(from), Some(to)) => to > from,
            (None, Some(to)) => to >= estimate,
        },
        // The same service refuses the same request again, unless it only did not know the model.
        ErrorClass::BadRequest => {
            let is_elsewhere = (from.provider, &from.base_url) != (to.provider, &to.base_url);
            is_elsewhere || why.status == Some(404)
        }
        ErrorClass::Cancelled => false,
        ErrorClass::Auth
        | ErrorClass::RateLimit
        | ErrorClass::Billing
        | ErrorClass::Timeout
        | ErrorClass::Network
        | ErrorClass::Format
        | ErrorClass::Overloaded => true,
    }
}

/// Whether a failure says more than the one that is known: one that happened says more than one
/// that was only remembered, and of those that were remembered the one that passes first.
fn says_more(new: &Failure, known: &Failure) -> bool {
    match (new.is_resting, known.is_resting) {
        (false, _) => true,
        (true, false) => false,
        (true, true) => {
            (!new.class.is_retryable(), new.retry_after)
                < (!known.class.is_retryable(), known.retry_after)
        }
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
