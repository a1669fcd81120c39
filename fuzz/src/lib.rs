//! What the fuzz targets reach: the two lowest layers and the pure part of `auth`, without the store and
//! the model clients.
//!
//! The sources are taken by path instead of depending on the whole package: most of its outside
//! crates (SQLite, HTTP server and client) serve the layers above, and would be built a second
//! time with the fuzzer's instrumentation. That this is possible is what the import table of
//! `tests/architecture.rs` promises.

pub mod auth;
#[path = "../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../src/egress/mod.rs"]
pub mod egress;
#[path = "../../src/fuzzing.rs"]
pub mod fuzzing;
#[path = "../../src/runtime/mod.rs"]
pub mod runtime;
#[path = "../../src/sandbox/mod.rs"]
pub mod sandbox;
