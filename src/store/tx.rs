//! One unit of work inside a group commit.
//!
//! Rows that are only ever appended (messages, events, steps, bundles, audit) are gathered and
//! written in bulk at the end of the group: the same transaction, a fraction of the statements. A
//! statement costs a trip to the connection's thread and back, far more than SQLite itself.

mod file;
mod gathered;
mod group;

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    approvals::Approvals,
    audit::{Audit, Chain},
    backups::Backups,
    budget_use::{BudgetUse, Uses},
    budgets::Budgets,
    bundles::{Bundle, Bundles},
    calls::Calls,
    capabilities::{Capabilities, Revoked},
    checkpoints::Checkpoints,
    cols,
    conversations::{Conversation, Conversations},
    db::Conn,
    decisions::Decisions,
    definitions::Definitions,
    egress_rules::EgressRules,
    erasures::Erasures,
    error::StoreError,
    idempotency::IdempotencyKeys,
    identity::ClusterIdentities,
    known::Known,
    leases::Leases,
    links::Links,
    lockdown::Lockdowns,
    pairings::Pairings,
    patterns::Patterns,
    policies::Policies,
    principals::Principals,
    replicas::Replicas,
    retention::Keeping,
    run_scopes::RunScopes,
    runs::{RunCore, Runs},
    secrets::Secrets,
    steers::Steers,
    steps::StepRow,
    tokens::Tokens,
    usage::{UsageKey, UsageSum},
    waiting::Waiting,
};
use crate::{
    domain::{
        AuditEntry, Author, BudgetSubject, CapabilityId, CapabilityRecord, Clock, ConversationId,
        Day, Event, EventBody, IdSource, Message, MessageId, Part, PolicyDecision, PrincipalId,
        RunId, RunState, Timestamp, ToolCall,
    },
    runtime::Redactor,
};
pub(super) use group::Group;
use group::{FIRST_JOB, NEXT_JOB, UNDO_JOB};

/// A transaction in progress. Only the writer makes one.
pub struct Tx {
    conn: Conn,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    redactor: Redactor,
    now: Timestamp,
    pending: Pending,
    mark: Mark,
    chain: Chain,
    queued: Counter,
    waiting: Waiting,
    uses: Uses,
    savepoint: Savepoint,
    known: Known,
    revoked: Revoked,
    /// Calls that this job has inserted; written when it ends, as it leaves them.
    new_calls: Vec<ToolCall>,
    /// Who waits for the database to be compacted after the commit.
    compact: Vec<oneshot::Sender<bool>>,
    group: Group,
}

/// Where the group's savepoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Savepoint {
    /// There is none.
    None,
    /// It was set before a job that stands, or is under way.
    BeforeJob,
    /// Everything since was undone.
    AtEnd,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("now", &self.now).finish_non_exhaustive()
    }
}

/// An event that is durable now.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The event.
    pub event: Arc<Event>,
    /// Size of its body as JSON.
    pub bytes: usize,
}

#[derive(Default)]
struct Pending {
    messages: Vec<Message>,
    events: Vec<(Arc<Event>, String)>,
    steps: Vec<StepRow>,
    usage: Vec<(UsageKey, UsageSum)>,
    bundles: Vec<(Bundle, String)>,
    decisions: Vec<PolicyDecision>,
    capabilities: Vec<CapabilityRecord>,
    audit: Vec<(Timestamp, AuditEntry)>,
    /// Runs that another replica works on: it shall look at the event with this number.
    nudges: Vec<(RunId, u64, u64)>,
    committed: Vec<Committed>,
}

/// Where a job began, so that its rows alone can be dropped.
#[derive(Clone, Copy, Default)]
struct Mark {
    messages: usize,
    events: usize,
    steps: usize,
    usage: usize,
    bundles: usize,
    decisions: usize,
    capabilities: usize,
    audit: usize,
    nudges: usize,
    queued: i64,
    waiting: usize,
    uses: usize,
}

/// A counter row and what the group adds to it.
#[derive(Clone, Copy, Default)]
struct Counter {
    stored: i64,
    added: i64,
}

/// What the store held when it was opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) chain: Chain,
    pub(super) queued: i64,
    pub(super) waiting: Waiting,
    pub(super) group: Group,
}

impl Tx {
    pub(super) fn new(
        conn: Conn,
        clock: Arc<dyn Clock>,
        ids: IdSource,
        redactor: Redactor,
        found: Found,
    ) -> Self {
        let Found { chain, queued, waiting, group } = found;
        let now = clock.now();
        let queued = Counter { stored: queued, added: 0 };
        let (pending, mark) = (Pending::default(), Mark::default());
        let savepoint = Savepoint::None;
        let (known, new_calls) = (Known::default(), Vec::new());
        let revoked = Revoked::default();
        Self {
            conn,
            clock,
            ids,
            redactor,
            now,
            pending,
            mark,
            chain,
            queued,
            waiting,
            uses: Uses::default(),
            savepoint,
            known,
            revoked,
            new_calls,
            compact: Vec::new(),
            group,
        }
    }

    /// The moment of this job; the same for everything that it writes.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The source of ids.
    pub const fn ids(&self) -> &IdSource {
        &self.ids
    }

    /// Whether a text holds a registered secret.
    pub fn finds_secret(&self, text: &str) -> bool {
        self.redactor.finds_secret(text)
    }

    /// Runs.
    pub const fn runs(&mut self) -> Runs<'_> {
        Runs { conn: &mut self.conn, known: Some(&mut self.known) }
    }

    /// Tool calls.
    pub const fn calls(&mut self) -> Calls<'_> {
        Calls { conn: &mut self.conn, new: Some(&mut self.new_calls) }
    }

    /// Messages that wait to be injected.
    pub const fn steers(&mut self) -> Steers<'_> {
        Steers { conn: &mut self.conn }
    }

    /// Questions to people.
    pub const fn approvals(&mut self) -> Approvals<'_> {
        Approvals { conn: &mut self.conn, changes: true }
    }

    /// Patterns of calls that people approved.
    pub const fn patterns(&mut self) -> Patterns<'_> {
        Patterns { conn: &mut self.conn }
    }

    /// Threads.
    pub const fn conversations(&mut self) -> Conversations<'_> {
        Conversations { conn: &mut self.conn, changes: true }
    }

    /// Snapshots. A job that reads them calls [`flush`](Self::flush) first.
    pub const fn bundles(&mut self) -> Bundles<'_> {
        Bundles { conn: &mut self.conn }
    }

    /// Which machines agents may reach.
    pub const fn egress_rules(&mut self) -> EgressRules<'_> {
        EgressRules { conn: &mut self.conn }
    }

    /// Who may act.
    pub const fn principals(&mut self) -> Principals<'_> {
        Principals { conn: &mut self.conn }
    }

    /// Their tokens.
    pub const fn tokens(&mut self) -> Tokens<'_> {
        Tokens { conn: &mut self.conn }
    }

    /// Accounts that stand for them.
    pub const fn links(&mut self) -> Links<'_> {
        Links { conn: &mut self.conn }
    }

    /// Requests for such links.
    pub const fn pairings(&mut self) -> Pairings<'_> {
        Pairings { conn: &mut self.conn }
    }

    /// What narrows runs.
    pub const fn run_scopes(&mut self) -> RunScopes<'_> {
        RunScopes { conn: &mut self.conn }
    }

    /// Versions of the policy, and which one is in force.
    pub const fn policies(&mut self) -> Policies<'_> {
        Policies { conn: &mut self.conn }
    }

    /// What policy decided; rows of this group are not there yet.
    pub const fn decisions(&mut self) -> Decisions<'_> {
        Decisions { conn: &mut self.conn }
    }

    /// Long parts that rows have in common.
    pub const fn definitions(&mut self) -> Definitions<'_> {
        Definitions { conn: &mut self.conn }
    }

    /// What runs and their calls may do; rows of this group are not there yet.
    pub const fn capabilities(&mut self) -> Capabilities<'_> {
        Capabilities { conn: &mut self.conn, revoked: Some(&mut self.revoked) }
    }

    /// Stores a new capability.
    pub fn capability(&mut self, record: CapabilityRecord) {
        self.pending.capabilities.push(record);
    }

    /// Whether a capability of a run in progress was revoked.
    pub fn is_revoked(&self, id: CapabilityId) -> bool {
        self.revoked.holds(id)
    }

    /// Whether the daemon is locked down.
    pub const fn lockdown(&mut self) -> Lockdowns<'_> {
        Lockdowns { conn: &mut self.conn }
    }

    /// Answers that a repeated request gets again.
    pub const fn idempotency(&mut self) -> IdempotencyKeys<'_> {
        IdempotencyKeys { conn: &mut self.conn }
    }

    /// Appends an event to a run; the run must be saved in the same job.
    pub fn event(&mut self, run: &mut RunCore, body: EventBody) -> Result<(), StoreError> {
        run.seq += 1;
        let json = cols::json(&body)?;
        let (body, json) = if self.redactor.finds_secret(&json) {
            // A backstop: the callers redact what they let in. The live copy must match the row.
            let corrupt = |e: serde_json::Error| StoreError::Corrupt {
                what: format!("a redacted event: {e}"),
            };
            let clean = self.redactor.redact_json(serde_json::from_str(&json).map_err(corrupt)?);
            let text = cols::json(&clean)?;
            (serde_json::from_value(clean).map_err(corrupt)?, text)
        } else {
            (body, json)
        };
        let event = Event {
            body,
            run_id: run.id,
            conversation_id: run.conversation_id,
            seq: run.seq,
            at: self.now,
            epoch: run.epoch,
        };
        let is_claimed = matches!(run.state, RunState::Running | RunState::Cancelling);
        if let Some(owner) = run.owner.filter(|owner| is_claimed && *owner != self.own_epoch()) {
            self.pending.nudges.push((run.id, owner, run.seq));
        }
        self.pending.events.push((Arc::new(event), json));
        Ok(())
    }

    /// A new, empty thread. The caller puts it, with its first run or alone.
    pub fn new_conversation(&mut self, principal: PrincipalId) -> Conversation {
        let id = ConversationId::new(&self.ids);
        self.known.set_last_seq(id, 0, false);
        Conversation::new(id, principal, self.now)
    }

    /// The number of a thread's next message.
    pub async fn reserve(&mut self, id: ConversationId) -> Result<u64, StoreError> {
        let last = match self.known.last_seq(id) {
            Some(last) => last,
            None => self.conversations().last_seq(id).await?,
        };
        self.known.set_last_seq(id, last + 1, true);
        Ok(last + 1)
    }

    /// Appends a message; `seq` comes from [`reserve`](Self::reserve).
    pub fn message(
        &mut self,
        conversation_id: ConversationId,
        seq: u64,
        run_id: RunId,
        role: Author,
        content: Vec<Part>,
    ) -> Message {
        let id = MessageId::new(&self.ids);
        let message = Message { id, conversation_id, seq, run_id, role, content, at: self.now };
        self.pending.messages.push(message.clone());
        message
    }

    /// Stores a finished model call.
    pub fn step(&mut self, step: StepRow) {
        self.pending.steps.push(step);
    }

    /// Stores a snapshot.
    pub fn bundle(&mut self, bundle: Bundle) -> Result<(), StoreError> {
        let body = cols::json(&bundle)?;
        self.pending.bundles.push((bundle, body));
        Ok(())
    }

    /// Records what policy decided. Secrets that the question holds are masked.
    pub fn decision(&mut self, decision: PolicyDecision) {
        self.pending.decisions.push(decision);
    }

    /// Records something in the audit trail.
    pub fn audit(&mut self, entry: AuditEntry) {
        self.pending.audit.push((self.now, entry));
    }

    /// Stored secrets and the ages of all.
    pub const fn secrets(&mut self) -> Secrets<'_> {
        Secrets { conn: &mut self.conn }
    }

    /// How long things are kept, and removing what is old.
    pub const fn keeping(&mut self) -> Keeping<'_> {
        Keeping { conn: &mut self.conn }
    }

    /// Erasures, and what is stored about a person.
    pub const fn erasures(&mut self) -> Erasures<'_> {
        Erasures { conn: &mut self.conn }
    }

    /// Daemons that work on this database.
    pub const fn replicas(&mut self) -> Replicas<'_> {
        Replicas { conn: &mut self.conn }
    }

    /// What all of them have in common.
    pub const fn cluster(&mut self) -> ClusterIdentities<'_> {
        ClusterIdentities { conn: &mut self.conn }
    }

    /// Who has which duty.
    pub const fn leases(&mut self) -> Leases<'_> {
        Leases { conn: &mut self.conn }
    }

    /// Signed ends of the audit trail.
    pub const fn checkpoints(&mut self) -> Checkpoints<'_> {
        Checkpoints { conn: &mut self.conn }
    }

    /// Has the database written anew once this group is committed, so that nothing of removed rows is
    /// left in its file; `done` is told whether it was. Other jobs wait for it.
    pub fn compact_after_commit(&mut self, done: oneshot::Sender<bool>) {
        self.compact.push(done);
    }

    /// The number and the hash of the trail's last row. Flush the transaction first.
    pub fn trail_end(&self) -> (u64, String) {
        self.chain.end()
    }

    /// What this group records in the audit trail and has not written yet, oldest first.
    pub fn unwritten_audit(&self) -> impl Iterator<Item = &AuditEntry> {
        self.pending.audit.iter().map(|(_, entry)| entry)
    }

    /// The audit trail as written so far, without what this group has not written.
    pub const fn trail(&mut self) -> Audit<'_> {
        Audit { conn: &mut self.conn }
    }

    /// Runs that wait in the queue, this group included.
    pub fn queued(&self) -> u64 {
        u64::try_from(self.queued.stored + self.queued.added).unwrap_or(0)
    }

    /// Those of one principal.
    pub async fn queued_of(&mut self, principal: PrincipalId) -> Result<u64, StoreError> {
        self.waiting.of_principal(&mut self.conn, principal).await
    }

    /// A run of this principal joined the queue.
    pub fn joined_queue(&mut self, principal: PrincipalId) {
        self.queued.added += 1;
        self.waiting.joined(principal);
    }

    /// A run of this principal left the queue.
    pub fn left_queue(&mut self, principal: PrincipalId) {
        self.queued.added -= 1;
        self.waiting.left(principal);
    }

    /// Backups that were made.
    pub const fn backups(&mut self) -> Backups<'_> {
        Backups { conn: &mut self.conn }
    }

    /// Budgets that administrators set.
    pub const fn budgets(&mut self) -> Budgets<'_> {
        Budgets { conn: &mut self.conn }
    }

    /// What was used of a budget in a day; none where nothing was counted.
    pub async fn budget_use(
        &mut self,
        subject: &BudgetSubject,
        day: Day,
    ) -> Result<Option<BudgetUse>, StoreError> {
        self.uses.get(&mut self.conn, subject, day).await
    }

    /// Sets what was used of a budget in a day. It was read in this job.
    pub fn set_budget_use(&mut self, subject: &BudgetSubject, day: Day, now: BudgetUse) {
        self.uses.put(subject, day, now);
    }

    /// Adds to what was used by somebody on a day.
    pub fn usage(&mut self, key: UsageKey, sum: UsageSum) {
        self.pending.usage.push((key, sum));
    }

    /// Begins a job; one that `can_fail_alone` gets a savepoint to go back to.
    pub(super) async fn begin_job(&mut self, can_fail_alone: bool) -> Result<(), StoreError> {
        self.now = self.clock.now();
        self.mark = Mark {
            messages: self.pending.messages.len(),
            events: self.pending.events.len(),
            steps: self.pending.steps.len(),
            usage: self.pending.usage.len(),
            bundles: self.pending.bundles.len(),
            decisions: self.pending.decisions.len(),
            capabilities: self.pending.capabilities.len(),
            audit: self.pending.audit.len(),
            nudges: self.pending.nudges.len(),
            queued: self.queued.added,
            waiting: self.waiting.mark(),
            uses: self.uses.mark(),
        };
        self.known.begin_job();
        self.revoked.begin_job();
        if can_fail_alone { self.set_savepoint().await } else { Ok(()) }
    }

    /// Ends a job that succeeded.
    pub(super) async fn end_job(&mut self) -> Result<(), StoreError> {
        self.calls().write_new().await
    }

    async fn set_savepoint(&mut self) -> Result<(), StoreError> {
        match self.savepoint {
            Savepoint::None => self.script(FIRST_JOB).await?,
            Savepoint::BeforeJob => self.script(NEXT_JOB).await?,
            Savepoint::AtEnd => {}
        }
        self.savepoint = Savepoint::BeforeJob;
        Ok(())
    }

    /// Undoes the job alone.
    pub(super) async fn abandon_job(&mut self) -> Result<(), StoreError> {
        self.pending.messages.truncate(self.mark.messages);
        self.pending.events.truncate(self.mark.events);
        self.pending.steps.truncate(self.mark.steps);
        self.pending.usage.truncate(self.mark.usage);
        self.pending.bundles.truncate(self.mark.bundles);
        self.pending.decisions.truncate(self.mark.decisions);
        self.pending.capabilities.truncate(self.mark.capabilities);
        self.pending.audit.truncate(self.mark.audit);
        self.pending.nudges.truncate(self.mark.nudges);
        self.queued.added = self.mark.queued;
        self.waiting.undo(self.mark.waiting);
        let is_shared = self.conn.is_shared();
        self.uses.undo(self.mark.uses, is_shared);
        self.known.abandon_job(is_shared);
        self.revoked.abandon_job();
        self.new_calls.clear();
        self.script(UNDO_JOB).await?;
        self.savepoint = Savepoint::AtEnd;
        Ok(())
    }

    /// Writes the rows that earlier jobs of the group gathered, but for the audit trail's. A job
    /// that reads messages or bundles calls it first, before it writes anything itself.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        self.group.is_broken = true;
        self.write_gathered().await?;
        self.keep_flushed().await
    }

    /// The same with the audit trail's rows. On Postgres nobody else can commit until this group
    /// has: only for who must see the end of the trail.
    pub async fn flush_trail(&mut self) -> Result<(), StoreError> {
        self.group.is_broken = true;
        self.write_gathered().await?;
        self.hold_trail().await?;
        self.write_trail().await?;
        self.keep_flushed().await
    }

    async fn keep_flushed(&mut self) -> Result<(), StoreError> {
        if self.savepoint != Savepoint::None {
            // Those rows are not this job's: they must stand even when it fails.
            self.set_savepoint().await?;
        }
        self.mark = Mark {
            audit: self.pending.audit.len(),
            queued: self.queued.added,
            waiting: self.waiting.mark(),
            uses: self.uses.mark(),
            ..Mark::default()
        };
        self.known.begin_job();
        self.group.is_broken = false;
        Ok(())
    }
}
