-- Who may do what. Times are microseconds since 1970 (UTC), money is nano-dollars, JSON is text.

-- People and programs that were made while the daemon ran, and what was changed about configured
-- ones (`configured` is 1). `scopes` narrows the role.
CREATE TABLE principals (
    id           TEXT PRIMARY KEY,
    name         TEXT   NOT NULL,
    role         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL,
    configured   BIGINT NOT NULL,
    disabled_at  BIGINT,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL
);
CREATE UNIQUE INDEX principals_by_name ON principals (name);
-- When each was here last, those of the configuration too. Written some at a time.
CREATE TABLE principal_seen (
    principal TEXT PRIMARY KEY,
    at        BIGINT NOT NULL
);
-- What narrows a run: the tools and the least role of those who started it and spoke to it, as their
-- tokens had them then. NULL, or no row: nothing does.
CREATE TABLE run_scopes (
    run_id TEXT PRIMARY KEY,
    tools  TEXT,
    role   TEXT
);

-- Bearer tokens; `public_id` is the part of `art_<id>_<secret>` that may be shown. Only a hash of the
-- whole is kept.
CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    public_id    TEXT   NOT NULL,
    principal    TEXT   NOT NULL,
    label        TEXT,
    role         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL,
    hash         TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    revoked_at   BIGINT,
    revoked_by   TEXT
);
CREATE UNIQUE INDEX tokens_by_public_id ON tokens (public_id);
CREATE INDEX tokens_of_principal ON tokens (principal, id);

-- Accounts of chat platforms that ask to be linked, and those that are.
CREATE TABLE pairings (
    id           TEXT PRIMARY KEY,
    platform     TEXT   NOT NULL,
    account      TEXT   NOT NULL,
    display      TEXT,
    code_hash    TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    decided_at   BIGINT,
    decided_by   TEXT,
    reason       TEXT
);
CREATE INDEX pairings_in_state ON pairings (state, id);
CREATE UNIQUE INDEX pairings_open ON pairings (platform, account) WHERE state = 'pending';
CREATE INDEX pairings_by_code ON pairings (code_hash);
CREATE TABLE links (
    id           TEXT PRIMARY KEY,
    platform     TEXT   NOT NULL,
    account      TEXT   NOT NULL,
    display      TEXT,
    principal    TEXT   NOT NULL,
    role         TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    last_seen_at BIGINT,
    revoked_at   BIGINT,
    revoked_by   TEXT
);
CREATE UNIQUE INDEX links_live ON links (platform, account) WHERE revoked_at IS NULL;
CREATE INDEX links_of_principal ON links (principal, id);

-- Every version of the policy that was ever stored; `version` is SHA-256 (hex) of the text. A version
-- is never changed and never removed: decisions name it.
CREATE TABLE policies (
    n          BIGINT PRIMARY KEY,
    version    TEXT   NOT NULL,
    source     TEXT   NOT NULL,
    note       TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL
);
CREATE UNIQUE INDEX policies_by_version ON policies (version);
-- Which version was in force from when on; the last one is. `origin` says what put it in force: the
-- program's own rules, the file of the configuration, or an administrator.
CREATE TABLE policy_activations (
    n          BIGINT PRIMARY KEY,
    version    TEXT   NOT NULL,
    origin     TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    done_by    TEXT   NOT NULL,
    note       TEXT
);
-- What policy decided about each call, with everything that the decision looked at, so that it can be
-- explained and replayed against another policy. `n` is the number of the run's last event before the
-- decision. A call's id begins with its time, so the key is also the order in which rows grow old.
CREATE TABLE decisions (
    call_id        TEXT   NOT NULL,
    n              BIGINT NOT NULL,
    run_id         TEXT   NOT NULL,
    at             BIGINT NOT NULL,
    agent          TEXT   NOT NULL,
    policy_version TEXT   NOT NULL,
    verdict        TEXT   NOT NULL,
    rule           TEXT   NOT NULL,
    layer          TEXT   NOT NULL,
    question       TEXT   NOT NULL,
    PRIMARY KEY (call_id, n)
);

-- Patterns of calls that a person approved for a while.
CREATE TABLE approval_patterns (
    id          TEXT PRIMARY KEY,
    approval_id TEXT   NOT NULL,
    agent       TEXT   NOT NULL,
    tool        TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    approved_by TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    uses_left   BIGINT NOT NULL,
    revoked_at  BIGINT
);
CREATE INDEX approval_patterns_of_agent ON approval_patterns (agent, tool, id);

-- What agents may do in their runs and calls. `token` is the signed text, of no use without the
-- daemon. `revoked_for` says whether a person took it away, or a lockdown did. An id begins with its
-- time, so the key is also the order in which rows grow old.
CREATE TABLE capabilities (
    id          TEXT PRIMARY KEY,
    parent_id   TEXT,
    run_id      TEXT   NOT NULL,
    call_id     TEXT,
    agent       TEXT   NOT NULL,
    token       TEXT   NOT NULL,
    issued_at   BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    revoked_at  BIGINT,
    revoked_by  TEXT,
    revoked_for TEXT,
    reason      TEXT
);
CREATE INDEX capabilities_of_run ON capabilities (run_id, id);

-- What was used of each budget in each period, and what is held for calls under way.
CREATE TABLE budget_use (
    scope       TEXT   NOT NULL,
    subject     TEXT   NOT NULL,
    period      BIGINT NOT NULL,
    used_nanos  BIGINT NOT NULL,
    used_tokens BIGINT NOT NULL,
    held_nanos  BIGINT NOT NULL,
    held_tokens BIGINT NOT NULL,
    warned      BIGINT NOT NULL,
    PRIMARY KEY (scope, subject, period)
);
-- Budgets that administrators set while the daemon ran; they stand before the configuration's.
CREATE TABLE budgets (
    scope      TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    nanos      BIGINT,
    tokens     BIGINT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT   NOT NULL,
    PRIMARY KEY (scope, subject)
);

-- What was used on each day, added up as it happens.
CREATE TABLE usage (
    day           BIGINT NOT NULL,
    principal     TEXT   NOT NULL,
    agent         TEXT   NOT NULL,
    model         TEXT   NOT NULL,
    runs          BIGINT NOT NULL,
    calls         BIGINT NOT NULL,
    input_tokens  BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_nanos    BIGINT NOT NULL,
    PRIMARY KEY (day, principal, agent, model)
);
INSERT INTO usage
    SELECT s.at / 86400000000, r.principal, r.agent, s.model,
        SUM(CASE WHEN s.n = 1 THEN 1 ELSE 0 END), COUNT(*), SUM(s.input_tokens),
        SUM(s.output_tokens), SUM(s.cost_nanos)
    FROM steps s JOIN runs r ON r.id = s.run_id
    GROUP BY s.at / 86400000000, r.principal, r.agent, s.model;
-- The day whose budgets hold what a run's model call in flight may use.
ALTER TABLE runs ADD COLUMN held_day BIGINT NOT NULL DEFAULT 0;
-- Claims go from principal to principal: the one with many runs waits like the others. State and
-- ready lead, though they are the same in every row: without them SQLite prefers runs_in_state.
DROP INDEX runs_claimable;
CREATE INDEX runs_claimable ON runs (state, ready, principal, id) WHERE state = 'queued' AND ready = 1;

-- Secrets that the daemon keeps itself, sealed; `key_id` says under which key.
CREATE TABLE sealed_secrets (
    name       TEXT PRIMARY KEY,
    sealed     TEXT   NOT NULL,
    key_id     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    changed_by TEXT   NOT NULL
);
-- When each secret, of the configuration or stored, was first seen with its present value, which only
-- a keyed fingerprint stands for.
CREATE TABLE secret_ages (
    name         TEXT PRIMARY KEY,
    source       TEXT   NOT NULL,
    fingerprint  TEXT   NOT NULL,
    since        BIGINT NOT NULL,
    last_used_at BIGINT
);

-- Signed ends of the audit trail.
CREATE TABLE audit_checkpoints (
    n          BIGINT PRIMARY KEY,
    hash       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    key_id     TEXT   NOT NULL,
    mac        TEXT   NOT NULL
);

-- One row while the daemon is locked down.
CREATE TABLE lockdown (
    id     BIGINT PRIMARY KEY,
    at     BIGINT NOT NULL,
    done_by TEXT  NOT NULL,
    reason TEXT
);
