//! Backups that daemons made or tried to.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{BackupId, BackupRecord, BackupState, Timestamp};

/// Access to the records of backups.
#[derive(Debug)]
pub struct Backups<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Backups<'_> {
    /// Records that one begins, at the database's time `now`. False when another is being made, or the
    /// moment of the schedule has one that did not fail.
    pub async fn begin(&mut self, new: &BackupRecord, now: Timestamp) -> Result<bool, StoreError> {
        let rows = query(
            "INSERT INTO backups (id, due, state, asked_by, file, started_at, beat_at, step, \
             row_count, file_count, bytes) VALUES ($1, $2, $3, $4, $5, $6, $8, $7, 0, 0, 0) \
             ON CONFLICT DO NOTHING",
        )
        .bind(new.id.to_string())
        .bind(new.due.map(Timestamp::as_micros))
        .bind(new.state.as_str())
        .bind(new.asked_by.clone())
        .bind(new.file.clone())
        .bind(new.started_at.as_micros())
        .bind(new.step.clone())
        .bind(now.as_micros())
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("record a backup"))?;
        Ok(rows > 0)
    }

    /// Stores how far it is, at the database's time `now`; false when it counts as ended already.
    pub async fn save(
        &mut self,
        backup: &BackupRecord,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let rows = query(
            "UPDATE backups SET state = $2, ended_at = $3, step = $4, row_count = $5, \
             file_count = $6, bytes = $7, sha256 = $8, error = $9, beat_at = $10 \
             WHERE id = $1 AND state = 'running'",
        )
        .bind(backup.id.to_string())
        .bind(backup.state.as_str())
        .bind(backup.ended_at.map(Timestamp::as_micros))
        .bind(backup.step.clone())
        .bind(cols::int(backup.rows))
        .bind(cols::int(backup.files))
        .bind(cols::int(backup.bytes))
        .bind(backup.sha256.clone())
        .bind(backup.error.clone())
        .bind(now.as_micros())
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("record how far a backup is"))?;
        Ok(rows > 0)
    }

    /// Notes what failed after one was made.
    pub async fn note(&mut self, id: BackupId, error: &str) -> Result<(), StoreError> {
        query("UPDATE backups SET error = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(error.to_owned())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("record what followed a backup"))
    }

    /// Records that its file was removed.
    pub async fn pruned(&mut self, id: BackupId) -> Result<(), StoreError> {
        query("UPDATE backups SET state = 'pruned' WHERE id = $1 AND state = 'done'")
            .bind(id.to_string())
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("record that a backup was removed"))
    }

    /// Ends those whose maker has not been heard of since `since`; how many.
    pub async fn abandon(&mut self, since: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let rows = query(
            "UPDATE backups SET state = 'failed', ended_at = $2, \
             error = 'the daemon that made it ended' WHERE state = 'running' AND beat_at < $1",
        )
        .bind(since.as_micros())
        .bind(now.as_micros())
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("end abandoned backups"))?;
        Ok(rows)
    }

    /// One of them.
    pub async fn get(&mut self, id: BackupId) -> Result<Option<BackupRecord>, StoreError> {
        let row = query(
            "SELECT id, due, state, asked_by, file, started_at, ended_at, step, row_count, \
             file_count, bytes, sha256, error FROM backups WHERE id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read a backup's record"))?;
        row.as_ref().map(record).transpose()
    }

    /// A page of them, newest first.
    pub async fn list(&mut self, page: &Page) -> Result<Paged<BackupRecord>, StoreError> {
        let rows = query(
            "SELECT id, due, state, asked_by, file, started_at, ended_at, step, row_count, \
             file_count, bytes, sha256, error FROM backups WHERE id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(page.before())
        .bind(page.rows())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list the backups"))?;
        let items = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(items, |b| b.id.to_string()))
    }

    /// The newest one for this moment of the schedule.
    pub async fn of_moment(&mut self, due: Timestamp) -> Result<Option<BackupRecord>, StoreError> {
        let row = query(
            "SELECT id, due, state, asked_by, file, started_at, ended_at, step, row_count, \
             file_count, bytes, sha256, error FROM backups WHERE due = $1 ORDER BY id DESC LIMIT 1",
        )
        .bind(due.as_micros())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the backup of a moment"))?;
        row.as_ref().map(record).transpose()
    }

    /// Those in this state, newest first.
    pub async fn newest(
        &mut self,
        state: BackupState,
        limit: u64,
    ) -> Result<Vec<BackupRecord>, StoreError> {
        let rows = query(
            "SELECT id, due, state, asked_by, file, started_at, ended_at, step, row_count, \
             file_count, bytes, sha256, error FROM backups WHERE state = $1 \
             ORDER BY id DESC LIMIT $2",
        )
        .bind(state.as_str())
        .bind(cols::int(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list backups of a state"))?;
        rows.iter().map(record).collect()
    }

    /// The one that is being made.
    pub async fn running(&mut self) -> Result<Option<BackupRecord>, StoreError> {
        Ok(self.newest(BackupState::Running, 1).await?.pop())
    }
}

fn record(row: &Row) -> Result<BackupRecord, StoreError> {
    let mut c = Cols::new(row);
    Ok(BackupRecord {
        id: c.parsed()?,
        due: c.time_opt()?,
        state: c.parsed::<BackupState>()?,
        asked_by: c.text()?,
        file: c.text()?,
        started_at: c.time()?,
        ended_at: c.time_opt()?,
        step: c.text()?,
        rows: c.number()?,
        files: c.number()?,
        bytes: c.number()?,
        sha256: c.raw()?,
        error: c.raw()?,
    })
}
