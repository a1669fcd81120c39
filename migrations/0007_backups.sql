-- Backups that daemons made or tried to. Times are microseconds since 1970 (UTC). `due` is the moment
-- of the schedule that a backup is for, NULL when somebody asked for it; `beat_at` says that whoever
-- makes it is still at work.
CREATE TABLE backups (
    id         TEXT PRIMARY KEY,
    due        BIGINT,
    state      TEXT   NOT NULL,
    asked_by   TEXT   NOT NULL,
    file       TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    beat_at    BIGINT NOT NULL,
    ended_at   BIGINT,
    step       TEXT   NOT NULL,
    row_count  BIGINT NOT NULL,
    file_count BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    sha256     TEXT,
    error      TEXT
);
-- One at a time, and one for each moment of the schedule, whoever comes first.
CREATE UNIQUE INDEX backups_running ON backups (state) WHERE state = 'running';
CREATE UNIQUE INDEX backups_due ON backups (due) WHERE state <> 'failed';
