-- Several daemons on one database. A replica is one start of a daemon; its times are the database's.
CREATE TABLE replicas (
    boot_epoch      BIGINT PRIMARY KEY,
    name            TEXT   NOT NULL,
    address         TEXT   NOT NULL,
    version         TEXT   NOT NULL,
    schema          BIGINT NOT NULL,
    started_at      BIGINT NOT NULL,
    beat_at         BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    -- The newest generation that is in force there; none while it starts and decides nothing.
    seen_generation BIGINT,
    draining        BIGINT NOT NULL,
    -- Its writer's last group: after a lost connection it tells whether that one was committed.
    last_group      BIGINT NOT NULL,
    -- When it left, or was taken over: it writes nothing any more.
    ended_at        BIGINT,
    -- Whether the runs that it left behind were recovered; 0 while it lives.
    recovered       BIGINT NOT NULL
);
-- Those that live, and those whose runs somebody must still look at: few.
CREATE INDEX replicas_open ON replicas (boot_epoch) WHERE recovered = 0;

-- One holder of each duty. The epoch rises with every new holder.
CREATE TABLE leases (
    name       TEXT PRIMARY KEY,
    boot_epoch BIGINT NOT NULL,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Runs that their owner shall look at: somebody else has written an event of theirs.
CREATE TABLE nudges (
    run_id     TEXT PRIMARY KEY,
    boot_epoch BIGINT NOT NULL,
    -- The first of those events.
    seq        BIGINT NOT NULL
);
CREATE INDEX nudges_of_replica ON nudges (boot_epoch);

-- What all replicas have in common, to be compared at each start: one row.
CREATE TABLE cluster (
    id             BIGINT PRIMARY KEY,
    cluster_id     TEXT   NOT NULL,
    -- What the permission secret makes of the id; empty before the first replica has compared.
    secret_mac     TEXT   NOT NULL,
    -- Whether some directory of workspaces bears the cluster's mark.
    has_workspaces BIGINT NOT NULL
);

-- Rises with every administrative change.
INSERT INTO counters (name, value) VALUES ('generation', 0);

-- How many runs of each principal wait, where several replicas count them.
CREATE TABLE queue_counts (
    principal TEXT PRIMARY KEY,
    waiting   BIGINT NOT NULL
);
-- What a replica reads when somebody may have revoked something.
CREATE INDEX capabilities_revoked ON capabilities (expires_at) WHERE revoked_at IS NOT NULL;
