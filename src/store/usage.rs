//! What was used on each day, by whom, with which agent and model: added up as it happens, so that
//! a question about a year reads days and not calls.

use std::collections::BTreeMap;

use super::{
    bulk::Bulk,
    cols::{self, Cols},
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::{Day, PrincipalId, Usd};

/// Whose use, and of what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageKey {
    /// The day.
    pub day: Day,
    /// Whose run.
    pub principal: PrincipalId,
    /// The agent.
    pub agent: String,
    /// The model that answered, or was asked when none did.
    pub model: String,
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageSum {
    /// Runs, each counted with its first call.
    pub runs: u64,
    /// Model calls.
    pub calls: u64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Money.
    pub cost: Usd,
}

impl UsageSum {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            runs: self.runs.saturating_add(other.runs),
            calls: self.calls.saturating_add(other.calls),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost: self.cost.plus(other.cost),
        }
    }
}

/// By what to add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    /// The agent.
    Agent,
    /// The principal.
    Principal,
    /// The model.
    Model,
}

/// Which use to add up.
#[derive(Clone, Debug)]
pub struct UsageFilter {
    /// The first day.
    pub from: Day,
    /// The last day.
    pub to: Day,
    /// Only the runs of one principal.
    pub principal: Option<PrincipalId>,
}

const ADD: Bulk = Bulk {
    before: "INSERT INTO usage (day, principal, agent, model, runs, calls, input_tokens, \
        output_tokens, cost_nanos) ",
    columns: 9,
    after: " ON CONFLICT (day, principal, agent, model) DO UPDATE SET \
        runs = usage.runs + excluded.runs, calls = usage.calls + excluded.calls, \
        input_tokens = usage.input_tokens + excluded.input_tokens, \
        output_tokens = usage.output_tokens + excluded.output_tokens, \
        cost_nanos = usage.cost_nanos + excluded.cost_nanos",
};

/// Adds to the rows, in the order of their keys: who adds at the same time does so in the same order.
pub(super) async fn write(
    conn: &mut Conn,
    rows: Vec<(UsageKey, UsageSum)>,
) -> Result<(), StoreError> {
    let mut sums: BTreeMap<UsageKey, UsageSum> = BTreeMap::new();
    for (key, sum) in rows {
        let all = sums.entry(key).or_default();
        *all = all.plus(sum);
    }
    let sums: Vec<(UsageKey, UsageSum)> = sums.into_iter().collect();
    ADD.run(conn, &sums, |query, (key, sum)| {
        Ok(query
            .bind(i64::from(key.day.number()))
            .bind(key.principal.to_string())
            .bind(key.agent.clone())
            .bind(key.model.clone())
            .bind(cols::int(sum.runs))
            .bind(cols::int(sum.calls))
            .bind(cols::int(sum.input_tokens))
            .bind(cols::int(sum.output_tokens))
            .bind(sum.cost.as_nanos()))
    })
    .await
}

/// Reads them.
#[derive(Debug)]
pub struct UsageRows<'c> {
    pub(super) conn: &'c mut Conn,
}

macro_rules! sums {
    ($key:literal) => {
        concat!(
            "SELECT CAST(SUM(runs) AS BIGINT), CAST(SUM(calls) AS BIGINT), CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT), \
             CAST(SUM(cost_nanos) AS BIGINT), ",
            $key,
            " FROM usage WHERE day >= $1 AND day <= $2 AND ($3 IS NULL OR principal = $3) AND ",
            $key,
            " > $4 GROUP BY ",
            $key,
            " ORDER BY ",
            $key,
            " LIMIT $5"
        )
    };
}

impl UsageRows<'_> {
    /// Sums by one key, in the order of its text, behind `after`.
    pub async fn sums(
        &mut self,
        filter: &UsageFilter,
        by: UsageBy,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(String, UsageSum)>, StoreError> {
        let sql = match by {
            UsageBy::Agent => sums!("agent"),
            UsageBy::Principal => sums!("principal"),
            UsageBy::Model => sums!("model"),
        };
        let rows = query(sql)
            .bind(i64::from(filter.from.number()))
            .bind(i64::from(filter.to.number()))
            .bind(filter.principal.map(|p| p.to_string()))
            .bind(after.to_owned())
            .bind(i64::from(limit))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("add up what was used"))?;
        rows.iter()
            .map(|row| {
                let mut c = Cols::new(row);
                let sum = sum(&mut c)?;
                Ok((c.text()?, sum))
            })
            .collect()
    }

    /// The sum of everything.
    pub async fn total(&mut self, filter: &UsageFilter) -> Result<UsageSum, StoreError> {
        let row = query(
            "SELECT CAST(COALESCE(SUM(runs), 0) AS BIGINT), CAST(COALESCE(SUM(calls), 0) AS BIGINT), \
             CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT), CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT), \
             CAST(COALESCE(SUM(cost_nanos), 0) AS BIGINT) \
             FROM usage WHERE day >= $1 AND day <= $2 AND ($3 IS NULL OR principal = $3)",
        )
        .bind(i64::from(filter.from.number()))
        .bind(i64::from(filter.to.number()))
        .bind(filter.principal.map(|p| p.to_string()))
        .fetch_one(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("add up what was used"))?;
        sum(&mut Cols::new(&row))
    }
}

fn sum(c: &mut Cols<'_>) -> Result<UsageSum, StoreError> {
    Ok(UsageSum {
        runs: c.number()?,
        calls: c.number()?,
        input_tokens: c.number()?,
        output_tokens: c.number()?,
        cost: Usd::from_nanos(c.raw()?),
    })
}
