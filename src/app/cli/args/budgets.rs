//! `budget …` and `usage`.

use clap::{Args, Subcommand};

use super::{Client, Output};
use crate::{
    auth::authn::principal_id_of,
    domain::{BudgetScope, BudgetSubject, Day, PrincipalId, Usd},
};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Before every model call its upper bound is reserved on every level: everybody (org), the agent, the
principal, the conversation, and the run. What does not fit is refused: the run waits until the day
ends (00:00 UTC) or a budget is raised, and then goes on by itself. Budgets that are set here stand
before those of the configuration and are kept; every change is in the audit trail.

Examples:
  agent-runtime budget show
  agent-runtime budget show --scope principal
  agent-runtime budget set org --usd-per-day 20
  agent-runtime budget set agent default --tokens-per-day 2000000
  agent-runtime budget set principal ci --usd-per-day 2.50 --tokens-per-day none
  agent-runtime budget set conversation conv_01… --tokens-per-day 50000
  agent-runtime budget clear org

It speaks to the daemon over <data_dir>/admin.sock: run it as the daemon's user or as root.")]
pub(crate) enum Budget {
    /// Show budgets and what was used of them today
    Show(BudgetShow),
    /// Set a budget; in force at once, and runs that waited for it go on
    Set(BudgetSet),
    /// Clear a budget that was set: the configuration's is in force again
    Clear(BudgetClear),
}

#[derive(Debug, Args)]
pub(crate) struct BudgetShow {
    /// Only those of this scope: org, agent, principal or conversation
    #[arg(long)]
    pub(crate) scope: Option<BudgetScope>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Whose budget.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// org, agent, principal or conversation
    pub(crate) scope: BudgetScope,
    /// The agent's name, the principal's id or the name of its token, the conversation's id
    pub(crate) subject: Option<String>,
}

impl Whose {
    /// The subject as the daemon knows it.
    pub(crate) fn subject(&self) -> BudgetSubject {
        let named = self.subject.clone().unwrap_or_default();
        let is_token_name = self.scope == BudgetScope::Principal
            && !named.is_empty()
            && named.parse::<PrincipalId>().is_err();
        let subject = if is_token_name { principal_id_of(&named).to_string() } else { named };
        BudgetSubject { scope: self.scope, subject }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BudgetSet {
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Money in a day, such as 2.50; `none` for no bound [default: as it is]
    #[arg(long, value_name = "USD")]
    pub(crate) usd_per_day: Option<Bound<Usd>>,
    /// Tokens in a day; `none` for no bound [default: as it is]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) tokens_per_day: Option<Bound<u64>>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct BudgetClear {
    #[command(flatten)]
    pub(crate) whose: Whose,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A bound, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound<T>(pub(crate) Option<T>);

impl<T: std::str::FromStr<Err: std::fmt::Display>> std::str::FromStr for Bound<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|bound| Self(Some(bound))).map_err(|e: T::Err| e.to_string())
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Members see what they used themselves; operators and above see everybody's. Days are UTC days.

Examples:
  agent-runtime usage
  agent-runtime usage --by principal --from 2026-01-01 --to 2026-01-31
  agent-runtime usage --by model --json")]
pub(crate) struct Usage {
    /// The first day, such as 2026-01-02 [default: thirty days before the last]
    #[arg(long, value_name = "DAY")]
    pub(crate) from: Option<Day>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY")]
    pub(crate) to: Option<Day>,
    /// agent, principal or model
    #[arg(long, default_value = "agent", value_parser = ["agent", "principal", "model"])]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) client: Client,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_named_by_its_id_or_by_its_token() {
        let id = principal_id_of("ci").to_string();
        let whose =
            |named: &str| Whose { scope: BudgetScope::Principal, subject: Some(named.to_owned()) };
        assert_eq!(whose("ci").subject().subject, id);
        assert_eq!(whose(&id).subject().subject, id);
        let agent = Whose { scope: BudgetScope::Agent, subject: Some("ci".to_owned()) };
        assert_eq!(agent.subject().subject, "ci");
    }

    #[test]
    fn a_bound_is_a_number_or_none() {
        assert_eq!("none".parse(), Ok(Bound::<u64>(None)));
        assert_eq!("7".parse(), Ok(Bound(Some(7_u64))));
        assert!("-7".parse::<Bound<u64>>().is_err() && "x".parse::<Bound<Usd>>().is_err());
    }
}
