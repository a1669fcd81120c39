//! What failpoints do in builds with debug assertions.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Injected, Point};

/// How long a delay takes: longer than anything that should not wait for it.
const DELAY: Duration = Duration::from_millis(150);

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    Error,
    Delay,
}

/// What `FAILPOINTS` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    point: Point,
    fault: Fault,
    /// Only this time, from 1; every time when none.
    nth: Option<u64>,
}

/// What this process was started with.
struct Armed {
    orders: Vec<Order>,
    log: Option<Mutex<File>>,
    reached: [AtomicU64; Point::ALL.len()],
}

impl Point {
    /// Every point.
    pub const ALL: [Self; 28] = [
        Self::StoreOpenBefore,
        Self::StoreOpenAfter,
        Self::StoreBeginBefore,
        Self::StoreCommitBefore,
        Self::StoreCommitAfter,
        Self::HelperSpawnBefore,
        Self::HelperSpawnAfter,
        Self::SandboxBuildBefore,
        Self::SandboxBuildAfter,
        Self::SandboxCallBefore,
        Self::SandboxCallAfter,
        Self::FileWriteBefore,
        Self::FileWriteAfter,
        Self::LlmSendBefore,
        Self::LlmSendAfter,
        Self::EgressDialBefore,
        Self::EgressDialAfter,
        Self::HttpAnswerBefore,
        Self::SseSendBefore,
        Self::SseSendAfter,
        Self::SocketSendBefore,
        Self::SocketSendAfter,
        Self::ApprovalDecideBefore,
        Self::ApprovalDecideAfter,
        Self::CheckpointAppendBefore,
        Self::CheckpointAppendAfter,
        Self::OwnFileBefore,
        Self::OwnFileAfter,
    ];

    /// The name in `FAILPOINTS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StoreOpenBefore => "store.open.before",
            Self::StoreOpenAfter => "store.open.after",
            Self::StoreBeginBefore => "store.begin.before",
            Self::StoreCommitBefore => "store.commit.before",
            Self::StoreCommitAfter => "store.commit.after",
            Self::HelperSpawnBefore => "helper.spawn.before",
            Self::HelperSpawnAfter => "helper.spawn.after",
            Self::SandboxBuildBefore => "sandbox.build.before",
            Self::SandboxBuildAfter => "sandbox.build.after",
            Self::SandboxCallBefore => "sandbox.call.before",
            Self::SandboxCallAfter => "sandbox.call.after",
            Self::FileWriteBefore => "file.write.before",
            Self::FileWriteAfter => "file.write.after",
            Self::LlmSendBefore => "llm.send.before",
            Self::LlmSendAfter => "llm.send.after",
            Self::EgressDialBefore => "egress.dial.before",
            Self::EgressDialAfter => "egress.dial.after",
            Self::HttpAnswerBefore => "http.answer.before",
            Self::SseSendBefore => "sse.send.before",
            Self::SseSendAfter => "sse.send.after",
            Self::SocketSendBefore => "socket.send.before",
            Self::SocketSendAfter => "socket.send.after",
            Self::ApprovalDecideBefore => "approval.decide.before",
            Self::ApprovalDecideAfter => "approval.decide.after",
            Self::CheckpointAppendBefore => "checkpoint.append.before",
            Self::CheckpointAppendAfter => "checkpoint.append.after",
            Self::OwnFileBefore => "own_file.write.before",
            Self::OwnFileAfter => "own_file.write.after",
        }
    }
}

/// Reads `name=fault` or `name=fault@nth`, several with `;` between them.
fn parse(text: &str) -> Option<Vec<Order>> {
    let one = |text: &str| {
        let (name, what) = text.split_once('=')?;
        let (fault, nth) = match what.split_once('@') {
            Some((fault, nth)) => (fault, Some(nth.parse().ok()?)),
            None => (what, None),
        };
        let fault = match fault {
            "crash" => Fault::Crash,
            "error" => Fault::Error,
            "delay" => Fault::Delay,
            _ => return None,
        };
        let point = Point::ALL.into_iter().find(|p| p.name() == name)?;
        Some(Order { point, fault, nth })
    };
    text.split(';').map(str::trim).filter(|t| !t.is_empty()).map(one).collect()
}

fn armed() -> &'static Armed {
    static ARMED: OnceLock<Armed> = OnceLock::new();
    ARMED.get_or_init(|| {
        // Not settings: they exist for tests alone, and no release build knows them.
        #[expect(clippy::disallowed_methods, reason = "the configuration must not know of it")]
        let variable = |name| std::env::var(name).ok();
        let text = variable("FAILPOINTS").unwrap_or_default();
        let orders = parse(&text).unwrap_or_else(|| {
            tracing::error!(text, "FAILPOINTS cannot be read");
            std::process::abort()
        });
        let log = variable("FAILPOINTS_LOG");
        let log = log.and_then(|f| OpenOptions::new().create(true).append(true).open(f).ok());
        let reached = [const { AtomicU64::new(0) }; Point::ALL.len()];
        Armed { orders, log: log.map(Mutex::new), reached }
    })
}

impl Armed {
    /// Counts a visit; what is to happen.
    fn visit(&self, point: Point) -> Option<Fault> {
        if self.orders.is_empty() && self.log.is_none() {
            return None;
        }
        let place = Point::ALL.iter().position(|p| *p == point);
        let count = place.and_then(|at| self.reached.get(at));
        let visit = count.map_or(1, |count| count.fetch_add(1, Ordering::SeqCst) + 1);
        let order = self
            .orders
            .iter()
            .find(|order| order.point == point && order.nth.is_none_or(|nth| nth == visit));
        if let Some(log) = &self.log {
            let fault = order.map_or_else(String::new, |order| format!(" {:?}", order.fault));
            let line = format!("{} {visit}{fault}\n", point.name());
            let mut log = crate::runtime::tasks::lock(log);
            log.write_all(line.as_bytes()).unwrap_or_default();
        }
        let fault = order?.fault;
        if fault == Fault::Crash {
            // As sudden as SIGKILL: no destructor, no exit handler, no last word.
            std::process::abort();
        }
        Some(fault)
    }
}

pub(super) async fn reach(point: Point) -> Result<(), Injected> {
    match armed().visit(point) {
        Some(Fault::Error) => Err(Injected { _private: () }),
        Some(Fault::Delay) => {
            tokio::time::sleep(DELAY).await;
            Ok(())
        }
        Some(Fault::Crash) | None => Ok(()),
    }
}

pub(super) fn pass(point: Point) -> Result<(), Injected> {
    match armed().visit(point) {
        Some(Fault::Error) => Err(Injected { _private: () }),
        Some(Fault::Delay) => {
            std::thread::sleep(DELAY);
            Ok(())
        }
        Some(Fault::Crash) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_a_point_a_fault_and_a_time() {
        let order = |point, fault, nth| Order { point, fault, nth };
        assert_eq!(
            parse("store.commit.before=crash@3; llm.send.after=delay").unwrap(),
            [
                order(Point::StoreCommitBefore, Fault::Crash, Some(3)),
                order(Point::LlmSendAfter, Fault::Delay, None),
            ]
        );
        assert_eq!(parse("").unwrap(), []);
        for wrong in ["store.commit.before", "nowhere=crash", "llm.send.after=melt", "x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_unique_and_every_point_is_listed_once() {
        let mut names: Vec<_> = Point::ALL.iter().map(|p| p.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
