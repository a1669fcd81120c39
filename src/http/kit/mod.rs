//! What every listener needs and no resource: errors, limits, who is asking, and the accept loop.
//!
//! Invariants: knows no route and no resource. Every answer that leaves carries a request id; every
//! error is a [`Problem`].

pub mod answer;
pub mod auth;
pub mod door;
pub mod edge;
pub mod extract;
pub(in crate::http) mod fallback;
mod impatient;
pub mod limit;
pub mod problem;
pub mod schema;
pub mod serve;
pub mod unix;

pub use answer::Reply;
pub use extract::{Caller, Command, Id, Operator, Query};
pub use problem::Problem;
