//! What a replica says and asks beside its writer, on connections of its own: that it lives must not
//! wait behind a full queue of jobs.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgListener;
use tokio::time::sleep;

use super::{
    Events, Leases, Replicas, Store,
    backend::{CHANNEL, Database, Pool},
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{Clock, Timestamp};

/// Pause before the server is asked again to say when something was committed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// A connection that writes beside the writer, each statement for itself.
#[derive(Debug)]
pub struct Beside {
    conn: Conn,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// A connection beside the writer's. Only where the store [is shared](Self::is_shared) does it
    /// write.
    pub async fn beside(&self) -> Result<Beside, StoreError> {
        Ok(Beside { conn: self.beside.get().await?, clock: Arc::clone(&self.clock) })
    }

    /// Hears when some replica has committed something.
    pub fn wakeups(&self) -> Wakeups {
        let pool = match &self.beside {
            Pool::Postgres(pool) => Some(pool.clone()),
            Pool::Sqlite(_) => None,
        };
        Wakeups { pool, listener: None }
    }
}

impl Beside {
    /// The database's time.
    pub async fn now(&mut self) -> Result<Timestamp, StoreError> {
        database_now(&mut self.conn, &*self.clock).await
    }

    /// Daemons that work on this database.
    pub fn replicas(&mut self) -> Replicas<'_> {
        Replicas { conn: &mut self.conn }
    }

    /// Who has which duty.
    pub fn leases(&mut self) -> Leases<'_> {
        Leases { conn: &mut self.conn }
    }

    /// The event log.
    pub fn events(&mut self) -> Events<'_> {
        Events { conn: &mut self.conn }
    }
}

/// The time of the database where machines share one, this process's otherwise.
pub(super) async fn database_now(
    conn: &mut Conn,
    clock: &dyn Clock,
) -> Result<Timestamp, StoreError> {
    if !conn.is_shared() {
        return Ok(clock.now());
    }
    query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")
        .one_number(conn)
        .await
        .map(Timestamp::from_micros)
        .map_err(StoreError::unavailable("ask the database for the time"))
}

/// Hears of commits. What is said while it does not listen is not heard: look from time to time.
#[derive(Debug)]
pub struct Wakeups {
    pool: Option<sqlx::PgPool>,
    listener: Option<PgListener>,
}

impl Wakeups {
    /// Waits until something was committed, or may have been; for ever where nobody else writes.
    /// Cancel-safe.
    pub async fn next(&mut self) {
        let Some(pool) = &self.pool else { return std::future::pending().await };
        loop {
            if let Some(listener) = &mut self.listener {
                match listener.recv().await {
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%error, "the database does not say any more when something was committed");
                        self.listener = None;
                    }
                }
            }
            match listen(pool).await {
                Ok(listener) => {
                    self.listener = Some(listener);
                    // Something may have been committed before.
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot hear of commits; looking from time to time");
                    sleep(LISTEN_AGAIN).await;
                }
            }
        }
    }
}

async fn listen(pool: &sqlx::PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Connections for that, apart from those that read pages.
pub(super) fn pool(database: &Database, readers: &Pool) -> Pool {
    match database {
        Database::Sqlite => readers.clone(),
        Database::Postgres(server) => server.pool_beside(),
    }
}
