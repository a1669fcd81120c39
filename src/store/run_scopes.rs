//! What narrows a run: the scopes and the roles of those whose words it has heard.

use std::collections::BTreeSet;

use super::{
    cols::{self, Cols},
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{Role, RunId, ToolName};

/// Access to what narrows runs.
#[derive(Debug)]
pub struct RunScopes<'c> {
    pub(super) conn: &'c mut Conn,
}

/// What is left to a run. By default nothing narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowed {
    /// The only tools that it may use.
    pub tools: Option<BTreeSet<ToolName>>,
    /// The highest role that it counts as.
    pub role: Option<Role>,
}

impl Narrowed {
    /// What both leave.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let tools = match (self.tools, &other.tools) {
            (Some(own), Some(others)) => Some(own.intersection(others).copied().collect()),
            (own, others) => own.or_else(|| others.clone()),
        };
        let role = self.role.into_iter().chain(other.role).min();
        Self { tools, role }
    }
}

impl RunScopes<'_> {
    /// What narrows a run.
    pub async fn of(&mut self, id: RunId) -> Result<Narrowed, StoreError> {
        let row = query("SELECT tools, role FROM run_scopes WHERE run_id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the scopes of a run"))?;
        let Some(row) = row else { return Ok(Narrowed::default()) };
        let mut c = Cols::new(&row);
        Ok(Narrowed { tools: c.json_opt()?, role: c.parsed_opt()? })
    }

    /// Leaves a run only what was left to it and `further` leaves too.
    pub async fn narrow(&mut self, id: RunId, further: &Narrowed) -> Result<(), StoreError> {
        let left = self.of(id).await?.and(further);
        query(
            "INSERT INTO run_scopes (run_id, tools, role) VALUES ($1, $2, $3) \
             ON CONFLICT (run_id) DO UPDATE SET tools = excluded.tools, role = excluded.role",
        )
        .bind(id.to_string())
        .bind(left.tools.as_ref().map(cols::json).transpose()?)
        .bind(left.role.map(Role::as_str))
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("narrow a run"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_leave_is_the_tools_of_both_and_the_lower_role() {
        let of = |tools: &[ToolName], role| Narrowed {
            tools: Some(tools.iter().copied().collect()),
            role,
        };
        let first = of(&[ToolName::Exec, ToolName::ReadFile], Some(Role::Admin));
        let both = first.clone().and(&of(&[ToolName::ReadFile], Some(Role::Member)));
        assert_eq!(both, of(&[ToolName::ReadFile], Some(Role::Member)));
        assert_eq!(first.clone().and(&Narrowed::default()), first);
        assert_eq!(Narrowed::default().and(&first), first);
    }
}
