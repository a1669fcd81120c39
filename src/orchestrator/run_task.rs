//! One run in progress: commit, carry out the effect, commit, and so on. Local variables only;
//! everything can be rebuilt from the store.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Inner, advance,
    capabilities::Held,
    consent::Looked,
    ending::{End, finish},
    error::CommandError,
    live::Wish,
    model,
    transition::Actor,
    verbs::unknown_effects,
    work::{Look, Next, Outcome, Started, Work},
};
use crate::{
    domain::{
        Effect, RunId, RunState, ToolCallId, ToolOutcome, ToolStatus,
        event::{EphemeralBody, OutputStream},
    },
    llm::{Again, Completion, LlmError, Request},
    runtime::{Stop, StopStage},
    store::{Durability, StoreError},
    tools::{CallContext, Invoked},
};

/// Messages of a conversation that a run is shown at most; the model's context is the finer bound.
const HISTORY_MAX: u32 = 2_000;
/// Wait before a commit that failed is tried again: a full disk is not emptied faster.
const COMMIT_RETRY: Duration = Duration::from_millis(500);
/// Pieces of live output that may wait for the feed.
const LIVE_PIECES_MAX: usize = 64;

/// Works on a run until it waits, ends, or is no longer ours. Returns the run that is ready
/// because of it.
pub(super) async fn drive(
    inner: &Arc<Inner>,
    id: RunId,
    wishes: watch::Receiver<Wish>,
    stop: Stop,
) -> Option<RunId> {
    // Before the claim: a lockdown in between is found out.
    let lockdowns = inner.lockdown.count();
    let task = RunTask { inner: Arc::clone(inner), id, lockdowns, wishes, stop };
    // Nothing of the task is used after a panic: the store is what the run is.
    match AssertUnwindSafe(Box::pin(task.work())).catch_unwind().await {
        Ok(Ok(ready)) => return ready,
        Ok(Err(CommandError::Conflict { code: "run.stale", .. })) => {
            tracing::info!("the run is no longer ours; leaving it");
            return None;
        }
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the run's task gave up");
            if matches!(error, CommandError::Unavailable { .. }) {
                // Before the claim: it is looked at again. After it: the daemon stops.
                return None;
            }
        }
        Err(_panic) => tracing::error!("the run's task panicked"),
    }
    abandon(inner, id).await.unwrap_or_else(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the run could not be ended");
        None
    })
}

/// Ends a run whose task cannot go on because of a bug or a damaged row: without a task nobody
/// would look at it again, and its conversation would be busy for ever.
async fn abandon(inner: &Arc<Inner>, id: RunId) -> Result<Option<RunId>, CommandError> {
    let shared = Arc::clone(inner);
    inner
        .store
        .write(Durability::Full, move |tx| {
            Box::pin(async move {
                let Some(mut run) = tx.runs().core(id).await? else { return Ok(None) };
                model::charge(tx, &shared, &mut run).await?;
                let end = match run.state {
                    RunState::Running => End::failed(
                        "run.internal",
                        "the daemon failed at this run; its log says why",
                    ),
                    RunState::Cancelling => {
                        let unknown_effects = unknown_effects(tx, &run).await?;
                        End::Cancelled { reason: None, unknown_effects }
                    }
                    _ => return Ok(None),
                };
                let epoch = run.epoch;
                let ready = finish(tx, &shared, &mut run, end, None, &Actor::system()).await?;
                tx.runs().save(&run, epoch).await?;
                Ok(ready)
            })
        })
        .await
}

/// A run's task: holds nothing that the store does not.
pub(super) struct RunTask {
    inner: Arc<Inner>,
    id: RunId,
    lockdowns: u64,
    wishes: watch::Receiver<Wish>,
    stop: Stop,
}

impl RunTask {
    async fn work(mut self) -> Result<Option<RunId>, CommandError> {
        let Some(work) = self.load(None).await? else { return Ok(None) };
        let (mut work, mut next) = self.commit(work, Outcome::Begin).await?;
        loop {
            let outcome = match next {
                Next::Leave(ready) => return Ok(ready),
                Next::CallModel(request) => Outcome::Model(self.call_model(&work, request).await),
                Next::Look(look) => Outcome::Looked(self.look(look).await),
                Next::RunCall(call) => Outcome::Tool(call.index, self.run_call(&work, call).await),
            };
            if self.stop.stage() == StopStage::Hard || self.wishes.borrow().is_fenced() {
                // What was cut off is not a result: whoever recovers the run finds the intent.
                return Ok(None);
            }
            (work, next) = self.commit(work, outcome).await?;
        }
    }

    /// Builds the run's memory from the store. `epoch`: the claim that this task already holds.
    pub(super) async fn load(&self, epoch: Option<u64>) -> Result<Option<Work>, StoreError> {
        let mut reader = self.inner.store.read().await?;
        let Some((core, run)) = reader.runs().with_core(self.id).await? else { return Ok(None) };
        let is_ours = match epoch {
            None => core.state == RunState::Queued && core.ready,
            Some(epoch) => core.epoch == epoch,
        };
        if !is_ours {
            return Ok(None);
        }
        // No call comes before the first step.
        let calls = match core.step {
            0 => Vec::new(),
            step => reader.calls().of_step(self.id, step).await?,
        };
        let history =
            reader.conversations().last_messages(core.conversation_id, HISTORY_MAX).await?;
        // What an earlier run has read from outside stands in its messages, and so does what
        // somebody else has said.
        let is_heir_to_taint = !core.tainted
            && history.iter().any(|m| m.run_id != self.id)
            && reader.conversations().is_tainted(core.conversation_id, core.principal).await?;
        let agents = self.inner.authorizer.agents();
        let agent = agents.values().find(|a| a.name.as_str() == core.agent).cloned();
        let record = match epoch {
            Some(_) => reader.capabilities().of_run(self.id).await?,
            None => None,
        };
        let capability = record.and_then(|record| Held::stored(&self.inner, &core, &record));
        Ok(Some(Work {
            id: self.id,
            seq: core.seq,
            time_left: Duration::ZERO,
            epoch,
            input: run.input,
            schemas: agent.as_ref().map_or_else(|| Arc::from([]), |a| model::schemas(a)),
            is_heir_to_taint,
            agent,
            capability,
            lockdowns: self.lockdowns,
            history: history.into_iter().map(Arc::new).collect(),
            calls,
            keys: BTreeSet::new(),
            counted: tokio::time::Instant::now(),
        }))
    }

    /// Commits an outcome and gets the next effect. While the store cannot commit, the outcome is
    /// kept here and tried again: it has happened and must not be lost.
    pub(super) async fn commit(
        &self,
        work: Work,
        outcome: Outcome,
    ) -> Result<(Work, Next), CommandError> {
        let durability = durability(&work, &outcome);
        let epoch = work.epoch;
        let mut work = Some(work);
        loop {
            let current = match work.take() {
                Some(work) => work,
                None => match self.load(epoch).await {
                    Ok(Some(work)) => work,
                    Ok(None) => return Err(StoreError::Stale { what: self.id.to_string() }.into()),
                    Err(error) => {
                        self.wait_for_store(&error).await?;
                        continue;
                    }
                },
            };
            let (inner, outcome) = (Arc::clone(&self.inner), outcome.clone());
            let is_stopping = self.stop.is_soft();
            let result = self
                .inner
                .store
                .write(durability, move |tx| {
                    Box::pin(async move {
                        advance::advance(tx, &inner, current, outcome, is_stopping).await
                    })
                })
                .await;
            match result {
                Err(CommandError::Unavailable { source: StoreError::Fenced, .. }) => {
                    return Err(StoreError::Stale { what: self.id.to_string() }.into());
                }
                Err(CommandError::Unavailable { source, .. }) => {
                    self.wait_for_store(&source).await?;
                }
                other => return other,
            }
        }
    }

    async fn wait_for_store(&self, error: &StoreError) -> Result<(), StoreError> {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the store cannot commit; trying again"
        );
        let mut wishes = self.wishes.clone();
        // Every branch is cancel-safe.
        tokio::select! {
            () = tokio::time::sleep(COMMIT_RETRY) => Ok(()),
            // The store may never say so: it is what does not answer.
            Ok(_) = wishes.wait_for(|wish| wish.is_fenced()) => {
                Err(StoreError::Stale { what: self.id.to_string() })
            }
            () = self.stop.wait_hard() => Err(StoreError::Unavailable {
                doing: "commit before the daemon stopped",
                source: None,
            }),
        }
    }

    async fn call_model(&mut self, work: &Work, request: Request) -> Result<Completion, LlmError> {
        let token = self.stop.hard_child();
        let (deltas, pieces) = mpsc::channel(LIVE_PIECES_MAX);
        let inner = Arc::clone(&self.inner);
        let deltas = inner.live.feed.has_listeners(self.id).then_some(deltas);
        let again = self.another_hold(work, request.clone());
        let answer = inner.llm.complete(request, deltas, Some(again), token.clone());
        let forwarded = forward_deltas(&inner, self.id, work.seq, pieces);
        let stopper =
            Stopper { token: &token, time_left: work.time_left, stops: Wish::stops_model };
        let (answer, ()) = tokio::join!(stopper.watch(answer, &mut self.wishes), forwarded);
        answer
    }

    /// Charges what was held for an attempt that was lost, and holds as much for another one, before
    /// that one begins.
    fn another_hold(&self, work: &Work, request: Request) -> Again {
        let (inner, id, epoch) = (Arc::clone(&self.inner), self.id, work.epoch);
        Again(Arc::new(move || {
            let (inner, request) = (Arc::clone(&inner), request.clone());
            Box::pin(async move {
                let shared = Arc::clone(&inner);
                let held: Result<bool, StoreError> = inner
                    .store
                    .write(Durability::Normal, move |tx| {
                        Box::pin(async move {
                            let Some(mut run) = tx.runs().core(id).await? else { return Ok(false) };
                            let Some(epoch) = epoch.filter(|epoch| *epoch == run.epoch) else {
                                return Ok(false);
                            };
                            let fits = model::hold_again(tx, &shared, &mut run, &request).await?;
                            tx.runs().save(&run, epoch).await?;
                            Ok(fits)
                        })
                    })
                    .await;
                // What cannot be held is not spent.
                held.unwrap_or(false)
            })
        }))
    }

    async fn look(&self, look: Look) -> Looked {
        let Look { call_id, invocation, grant } = look;
        let found = self.inner.tools.look(&invocation, Arc::clone(&grant)).await;
        Looked { call_id, grant, bound: found.map(Arc::new) }
    }

    async fn run_call(&mut self, work: &Work, call: Started) -> Invoked {
        let Some(agent) = &work.agent else {
            // Policy decided for an agent: there is one.
            return ToolOutcome::message(ToolStatus::Error, "the agent is gone").into();
        };
        let Started { call_id, invocation, grant, bound, note, .. } = call;
        let token = self.stop.hard_child();
        let (output, pieces) = mpsc::channel(LIVE_PIECES_MAX);
        let inner = Arc::clone(&self.inner);
        let output = inner.live.feed.has_listeners(self.id).then_some(output);
        let stop = token.clone();
        let agent = agent.name.clone();
        let cx = CallContext { call_id, run: self.id, agent, stop, output, bound };
        let effect = inner.tools.invoke(&invocation, grant, cx);
        let stops = |wish: Wish| wish.stops_tool(call_id);
        let stopper = Stopper { token: &token, time_left: work.time_left, stops };
        let (mut invoked, ()) = tokio::join!(
            stopper.watch(effect, &mut self.wishes),
            forward_output(&inner, self.id, work.seq, call_id, pieces),
        );
        if let Some(note) = note.filter(|_| invoked.outcome.status != ToolStatus::Ok) {
            let output = &mut invoked.outcome.output;
            if !output.is_empty() && !output.ends_with('\n') {
                output.push('\n');
            }
            output.push_str(note);
        }
        invoked
    }
}

/// What makes an effect stop before its end.
struct Stopper<'a, S> {
    token: &'a CancellationToken,
    time_left: Duration,
    stops: S,
}

impl<S: Fn(Wish) -> bool + Send + Sync> Stopper<'_, S> {
    /// Waits for an effect, and tells it to stop as soon as somebody wishes so or the run's time
    /// is over; it still answers.
    async fn watch<T: Send>(
        self,
        effect: impl Future<Output = T> + Send,
        wishes: &mut watch::Receiver<Wish>,
    ) -> T {
        tokio::pin!(effect);
        // `wait_for` and the timer are cancel-safe; the effect is only polled here. Wishes first:
        // what was stopped before it began does not begin.
        tokio::select! {
            biased;
            _ = wishes.wait_for(|wish| (self.stops)(*wish)) => self.token.cancel(),
            result = &mut effect => return result,
            () = tokio::time::sleep(self.time_left) => self.token.cancel(),
        }
        effect.await
    }
}

async fn forward_deltas(inner: &Inner, id: RunId, seq: u64, mut pieces: mpsc::Receiver<String>) {
    let tell = |text: String| {
        if !text.is_empty() {
            inner.live.feed.publish_ephemeral(id, seq, EphemeralBody::MessageDelta { text });
        }
    };
    // A value may lie across two pieces.
    let mut clean = inner.redactor.stream();
    while let Some(piece) = pieces.recv().await {
        tell(clean.push(&piece));
    }
    tell(clean.finish());
}

async fn forward_output(
    inner: &Inner,
    id: RunId,
    after_seq: u64,
    call_id: ToolCallId,
    mut pieces: mpsc::Receiver<(OutputStream, String)>,
) {
    // The tool has masked them already: it knows which pieces belong together.
    while let Some((stream, text)) = pieces.recv().await {
        let body = EphemeralBody::ToolOutput { call_id, stream, text };
        inner.live.feed.publish_ephemeral(id, after_seq, body);
    }
}

/// What the commit must promise. A commit that holds the intent of an unsafe effect, or a question
/// to a person, must survive power loss before the effect begins.
fn durability(work: &Work, outcome: &Outcome) -> Durability {
    let is_unsafe = match outcome {
        Outcome::Model(Ok(completion)) => completion
            .calls
            .iter()
            .any(|c| super::calls::effect_of(&c.name, &c.args) == Effect::Unsafe),
        Outcome::Begin | Outcome::Tool(..) | Outcome::Looked(_) | Outcome::Model(Err(_)) => {
            work.calls.iter().any(|c| c.outcome.is_none() && c.effect == Effect::Unsafe)
        }
    };
    if is_unsafe { Durability::Full } else { Durability::Normal }
}

#[cfg(test)]
impl RunTask {
    /// For tests that carry out a run's effects themselves.
    pub(super) fn by_hand(inner: &Arc<Inner>, id: RunId) -> Self {
        let wishes = watch::channel(Wish::default()).1;
        let lockdowns = inner.lockdown.count();
        Self { inner: Arc::clone(inner), id, lockdowns, wishes, stop: Stop::default() }
    }
}
