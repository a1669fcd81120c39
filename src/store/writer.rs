//! Group commit: many logical transactions in one physical one, each under a savepoint.
//!
//! One task owns the connection that writes. It takes what waits, runs each job under a savepoint,
//! commits once, and only then answers. A job that fails is rolled back alone; a commit that fails
//! answers every job of the group with the error, and nothing of the group is stored.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    backend::Durability,
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

/// Why a group was not committed, as each of its jobs is told.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Unavailable,
    Busy,
    Fenced,
}

impl Failure {
    const fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Busy => Self::Busy,
            StoreError::Fenced => Self::Fenced,
            _ => Self::Unavailable,
        }
    }

    const fn error(self) -> StoreError {
        match self {
            Self::Unavailable => not_committed(),
            Self::Busy => StoreError::Busy,
            Self::Fenced => StoreError::Fenced,
        }
    }
}

/// Sends the job's answer once it is known whether its group was committed.
type Answer = Box<dyn FnOnce(Option<Failure>) + Send>;
/// Runs the job; without a transaction it is told why there is none.
type RunJob = Box<dyn for<'t> FnOnce(Result<&'t mut Tx, Failure>) -> JobFuture<'t, Ran> + Send>;

struct Job {
    durability: Durability,
    /// No other replica may write meanwhile.
    runs_alone: bool,
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
    pub(super) async fn run<T, E, F>(
        &self,
        durability: Durability,
        runs_alone: bool,
        job: F,
    ) -> Result<T, E>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let run: RunJob = Box::new(move |tx| {
            Box::pin(async move {
                let result = match tx {
                    Ok(tx) => job(tx).await,
                    Err(failure) => Err(E::from(failure.error())),
                };
                Ran {
                    is_ok: result.is_ok(),
                    answer: Box::new(move |failure| {
                        let result = match (result, failure) {
                            (Ok(_), Some(failure)) => Err(E::from(failure.error())),
                            (other, _) => other,
                        };
                        // Nobody waits any more: the job stands all the same.
                        drop(reply.send(result));
                    }),
                }
            })
        });
        let sent = self.jobs.send(Job { durability, runs_alone, run }).await;
        match (sent, answer.await) {
            (Ok(()), Ok(result)) => result,
            _ => Err(E::from(not_committed())),
        }
    }
}

const fn not_committed() -> StoreError {
    StoreError::Unavailable { doing: "commit to the store", source: None }
}

async fn work(mut tx: Tx, mut waiting: mpsc::Receiver<Job>, hook: CommitHook, stop: Stop) {
    let mut group = Vec::with_capacity(limits::GROUP_COMMIT_MAX);
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
        let jobs = std::mem::take(&mut group);
        let (answers, mut committed) = commit(&mut tx, jobs).await;
        if committed.is_err() && tx.is_shared() {
            committed = reconnect(&mut tx, &mut waiting, &stop, committed).await;
        }
        let failure = match committed {
            Ok(events) => {
                // Readers first see the commit, then hear of it.
                hook(&events);
                None
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a commit failed; nothing of it was stored"
                );
                metrics::counter!("agent_runtime_store_commit_failures_total").increment(1);
                Some(Failure::of(&error))
            }
        };
        for answer in answers {
            answer(failure);
        }
    }
    tx.close().await;
}

/// How long a group may take where the database is a server: nothing that is lost on the way comes
/// back by itself. It lies below a replica's lease and above the bounds of the server's own.
const GROUP_MAX: Duration = Duration::from_secs(12);

async fn commit(tx: &mut Tx, jobs: Vec<Job>) -> (Vec<Answer>, Result<Vec<Committed>, StoreError>) {
    let mut answers = Vec::with_capacity(jobs.len());
    let result = if tx.is_shared() {
        let group = tokio::time::timeout(GROUP_MAX, work_off(tx, jobs, &mut answers)).await;
        group.unwrap_or_else(|_| {
            tx.lose();
            Err(StoreError::Unavailable { doing: "write to the store in time", source: None })
        })
    } else {
        work_off(tx, jobs, &mut answers).await
    };
    if result.is_err() && !tx.is_in_doubt() {
        tx.roll_back().await;
    }
    (answers, result)
}

async fn work_off(
    tx: &mut Tx,
    jobs: Vec<Job>,
    answers: &mut Vec<Answer>,
) -> Result<Vec<Committed>, StoreError> {
    let mut left = jobs.into_iter();
    let done = do_all(tx, &mut left, answers).await;
    if let Err(error) = &done {
        // Who was not reached is told the same as the others.
        for job in left {
            answers.push((job.run)(Err(Failure::of(error))).await.answer);
        }
    }
    done
}

async fn do_all(
    tx: &mut Tx,
    jobs: &mut std::vec::IntoIter<Job>,
    answers: &mut Vec<Answer>,
) -> Result<Vec<Committed>, StoreError> {
    let all = jobs.as_slice();
    let promise = all.iter().map(|j| j.durability).max().unwrap_or(Durability::Full);
    let runs_alone = all.iter().any(|j| j.runs_alone);
    let is_one = all.len() == 1;
    reach(Point::StoreBeginBefore).await?;
    tx.begin(promise, runs_alone).await?;
    for job in jobs {
        // A group of one needs no savepoint: its rollback is the group's.
        tx.begin_job(!is_one).await?;
        let ran = (job.run)(Ok(tx)).await;
        answers.push(ran.answer);
        if ran.is_ok {
            tx.end_job().await?;
            continue;
        }
        if is_one {
            tx.roll_back().await;
            return Ok(Vec::new());
        }
        tx.abandon_job().await?;
    }
    reach(Point::StoreCommitBefore).await?;
    tx.commit().await
}

/// How long the answer of a commit that went out is looked for. After that, this replica's lease is
/// over, and what it began is another's to find out.
const DOUBT_MAX: Duration = Duration::from_secs(15);
/// Between two attempts to connect again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long one attempt to connect may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// After a group failed: makes sure that there is a connection, and finds out whether the commit
/// stands if that is in doubt. Who waits meanwhile is told that the store is not there.
async fn reconnect(
    tx: &mut Tx,
    waiting: &mut mpsc::Receiver<Job>,
    stop: &Stop,
    failed: Result<Vec<Committed>, StoreError>,
) -> Result<Vec<Committed>, StoreError> {
    let since = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        let attempt = async {
            tx.reconnect().await.map_err(StoreError::unavailable("connect to the database"))?;
            if !tx.is_in_doubt() {
                return Ok(None);
            }
            tx.settle().await
        };
        match tokio::time::timeout(CONNECT_MAX, attempt).await {
            Ok(Ok(Some(events))) => return Ok(events),
            Ok(Ok(None)) => return failed,
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the database does not answer; trying again"
            ),
            Err(_) => tracing::warn!("the database does not answer in time; trying again"),
        }
        if since.elapsed() > DOUBT_MAX && tx.is_in_doubt() {
            tx.give_up();
            return failed;
        }
        if !tx.is_in_doubt() {
            // The next group tries again.
            return failed;
        }
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => break,
                () = stop.wait_hard() => return failed,
                // Nothing of it was begun.
                job = waiting.recv() => match job {
                    Some(job) => drop(job),
                    None => return failed,
                },
            }
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}
