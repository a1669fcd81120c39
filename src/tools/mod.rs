//! How a tool call is carried out.
//!
//! Invariants: this module sees neither the store nor a user; it gets a `Grant` that policy has
//! written and never widens it. A call always gives an outcome, bounded and redacted; a refusal is
//! an outcome that says what to do. What a run keeps between its calls is gone when it waits. `ask_user` is a question to a person and is answered by the
//! orchestrator.

mod catalog;
mod edit;
mod exec;
mod files;
mod gate;
mod hash;
mod http;
mod invoke;
pub mod keeping;
mod look;
mod network;
mod parse;
mod pattern;
mod place;
mod policy;
mod search;
mod sessions;

/// What `explain` is asked and says.
pub use crate::egress::{Destination, Explanation};
/// Whether and how well process tools are confined; who uses tools need not know the sandbox.
pub use crate::sandbox::Status as SandboxStatus;
pub use catalog::{ToolSpec, spec, specs};
pub use hash::args_hash;
pub use invoke::{CallContext, Invoked, Options, Tools};
pub use look::binding_hash;
pub use network::NetworkStatus;
pub use parse::{Invocation, ParseError, parse};
pub use pattern::{CallPattern, PatternError};
pub use policy::{ADDRESS_REFUSED, Halting};
