//! 2, 4 and 8: histories, epochs, and that every run comes to rest.

use agent_runtime::domain::{EventBody, RunState, event::fold};

use super::{Truth, Violation, Witness};

impl Truth {
    /// 2: events are 1..n, the state is their fold, nothing follows the end.
    pub(super) fn broken_histories(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for run in &self.runs {
            let events = self.events_of(run.id);
            match fold(events) {
                Err(error) => wrong.push(Violation::of(2, format!("{}: {error}", run.id))),
                Ok(state) if state != run.state => {
                    let what = format!("{} is {}, its events say {state}", run.id, run.state);
                    wrong.push(Violation::of(2, what));
                }
                Ok(_) => {}
            }
            let last = events.last().map_or(0, |e| e.seq);
            if last != run.seq {
                let what = format!("{} counts {} events and has {last}", run.id, run.seq);
                wrong.push(Violation::of(2, what));
            }
        }
        wrong
    }

    /// 4: an epoch begins with a claim or a recovery, one after the other, and no event carries an
    /// older one.
    pub(super) fn wrong_epochs(&self, witness: &Witness) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for run in &self.runs {
            let (mut epoch, mut state) = (0, RunState::Queued);
            for event in self.events_of(run.id) {
                let rises = match &event.body {
                    EventBody::RunStarted {} => event.epoch == epoch + 1,
                    EventBody::RunRecovered { from_epoch, to_epoch, .. } => {
                        *from_epoch == epoch && *to_epoch == event.epoch && event.epoch <= epoch + 1
                    }
                    // The recovery of a run that was being cancelled ends it.
                    _ if state == RunState::Cancelling => {
                        event.epoch == epoch || event.epoch == epoch + 1
                    }
                    _ => event.epoch == epoch,
                };
                if !rises {
                    let kind = event.body.kind();
                    let what = format!(
                        "{}: event {} ({kind}) is of epoch {} behind {epoch}",
                        run.id, event.seq, event.epoch
                    );
                    wrong.push(Violation::of(4, what));
                }
                epoch = event.epoch;
                if let Some(next) = event.body.input(state).and_then(|i| state.after(i)) {
                    state = next;
                }
            }
            if run.epoch != epoch {
                let what = format!("{} is of epoch {}, its events of {epoch}", run.id, run.epoch);
                wrong.push(Violation::of(4, what));
            }
        }
        for line in witness.executed.iter().filter_map(|l| l.strip_prefix("overlap ")) {
            let what = format!("{line} ran while an older execution of its run went on");
            wrong.push(Violation::of(4, what));
        }
        wrong
    }

    /// 8: every run has ended, or waits with a named reason.
    pub(super) fn unsettled(&self) -> Vec<Violation> {
        let is_settled = |run: &&agent_runtime::domain::Run| {
            run.state.is_terminal()
                || run.state == RunState::AwaitingApproval
                || (run.state == RunState::Paused && run.wait_reason.is_some())
        };
        let open = self.runs.iter().filter(|run| !is_settled(run));
        open.map(|run| {
            let what = format!("{} is {} ({:?})", run.id, run.state, run.wait_reason);
            Violation::of(8, what)
        })
        .collect()
    }

    pub(super) fn events_of(
        &self,
        run: agent_runtime::domain::RunId,
    ) -> &[agent_runtime::domain::Event] {
        self.events.get(&run).map_or(&[], Vec::as_slice)
    }
}
