//! stub
use super::cli::{Context, Failure};
use std::process::ExitCode;
pub(super) async fn doctor(_context: &Context, _json: bool) -> Result<ExitCode, Failure> {
    Err(Failure::fault("x"))
}
