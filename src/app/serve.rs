//! stub
use super::{
    cli::{Context, Failure},
    config::Starter,
};
use std::process::ExitCode;
pub(super) fn serve(_context: Context, _starter: Starter) -> Result<ExitCode, Failure> {
    Err(Failure::fault("x"))
}
