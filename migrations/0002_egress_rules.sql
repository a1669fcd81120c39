-- Which machines agents may reach, as administrators changed it while the daemon ran; beside it
-- stand the rules of the configuration. No agent: the rule is for every one.
CREATE TABLE egress_rules (
    id         TEXT PRIMARY KEY,
    agent      TEXT,
    verdict    TEXT   NOT NULL,
    rule       TEXT   NOT NULL,
    note       TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL
);
-- One rule stands once.
CREATE UNIQUE INDEX egress_rules_once ON egress_rules (COALESCE(agent, ''), verdict, rule);
