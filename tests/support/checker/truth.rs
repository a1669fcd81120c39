//! Everything that the store holds, read beside the daemon.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use agent_runtime::{
    domain::{
        Approval, BudgetScope, BudgetSubject, Day, Event, EventBody, Message, Run, RunId, ToolCall,
        ToolCallId,
        audit::{AuditRow, Checkpoint},
    },
    store::{
        AuditFilter, BudgetRow, BudgetUse, Bundle, Conversation, Database, Page, ReadOnlyStore,
        Reader, RunCore, RunFilter,
    },
};

/// Rows of one page.
const PAGE: u32 = 500;

/// What the store holds.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) runs: Vec<Run>,
    pub(crate) cores: HashMap<RunId, RunCore>,
    pub(crate) events: HashMap<RunId, Vec<Event>>,
    pub(crate) calls: HashMap<ToolCallId, ToolCall>,
    pub(crate) approvals: Vec<Approval>,
    pub(crate) threads: Vec<(Conversation, Vec<Message>)>,
    pub(crate) bundles: Vec<Bundle>,
    pub(crate) budgets: Vec<BudgetRow>,
    pub(crate) uses: BTreeMap<(BudgetSubject, Day), BudgetUse>,
    pub(crate) audit: Vec<AuditRow>,
    pub(crate) checkpoints: Vec<Checkpoint>,
}

/// Beside the data directory of a test's daemon whose database is a server's: its address.
pub(crate) const ADDRESS: &str = "database-url";

/// The database of the daemon with this data directory.
pub(crate) fn database_of(data_dir: &Path) -> Database {
    let beside = data_dir.parent().map(|dir| dir.join(ADDRESS));
    match beside.and_then(|file| std::fs::read_to_string(file).ok()) {
        Some(url) => Database::Postgres(url.parse().expect("an address")),
        None => Database::Sqlite,
    }
}

impl Truth {
    /// Reads the store of a data directory.
    pub(crate) async fn read(data_dir: &Path) -> Self {
        Self::read_from(data_dir, &database_of(data_dir)).await
    }

    /// Reads a store that may be elsewhere.
    pub(crate) async fn read_from(data_dir: &Path, database: &Database) -> Self {
        let store = ReadOnlyStore::open(data_dir, database).await;
        Self::of(&store.expect("the store opens")).await
    }

    /// Reads a store.
    pub(crate) async fn of(store: &ReadOnlyStore) -> Self {
        assert_eq!(store.damage().await.expect("a check"), None);
        let mut reader = store.read().await.expect("a reader");
        let mut truth = Self::default();
        truth.read_runs(&mut reader).await;
        truth.read_threads(&mut reader).await;
        truth.read_money(&mut reader).await;
        truth.read_trail(&mut reader).await;
        truth
    }

    async fn read_runs(&mut self, reader: &mut Reader) {
        let mut cursor = None;
        loop {
            let page = Page::new(Some(PAGE), cursor);
            let paged = reader.runs().list(&RunFilter::default(), &page).await.expect("runs");
            self.runs.extend(paged.items);
            cursor = paged.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        for run in &self.runs {
            let core = reader.runs().core(run.id).await.expect("a run").expect("it is there");
            self.cores.insert(run.id, core);
            let mut of_run: Vec<Event> = Vec::new();
            loop {
                let after = of_run.last().map_or(0, |e| e.seq);
                let page = reader.events().of_run(run.id, after, PAGE).await.expect("events");
                if page.is_empty() {
                    break;
                }
                of_run.extend(page);
            }
            for event in &of_run {
                if let EventBody::ToolRequested { call_id, .. } = event.body
                    && let Some(call) = reader.calls().get(call_id).await.expect("a call")
                {
                    self.calls.insert(call_id, call);
                }
            }
            self.events.insert(run.id, of_run);
            self.bundles.extend(reader.bundles().of_run(run.id).await.expect("bundles"));
            self.approvals.extend(reader.approvals().of_run(run.id).await.expect("approvals"));
        }
    }

    async fn read_threads(&mut self, reader: &mut Reader) {
        let ids: BTreeSet<_> = self.runs.iter().map(|r| r.conversation_id.to_string()).collect();
        for id in ids {
            let id = id.parse().expect("an id");
            let thread = reader.conversations().get(id).await.expect("a thread").expect("a row");
            let mut messages: Vec<Message> = Vec::new();
            loop {
                let after = messages.last().map_or(0, |m| m.seq);
                let page = reader.conversations().messages(id, after, PAGE).await;
                let page = page.expect("messages");
                if page.is_empty() {
                    break;
                }
                messages.extend(page);
            }
            self.threads.push((thread, messages));
        }
    }

    async fn read_money(&mut self, reader: &mut Reader) {
        self.budgets = reader.budgets().all().await.expect("budgets");
        let mut days: BTreeSet<Day> = self.cores.values().map(|c| c.held_day).collect();
        for event in self.events.values().flatten() {
            days.insert(Day::of(event.at));
        }
        for day in days {
            for scope in BudgetScope::ALL {
                // The org's subject is the empty text, which no cursor is before.
                if scope == BudgetScope::Org {
                    let found = reader.budget_uses().get(&BudgetSubject::ORG, day).await;
                    self.uses.insert((BudgetSubject::ORG, day), found.expect("the use"));
                    continue;
                }
                let mut after = String::new();
                loop {
                    let page = reader.budget_uses().of_day(day, scope, &after, PAGE).await;
                    let page = page.expect("uses");
                    let Some((last, _)) = page.last() else { break };
                    after.clone_from(&last.subject);
                    self.uses.extend(page.into_iter().map(|(s, u)| ((s, day), u)));
                }
            }
        }
    }

    async fn read_trail(&mut self, reader: &mut Reader) {
        loop {
            let after = self.audit.last().map_or(0, |row| row.n);
            let filter = AuditFilter { after, ..AuditFilter::default() };
            let page = reader.audit().query(&filter, PAGE).await.expect("audit");
            if page.is_empty() {
                break;
            }
            self.audit.extend(page);
        }
        loop {
            let after = self.checkpoints.last().map_or(0, |c| c.n);
            let page = reader.checkpoints().after(after, PAGE).await.expect("checkpoints");
            if page.is_empty() {
                break;
            }
            self.checkpoints.extend(page);
        }
    }
}
