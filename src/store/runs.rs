//! Runs. Every write is predicated on the epoch that the caller believes in.

mod unwritten;

use super::{
    budget_use::BudgetUse,
    cols::{self, Cols},
    db::{Conn, Lock, Row, query},
    error::StoreError,
    known::Known,
    page::{Page, Paged},
    waiting::Waiting,
};
use crate::domain::{
    BundleId, Confinement, ConversationId, Day, InterruptMode, PrincipalId, Run, RunError, RunId,
    RunLimits, RunState, Surface, Timestamp, Usage, Usd, UserInput, WaitReason,
};

pub(super) use unwritten::Unwritten;

/// The part of a run that its transitions read and write; the heavy, fixed columns stay out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of the same name; see domain::Run")]
pub struct RunCore {
    pub id: RunId,
    pub conversation_id: ConversationId,
    pub agent: String,
    pub agent_version: String,
    pub principal: PrincipalId,
    pub surface: Surface,
    pub state: RunState,
    pub wait_reason: Option<WaitReason>,
    pub epoch: u64,
    /// Boot epoch of the daemon that claimed it last.
    pub owner: Option<u64>,
    pub seq: u64,
    /// Model calls so far; tool calls belong to the step that asked for them.
    pub step: u32,
    /// Whether it is the active run of its conversation; others wait behind it.
    pub ready: bool,
    /// Recoveries since it last made progress.
    pub recoveries: u32,
    /// Waits for the model provider since it last made progress.
    pub backoffs: u32,
    pub interrupt: Option<InterruptMode>,
    pub steers_waiting: u32,
    pub usage: Usage,
    /// Upper bound of what the model call in flight may use.
    pub held_tokens: u64,
    pub held_cost: Usd,
    /// The day whose budgets hold it.
    pub held_day: Day,
    pub limits: RunLimits,
    /// Time that it has been worked on, waiting for people not counted.
    pub worked_ms: u64,
    /// When a timer looks at it: the deadline of a wait, or the end of a backoff.
    pub wake_at: Option<Timestamp>,
    pub confinement: Option<Confinement>,
    pub tainted: bool,
    pub head_bundle_id: Option<BundleId>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// What it ends with; stored by the next save, never read back.
    pub ending: Option<Ending>,
}

/// What a run ends with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The final answer.
    pub output: Option<String>,
    /// Why it ended badly.
    pub error: Option<RunError>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only those of one principal.
    pub principal: Option<PrincipalId>,
    /// Only those in one state.
    pub state: Option<RunState>,
    /// Only those of one agent.
    pub agent: Option<String>,
    /// Only those of one conversation.
    pub conversation_id: Option<ConversationId>,
}

/// Access to runs.
#[derive(Debug)]
pub struct Runs<'c> {
    pub(super) conn: &'c mut Conn,
    /// In a transaction: what the writer knows without reading.
    pub(super) known: Option<&'c mut Known>,
}

macro_rules! core_columns {
    () => {
        "id, conversation_id, agent, agent_version, principal, surface, state, wait_reason, \
         epoch, owner, seq, step, ready, recoveries, backoffs, interrupt, steers_waiting, \
         input_tokens, output_tokens, cost_nanos, llm_calls, tool_calls, held_tokens, held_nanos, \
         limits, worked_ms, wake_at, confinement, tainted, head_bundle_id, created_at, \
         started_at, ended_at, held_day"
    };
}

macro_rules! all_columns {
    () => {
        concat!(
            core_columns!(),
            ", input, output, error, metadata, parent_run_id, retry_of, base_bundle_id"
        )
    };
}

impl Runs<'_> {
    /// Inserts a new run with the fixed columns of `run`.
    pub fn insert(&mut self, core: &RunCore, run: &Run) {
        if let Some(known) = self.known.as_deref_mut() {
            known.unwritten.insert(core, run);
            known.changes_run(core.id);
            known.saw_run(core);
        }
    }

    /// Saves a run, and what it ended with if it did, if its epoch is still `believed`.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when another owner has taken it: stop, and kill what runs for it.
    pub async fn save(&mut self, core: &RunCore, believed: u64) -> Result<(), StoreError> {
        let stale = || StoreError::Stale { what: core.id.to_string() };
        let now = self.core(core.id).await?.ok_or_else(stale)?;
        if now.epoch != believed {
            return Err(stale());
        }
        if let Some(known) = self.known.as_deref_mut() {
            known.unwritten.save(core, believed);
            known.changes_run(core.id);
            known.saw_run(core);
        }
        Ok(())
    }

    /// Before rows are read by another way than by their id: those of this group stand too.
    async fn write_all(&mut self) -> Result<(), StoreError> {
        match self.known.as_deref_mut() {
            Some(known) => known.unwritten.write(self.conn).await,
            None => Ok(()),
        }
    }

    fn saw(&mut self, core: &RunCore) {
        if let Some(known) = self.known.as_deref_mut() {
            known.saw_run(core);
        }
    }

    /// The part of a run that its transitions need.
    pub async fn core(&mut self, id: RunId) -> Result<Option<RunCore>, StoreError> {
        let lock = Lock::when(self.known.is_some());
        self.read_core(id, lock).await
    }

    async fn read_core(&mut self, id: RunId, lock: Lock) -> Result<Option<RunCore>, StoreError> {
        const SQL: &str = concat!("SELECT ", core_columns!(), " FROM runs WHERE id = $1");
        if let Some(core) = self.known.as_deref().and_then(|known| known.run(id)) {
            return Ok(Some(core));
        }
        let row = query(SQL)
            .bind(id.to_string())
            .lock(lock)
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a run"))?;
        let found = row.map(|row| core(&mut Cols::new(&row))).transpose()?;
        if let Some(core) = &found {
            self.saw(core);
        }
        Ok(found)
    }

    /// The same of a run that nobody else is changing at the moment; where somebody is, none.
    pub async fn free(&mut self, id: RunId) -> Result<Option<RunCore>, StoreError> {
        self.read_core(id, Lock::SkipLocked).await
    }

    /// A whole run.
    pub async fn get(&mut self, id: RunId) -> Result<Option<Run>, StoreError> {
        Ok(self.with_core(id).await?.map(|(_, run)| run))
    }

    /// A whole run, and the part of it that its transitions need.
    pub async fn with_core(&mut self, id: RunId) -> Result<Option<(RunCore, Run)>, StoreError> {
        const SQL: &str = concat!("SELECT ", all_columns!(), " FROM runs WHERE id = $1");
        self.write_all().await?;
        let row = query(SQL)
            .bind(id.to_string())
            .lock(Lock::when(self.known.is_some()))
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read a run"))?;
        row.map(|row| whole(&row)).transpose()
    }

    /// Runs, newest first.
    pub async fn list(
        &mut self,
        filter: &RunFilter,
        page: &Page,
    ) -> Result<Paged<Run>, StoreError> {
        // One text per leading filter, so that each page walks an index from its cursor.
        const SQL: &str = concat!(
            "SELECT ",
            all_columns!(),
            " FROM runs WHERE id < $1 AND ($2 IS NULL OR principal = $2) \
             AND ($3 IS NULL OR state = $3) AND ($4 IS NULL OR agent = $4) \
             AND ($5 IS NULL OR conversation_id = $5) ORDER BY id DESC LIMIT $6"
        );
        const SQL_OF_CONVERSATION: &str = concat!(
            "SELECT ",
            all_columns!(),
            " FROM runs WHERE conversation_id = $5 AND id < $1 \
             AND ($2 IS NULL OR principal = $2) AND ($3 IS NULL OR state = $3) \
             AND ($4 IS NULL OR agent = $4) ORDER BY id DESC LIMIT $6"
        );
        const SQL_IN_STATE: &str = concat!(
            "SELECT ",
            all_columns!(),
            " FROM runs WHERE state = $3 AND id < $1 AND ($2 IS NULL OR principal = $2) \
             AND ($4 IS NULL OR agent = $4) AND ($5 IS NULL OR conversation_id = $5) \
             ORDER BY id DESC LIMIT $6"
        );
        const SQL_OF_PRINCIPAL: &str = concat!(
            "SELECT ",
            all_columns!(),
            " FROM runs WHERE principal = $2 AND id < $1 AND ($3 IS NULL OR state = $3) \
             AND ($4 IS NULL OR agent = $4) AND ($5 IS NULL OR conversation_id = $5) \
             ORDER BY id DESC LIMIT $6"
        );
        self.write_all().await?;
        let sql = if filter.conversation_id.is_some() {
            SQL_OF_CONVERSATION
        } else if filter.state.is_some_and(|s| !s.is_terminal() || filter.principal.is_none()) {
            SQL_IN_STATE
        } else if filter.principal.is_some() {
            SQL_OF_PRINCIPAL
        } else {
            SQL
        };
        let rows = query(sql)
            .bind(page.before())
            .bind(filter.principal.map(|p| p.to_string()))
            .bind(filter.state.map(RunState::as_str))
            .bind(filter.agent.clone())
            .bind(filter.conversation_id.map(|c| c.to_string()))
            .bind(page.rows())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("list runs"))?;
        let items =
            rows.iter().map(|row| Ok(whole(row)?.1)).collect::<Result<Vec<_>, StoreError>>()?;
        Ok(page.cut(items, |run| run.id.to_string()))
    }

    /// Principals with runs that can be claimed, in the order of their ids, behind `after`. It
    /// jumps from one to the next in the index, however many runs each of them has.
    pub async fn claimants(
        &mut self,
        after: Option<PrincipalId>,
        limit: u32,
    ) -> Result<Vec<PrincipalId>, StoreError> {
        self.write_all().await?;
        let rows = query(CLAIMANTS)
            .bind(after.map_or_else(String::new, |p| p.to_string()))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("look for who waits"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// Runs of a principal that can be claimed, oldest first.
    pub async fn claimable(
        &mut self,
        principal: PrincipalId,
        limit: u32,
    ) -> Result<Vec<RunId>, StoreError> {
        self.write_all().await?;
        let rows = query(CLAIMABLE)
            .bind(principal.to_string())
            .bind(i64::from(limit))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("look for runs"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// Runs that wait for a budget, oldest first, behind `after`.
    pub async fn out_of_budget(
        &mut self,
        after: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunId>, StoreError> {
        self.write_all().await?;
        let rows = query(
            "SELECT id FROM runs WHERE state = 'paused' AND id > $1 AND wait_reason = 'budget' \
             ORDER BY id LIMIT $2",
        )
        .bind(after.map_or_else(String::new, |id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for runs that wait for a budget"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// What the runs of a conversation, but one, have used since a day began and hold on it.
    pub async fn used_in(
        &mut self,
        conversation: ConversationId,
        day: Day,
        but: RunId,
    ) -> Result<BudgetUse, StoreError> {
        self.write_all().await?;
        let row = query(
            "SELECT CAST(COALESCE(SUM(CASE WHEN started_at >= $2 THEN cost_nanos ELSE 0 END), 0) \
             AS BIGINT), CAST(COALESCE(SUM(CASE WHEN started_at >= $2 \
             THEN input_tokens + output_tokens ELSE 0 END), 0) AS BIGINT), \
             CAST(COALESCE(SUM(CASE WHEN held_day = $3 THEN held_nanos ELSE 0 END), 0) AS BIGINT), \
             CAST(COALESCE(SUM(CASE WHEN held_day = $3 THEN held_tokens ELSE 0 END), 0) AS BIGINT) \
             FROM runs WHERE conversation_id = $1 AND id <> $4",
        )
        .bind(conversation.to_string())
        .bind(day.start().as_micros())
        .bind(i64::from(day.number()))
        .bind(but.to_string())
        .fetch_one(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("add up what a conversation used"))?;
        let mut c = Cols::new(&row);
        Ok(BudgetUse {
            used: Usd::from_nanos(c.raw()?),
            used_tokens: c.number()?,
            held: Usd::from_nanos(c.raw()?),
            held_tokens: c.number()?,
            warned: 0,
        })
    }

    /// Runs that a daemon was working on which is gone.
    pub async fn abandoned(&mut self) -> Result<Vec<RunId>, StoreError> {
        self.ids(
            "SELECT id FROM runs WHERE state IN ('running', 'cancelling') AND (owner IS NULL \
             OR owner NOT IN (SELECT boot_epoch FROM replicas \
             WHERE recovered = 0 AND ended_at IS NULL)) ORDER BY id LIMIT $1",
            i64::MAX,
        )
        .await
    }

    /// Runs that a replica has claimed, and whether each of them shall end.
    pub async fn of_owner(&mut self, owner: u64) -> Result<Vec<(RunId, bool)>, StoreError> {
        self.write_all().await?;
        let rows = query(
            "SELECT id, state FROM runs WHERE state IN ('running', 'cancelling') AND owner = $1",
        )
        .bind(cols::int(owner))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a replica's runs"))?;
        rows.iter()
            .map(|row| {
                let mut c = Cols::new(row);
                Ok((c.parsed()?, c.parsed::<RunState>()? == RunState::Cancelling))
            })
            .collect()
    }

    /// Runs whose timer is due.
    pub async fn due(&mut self, now: Timestamp, limit: u32) -> Result<Vec<RunId>, StoreError> {
        self.write_all().await?;
        let rows = query(
            "SELECT id FROM runs WHERE wake_at IS NOT NULL AND wake_at <= $1 \
             ORDER BY wake_at LIMIT $2",
        )
        .bind(now.as_micros())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for due runs"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// The run that waits longest behind the active one of a conversation.
    pub async fn behind(
        &mut self,
        conversation: ConversationId,
    ) -> Result<Option<RunId>, StoreError> {
        self.write_all().await?;
        let row = query(
            "SELECT id FROM runs WHERE conversation_id = $1 AND state = 'queued' AND ready = 0 \
             ORDER BY id LIMIT 1",
        )
        .bind(conversation.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for the next run"))?;
        row.map(|row| Cols::new(&row).parsed()).transpose()
    }

    async fn ids(&mut self, sql: &'static str, limit: i64) -> Result<Vec<RunId>, StoreError> {
        self.write_all().await?;
        let rows = query(sql)
            .bind(limit)
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("look for runs"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }
}

/// Jumps from one principal to the next in the index of runs that wait.
pub(super) const CLAIMANTS: &str = "WITH RECURSIVE waiting(principal) AS (\
    SELECT MIN(principal) FROM runs WHERE state = 'queued' AND ready = 1 AND principal > $1 \
    UNION ALL SELECT (SELECT MIN(principal) FROM runs \
        WHERE state = 'queued' AND ready = 1 AND principal > waiting.principal) \
    FROM waiting WHERE waiting.principal IS NOT NULL) \
    SELECT principal FROM waiting WHERE principal IS NOT NULL LIMIT $2";
/// Walks the same index within one of them.
pub(super) const CLAIMABLE: &str = "SELECT id FROM runs WHERE state = 'queued' AND ready = 1 \
    AND principal = $1 ORDER BY id LIMIT $2";

/// How many runs wait, and of whom: counted once, when a store with one writer is opened.
pub(super) async fn queued(conn: &mut Conn) -> Result<(i64, Waiting), StoreError> {
    let queued = query("SELECT value FROM counters WHERE name = 'queued'")
        .one_number(conn)
        .await
        .map_err(StoreError::unavailable("read the length of the queue"))?;
    let rows =
        query("SELECT principal, COUNT(*) FROM runs WHERE state = 'queued' GROUP BY principal")
            .fetch_all(conn)
            .await
            .map_err(StoreError::unavailable("count who waits"))?;
    let counts = rows.iter().map(|row| {
        let mut c = Cols::new(row);
        Ok((c.parsed()?, c.number()?))
    });
    Ok((queued, Waiting::of(counts.collect::<Result<Vec<_>, StoreError>>()?)))
}

const fn interrupt_name(mode: InterruptMode) -> &'static str {
    match mode {
        InterruptMode::Graceful => "graceful",
        InterruptMode::Hard => "hard",
    }
}

fn core(c: &mut Cols<'_>) -> Result<RunCore, StoreError> {
    Ok(RunCore {
        id: c.parsed()?,
        conversation_id: c.parsed()?,
        agent: c.text()?,
        agent_version: c.text()?,
        principal: c.parsed()?,
        surface: surface(&c.text()?)?,
        state: c.parsed()?,
        wait_reason: c.parsed_opt()?,
        epoch: c.number()?,
        owner: c.raw::<Option<i64>>()?.and_then(|n| u64::try_from(n).ok()),
        seq: c.number()?,
        step: c.number()?,
        ready: c.flag()?,
        recoveries: c.number()?,
        backoffs: c.number()?,
        interrupt: c.raw::<Option<String>>()?.map(|t| interrupt(&t)).transpose()?,
        steers_waiting: c.number()?,
        usage: Usage {
            input_tokens: c.number()?,
            output_tokens: c.number()?,
            cost_usd: Usd::from_nanos(c.raw()?),
            llm_calls: c.number()?,
            tool_calls: c.number()?,
        },
        held_tokens: c.number()?,
        held_cost: Usd::from_nanos(c.raw()?),
        limits: c.json()?,
        worked_ms: c.number()?,
        wake_at: c.time_opt()?,
        confinement: c.parsed_opt()?,
        tainted: c.flag()?,
        head_bundle_id: c.parsed_opt()?,
        created_at: c.time()?,
        started_at: c.time_opt()?,
        ended_at: c.time_opt()?,
        held_day: Day::from_number(c.number()?),
        ending: None,
    })
}

fn whole(row: &Row) -> Result<(RunCore, Run), StoreError> {
    let mut c = Cols::new(row);
    let core = core(&mut c)?;
    let input: UserInput = c.json()?;
    let run = Run {
        id: core.id,
        conversation_id: core.conversation_id,
        agent: core.agent.clone(),
        state: core.state,
        wait_reason: core.wait_reason,
        input,
        output: c.raw()?,
        error: c.json_opt()?,
        seq: core.seq,
        epoch: core.epoch,
        usage: core.usage,
        confinement: core.confinement,
        tainted: core.tainted,
        metadata: c.json()?,
        parent_run_id: c.parsed_opt()?,
        retry_of: c.parsed_opt()?,
        base_bundle_id: c.parsed_opt()?,
        principal: core.principal,
        surface: core.surface,
        limits: core.limits,
        created_at: core.created_at,
        started_at: core.started_at,
        ended_at: core.ended_at,
    };
    Ok((core, run))
}

fn interrupt(text: &str) -> Result<InterruptMode, StoreError> {
    [InterruptMode::Graceful, InterruptMode::Hard]
        .into_iter()
        .find(|m| interrupt_name(*m) == text)
        .ok_or_else(|| StoreError::Corrupt { what: "an interrupt mode".to_owned() })
}

fn surface(text: &str) -> Result<Surface, StoreError> {
    Surface::ALL
        .into_iter()
        .find(|s| s.as_str() == text)
        .ok_or_else(|| StoreError::Corrupt { what: "a surface".to_owned() })
}
