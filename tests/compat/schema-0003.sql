PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations VALUES(1,'foundation','2026-11-21 23:29:57',1,X'7b9b733a2b9f729e3db6681f44949e74536e6f4c26e2270660f69a1644e3e3098ca220b46e63a8a460be1fd17d65a45f',7736134);
INSERT INTO _sqlx_migrations VALUES(2,'egress rules','2026-11-21 23:29:57',1,X'7ce0c26c2a3516b53551392be572b76346c3180401d9e8eecceeee65ea0f1be29d9c77a5cbac8cacbe63b9c41157a115',4361459);
INSERT INTO _sqlx_migrations VALUES(3,'access','2026-11-21 23:29:57',1,X'e77954dbc16a31ec85aa2b52dde43185c522feed9876a621e341c11003b0ff1c9ba2b834a20773a8542fe072b32fe073',3124613);
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters VALUES('boot_epoch',1);
INSERT INTO counters VALUES('queued',1);
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
INSERT INTO conversations VALUES('conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,5,'run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f',0,'bdl_01a20071-f426-7e87-a4f7-3a854dee85d3',NULL,1795303797644655,NULL);
INSERT INTO conversations VALUES('conv_01a20071-f432-7cb8-85dd-4698fea4e1b9','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,1,NULL,0,NULL,NULL,1795303797810776,NULL);
INSERT INTO conversations VALUES('conv_01a20071-f45b-7fae-ae83-f4aae0d1cec8','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,1,NULL,0,NULL,NULL,1795303797851957,NULL);
INSERT INTO conversations VALUES('conv_01a20071-f47e-70b4-a636-b914c11505c8','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,2,'run_01a20071-f47e-70fd-8f4e-602db8a34407',1,NULL,NULL,1795303797886024,NULL);
INSERT INTO conversations VALUES('conv_01a20071-f4b2-748f-b315-b24cf951933e','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,2,'run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',0,NULL,NULL,1795303797938265,NULL);
INSERT INTO conversations VALUES('conv_01a20071-f4cb-7f68-86de-d95c71e5773f','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,1,'run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',0,NULL,NULL,1795303797963945,NULL);
INSERT INTO conversations VALUES('conv_01a20071-f4e6-7306-b22c-3771186962ba','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,1,'run_01a20071-f4e6-7358-a4a7-6749d3d7b65e',0,NULL,NULL,1795303797990171,NULL);
INSERT INTO conversations VALUES('conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,2,'run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',0,NULL,NULL,1795303798010945,NULL);
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
INSERT INTO messages VALUES('conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,'msg_01a20071-f397-7b74-8ca4-25f74f2cf00e','run_01a20071-f38c-7b33-9913-08131b734ee9','user','[{"type":"text","text":"script:exec succeeded"}]',1795303797655288);
INSERT INTO messages VALUES('conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',2,'msg_01a20071-f39f-7031-869f-8a770887093c','run_01a20071-f38c-7b33-9913-08131b734ee9','assistant','[{"type":"tool_call","call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]}}]',1795303797662695);
INSERT INTO messages VALUES('conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',3,'msg_01a20071-f412-7262-a61a-f84af1d80f4f','run_01a20071-f38c-7b33-9913-08131b734ee9','tool','[{"type":"tool_result","call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","status":"ok","text":""}]',1795303797775612);
INSERT INTO messages VALUES('conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',4,'msg_01a20071-f426-7da5-8b48-b6aa7817c4a9','run_01a20071-f38c-7b33-9913-08131b734ee9','assistant','[{"type":"text","text":"done"}]',1795303797798652);
INSERT INTO messages VALUES('conv_01a20071-f432-7cb8-85dd-4698fea4e1b9',1,'msg_01a20071-f435-7b37-9c34-fae859fa89de','run_01a20071-f432-7cfd-bf25-19e35d7948ab','user','[{"type":"text","text":"script:late cancelled"}]',1795303797813371);
INSERT INTO messages VALUES('conv_01a20071-f45b-7fae-ae83-f4aae0d1cec8',1,'msg_01a20071-f463-751e-ac0f-0d8dc7a4bb5f','run_01a20071-f45c-7000-a9a1-50f2166d1998','user','[{"type":"text","text":"script:bad failed"}]',1795303797858927);
INSERT INTO messages VALUES('conv_01a20071-f47e-70b4-a636-b914c11505c8',1,'msg_01a20071-f481-77d7-8746-d31fe7bf2200','run_01a20071-f47e-70fd-8f4e-602db8a34407','user','[{"type":"text","text":"script:exec asks"}]',1795303797889153);
INSERT INTO messages VALUES('conv_01a20071-f47e-70b4-a636-b914c11505c8',2,'msg_01a20071-f485-7eb8-ab46-a5b8dca0c594','run_01a20071-f47e-70fd-8f4e-602db8a34407','assistant','[{"type":"tool_call","call_id":"call_01a20071-f485-7d1a-8c1d-19d329d48996","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]}}]',1795303797893690);
INSERT INTO messages VALUES('conv_01a20071-f4b2-748f-b315-b24cf951933e',1,'msg_01a20071-f4b6-761c-85b8-5de20b00dbd8','run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a','user','[{"type":"text","text":"script:ask question"}]',1795303797941877);
INSERT INTO messages VALUES('conv_01a20071-f4b2-748f-b315-b24cf951933e',2,'msg_01a20071-f4bb-7c66-8aa3-5cb869c7aff9','run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a','assistant','[{"type":"tool_call","call_id":"call_01a20071-f4bb-7af9-934b-78df9cfc1cc9","tool":"ask_user","args":{"options":["red","blue"],"question":"Which colour?"}}]',1795303797947578);
INSERT INTO messages VALUES('conv_01a20071-f4cb-7f68-86de-d95c71e5773f',1,'msg_01a20071-f4cf-707a-898e-6ca5ec6f878e','run_01a20071-f4cb-7fb6-a7ad-3eb55b291788','user','[{"type":"text","text":"script:late paused"}]',1795303797966732);
INSERT INTO messages VALUES('conv_01a20071-f4e6-7306-b22c-3771186962ba',1,'msg_01a20071-f4e9-7537-93c9-26806a229496','run_01a20071-f4e6-7358-a4a7-6749d3d7b65e','user','[{"type":"text","text":"script:late thinking"}]',1795303797993000);
INSERT INTO messages VALUES('conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',5,'msg_01a20071-f4f1-77ca-849e-8b38b81eb5d5','run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f','user','[{"type":"text","text":"script:late again"}]',1795303798001198);
INSERT INTO messages VALUES('conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c',1,'msg_01a20071-f4fe-72ed-8d0b-5bbe5e915dfe','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09','user','[{"type":"text","text":"script:cut unknown"}]',1795303798013852);
INSERT INTO messages VALUES('conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c',2,'msg_01a20071-f502-7687-be79-68797a73ecf8','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09','assistant','[{"type":"tool_call","call_id":"call_01a20071-f502-750e-8279-20b8581d6791","tool":"exec","args":{"argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"]}}]',1795303798018222);
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
, held_day BIGINT NOT NULL DEFAULT 0);
INSERT INTO runs VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9','conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','succeeded',NULL,1,1,9,2,0,0,0,NULL,0,2583,3,0,2,1,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',142,NULL,'full',0,'bdl_01a20071-f426-7e87-a4f7-3a854dee85d3',NULL,NULL,NULL,'"script:exec succeeded"','done',NULL,'{}',1795303797644655,1795303797655288,1795303797798652,20778);
INSERT INTO runs VALUES('run_01a20071-f432-7cfd-bf25-19e35d7948ab','conv_01a20071-f432-7cb8-85dd-4698fea4e1b9','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','cancelled',NULL,1,1,4,1,0,0,0,NULL,0,5689,0,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',20,NULL,NULL,0,NULL,NULL,NULL,NULL,'"script:late cancelled"',NULL,'{"code":"run.cancelled","message":"a person cancelled the run"}','{}',1795303797810776,1795303797813371,1795303797834675,20778);
INSERT INTO runs VALUES('run_01a20071-f45c-7000-a9a1-50f2166d1998','conv_01a20071-f45b-7fae-ae83-f4aae0d1cec8','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','failed',NULL,1,1,3,1,0,0,0,NULL,0,0,0,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',5,NULL,NULL,0,NULL,NULL,NULL,NULL,'"script:bad failed"',NULL,'{"code":"llm.bad_request","message":"model `default` gave no answer: the provider refused the request [bad_request, status 400, code invalid_request_error]"}','{}',1795303797851957,1795303797858927,1795303797864532,20778);
INSERT INTO runs VALUES('run_01a20071-f47e-70fd-8f4e-602db8a34407','conv_01a20071-f47e-70b4-a636-b914c11505c8','careful','6c0a2279be2058d6cb3b73631400cecd995db3ec1200f4cd2d6cae5e9e73f748','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','awaiting_approval',NULL,1,1,6,1,1,0,0,NULL,0,1252,1,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',12,1795390197902450,NULL,0,'bdl_01a20071-f490-711a-b51a-fa345589ea2e',NULL,NULL,NULL,'"script:exec asks"',NULL,NULL,'{}',1795303797886024,1795303797889153,NULL,20778);
INSERT INTO runs VALUES('run_01a20071-f4a6-7835-b48a-9b78a81681fd','conv_01a20071-f47e-70b4-a636-b914c11505c8','careful','6c0a2279be2058d6cb3b73631400cecd995db3ec1200f4cd2d6cae5e9e73f748','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','queued',NULL,0,NULL,1,0,0,0,0,NULL,0,0,0,0,0,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',0,1795390197926227,NULL,0,NULL,NULL,NULL,NULL,'"script:say queued"',NULL,NULL,'{}',1795303797926227,NULL,NULL,0);
INSERT INTO runs VALUES('run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a','conv_01a20071-f4b2-748f-b315-b24cf951933e','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','paused','input',1,1,6,1,1,0,0,NULL,0,1253,1,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',6,1795390197947578,NULL,0,'bdl_01a20071-f4bc-7210-b904-b65fd05c4f79',NULL,NULL,NULL,'"script:ask question"',NULL,NULL,'{}',1795303797938265,1795303797941877,NULL,20778);
INSERT INTO runs VALUES('run_01a20071-f4cb-7fb6-a7ad-3eb55b291788','conv_01a20071-f4cb-7f68-86de-d95c71e5773f','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','paused','interrupted',1,1,5,1,1,0,0,NULL,0,5688,0,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',10,1795390197977103,NULL,0,'bdl_01a20071-f4d9-736c-b509-93a52211daa6',NULL,NULL,NULL,'"script:late paused"',NULL,NULL,'{}',1795303797963945,1795303797966732,NULL,20778);
INSERT INTO runs VALUES('run_01a20071-f4e6-7358-a4a7-6749d3d7b65e','conv_01a20071-f4e6-7306-b22c-3771186962ba','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','running',NULL,1,1,2,1,1,0,0,NULL,0,0,0,0,1,0,5689,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',0,NULL,NULL,0,NULL,NULL,NULL,NULL,'"script:late thinking"',NULL,NULL,'{}',1795303797990171,1795303797993000,NULL,20778);
INSERT INTO runs VALUES('run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f','conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','running',NULL,1,1,2,1,1,0,0,NULL,0,0,0,0,1,0,5777,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',0,NULL,NULL,0,'bdl_01a20071-f426-7e87-a4f7-3a854dee85d3','bdl_01a20071-f426-7e87-a4f7-3a854dee85d3',NULL,NULL,'"script:late again"',NULL,NULL,'{}',1795303797998323,1795303798001198,NULL,20778);
INSERT INTO runs VALUES('run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09','conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','running',NULL,1,1,5,1,1,0,0,NULL,0,1253,1,0,1,1,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',4,NULL,NULL,0,NULL,NULL,NULL,NULL,'"script:cut unknown"',NULL,NULL,'{}',1795303798010945,1795303798013852,NULL,20778);
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
INSERT INTO steps VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',1,'default',1253,1,0,1,1795303797662695);
INSERT INTO steps VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',2,'default',1330,2,0,1,1795303797798652);
INSERT INTO steps VALUES('run_01a20071-f47e-70fd-8f4e-602db8a34407',1,'default',1252,1,0,1,1795303797893690);
INSERT INTO steps VALUES('run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',1,'default',1253,1,0,1,1795303797947578);
INSERT INTO steps VALUES('run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',1,'default',1253,1,0,1,1795303798018222);
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
INSERT INTO tool_calls VALUES('call_01a20071-f39e-7dd7-8863-17611ff37fb0','run_01a20071-f38c-7b33-9913-08131b734ee9',1,0,'exec','{"argv":["/bin/sh","-c","echo ran >> ran.log"]}','2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4','unsafe','low','done',1,'{"status":"ok","exit_code":0,"output":"","truncated":false,"duration_ms":9,"confinement":"full"}');
INSERT INTO tool_calls VALUES('call_01a20071-f485-7d1a-8c1d-19d329d48996','run_01a20071-f47e-70fd-8f4e-602db8a34407',1,0,'exec','{"argv":["/bin/sh","-c","echo ran >> ran.log"]}','2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4','unsafe','high','gated',0,NULL);
INSERT INTO tool_calls VALUES('call_01a20071-f4bb-7af9-934b-78df9cfc1cc9','run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',1,0,'ask_user','{"options":["red","blue"],"question":"Which colour?"}','3cf9e8b4c64fffb3ca5efed6fed3b232eff9e1dde056a83663008890342262b1','pure','low','gated',0,NULL);
INSERT INTO tool_calls VALUES('call_01a20071-f502-750e-8279-20b8581d6791','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',1,0,'exec','{"argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"]}','411ab2bc651e0f4ccd7aea1166cf726088fb5669372aca895f12ff02431e7a3d','unsafe','low','started',1,NULL);
CREATE TABLE steers (
    id         TEXT PRIMARY KEY,
    run_id     TEXT   NOT NULL,
    principal  TEXT   NOT NULL,
    input      TEXT   NOT NULL,
    if_ended   TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);
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
INSERT INTO approvals VALUES('apr_01a20071-f48f-7bd7-9fc1-3994148c95fd','run_01a20071-f47e-70fd-8f4e-602db8a34407','call_01a20071-f485-7d1a-8c1d-19d329d48996','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','tool','pending','{"id":"apr_01a20071-f48f-7bd7-9fc1-3994148c95fd","run_id":"run_01a20071-f47e-70fd-8f4e-602db8a34407","call_id":"call_01a20071-f485-7d1a-8c1d-19d329d48996","kind":"tool","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]},"args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","policy_version":"d3ce2c66a9a60416f91e1df43ad3ab4f92e02e620bc613b265b69ff0c70372fe","cwd":"/tmp/art-test-N9Lkj9/data/workspaces/careful/.","risk":"high","reasons":["`/bin/sh` is not among the commands that this agent may run unasked"],"tainted":false,"egress":[],"binding":"e647142dcbb7125045b0c89f81521ea39769eb6ffa81bbfa70731fa7c0060af0","bound":{"cwd":{"path":"/tmp/art-test-N9Lkj9/data/workspaces/careful","dev":65024,"ino":10100861},"executable":{"path":"/usr/bin/dash","dev":65024,"ino":247076,"bytes":125640,"mtime_ns":1672924848000000000,"ctime_ns":1672924848000000000,"sha256":null},"target":null,"profile":"c52e173555509ead948b7ac7aff4b47f46f17db7c2059e6b0769cb6af446db00"},"required_role":"admin","quorum":1,"state":"pending","decisions":[],"created_at":"2026-11-21T23:29:57.902Z","expires_at":"2121-12-16T04:49:57.902Z"}',1795303797902450,4795303797902450);
CREATE TABLE events (
    run_id          TEXT   NOT NULL,
    seq             BIGINT NOT NULL,
    conversation_id TEXT   NOT NULL,
    epoch           BIGINT NOT NULL,
    at              BIGINT NOT NULL,
    body            TEXT   NOT NULL,
    PRIMARY KEY (run_id, seq)
);
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',1,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',0,1795303797644655,'{"type":"run.created","data":{"agent":"open","input":"script:exec succeeded","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',2,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303797655288,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',3,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303797662695,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"tool_call","call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]}}]}}}');
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',4,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303797662695,'{"type":"tool.requested","data":{"call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]},"effect":"unsafe","risk":"low"}}');
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',5,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303797662695,'{"type":"tool.started","data":{"call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","tool":"exec","attempt":1,"rule":"command.any","layer":"definition"}}');
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',6,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303797775612,'{"type":"tool.completed","data":{"call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","status":"ok","exit_code":0,"output":"","truncated":false,"duration_ms":9,"confinement":"full"}}');
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',7,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303797798652,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"text","text":"done"}]}}}');
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',8,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303797798652,'{"type":"bundle.committed","data":{"bundle_id":"bdl_01a20071-f426-7e87-a4f7-3a854dee85d3","parent_id":null}}');
INSERT INTO events VALUES('run_01a20071-f38c-7b33-9913-08131b734ee9',9,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303797798652,'{"type":"run.succeeded","data":{"output":"done","usage":{"input_tokens":2583,"output_tokens":3,"cost_usd":"0","llm_calls":2,"tool_calls":1}}}');
INSERT INTO events VALUES('run_01a20071-f432-7cfd-bf25-19e35d7948ab',1,'conv_01a20071-f432-7cb8-85dd-4698fea4e1b9',0,1795303797810776,'{"type":"run.created","data":{"agent":"open","input":"script:late cancelled","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f432-7cfd-bf25-19e35d7948ab',2,'conv_01a20071-f432-7cb8-85dd-4698fea4e1b9',1,1795303797813371,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f432-7cfd-bf25-19e35d7948ab',3,'conv_01a20071-f432-7cb8-85dd-4698fea4e1b9',1,1795303797831119,'{"type":"run.cancel_requested","data":{"reason":null}}');
INSERT INTO events VALUES('run_01a20071-f432-7cfd-bf25-19e35d7948ab',4,'conv_01a20071-f432-7cb8-85dd-4698fea4e1b9',1,1795303797834675,'{"type":"run.cancelled","data":{"reason":null,"unknown_effects":[],"usage":{"input_tokens":5689,"output_tokens":0,"cost_usd":"0","llm_calls":1,"tool_calls":0}}}');
INSERT INTO events VALUES('run_01a20071-f45c-7000-a9a1-50f2166d1998',1,'conv_01a20071-f45b-7fae-ae83-f4aae0d1cec8',0,1795303797851957,'{"type":"run.created","data":{"agent":"open","input":"script:bad failed","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f45c-7000-a9a1-50f2166d1998',2,'conv_01a20071-f45b-7fae-ae83-f4aae0d1cec8',1,1795303797858927,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f45c-7000-a9a1-50f2166d1998',3,'conv_01a20071-f45b-7fae-ae83-f4aae0d1cec8',1,1795303797864532,'{"type":"run.failed","data":{"error":{"code":"llm.bad_request","message":"model `default` gave no answer: the provider refused the request [bad_request, status 400, code invalid_request_error]"},"usage":{"input_tokens":0,"output_tokens":0,"cost_usd":"0","llm_calls":1,"tool_calls":0}}}');
INSERT INTO events VALUES('run_01a20071-f47e-70fd-8f4e-602db8a34407',1,'conv_01a20071-f47e-70b4-a636-b914c11505c8',0,1795303797886024,'{"type":"run.created","data":{"agent":"careful","input":"script:exec asks","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f47e-70fd-8f4e-602db8a34407',2,'conv_01a20071-f47e-70b4-a636-b914c11505c8',1,1795303797889153,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f47e-70fd-8f4e-602db8a34407',3,'conv_01a20071-f47e-70b4-a636-b914c11505c8',1,1795303797893690,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"tool_call","call_id":"call_01a20071-f485-7d1a-8c1d-19d329d48996","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]}}]}}}');
INSERT INTO events VALUES('run_01a20071-f47e-70fd-8f4e-602db8a34407',4,'conv_01a20071-f47e-70b4-a636-b914c11505c8',1,1795303797893690,'{"type":"tool.requested","data":{"call_id":"call_01a20071-f485-7d1a-8c1d-19d329d48996","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]},"effect":"unsafe","risk":"low"}}');
INSERT INTO events VALUES('run_01a20071-f47e-70fd-8f4e-602db8a34407',5,'conv_01a20071-f47e-70b4-a636-b914c11505c8',1,1795303797902450,'{"type":"approval.requested","data":{"id":"apr_01a20071-f48f-7bd7-9fc1-3994148c95fd","run_id":"run_01a20071-f47e-70fd-8f4e-602db8a34407","call_id":"call_01a20071-f485-7d1a-8c1d-19d329d48996","kind":"tool","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]},"args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","policy_version":"d3ce2c66a9a60416f91e1df43ad3ab4f92e02e620bc613b265b69ff0c70372fe","cwd":"/tmp/art-test-N9Lkj9/data/workspaces/careful/.","risk":"high","reasons":["`/bin/sh` is not among the commands that this agent may run unasked"],"tainted":false,"egress":[],"binding":"e647142dcbb7125045b0c89f81521ea39769eb6ffa81bbfa70731fa7c0060af0","bound":{"cwd":{"path":"/tmp/art-test-N9Lkj9/data/workspaces/careful","dev":65024,"ino":10100861},"executable":{"path":"/usr/bin/dash","dev":65024,"ino":247076,"bytes":125640,"mtime_ns":1672924848000000000,"ctime_ns":1672924848000000000,"sha256":null},"target":null,"profile":"c52e173555509ead948b7ac7aff4b47f46f17db7c2059e6b0769cb6af446db00"},"required_role":"admin","quorum":1,"state":"pending","decisions":[],"created_at":"2026-11-21T23:29:57.902Z","expires_at":"2121-12-16T04:49:57.902Z"}}');
INSERT INTO events VALUES('run_01a20071-f47e-70fd-8f4e-602db8a34407',6,'conv_01a20071-f47e-70b4-a636-b914c11505c8',1,1795303797902450,'{"type":"bundle.committed","data":{"bundle_id":"bdl_01a20071-f490-711a-b51a-fa345589ea2e","parent_id":null}}');
INSERT INTO events VALUES('run_01a20071-f4a6-7835-b48a-9b78a81681fd',1,'conv_01a20071-f47e-70b4-a636-b914c11505c8',0,1795303797926227,'{"type":"run.created","data":{"agent":"careful","input":"script:say queued","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',1,'conv_01a20071-f4b2-748f-b315-b24cf951933e',0,1795303797938265,'{"type":"run.created","data":{"agent":"open","input":"script:ask question","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',2,'conv_01a20071-f4b2-748f-b315-b24cf951933e',1,1795303797941877,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',3,'conv_01a20071-f4b2-748f-b315-b24cf951933e',1,1795303797947578,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"tool_call","call_id":"call_01a20071-f4bb-7af9-934b-78df9cfc1cc9","tool":"ask_user","args":{"options":["red","blue"],"question":"Which colour?"}}]}}}');
INSERT INTO events VALUES('run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',4,'conv_01a20071-f4b2-748f-b315-b24cf951933e',1,1795303797947578,'{"type":"tool.requested","data":{"call_id":"call_01a20071-f4bb-7af9-934b-78df9cfc1cc9","tool":"ask_user","args":{"options":["red","blue"],"question":"Which colour?"},"effect":"pure","risk":"low"}}');
INSERT INTO events VALUES('run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',5,'conv_01a20071-f4b2-748f-b315-b24cf951933e',1,1795303797947578,'{"type":"bundle.committed","data":{"bundle_id":"bdl_01a20071-f4bc-7210-b904-b65fd05c4f79","parent_id":null}}');
INSERT INTO events VALUES('run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',6,'conv_01a20071-f4b2-748f-b315-b24cf951933e',1,1795303797947578,'{"type":"run.paused","data":{"reason":"input","detail":"Which colour? (red / blue)"}}');
INSERT INTO events VALUES('run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',1,'conv_01a20071-f4cb-7f68-86de-d95c71e5773f',0,1795303797963945,'{"type":"run.created","data":{"agent":"open","input":"script:late paused","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',2,'conv_01a20071-f4cb-7f68-86de-d95c71e5773f',1,1795303797966732,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',3,'conv_01a20071-f4cb-7f68-86de-d95c71e5773f',1,1795303797974711,'{"type":"run.interrupt_requested","data":{"mode":"graceful"}}');
INSERT INTO events VALUES('run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',4,'conv_01a20071-f4cb-7f68-86de-d95c71e5773f',1,1795303797977103,'{"type":"bundle.committed","data":{"bundle_id":"bdl_01a20071-f4d9-736c-b509-93a52211daa6","parent_id":null}}');
INSERT INTO events VALUES('run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',5,'conv_01a20071-f4cb-7f68-86de-d95c71e5773f',1,1795303797977103,'{"type":"run.paused","data":{"reason":"interrupted","detail":null}}');
INSERT INTO events VALUES('run_01a20071-f4e6-7358-a4a7-6749d3d7b65e',1,'conv_01a20071-f4e6-7306-b22c-3771186962ba',0,1795303797990171,'{"type":"run.created","data":{"agent":"open","input":"script:late thinking","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f4e6-7358-a4a7-6749d3d7b65e',2,'conv_01a20071-f4e6-7306-b22c-3771186962ba',1,1795303797993000,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f',1,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',0,1795303797998323,'{"type":"run.created","data":{"agent":"open","input":"script:late again","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f',2,'conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',1,1795303798001198,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',1,'conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c',0,1795303798010945,'{"type":"run.created","data":{"agent":"open","input":"script:cut unknown","retry_of":null}}');
INSERT INTO events VALUES('run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',2,'conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c',1,1795303798013852,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',3,'conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c',1,1795303798018222,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"tool_call","call_id":"call_01a20071-f502-750e-8279-20b8581d6791","tool":"exec","args":{"argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"]}}]}}}');
INSERT INTO events VALUES('run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',4,'conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c',1,1795303798018222,'{"type":"tool.requested","data":{"call_id":"call_01a20071-f502-750e-8279-20b8581d6791","tool":"exec","args":{"argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"]},"effect":"unsafe","risk":"low"}}');
INSERT INTO events VALUES('run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',5,'conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c',1,1795303798018222,'{"type":"tool.started","data":{"call_id":"call_01a20071-f502-750e-8279-20b8581d6791","tool":"exec","attempt":1,"rule":"command.any","layer":"definition"}}');
CREATE TABLE bundles (
    id              TEXT PRIMARY KEY,
    run_id          TEXT   NOT NULL,
    conversation_id TEXT   NOT NULL,
    parent_id       TEXT,
    kind            TEXT   NOT NULL,
    body            TEXT   NOT NULL,
    created_at      BIGINT NOT NULL
);
INSERT INTO bundles VALUES('bdl_01a20071-f426-7e87-a4f7-3a854dee85d3','run_01a20071-f38c-7b33-9913-08131b734ee9','conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1',NULL,'final','{"id":"bdl_01a20071-f426-7e87-a4f7-3a854dee85d3","run_id":"run_01a20071-f38c-7b33-9913-08131b734ee9","conversation_id":"conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1","parent_id":null,"kind":"final","environment":{"agent":"open","agent_version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","workspace":"/tmp/art-test-N9Lkj9/data/workspaces/open"},"context":{"calls":[],"step":2},"history":{"conversation_id":"conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1","last_seq":4},"created_at":"2026-11-21T23:29:57.798Z"}',1795303797798652);
INSERT INTO bundles VALUES('bdl_01a20071-f490-711a-b51a-fa345589ea2e','run_01a20071-f47e-70fd-8f4e-602db8a34407','conv_01a20071-f47e-70b4-a636-b914c11505c8',NULL,'safe_point','{"id":"bdl_01a20071-f490-711a-b51a-fa345589ea2e","run_id":"run_01a20071-f47e-70fd-8f4e-602db8a34407","conversation_id":"conv_01a20071-f47e-70b4-a636-b914c11505c8","parent_id":null,"kind":"safe_point","environment":{"agent":"careful","agent_version":"6c0a2279be2058d6cb3b73631400cecd995db3ec1200f4cd2d6cae5e9e73f748","workspace":"/tmp/art-test-N9Lkj9/data/workspaces/careful"},"context":{"calls":[{"args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","call_id":"call_01a20071-f485-7d1a-8c1d-19d329d48996","state":"gated","tool":"exec"}],"step":1},"history":{"conversation_id":"conv_01a20071-f47e-70b4-a636-b914c11505c8","last_seq":2},"created_at":"2026-11-21T23:29:57.902Z"}',1795303797902450);
INSERT INTO bundles VALUES('bdl_01a20071-f4bc-7210-b904-b65fd05c4f79','run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a','conv_01a20071-f4b2-748f-b315-b24cf951933e',NULL,'safe_point','{"id":"bdl_01a20071-f4bc-7210-b904-b65fd05c4f79","run_id":"run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a","conversation_id":"conv_01a20071-f4b2-748f-b315-b24cf951933e","parent_id":null,"kind":"safe_point","environment":{"agent":"open","agent_version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","workspace":"/tmp/art-test-N9Lkj9/data/workspaces/open"},"context":{"calls":[{"args_hash":"3cf9e8b4c64fffb3ca5efed6fed3b232eff9e1dde056a83663008890342262b1","call_id":"call_01a20071-f4bb-7af9-934b-78df9cfc1cc9","state":"gated","tool":"ask_user"}],"step":1},"history":{"conversation_id":"conv_01a20071-f4b2-748f-b315-b24cf951933e","last_seq":2},"created_at":"2026-11-21T23:29:57.947Z"}',1795303797947578);
INSERT INTO bundles VALUES('bdl_01a20071-f4d9-736c-b509-93a52211daa6','run_01a20071-f4cb-7fb6-a7ad-3eb55b291788','conv_01a20071-f4cb-7f68-86de-d95c71e5773f',NULL,'safe_point','{"id":"bdl_01a20071-f4d9-736c-b509-93a52211daa6","run_id":"run_01a20071-f4cb-7fb6-a7ad-3eb55b291788","conversation_id":"conv_01a20071-f4cb-7f68-86de-d95c71e5773f","parent_id":null,"kind":"safe_point","environment":{"agent":"open","agent_version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","workspace":"/tmp/art-test-N9Lkj9/data/workspaces/open"},"context":{"calls":[],"step":1},"history":{"conversation_id":"conv_01a20071-f4cb-7f68-86de-d95c71e5773f","last_seq":1},"created_at":"2026-11-21T23:29:57.977Z"}',1795303797977103);
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
INSERT INTO audit VALUES(1,'evt_01a20071-f2d6-7970-8bdc-61d2c241e5d2',1795303797462000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a20071-f1d7-75ae-904b-3fe1dfc16224","duration_ms":0,"host":"unlisted.invalid","method":"GET","port":80,"reason":"no_policy","via":"http"}','0000000000000000000000000000000000000000000000000000000000000000','fccaddfe2fbd5c566e7150fc5b97109226c80295d534269ac13098bf3de77822');
INSERT INTO audit VALUES(2,'evt_01a20071-f2d8-72bc-bc9f-120bddfb2107',1795303797464000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a20071-f1d7-75ae-904b-3fe1dfc16224","duration_ms":0,"host":"192.0.2.1","method":"GET","port":80,"reason":"no_policy","via":"http"}','fccaddfe2fbd5c566e7150fc5b97109226c80295d534269ac13098bf3de77822','fbe911998fc00609e0ebcb292f8bde6bd0f8ab6ddd0812a1b6d7153d110e7f6a');
INSERT INTO audit VALUES(3,'evt_01a20071-f2d9-7364-abd5-947925c7da80',1795303797465000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a20071-f1d7-75ae-904b-3fe1dfc16224","duration_ms":0,"host":"","port":443,"reason":"not_tls","via":"tls"}','fbe911998fc00609e0ebcb292f8bde6bd0f8ab6ddd0812a1b6d7153d110e7f6a','56fe344273e964672739b4c42998660ca9098e09b43489a891d985243dd40be4');
INSERT INTO audit VALUES(4,'evt_01a20071-f2da-7a6e-b737-1b482ca62fa1',1795303797466000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a20071-f1d7-75ae-904b-3fe1dfc16224","duration_ms":0,"host":"unlisted.invalid","port":443,"reason":"no_policy","via":"connect"}','56fe344273e964672739b4c42998660ca9098e09b43489a891d985243dd40be4','2bfc320114fa9d79eff7b171b8aff89a93fb078e0a745b9a90b678674511eac9');
INSERT INTO audit VALUES(5,'evt_01a20071-f2db-77ef-8bc4-f2e4def7787c',1795303797467000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a20071-f1d7-75ae-904b-3fe1dfc16224","duration_ms":0,"host":"unlisted.invalid","port":53,"reason":"no_policy","via":"dns"}','2bfc320114fa9d79eff7b171b8aff89a93fb078e0a745b9a90b678674511eac9','631ee0d25bc31990725bbfa2a06a1251d53c4f3025a44cbf326878df5750064b');
INSERT INTO audit VALUES(6,'evt_01a20071-f2db-7fe3-baf3-df76f6ee3370',1795303797467000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a20071-f1d7-75ae-904b-3fe1dfc16224","duration_ms":0,"host":"unlisted.invalid","port":53,"reason":"no_policy","via":"dns"}','631ee0d25bc31990725bbfa2a06a1251d53c4f3025a44cbf326878df5750064b','4132881be84f04ec14c185111bfdb9bf680098bd3e1916a22e043f71d01608bb');
INSERT INTO audit VALUES(7,'evt_01a20071-f2e3-7e24-aafd-ec1be7808425',1795303797474000,'policy','system','system',NULL,NULL,'{"after":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","before":null,"note":null,"version":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","what":"builtin_taken_up"}','4132881be84f04ec14c185111bfdb9bf680098bd3e1916a22e043f71d01608bb','dd4a27920e304e44cdbf7e8676292fb44fd2ce4666225ea16108211e176dbbd1');
INSERT INTO audit VALUES(8,'evt_01a20071-f2fb-7fd2-894a-475f808fe455',1795303797499000,'daemon','system','system',NULL,NULL,'{"version":"0.1.0","what":"started"}','dd4a27920e304e44cdbf7e8676292fb44fd2ce4666225ea16108211e176dbbd1','a43cc7fde2f506c934618d8fda457f741f1726df38824f65adacb17194deeded');
INSERT INTO audit VALUES(9,'evt_01a20071-f326-7953-94d2-5dfdb2681007',1795303797541000,'rbac','prn_de5afe39-1566-82ca-adec-0a637b192e40','admin',NULL,'req_01a20071f3247220a47bcb52df74ea70','{"after":{"configured":false,"created_at":"2026-11-21T23:29:57.541Z","created_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40","disabled_at":null,"id":"prn_01a20071-f326-712b-a5bc-3b5bca3407e8","name":"ann","role":"operator","scopes":{}},"before":null,"what":"principal created"}','a43cc7fde2f506c934618d8fda457f741f1726df38824f65adacb17194deeded','549da141013e3180027186061b381ace63bb380e5265f6d3b54d5665791e88d7');
INSERT INTO audit VALUES(10,'evt_01a20071-f34a-733b-828f-edcdc48b8e49',1795303797577000,'egress_list','prn_de5afe39-1566-82ca-adec-0a637b192e40','admin',NULL,'req_01a20071f3487aa7a1bbf18d5acf8503','{"after":{"agent":"open","created_at":"2026-11-21T23:29:57.577Z","created_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40","id":"egr_01a20071-f349-7d2f-896b-78734e94d3bf","note":null,"rule":"api.example.com","verdict":"allow"},"before":null,"what":"added"}','549da141013e3180027186061b381ace63bb380e5265f6d3b54d5665791e88d7','c3395b6734e9f25961b183fe0e0a8b1b922f588de4515cbe0f90f826e92e31ea');
INSERT INTO audit VALUES(11,'evt_01a20071-f380-7b91-bf9d-326acd2ed1a4',1795303797631000,'budget','prn_de5afe39-1566-82ca-adec-0a637b192e40','admin',NULL,'req_01a20071f37f7456a237d73d43ea3f18','{"after":{"tokens_per_day":9000000,"usd_per_day":null},"before":{"tokens_per_day":null,"usd_per_day":null},"scope":"org","subject":"","what":"set"}','c3395b6734e9f25961b183fe0e0a8b1b922f588de4515cbe0f90f826e92e31ea','a9efb75e303a7d847ed205690e5593cfcb2fc8e56c9431bba86cf0394ff237bf');
INSERT INTO audit VALUES(12,'evt_01a20071-f38d-77f7-a560-3fd82c08d817',1795303797644000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f38c-7b33-9913-08131b734ee9','req_01a20071f38b77ef912603389ca17bfc','{"agent":"open","retry_of":null,"to":"queued"}','a9efb75e303a7d847ed205690e5593cfcb2fc8e56c9431bba86cf0394ff237bf','60c628319b31c2b69405ed51cf9b46cac6941494c0ed5495b08a4e50db81a66a');
INSERT INTO audit VALUES(13,'evt_01a20071-f398-7c20-b35b-b13a71f65494',1795303797655000,'run_state','system','system','run_01a20071-f38c-7b33-9913-08131b734ee9',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','60c628319b31c2b69405ed51cf9b46cac6941494c0ed5495b08a4e50db81a66a','f7cbe683e7724c74a5756bb395a56b3a9ac51cf8107d2be7f8af7da24063c559');
INSERT INTO audit VALUES(14,'evt_01a20071-f398-7dae-b2e8-48dbcbd323f3',1795303797655000,'capability_granted','system','system','run_01a20071-f38c-7b33-9913-08131b734ee9',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a20071-f397-7672-8464-da9646d4bf90","delegatable":true,"expires_at":"2026-11-21T23:40:57.655Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','f7cbe683e7724c74a5756bb395a56b3a9ac51cf8107d2be7f8af7da24063c559','422eff5e052e697b0c3b4ecff33fa1843170cf3655f2e5f93955e4c4e59ed673');
INSERT INTO audit VALUES(15,'evt_01a20071-f3f8-7ca3-b548-0caad494e66b',1795303797662000,'capability_granted','system','system','run_01a20071-f38c-7b33-9913-08131b734ee9',NULL,'{"agent":"open","call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","capability_id":"cap_01a20071-f3ee-7e56-b6f2-bb8343a607ad","delegatable":false,"expires_at":"2026-11-21T23:31:57.662Z","parent":"cap_01a20071-f397-7672-8464-da9646d4bf90","permissions":["tool use exec (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","host connect api.example.com"]}','422eff5e052e697b0c3b4ecff33fa1843170cf3655f2e5f93955e4c4e59ed673','1cbc80168d93b0ae3ee137bf2ba45424c0cde5cbf01b569e10bb46547253d9f6');
INSERT INTO audit VALUES(16,'evt_01a20071-f3f8-7f53-ad9a-2ac2151b302c',1795303797662000,'tool_started','system','system','run_01a20071-f38c-7b33-9913-08131b734ee9',NULL,'{"args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","attempt":1,"call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","consent":null,"effect":"unsafe","layer":"definition","policy_version":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","risk":"low","rule":"command.any","tainted":false,"tool":"exec"}','1cbc80168d93b0ae3ee137bf2ba45424c0cde5cbf01b569e10bb46547253d9f6','9532b71fa5cdcc4b5af69a0057b8191c62d017cd0751b7c52ae6ce33560e0406');
INSERT INTO audit VALUES(17,'evt_01a20071-f41c-7c4d-87b8-47ee5098900d',1795303797775000,'tool_completed','system','system','run_01a20071-f38c-7b33-9913-08131b734ee9',NULL,'{"call_id":"call_01a20071-f39e-7dd7-8863-17611ff37fb0","confinement":"full","duration_ms":9,"exit_code":0,"status":"ok","tainted":false}','9532b71fa5cdcc4b5af69a0057b8191c62d017cd0751b7c52ae6ce33560e0406','c36b4d848cea3d7da6b14ab135e525431bbbfcb0a1d91893f5acd4d794677a39');
INSERT INTO audit VALUES(18,'evt_01a20071-f42c-7cbc-a17d-134ede8ba302',1795303797798000,'run_state','system','system','run_01a20071-f38c-7b33-9913-08131b734ee9',NULL,'{"epoch":1,"event":"run.succeeded","from":"running","to":"succeeded"}','c36b4d848cea3d7da6b14ab135e525431bbbfcb0a1d91893f5acd4d794677a39','f73a2f598f89a245a053f56914b78017287d9944d0482e58037874945b4e6de4');
INSERT INTO audit VALUES(19,'evt_01a20071-f433-726a-9ca6-947879a4e3a3',1795303797810000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f432-7cfd-bf25-19e35d7948ab','req_01a20071f432727eafc7048e3602a949','{"agent":"open","retry_of":null,"to":"queued"}','f73a2f598f89a245a053f56914b78017287d9944d0482e58037874945b4e6de4','f8da1dc165136cf52b7459785ebc0045c20ace2c71c5340959c496bc4637f152');
INSERT INTO audit VALUES(20,'evt_01a20071-f436-742d-b12b-c0809372c589',1795303797813000,'run_state','system','system','run_01a20071-f432-7cfd-bf25-19e35d7948ab',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','f8da1dc165136cf52b7459785ebc0045c20ace2c71c5340959c496bc4637f152','e321dfe0ca6358cb9c609bec6ca96aa0c9b07982bc807038183c4e61dca6a3a8');
INSERT INTO audit VALUES(21,'evt_01a20071-f436-7537-9699-523de7660a19',1795303797813000,'capability_granted','system','system','run_01a20071-f432-7cfd-bf25-19e35d7948ab',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a20071-f435-76ed-b371-0908cd3209cb","delegatable":true,"expires_at":"2026-11-21T23:40:57.813Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','e321dfe0ca6358cb9c609bec6ca96aa0c9b07982bc807038183c4e61dca6a3a8','4e91c63c5dc9f278d9176eec9ab5aafa2a2976619fc07fba5b2143654d25e274');
INSERT INTO audit VALUES(22,'evt_01a20071-f448-71ba-afbd-1381ee71a877',1795303797831000,'control','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f432-7cfd-bf25-19e35d7948ab','req_01a20071f44670e1b072476db54b2a00','{"reason":null,"verb":"cancel"}','4e91c63c5dc9f278d9176eec9ab5aafa2a2976619fc07fba5b2143654d25e274','cd3f88919a37874a27103eb6a33f0eaedced794597d0030720a9fa246b547623');
INSERT INTO audit VALUES(23,'evt_01a20071-f448-7399-bfb1-10ecdab590c5',1795303797831000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f432-7cfd-bf25-19e35d7948ab','req_01a20071f44670e1b072476db54b2a00','{"epoch":1,"event":"run.cancel_requested","from":"running","to":"cancelling"}','cd3f88919a37874a27103eb6a33f0eaedced794597d0030720a9fa246b547623','97df479063522bfe5916edfe88a271a971e165b36d7b47124db516f1c9be74b0');
INSERT INTO audit VALUES(24,'evt_01a20071-f44b-769f-ad4c-b56f39c9ab6f',1795303797834000,'run_state','system','system','run_01a20071-f432-7cfd-bf25-19e35d7948ab',NULL,'{"epoch":1,"event":"run.cancelled","from":"cancelling","to":"cancelled"}','97df479063522bfe5916edfe88a271a971e165b36d7b47124db516f1c9be74b0','d77a146991727cbf9488e663817412155c45c3a9ed705ed9bd0223bb7919ff27');
INSERT INTO audit VALUES(25,'evt_01a20071-f45c-78e1-873d-f31dcd44e907',1795303797851000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f45c-7000-a9a1-50f2166d1998','req_01a20071f45a7fdba39c842cc9338f2b','{"agent":"open","retry_of":null,"to":"queued"}','d77a146991727cbf9488e663817412155c45c3a9ed705ed9bd0223bb7919ff27','bea17d30380b8d96c005912751586f9bcbce185ed83648fa9672b14c36d875f2');
INSERT INTO audit VALUES(26,'evt_01a20071-f465-728f-a72d-ce4a4c7b5497',1795303797858000,'run_state','system','system','run_01a20071-f45c-7000-a9a1-50f2166d1998',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','bea17d30380b8d96c005912751586f9bcbce185ed83648fa9672b14c36d875f2','0a7c0b4d398d02a9a826cba722eb327b8400cba37d50452bee0d47ff4e2fee50');
INSERT INTO audit VALUES(27,'evt_01a20071-f465-7410-80b3-069de5575280',1795303797858000,'capability_granted','system','system','run_01a20071-f45c-7000-a9a1-50f2166d1998',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a20071-f463-708b-99b5-add926a9c399","delegatable":true,"expires_at":"2026-11-21T23:40:57.858Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','0a7c0b4d398d02a9a826cba722eb327b8400cba37d50452bee0d47ff4e2fee50','50b1b3663a421cb23fc7772c2cb849a16d6c6548e39a423ae338268613882e31');
INSERT INTO audit VALUES(28,'evt_01a20071-f469-714f-8a6e-7c6ad49409d5',1795303797864000,'run_state','system','system','run_01a20071-f45c-7000-a9a1-50f2166d1998',NULL,'{"epoch":1,"event":"run.failed","from":"running","to":"failed"}','50b1b3663a421cb23fc7772c2cb849a16d6c6548e39a423ae338268613882e31','03215ef8a3b9d73689c6a181a657bb0c0d39dc33b2464fbcb0f6fafc061dfa2f');
INSERT INTO audit VALUES(29,'evt_01a20071-f47e-777c-8012-2d4024ae1283',1795303797886000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f47e-70fd-8f4e-602db8a34407','req_01a20071f47d74f9a105cc43353f48e9','{"agent":"careful","retry_of":null,"to":"queued"}','03215ef8a3b9d73689c6a181a657bb0c0d39dc33b2464fbcb0f6fafc061dfa2f','82bbff268fcb8e4c9b64d49fdd8a1ff261cb04460a4c6d0b6d751266172510a5');
INSERT INTO audit VALUES(30,'evt_01a20071-f482-7185-8e6c-4ce6563ecf98',1795303797889000,'run_state','system','system','run_01a20071-f47e-70fd-8f4e-602db8a34407',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','82bbff268fcb8e4c9b64d49fdd8a1ff261cb04460a4c6d0b6d751266172510a5','962867331d2cfb34ebde845eadc249a2852c5d21fbfc5f28ecb5eebbecf89c74');
INSERT INTO audit VALUES(31,'evt_01a20071-f482-7293-a489-99a22b746311',1795303797889000,'capability_granted','system','system','run_01a20071-f47e-70fd-8f4e-602db8a34407',NULL,'{"agent":"careful","call_id":null,"capability_id":"cap_01a20071-f481-73a9-b7a9-dd211a1075ae","delegatable":true,"expires_at":"2026-11-21T23:40:57.889Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/careful/**","command run * (once released)"]}','962867331d2cfb34ebde845eadc249a2852c5d21fbfc5f28ecb5eebbecf89c74','1e402f15c1ffb3db22044eb7a7f83f27a29d3a33b8782ddb7f641abd9e659440');
INSERT INTO audit VALUES(32,'evt_01a20071-f490-76b0-bd0b-34b681c7494b',1795303797902000,'approval_requested','system','system','run_01a20071-f47e-70fd-8f4e-602db8a34407',NULL,'{"approval_id":"apr_01a20071-f48f-7bd7-9fc1-3994148c95fd","args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","binding":"e647142dcbb7125045b0c89f81521ea39769eb6ffa81bbfa70731fa7c0060af0","kind":"tool","layer":"definition","policy_version":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","quorum":1,"required_role":"admin","risk":"high","rule":"command.not_listed","tainted":false,"tool":"exec"}','1e402f15c1ffb3db22044eb7a7f83f27a29d3a33b8782ddb7f641abd9e659440','c85485306456f7f050b5f80517d659cdd9f8cb6b060a56f0f7a19275f73b8143');
INSERT INTO audit VALUES(33,'evt_01a20071-f490-7845-b0cf-038f78096eba',1795303797902000,'run_state','system','system','run_01a20071-f47e-70fd-8f4e-602db8a34407',NULL,'{"epoch":1,"event":"approval.requested","from":"running","to":"awaiting_approval"}','c85485306456f7f050b5f80517d659cdd9f8cb6b060a56f0f7a19275f73b8143','2c2e43d40c5e3c67c408423ac71d8b0c5a1d36be4d0a31b4203669e60bb2927e');
INSERT INTO audit VALUES(34,'evt_01a20071-f4a6-7ee9-8c68-509063cd3c2e',1795303797926000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f4a6-7835-b48a-9b78a81681fd','req_01a20071f4a5744db19dbe898772b5a1','{"agent":"careful","retry_of":null,"to":"queued"}','2c2e43d40c5e3c67c408423ac71d8b0c5a1d36be4d0a31b4203669e60bb2927e','21ca1286b35367cfacc6febe1fba4b261ffeeeb0f40999597aba5cbc8a6ce771');
INSERT INTO audit VALUES(35,'evt_01a20071-f4b2-7b1a-a960-e39ce9626f9a',1795303797938000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a','req_01a20071f4b177c6962f6657a0dad0e1','{"agent":"open","retry_of":null,"to":"queued"}','21ca1286b35367cfacc6febe1fba4b261ffeeeb0f40999597aba5cbc8a6ce771','020769b2805fa33ced02d58f36a27cbe8c593a75ae76783b8d7187ab06e03690');
INSERT INTO audit VALUES(36,'evt_01a20071-f4b7-70c0-9383-424f0d5db6d0',1795303797941000,'run_state','system','system','run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','020769b2805fa33ced02d58f36a27cbe8c593a75ae76783b8d7187ab06e03690','d7d1ec1016bef9470ad30aa49e86dd129c3478fbbcacb408411c4154d92113d6');
INSERT INTO audit VALUES(37,'evt_01a20071-f4b7-7220-872e-d153e59d3ed1',1795303797941000,'capability_granted','system','system','run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a20071-f4b6-707e-9dc8-d8415015742c","delegatable":true,"expires_at":"2026-11-21T23:40:57.941Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','d7d1ec1016bef9470ad30aa49e86dd129c3478fbbcacb408411c4154d92113d6','043337aa5d1fb9a500a3d79f42de20eebe3ef3245c129f8177719ab22eca94e8');
INSERT INTO audit VALUES(38,'evt_01a20071-f4bd-7049-b4b3-ff719e3699d8',1795303797947000,'run_state','system','system','run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',NULL,'{"epoch":1,"event":"run.paused","from":"running","to":"paused"}','043337aa5d1fb9a500a3d79f42de20eebe3ef3245c129f8177719ab22eca94e8','f0a05da99cba125fd532d49871db7f56c6d4294682852c46a4e220fd739602ab');
INSERT INTO audit VALUES(39,'evt_01a20071-f4cc-76a3-a5cc-cb4cbd866d9f',1795303797963000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f4cb-7fb6-a7ad-3eb55b291788','req_01a20071f4cb75a590cc921d9eceeda4','{"agent":"open","retry_of":null,"to":"queued"}','f0a05da99cba125fd532d49871db7f56c6d4294682852c46a4e220fd739602ab','e1915c8959ad84cf7e64b1c7ad13682ea3536470c10eec95f818a5b7240b4213');
INSERT INTO audit VALUES(40,'evt_01a20071-f4cf-78f5-9a9d-94c1eb02f792',1795303797966000,'run_state','system','system','run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','e1915c8959ad84cf7e64b1c7ad13682ea3536470c10eec95f818a5b7240b4213','ea665374e3a9364931e37421eeeffa1bc5ed6cca3929af73d4c8e74bdfed1114');
INSERT INTO audit VALUES(41,'evt_01a20071-f4cf-79d7-9561-9cad15e640fe',1795303797966000,'capability_granted','system','system','run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a20071-f4ce-7c93-b2b7-d3d1e8004c6f","delegatable":true,"expires_at":"2026-11-21T23:40:57.966Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','ea665374e3a9364931e37421eeeffa1bc5ed6cca3929af73d4c8e74bdfed1114','05508f02c1938ea1de489e56c19e89d62f6586a3c70b17db8392acf20210ed42');
INSERT INTO audit VALUES(42,'evt_01a20071-f4d7-73a9-8567-e18793d63865',1795303797974000,'control','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f4cb-7fb6-a7ad-3eb55b291788','req_01a20071f4d67178880c37850b1a7c1d','{"mode":"graceful","verb":"interrupt"}','05508f02c1938ea1de489e56c19e89d62f6586a3c70b17db8392acf20210ed42','ae1aaa7934341db71dac7c098a0f4df5b77d03786cff07ec0191cfc7857e6a28');
INSERT INTO audit VALUES(43,'evt_01a20071-f4d9-7b3f-bfc8-341608394dbc',1795303797977000,'run_state','system','system','run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',NULL,'{"epoch":1,"event":"run.paused","from":"running","to":"paused"}','ae1aaa7934341db71dac7c098a0f4df5b77d03786cff07ec0191cfc7857e6a28','ba998cf0414b53928d840ac2c22e9e41faf746f309cc9d3c8bfa6b5102f729eb');
INSERT INTO audit VALUES(44,'evt_01a20071-f4e6-7c66-80ba-9b39ebfcdd87',1795303797990000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f4e6-7358-a4a7-6749d3d7b65e','req_01a20071f4e576109822561cd2cd9271','{"agent":"open","retry_of":null,"to":"queued"}','ba998cf0414b53928d840ac2c22e9e41faf746f309cc9d3c8bfa6b5102f729eb','c478b8e3c052b887fb8f48c7f1a09e47b7e61f30625f97913550bdfeb143fe2f');
INSERT INTO audit VALUES(45,'evt_01a20071-f4e9-7e49-a849-e962f77da71c',1795303797993000,'run_state','system','system','run_01a20071-f4e6-7358-a4a7-6749d3d7b65e',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','c478b8e3c052b887fb8f48c7f1a09e47b7e61f30625f97913550bdfeb143fe2f','97db820c3faefccee3a4d1577b4845e16996deb1b6d8a9b8bc6647500a8ef9b1');
INSERT INTO audit VALUES(46,'evt_01a20071-f4e9-7f3f-86a2-54d588fbfb08',1795303797993000,'capability_granted','system','system','run_01a20071-f4e6-7358-a4a7-6749d3d7b65e',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a20071-f4e9-70fd-8d11-ca1a275e474e","delegatable":true,"expires_at":"2026-11-21T23:40:57.993Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','97db820c3faefccee3a4d1577b4845e16996deb1b6d8a9b8bc6647500a8ef9b1','4cbcf0316e9e3c7f5b6f51555284753868cdb23bf5f5b74d7780506c42a49b23');
INSERT INTO audit VALUES(47,'evt_01a20071-f4ee-7add-92b6-30eaf6510fed',1795303797998000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f','req_01a20071f4ed7ca39eb800d5f87e1f33','{"agent":"open","retry_of":null,"to":"queued"}','4cbcf0316e9e3c7f5b6f51555284753868cdb23bf5f5b74d7780506c42a49b23','98c56b1b76e8e2749dab8ecb0b67c53e6575b5ef6c2e57264debad4d0795188b');
INSERT INTO audit VALUES(48,'evt_01a20071-f4f1-7ed9-8d5d-b23e2805a64c',1795303798001000,'run_state','system','system','run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','98c56b1b76e8e2749dab8ecb0b67c53e6575b5ef6c2e57264debad4d0795188b','3b6fc2676b418bf9ad4aef4e8b016c6d14ff79af4a5c67204dfb63575ccb0bc6');
INSERT INTO audit VALUES(49,'evt_01a20071-f4f1-7fba-854a-c3246e8069ac',1795303798001000,'capability_granted','system','system','run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a20071-f4f1-740c-ab87-720ea5b0d52a","delegatable":true,"expires_at":"2026-11-21T23:40:58.001Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','3b6fc2676b418bf9ad4aef4e8b016c6d14ff79af4a5c67204dfb63575ccb0bc6','e3ebf775ffcbbea251a1a5528b09a493c7b1516cf6b0eae52f3d23c899597f6b');
INSERT INTO audit VALUES(50,'evt_01a20071-f4fb-76ed-976f-13fb060b4bda',1795303798010000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09','req_01a20071f4fa71dfb9acd6522d2acda2','{"agent":"open","retry_of":null,"to":"queued"}','e3ebf775ffcbbea251a1a5528b09a493c7b1516cf6b0eae52f3d23c899597f6b','ce486b04519cd58fb63b405f02c98544eb167a63e4de66126de142defded8d51');
INSERT INTO audit VALUES(51,'evt_01a20071-f4fe-7b16-8e21-355f4302ac8b',1795303798013000,'run_state','system','system','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','ce486b04519cd58fb63b405f02c98544eb167a63e4de66126de142defded8d51','9e5ee2e873ab8e7652828228328b38f7811c98813887792280e6eb2c79562a0e');
INSERT INTO audit VALUES(52,'evt_01a20071-f4fe-7c08-8fa8-64fd53dfbe6d',1795303798013000,'capability_granted','system','system','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a20071-f4fd-7ecc-beeb-b670fae4be2f","delegatable":true,"expires_at":"2026-11-21T23:40:58.013Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','9e5ee2e873ab8e7652828228328b38f7811c98813887792280e6eb2c79562a0e','20f5b1b41f6889fdc4240d8cd2d9635829820b30eda22e7b005657136cdd5eb7');
INSERT INTO audit VALUES(53,'evt_01a20071-f507-7e5a-836a-73117422acc5',1795303798018000,'capability_granted','system','system','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',NULL,'{"agent":"open","call_id":"call_01a20071-f502-750e-8279-20b8581d6791","capability_id":"cap_01a20071-f506-7ee5-b1de-f84716b1d59a","delegatable":false,"expires_at":"2026-11-21T23:31:58.018Z","parent":"cap_01a20071-f4fd-7ecc-beeb-b670fae4be2f","permissions":["tool use exec (at most 60 s)","path read,write /tmp/art-test-N9Lkj9/data/workspaces/open/**","command run *","host connect api.example.com"]}','20f5b1b41f6889fdc4240d8cd2d9635829820b30eda22e7b005657136cdd5eb7','ca9b70e1bb2d75f266a3c586186fda28c57e17c7591f73e85505dc0e999dd33d');
INSERT INTO audit VALUES(54,'evt_01a20071-f507-7fc6-bd86-d40721fb4f2c',1795303798018000,'tool_started','system','system','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',NULL,'{"args_hash":"411ab2bc651e0f4ccd7aea1166cf726088fb5669372aca895f12ff02431e7a3d","attempt":1,"call_id":"call_01a20071-f502-750e-8279-20b8581d6791","consent":null,"effect":"unsafe","layer":"definition","policy_version":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","risk":"low","rule":"command.any","tainted":false,"tool":"exec"}','ca9b70e1bb2d75f266a3c586186fda28c57e17c7591f73e85505dc0e999dd33d','898caba10fe7582866af58311a85b4c1b26894a07938efbd6ec77c64e0cd43b3');
CREATE TABLE idempotency (
    principal   TEXT   NOT NULL,
    idem_key    TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    response    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (principal, idem_key)
);
INSERT INTO idempotency VALUES('prn_de5afe39-1566-82ca-adec-0a637b192e40','2137a5383ed403e3a3dc243d392693f3','d42addbd3915b474ca124e9566a7082c4795f1306271e990e083786baa3a3ecb','{"id":"prn_01a20071-f326-712b-a5bc-3b5bca3407e8","name":"ann","role":"operator","scopes":{},"source":"stored","disabled_at":null,"last_seen_at":null,"created_at":"2026-11-21T23:29:57.541Z","created_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40"}',1795303797541587);
INSERT INTO idempotency VALUES('prn_de5afe39-1566-82ca-adec-0a637b192e40','ee1970068e895cc7db76447f5ebaedb9','6f8c3dbbe4a0c70a21adae7cf6a9d7f2ebe8d691b44cf2c5ea3af9d905587c64','{"id":"egr_01a20071-f349-7d2f-896b-78734e94d3bf","layer":"list","agent":"open","verdict":"allow","rule":"api.example.com","note":null,"created_at":"2026-11-21T23:29:57.577Z","created_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40"}',1795303797577687);
INSERT INTO idempotency VALUES('prn_de5afe39-1566-82ca-adec-0a637b192e40','b3379ae93909fece3331c15256152864','537d721cd7b544923b353ec8d72ca5f4bea0526f1b6eb58faa242a5378466a62','{"scope":"org","subject":"","usd_per_day":null,"tokens_per_day":9000000,"layer":"set","day":"2026-11-21","used_usd":"0","used_tokens":0,"held_usd":"0","held_tokens":0,"updated_at":"2026-11-21T23:29:57.631Z","updated_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40"}',1795303797631969);
CREATE TABLE egress_rules (
    id         TEXT PRIMARY KEY,
    agent      TEXT,
    verdict    TEXT   NOT NULL,
    rule       TEXT   NOT NULL,
    note       TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL
);
INSERT INTO egress_rules VALUES('egr_01a20071-f349-7d2f-896b-78734e94d3bf','open','allow','api.example.com',NULL,1795303797577687,'prn_de5afe39-1566-82ca-adec-0a637b192e40');
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
INSERT INTO principals VALUES('prn_01a20071-f326-712b-a5bc-3b5bca3407e8','ann','operator','{}',0,NULL,1795303797541587,'prn_de5afe39-1566-82ca-adec-0a637b192e40');
CREATE TABLE principal_seen (
    principal TEXT PRIMARY KEY,
    at        BIGINT NOT NULL
);
CREATE TABLE run_scopes (
    run_id TEXT PRIMARY KEY,
    tools  TEXT,
    role   TEXT
);
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
CREATE TABLE policies (
    n          BIGINT PRIMARY KEY,
    version    TEXT   NOT NULL,
    source     TEXT   NOT NULL,
    note       TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL
);
INSERT INTO policies VALUES(1,'dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1',replace('version = 1\n','\n',char(10)),NULL,1795303797474854,'system');
CREATE TABLE policy_activations (
    n          BIGINT PRIMARY KEY,
    version    TEXT   NOT NULL,
    origin     TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    done_by    TEXT   NOT NULL,
    note       TEXT
);
INSERT INTO policy_activations VALUES(1,'dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','builtin',1795303797474854,'system',NULL);
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
INSERT INTO decisions VALUES('call_01a20071-f39e-7dd7-8863-17611ff37fb0',4,'run_01a20071-f38c-7b33-9913-08131b734ee9',1795303797662695,'open','dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','allow','command.any','definition','{"agent":{"name":"open","version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","tools":["exec","shell","read_file","write_file","edit_file","list_files","search_files","ask_user"],"workspace":"/tmp/art-test-N9Lkj9/data/workspaces/open","allowed_paths":[],"allowed_commands":["*"],"may_execute_files":false,"egress":{"connections":1000,"requests":2000,"bytes_up":67108864,"bytes_down":1073741824,"tunnels":32,"names_per_minute":120},"tool_limits":{"wall_secs":60,"cpu_secs":60,"memory_bytes":4294967296,"processes":256,"file_bytes":268435456,"open_files":256,"tmp_bytes":67108864,"tmp_inodes":4096,"memory_total_bytes":4294967296,"workspace_bytes":4294967296,"workspace_inodes":200000,"output_bytes":65536}},"hosts":{"allow":["api.example.com"],"deny":[]},"facts":{"tool":"exec","effect":"unsafe","argv":["/bin/sh","-c","echo ran >> ran.log"],"script":null,"sets_env":false,"paths":[{"path":".","is_write":false}],"is_tree":false,"network":null,"request":null},"tainted":false,"role":"admin","surface":"api","conversation":"conv_01a20071-f38c-7ad4-983f-d4b1c84ae9e1"}');
INSERT INTO decisions VALUES('call_01a20071-f485-7d1a-8c1d-19d329d48996',4,'run_01a20071-f47e-70fd-8f4e-602db8a34407',1795303797902450,'careful','dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','ask','command.not_listed','definition','{"agent":{"name":"careful","version":"6c0a2279be2058d6cb3b73631400cecd995db3ec1200f4cd2d6cae5e9e73f748","tools":["exec","shell","read_file","write_file","edit_file","list_files","search_files","ask_user"],"workspace":"/tmp/art-test-N9Lkj9/data/workspaces/careful","allowed_paths":[],"allowed_commands":[],"may_execute_files":false,"egress":{"connections":1000,"requests":2000,"bytes_up":67108864,"bytes_down":1073741824,"tunnels":32,"names_per_minute":120},"tool_limits":{"wall_secs":60,"cpu_secs":60,"memory_bytes":4294967296,"processes":256,"file_bytes":268435456,"open_files":256,"tmp_bytes":67108864,"tmp_inodes":4096,"memory_total_bytes":4294967296,"workspace_bytes":4294967296,"workspace_inodes":200000,"output_bytes":65536}},"hosts":{"allow":[],"deny":[]},"facts":{"tool":"exec","effect":"unsafe","argv":["/bin/sh","-c","echo ran >> ran.log"],"script":null,"sets_env":false,"paths":[{"path":".","is_write":false}],"is_tree":false,"network":null,"request":null},"tainted":false,"role":"admin","surface":"api","conversation":"conv_01a20071-f47e-70b4-a636-b914c11505c8"}');
INSERT INTO decisions VALUES('call_01a20071-f4bb-7af9-934b-78df9cfc1cc9',4,'run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',1795303797947578,'open','dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','allow','ask_user.allowed','builtin','{"agent":{"name":"open","version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","tools":["exec","shell","read_file","write_file","edit_file","list_files","search_files","ask_user"],"workspace":"/tmp/art-test-N9Lkj9/data/workspaces/open","allowed_paths":[],"allowed_commands":["*"],"may_execute_files":false,"egress":{"connections":1000,"requests":2000,"bytes_up":67108864,"bytes_down":1073741824,"tunnels":32,"names_per_minute":120},"tool_limits":{"wall_secs":60,"cpu_secs":60,"memory_bytes":4294967296,"processes":256,"file_bytes":268435456,"open_files":256,"tmp_bytes":67108864,"tmp_inodes":4096,"memory_total_bytes":4294967296,"workspace_bytes":4294967296,"workspace_inodes":200000,"output_bytes":65536}},"hosts":{"allow":["api.example.com"],"deny":[]},"facts":{"tool":"ask_user","effect":"pure","argv":[],"script":null,"sets_env":false,"paths":[],"is_tree":false,"network":null,"request":null},"tainted":false,"role":"admin","surface":"api","conversation":"conv_01a20071-f4b2-748f-b315-b24cf951933e"}');
INSERT INTO decisions VALUES('call_01a20071-f502-750e-8279-20b8581d6791',4,'run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',1795303798018222,'open','dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','allow','command.any','definition','{"agent":{"name":"open","version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","tools":["exec","shell","read_file","write_file","edit_file","list_files","search_files","ask_user"],"workspace":"/tmp/art-test-N9Lkj9/data/workspaces/open","allowed_paths":[],"allowed_commands":["*"],"may_execute_files":false,"egress":{"connections":1000,"requests":2000,"bytes_up":67108864,"bytes_down":1073741824,"tunnels":32,"names_per_minute":120},"tool_limits":{"wall_secs":60,"cpu_secs":60,"memory_bytes":4294967296,"processes":256,"file_bytes":268435456,"open_files":256,"tmp_bytes":67108864,"tmp_inodes":4096,"memory_total_bytes":4294967296,"workspace_bytes":4294967296,"workspace_inodes":200000,"output_bytes":65536}},"hosts":{"allow":["api.example.com"],"deny":[]},"facts":{"tool":"exec","effect":"unsafe","argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"],"script":null,"sets_env":false,"paths":[{"path":".","is_write":false}],"is_tree":false,"network":null,"request":null},"tainted":false,"role":"admin","surface":"api","conversation":"conv_01a20071-f4fa-7f6c-883a-80665bdc2a7c"}');
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
INSERT INTO capabilities VALUES('cap_01a20071-f397-7672-8464-da9646d4bf90',NULL,'run_01a20071-f38c-7b33-9913-08131b734ee9',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mMzk3LTc2NzItODQ2NC1kYTk2NDZkNGJmOTAAAAAocnVuXzAxYTIwMDcxLWYzOGMtN2IzMy05OTEzLTA4MTMxYjczNGVlOQAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0fhvgAAAAIAAZg0eR2U_gAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.1aCY9787iLaU8FnRIvkKkSGoMtgTz6Oaa5F9_Hzi9UQ',1795303797655288,1795304457655288,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f3ee-7e56-b6f2-bb8343a607ad','cap_01a20071-f397-7672-8464-da9646d4bf90','run_01a20071-f38c-7b33-9913-08131b734ee9','call_01a20071-f39e-7dd7-8863-17611ff37fb0','open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mM2VlLTdlNTYtYjZmMi1iYjgzNDNhNjA3YWQAAAAocnVuXzAxYTIwMDcxLWYzOGMtN2IzMy05OTEzLTA4MTMxYjczNGVlOQAAAARvcGVuAAAAKGNhcF8wMWEyMDA3MS1mMzk3LTc2NzItODQ2NC1kYTk2NDZkNGJmOTAAAAApY2FsbF8wMWEyMDA3MS1mMzllLTdkZDctODg2My0xNzYxMWZmMzdmYjAAAAAIAAZg0b0fo-cAAAAIAAZg0cRGsecAAAABAAAAAAEAAAAoY2FwXzAxYTIwMDcxLWYzOTctNzY3Mi04NDY0LWRhOTY0NmQ0YmY5MAAAAAQAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAARleGVjAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHBhdGgAAAACAAAABHJlYWQAAAAFd3JpdGUAAAABAAAALC90bXAvYXJ0LXRlc3QtTjlMa2o5L2RhdGEvd29ya3NwYWNlcy9vcGVuLyoqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.YhhBfQU2Mv6n1_EfeO8yf6UxsAVPfy3vEuqtO9ws83M',1795303797662695,1795303917662695,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f435-76ed-b371-0908cd3209cb',NULL,'run_01a20071-f432-7cfd-bf25-19e35d7948ab',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNDM1LTc2ZWQtYjM3MS0wOTA4Y2QzMjA5Y2IAAAAocnVuXzAxYTIwMDcxLWY0MzItN2NmZC1iZjI1LTE5ZTM1ZDc5NDhhYgAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0h8HsAAAAIAAZg0eR4vXsAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.7WowFEJl2w-AMPgR7y-dy1hcP2Ny3TGt_x5EMsiURFE',1795303797813371,1795304457813371,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f463-708b-99b5-add926a9c399',NULL,'run_01a20071-f45c-7000-a9a1-50f2166d1998',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNDYzLTcwOGItOTliNS1hZGQ5MjZhOWMzOTkAAAAocnVuXzAxYTIwMDcxLWY0NWMtNzAwMC1hOWExLTUwZjIxNjZkMTk5OAAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0iom8AAAAIAAZg0eR5b28AAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.1UpRphej3wAH1wxh7cHuC15iTGrIUGIqVz3IL1I48tM',1795303797858927,1795304457858927,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f481-73a9-b7a9-dd211a1075ae',NULL,'run_01a20071-f47e-70fd-8f4e-602db8a34407',NULL,'careful','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNDgxLTczYTktYjdhOS1kZDIxMWExMDc1YWUAAAAocnVuXzAxYTIwMDcxLWY0N2UtNzBmZC04ZjRlLTYwMmRiOGEzNDQwNwAAAAdjYXJlZnVsAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0jGIEAAAAIAAZg0eR55YEAAAABAQAAAAAAAAAKAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAAC8vdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvY2FyZWZ1bC8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAQAAAA1vbmx5X3JlbGVhc2VkAAAAAA.c6qA2lte2_DfJH4zFqjDKNEElHykPIk7IiTFn4eNz_g',1795303797889153,1795304457889153,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f4b6-707e-9dc8-d8415015742c',NULL,'run_01a20071-f4b2-74e5-ad2a-b7a31c3b262a',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNGI2LTcwN2UtOWRjOC1kODQxNTAxNTc0MmMAAAAocnVuXzAxYTIwMDcxLWY0YjItNzRlNS1hZDJhLWI3YTMxYzNiMjYyYQAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0j5nUAAAAIAAZg0eR6s3UAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.n8WM0NAz5cMGckUeaSdNrHpos7EA6ohWNEcNcw7zeWA',1795303797941877,1795304457941877,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f4ce-7c93-b2b7-d3d1e8004c6f',NULL,'run_01a20071-f4cb-7fb6-a7ad-3eb55b291788',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNGNlLTdjOTMtYjJiNy1kM2QxZTgwMDRjNmYAAAAocnVuXzAxYTIwMDcxLWY0Y2ItN2ZiNi1hN2FkLTNlYjU1YjI5MTc4OAAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0kR4wAAAAIAAZg0eR7FIwAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.tAy2c0478dul4WUmhVbpQq9WBo9qUHNjsxISoKBi4yc',1795303797966732,1795304457966732,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f4e9-70fd-8d11-ca1a275e474e',NULL,'run_01a20071-f4e6-7358-a4a7-6749d3d7b65e',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNGU5LTcwZmQtOGQxMS1jYTFhMjc1ZTQ3NGUAAAAocnVuXzAxYTIwMDcxLWY0ZTYtNzM1OC1hNGE3LTY3NDlkM2Q3YjY1ZQAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0krigAAAAIAAZg0eR7eygAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.AXUVN-jCbormKUSs0KQWH_ajmd8_ZWszkO1TgyJpjgc',1795303797993000,1795304457993000,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f4f1-740c-ab87-720ea5b0d52a',NULL,'run_01a20071-f4ee-76b4-b1a7-4a8b2f01173f',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNGYxLTc0MGMtYWI4Ny03MjBlYTViMGQ1MmEAAAAocnVuXzAxYTIwMDcxLWY0ZWUtNzZiNC1iMWE3LTRhOGIyZjAxMTczZgAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0kzi4AAAAIAAZg0eR7my4AAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.Zy_FI16DpzuFn_6uezoUwcVqXIHjuQ5KXihECAtl11o',1795303798001198,1795304458001198,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f4fd-7ecc-beeb-b670fae4be2f',NULL,'run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNGZkLTdlY2MtYmVlYi1iNjcwZmFlNGJlMmYAAAAocnVuXzAxYTIwMDcxLWY0ZmEtN2ZjMi1iZmM2LTUyZDAyZDFhOGIwOQAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg0b0k_5wAAAAIAAZg0eR7zJwAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LU45TGtqOS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.k8UKkqi1V_YLUbmjWa6kS3B__lecEKnSICauCdJe_bI',1795303798013852,1795304458013852,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a20071-f506-7ee5-b1de-f84716b1d59a','cap_01a20071-f4fd-7ecc-beeb-b670fae4be2f','run_01a20071-f4fa-7fc2-bfc6-52d02d1a8b09','call_01a20071-f502-750e-8279-20b8581d6791','open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDA3MS1mNTA2LTdlZTUtYjFkZS1mODQ3MTZiMWQ1OWEAAAAocnVuXzAxYTIwMDcxLWY0ZmEtN2ZjMi1iZmM2LTUyZDAyZDFhOGIwOQAAAARvcGVuAAAAKGNhcF8wMWEyMDA3MS1mNGZkLTdlY2MtYmVlYi1iNjcwZmFlNGJlMmYAAAApY2FsbF8wMWEyMDA3MS1mNTAyLTc1MGUtODI3OS0yMGI4NTgxZDY3OTEAAAAIAAZg0b0lEK4AAAAIAAZg0cRMHq4AAAABAAAAAAEAAAAoY2FwXzAxYTIwMDcxLWY0ZmQtN2VjYy1iZWViLWI2NzBmYWU0YmUyZgAAAAQAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAARleGVjAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHBhdGgAAAACAAAABHJlYWQAAAAFd3JpdGUAAAABAAAALC90bXAvYXJ0LXRlc3QtTjlMa2o5L2RhdGEvd29ya3NwYWNlcy9vcGVuLyoqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.6dA8F-_tsJcHN61UokFzxiqq4hkFFaTiky_dHjudN_o',1795303798018222,1795303918018222,NULL,NULL,NULL,NULL);
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
INSERT INTO budget_use VALUES('agent','open',20778,0,16471,0,11466,0);
INSERT INTO budget_use VALUES('principal','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',20778,0,17724,0,11466,0);
INSERT INTO budget_use VALUES('org','',20778,0,17724,0,11466,0);
INSERT INTO budget_use VALUES('agent','careful',20778,0,1253,0,0,0);
CREATE TABLE budgets (
    scope      TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    nanos      BIGINT,
    tokens     BIGINT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT   NOT NULL,
    PRIMARY KEY (scope, subject)
);
INSERT INTO budgets VALUES('org','',NULL,9000000,1795303797631969,'prn_de5afe39-1566-82ca-adec-0a637b192e40');
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
INSERT INTO usage VALUES(20778,'prn_88f364e5-920b-8448-b135-ec9b0b341bd6','open','default',5,6,16466,5,0);
INSERT INTO usage VALUES(20778,'prn_88f364e5-920b-8448-b135-ec9b0b341bd6','careful','default',1,1,1252,1,0);
CREATE TABLE sealed_secrets (
    name       TEXT PRIMARY KEY,
    sealed     TEXT   NOT NULL,
    key_id     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    changed_by TEXT   NOT NULL
);
CREATE TABLE secret_ages (
    name         TEXT PRIMARY KEY,
    source       TEXT   NOT NULL,
    fingerprint  TEXT   NOT NULL,
    since        BIGINT NOT NULL,
    last_used_at BIGINT
);
INSERT INTO secret_ages VALUES('auth.permission_secret','environment','9aae4f3e00840f1c44691f62e6eddd622d4315f18444b5e046178b058a60b16f',1795303797116077,NULL);
INSERT INTO secret_ages VALUES('auth.token','config','acb7c93eb0880f8922ba5c48fbf34bebd70619b0a8014734ceb79cc93e529202',1795303797116077,NULL);
INSERT INTO secret_ages VALUES('auth.tokens.alice.token','config','a560051a9c45de20b4c422fdf79b6fe65fb7f25c127e38eabe8f9d6365a851cf',1795303797116077,NULL);
INSERT INTO secret_ages VALUES('auth.tokens.bob.token','config','fca3c0bfbe4c813667c5e65922718319801a108a0b5ca73ede6ac7c802012d76',1795303797116077,NULL);
INSERT INTO secret_ages VALUES('auth.tokens.operator.token','config','b461750e372fa2089ad700242abf826ffb492c26f468379e3cd3b711afb88ec8',1795303797116077,NULL);
INSERT INTO secret_ages VALUES('auth.tokens.viewer.token','config','412d15d068747cc560300773bf14bd172e822a8a106091765ca1a184baaa3ecf',1795303797116077,NULL);
INSERT INTO secret_ages VALUES('llm.api_key','config','2117ebd81e4e1ec01027561ef04a01061bb011dad6804d498a61ed50428054b4',1795303797116077,NULL);
CREATE TABLE audit_checkpoints (
    n          BIGINT PRIMARY KEY,
    hash       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    key_id     TEXT   NOT NULL,
    mac        TEXT   NOT NULL
);
INSERT INTO audit_checkpoints VALUES(7,'dd4a27920e304e44cdbf7e8676292fb44fd2ce4666225ea16108211e176dbbd1',1795303797481000,'660a77a4bf7f0011','acb958f31082431a8846adce86bf9cfe7ad787bf85ac917e6a993ceae50d9df8');
CREATE TABLE lockdown (
    id     BIGINT PRIMARY KEY,
    at     BIGINT NOT NULL,
    done_by TEXT  NOT NULL,
    reason TEXT
);
CREATE INDEX conversations_of_principal ON conversations (principal, id);
CREATE INDEX runs_of_principal ON runs (principal, id);
CREATE INDEX runs_of_conversation ON runs (conversation_id, id);
CREATE INDEX runs_in_state ON runs (state, id);
CREATE INDEX runs_behind ON runs (conversation_id, id) WHERE state = 'queued' AND ready = 0;
CREATE INDEX runs_timed ON runs (wake_at) WHERE wake_at IS NOT NULL;
CREATE UNIQUE INDEX tool_calls_of_step ON tool_calls (run_id, step, idx);
CREATE INDEX steers_of_run ON steers (run_id, id);
CREATE INDEX approvals_of_run ON approvals (run_id, id);
CREATE INDEX approvals_in_state ON approvals (state, id);
CREATE INDEX approvals_pending ON approvals (expires_at) WHERE state = 'pending';
CREATE INDEX bundles_of_run ON bundles (run_id, id);
CREATE INDEX audit_of_run ON audit (run_id, n);
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE UNIQUE INDEX egress_rules_once ON egress_rules (COALESCE(agent, ''), verdict, rule);
CREATE UNIQUE INDEX principals_by_name ON principals (name);
CREATE UNIQUE INDEX tokens_by_public_id ON tokens (public_id);
CREATE INDEX tokens_of_principal ON tokens (principal, id);
CREATE INDEX pairings_in_state ON pairings (state, id);
CREATE UNIQUE INDEX pairings_open ON pairings (platform, account) WHERE state = 'pending';
CREATE INDEX pairings_by_code ON pairings (code_hash);
CREATE UNIQUE INDEX links_live ON links (platform, account) WHERE revoked_at IS NULL;
CREATE INDEX links_of_principal ON links (principal, id);
CREATE UNIQUE INDEX policies_by_version ON policies (version);
CREATE INDEX approval_patterns_of_agent ON approval_patterns (agent, tool, id);
CREATE INDEX capabilities_of_run ON capabilities (run_id, id);
CREATE INDEX runs_claimable ON runs (state, ready, principal, id) WHERE state = 'queued' AND ready = 1;
COMMIT;
