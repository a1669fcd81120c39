-- Ids are text with their prefix, times are microseconds since 1970 (UTC), money is nano-dollars,
-- JSON is text. Every statement here runs on SQLite and on PostgreSQL.

-- Numbers that outlive a restart: boot epoch, queue length.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('boot_epoch', 0), ('queued', 0);

CREATE TABLE conversations (
    id             TEXT PRIMARY KEY,
    principal      TEXT   NOT NULL,
    title          TEXT,
    last_seq       BIGINT NOT NULL,
    active_run_id  TEXT,
    waiting        BIGINT NOT NULL,
    head_bundle_id TEXT,
    forked_from    TEXT,
    created_at     BIGINT NOT NULL,
    deleted_at     BIGINT
);
CREATE INDEX conversations_of_principal ON conversations (principal, id);

CREATE TABLE messages (
    conversation_id TEXT   NOT NULL,
    seq             BIGINT NOT NULL,
    id              TEXT   NOT NULL,
    run_id          TEXT   NOT NULL,
    role            TEXT   NOT NULL,
    content         TEXT   NOT NULL,
    at              BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, seq)
);

CREATE TABLE runs (
    id              TEXT PRIMARY KEY,
    conversation_id TEXT   NOT NULL,
    agent           TEXT   NOT NULL,
    agent_version   TEXT   NOT NULL,
    principal       TEXT   NOT NULL,
    surface         TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    wait_reason     TEXT,
    epoch           BIGINT NOT NULL,
    owner           BIGINT,
    seq             BIGINT NOT NULL,
    step            BIGINT NOT NULL,
    ready           BIGINT NOT NULL,
    recoveries      BIGINT NOT NULL,
    backoffs        BIGINT NOT NULL,
    interrupt       TEXT,
    steers_waiting  BIGINT NOT NULL,
    input_tokens    BIGINT NOT NULL,
    output_tokens   BIGINT NOT NULL,
    cost_nanos      BIGINT NOT NULL,
    llm_calls       BIGINT NOT NULL,
    tool_calls      BIGINT NOT NULL,
    held_tokens     BIGINT NOT NULL,
    held_nanos      BIGINT NOT NULL,
    limits          TEXT   NOT NULL,
    worked_ms       BIGINT NOT NULL,
    wake_at         BIGINT,
    confinement     TEXT,
    tainted         BIGINT NOT NULL,
    head_bundle_id  TEXT,
    base_bundle_id  TEXT,
    parent_run_id   TEXT,
    retry_of        TEXT,
    input           TEXT   NOT NULL,
    output          TEXT,
    error           TEXT,
    metadata        TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    started_at      BIGINT,
    ended_at        BIGINT
);
CREATE INDEX runs_of_principal ON runs (principal, id);
CREATE INDEX runs_of_conversation ON runs (conversation_id, id);
CREATE INDEX runs_in_state ON runs (state, id);
-- What a claim looks for, what a conversation looks for when its run ends, what timers look for:
-- each index holds only the few rows that wait.
CREATE INDEX runs_claimable ON runs (id) WHERE state = 'queued' AND ready = 1;
CREATE INDEX runs_behind ON runs (conversation_id, id) WHERE state = 'queued' AND ready = 0;
CREATE INDEX runs_timed ON runs (wake_at) WHERE wake_at IS NOT NULL;

-- One row a model call: what it used. The tool calls of a step are in tool_calls.
CREATE TABLE steps (
    run_id        TEXT   NOT NULL,
    n             BIGINT NOT NULL,
    model         TEXT   NOT NULL,
    input_tokens  BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_nanos    BIGINT NOT NULL,
    reported      BIGINT NOT NULL,
    at            BIGINT NOT NULL,
    PRIMARY KEY (run_id, n)
);

CREATE TABLE tool_calls (
    id        TEXT PRIMARY KEY,
    run_id    TEXT   NOT NULL,
    step      BIGINT NOT NULL,
    idx       BIGINT NOT NULL,
    tool      TEXT   NOT NULL,
    args      TEXT   NOT NULL,
    args_hash TEXT   NOT NULL,
    effect    TEXT   NOT NULL,
    risk      TEXT   NOT NULL,
    state     TEXT   NOT NULL,
    attempts  BIGINT NOT NULL,
    outcome   TEXT
);
CREATE UNIQUE INDEX tool_calls_of_step ON tool_calls (run_id, step, idx);

CREATE TABLE steers (
    id         TEXT PRIMARY KEY,
    run_id     TEXT   NOT NULL,
    principal  TEXT   NOT NULL,
    input      TEXT   NOT NULL,
    if_ended   TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX steers_of_run ON steers (run_id, id);

CREATE TABLE approvals (
    id             TEXT PRIMARY KEY,
    run_id         TEXT   NOT NULL,
    call_id        TEXT,
    principal      TEXT   NOT NULL,
    kind           TEXT   NOT NULL,
    state          TEXT   NOT NULL,
    body           TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL
);
CREATE INDEX approvals_of_run ON approvals (run_id, id);
CREATE INDEX approvals_in_state ON approvals (state, id);
CREATE INDEX approvals_pending ON approvals (expires_at) WHERE state = 'pending';

CREATE TABLE events (
    run_id          TEXT   NOT NULL,
    seq             BIGINT NOT NULL,
    conversation_id TEXT   NOT NULL,
    epoch           BIGINT NOT NULL,
    at              BIGINT NOT NULL,
    body            TEXT   NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE bundles (
    id              TEXT PRIMARY KEY,
    run_id          TEXT   NOT NULL,
    conversation_id TEXT   NOT NULL,
    parent_id       TEXT,
    kind            TEXT   NOT NULL,
    body            TEXT   NOT NULL,
    created_at      BIGINT NOT NULL
);
CREATE INDEX bundles_of_run ON bundles (run_id, id);

-- Append-only; each row's hash covers the row before it.
CREATE TABLE audit (
    n          BIGINT PRIMARY KEY,
    id         TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    kind       TEXT   NOT NULL,
    actor      TEXT   NOT NULL,
    surface    TEXT   NOT NULL,
    run_id     TEXT,
    request_id TEXT,
    data       TEXT   NOT NULL,
    prev_hash  TEXT   NOT NULL,
    hash       TEXT   NOT NULL
);
CREATE INDEX audit_of_run ON audit (run_id, n);

CREATE TABLE idempotency (
    principal   TEXT   NOT NULL,
    idem_key    TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    response    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (principal, idem_key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
