//! One record per decision: made when the attempt is over, whatever ends it.
//!
//! Invariant: an [`Attempt`] writes exactly one record, at the latest when its last clone drops.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::{Duration, Instant};

use super::reason::Reason;
use crate::{
    domain::{AgentName, EgressRecord, EgressVia, ToolCallId},
    runtime::tasks::lock,
};

/// Records of one call that are kept for its outcome.
const RECORDS_MAX: usize = 256;
/// Refusals of one run that are passed on at once, before they are paced.
const DENIALS_BURST: f64 = 300.0;
/// Refusals per second that are passed on after that. More are only counted: a tool in a loop must
/// not fill the audit trail.
const DENIALS_PER_SEC: f64 = 5.0;
/// Bytes of a host in a record, where it is no canonical name.
const HOST_BYTES_MAX: usize = 253;

/// Gets a record: whose agent, which run, what. It must not block.
pub type OnRecord = Arc<dyn Fn(&AgentName, &str, &EgressRecord) + Send + Sync>;

/// What a call did on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The first records, at most 256, in the order in which they ended.
    pub records: Vec<EgressRecord>,
    /// How many more there were.
    pub more: u64,
}

/// Passes a run's records on.
pub(super) struct Recorder {
    agent: AgentName,
    run: String,
    on_record: OnRecord,
    denials: Mutex<Pace>,
}

struct Pace {
    left: f64,
    at: Instant,
}

impl Recorder {
    pub(super) fn new(agent: AgentName, run: String, on_record: OnRecord) -> Self {
        let denials = Mutex::new(Pace { left: DENIALS_BURST, at: Instant::now() });
        Self { agent, run, on_record, denials }
    }

    /// Whether it was passed on.
    fn pass(&self, record: &EgressRecord) -> bool {
        if !record.allowed && !self.may_pass_denial() {
            metrics::counter!("agent_runtime_egress_records_suppressed_total").increment(1);
            return false;
        }
        (self.on_record)(&self.agent, &self.run, record);
        true
    }

    fn may_pass_denial(&self) -> bool {
        let mut pace = lock(&self.denials);
        let now = Instant::now();
        let gained = now.duration_since(pace.at).as_secs_f64() * DENIALS_PER_SEC;
        pace.left = (pace.left + gained).min(DENIALS_BURST);
        pace.at = now;
        let may = pace.left >= 1.0;
        if may {
            pace.left -= 1.0;
        }
        may
    }
}

/// The records of one call.
pub(super) struct Log {
    call_id: Option<ToolCallId>,
    recorder: Arc<Recorder>,
    state: Mutex<LogState>,
}

#[derive(Default)]
struct LogState {
    traffic: Traffic,
    open: HashMap<u64, Arc<Core>>,
    next: u64,
}

impl Log {
    pub(super) fn new(call_id: Option<ToolCallId>, recorder: Arc<Recorder>) -> Arc<Self> {
        Arc::new(Self { call_id, recorder, state: Mutex::default() })
    }

    /// Begins an attempt. `host` is canonical, or what stands for it; it is bounded here.
    pub(super) fn attempt(
        self: &Arc<Self>,
        via: EgressVia,
        host: &str,
        port: u16,
        method: Option<&str>,
    ) -> Attempt {
        let mut state = lock(&self.state);
        let id = state.next;
        state.next += 1;
        let core = Arc::new(Core {
            id,
            log: Arc::clone(self),
            via,
            host: printable(host),
            port,
            method: method.map(str::to_owned),
            begun: Instant::now(),
            is_done: Mutex::new(false),
            rule: OnceLock::new(),
            address: OnceLock::new(),
            secrets: Mutex::default(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        });
        state.open.insert(id, Arc::clone(&core));
        Attempt { last: Arc::new(Last { core }) }
    }

    /// Ends every attempt and takes the records.
    pub(super) fn close(&self) -> Traffic {
        let open: Vec<Arc<Core>> = lock(&self.state).open.values().cloned().collect();
        for core in open {
            // Waits for one that is writing its record just now.
            core.end();
        }
        std::mem::take(&mut lock(&self.state).traffic)
    }

    fn write(&self, id: u64, record: EgressRecord) {
        let is_passed = self.recorder.pass(&record);
        let mut state = lock(&self.state);
        state.open.remove(&id);
        if is_passed && self.call_id.is_some() && state.traffic.records.len() < RECORDS_MAX {
            state.traffic.records.push(record);
        } else {
            state.traffic.more += 1;
        }
    }
}

/// One attempt to reach another machine. Clones share it.
#[derive(Clone)]
pub(super) struct Attempt {
    last: Arc<Last>,
}

/// Ends the attempt when its last clone drops.
struct Last {
    core: Arc<Core>,
}

impl Drop for Last {
    fn drop(&mut self) {
        self.core.end();
    }
}

/// The log holds it until the record is written, so that closing the log misses none.
struct Core {
    id: u64,
    log: Arc<Log>,
    via: EgressVia,
    host: String,
    port: u16,
    method: Option<String>,
    begun: Instant,
    /// Held while the record is written.
    is_done: Mutex<bool>,
    rule: OnceLock<String>,
    address: OnceLock<IpAddr>,
    secrets: Mutex<Vec<String>>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Attempt {
    /// It is let through by this rule; the record comes when it is over.
    pub(super) fn allow(&self, rule: String) {
        self.last.core.rule.set(rule).ok();
    }

    /// This address was dialled.
    pub(super) fn dialled(&self, address: IpAddr) {
        self.last.core.address.set(address).ok();
    }

    /// This secret was put in, or meant to be.
    pub(super) fn secret(&self, name: &str) {
        lock(&self.last.core.secrets).push(name.to_owned());
    }

    pub(super) fn count_up(&self, bytes: u64) {
        self.last.core.up.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_down(&self, bytes: u64) {
        self.last.core.down.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Refused, failed or cut: the record is made now.
    pub(super) fn deny(&self, reason: Reason) {
        self.last.core.finish(Some(reason));
    }

    /// It is over: the record is made now.
    pub(super) fn end(&self) {
        self.last.core.end();
    }
}

impl Core {
    fn end(&self) {
        let is_allowed = self.rule.get().is_some();
        self.finish((!is_allowed).then_some(Reason::Closed));
    }

    fn finish(&self, refused: Option<Reason>) {
        let mut is_done = lock(&self.is_done);
        if std::mem::replace(&mut *is_done, true) {
            return;
        }
        let (bytes_up, bytes_down) =
            (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed));
        let (outcome, label) =
            refused.map_or(("allowed", "rule"), |reason| ("denied", reason.as_str()));
        metrics::counter!(
            "agent_runtime_egress_decisions_total",
            "outcome" => outcome, "reason" => label, "via" => via_label(self.via)
        )
        .increment(1);
        metrics::counter!("agent_runtime_egress_bytes_total", "direction" => "up")
            .increment(bytes_up);
        metrics::counter!("agent_runtime_egress_bytes_total", "direction" => "down")
            .increment(bytes_down);
        let rule = || self.rule.get().cloned().unwrap_or_default();
        let record = EgressRecord {
            call_id: self.log.call_id,
            via: self.via,
            host: self.host.clone(),
            port: self.port,
            method: self.method.clone(),
            allowed: refused.is_none(),
            reason: refused.map_or_else(rule, |reason| reason.as_str().to_owned()),
            address: self.address.get().copied(),
            bytes_up,
            bytes_down,
            duration_ms: millis(self.begun.elapsed()),
            secrets: std::mem::take(&mut *lock(&self.secrets)),
        };
        self.log.write(self.id, record);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const fn via_label(via: EgressVia) -> &'static str {
    match via {
        EgressVia::Connect => "connect",
        EgressVia::Http => "http",
        EgressVia::Tls => "tls",
        EgressVia::Dns => "dns",
        EgressVia::Fetch => "fetch",
    }
}

/// Text of a tool that may stand in a record and in a terminal: bounded, visible ASCII.
pub(super) fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(HOST_BYTES_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Tasks;

    fn log(on_record: OnRecord) -> Arc<Log> {
        let recorder = Recorder::new("a".parse().unwrap(), "run_1".to_owned(), on_record);
        Log::new(Some(ToolCallId::from(uuid::Uuid::nil())), Arc::new(recorder))
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_makes_exactly_one_record() {
        let log = log(Arc::new(|_, _, _| {}));
        let attempt = log.attempt(EgressVia::Http, "a.example", 80, Some("GET"));
        attempt.allow("a.example:80".to_owned());
        attempt.count_up(10);
        attempt.count_down(20);
        tokio::time::advance(Duration::from_millis(5)).await;
        attempt.end();
        attempt.deny(Reason::Closed);
        drop(attempt);
        let forgotten = log.attempt(EgressVia::Connect, "b.example\n\u{1b}[2J", 443, None);
        drop(forgotten);
        let traffic = log.close();
        let [first, second] = traffic.records.as_slice() else { panic!("{traffic:?}") };
        assert_eq!(
            (first.allowed, first.reason.as_str(), first.bytes_up, first.bytes_down),
            (true, "a.example:80", 10, 20)
        );
        assert_eq!(first.duration_ms, 5);
        assert_eq!((second.allowed, second.reason.as_str()), (false, "closed"));
        assert_eq!(second.host, "b.example??[2J");
        assert_eq!(traffic.more, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_the_log_ends_what_is_open_and_only_once() {
        let log = log(Arc::new(|_, _, _| {}));
        let attempt = log.attempt(EgressVia::Connect, "a.example", 443, None);
        attempt.allow("a.example".to_owned());
        attempt.count_down(7);
        let traffic = log.close();
        assert_eq!(traffic.records.len(), 1);
        assert_eq!(traffic.records[0].bytes_down, 7);
        attempt.deny(Reason::NotListed);
        assert_eq!(log.close(), Traffic::default());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_that_is_being_written_is_not_missed() {
        for _ in 0..500 {
            let log = log(Arc::new(|_, _, _| std::thread::yield_now()));
            let attempt = log.attempt(EgressVia::Http, "a.example", 80, None);
            let ending = Tasks::spawn_blocking(move || drop(attempt));
            let closing = log.close();
            ending.await.unwrap();
            let late = log.close();
            assert_eq!(closing.records.len() + late.records.len(), 1);
            assert_eq!(closing.records.len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_is_counted_and_not_passed_on() {
        let passed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&passed);
        let log = log(Arc::new(move |_, _, _| {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        for _ in 0..1_000 {
            log.attempt(EgressVia::Dns, "x.example", 53, None).deny(Reason::NotListed);
        }
        assert_eq!(passed.load(Ordering::Relaxed), 300);
        tokio::time::advance(Duration::from_secs(10)).await;
        for _ in 0..100 {
            log.attempt(EgressVia::Dns, "x.example", 53, None).deny(Reason::NotListed);
        }
        assert_eq!(passed.load(Ordering::Relaxed), 350);
        let traffic = log.close();
        assert_eq!((traffic.records.len(), traffic.more), (256, 1_100 - 256));
    }
}
