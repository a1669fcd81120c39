//! The settings of rates, the gate and budgets.

use super::Reader;
use crate::{
    app::config::settings::Bounds,
    auth::{GateRules, authn::principal_id_of},
    domain::{BudgetLimit, Role, Usd},
    orchestrator::BudgetConfig,
};

impl Reader<'_> {
    pub(super) fn bounds(&mut self) -> Bounds {
        let queued_per_principal = match self.int("limits.queued_runs_per_principal") {
            0 => self.int("limits.queued_runs").div_ceil(2),
            set => set,
        };
        Bounds {
            queued_per_principal,
            requests_per_principal: self.int("limits.requests_per_minute_per_principal"),
            requests_per_address: self.int("limits.requests_per_minute_per_address"),
            connections: self.size("limits.connections"),
            connections_per_address: self.size("limits.connections_per_address"),
            websockets: self.size("limits.websockets"),
            websockets_per_principal: self.size("limits.websockets_per_principal"),
            streams_per_principal: self.size("limits.streams_per_principal"),
            model_requests_per_principal: self
                .int("limits.model_requests_per_minute_per_principal"),
            model_tokens_per_principal: self.int("limits.model_tokens_per_minute_per_principal"),
            gate: self.gate(),
            budgets: self.budgets(),
        }
    }

    fn gate(&mut self) -> GateRules {
        // What cannot be read is a problem already; until then the strictest holds.
        let min_role = self.parse_err("llm.gate.min_role").unwrap_or(Role::Overlord);
        let exempt_role = self.parse_err("llm.gate.exempt_role").unwrap_or(Role::Overlord);
        GateRules {
            min_role,
            exempt_role,
            chat_runs_per_minute: self.int("llm.gate.chat_runs_per_minute"),
            api_runs_per_minute: self.int("llm.gate.api_runs_per_minute"),
        }
    }

    fn budgets(&mut self) -> BudgetConfig {
        let mut out = BudgetConfig {
            org: self.budget("budget"),
            each_principal: self.budget("budget.principal"),
            each_conversation: self.budget("budget.conversation"),
            ..BudgetConfig::default()
        };
        for name in self.names("agents") {
            let limit = self.budget(&format!("agents.{name}.budget"));
            out.agents.insert(name, limit);
        }
        let holders = self.names("auth.tokens");
        for name in self.names("budget.principals") {
            let key = format!("budget.principals.{name}");
            if !holders.contains(&name) && name != "configured" && name != "bootstrap" {
                self.bad(
                    &format!("{key}.usd_per_day"),
                    format!("names `{name}`, and no token has that name"),
                );
            }
            let limit = self.budget(&key);
            out.principals.insert(principal_id_of(&name), limit);
        }
        out
    }

    fn budget(&mut self, section: &str) -> BudgetLimit {
        let key = format!("{section}.usd_per_day");
        let usd_per_day = self.some(&key).and_then(|_| self.parse_err::<Usd>(&key));
        let tokens = self.int(&format!("{section}.tokens_per_day"));
        BudgetLimit { usd_per_day, tokens_per_day: Some(tokens).filter(|tokens| *tokens > 0) }
    }
}
