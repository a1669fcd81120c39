//! Group commit: many logical transactions in one physical one, each under a savepoint.
//!
//! One task owns the connection that writes. It takes what waits, runs each job under a savepoint,
//! commits once, and only then answers. A job that fails is rolled back alone; a commit that fails
//! answers every job of the group with the error, and nothing of the group is stored.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use super::{
    backend::{self, Durability},
    error::StoreError,
    tx::{Committed, Tx},
};
use crate::{
    domain::limits,
    runtime::{
        Stop, TaskKind, Tasks,
        failpoint::{Point, reach},
    },
};

/// What a job does, borrowing the transaction.
pub type JobFuture<'t, T> = Pin<Box<dyn Future<Output = T> + Send + 't>>;

/// Called after each commit with the events that it made durable, in order.
pub type CommitHook = Arc<dyn Fn(&[Committed]) + Send + Sync>;

/// How a job ended, before the commit.
struct Ran {
    is_ok: bool,
    answer: Answer,
}

/// Sends the job's answer once it is known whether its group was committed.
type Answer = Box<dyn FnOnce(bool) + Send>;
type RunJob = Box<dyn for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Ran> + Send>;

struct Job {
    durability: Durability,
    run: RunJob,
}

/// Hands jobs to the writer. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("durability", &self.durability).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the writer's task. It ends when the last handle is gone.
    pub(super) fn start(tx: Tx, hook: CommitHook, tasks: &Tasks) -> Self {
        let (jobs, waiting) = mpsc::channel(limits::WRITER_QUEUE_MAX);
        tasks.spawn(TaskKind::Writer, |stop| work(tx, waiting, hook, stop));
        Self { jobs }
    }

    /// Runs a job and waits for its commit. Dropping the future does not undo a job that was
    /// already handed over.
    pub(super) async fn run<T, E, F>(&self, durability: Durability, job: F) -> Result<T, E>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let run: RunJob = Box::new(move |tx| {
            Box::pin(async move {
                let result = job(tx).await;
                Ran {
                    is_ok: result.is_ok(),
                    answer: Box::new(move |is_committed| {
                        let result = match result {
                            Ok(_) if !is_committed => Err(E::from(not_committed())),
                            other => other,
                        };
                        // Nobody waits any more: the job stands all the same.
                        drop(reply.send(result));
                    }),
                }
            })
        });
        let sent = self.jobs.send(Job { durability, run }).await;
        match (sent, answer.await) {
            (Ok(()), Ok(result)) => result,
            _ => Err(E::from(not_committed())),
        }
    }
}

fn not_committed() -> StoreError {
    StoreError::Unavailable { doing: "commit to the store", source: None }
}

async fn work(mut tx: Tx, mut waiting: mpsc::Receiver<Job>, hook: CommitHook, stop: Stop) {
    let mut group = Vec::with_capacity(limits::GROUP_COMMIT_MAX);
    let mut durability = None;
    loop {
        // Cancel-safe: `recv_many` takes nothing when it is dropped.
        let count = tokio::select! {
            count = waiting.recv_many(&mut group, limits::GROUP_COMMIT_MAX) => count,
            () = stop.wait_hard() => break,
        };
        if count == 0 {
            break;
        }
        metrics::histogram!("agent_runtime_store_group_size")
            .record(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        let wanted = group.iter().map(|j| j.durability).max().unwrap_or(Durability::Full);
        let jobs = std::mem::take(&mut group);
        let (answers, committed) = commit(&mut tx, jobs, wanted, &mut durability).await;
        let is_committed = match committed {
            Ok(events) => {
                // Readers first see the commit, then hear of it.
                hook(&events);
                true
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a commit failed; nothing of it was stored"
                );
                metrics::counter!("agent_runtime_store_commit_failures_total").increment(1);
                durability = None;
                false
            }
        };
        for answer in answers {
            answer(is_committed);
        }
    }
    if let Err(error) = tx.execute(backend::FOLD_LOG).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the log stays beside the database"
        );
    }
}

async fn commit(
    tx: &mut Tx,
    jobs: Vec<Job>,
    wanted: Durability,
    current: &mut Option<Durability>,
) -> (Vec<Answer>, Result<Vec<Committed>, StoreError>) {
    let mut answers = Vec::with_capacity(jobs.len());
    let result = async {
        reach(Point::StoreBeginBefore).await?;
        tx.execute(backend::begin((*current != Some(wanted)).then_some(wanted))).await?;
        *current = Some(wanted);
        let is_alone = jobs.len() == 1;
        for job in jobs {
            // A group of one needs no savepoint: its rollback is the group's.
            tx.begin_job(!is_alone).await?;
            let ran = (job.run)(tx).await;
            answers.push(ran.answer);
            if ran.is_ok {
                tx.end_job().await?;
                continue;
            }
            if is_alone {
                tx.abandon_group();
                tx.execute("ROLLBACK").await?;
                return Ok(Vec::new());
            }
            tx.abandon_job().await?;
        }
        reach(Point::StoreCommitBefore).await?;
        let committed = tx.commit().await?;
        reach(Point::StoreCommitAfter).await?;
        Ok(committed)
    }
    .await;
    if result.is_err() {
        tx.abandon_group();
        // SQLite has already rolled back by itself after some errors; then this one says so.
        if let Err(error) = tx.execute("ROLLBACK").await {
            tracing::debug!(%error, "nothing to roll back");
        }
    }
    (answers, result)
}
