//! 9: the trail is whole and says every change of state.

use std::collections::HashMap;

use agent_runtime::{
    domain::{RunId, RunState},
    store::audit::Verifier,
};

use super::{Truth, Violation};

impl Truth {
    /// 9: every state change has its audit row, in order; the chain verifies; each signed end is
    /// the hash of its row.
    pub(super) fn audit_gaps(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let mut verifier = Verifier::default();
        let mut rows: HashMap<RunId, Vec<String>> = HashMap::new();
        for row in &self.audit {
            if let Err(error) = verifier.check(row) {
                wrong.push(Violation::of(9, format!("audit: {error}")));
                break;
            }
            if let (Some(run), "run_state") = (row.run_id, row.kind.as_str()) {
                let event = row.data["event"].as_str().unwrap_or("run.created").to_owned();
                rows.entry(run).or_default().push(event);
            }
        }
        for run in &self.runs {
            let mut state = RunState::Queued;
            let mut changes = vec!["run.created".to_owned()];
            for event in self.events_of(run.id) {
                if let Some(next) = event.body.input(state).and_then(|i| state.after(i)) {
                    state = next;
                    changes.push(event.body.kind().to_owned());
                }
            }
            let recorded = rows.get(&run.id);
            if recorded != Some(&changes) {
                let what = format!("{} changed as {changes:?}, audited {recorded:?}", run.id);
                wrong.push(Violation::of(9, what));
            }
        }
        for checkpoint in &self.checkpoints {
            let row = self.audit.iter().find(|row| row.n == checkpoint.n);
            if row.is_none_or(|row| row.hash != checkpoint.hash) {
                let what = format!("the signed end {} is not in the trail", checkpoint.n);
                wrong.push(Violation::of(9, what));
            }
        }
        wrong
    }
}
