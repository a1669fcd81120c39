//! A call's use of the network: when it begins and ends, what it is told of refusals, whether there
//! is any at all.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio_util::sync::CancellationToken;

use super::sessions;
use crate::{
    domain::{
        AgentName, CommandRule, EgressRecord, EgressVia, Grant, HostPolicy, HostRule, ToolCallId,
        ToolOutcome, ToolStatus, agent::AgentNameError, host::RuleError,
    },
    egress::{Channel, Egress, Reason, Traffic},
    sandbox::Sandbox,
};

/// The one name that the check's policy allows.
const LISTED: &str = "listed.invalid";
/// Whom the records of the check name as agent and run.
const CHECKER: &str = "self-check";
/// Refusals that a model is told of.
const TOLD_MAX: usize = 5;

/// What the check at start found out about the network of process tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkStatus {
    /// There is none: process tools reach no machine here, or none runs.
    Absent,
    /// Every way out leads to the doors, and they refuse what no rule allows.
    Held,
    /// A way out was found, or the check could not be made. `is_enforced`: process tools get no
    /// network.
    Failed {
        /// What was found.
        reason: String,
        /// Whether calls are refused for it.
        is_enforced: bool,
    },
}

/// The status, set once at start.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    status: Arc<OnceLock<NetworkStatus>>,
}

impl Network {
    pub(super) fn status(&self) -> NetworkStatus {
        self.status.get().cloned().unwrap_or(NetworkStatus::Absent)
    }

    pub(super) fn set(&self, status: NetworkStatus) {
        // The first finding stands.
        self.status.set(status).ok();
    }

    /// Why process tools get no network, if they get none.
    pub(super) fn refusal(&self) -> Option<String> {
        match self.status() {
            NetworkStatus::Failed { reason, is_enforced: true } => Some(format!(
                "not executed: the network of tools is refused, since the check at start failed \
                 ({reason}); call again with `network`: false, or ask the operator"
            )),
            NetworkStatus::Absent | NetworkStatus::Held | NetworkStatus::Failed { .. } => None,
        }
    }
}

/// Proves that process tools have no way out but the doors, and that the doors refuse what no rule
/// allows. False: there are no doors, and no network either. Its attempts are on record like any
/// other.
///
/// # Errors
/// What was found, or why nobody knows.
pub(super) async fn check(
    sandbox: &Sandbox,
    egress: &Egress,
    workspace: PathBuf,
    call_id: ToolCallId,
) -> Result<bool, String> {
    // A rule makes the doors; nothing asks for what it names.
    let rule: HostRule = LISTED.parse().map_err(|e: RuleError| e.to_string())?;
    let hosts = Arc::new(HostPolicy { allow: vec![rule], deny: Vec::new() });
    let grant = Grant { hosts, ..Grant::new(workspace, CommandRule::Any) };
    let agent: AgentName = CHECKER.parse().map_err(|e: AgentNameError| e.to_string())?;
    let stop = CancellationToken::new();
    let mut session = sandbox.open(&grant, &stop).await.map_err(|e| e.to_string())?;
    let Some(listeners) = session.take_listeners() else { return Ok(false) };
    let channel = egress.open(agent, CHECKER.to_owned(), grant.egress);
    let serving = channel.listen(sessions::doors(listeners)).map_err(|e| e.to_string())?;
    let under_way = UnderWay::begin(&channel, call_id, Arc::clone(&grant.hosts));
    let checked = session.check_network(&grant).await;
    under_way.end();
    drop(serving);
    channel.close();
    session.close().await;
    checked.map(|()| true)
}

/// A call under way on a channel. Ends with it, also when the call is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'c> {
    channel: Option<&'c Channel>,
}

impl<'c> UnderWay<'c> {
    pub(super) fn begin(
        channel: &'c Channel,
        call_id: ToolCallId,
        policy: Arc<HostPolicy>,
    ) -> Self {
        channel.begin(call_id, policy);
        Self { channel: Some(channel) }
    }

    /// Cuts what it has open; what it did.
    pub(super) fn end(mut self) -> Traffic {
        self.channel.take().map(Channel::end).unwrap_or_default()
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(channel) = self.channel {
            channel.end();
        }
    }
}

/// Whether something came in that others have written, also where the connection was cut after it:
/// what is refused at once brings no byte. Answers to name lookups are ours.
pub(super) fn brought_in(record: &EgressRecord) -> bool {
    record.bytes_down > 0 && record.via != EgressVia::Dns
}

/// Whether policy refused it; what could not be reached is no refusal.
pub(super) fn is_refusal(record: &EgressRecord) -> bool {
    let unreached = [Reason::NoAddress, Reason::ResolveFailed, Reason::ConnectFailed];
    !record.allowed && !unreached.iter().any(|reason| record.reason == reason.as_str())
}

/// Tells the model why a program that was allowed hosts may have failed where there is no network.
pub(super) fn note_absence(outcome: &mut ToolOutcome) {
    if outcome.status != ToolStatus::Ok {
        add(outcome, "[programs have no network on this machine; `http_request` has]");
    }
}

fn add(outcome: &mut ToolOutcome, line: &str) {
    let out = &mut outcome.output;
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out.push_str(line);
}

/// Tells the model what was refused: a program may only have said that a connection broke.
pub(super) fn note(outcome: &mut ToolOutcome, traffic: &Traffic) {
    let mut told: Vec<String> = Vec::new();
    for record in traffic.records.iter().filter(|r| is_refusal(r)) {
        let line = match record.via {
            EgressVia::Dns => format!("the name {} ({})", record.host, record.reason),
            EgressVia::Connect | EgressVia::Http | EgressVia::Tls | EgressVia::Fetch => {
                format!("{}:{} ({})", record.host, record.port, record.reason)
            }
        };
        if !told.contains(&line) {
            told.push(line);
        }
    }
    if told.is_empty() {
        return;
    }
    let more = told.len().saturating_sub(TOLD_MAX);
    told.truncate(TOLD_MAX);
    let mut line = format!("[refused on the network: {}", told.join(", "));
    if more > 0 {
        // Writing to a string cannot fail.
        write!(line, " and {more} more").ok();
    }
    line.push_str("; only the hosts that this agent is allowed can be reached]");
    add(outcome, &line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(via: EgressVia, host: &str, allowed: bool, reason: &str) -> EgressRecord {
        EgressRecord {
            call_id: None,
            via,
            host: host.to_owned(),
            port: 443,
            method: None,
            allowed,
            reason: reason.to_owned(),
            address: None,
            bytes_up: 0,
            bytes_down: 10,
            duration_ms: 0,
            secrets: Vec::new(),
        }
    }

    fn traffic(records: Vec<EgressRecord>) -> Traffic {
        Traffic { records, more: 0 }
    }

    #[test]
    fn a_failed_check_takes_the_network_away_only_where_it_is_enforced() {
        let refused = |status| {
            let network = Network::default();
            network.set(status);
            network.refusal()
        };
        let failed = |is_enforced| {
            let reason = "a datagram arrived outside".to_owned();
            refused(NetworkStatus::Failed { reason, is_enforced })
        };
        assert!(failed(true).unwrap().contains("a datagram arrived outside"));
        assert_eq!(failed(false), None);
        assert_eq!(refused(NetworkStatus::Held), None);
        assert_eq!(Network::default().refusal(), None, "there is no network to take away");
    }

    #[test]
    fn what_came_in_taints_also_if_it_was_cut_and_nothing_else() {
        assert!(brought_in(&record(EgressVia::Tls, "a.example", true, "a.example")));
        assert!(brought_in(&record(EgressVia::Tls, "a.example", false, "quota_bytes_down")));
        assert!(!brought_in(&record(EgressVia::Dns, "a.example", true, "a.example")));
        for (allowed, reason) in [(true, "a.example"), (false, "not_listed")] {
            let silent = record(EgressVia::Connect, "a.example", allowed, reason);
            assert!(!brought_in(&EgressRecord { bytes_down: 0, ..silent }), "{reason}");
        }
    }

    #[test]
    fn refusals_are_told_once_each_and_bounded() {
        let mut outcome = ToolOutcome::message(ToolStatus::Error, "curl: (35) reset");
        let mut records: Vec<_> = (0..8)
            .map(|n| record(EgressVia::Tls, &format!("h{n}.example"), false, "not_listed"))
            .collect();
        records.extend(records.clone());
        records.push(record(EgressVia::Tls, "ok.example", true, "ok.example"));
        records.push(record(EgressVia::Tls, "down.example", false, "connect_failed"));
        note(&mut outcome, &traffic(records));
        let told = &outcome.output;
        assert_eq!(told.matches("h0.example").count(), 1, "{told}");
        assert!(told.contains("h4.example:443 (not_listed) and 3 more;"), "{told}");
        assert!(!told.contains("ok.example") && !told.contains("down.example"), "{told}");
        let mut quiet = ToolOutcome::message(ToolStatus::Ok, "fine");
        note(&mut quiet, &traffic(Vec::new()));
        assert_eq!(quiet.output, "fine");
    }
}
