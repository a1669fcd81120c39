//! Every bound of the system, with its unit and its reason.

use std::time::Duration;

/// Largest request body over HTTP, in bytes (API.md).
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Largest text of one message part, in bytes: below the body limit, so that the limit is named.
pub const MESSAGE_TEXT_BYTES_MAX: usize = 512 << 10;
/// Parts in one input.
pub const INPUT_PARTS_MAX: usize = 64;
/// Entries of a run's `metadata`, and bytes of one key or value.
pub const METADATA_ENTRIES_MAX: usize = 16;
/// Bytes of one metadata key or value.
pub const METADATA_BYTES_MAX: usize = 512;
/// Bytes of a reason that a person gives.
pub const REASON_BYTES_MAX: usize = 1_000;
/// Rules of the run-time list of hosts: every decision looks at all of them.
pub const EGRESS_RULES_MAX: usize = 1_000;
/// Days that a question about use reaches back when it does not say.
pub const USAGE_DAYS: u32 = 30;
/// Budgets that administrators set at run time: all of them are in memory.
pub const BUDGETS_MAX: usize = 1_000;
/// Entries of one list of a scope: a request looks through them.
pub const SCOPE_ENTRIES_MAX: usize = 200;
/// Principals that are stored: all of them are in memory.
pub const PRINCIPALS_MAX: usize = 10_000;
/// Tokens that are stored and not revoked: all of them are in memory.
pub const TOKENS_MAX: usize = 10_000;
/// Accounts that are linked: all of them are in memory.
pub const LINKS_MAX: usize = 10_000;
/// Requests to link an account that wait at once.
pub const PAIRINGS_MAX: usize = 1_000;
/// How long a pairing code is good (SECURITY.md).
pub const PAIRING_TTL: Duration = Duration::from_secs(600);
/// Bytes of the name of a principal, the label of a token, an account or its display name.
pub const NAME_BYTES_MAX: usize = 200;
/// Bytes of a policy's text: read whole at every start and change.
pub const POLICY_BYTES_MAX: usize = 1 << 20;
/// Rules of a policy.
pub const POLICY_RULES_MAX: usize = 5_000;
/// Entries of one list of a policy's rule.
pub const POLICY_LIST_MAX: usize = 256;
/// Path patterns of a whole policy: each is compiled when it is read.
pub const POLICY_GLOBS_MAX: usize = 10_000;
/// Bytes of one path pattern, token, name or example of a policy.
pub const POLICY_WORD_BYTES_MAX: usize = 512;
/// Tokens of one command prefix of a policy, or of one example.
pub const POLICY_TOKENS_MAX: usize = 32;
/// Deny patterns that a policy adds to those that are built in.
pub const POLICY_PATTERNS_MAX: usize = 200;
/// Bytes of one deny pattern.
pub const POLICY_PATTERN_BYTES_MAX: usize = 1_000;
/// Memory, in bytes, that all deny patterns of a policy may take compiled.
pub const POLICY_PATTERNS_COMPILED_BYTES_MAX: usize = 10 << 20;
/// People that a rule may want to agree.
pub const POLICY_QUORUM_MAX: u32 = 10;
/// Bytes of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 200;
/// How long an idempotency key is kept (API.md: 24 h).
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long decisions of policy are kept for explanations and replays.
pub const DECISIONS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long capabilities are kept that nobody can use any more; the audit trail keeps the rest.
pub const CAPABILITIES_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Steers that wait in one run.
pub const STEERS_MAX: usize = 16;
/// Items of one page at most, and by default.
pub const PAGE_MAX: u32 = 500;
/// Items of a page when the caller does not say.
pub const PAGE_DEFAULT: u32 = 50;
/// Longest `?wait=` (API.md: 60 s).
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Runs that wait in the queue before new ones get 429.
pub const QUEUED_RUNS_MAX: u64 = 10_000;
/// Runs that wait before those who run the daemon are told (SECURITY.md).
pub const QUEUE_ALERT: u64 = 100;
/// Runs in progress at once; each is one small task.
pub const ACTIVE_RUNS_MAX: usize = 1_024;
/// Events that one live subscriber may lag behind (API.md).
pub const SUBSCRIBER_EVENTS_MAX: usize = 256;
/// Bytes that one live subscriber may lag behind (API.md).
pub const SUBSCRIBER_BYTES_MAX: usize = 1 << 20;
/// Commands that wait for the store's writer.
pub const WRITER_QUEUE_MAX: usize = 4_096;
/// Logical transactions in one physical commit: bounds the latency of the first.
pub const GROUP_COMMIT_MAX: usize = 256;
/// Recoveries of one run before it waits for an operator (RUNS.md).
pub const RECOVERIES_MAX: u32 = 3;
/// Tool calls that one model answer may ask for.
pub const CALLS_PER_STEP_MAX: usize = 32;
/// Bytes of one tool call's arguments.
pub const TOOL_ARGS_BYTES_MAX: usize = 512 << 10;
/// Levels of JSON in the arguments of one tool call.
pub const TOOL_ARGS_DEPTH_MAX: usize = 64;
/// Bytes of tool output kept and shown to the model.
pub const TOOL_OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Bytes of one model answer.
pub const MODEL_ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long an approval waits before it counts as denied (SECURITY.md).
pub const APPROVAL_TTL: Duration = Duration::from_secs(600);
/// How long a pattern of calls may be approved for, in seconds: a day.
pub const PATTERN_TTL_SECS_MAX: u64 = 24 * 3600;
/// Calls that one pattern may let through.
pub const PATTERN_USES_MAX: u32 = 100;
/// Patterns in force for one agent and tool: every gated call looks at all of them.
pub const PATTERNS_MAX: u32 = 200;
/// Days whose calls a preview of a pattern looks at.
pub const PREVIEW_DAYS: u64 = 30;
/// Calls that a preview looks at.
pub const PREVIEW_CALLS_MAX: u32 = 10_000;
/// Approvals that one request may decide.
pub const DECISIONS_MAX: usize = 100;
/// Times that one call is asked about again because something changed.
pub const REFUSALS_OF_CALL_MAX: u32 = 5;
/// How long a paused or waiting run may wait for a person before it expires.
pub const WAIT_FOR_PERSON_MAX: Duration = Duration::from_secs(24 * 3600);
/// Tool processes at once; more wait. Keeps the daemon responsive on two cores.
pub const SANDBOXES_MAX: usize = 16;
/// Bytes that tools must leave free on the file system of a workspace, which is often the store's:
/// enough for the daemon to write on for a while and to say what happened.
pub const DISK_FREE_BYTES_MIN: u64 = 256 << 20;
/// Authentication failures within the window before an address or token id is locked.
pub const AUTH_FAILURES_MAX: u32 = 5;
/// The window, and the time of the lock.
pub const AUTH_FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// WebSocket connections at once (SECURITY.md).
pub const WEBSOCKETS_MAX: usize = 500;
/// Messages that one WebSocket client may send in a minute (SECURITY.md).
pub const WEBSOCKET_MESSAGES_PER_MINUTE: u32 = 600;
/// Runs that one WebSocket may be subscribed to.
pub const WEBSOCKET_SUBSCRIPTIONS_MAX: usize = 256;
/// Time given to running work after the first stop signal.
pub const SOFT_STOP_GRACE: Duration = Duration::from_secs(15);

/// Secrets that the daemon keeps.
pub const SECRETS_MAX: usize = 1_000;
/// Bytes of one.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// Time for which others rely on a replica that they have heard of. As RUNS.md has it.
pub const REPLICA_TTL: Duration = Duration::from_secs(15);
/// How often a replica says that it lives.
pub const REPLICA_BEAT: Duration = Duration::from_secs(5);
/// Time since the last beat that was confirmed after which a replica stops by itself: well before
/// anybody may take it over.
pub const REPLICA_FENCE: Duration = Duration::from_secs(10);
/// Time since that beat after which its tools die even when the daemon stands still.
pub const REPLICA_TOOLS: Duration = Duration::from_secs(12);
/// How long the row of a replica that ended is shown.
pub const REPLICAS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
