//! Which daemons work on this database, and what each of them must still look at.
//!
//! Invariants: a replica is one start of a daemon, named by its boot epoch, which is never used
//! twice. A row that has ended never lives again: who was taken over joins under a new epoch. All
//! times are the database's, so that two machines need not agree about theirs.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
};
use crate::domain::{RunId, Timestamp, limits};

/// What a daemon says about itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReplica {
    /// What people call its machine.
    pub name: String,
    /// Where it answers, once it does.
    pub address: String,
    /// Its program's version.
    pub version: String,
    /// The number of the newest migration that its program knows.
    pub schema: u64,
}

/// A daemon that joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Which start it is.
    pub boot_epoch: u64,
    /// What it said about itself.
    pub about: NewReplica,
    /// When it joined.
    pub started_at: Timestamp,
    /// When the database last heard of it.
    pub beat_at: Timestamp,
    /// From then on others may take it over.
    pub expires_at: Timestamp,
    /// The newest generation that is in force there; none while it starts.
    pub seen_generation: Option<u64>,
    /// Whether it takes no new work.
    pub is_draining: bool,
    /// When it left or was taken over.
    pub ended_at: Option<Timestamp>,
    /// Whether the runs that it left behind were recovered.
    pub is_recovered: bool,
}

/// What a living replica says with each beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Where it answers.
    pub address: String,
    /// Whether it takes no new work.
    pub is_draining: bool,
}

/// Access to replicas.
#[derive(Debug)]
pub struct Replicas<'c> {
    pub(super) conn: &'c mut Conn,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT boot_epoch, name, address, version, schema, started_at, beat_at, expires_at, \
             seen_generation, draining, ended_at, recovered FROM replicas ",
            $rest
        )
    };
}

impl Replicas<'_> {
    /// Adds a replica that lives from `now` on. Until it [enters](Self::enter) it decides nothing, and
    /// no change waits for it.
    pub async fn join(
        &mut self,
        boot_epoch: u64,
        new: &NewReplica,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO replicas (boot_epoch, name, address, version, schema, started_at, \
             beat_at, expires_at, seen_generation, draining, last_group, ended_at, recovered) \
             VALUES ($1, $2, $3, $4, $5, $6, $6, $7, NULL, 0, 0, NULL, 0)",
        )
        .bind(cols::int(boot_epoch))
        .bind(new.name.clone())
        .bind(new.address.clone())
        .bind(new.version.clone())
        .bind(cols::int(new.schema))
        .bind(now.as_micros())
        .bind(now.plus(limits::REPLICA_TTL).as_micros())
        .execute(self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("join the replicas"))
    }

    /// Says that a replica lives; `false` when it has ended: it must stop what it does.
    pub async fn beat(
        &mut self,
        boot_epoch: u64,
        beat: &Beat,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        query(
            "UPDATE replicas SET beat_at = $1, expires_at = $2, address = $3, draining = $4 \
             WHERE boot_epoch = $5 AND ended_at IS NULL",
        )
        .bind(now.as_micros())
        .bind(now.plus(limits::REPLICA_TTL).as_micros())
        .bind(beat.address.clone())
        .bind(i64::from(beat.is_draining))
        .bind(cols::int(boot_epoch))
        .execute(self.conn)
        .await
        .map(|rows| rows == 1)
        .map_err(StoreError::unavailable("say that this replica lives"))
    }

    /// Replicas that live, expired or not, in the order of their starts.
    pub async fn live(&mut self) -> Result<Vec<Replica>, StoreError> {
        const SQL: &str = select!("WHERE recovered = 0 AND ended_at IS NULL ORDER BY boot_epoch");
        self.some(SQL, i64::MAX).await
    }

    /// Replicas, newest first.
    pub async fn newest(&mut self, limit: u32) -> Result<Vec<Replica>, StoreError> {
        const SQL: &str = select!("ORDER BY boot_epoch DESC LIMIT $1");
        self.some(SQL, i64::from(limit)).await
    }

    /// Replicas that have ended and whose runs nobody has recovered yet.
    pub async fn unrecovered(&mut self) -> Result<Vec<Replica>, StoreError> {
        const SQL: &str =
            select!("WHERE recovered = 0 AND ended_at IS NOT NULL ORDER BY boot_epoch");
        self.some(SQL, i64::MAX).await
    }

    async fn some(&mut self, sql: &'static str, limit: i64) -> Result<Vec<Replica>, StoreError> {
        let mut query = query(sql);
        if sql.ends_with("$1") {
            query = query.bind(limit);
        }
        let rows = query
            .fetch_all(self.conn)
            .await
            .map_err(StoreError::unavailable("read the replicas"))?;
        rows.iter().map(replica).collect()
    }

    /// Whether runs of this replica may still be worked on there.
    pub async fn is_live(&mut self, boot_epoch: u64) -> Result<bool, StoreError> {
        query("SELECT boot_epoch FROM replicas WHERE boot_epoch = $1 AND ended_at IS NULL")
            .bind(cols::int(boot_epoch))
            .fetch_optional(self.conn)
            .await
            .map(|row| row.is_some())
            .map_err(StoreError::unavailable("look for a replica"))
    }

    /// Ends a replica whose lease is over at `now`; `false` when it is not, or it had ended. Only in
    /// an administrative change: then no group of that replica is under way.
    pub async fn end_expired(
        &mut self,
        boot_epoch: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        query(
            "UPDATE replicas SET ended_at = $1 \
             WHERE boot_epoch = $2 AND ended_at IS NULL AND expires_at < $1",
        )
        .bind(now.as_micros())
        .bind(cols::int(boot_epoch))
        .execute(self.conn)
        .await
        .map(|rows| rows == 1)
        .map_err(StoreError::unavailable("take over a replica"))
    }

    /// Ends a replica that leaves by itself, or of which nothing is left.
    pub async fn leave(&mut self, boot_epoch: u64, now: Timestamp) -> Result<(), StoreError> {
        query("UPDATE replicas SET ended_at = $1 WHERE boot_epoch = $2 AND ended_at IS NULL")
            .bind(now.as_micros())
            .bind(cols::int(boot_epoch))
            .execute(self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("leave the replicas"))
    }

    /// Ends every other replica: for a database that one daemon owns alone.
    pub async fn end_others(&mut self, own: u64, now: Timestamp) -> Result<(), StoreError> {
        query(
            "UPDATE replicas SET ended_at = $1 \
             WHERE recovered = 0 AND ended_at IS NULL AND boot_epoch <> $2",
        )
        .bind(now.as_micros())
        .bind(cols::int(own))
        .execute(self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("end the replicas of before"))
    }

    /// Notes that nothing of a replica that has ended waits to be recovered.
    pub async fn recovered(&mut self, boot_epoch: u64) -> Result<(), StoreError> {
        for sql in [
            "UPDATE replicas SET recovered = 1 WHERE boot_epoch = $1 AND ended_at IS NOT NULL",
            "DELETE FROM nudges WHERE boot_epoch = $1",
        ] {
            query(sql)
                .bind(cols::int(boot_epoch))
                .execute(self.conn)
                .await
                .map_err(StoreError::unavailable("note that a replica was recovered"))?;
        }
        Ok(())
    }

    /// Forgets replicas that ended before `end`; how many.
    pub async fn forget_before(&mut self, end: Timestamp) -> Result<u64, StoreError> {
        query("DELETE FROM replicas WHERE recovered = 1 AND ended_at < $1")
            .bind(end.as_micros())
            .execute(self.conn)
            .await
            .map_err(StoreError::unavailable("forget replicas"))
    }

    /// How many administrative changes there were.
    pub async fn generation(&mut self) -> Result<u64, StoreError> {
        let row = query("SELECT value FROM counters WHERE name = 'generation'")
            .fetch_one(self.conn)
            .await
            .map_err(StoreError::unavailable("read the generation"))?;
        Cols::new(&row).number()
    }

    /// A replica that has read everything as it was at `generation` begins to decide; `false` when
    /// there was a change since: it must read again. Within a group, so that no change is between.
    pub async fn enter(&mut self, boot_epoch: u64, generation: u64) -> Result<bool, StoreError> {
        if self.generation().await? != generation {
            return Ok(false);
        }
        query("UPDATE replicas SET seen_generation = $1 WHERE boot_epoch = $2 AND ended_at IS NULL")
            .bind(cols::int(generation))
            .bind(cols::int(boot_epoch))
            .execute(self.conn)
            .await
            .map(|rows| rows == 1)
            .map_err(StoreError::unavailable("enter the replicas"))
    }

    /// Notes that everything up to a generation is in force at a replica.
    pub async fn saw(&mut self, boot_epoch: u64, generation: u64) -> Result<(), StoreError> {
        query(
            "UPDATE replicas SET seen_generation = $1 \
             WHERE boot_epoch = $2 AND seen_generation < $1 AND ended_at IS NULL",
        )
        .bind(cols::int(generation))
        .bind(cols::int(boot_epoch))
        .execute(self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("note what is in force"))
    }

    /// Replicas with a lease at `now` where a generation is not in force yet.
    pub async fn behind(
        &mut self,
        generation: u64,
        now: Timestamp,
    ) -> Result<Vec<u64>, StoreError> {
        let rows = query(
            "SELECT boot_epoch FROM replicas WHERE recovered = 0 AND ended_at IS NULL \
             AND expires_at >= $1 AND seen_generation < $2 ORDER BY boot_epoch",
        )
        .bind(now.as_micros())
        .bind(cols::int(generation))
        .fetch_all(self.conn)
        .await
        .map_err(StoreError::unavailable("look who is behind"))?;
        rows.iter().map(|row| Cols::new(row).number()).collect()
    }

    /// Says that the owner of a run shall look at its events from number `seq` on.
    pub async fn nudge(&mut self, run: RunId, owner: u64, seq: u64) -> Result<(), StoreError> {
        query(
            "INSERT INTO nudges (run_id, boot_epoch, seq) VALUES ($1, $2, $3) \
             ON CONFLICT (run_id) DO UPDATE SET boot_epoch = excluded.boot_epoch, \
             seq = CASE WHEN nudges.boot_epoch = excluded.boot_epoch THEN nudges.seq \
             ELSE excluded.seq END",
        )
        .bind(run.to_string())
        .bind(cols::int(owner))
        .bind(cols::int(seq))
        .execute(self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("nudge a replica"))
    }

    /// Takes the runs that a replica shall look at, each with the number of the first event to look
    /// at. What is taken and not looked at is lost only with the replica, whose runs are then
    /// recovered as they stand.
    pub async fn take_nudges(&mut self, owner: u64) -> Result<Vec<(RunId, u64)>, StoreError> {
        let rows = query("DELETE FROM nudges WHERE boot_epoch = $1 RETURNING run_id, seq")
            .bind(cols::int(owner))
            .fetch_all(self.conn)
            .await
            .map_err(StoreError::unavailable("take what others wrote"))?;
        rows.iter()
            .map(|row| {
                let mut c = Cols::new(row);
                Ok((c.parsed()?, c.number()?))
            })
            .collect()
    }
}

fn replica(row: &Row) -> Result<Replica, StoreError> {
    let mut c = Cols::new(row);
    let boot_epoch = c.number()?;
    let about =
        NewReplica { name: c.text()?, address: c.text()?, version: c.text()?, schema: c.number()? };
    Ok(Replica {
        boot_epoch,
        about,
        started_at: c.time()?,
        beat_at: c.time()?,
        expires_at: c.time()?,
        seen_generation: c.raw::<Option<i64>>()?.and_then(|n| u64::try_from(n).ok()),
        is_draining: c.flag()?,
        ended_at: c.time_opt()?,
        is_recovered: c.flag()?,
    })
}
