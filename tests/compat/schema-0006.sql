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
INSERT INTO _sqlx_migrations VALUES(1,'foundation','2026-11-22 03:11:33',1,X'7b9b733a2b9f729e3db6681f44949e74536e6f4c26e2270660f69a1644e3e3098ca220b46e63a8a460be1fd17d65a45f',2560181);
INSERT INTO _sqlx_migrations VALUES(2,'egress rules','2026-11-22 03:11:33',1,X'7ce0c26c2a3516b53551392be572b76346c3180401d9e8eecceeee65ea0f1be29d9c77a5cbac8cacbe63b9c41157a115',3118313);
INSERT INTO _sqlx_migrations VALUES(3,'access','2026-11-22 03:11:33',1,X'e77954dbc16a31ec85aa2b52dde43185c522feed9876a621e341c11003b0ff1c9ba2b834a20773a8542fe072b32fe073',3340225);
INSERT INTO _sqlx_migrations VALUES(4,'replicas','2026-11-22 03:11:33',1,X'853293c9d9ac0bdf9b06d320418992384939c8d20396f0ddadf70aaaf72a50598ead8ee76ba730f92468bdae4a8771ad',4122452);
INSERT INTO _sqlx_migrations VALUES(6,'definitions','2026-11-22 03:11:33',1,X'36c7efbb830f6d2ad209baf813d37a9c3df3fc29fbe39295048cffefd38785ebc19bbe8b12ba3291b3adbf78461c6def',4382630);
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters VALUES('boot_epoch',1);
INSERT INTO counters VALUES('queued',1);
INSERT INTO counters VALUES('generation',0);
INSERT INTO counters VALUES('probes',1);
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
INSERT INTO conversations VALUES('conv_01a2013c-d81b-7b6c-b035-2b3f653db71f','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,5,'run_01a2013c-d94c-728b-898f-da1b2f80e7eb',0,'bdl_01a2013c-d883-73df-aca9-58c8544e94d7',NULL,1795317094427673,NULL);
INSERT INTO conversations VALUES('conv_01a2013c-d88b-7712-a1ba-fb13ae267f78','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,1,NULL,0,NULL,NULL,1795317094539411,NULL);
INSERT INTO conversations VALUES('conv_01a2013c-d8b6-7102-86e1-1339698e1bb7','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,1,NULL,0,NULL,NULL,1795317094582033,NULL);
INSERT INTO conversations VALUES('conv_01a2013c-d8cb-7747-9cef-d46a028b46c2','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,2,'run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',1,NULL,NULL,1795317094603423,NULL);
INSERT INTO conversations VALUES('conv_01a2013c-d8e8-71ba-bf53-88506b075858','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,2,'run_01a2013c-d8e8-71f7-8460-165530acb5d4',0,NULL,NULL,1795317094632081,NULL);
INSERT INTO conversations VALUES('conv_01a2013c-d8fe-7b95-b173-f456545ef049','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,1,'run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',0,NULL,NULL,1795317094654691,NULL);
INSERT INTO conversations VALUES('conv_01a2013c-d932-76d9-8c2b-8ef75c164703','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,1,'run_01a2013c-d932-772b-b6fd-26f55143903e',0,NULL,NULL,1795317094706393,NULL);
INSERT INTO conversations VALUES('conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',NULL,2,'run_01a2013c-d96b-7241-b682-5ee45c278c11',0,NULL,NULL,1795317094763076,NULL);
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
INSERT INTO messages VALUES('conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,'msg_01a2013c-d821-7293-b47a-38adcd2a4b1a','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da','user','[{"type":"text","text":"script:exec succeeded"}]',1795317094432678);
INSERT INTO messages VALUES('conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',2,'msg_01a2013c-d82a-7385-8d72-d4f4e9ee9ce1','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da','assistant','[{"type":"tool_call","call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]}}]',1795317094441817);
INSERT INTO messages VALUES('conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',3,'msg_01a2013c-d87b-7a93-8d61-96862b0af66a','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da','tool','[{"type":"tool_result","call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","status":"ok","text":""}]',1795317094523258);
INSERT INTO messages VALUES('conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',4,'msg_01a2013c-d883-72e9-892b-bc55ba34bd9f','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da','assistant','[{"type":"text","text":"done"}]',1795317094530901);
INSERT INTO messages VALUES('conv_01a2013c-d88b-7712-a1ba-fb13ae267f78',1,'msg_01a2013c-d88f-7374-814d-87339ad2674f','run_01a2013c-d88b-7758-a0b5-da6fea7195b1','user','[{"type":"text","text":"script:late cancelled"}]',1795317094542818);
INSERT INTO messages VALUES('conv_01a2013c-d8b6-7102-86e1-1339698e1bb7',1,'msg_01a2013c-d8bb-731a-bd62-bd6faf7055c5','run_01a2013c-d8b6-714b-8456-5d7c0655c610','user','[{"type":"text","text":"script:bad failed"}]',1795317094586784);
INSERT INTO messages VALUES('conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',1,'msg_01a2013c-d8d1-7020-ae64-8a4f06344660','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23','user','[{"type":"text","text":"script:exec asks"}]',1795317094608603);
INSERT INTO messages VALUES('conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',2,'msg_01a2013c-d8d6-79b2-9aa1-3a9588a65096','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23','assistant','[{"type":"tool_call","call_id":"call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]}}]',1795317094614328);
INSERT INTO messages VALUES('conv_01a2013c-d8e8-71ba-bf53-88506b075858',1,'msg_01a2013c-d8ec-702d-9e14-2776843bfb0a','run_01a2013c-d8e8-71f7-8460-165530acb5d4','user','[{"type":"text","text":"script:ask question"}]',1795317094635606);
INSERT INTO messages VALUES('conv_01a2013c-d8e8-71ba-bf53-88506b075858',2,'msg_01a2013c-d8f3-74ac-a9e4-f58a764e513e','run_01a2013c-d8e8-71f7-8460-165530acb5d4','assistant','[{"type":"tool_call","call_id":"call_01a2013c-d8f3-71fb-8ea1-d69c388c2d10","tool":"ask_user","args":{"options":["red","blue"],"question":"Which colour?"}}]',1795317094642890);
INSERT INTO messages VALUES('conv_01a2013c-d8fe-7b95-b173-f456545ef049',1,'msg_01a2013c-d904-70b0-bcd6-b2948d3f683c','run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7','user','[{"type":"text","text":"script:late paused"}]',1795317094659618);
INSERT INTO messages VALUES('conv_01a2013c-d932-76d9-8c2b-8ef75c164703',1,'msg_01a2013c-d937-7610-93bf-c63a5038769a','run_01a2013c-d932-772b-b6fd-26f55143903e','user','[{"type":"text","text":"script:late thinking"}]',1795317094710936);
INSERT INTO messages VALUES('conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',5,'msg_01a2013c-d95e-7c9b-ad90-219f1e480f8a','run_01a2013c-d94c-728b-898f-da1b2f80e7eb','user','[{"type":"text","text":"script:late again"}]',1795317094750292);
INSERT INTO messages VALUES('conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f',1,'msg_01a2013c-d97b-7506-b667-5ab13d4da5a2','run_01a2013c-d96b-7241-b682-5ee45c278c11','user','[{"type":"text","text":"script:cut unknown"}]',1795317094778799);
INSERT INTO messages VALUES('conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f',2,'msg_01a2013c-d982-72f9-b96b-3e62a6e393e3','run_01a2013c-d96b-7241-b682-5ee45c278c11','assistant','[{"type":"tool_call","call_id":"call_01a2013c-d981-7ffb-87b1-c908137ba5fc","tool":"exec","args":{"argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"]}}]',1795317094785740);
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
INSERT INTO runs VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da','conv_01a2013c-d81b-7b6c-b035-2b3f653db71f','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','succeeded',NULL,1,1,9,2,0,0,0,NULL,0,2583,3,0,2,1,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',96,NULL,'full',0,'bdl_01a2013c-d883-73df-aca9-58c8544e94d7',NULL,NULL,NULL,'"script:exec succeeded"','done',NULL,'{}',1795317094427673,1795317094432678,1795317094530901,20779);
INSERT INTO runs VALUES('run_01a2013c-d88b-7758-a0b5-da6fea7195b1','conv_01a2013c-d88b-7712-a1ba-fb13ae267f78','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','cancelled',NULL,1,1,4,1,0,0,0,NULL,0,5689,0,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',20,NULL,NULL,0,NULL,NULL,NULL,NULL,'"script:late cancelled"',NULL,'{"code":"run.cancelled","message":"a person cancelled the run"}','{}',1795317094539411,1795317094542818,1795317094563656,20779);
INSERT INTO runs VALUES('run_01a2013c-d8b6-714b-8456-5d7c0655c610','conv_01a2013c-d8b6-7102-86e1-1339698e1bb7','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','failed',NULL,1,1,3,1,0,0,0,NULL,0,0,0,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',10,NULL,NULL,0,NULL,NULL,NULL,NULL,'"script:bad failed"',NULL,'{"code":"llm.bad_request","message":"model `default` gave no answer: the provider refused the request [bad_request, status 400, code invalid_request_error]"}','{}',1795317094582033,1795317094586784,1795317094595604,20779);
INSERT INTO runs VALUES('run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23','conv_01a2013c-d8cb-7747-9cef-d46a028b46c2','careful','6c0a2279be2058d6cb3b73631400cecd995db3ec1200f4cd2d6cae5e9e73f748','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','awaiting_approval',NULL,1,1,6,1,1,0,0,NULL,0,1252,1,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',8,1795403494617342,NULL,0,'bdl_01a2013c-d8db-741c-be2f-f1cc25e68876',NULL,NULL,NULL,'"script:exec asks"',NULL,NULL,'{}',1795317094603423,1795317094608603,NULL,20779);
INSERT INTO runs VALUES('run_01a2013c-d8e3-7bd7-af9d-780c05155cec','conv_01a2013c-d8cb-7747-9cef-d46a028b46c2','careful','6c0a2279be2058d6cb3b73631400cecd995db3ec1200f4cd2d6cae5e9e73f748','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','queued',NULL,0,NULL,1,0,0,0,0,NULL,0,0,0,0,0,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',0,1795403494627470,NULL,0,NULL,NULL,NULL,NULL,'"script:say queued"',NULL,NULL,'{}',1795317094627470,NULL,NULL,0);
INSERT INTO runs VALUES('run_01a2013c-d8e8-71f7-8460-165530acb5d4','conv_01a2013c-d8e8-71ba-bf53-88506b075858','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','paused','input',1,1,6,1,1,0,0,NULL,0,1253,1,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',7,1795403494642890,NULL,0,'bdl_01a2013c-d8f3-7c20-999f-cbc310c5ac1c',NULL,NULL,NULL,'"script:ask question"',NULL,NULL,'{}',1795317094632081,1795317094635606,NULL,20779);
INSERT INTO runs VALUES('run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7','conv_01a2013c-d8fe-7b95-b173-f456545ef049','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','paused','interrupted',1,1,5,1,1,0,0,NULL,0,5688,0,0,1,0,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',26,1795403494686228,NULL,0,'bdl_01a2013c-d91e-76ac-bffa-055ea98aebd8',NULL,NULL,NULL,'"script:late paused"',NULL,NULL,'{}',1795317094654691,1795317094659618,NULL,20779);
INSERT INTO runs VALUES('run_01a2013c-d932-772b-b6fd-26f55143903e','conv_01a2013c-d932-76d9-8c2b-8ef75c164703','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','running',NULL,1,1,2,1,1,0,0,NULL,0,0,0,0,1,0,5689,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',1,NULL,NULL,0,NULL,NULL,NULL,NULL,'"script:late thinking"',NULL,NULL,'{}',1795317094706393,1795317094710936,NULL,20779);
INSERT INTO runs VALUES('run_01a2013c-d94c-728b-898f-da1b2f80e7eb','conv_01a2013c-d81b-7b6c-b035-2b3f653db71f','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','running',NULL,1,1,2,1,1,0,0,NULL,0,0,0,0,1,0,5777,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',0,NULL,NULL,0,'bdl_01a2013c-d883-73df-aca9-58c8544e94d7','bdl_01a2013c-d883-73df-aca9-58c8544e94d7',NULL,NULL,'"script:late again"',NULL,NULL,'{}',1795317094731824,1795317094750292,NULL,20779);
INSERT INTO runs VALUES('run_01a2013c-d96b-7241-b682-5ee45c278c11','conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f','open','061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','running',NULL,1,1,5,1,1,0,0,NULL,0,1253,1,0,1,1,0,0,'{"timeout_secs":600,"max_steps":50,"max_tool_calls":100,"max_tokens":200000,"max_cost_usd":"1"}',6,NULL,NULL,0,NULL,NULL,NULL,NULL,'"script:cut unknown"',NULL,NULL,'{}',1795317094763076,1795317094778799,NULL,20779);
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
INSERT INTO steps VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',1,'default',1253,1,0,1,1795317094441817);
INSERT INTO steps VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',2,'default',1330,2,0,1,1795317094530901);
INSERT INTO steps VALUES('run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',1,'default',1252,1,0,1,1795317094614328);
INSERT INTO steps VALUES('run_01a2013c-d8e8-71f7-8460-165530acb5d4',1,'default',1253,1,0,1,1795317094642890);
INSERT INTO steps VALUES('run_01a2013c-d96b-7241-b682-5ee45c278c11',1,'default',1253,1,0,1,1795317094785740);
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
INSERT INTO tool_calls VALUES('call_01a2013c-d82a-7112-ba29-0c773504e020','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',1,0,'exec','{"argv":["/bin/sh","-c","echo ran >> ran.log"]}','2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4','unsafe','low','done',1,'{"status":"ok","exit_code":0,"output":"","truncated":false,"duration_ms":7,"confinement":"full"}');
INSERT INTO tool_calls VALUES('call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',1,0,'exec','{"argv":["/bin/sh","-c","echo ran >> ran.log"]}','2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4','unsafe','high','gated',0,NULL);
INSERT INTO tool_calls VALUES('call_01a2013c-d8f3-71fb-8ea1-d69c388c2d10','run_01a2013c-d8e8-71f7-8460-165530acb5d4',1,0,'ask_user','{"options":["red","blue"],"question":"Which colour?"}','3cf9e8b4c64fffb3ca5efed6fed3b232eff9e1dde056a83663008890342262b1','pure','low','gated',0,NULL);
INSERT INTO tool_calls VALUES('call_01a2013c-d981-7ffb-87b1-c908137ba5fc','run_01a2013c-d96b-7241-b682-5ee45c278c11',1,0,'exec','{"argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"]}','411ab2bc651e0f4ccd7aea1166cf726088fb5669372aca895f12ff02431e7a3d','unsafe','low','started',1,NULL);
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
INSERT INTO approvals VALUES('apr_01a2013c-d8da-7e66-afbf-bc45abbdfc99','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23','call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','tool','pending','{"id":"apr_01a2013c-d8da-7e66-afbf-bc45abbdfc99","run_id":"run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23","call_id":"call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed","kind":"tool","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]},"args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","policy_version":"d3ce2c66a9a60416f91e1df43ad3ab4f92e02e620bc613b265b69ff0c70372fe","cwd":"/tmp/art-test-eydLP5/data/workspaces/careful/.","risk":"high","reasons":["`/bin/sh` is not among the commands that this agent may run unasked"],"tainted":false,"egress":[],"binding":"e74fcf1b96b99ffa803c912227e72c0428a55afeb36068380e35b8a6da39cf30","bound":{"cwd":{"path":"/tmp/art-test-eydLP5/data/workspaces/careful","dev":65024,"ino":10084641},"executable":{"path":"/usr/bin/dash","dev":65024,"ino":247076,"bytes":125640,"mtime_ns":1672924848000000000,"ctime_ns":1672924848000000000,"sha256":null},"target":null,"profile":"17a88cf1a2bc0b32b57be5e0a4bf4eb36d22db0b0ab36978d096eb06af2787bb"},"required_role":"admin","quorum":1,"state":"pending","decisions":[],"created_at":"2026-11-22T03:11:34.617Z","expires_at":"2121-12-16T08:31:34.617Z"}',1795317094617342,4795317094617342);
CREATE TABLE events (
    run_id          TEXT   NOT NULL,
    seq             BIGINT NOT NULL,
    conversation_id TEXT   NOT NULL,
    epoch           BIGINT NOT NULL,
    at              BIGINT NOT NULL,
    body            TEXT   NOT NULL,
    PRIMARY KEY (run_id, seq)
);
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',1,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',0,1795317094427673,'{"type":"run.created","data":{"agent":"open","input":"script:exec succeeded","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',2,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094432678,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',3,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094441817,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"tool_call","call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]}}]}}}');
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',4,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094441817,'{"type":"tool.requested","data":{"call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]},"effect":"unsafe","risk":"low"}}');
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',5,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094441817,'{"type":"tool.started","data":{"call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","tool":"exec","attempt":1,"rule":"command.any","layer":"definition"}}');
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',6,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094523258,'{"type":"tool.completed","data":{"call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","status":"ok","exit_code":0,"output":"","truncated":false,"duration_ms":7,"confinement":"full"}}');
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',7,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094530901,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"text","text":"done"}]}}}');
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',8,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094530901,'{"type":"bundle.committed","data":{"bundle_id":"bdl_01a2013c-d883-73df-aca9-58c8544e94d7","parent_id":null}}');
INSERT INTO events VALUES('run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',9,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094530901,'{"type":"run.succeeded","data":{"output":"done","usage":{"input_tokens":2583,"output_tokens":3,"cost_usd":"0","llm_calls":2,"tool_calls":1}}}');
INSERT INTO events VALUES('run_01a2013c-d88b-7758-a0b5-da6fea7195b1',1,'conv_01a2013c-d88b-7712-a1ba-fb13ae267f78',0,1795317094539411,'{"type":"run.created","data":{"agent":"open","input":"script:late cancelled","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d88b-7758-a0b5-da6fea7195b1',2,'conv_01a2013c-d88b-7712-a1ba-fb13ae267f78',1,1795317094542818,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d88b-7758-a0b5-da6fea7195b1',3,'conv_01a2013c-d88b-7712-a1ba-fb13ae267f78',1,1795317094559302,'{"type":"run.cancel_requested","data":{"reason":null}}');
INSERT INTO events VALUES('run_01a2013c-d88b-7758-a0b5-da6fea7195b1',4,'conv_01a2013c-d88b-7712-a1ba-fb13ae267f78',1,1795317094563656,'{"type":"run.cancelled","data":{"reason":null,"unknown_effects":[],"usage":{"input_tokens":5689,"output_tokens":0,"cost_usd":"0","llm_calls":1,"tool_calls":0}}}');
INSERT INTO events VALUES('run_01a2013c-d8b6-714b-8456-5d7c0655c610',1,'conv_01a2013c-d8b6-7102-86e1-1339698e1bb7',0,1795317094582033,'{"type":"run.created","data":{"agent":"open","input":"script:bad failed","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d8b6-714b-8456-5d7c0655c610',2,'conv_01a2013c-d8b6-7102-86e1-1339698e1bb7',1,1795317094586784,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d8b6-714b-8456-5d7c0655c610',3,'conv_01a2013c-d8b6-7102-86e1-1339698e1bb7',1,1795317094595604,'{"type":"run.failed","data":{"error":{"code":"llm.bad_request","message":"model `default` gave no answer: the provider refused the request [bad_request, status 400, code invalid_request_error]"},"usage":{"input_tokens":0,"output_tokens":0,"cost_usd":"0","llm_calls":1,"tool_calls":0}}}');
INSERT INTO events VALUES('run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',1,'conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',0,1795317094603423,'{"type":"run.created","data":{"agent":"careful","input":"script:exec asks","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',2,'conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',1,1795317094608603,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',3,'conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',1,1795317094614328,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"tool_call","call_id":"call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]}}]}}}');
INSERT INTO events VALUES('run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',4,'conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',1,1795317094614328,'{"type":"tool.requested","data":{"call_id":"call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]},"effect":"unsafe","risk":"low"}}');
INSERT INTO events VALUES('run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',5,'conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',1,1795317094617342,'{"type":"approval.requested","data":{"id":"apr_01a2013c-d8da-7e66-afbf-bc45abbdfc99","run_id":"run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23","call_id":"call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed","kind":"tool","tool":"exec","args":{"argv":["/bin/sh","-c","echo ran >> ran.log"]},"args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","policy_version":"d3ce2c66a9a60416f91e1df43ad3ab4f92e02e620bc613b265b69ff0c70372fe","cwd":"/tmp/art-test-eydLP5/data/workspaces/careful/.","risk":"high","reasons":["`/bin/sh` is not among the commands that this agent may run unasked"],"tainted":false,"egress":[],"binding":"e74fcf1b96b99ffa803c912227e72c0428a55afeb36068380e35b8a6da39cf30","bound":{"cwd":{"path":"/tmp/art-test-eydLP5/data/workspaces/careful","dev":65024,"ino":10084641},"executable":{"path":"/usr/bin/dash","dev":65024,"ino":247076,"bytes":125640,"mtime_ns":1672924848000000000,"ctime_ns":1672924848000000000,"sha256":null},"target":null,"profile":"17a88cf1a2bc0b32b57be5e0a4bf4eb36d22db0b0ab36978d096eb06af2787bb"},"required_role":"admin","quorum":1,"state":"pending","decisions":[],"created_at":"2026-11-22T03:11:34.617Z","expires_at":"2121-12-16T08:31:34.617Z"}}');
INSERT INTO events VALUES('run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',6,'conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',1,1795317094617342,'{"type":"bundle.committed","data":{"bundle_id":"bdl_01a2013c-d8db-741c-be2f-f1cc25e68876","parent_id":null}}');
INSERT INTO events VALUES('run_01a2013c-d8e3-7bd7-af9d-780c05155cec',1,'conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',0,1795317094627470,'{"type":"run.created","data":{"agent":"careful","input":"script:say queued","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d8e8-71f7-8460-165530acb5d4',1,'conv_01a2013c-d8e8-71ba-bf53-88506b075858',0,1795317094632081,'{"type":"run.created","data":{"agent":"open","input":"script:ask question","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d8e8-71f7-8460-165530acb5d4',2,'conv_01a2013c-d8e8-71ba-bf53-88506b075858',1,1795317094635606,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d8e8-71f7-8460-165530acb5d4',3,'conv_01a2013c-d8e8-71ba-bf53-88506b075858',1,1795317094642890,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"tool_call","call_id":"call_01a2013c-d8f3-71fb-8ea1-d69c388c2d10","tool":"ask_user","args":{"options":["red","blue"],"question":"Which colour?"}}]}}}');
INSERT INTO events VALUES('run_01a2013c-d8e8-71f7-8460-165530acb5d4',4,'conv_01a2013c-d8e8-71ba-bf53-88506b075858',1,1795317094642890,'{"type":"tool.requested","data":{"call_id":"call_01a2013c-d8f3-71fb-8ea1-d69c388c2d10","tool":"ask_user","args":{"options":["red","blue"],"question":"Which colour?"},"effect":"pure","risk":"low"}}');
INSERT INTO events VALUES('run_01a2013c-d8e8-71f7-8460-165530acb5d4',5,'conv_01a2013c-d8e8-71ba-bf53-88506b075858',1,1795317094642890,'{"type":"bundle.committed","data":{"bundle_id":"bdl_01a2013c-d8f3-7c20-999f-cbc310c5ac1c","parent_id":null}}');
INSERT INTO events VALUES('run_01a2013c-d8e8-71f7-8460-165530acb5d4',6,'conv_01a2013c-d8e8-71ba-bf53-88506b075858',1,1795317094642890,'{"type":"run.paused","data":{"reason":"input","detail":"Which colour? (red / blue)"}}');
INSERT INTO events VALUES('run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',1,'conv_01a2013c-d8fe-7b95-b173-f456545ef049',0,1795317094654691,'{"type":"run.created","data":{"agent":"open","input":"script:late paused","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',2,'conv_01a2013c-d8fe-7b95-b173-f456545ef049',1,1795317094659618,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',3,'conv_01a2013c-d8fe-7b95-b173-f456545ef049',1,1795317094673130,'{"type":"run.interrupt_requested","data":{"mode":"graceful"}}');
INSERT INTO events VALUES('run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',4,'conv_01a2013c-d8fe-7b95-b173-f456545ef049',1,1795317094686228,'{"type":"bundle.committed","data":{"bundle_id":"bdl_01a2013c-d91e-76ac-bffa-055ea98aebd8","parent_id":null}}');
INSERT INTO events VALUES('run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',5,'conv_01a2013c-d8fe-7b95-b173-f456545ef049',1,1795317094686228,'{"type":"run.paused","data":{"reason":"interrupted","detail":null}}');
INSERT INTO events VALUES('run_01a2013c-d932-772b-b6fd-26f55143903e',1,'conv_01a2013c-d932-76d9-8c2b-8ef75c164703',0,1795317094706393,'{"type":"run.created","data":{"agent":"open","input":"script:late thinking","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d932-772b-b6fd-26f55143903e',2,'conv_01a2013c-d932-76d9-8c2b-8ef75c164703',1,1795317094710936,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d94c-728b-898f-da1b2f80e7eb',1,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',0,1795317094731824,'{"type":"run.created","data":{"agent":"open","input":"script:late again","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d94c-728b-898f-da1b2f80e7eb',2,'conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',1,1795317094750292,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d96b-7241-b682-5ee45c278c11',1,'conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f',0,1795317094763076,'{"type":"run.created","data":{"agent":"open","input":"script:cut unknown","retry_of":null}}');
INSERT INTO events VALUES('run_01a2013c-d96b-7241-b682-5ee45c278c11',2,'conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f',1,1795317094778799,'{"type":"run.started","data":{}}');
INSERT INTO events VALUES('run_01a2013c-d96b-7241-b682-5ee45c278c11',3,'conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f',1,1795317094785740,'{"type":"message.completed","data":{"message":{"role":"assistant","content":[{"type":"tool_call","call_id":"call_01a2013c-d981-7ffb-87b1-c908137ba5fc","tool":"exec","args":{"argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"]}}]}}}');
INSERT INTO events VALUES('run_01a2013c-d96b-7241-b682-5ee45c278c11',4,'conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f',1,1795317094785740,'{"type":"tool.requested","data":{"call_id":"call_01a2013c-d981-7ffb-87b1-c908137ba5fc","tool":"exec","args":{"argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"]},"effect":"unsafe","risk":"low"}}');
INSERT INTO events VALUES('run_01a2013c-d96b-7241-b682-5ee45c278c11',5,'conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f',1,1795317094785740,'{"type":"tool.started","data":{"call_id":"call_01a2013c-d981-7ffb-87b1-c908137ba5fc","tool":"exec","attempt":1,"rule":"command.any","layer":"definition"}}');
CREATE TABLE bundles (
    id              TEXT PRIMARY KEY,
    run_id          TEXT   NOT NULL,
    conversation_id TEXT   NOT NULL,
    parent_id       TEXT,
    kind            TEXT   NOT NULL,
    body            TEXT   NOT NULL,
    created_at      BIGINT NOT NULL
);
INSERT INTO bundles VALUES('bdl_01a2013c-d883-73df-aca9-58c8544e94d7','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da','conv_01a2013c-d81b-7b6c-b035-2b3f653db71f',NULL,'final','{"id":"bdl_01a2013c-d883-73df-aca9-58c8544e94d7","run_id":"run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da","conversation_id":"conv_01a2013c-d81b-7b6c-b035-2b3f653db71f","parent_id":null,"kind":"final","environment":{"agent":"open","agent_version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","workspace":"/tmp/art-test-eydLP5/data/workspaces/open"},"context":{"calls":[],"step":2},"history":{"conversation_id":"conv_01a2013c-d81b-7b6c-b035-2b3f653db71f","last_seq":4},"created_at":"2026-11-22T03:11:34.530Z"}',1795317094530901);
INSERT INTO bundles VALUES('bdl_01a2013c-d8db-741c-be2f-f1cc25e68876','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23','conv_01a2013c-d8cb-7747-9cef-d46a028b46c2',NULL,'safe_point','{"id":"bdl_01a2013c-d8db-741c-be2f-f1cc25e68876","run_id":"run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23","conversation_id":"conv_01a2013c-d8cb-7747-9cef-d46a028b46c2","parent_id":null,"kind":"safe_point","environment":{"agent":"careful","agent_version":"6c0a2279be2058d6cb3b73631400cecd995db3ec1200f4cd2d6cae5e9e73f748","workspace":"/tmp/art-test-eydLP5/data/workspaces/careful"},"context":{"calls":[{"args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","call_id":"call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed","state":"gated","tool":"exec"}],"step":1},"history":{"conversation_id":"conv_01a2013c-d8cb-7747-9cef-d46a028b46c2","last_seq":2},"created_at":"2026-11-22T03:11:34.617Z"}',1795317094617342);
INSERT INTO bundles VALUES('bdl_01a2013c-d8f3-7c20-999f-cbc310c5ac1c','run_01a2013c-d8e8-71f7-8460-165530acb5d4','conv_01a2013c-d8e8-71ba-bf53-88506b075858',NULL,'safe_point','{"id":"bdl_01a2013c-d8f3-7c20-999f-cbc310c5ac1c","run_id":"run_01a2013c-d8e8-71f7-8460-165530acb5d4","conversation_id":"conv_01a2013c-d8e8-71ba-bf53-88506b075858","parent_id":null,"kind":"safe_point","environment":{"agent":"open","agent_version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","workspace":"/tmp/art-test-eydLP5/data/workspaces/open"},"context":{"calls":[{"args_hash":"3cf9e8b4c64fffb3ca5efed6fed3b232eff9e1dde056a83663008890342262b1","call_id":"call_01a2013c-d8f3-71fb-8ea1-d69c388c2d10","state":"gated","tool":"ask_user"}],"step":1},"history":{"conversation_id":"conv_01a2013c-d8e8-71ba-bf53-88506b075858","last_seq":2},"created_at":"2026-11-22T03:11:34.642Z"}',1795317094642890);
INSERT INTO bundles VALUES('bdl_01a2013c-d91e-76ac-bffa-055ea98aebd8','run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7','conv_01a2013c-d8fe-7b95-b173-f456545ef049',NULL,'safe_point','{"id":"bdl_01a2013c-d91e-76ac-bffa-055ea98aebd8","run_id":"run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7","conversation_id":"conv_01a2013c-d8fe-7b95-b173-f456545ef049","parent_id":null,"kind":"safe_point","environment":{"agent":"open","agent_version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","workspace":"/tmp/art-test-eydLP5/data/workspaces/open"},"context":{"calls":[],"step":1},"history":{"conversation_id":"conv_01a2013c-d8fe-7b95-b173-f456545ef049","last_seq":1},"created_at":"2026-11-22T03:11:34.686Z"}',1795317094686228);
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
INSERT INTO audit VALUES(1,'evt_01a2013c-d786-734f-a88a-e91463cd3f72',1795317094278000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a2013c-d6ae-7e14-8176-d3fc043279ce","duration_ms":0,"host":"unlisted.invalid","method":"GET","port":80,"reason":"no_policy","via":"http"}','0000000000000000000000000000000000000000000000000000000000000000','044b11def197129845f8ab21810690b192bbac11c137ae93eaf8c51d7a2b8839');
INSERT INTO audit VALUES(2,'evt_01a2013c-d787-7f7c-b854-1016dbac34fb',1795317094279000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a2013c-d6ae-7e14-8176-d3fc043279ce","duration_ms":0,"host":"192.0.2.1","method":"GET","port":80,"reason":"no_policy","via":"http"}','044b11def197129845f8ab21810690b192bbac11c137ae93eaf8c51d7a2b8839','c10e0dc2f68cc0bde1a4f4f1dca6fe37d6f0019dcc6b97b074f453333864b27b');
INSERT INTO audit VALUES(3,'evt_01a2013c-d789-7045-98a6-84a855ce80d2',1795317094280000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a2013c-d6ae-7e14-8176-d3fc043279ce","duration_ms":0,"host":"","port":443,"reason":"not_tls","via":"tls"}','c10e0dc2f68cc0bde1a4f4f1dca6fe37d6f0019dcc6b97b074f453333864b27b','df4ec6b9bfa9aa2f3a092eb93bdc6973fb68a62f693d5b0975ae7552c3ec0421');
INSERT INTO audit VALUES(4,'evt_01a2013c-d789-7f78-b86f-838fc92b8890',1795317094281000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a2013c-d6ae-7e14-8176-d3fc043279ce","duration_ms":0,"host":"unlisted.invalid","port":443,"reason":"no_policy","via":"connect"}','df4ec6b9bfa9aa2f3a092eb93bdc6973fb68a62f693d5b0975ae7552c3ec0421','c31fc1f03160642b0006e76b065ad171c36e132cddfe89e26ea0b55a74d7b7de');
INSERT INTO audit VALUES(5,'evt_01a2013c-d78a-7dfb-acce-132baf10ac75',1795317094282000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a2013c-d6ae-7e14-8176-d3fc043279ce","duration_ms":0,"host":"unlisted.invalid","port":53,"reason":"no_policy","via":"dns"}','c31fc1f03160642b0006e76b065ad171c36e132cddfe89e26ea0b55a74d7b7de','d1a9494fa7c1e9e17f9fe864baffb25a48819df9f2acc22b58709e4ee15e076d');
INSERT INTO audit VALUES(6,'evt_01a2013c-d78b-7b4f-9211-bb41cc24b460',1795317094283000,'egress','system','system',NULL,NULL,'{"agent":"self-check","allowed":false,"bytes_down":0,"bytes_up":0,"call_id":"call_01a2013c-d6ae-7e14-8176-d3fc043279ce","duration_ms":0,"host":"unlisted.invalid","port":53,"reason":"no_policy","via":"dns"}','d1a9494fa7c1e9e17f9fe864baffb25a48819df9f2acc22b58709e4ee15e076d','9cb6c67ea1eb129937fe407295385f0d97a4803789399f336086319c050e2a89');
INSERT INTO audit VALUES(7,'evt_01a2013c-d793-7235-992a-8b5158e332dd',1795317094290000,'policy','system','system',NULL,NULL,'{"after":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","before":null,"note":null,"version":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","what":"builtin_taken_up"}','9cb6c67ea1eb129937fe407295385f0d97a4803789399f336086319c050e2a89','907342573d06ed5448b95f61afa22a68fe00c15d9bd9759eaaf817593abd0ac1');
INSERT INTO audit VALUES(8,'evt_01a2013c-d7ab-7a24-b4b3-4e37f38b8be2',1795317094315000,'daemon','system','system',NULL,NULL,'{"version":"0.1.0","what":"started"}','907342573d06ed5448b95f61afa22a68fe00c15d9bd9759eaaf817593abd0ac1','f28e238fb3e6e4ab24e0235f5cfbc8332421f293e755b105f281f0be8abde63b');
INSERT INTO audit VALUES(9,'evt_01a2013c-d7bf-7def-849c-129f3f878d34',1795317094334000,'rbac','prn_de5afe39-1566-82ca-adec-0a637b192e40','admin',NULL,'req_01a2013cd7bd77b6b8b9b77a1319ce09','{"after":{"configured":false,"created_at":"2026-11-22T03:11:34.334Z","created_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40","disabled_at":null,"id":"prn_01a2013c-d7bf-75df-b4c4-4c7b339afdd6","name":"ann","role":"operator","scopes":{}},"before":null,"what":"principal created"}','f28e238fb3e6e4ab24e0235f5cfbc8332421f293e755b105f281f0be8abde63b','6a3a8ae099b9b315846e46da26b93904da33299405d3ad867e0c3a81e858982d');
INSERT INTO audit VALUES(10,'evt_01a2013c-d7e2-7614-8892-b9aedee97a9e',1795317094369000,'egress_list','prn_de5afe39-1566-82ca-adec-0a637b192e40','admin',NULL,'req_01a2013cd7e07b43b87607a4dbdf1650','{"after":{"agent":"open","created_at":"2026-11-22T03:11:34.369Z","created_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40","id":"egr_01a2013c-d7e1-7f91-b679-62da2eb4cb80","note":null,"rule":"api.example.com","verdict":"allow"},"before":null,"what":"added"}','6a3a8ae099b9b315846e46da26b93904da33299405d3ad867e0c3a81e858982d','64763c6239567cabfaba937e328ef18ca58d2a82b2c12d9ce7e632c917845cd1');
INSERT INTO audit VALUES(11,'evt_01a2013c-d80b-73a5-9aa2-46ab1262e5c6',1795317094410000,'budget','prn_de5afe39-1566-82ca-adec-0a637b192e40','admin',NULL,'req_01a2013cd80976879cb238315932eb2e','{"after":{"tokens_per_day":9000000,"usd_per_day":null},"before":{"tokens_per_day":null,"usd_per_day":null},"scope":"org","subject":"","what":"set"}','64763c6239567cabfaba937e328ef18ca58d2a82b2c12d9ce7e632c917845cd1','6258639b2b45ccc2a0360c0e9ad10598e62e09fd8705a98c8408b3ad3351d86f');
INSERT INTO audit VALUES(12,'evt_01a2013c-d81c-7eb0-ac21-a6f693380980',1795317094427000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da','req_01a2013cd81a76cc8f44c4b0ccc285d1','{"agent":"open","retry_of":null,"to":"queued"}','6258639b2b45ccc2a0360c0e9ad10598e62e09fd8705a98c8408b3ad3351d86f','e3a49421fce4d69aeec21be7c135a5a60beb177892b9824aa283e4a8249cfe8c');
INSERT INTO audit VALUES(13,'evt_01a2013c-d823-79d7-83ab-87d051557af3',1795317094432000,'run_state','system','system','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','e3a49421fce4d69aeec21be7c135a5a60beb177892b9824aa283e4a8249cfe8c','8c2f08ee663460cf18d0fbf8ca0e19b965d705221aecfa9e35059b501255f97e');
INSERT INTO audit VALUES(14,'evt_01a2013c-d823-7b81-a341-c85ac59da8d4',1795317094432000,'capability_granted','system','system','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a2013c-d820-7ce1-90a2-c05352223666","delegatable":true,"expires_at":"2026-11-22T03:22:34.432Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','8c2f08ee663460cf18d0fbf8ca0e19b965d705221aecfa9e35059b501255f97e','838c1e82b73ee566956e5426cd350df9eaca54b5e7ebb86f74e5fa669c155892');
INSERT INTO audit VALUES(15,'evt_01a2013c-d823-7cc8-a8fc-338d29c1e6ef',1795317094432000,'secret_used','system','system','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',NULL,'{"model":"default","name":"llm.api_key"}','838c1e82b73ee566956e5426cd350df9eaca54b5e7ebb86f74e5fa669c155892','171c9f2154c1c1b769f7c6fa624e150641d9346e93626edbf21c187949de5afa');
INSERT INTO audit VALUES(16,'evt_01a2013c-d86e-74fd-8a8f-9aab09b1cd7c',1795317094441000,'capability_granted','system','system','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',NULL,'{"agent":"open","call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","capability_id":"cap_01a2013c-d867-7774-8202-6dfd3ff93b21","delegatable":false,"expires_at":"2026-11-22T03:13:34.441Z","parent":"cap_01a2013c-d820-7ce1-90a2-c05352223666","permissions":["tool use exec (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","host connect api.example.com"]}','171c9f2154c1c1b769f7c6fa624e150641d9346e93626edbf21c187949de5afa','00a6eb15dd3c376917cbb31f6918a48d209e0d803ced926683da5549a8d133b9');
INSERT INTO audit VALUES(17,'evt_01a2013c-d86e-7733-a7b5-5514c587d6d4',1795317094441000,'tool_started','system','system','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',NULL,'{"args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","attempt":1,"call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","consent":null,"effect":"unsafe","layer":"definition","policy_version":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","risk":"low","rule":"command.any","tainted":false,"tool":"exec"}','00a6eb15dd3c376917cbb31f6918a48d209e0d803ced926683da5549a8d133b9','fecd55b0c4197defe544f9b78193273a216b2e3ce95d41cdeaa907c3ee01fbb2');
INSERT INTO audit VALUES(18,'evt_01a2013c-d87c-7608-a4c4-5ff313f52f92',1795317094523000,'tool_completed','system','system','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',NULL,'{"call_id":"call_01a2013c-d82a-7112-ba29-0c773504e020","confinement":"full","duration_ms":7,"exit_code":0,"status":"ok","tainted":false}','fecd55b0c4197defe544f9b78193273a216b2e3ce95d41cdeaa907c3ee01fbb2','d88553e02dd6e1bdad876607cc1efbfb106e35789e13efe4e6909a146e4f27c5');
INSERT INTO audit VALUES(19,'evt_01a2013c-d884-7906-9806-b637c385a869',1795317094530000,'run_state','system','system','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',NULL,'{"epoch":1,"event":"run.succeeded","from":"running","to":"succeeded"}','d88553e02dd6e1bdad876607cc1efbfb106e35789e13efe4e6909a146e4f27c5','b2e14784365fb5682967abc37f0456731b81687b39c3202cbb9f294abfb6f68e');
INSERT INTO audit VALUES(20,'evt_01a2013c-d88b-7f47-8390-2a136d2a3bff',1795317094539000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d88b-7758-a0b5-da6fea7195b1','req_01a2013cd88a7af98388bf345aa919a8','{"agent":"open","retry_of":null,"to":"queued"}','b2e14784365fb5682967abc37f0456731b81687b39c3202cbb9f294abfb6f68e','088083912f3af720e9e3ff5bf5af446aa748a97cacd8598d7117d17a3d579764');
INSERT INTO audit VALUES(21,'evt_01a2013c-d890-702d-944b-f373095a049c',1795317094542000,'run_state','system','system','run_01a2013c-d88b-7758-a0b5-da6fea7195b1',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','088083912f3af720e9e3ff5bf5af446aa748a97cacd8598d7117d17a3d579764','2047d884174cd87b4fc210cd745e554c47f1b6a23208f4ec377522498be9ee32');
INSERT INTO audit VALUES(22,'evt_01a2013c-d890-717c-9199-5ccb837ff903',1795317094542000,'capability_granted','system','system','run_01a2013c-d88b-7758-a0b5-da6fea7195b1',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a2013c-d88e-7e7e-9318-63a13945eedf","delegatable":true,"expires_at":"2026-11-22T03:22:34.542Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','2047d884174cd87b4fc210cd745e554c47f1b6a23208f4ec377522498be9ee32','2d4b3c7a955c76c79dc4858e93de7953eaf0996b06f5090cbf8bafe134a27c9b');
INSERT INTO audit VALUES(23,'evt_01a2013c-d890-72b8-874d-67d389c889b9',1795317094542000,'secret_used','system','system','run_01a2013c-d88b-7758-a0b5-da6fea7195b1',NULL,'{"model":"default","name":"llm.api_key"}','2d4b3c7a955c76c79dc4858e93de7953eaf0996b06f5090cbf8bafe134a27c9b','3291da727fe24dc6b1153a768f586bb74ed6699590a057d8fd41a4f971be9926');
INSERT INTO audit VALUES(24,'evt_01a2013c-d8a0-74b8-aea7-79ab3d0cdc0d',1795317094559000,'control','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d88b-7758-a0b5-da6fea7195b1','req_01a2013cd89e730a8690338ccb2bfa36','{"reason":null,"verb":"cancel"}','3291da727fe24dc6b1153a768f586bb74ed6699590a057d8fd41a4f971be9926','43ea24f938020c25810f4d502557041a4239781495fc6b430487c4fef774c6c0');
INSERT INTO audit VALUES(25,'evt_01a2013c-d8a0-77ca-ade1-1297cb693026',1795317094559000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d88b-7758-a0b5-da6fea7195b1','req_01a2013cd89e730a8690338ccb2bfa36','{"epoch":1,"event":"run.cancel_requested","from":"running","to":"cancelling"}','43ea24f938020c25810f4d502557041a4239781495fc6b430487c4fef774c6c0','4fd58ba7e4f136dfb1de28a06123240c3de092b225ab180968055eca96edc35c');
INSERT INTO audit VALUES(26,'evt_01a2013c-d8a6-7872-8aa4-ec1098cb1424',1795317094563000,'run_state','system','system','run_01a2013c-d88b-7758-a0b5-da6fea7195b1',NULL,'{"epoch":1,"event":"run.cancelled","from":"cancelling","to":"cancelled"}','4fd58ba7e4f136dfb1de28a06123240c3de092b225ab180968055eca96edc35c','b8a3ad7d19fdedb8d3765d0f78454dbccd7955a3437f04b523a793aa4d6e643d');
INSERT INTO audit VALUES(27,'evt_01a2013c-d8b6-792f-876d-14711f7b4914',1795317094582000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d8b6-714b-8456-5d7c0655c610','req_01a2013cd8b573dbbf152e6124dcace8','{"agent":"open","retry_of":null,"to":"queued"}','b8a3ad7d19fdedb8d3765d0f78454dbccd7955a3437f04b523a793aa4d6e643d','8d27870c5b0505eb76c96795f29446c2685a62b86bb7281ada43be9bf0591e2b');
INSERT INTO audit VALUES(28,'evt_01a2013c-d8bd-73d7-909f-03bd6badaff4',1795317094586000,'run_state','system','system','run_01a2013c-d8b6-714b-8456-5d7c0655c610',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','8d27870c5b0505eb76c96795f29446c2685a62b86bb7281ada43be9bf0591e2b','fe6779e83b2b430c6fa310d5dd11ba7522ac1e4a9453d55a1dae1d0146f6c0ea');
INSERT INTO audit VALUES(29,'evt_01a2013c-d8bd-7564-a198-11e48f467820',1795317094586000,'capability_granted','system','system','run_01a2013c-d8b6-714b-8456-5d7c0655c610',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a2013c-d8ba-7e2d-acf2-42aaef71d567","delegatable":true,"expires_at":"2026-11-22T03:22:34.586Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','fe6779e83b2b430c6fa310d5dd11ba7522ac1e4a9453d55a1dae1d0146f6c0ea','f162e09d478a3363d19214dc91dd2673870cecb0485da25998098543f96ed18b');
INSERT INTO audit VALUES(30,'evt_01a2013c-d8bd-76b0-95df-540bc3310297',1795317094586000,'secret_used','system','system','run_01a2013c-d8b6-714b-8456-5d7c0655c610',NULL,'{"model":"default","name":"llm.api_key"}','f162e09d478a3363d19214dc91dd2673870cecb0485da25998098543f96ed18b','d30e87ffa4be322844f1d703e7da86828062edc1bb672cfdea0f7a381e69ba2d');
INSERT INTO audit VALUES(31,'evt_01a2013c-d8c4-7831-8a12-fcacab755b74',1795317094595000,'run_state','system','system','run_01a2013c-d8b6-714b-8456-5d7c0655c610',NULL,'{"epoch":1,"event":"run.failed","from":"running","to":"failed"}','d30e87ffa4be322844f1d703e7da86828062edc1bb672cfdea0f7a381e69ba2d','6add544910619d62d3ee249d1755b4192e608f1c3a52c07eed6da6ba0d90eb74');
INSERT INTO audit VALUES(32,'evt_01a2013c-d8cb-7f6c-bdd2-d5afbb47138f',1795317094603000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23','req_01a2013cd8ca79748696b0f2dd20e278','{"agent":"careful","retry_of":null,"to":"queued"}','6add544910619d62d3ee249d1755b4192e608f1c3a52c07eed6da6ba0d90eb74','14cbeec4e54bbb84bc41525717c8e51a8e04d0427fce6016db18cc46f6603e5f');
INSERT INTO audit VALUES(33,'evt_01a2013c-d8d2-7f2b-bc75-4c10777d294c',1795317094608000,'run_state','system','system','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','14cbeec4e54bbb84bc41525717c8e51a8e04d0427fce6016db18cc46f6603e5f','6b8e503591a88a31fbb6e03f687a8ca2230285a6d5a0c7a48ad5a36ac07cf974');
INSERT INTO audit VALUES(34,'evt_01a2013c-d8d3-70b8-9d76-102ee8be5018',1795317094608000,'capability_granted','system','system','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',NULL,'{"agent":"careful","call_id":null,"capability_id":"cap_01a2013c-d8d0-7b74-b7ff-df286a228b77","delegatable":true,"expires_at":"2026-11-22T03:22:34.608Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/careful/**","command run * (once released)"]}','6b8e503591a88a31fbb6e03f687a8ca2230285a6d5a0c7a48ad5a36ac07cf974','f490b231f9a78cfc4477953f2484e738f18e15be4489d0c49bf6cdf2250df875');
INSERT INTO audit VALUES(35,'evt_01a2013c-d8d3-71e7-8dcf-50df326d7025',1795317094608000,'secret_used','system','system','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',NULL,'{"model":"default","name":"llm.api_key"}','f490b231f9a78cfc4477953f2484e738f18e15be4489d0c49bf6cdf2250df875','5aab5d8000922e810676a6e04624f504d5c6270221282f2dd109b9d67186f11e');
INSERT INTO audit VALUES(36,'evt_01a2013c-d8db-7b3b-9acd-b0add6b8eebc',1795317094617000,'approval_requested','system','system','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',NULL,'{"approval_id":"apr_01a2013c-d8da-7e66-afbf-bc45abbdfc99","args_hash":"2553602d9421c59959d01721e9f43e993c96f657c5335be3d6e4d7e52ac634d4","binding":"e74fcf1b96b99ffa803c912227e72c0428a55afeb36068380e35b8a6da39cf30","kind":"tool","layer":"definition","policy_version":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","quorum":1,"required_role":"admin","risk":"high","rule":"command.not_listed","tainted":false,"tool":"exec"}','5aab5d8000922e810676a6e04624f504d5c6270221282f2dd109b9d67186f11e','84b7b00f06708c322ebb62e2dca0ddbd618e0f11a225fea539ee11509fdf85bd');
INSERT INTO audit VALUES(37,'evt_01a2013c-d8db-7d2b-9ce5-6f4f3bc40258',1795317094617000,'run_state','system','system','run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',NULL,'{"epoch":1,"event":"approval.requested","from":"running","to":"awaiting_approval"}','84b7b00f06708c322ebb62e2dca0ddbd618e0f11a225fea539ee11509fdf85bd','a701928cd6cc1ccc43e94038e01ff7b1f4e2556ea6be868790af4f5d91dab048');
INSERT INTO audit VALUES(38,'evt_01a2013c-d8e4-7418-a9fb-e26e25f1de57',1795317094627000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d8e3-7bd7-af9d-780c05155cec','req_01a2013cd8e27c1cb2a7e4d913fc08c2','{"agent":"careful","retry_of":null,"to":"queued"}','a701928cd6cc1ccc43e94038e01ff7b1f4e2556ea6be868790af4f5d91dab048','f7b72baf75409dc4216f63a4d691716598f3799f46e5cf52c453bcdb1cbff83e');
INSERT INTO audit VALUES(39,'evt_01a2013c-d8e8-79e7-a2b3-eb7d4bd25cff',1795317094632000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d8e8-71f7-8460-165530acb5d4','req_01a2013cd8e77781a3e7dbf5b7b2d275','{"agent":"open","retry_of":null,"to":"queued"}','f7b72baf75409dc4216f63a4d691716598f3799f46e5cf52c453bcdb1cbff83e','9d92a78d6c4ad7f3b5d17db778c996e182ec13b552cd908fc31fba8b145621e6');
INSERT INTO audit VALUES(40,'evt_01a2013c-d8ee-7297-b3bc-6257e325a3db',1795317094635000,'run_state','system','system','run_01a2013c-d8e8-71f7-8460-165530acb5d4',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','9d92a78d6c4ad7f3b5d17db778c996e182ec13b552cd908fc31fba8b145621e6','0054426184fe1ef0492ec79f1cfc61da3900b1960f78a1e913cbb814890ec6fb');
INSERT INTO audit VALUES(41,'evt_01a2013c-d8ee-7428-a465-d4e34c1e02df',1795317094635000,'capability_granted','system','system','run_01a2013c-d8e8-71f7-8460-165530acb5d4',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a2013c-d8eb-7b47-89dd-a6c133b504ac","delegatable":true,"expires_at":"2026-11-22T03:22:34.635Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','0054426184fe1ef0492ec79f1cfc61da3900b1960f78a1e913cbb814890ec6fb','6da0bf22827134ab88919d8280b11e712895f535b6c0f31e80df3ad055f61ace');
INSERT INTO audit VALUES(42,'evt_01a2013c-d8ee-7574-8247-3823b81534a4',1795317094635000,'secret_used','system','system','run_01a2013c-d8e8-71f7-8460-165530acb5d4',NULL,'{"model":"default","name":"llm.api_key"}','6da0bf22827134ab88919d8280b11e712895f535b6c0f31e80df3ad055f61ace','c9b1bf444955776cc6ae790f1fb65e3005c82990f8164d81d195474e2ebf92fd');
INSERT INTO audit VALUES(43,'evt_01a2013c-d8f5-7010-b688-2a268cc6764b',1795317094642000,'run_state','system','system','run_01a2013c-d8e8-71f7-8460-165530acb5d4',NULL,'{"epoch":1,"event":"run.paused","from":"running","to":"paused"}','c9b1bf444955776cc6ae790f1fb65e3005c82990f8164d81d195474e2ebf92fd','6e3b02b2fda85b414ed78d7cc03f5380ec3d95d2651f8dc7294fd497e82dc132');
INSERT INTO audit VALUES(44,'evt_01a2013c-d8ff-745e-bc06-2e3e8dc03761',1795317094654000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7','req_01a2013cd8fd7cf59b42deb25d1a81d8','{"agent":"open","retry_of":null,"to":"queued"}','6e3b02b2fda85b414ed78d7cc03f5380ec3d95d2651f8dc7294fd497e82dc132','ae5ac8a85aee6287c7063da1a0c3b84a58ef47b1a138de70f6fd6c0ca95789a6');
INSERT INTO audit VALUES(45,'evt_01a2013c-d904-7f7c-b002-988320b756f7',1795317094659000,'run_state','system','system','run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','ae5ac8a85aee6287c7063da1a0c3b84a58ef47b1a138de70f6fd6c0ca95789a6','ca8b6fb681afb3837bba1cec7ea44eae9b1708c5a7b1a0bc2c96d9dd533de275');
INSERT INTO audit VALUES(46,'evt_01a2013c-d905-7102-89ae-94ab008ad400',1795317094659000,'capability_granted','system','system','run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a2013c-d903-7b99-8f2b-05d2d182d894","delegatable":true,"expires_at":"2026-11-22T03:22:34.659Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','ca8b6fb681afb3837bba1cec7ea44eae9b1708c5a7b1a0bc2c96d9dd533de275','d6fc4c05add2d6fece7acca785640406940d7e35218622c56f70d7cbdb56159c');
INSERT INTO audit VALUES(47,'evt_01a2013c-d905-7241-b479-2521968e9c4c',1795317094659000,'secret_used','system','system','run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',NULL,'{"model":"default","name":"llm.api_key"}','d6fc4c05add2d6fece7acca785640406940d7e35218622c56f70d7cbdb56159c','5d43f6fca5bc2675f92102530684a4ec8ecbe01598da7e037bc43e76ed8603fb');
INSERT INTO audit VALUES(48,'evt_01a2013c-d911-7e9f-9a2b-0f4db7c21434',1795317094673000,'control','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7','req_01a2013cd91070978c626d98087f0b12','{"mode":"graceful","verb":"interrupt"}','5d43f6fca5bc2675f92102530684a4ec8ecbe01598da7e037bc43e76ed8603fb','9509e1c9b482ee37f4ab4c2fa3e434655cfea9cc7a73c871f46dbf1a3f870bbc');
INSERT INTO audit VALUES(49,'evt_01a2013c-d922-784d-9c2c-9a49f1f1b79f',1795317094686000,'run_state','system','system','run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',NULL,'{"epoch":1,"event":"run.paused","from":"running","to":"paused"}','9509e1c9b482ee37f4ab4c2fa3e434655cfea9cc7a73c871f46dbf1a3f870bbc','8881f3fb4a6ddc749c38aaa232843ecd42c670febc52b144d583d27caf3d8ec9');
INSERT INTO audit VALUES(50,'evt_01a2013c-d933-725e-b174-fc66719df31f',1795317094706000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d932-772b-b6fd-26f55143903e','req_01a2013cd93177ae91480184e25b62cf','{"agent":"open","retry_of":null,"to":"queued"}','8881f3fb4a6ddc749c38aaa232843ecd42c670febc52b144d583d27caf3d8ec9','528653df2845d3e325f34fa587f070acd070fe516aad68e39fa3217abb00e064');
INSERT INTO audit VALUES(51,'evt_01a2013c-d938-780c-b30f-8819a5dcb438',1795317094710000,'run_state','system','system','run_01a2013c-d932-772b-b6fd-26f55143903e',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','528653df2845d3e325f34fa587f070acd070fe516aad68e39fa3217abb00e064','0a51acb42a18d3681c91f992df9931191986f4240bab02a35d344d06e1fe58f1');
INSERT INTO audit VALUES(52,'evt_01a2013c-d938-79a9-bd90-951f5685a8a6',1795317094710000,'capability_granted','system','system','run_01a2013c-d932-772b-b6fd-26f55143903e',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a2013c-d937-70c0-8a1a-09313ee546cd","delegatable":true,"expires_at":"2026-11-22T03:22:34.710Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','0a51acb42a18d3681c91f992df9931191986f4240bab02a35d344d06e1fe58f1','695e6cb5eaa558ffbe15e246ac2bff40bd2915e775454d8167ced56ecc3cadcc');
INSERT INTO audit VALUES(53,'evt_01a2013c-d938-7afd-b1f7-8b74532d598a',1795317094710000,'secret_used','system','system','run_01a2013c-d932-772b-b6fd-26f55143903e',NULL,'{"model":"default","name":"llm.api_key"}','695e6cb5eaa558ffbe15e246ac2bff40bd2915e775454d8167ced56ecc3cadcc','77f3f64e512a2f44c8ae144fd5e2b9ee68b7c276ebaa22da12f35f2fffe677da');
INSERT INTO audit VALUES(54,'evt_01a2013c-d94d-7072-aa47-9e4fdbd3e0a9',1795317094731000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d94c-728b-898f-da1b2f80e7eb','req_01a2013cd94470f598b85b2cd249eb28','{"agent":"open","retry_of":null,"to":"queued"}','77f3f64e512a2f44c8ae144fd5e2b9ee68b7c276ebaa22da12f35f2fffe677da','d5a7a56f552c734a5f896a3e3722b04ed177547e2251dcdd5563c9591b869db1');
INSERT INTO audit VALUES(55,'evt_01a2013c-d95f-7dba-b78c-2870454a98f2',1795317094750000,'run_state','system','system','run_01a2013c-d94c-728b-898f-da1b2f80e7eb',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','d5a7a56f552c734a5f896a3e3722b04ed177547e2251dcdd5563c9591b869db1','cfc7fdd04513e76d83411d33e30d66f4ed291e81331b314b6ca3a135fefcd7e3');
INSERT INTO audit VALUES(56,'evt_01a2013c-d95f-7f6c-b028-f4faee52da82',1795317094750000,'capability_granted','system','system','run_01a2013c-d94c-728b-898f-da1b2f80e7eb',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a2013c-d95e-7702-a912-a90cc37838b7","delegatable":true,"expires_at":"2026-11-22T03:22:34.750Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','cfc7fdd04513e76d83411d33e30d66f4ed291e81331b314b6ca3a135fefcd7e3','026208f7678acd1bdfca9b09ae203943a927a993b94fe66c297dab6fbb9b328a');
INSERT INTO audit VALUES(57,'evt_01a2013c-d960-70c4-b3cf-055f0d093cad',1795317094750000,'secret_used','system','system','run_01a2013c-d94c-728b-898f-da1b2f80e7eb',NULL,'{"model":"default","name":"llm.api_key"}','026208f7678acd1bdfca9b09ae203943a927a993b94fe66c297dab6fbb9b328a','2bd03f3786bb9ff4e902c8396ce3b7a5a95a7fbfb74fbd8afc380a587a6a5a3b');
INSERT INTO audit VALUES(58,'evt_01a2013c-d96b-7f68-8c7e-129a743f5f69',1795317094763000,'run_state','prn_88f364e5-920b-8448-b135-ec9b0b341bd6','api','run_01a2013c-d96b-7241-b682-5ee45c278c11','req_01a2013cd9697c4db0df5306db4d9b7e','{"agent":"open","retry_of":null,"to":"queued"}','2bd03f3786bb9ff4e902c8396ce3b7a5a95a7fbfb74fbd8afc380a587a6a5a3b','d3e2350c1df123237d8e1f160f43ea04a5fd5cd8e109c4d0e5946c158a166511');
INSERT INTO audit VALUES(59,'evt_01a2013c-d97c-7a83-8742-cf433e92ea05',1795317094778000,'run_state','system','system','run_01a2013c-d96b-7241-b682-5ee45c278c11',NULL,'{"epoch":1,"event":"run.started","from":"queued","to":"running"}','d3e2350c1df123237d8e1f160f43ea04a5fd5cd8e109c4d0e5946c158a166511','1666800d7b3b6770d128387b9ea07a8d8e6ea8dcb1be30b833ac60934820b633');
INSERT INTO audit VALUES(60,'evt_01a2013c-d97c-7c76-bf97-d268e56674e6',1795317094778000,'capability_granted','system','system','run_01a2013c-d96b-7241-b682-5ee45c278c11',NULL,'{"agent":"open","call_id":null,"capability_id":"cap_01a2013c-d97a-7f6c-849e-362f80bb8a7c","delegatable":true,"expires_at":"2026-11-22T03:22:34.778Z","parent":null,"permissions":["tool use exec (at most 60 s)","tool use shell (at most 60 s)","tool use read_file (at most 60 s)","tool use write_file (at most 60 s)","tool use edit_file (at most 60 s)","tool use list_files (at most 60 s)","tool use search_files (at most 60 s)","tool use ask_user (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","command run * (once released)","host connect api.example.com"]}','1666800d7b3b6770d128387b9ea07a8d8e6ea8dcb1be30b833ac60934820b633','83e28d4777ad4327dce34ef87f7a699cfad929951494669aab7f1198e0e72ab8');
INSERT INTO audit VALUES(61,'evt_01a2013c-d97c-7e00-a089-e8355537c774',1795317094778000,'secret_used','system','system','run_01a2013c-d96b-7241-b682-5ee45c278c11',NULL,'{"model":"default","name":"llm.api_key"}','83e28d4777ad4327dce34ef87f7a699cfad929951494669aab7f1198e0e72ab8','cfabe5f0d1dbfad5243f6afcbde1bf4acbf18cc96d07a6e0943683ce8fe835eb');
INSERT INTO audit VALUES(62,'evt_01a2013c-d98d-7ac8-86fb-381f58d9adb4',1795317094785000,'capability_granted','system','system','run_01a2013c-d96b-7241-b682-5ee45c278c11',NULL,'{"agent":"open","call_id":"call_01a2013c-d981-7ffb-87b1-c908137ba5fc","capability_id":"cap_01a2013c-d98a-7845-bc4c-06958a07d7db","delegatable":false,"expires_at":"2026-11-22T03:13:34.785Z","parent":"cap_01a2013c-d97a-7f6c-849e-362f80bb8a7c","permissions":["tool use exec (at most 60 s)","path read,write /tmp/art-test-eydLP5/data/workspaces/open/**","command run *","host connect api.example.com"]}','cfabe5f0d1dbfad5243f6afcbde1bf4acbf18cc96d07a6e0943683ce8fe835eb','2879972093e241c6d08ff16c0bcaf31221b790911c168150307767007fb9d760');
INSERT INTO audit VALUES(63,'evt_01a2013c-d98d-7d0a-a6a0-01db0680be3a',1795317094785000,'tool_started','system','system','run_01a2013c-d96b-7241-b682-5ee45c278c11',NULL,'{"args_hash":"411ab2bc651e0f4ccd7aea1166cf726088fb5669372aca895f12ff02431e7a3d","attempt":1,"call_id":"call_01a2013c-d981-7ffb-87b1-c908137ba5fc","consent":null,"effect":"unsafe","layer":"definition","policy_version":"dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1","risk":"low","rule":"command.any","tainted":false,"tool":"exec"}','2879972093e241c6d08ff16c0bcaf31221b790911c168150307767007fb9d760','150351ce79bc2aa62a5faa7a52766d4b7edcc6e8903fef06da3a565e01e69f2d');
CREATE TABLE idempotency (
    principal   TEXT   NOT NULL,
    idem_key    TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    response    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (principal, idem_key)
);
INSERT INTO idempotency VALUES('prn_de5afe39-1566-82ca-adec-0a637b192e40','b829a68a16bba80bfaea09ad29612ae4','d42addbd3915b474ca124e9566a7082c4795f1306271e990e083786baa3a3ecb','{"id":"prn_01a2013c-d7bf-75df-b4c4-4c7b339afdd6","name":"ann","role":"operator","scopes":{},"source":"stored","disabled_at":null,"last_seen_at":null,"created_at":"2026-11-22T03:11:34.334Z","created_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40"}',1795317094334643);
INSERT INTO idempotency VALUES('prn_de5afe39-1566-82ca-adec-0a637b192e40','f6299d06e1b281fd2245e8e945dd48e5','6f8c3dbbe4a0c70a21adae7cf6a9d7f2ebe8d691b44cf2c5ea3af9d905587c64','{"id":"egr_01a2013c-d7e1-7f91-b679-62da2eb4cb80","layer":"list","agent":"open","verdict":"allow","rule":"api.example.com","note":null,"created_at":"2026-11-22T03:11:34.369Z","created_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40"}',1795317094369819);
INSERT INTO idempotency VALUES('prn_de5afe39-1566-82ca-adec-0a637b192e40','c5734606123dd775b0ac83744b16bee7','537d721cd7b544923b353ec8d72ca5f4bea0526f1b6eb58faa242a5378466a62','{"scope":"org","subject":"","usd_per_day":null,"tokens_per_day":9000000,"layer":"set","day":"2026-11-22","used_usd":"0","used_tokens":0,"held_usd":"0","held_tokens":0,"updated_at":"2026-11-22T03:11:34.410Z","updated_by":"prn_de5afe39-1566-82ca-adec-0a637b192e40"}',1795317094410432);
CREATE TABLE egress_rules (
    id         TEXT PRIMARY KEY,
    agent      TEXT,
    verdict    TEXT   NOT NULL,
    rule       TEXT   NOT NULL,
    note       TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL
);
INSERT INTO egress_rules VALUES('egr_01a2013c-d7e1-7f91-b679-62da2eb4cb80','open','allow','api.example.com',NULL,1795317094369819,'prn_de5afe39-1566-82ca-adec-0a637b192e40');
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
INSERT INTO principals VALUES('prn_01a2013c-d7bf-75df-b4c4-4c7b339afdd6','ann','operator','{}',0,NULL,1795317094334643,'prn_de5afe39-1566-82ca-adec-0a637b192e40');
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
INSERT INTO policies VALUES(1,'dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1',replace('version = 1\n','\n',char(10)),NULL,1795317094290491,'system');
CREATE TABLE policy_activations (
    n          BIGINT PRIMARY KEY,
    version    TEXT   NOT NULL,
    origin     TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    done_by    TEXT   NOT NULL,
    note       TEXT
);
INSERT INTO policy_activations VALUES(1,'dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','builtin',1795317094290491,'system',NULL);
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
    question       TEXT   NOT NULL, definition TEXT,
    PRIMARY KEY (call_id, n)
);
INSERT INTO decisions VALUES('call_01a2013c-d82a-7112-ba29-0c773504e020',4,'run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',1795317094441817,'open','dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','allow','command.any','definition','{"facts":{"tool":"exec","effect":"unsafe","argv":["/bin/sh","-c","echo ran >> ran.log"],"script":null,"sets_env":false,"paths":[{"path":".","is_write":false}],"is_tree":false,"network":null,"request":null},"tainted":false,"role":"admin","surface":"api","conversation":"conv_01a2013c-d81b-7b6c-b035-2b3f653db71f"}','4ec8a4f258c01b509af0a739d41cb28dadf1a4c17cb8b154712a408704dc0a3f');
INSERT INTO decisions VALUES('call_01a2013c-d8d6-77d2-a6ed-5b64d2fb01ed',4,'run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',1795317094617342,'careful','dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','ask','command.not_listed','definition','{"facts":{"tool":"exec","effect":"unsafe","argv":["/bin/sh","-c","echo ran >> ran.log"],"script":null,"sets_env":false,"paths":[{"path":".","is_write":false}],"is_tree":false,"network":null,"request":null},"tainted":false,"role":"admin","surface":"api","conversation":"conv_01a2013c-d8cb-7747-9cef-d46a028b46c2"}','6d4f7608d9e86e52433bd765d1b44be81a4544236511dafaafb02049f42a182f');
INSERT INTO decisions VALUES('call_01a2013c-d8f3-71fb-8ea1-d69c388c2d10',4,'run_01a2013c-d8e8-71f7-8460-165530acb5d4',1795317094642890,'open','dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','allow','ask_user.allowed','builtin','{"facts":{"tool":"ask_user","effect":"pure","argv":[],"script":null,"sets_env":false,"paths":[],"is_tree":false,"network":null,"request":null},"tainted":false,"role":"admin","surface":"api","conversation":"conv_01a2013c-d8e8-71ba-bf53-88506b075858"}','4ec8a4f258c01b509af0a739d41cb28dadf1a4c17cb8b154712a408704dc0a3f');
INSERT INTO decisions VALUES('call_01a2013c-d981-7ffb-87b1-c908137ba5fc',4,'run_01a2013c-d96b-7241-b682-5ee45c278c11',1795317094785740,'open','dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1','allow','command.any','definition','{"facts":{"tool":"exec","effect":"unsafe","argv":["/bin/sh","-c","echo $AGENT_RUNTIME_CALL_ID >> witness.log; touch here; sleep 60"],"script":null,"sets_env":false,"paths":[{"path":".","is_write":false}],"is_tree":false,"network":null,"request":null},"tainted":false,"role":"admin","surface":"api","conversation":"conv_01a2013c-d96b-71e3-8ac5-4406e95c7f5f"}','4ec8a4f258c01b509af0a739d41cb28dadf1a4c17cb8b154712a408704dc0a3f');
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
, definition TEXT);
INSERT INTO capabilities VALUES('cap_01a2013c-d820-7ce1-90a2-c05352223666',NULL,'run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kODIwLTdjZTEtOTBhMi1jMDUzNTIyMjM2NjYAAAAocnVuXzAxYTIwMTNjLWQ4MWItN2JjMi05YjNhLTY2MWJiZjYxYjlkYQAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWsP6YAAAAIAAZg1P0DDKYAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.cWByyvf0MAOHbcZbEuj37sWTatjD07dTDKs-6NqpmDM',1795317094432678,1795317754432678,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d867-7774-8202-6dfd3ff93b21','cap_01a2013c-d820-7ce1-90a2-c05352223666','run_01a2013c-d81b-7bc2-9b3a-661bbf61b9da','call_01a2013c-d82a-7112-ba29-0c773504e020','open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kODY3LTc3NzQtODIwMi02ZGZkM2ZmOTNiMjEAAAAocnVuXzAxYTIwMTNjLWQ4MWItN2JjMi05YjNhLTY2MWJiZjYxYjlkYQAAAARvcGVuAAAAKGNhcF8wMWEyMDEzYy1kODIwLTdjZTEtOTBhMi1jMDUzNTIyMjM2NjYAAAApY2FsbF8wMWEyMDEzYy1kODJhLTcxMTItYmEyOS0wYzc3MzUwNGUwMjAAAAAIAAZg1NWsY1kAAAAIAAZg1NzTcVkAAAABAAAAAAEAAAAoY2FwXzAxYTIwMTNjLWQ4MjAtN2NlMS05MGEyLWMwNTM1MjIyMzY2NgAAAAQAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAARleGVjAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHBhdGgAAAACAAAABHJlYWQAAAAFd3JpdGUAAAABAAAALC90bXAvYXJ0LXRlc3QtZXlkTFA1L2RhdGEvd29ya3NwYWNlcy9vcGVuLyoqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.5tkzWkCY1v2gImbW5s7Pgx9OJje-ChlWaMSAg0qUe0E',1795317094441817,1795317214441817,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d88e-7e7e-9318-63a13945eedf',NULL,'run_01a2013c-d88b-7758-a0b5-da6fea7195b1',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kODhlLTdlN2UtOTMxOC02M2ExMzk0NWVlZGYAAAAocnVuXzAxYTIwMTNjLWQ4OGItNzc1OC1hMGI1LWRhNmZlYTcxOTViMQAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWt7eIAAAAIAAZg1P0EuuIAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.0TK1WeEaLFodk_VvcRnO9twex-MlMHcfFwKwPnSPrLA',1795317094542818,1795317754542818,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d8ba-7e2d-acf2-42aaef71d567',NULL,'run_01a2013c-d8b6-714b-8456-5d7c0655c610',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kOGJhLTdlMmQtYWNmMi00MmFhZWY3MWQ1NjcAAAAocnVuXzAxYTIwMTNjLWQ4YjYtNzE0Yi04NDU2LTVkN2MwNjU1YzYxMAAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWumaAAAAAIAAZg1P0FZqAAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.dSN6YWiWWNgILXHLgqYaENmpWUglECoJ2rqEXFvfSaU',1795317094586784,1795317754586784,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d8d0-7b74-b7ff-df286a228b77',NULL,'run_01a2013c-d8cb-778d-8200-bdf0ea3b0b23',NULL,'careful','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kOGQwLTdiNzQtYjdmZi1kZjI4NmEyMjhiNzcAAAAocnVuXzAxYTIwMTNjLWQ4Y2ItNzc4ZC04MjAwLWJkZjBlYTNiMGIyMwAAAAdjYXJlZnVsAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWu7tsAAAAIAAZg1P0Fu9sAAAABAQAAAAAAAAAKAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAAC8vdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvY2FyZWZ1bC8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAQAAAA1vbmx5X3JlbGVhc2VkAAAAAA.E_MgpDWfa9Dgx8dVGLovhj4GG4EE_3uItnJtGiPoGTc',1795317094608603,1795317754608603,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d8eb-7b47-89dd-a6c133b504ac',NULL,'run_01a2013c-d8e8-71f7-8460-165530acb5d4',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kOGViLTdiNDctODlkZC1hNmMxMzNiNTA0YWMAAAAocnVuXzAxYTIwMTNjLWQ4ZTgtNzFmNy04NDYwLTE2NTUzMGFjYjVkNAAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWvWFYAAAAIAAZg1P0GJVYAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.MS5cyNM9rb76aRT7ik-i49UIIR6SagrGbCMVNA08MPw',1795317094635606,1795317754635606,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d903-7b99-8f2b-05d2d182d894',NULL,'run_01a2013c-d8fe-7be7-8cb9-c44f70ffffe7',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kOTAzLTdiOTktOGYyYi0wNWQyZDE4MmQ4OTQAAAAocnVuXzAxYTIwMTNjLWQ4ZmUtN2JlNy04Y2I5LWM0NGY3MGZmZmZlNwAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWvtiIAAAAIAAZg1P0GgyIAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.9tsOOC6UNb3ipQ_EOaBH0Sbea-H3ms31s-uIdZrADnE',1795317094659618,1795317754659618,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d937-70c0-8a1a-09313ee546cd',NULL,'run_01a2013c-d932-772b-b6fd-26f55143903e',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kOTM3LTcwYzAtOGExYS0wOTMxM2VlNTQ2Y2QAAAAocnVuXzAxYTIwMTNjLWQ5MzItNzcyYi1iNmZkLTI2ZjU1MTQzOTAzZQAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWwfpgAAAAIAAZg1P0HS5gAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.JtFaxH6SPigfHiCfNq-3XwkszyGVnOkQz9AhwhhDUnE',1795317094710936,1795317754710936,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d95e-7702-a912-a90cc37838b7',NULL,'run_01a2013c-d94c-728b-898f-da1b2f80e7eb',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kOTVlLTc3MDItYTkxMi1hOTBjYzM3ODM4YjcAAAAocnVuXzAxYTIwMTNjLWQ5NGMtNzI4Yi04OThmLWRhMWIyZjgwZTdlYgAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWxGFQAAAAIAAZg1P0H5VQAAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.wf595aLS4FTJ8wRXw4XqlRj8FXhqRFH-NlDrz7uKB5s',1795317094750292,1795317754750292,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d97a-7f6c-849e-362f80bb8a7c',NULL,'run_01a2013c-d96b-7241-b682-5ee45c278c11',NULL,'open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kOTdhLTdmNmMtODQ5ZS0zNjJmODBiYjhhN2MAAAAocnVuXzAxYTIwMTNjLWQ5NmItNzI0MS1iNjgyLTVlZTQ1YzI3OGMxMQAAAARvcGVuAAAABmRhZW1vbgAAAANydW4AAAAIAAZg1NWxh68AAAAIAAZg1P0IVK8AAAABAQAAAAAAAAAMAAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAEZXhlYwAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAABXNoZWxsAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAJcmVhZF9maWxlAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHRvb2wAAAABAAAAA3VzZQAAAAEAAAAKd3JpdGVfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACWVkaXRfZmlsZQAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAAR0b29sAAAAAQAAAAN1c2UAAAABAAAACmxpc3RfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAxzZWFyY2hfZmlsZXMAAAABAAAADXdhbGxfc2Vjc19tYXgAAAAIAAAAAAAAADwAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAAhhc2tfdXNlcgAAAAEAAAANd2FsbF9zZWNzX21heAAAAAgAAAAAAAAAPAAAAARwYXRoAAAAAgAAAARyZWFkAAAABXdyaXRlAAAAAQAAACwvdG1wL2FydC10ZXN0LWV5ZExQNS9kYXRhL3dvcmtzcGFjZXMvb3Blbi8qKgAAAAAAAAAHY29tbWFuZAAAAAEAAAADcnVuAAAAAQAAAAEqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAABAAAADW9ubHlfcmVsZWFzZWQAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.Jr7I82o3208ZHqJOPrY9kKM2vmE6SKXLZrLn-W-_VS4',1795317094778799,1795317754778799,NULL,NULL,NULL,NULL,NULL);
INSERT INTO capabilities VALUES('cap_01a2013c-d98a-7845-bc4c-06958a07d7db','cap_01a2013c-d97a-7f6c-849e-362f80bb8a7c','run_01a2013c-d96b-7241-b682-5ee45c278c11','call_01a2013c-d981-7ffb-87b1-c908137ba5fc','open','cap_v1.AAAAGmFnZW50LXJ1bnRpbWUgY2FwYWJpbGl0eSAxAAAAKGNhcF8wMWEyMDEzYy1kOThhLTc4NDUtYmM0Yy0wNjk1OGEwN2Q3ZGIAAAAocnVuXzAxYTIwMTNjLWQ5NmItNzI0MS1iNjgyLTVlZTQ1YzI3OGMxMQAAAARvcGVuAAAAKGNhcF8wMWEyMDEzYy1kOTdhLTdmNmMtODQ5ZS0zNjJmODBiYjhhN2MAAAApY2FsbF8wMWEyMDEzYy1kOTgxLTdmZmItODdiMS1jOTA4MTM3YmE1ZmMAAAAIAAZg1NWxoswAAAAIAAZg1NzYsMwAAAABAAAAAAEAAAAoY2FwXzAxYTIwMTNjLWQ5N2EtN2Y2Yy04NDllLTM2MmY4MGJiOGE3YwAAAAQAAAAEdG9vbAAAAAEAAAADdXNlAAAAAQAAAARleGVjAAAAAQAAAA13YWxsX3NlY3NfbWF4AAAACAAAAAAAAAA8AAAABHBhdGgAAAACAAAABHJlYWQAAAAFd3JpdGUAAAABAAAALC90bXAvYXJ0LXRlc3QtZXlkTFA1L2RhdGEvd29ya3NwYWNlcy9vcGVuLyoqAAAAAAAAAAdjb21tYW5kAAAAAQAAAANydW4AAAABAAAAASoAAAAAAAAABGhvc3QAAAABAAAAB2Nvbm5lY3QAAAABAAAAD2FwaS5leGFtcGxlLmNvbQAAAAA.vvIPTHoQZFlnu3T4_I5v1tS5tguFm5NoO75CKTKR1jA',1795317094785740,1795317214785740,NULL,NULL,NULL,NULL,NULL);
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
INSERT INTO budget_use VALUES('agent','open',20779,0,16471,0,11466,0);
INSERT INTO budget_use VALUES('principal','prn_88f364e5-920b-8448-b135-ec9b0b341bd6',20779,0,17724,0,11466,0);
INSERT INTO budget_use VALUES('org','',20779,0,17724,0,11466,0);
INSERT INTO budget_use VALUES('agent','careful',20779,0,1253,0,0,0);
CREATE TABLE budgets (
    scope      TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    nanos      BIGINT,
    tokens     BIGINT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT   NOT NULL,
    PRIMARY KEY (scope, subject)
);
INSERT INTO budgets VALUES('org','',NULL,9000000,1795317094410432,'prn_de5afe39-1566-82ca-adec-0a637b192e40');
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
INSERT INTO usage VALUES(20779,'prn_88f364e5-920b-8448-b135-ec9b0b341bd6','open','default',5,6,16466,5,0);
INSERT INTO usage VALUES(20779,'prn_88f364e5-920b-8448-b135-ec9b0b341bd6','careful','default',1,1,1252,1,0);
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
INSERT INTO secret_ages VALUES('auth.permission_secret','environment','9aae4f3e00840f1c44691f62e6eddd622d4315f18444b5e046178b058a60b16f',1795317093965919,NULL);
INSERT INTO secret_ages VALUES('auth.token','config','acb7c93eb0880f8922ba5c48fbf34bebd70619b0a8014734ceb79cc93e529202',1795317093965919,NULL);
INSERT INTO secret_ages VALUES('auth.tokens.alice.token','config','a560051a9c45de20b4c422fdf79b6fe65fb7f25c127e38eabe8f9d6365a851cf',1795317093965919,NULL);
INSERT INTO secret_ages VALUES('auth.tokens.bob.token','config','fca3c0bfbe4c813667c5e65922718319801a108a0b5ca73ede6ac7c802012d76',1795317093965919,NULL);
INSERT INTO secret_ages VALUES('auth.tokens.operator.token','config','b461750e372fa2089ad700242abf826ffb492c26f468379e3cd3b711afb88ec8',1795317093965919,NULL);
INSERT INTO secret_ages VALUES('auth.tokens.viewer.token','config','412d15d068747cc560300773bf14bd172e822a8a106091765ca1a184baaa3ecf',1795317093965919,NULL);
INSERT INTO secret_ages VALUES('llm.api_key','config','2117ebd81e4e1ec01027561ef04a01061bb011dad6804d498a61ed50428054b4',1795317093965919,NULL);
CREATE TABLE audit_checkpoints (
    n          BIGINT PRIMARY KEY,
    hash       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    key_id     TEXT   NOT NULL,
    mac        TEXT   NOT NULL
);
INSERT INTO audit_checkpoints VALUES(7,'907342573d06ed5448b95f61afa22a68fe00c15d9bd9759eaaf817593abd0ac1',1795317094297000,'660a77a4bf7f0011','d135c619e10d3e82e71a238c0e63a23c67ff80ec5ae2d1efee43df58a45b4268');
CREATE TABLE lockdown (
    id     BIGINT PRIMARY KEY,
    at     BIGINT NOT NULL,
    done_by TEXT  NOT NULL,
    reason TEXT
);
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
INSERT INTO replicas VALUES(1,'vm','','0.1.0',6,1795317093953314,1795317093953314,1795317108953314,NULL,0,0,NULL,0);
CREATE TABLE leases (
    name       TEXT PRIMARY KEY,
    boot_epoch BIGINT NOT NULL,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE TABLE nudges (
    run_id     TEXT PRIMARY KEY,
    boot_epoch BIGINT NOT NULL,
    -- The first of those events.
    seq        BIGINT NOT NULL
);
CREATE TABLE cluster (
    id             BIGINT PRIMARY KEY,
    cluster_id     TEXT   NOT NULL,
    -- What the permission secret makes of the id; empty before the first replica has compared.
    secret_mac     TEXT   NOT NULL,
    -- Whether some directory of workspaces bears the cluster's mark.
    has_workspaces BIGINT NOT NULL
);
INSERT INTO cluster VALUES(1,'evt_01a2013c-d63b-7e7a-9f74-94485cbe64a2','',0);
CREATE TABLE queue_counts (
    principal TEXT PRIMARY KEY,
    waiting   BIGINT NOT NULL
);
CREATE TABLE definitions (
    hash       TEXT PRIMARY KEY,
    body       TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);
INSERT INTO definitions VALUES('4ec8a4f258c01b509af0a739d41cb28dadf1a4c17cb8b154712a408704dc0a3f','{"agent":{"name":"open","version":"061bfe3559fb724fef7a11c36bde464434cf84f179506f171e6b7dbe19919881","tools":["exec","shell","read_file","write_file","edit_file","list_files","search_files","ask_user"],"workspace":"/tmp/art-test-eydLP5/data/workspaces/open","allowed_paths":[],"allowed_commands":["*"],"may_execute_files":false,"egress":{"connections":1000,"requests":2000,"bytes_up":67108864,"bytes_down":1073741824,"tunnels":32,"names_per_minute":120},"tool_limits":{"wall_secs":60,"cpu_secs":60,"memory_bytes":4294967296,"processes":256,"file_bytes":268435456,"open_files":256,"tmp_bytes":67108864,"tmp_inodes":4096,"memory_total_bytes":4294967296,"workspace_bytes":4294967296,"workspace_inodes":200000,"output_bytes":65536}},"hosts":{"allow":["api.example.com"],"deny":[]}}',1795317094441817);
INSERT INTO definitions VALUES('6d4f7608d9e86e52433bd765d1b44be81a4544236511dafaafb02049f42a182f','{"agent":{"name":"careful","version":"6c0a2279be2058d6cb3b73631400cecd995db3ec1200f4cd2d6cae5e9e73f748","tools":["exec","shell","read_file","write_file","edit_file","list_files","search_files","ask_user"],"workspace":"/tmp/art-test-eydLP5/data/workspaces/careful","allowed_paths":[],"allowed_commands":[],"may_execute_files":false,"egress":{"connections":1000,"requests":2000,"bytes_up":67108864,"bytes_down":1073741824,"tunnels":32,"names_per_minute":120},"tool_limits":{"wall_secs":60,"cpu_secs":60,"memory_bytes":4294967296,"processes":256,"file_bytes":268435456,"open_files":256,"tmp_bytes":67108864,"tmp_inodes":4096,"memory_total_bytes":4294967296,"workspace_bytes":4294967296,"workspace_inodes":200000,"output_bytes":65536}},"hosts":{"allow":[],"deny":[]}}',1795317094617342);
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
CREATE INDEX replicas_open ON replicas (boot_epoch) WHERE recovered = 0;
CREATE INDEX nudges_of_replica ON nudges (boot_epoch);
CREATE INDEX capabilities_revoked ON capabilities (expires_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX decisions_by_definition ON decisions (definition);
CREATE INDEX capabilities_by_definition ON capabilities (definition);
COMMIT;
