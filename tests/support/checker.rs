//! The invariants of a run's life, judged from the stored truth and from a witness that the
//! daemon never writes (RUNS.md, "Invariants").

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use agent_runtime::{
    domain::{
        ApprovalKind, ApprovalState, Effect, Event, EventBody, Run, RunId, RunState, ToolCallId,
        UnknownOutcome, audit::AuditRow, event::fold,
    },
    store::{AuditFilter, Page, ReadOnlyStore, RunFilter, audit::Verifier},
};

/// Everything that the store holds, read beside the daemon.
pub(crate) struct Truth {
    pub(crate) runs: Vec<Run>,
    pub(crate) events: HashMap<RunId, Vec<Event>>,
    pub(crate) audit: Vec<AuditRow>,
}

impl Truth {
    pub(crate) async fn read(data_dir: &Path) -> Self {
        let store = ReadOnlyStore::open(data_dir, &agent_runtime::store::Database::Sqlite)
            .await
            .expect("the store opens");
        assert_eq!(store.damage().await.expect("a check"), None);
        let mut reader = store.read().await.expect("a reader");
        let mut runs = Vec::new();
        let mut cursor = None;
        loop {
            let page = Page::new(Some(500), cursor);
            let paged = reader.runs().list(&RunFilter::default(), &page).await.expect("runs");
            runs.extend(paged.items);
            cursor = paged.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let mut events = HashMap::new();
        for run in &runs {
            let mut of_run: Vec<Event> = Vec::new();
            loop {
                let after = of_run.last().map_or(0, |e| e.seq);
                let page = reader.events().of_run(run.id, after, 500).await.expect("events");
                if page.is_empty() {
                    break;
                }
                of_run.extend(page);
            }
            events.insert(run.id, of_run);
        }
        let mut audit: Vec<AuditRow> = Vec::new();
        loop {
            let after = audit.last().map_or(0, |row| row.n);
            let filter = AuditFilter { after, ..AuditFilter::default() };
            let page = reader.audit().query(&filter, 500).await.expect("audit");
            if page.is_empty() {
                break;
            }
            audit.extend(page);
        }
        Self { runs, events, audit }
    }

    /// 2 and 4: events are 1..n, the state is their fold, epochs never go back.
    pub(crate) fn check_events(&self) {
        for run in &self.runs {
            let events = &self.events[&run.id];
            let folded = fold(events).unwrap_or_else(|e| panic!("{}: {e}", run.id));
            assert_eq!(folded, run.state, "{}", run.id);
            assert_eq!(events.last().map(|e| e.seq), Some(run.seq), "{}", run.id);
            assert_eq!(events.last().map(|e| e.epoch), Some(run.epoch), "{}", run.id);
        }
    }

    /// 9: every state change has its audit row, in order; the chain verifies.
    pub(crate) fn check_audit(&self) {
        let mut verifier = Verifier::default();
        let mut rows: HashMap<RunId, Vec<String>> = HashMap::new();
        for row in &self.audit {
            verifier.check(row).unwrap_or_else(|e| panic!("audit: {e}"));
            if let (Some(run), "run_state") = (row.run_id, row.kind.as_str()) {
                let event = row.data["event"].as_str().unwrap_or("run.created").to_owned();
                rows.entry(run).or_default().push(event);
            }
        }
        for run in &self.runs {
            let mut state = RunState::Queued;
            let mut changes = vec!["run.created".to_owned()];
            for event in &self.events[&run.id] {
                if let Some(next) = event.body.input(state).and_then(|i| state.after(i)) {
                    state = next;
                    changes.push(event.body.kind().to_owned());
                }
            }
            assert_eq!(rows.get(&run.id), Some(&changes), "{}", run.id);
        }
    }

    /// 3: an unsafe call ran at most once, and once more for each recorded "run it"; nothing ran
    /// whose intent was not stored. `witness` holds the ids of calls that really ran.
    pub(crate) fn check_witness(&self, witness: &[String]) {
        let mut started: BTreeMap<ToolCallId, u32> = BTreeMap::new();
        let mut releases: BTreeMap<ToolCallId, u32> = BTreeMap::new();
        let mut effects: BTreeMap<ToolCallId, Effect> = BTreeMap::new();
        for event in self.events.values().flatten() {
            match &event.body {
                EventBody::ToolRequested { call_id, effect, .. } => {
                    effects.insert(*call_id, *effect);
                }
                EventBody::ToolStarted { call_id, .. } => {
                    *started.entry(*call_id).or_default() += 1;
                }
                EventBody::ApprovalDecided { call_id: Some(call_id), decision, .. }
                    if decision.outcome == Some(UnknownOutcome::Run) =>
                {
                    *releases.entry(*call_id).or_default() += 1;
                }
                _ => {}
            }
        }
        let mut ran: BTreeMap<ToolCallId, u32> = BTreeMap::new();
        for line in witness {
            let id: ToolCallId = line.parse().unwrap_or_else(|e| panic!("witness {line:?}: {e}"));
            *ran.entry(id).or_default() += 1;
        }
        for (call, times) in ran {
            let intents = started.get(&call).copied().unwrap_or(0);
            assert!(times <= intents, "{call} ran {times} times with {intents} stored intents");
            if effects.get(&call) == Some(&Effect::Unsafe) {
                let allowed = 1 + releases.get(&call).copied().unwrap_or(0);
                assert!(times <= allowed, "unsafe {call} ran {times} times, {allowed} allowed");
            }
        }
    }

    /// 5: no gated call ran without a valid, unexpired decision over the same arguments.
    pub(crate) fn check_approvals(&self) {
        for events in self.events.values() {
            let mut gates: HashMap<ToolCallId, (ApprovalState, String)> = HashMap::new();
            let mut expiry = HashMap::new();
            for event in events {
                match &event.body {
                    EventBody::ApprovalRequested { approval } => {
                        expiry.insert(approval.id, approval.expires_at);
                        if let (ApprovalKind::Tool, Some(call)) = (approval.kind, approval.call_id)
                        {
                            let gate = (ApprovalState::Pending, approval.args_hash.clone());
                            gates.insert(call, gate);
                        }
                    }
                    EventBody::ApprovalDecided {
                        approval_id,
                        call_id: Some(call),
                        state,
                        decision,
                    } => {
                        assert!(
                            decision.at <= expiry[approval_id],
                            "{approval_id} decided too late"
                        );
                        if let Some(gate) = gates.get_mut(call) {
                            gate.0 = *state;
                        }
                    }
                    EventBody::ToolStarted { call_id, .. } => {
                        if let Some((state, _)) = gates.get(call_id) {
                            assert_eq!(*state, ApprovalState::Approved, "{call_id} ran ungated");
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// 11: none of these secrets stands in an event or an audit row.
    pub(crate) fn check_secrets(&self, secrets: &[&str]) {
        let events = self.events.values().flatten().map(|e| serde_json::to_string(e).unwrap());
        let rows = self.audit.iter().map(|row| serde_json::to_string(row).unwrap());
        for text in events.chain(rows) {
            for secret in secrets {
                assert!(!text.contains(secret), "a secret is kept: {text}");
            }
        }
    }

    /// 8: every run has ended, or waits with a named reason.
    pub(crate) fn check_settled(&self) {
        for run in &self.runs {
            let is_settled = run.state.is_terminal()
                || run.state == RunState::AwaitingApproval
                || (run.state == RunState::Paused && run.wait_reason.is_some());
            assert!(is_settled, "{} is {} ({:?})", run.id, run.state, run.wait_reason);
        }
    }
}

/// 12: no process of the sandbox is alive: nobody holds the data directory's tool lock.
pub(crate) fn check_no_leftovers(data_dir: &Path) {
    let lock = std::fs::File::open(data_dir.join("tools.lock")).expect("the lock exists");
    // The kernel ends what belonged to the daemon one after another, which takes its moment on a
    // busy machine; a new daemon waits as long before it recovers anything.
    let is_free = (0..2_000).any(|_| {
        let is_free = lock.try_lock().is_ok();
        if !is_free {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        is_free
    });
    assert!(is_free, "a tool process of the dead daemon lives");
}
