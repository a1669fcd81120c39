//! The daemon as its clients see it: the real binary over real sockets, with a fake model
//! provider that plays scripts. One file per area.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod approval_races;
mod approvals;
mod audit_trail;
mod auth;
mod backup;
mod backup_faults;
mod bad_input;
mod bombs;
mod budgets;
mod bundles;
mod canary_secrets;
mod capabilities;
mod changing_rules;
mod compatibility;
mod egress;
mod erase;
mod faults;
mod hostile;
mod http_request;
mod identities;
mod lifecycle;
mod limits;
mod lockdown;
mod policy;
mod roles;
mod runs;
mod scenes;
mod secrets;
mod standing;
mod streams;
mod tools;
mod unknown;
mod verbs;
mod web;
