//! What a daemon that is gone left behind goes back to the queue, or to a person.
//!
//! Every tool process of that daemon is dead by now: its own directory's lock proves it, or its lease
//! was over, before whose end its tools die. So an intent without a result is all that can be left.

use std::sync::Arc;

use super::{
    Inner, calls,
    ending::{self, End, finish},
    error::CommandError,
    model, questions,
    transition::{Actor, change},
    verbs::unknown_effects,
};
use crate::{
    domain::{
        AgentName, CallInput, CallState, EventBody, RunId, RunInput, RunState, ToolCall, ToolName,
        WaitReason, limits,
    },
    store::{Durability, RunCore, StoreError, Tx},
};

/// Recovers every run whose owner is gone. Two replicas may do so at once: each run is looked at
/// again in its own transaction.
pub(super) async fn recover(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let mut reader = inner.store.read().await?;
    // First, so that it counts only those whose runs are seen below.
    let ended = reader.replicas().unrecovered().await?;
    let left = reader.runs().abandoned().await?;
    drop(reader);
    if !left.is_empty() {
        recover_all(inner, left).await?;
    }
    let ended: Vec<u64> = ended.into_iter().map(|replica| replica.boot_epoch).collect();
    if ended.is_empty() {
        return Ok(());
    }
    inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                for epoch in ended {
                    tx.replicas().recovered(epoch).await?;
                }
                Ok(())
            })
        })
        .await
}

async fn recover_all(inner: &Arc<Inner>, left: Vec<RunId>) -> Result<(), StoreError> {
    let started = tokio::time::Instant::now();
    let count = left.len();
    // All of them wait for the same few commits; a damaged one does not stop the others.
    let all = futures_util::future::join_all(left.into_iter().map(|id| recover_one(inner, id)));
    for result in all.await {
        match result {
            Ok(()) => {}
            // They stay with who is gone, and are looked at again.
            Err(CommandError::Unavailable { source, .. }) => return Err(source),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "a run could not be recovered"
            ),
        }
    }
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        runs = count,
        duration_ms = millis,
        "recovered the runs of a daemon that is gone"
    );
    Ok(())
}

/// Recovers a run that nobody works on.
pub(super) async fn recover_one(inner: &Arc<Inner>, id: RunId) -> Result<(), CommandError> {
    let shared = Arc::clone(inner);
    inner
        .store
        .write(Durability::Normal, move |tx| {
            Box::pin(async move {
                let Some(mut run) = tx.runs().core(id).await? else { return Ok(()) };
                if !matches!(run.state, RunState::Running | RunState::Cancelling) {
                    return Ok(());
                }
                // Another replica may have recovered it, and somebody else work on it.
                if let Some(owner) = run.owner
                    && tx.replicas().is_live(owner).await?
                {
                    return Ok(());
                }
                let believed = run.epoch;
                recover_run(tx, &shared, &mut run).await?;
                tx.runs().save(&run, believed).await?;
                Ok(())
            })
        })
        .await
}

async fn recover_run(tx: &mut Tx, inner: &Inner, run: &mut RunCore) -> Result<(), CommandError> {
    let actor = Actor::system();
    model::charge(tx, inner, run).await?;
    if run.state == RunState::Cancelling {
        let unknown_effects = unknown_effects(tx, run).await?;
        run.epoch += 1;
        let end = End::Cancelled { reason: None, unknown_effects };
        finish(tx, inner, run, end, None, &actor).await?;
        return Ok(());
    }
    let from_epoch = run.epoch;
    run.epoch += 1;
    run.owner = None;
    run.recoveries += 1;
    let is_interrupted = run.interrupt.take().is_some();
    let unknown = settle_started(tx, run).await?;
    // What the call brought in before the crash is on the disk, and no record says so.
    run.tainted |= unknown.as_ref().is_some_and(|call| may_have_read(inner, run, call));
    let paused = if unknown.is_some() {
        Some(WaitReason::EffectUnknown)
    } else if is_interrupted {
        // A person was told that it stops; a crash in between does not take that back.
        Some(WaitReason::Interrupted)
    } else if inner.lockdown.is_on() {
        Some(WaitReason::Lockdown)
    } else if run.recoveries > limits::RECOVERIES_MAX {
        Some(WaitReason::Operator)
    } else {
        None
    };
    run.wait_reason = paused;
    run.wake_at = Some(tx.now().plus(inner.options.wait_max));
    let body = EventBody::RunRecovered {
        from_epoch,
        to_epoch: run.epoch,
        recoveries: run.recoveries,
        paused,
    };
    let input = if paused.is_some() { RunInput::RecoverPaused } else { RunInput::Recover };
    change(tx, run, input, body, &actor)?;
    metrics::counter!("agent_runtime_runs_recovered_total").increment(1);
    if paused == Some(WaitReason::Interrupted) {
        // The run that is ready now is found by the first look of the supervisor.
        ending::give_way(tx, run).await?;
    }
    let Some(call) = unknown else { return Ok(()) };
    let agents = inner.authorizer.agents();
    match agents.values().find(|a| a.name.as_str() == run.agent) {
        Some(agent) => questions::ask_unknown(tx, inner, run, agent, &call).await?,
        None => {
            finish(tx, inner, run, calls::agent_removed(&run.agent.clone()), None, &actor).await?;
        }
    }
    Ok(())
}

/// Settles the calls that had begun; returns the unsafe one of which nobody knows.
async fn settle_started(tx: &mut Tx, run: &RunCore) -> Result<Option<ToolCall>, StoreError> {
    let mut unknown = None;
    for mut call in tx.calls().of_step(run.id, run.step).await? {
        if call.state == CallState::Started {
            calls::advance(&mut call, CallInput::Crash)?;
            tx.calls().save(&call).await?;
            if call.state == CallState::Unknown {
                unknown = Some(call);
            }
        }
    }
    Ok(unknown)
}

/// Whether a call of which nobody knows may have read untrusted content.
fn may_have_read(inner: &Inner, run: &RunCore, call: &ToolCall) -> bool {
    let name = call.tool.parse::<ToolName>();
    let reaches_out = matches!(name, Ok(ToolName::Exec | ToolName::Shell | ToolName::HttpRequest));
    let agent = run.agent.parse::<AgentName>();
    reaches_out && agent.is_ok_and(|name| !inner.hosts.effective(&name).is_empty())
}
