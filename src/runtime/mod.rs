//! Process machinery: tasks, stopping, retries, logs. Knows nothing of runs, agents or users.

pub mod durable;
pub mod failpoint;
pub mod hook;
pub mod lifecycle;
pub mod log_file;
pub mod rate;
pub mod redact;
pub mod reload;
pub mod retry;
pub mod tasks;
pub mod telemetry;

pub use lifecycle::{Stop, StopStage};
pub use log_file::{LineFate, LogFile};
pub use rate::{Rates, TooOften};
pub use redact::Redactor;
pub use retry::RetryPolicy;
pub use tasks::{TaskKind, Tasks};
