//! What another policy would have decided about the calls of the last days.
//!
//! Invariants: the engine is the one that decides live; what is recorded is never changed. A page
//! looks at a bounded number of decisions, in batches, off the async threads.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    super::{Inner, Orchestrator, error::CommandError},
    explain::read,
    force::version_of,
    record::BEFORE,
};
use crate::{
    auth::{
        ManagePolicy, Permit,
        policy::{self, Policy},
    },
    domain::{
        AgentName, CallFacts, PolicyDecision, PolicyVersion, RunId, Timestamp, ToolCallId,
        ToolName, limits, policy::Outcome,
    },
    runtime::Tasks,
    store::{DecisionKey, StoreError},
};

/// Decisions read and decided in one go.
const BATCH: u32 = 500;
/// Decisions that one page looks at: a second or two of work at most.
const LOOKED_AT_MAX: u64 = 5_000;
/// Decisions counted for the progress; what is more is not counted.
const COUNTED_MAX: u64 = 10_000_000;
/// Characters of a call that a difference shows.
const SHOWN_CHARS: usize = 200;

/// What to replay.
#[derive(Clone, Debug)]
pub struct ReplayAsked {
    /// The policy that decides instead.
    pub policy: Arc<Policy>,
    /// Calls of the last days; at most [`limits::DECISIONS_KEPT`] are kept.
    pub days: u32,
    /// Where to go on: the `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Differences on one page at most.
    pub limit: usize,
}

/// A part of a replay. Whoever wants all of it goes on until there is no `next_cursor`, and adds up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplayPage {
    /// The policy that decided instead.
    pub policy_version: PolicyVersion,
    /// What this page looked at.
    pub counts: ReplayCounts,
    /// The decisions that would differ, in the order of their calls.
    pub items: Vec<Difference>,
    /// Where the next page begins; none at the end.
    pub next_cursor: Option<String>,
    /// Decisions of the whole replay, on its first page.
    pub total: Option<u64>,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayCounts {
    /// Decisions that were decided again.
    pub examined: u64,
    /// Verdict and rule are the same.
    pub same: u64,
    /// The verdict is the same, by another rule.
    pub other_rule: u64,
    /// It would be stricter: denied or asked instead of let through, denied instead of asked.
    pub stricter: u64,
    /// It would be looser.
    pub looser: u64,
    /// Its record cannot be read by this program.
    pub unreadable: u64,
}

/// A decision that would differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The call.
    pub call_id: ToolCallId,
    /// Its run.
    pub run_id: RunId,
    /// When it was decided.
    pub at: Timestamp,
    /// Whose.
    pub agent: AgentName,
    /// The tool.
    pub tool: ToolName,
    /// What would be done, shortened.
    pub call: String,
    /// As it was decided.
    pub before: Judged,
    /// As it would be.
    pub after: Judged,
}

/// A verdict with what made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// In one word.
    pub verdict: Outcome,
    /// The rule that decided.
    pub rule: String,
    /// Where it stands.
    pub layer: String,
    /// Under which version.
    pub policy_version: PolicyVersion,
}

impl Orchestrator {
    /// Decides recorded calls again under another policy. Changes nothing.
    ///
    /// # Errors
    /// When the cursor is none, or the store cannot be read.
    pub async fn replay_policy(
        &self,
        _permit: &Permit<ManagePolicy>,
        asked: ReplayAsked,
    ) -> Result<ReplayPage, CommandError> {
        let policy_version = version_of(&asked.policy)?;
        let (mut key, is_first) = match asked.cursor.as_deref() {
            Some(cursor) => (parse_cursor(cursor)?, false),
            None => (self.inner.beginning(asked.days), true),
        };
        let total = if is_first { Some(self.inner.count_from(key).await?) } else { None };
        let mut page = ReplayPage {
            policy_version,
            counts: ReplayCounts::default(),
            items: Vec::new(),
            next_cursor: None,
            total,
        };
        loop {
            let batch = self.inner.store.read().await?.decisions().after(key, BATCH).await?;
            let is_last = batch.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
            let (policy, room) = (Arc::clone(&asked.policy), asked.limit - page.items.len());
            let version = page.policy_version.clone();
            let work = move || decide_again(&policy, &version, batch, room);
            let done = Tasks::spawn_blocking(work).await.map_err(|error| {
                let what = format!("a replay: {error}");
                CommandError::Internal { source: StoreError::Corrupt { what } }
            })?;
            key = done.last.unwrap_or(key);
            page.counts.add(done.counts);
            page.items.extend(done.items);
            let is_full = page.items.len() >= asked.limit || page.counts.examined >= LOOKED_AT_MAX;
            if is_last && !done.is_cut {
                return Ok(page);
            }
            if is_full || done.is_cut {
                page.next_cursor = Some(format!("{}.{}", key.call_id, key.n));
                return Ok(page);
            }
        }
    }
}

impl Inner {
    /// Before the first call of the last days.
    fn beginning(&self, days: u32) -> DecisionKey {
        let span = Duration::from_secs(u64::from(days) * 86_400).min(limits::DECISIONS_KEPT);
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let from = self.clock.now().as_micros().saturating_sub(micros);
        DecisionKey { call_id: ToolCallId::first_at(Timestamp::from_micros(from)), n: 0 }
    }

    async fn count_from(&self, key: DecisionKey) -> Result<u64, StoreError> {
        self.store.read().await?.decisions().count_after(key, COUNTED_MAX).await
    }
}

fn parse_cursor(text: &str) -> Result<DecisionKey, CommandError> {
    let key = text.split_once('.').and_then(|(call, n)| {
        Some(DecisionKey { call_id: call.parse().ok()?, n: n.parse().ok()? })
    });
    key.ok_or_else(|| CommandError::Invalid {
        code: "policy.cursor",
        pointer: Some("/cursor"),
        detail: "a cursor is the `next_cursor` of the page before".to_owned(),
    })
}

/// What one batch came to.
struct Done {
    counts: ReplayCounts,
    items: Vec<Difference>,
    /// The last decision that was looked at.
    last: Option<DecisionKey>,
    /// Whether there was no room for the next difference.
    is_cut: bool,
}

fn decide_again(
    policy: &Policy,
    version: &PolicyVersion,
    batch: Vec<PolicyDecision>,
    room: usize,
) -> Done {
    let mut done =
        Done { counts: ReplayCounts::default(), items: Vec::new(), last: None, is_cut: false };
    for kept in batch {
        if done.items.len() >= room {
            done.is_cut = true;
            return done;
        }
        done.last = Some(DecisionKey { call_id: kept.call_id, n: kept.n });
        // Another policy would not have been asked either.
        if kept.layer == BEFORE {
            continue;
        }
        done.counts.examined += 1;
        let Ok(question) = read(&kept) else {
            done.counts.unreadable += 1;
            continue;
        };
        let verdict = question.replay(|question| policy::decide(policy, question));
        let after = Judged {
            verdict: verdict.outcome(),
            rule: verdict.rule().to_string(),
            layer: verdict.layer().to_string(),
            policy_version: version.clone(),
        };
        let is_same = after.rule == kept.rule && after.layer == kept.layer;
        match after.verdict.cmp(&kept.verdict) {
            std::cmp::Ordering::Equal if is_same => {
                done.counts.same += 1;
                continue;
            }
            std::cmp::Ordering::Equal => done.counts.other_rule += 1,
            std::cmp::Ordering::Greater => done.counts.stricter += 1,
            std::cmp::Ordering::Less => done.counts.looser += 1,
        }
        done.items.push(Difference {
            call_id: kept.call_id,
            run_id: kept.run_id,
            at: kept.at,
            agent: kept.agent,
            tool: question.facts().tool,
            call: words(question.facts()),
            before: Judged {
                verdict: kept.verdict,
                rule: kept.rule,
                layer: kept.layer,
                policy_version: kept.policy_version,
            },
            after,
        });
    }
    done
}

impl ReplayCounts {
    pub(super) fn add(&mut self, other: Self) {
        self.examined += other.examined;
        self.same += other.same;
        self.other_rule += other.other_rule;
        self.stricter += other.stricter;
        self.looser += other.looser;
        self.unreadable += other.unreadable;
    }
}

/// What a call would do, in a line that people recognise it by.
fn words(facts: &CallFacts) -> String {
    let request = facts.request.as_ref();
    let line = if !facts.argv.is_empty() {
        facts.argv.join(" ")
    } else if let Some(script) = &facts.script {
        script.clone()
    } else if let Some(r) = request {
        format!("{} {}:{}{}", r.method, r.host, r.port, r.path)
    } else {
        facts.paths.iter().map(|used| used.path.as_str()).collect::<Vec<_>>().join(" ")
    };
    let printable = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(SHOWN_CHARS).collect()
}
