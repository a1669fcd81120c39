//! `policy …`.

use clap::Subcommand;

use super::policy_offline::{PolicyTest, PolicyValidate};

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Say what is wrong with a policy's file, if anything
    Validate(PolicyValidate),
    /// Say what a policy would do with a call; runs nothing, needs no daemon
    Test(Box<PolicyTest>),
}
