//! 6: nobody used more than they may, and nothing is held for nobody.

use std::collections::BTreeMap;

use agent_runtime::domain::{BudgetLimit, BudgetSubject, Day, RunState, Usd};

use super::{Truth, Violation, Witness};

impl Truth {
    /// 6: `used + held <= limit` for every budget, and every hold belongs to a call under way.
    pub(super) fn overspending(&self, witness: &Witness) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let mut limits: BTreeMap<BudgetSubject, BudgetLimit> = BTreeMap::new();
        for (scope, subject, nanos, tokens) in &witness.limits {
            let scope = scope.parse().expect("a scope");
            let limit =
                BudgetLimit { usd_per_day: nanos.map(Usd::from_nanos), tokens_per_day: *tokens };
            limits.insert(BudgetSubject { scope, subject: subject.clone() }, limit);
        }
        // What administrators set stands before the configuration.
        limits.extend(self.budgets.iter().map(|b| (b.subject.clone(), b.limit)));
        for ((subject, day), found) in &self.uses {
            let Some(limit) = limits.get(subject) else { continue };
            let nanos = found.used.as_nanos().saturating_add(found.held.as_nanos());
            if limit.usd_per_day.is_some_and(|most| nanos > most.as_nanos()) {
                let what = format!("{subject} used and holds {nanos} nano-dollars on {day:?}");
                wrong.push(Violation::of(6, what));
            }
            let tokens = found.used_tokens.saturating_add(found.held_tokens);
            if limit.tokens_per_day.is_some_and(|most| tokens > most) {
                let what = format!("{subject} used and holds {tokens} tokens on {day:?}");
                wrong.push(Violation::of(6, what));
            }
        }
        let mut held: BTreeMap<Day, u64> = BTreeMap::new();
        for core in self.cores.values() {
            *held.entry(core.held_day).or_default() += core.held_tokens;
            let is_at_work = matches!(core.state, RunState::Running | RunState::Cancelling);
            if !is_at_work && core.held_tokens > 0 {
                let what = format!("{} is {} and holds {}", core.id, core.state, core.held_tokens);
                wrong.push(Violation::of(6, what));
            }
        }
        for (day, tokens) in held {
            let org = self.uses.get(&(BudgetSubject::ORG, day)).map_or(0, |u| u.held_tokens);
            // Where no budget counts, nothing is held beyond the runs' own.
            if org != tokens && org > 0 {
                let what = format!("runs hold {tokens} tokens on {day:?}, the org {org}");
                wrong.push(Violation::of(6, what));
            }
        }
        wrong
    }
}
