//! The only way from a tool to another machine.
//!
//! Invariants: it knows no user and no run beyond an opaque id; what it cannot read without doubt
//! it refuses.

mod address;
mod dns;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head;
mod hello;
mod template;
