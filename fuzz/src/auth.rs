//! Of `auth` the pure part alone: the rest needs the store.

#[path = "../../src/auth/policy/mod.rs"]
pub mod policy;
