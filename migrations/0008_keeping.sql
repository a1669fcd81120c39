-- How long things are kept, what must be kept, and whose data was erased. Times are microseconds
-- since 1970 (UTC), JSON is text.

-- Days that administrators set while the daemon ran; they stand before the configuration's.
CREATE TABLE retention (
    class      TEXT PRIMARY KEY,
    days       BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT   NOT NULL
);
-- What is neither removed nor erased: everything of a principal, or a conversation.
CREATE TABLE holds (
    kind    TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    reason  TEXT,
    at      BIGINT NOT NULL,
    done_by TEXT   NOT NULL,
    PRIMARY KEY (kind, subject)
);
-- Where the audit trail begins after its old end was removed: its last removed row, signed. One row.
CREATE TABLE audit_cut (
    id     BIGINT PRIMARY KEY,
    n      BIGINT NOT NULL,
    hash   TEXT   NOT NULL,
    at     BIGINT NOT NULL,
    key_id TEXT   NOT NULL,
    mac    TEXT   NOT NULL
);

-- Persons to erase and persons erased. `principal` and `names` are the only link between a person
-- and their pseudonym, and are gone when the erasure is nearly done. `step`, `place` and `counts` say how
-- far it came.
CREATE TABLE erasures (
    id         TEXT PRIMARY KEY,
    principal  TEXT,
    names      TEXT,
    pseudonym  TEXT   NOT NULL,
    step       TEXT   NOT NULL,
    place      TEXT   NOT NULL,
    counts     TEXT   NOT NULL,
    asked_at   BIGINT NOT NULL,
    asked_by   TEXT   NOT NULL,
    ended_at   BIGINT,
    receipt    TEXT
);
CREATE UNIQUE INDEX erasures_open ON erasures (principal) WHERE principal IS NOT NULL;

-- Deleted conversations by when they were, and those that were forked from another: few rows each.
CREATE INDEX conversations_deleted ON conversations (deleted_at, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX conversations_forked ON conversations (forked_from) WHERE forked_from IS NOT NULL;
