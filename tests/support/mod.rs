//! What several test binaries share. Each includes it with `#[path]` or as a module.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod checker;
pub(crate) mod daemon;
pub(crate) mod fake_llm;
pub(crate) mod fake_site;
pub(crate) mod fake_wire;
pub(crate) mod live;
pub(crate) mod mount;
pub(crate) mod partition;
pub(crate) mod postgres;
