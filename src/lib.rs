//! Agent Runtime: one daemon that lets a team use LLM agents safely.
//!
//! ```text
//! L5  app                           reads config, builds every part, waits for the end; the CLI
//! L4  http                          people and programs reach us here
//! L3  orchestrator                  decides what happens next and makes it durable
//! L2  auth       tools              may this happen?  /  how a tool call is carried out
//! L1  store  llm  sandbox  egress   one outside resource each; they do not know each other
//! L0  domain     runtime            our words  /  process machinery; neither knows the other
//! ```
//!
//! A module imports only from the layers below it, and only what `tests/architecture.rs` lists.

pub mod app;
pub mod auth;
pub mod domain;
pub mod egress;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod llm;
pub mod orchestrator;
pub mod runtime;
pub mod sandbox;
pub mod store;
pub mod tools;
