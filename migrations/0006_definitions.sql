-- What many rows have in common and is long: an agent's definition with the hosts that it may reach,
-- the permissions of a run's capability. Stored once, named by its hash, never changed.
CREATE TABLE definitions (
    hash       TEXT PRIMARY KEY,
    body       TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

-- Rows of before hold all of it themselves.
ALTER TABLE decisions ADD COLUMN definition TEXT;
CREATE INDEX decisions_by_definition ON decisions (definition);
ALTER TABLE capabilities ADD COLUMN definition TEXT;
CREATE INDEX capabilities_by_definition ON capabilities (definition);
