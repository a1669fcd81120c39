//! Configuration: defaults < file < environment (`.env` below the real one) < command line.
//!
//! Invariants: nothing below `app` knows the file or the variables; a value that cannot be read is
//! an error with its place, never a default; a secret is never printed.

mod env;
mod file;
mod gate;
mod keys;
mod problem;
mod resolve;
pub(crate) mod secret_file;
mod settings;
mod show;
#[cfg(test)]
mod tests;
mod typed;

use std::path::{Path, PathBuf};

pub(crate) use self::{
    env::Environment,
    gate::{Starter, check as gate},
    problem::Problems,
    resolve::{Effective, Override},
    settings::{
        ADDRESS_FILE, BOOTSTRAP_TOKEN_FILE, CHECKPOINT_FILE, LogStyle, Mode, Settings, Token,
        WorkerRuntime,
    },
    show::{json as show_json, table as show_table},
};

/// Where the file is, unless someone says otherwise.
pub(crate) const DEFAULT_FILE: &str = "config/agent-runtime.toml";
/// The commented reference, as shipped.
pub(crate) const REFERENCE: &str = include_str!("../../../config/agent-runtime.toml");

/// What is read.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The process's environment.
    pub(crate) environment: Environment,
    /// Directory of `.env`, if one is to be read.
    pub(crate) dotenv: Option<PathBuf>,
    /// Options that override settings.
    pub(crate) overrides: Vec<Override>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// As types.
    pub(crate) settings: Settings,
    /// As values with their origins.
    pub(crate) effective: Effective,
    /// The configuration file, if there was one.
    pub(crate) file: Option<PathBuf>,
}

/// Reads every source.
///
/// # Errors
/// Everything that is wrong, at once.
pub(crate) fn load(request: &Request) -> Result<Loaded, Problems> {
    let mut problems = Problems::default();
    let mut environment = request.environment.clone();
    if let Some(dir) = &request.dotenv {
        environment.add_dotenv(&dir.join(".env"), &mut problems);
    }
    let path = file_path(request.file.as_deref(), &environment);
    if let Some(Err(error)) = path.as_deref().map(secret_file::check_integrity) {
        problems
            .add(path.as_deref().unwrap_or(Path::new("")).display().to_string(), error.to_string());
    }
    let text = path.as_deref().map(std::fs::read_to_string);
    let values = match (&path, text) {
        (Some(path), Some(Ok(text))) => file::parse(path, &text, &mut problems),
        (Some(path), Some(Err(error))) => {
            problems.add(path.display().to_string(), format!("cannot be read: {error}"));
            file::FileValues::new()
        }
        _ => file::FileValues::new(),
    };
    let sources = resolve::Sources {
        path: path.as_deref(),
        file: &values,
        environment: &environment,
        overrides: &request.overrides,
    };
    let models: Vec<String> = sources.names("models").into_iter().collect();
    environment.check_names(&models, &mut problems);
    let effective = sources.resolve(&mut problems);
    let settings = typed::settings(&effective, &mut problems);
    match settings {
        Some(settings) if problems.list().is_empty() => {
            Ok(Loaded { settings, effective, file: path })
        }
        _ => Err(problems),
    }
}

/// The file to read: the one that was named, or the default one if it is there.
fn file_path(option: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    option
        .map(Path::to_owned)
        .or_else(|| environment.text("AGENT_RUNTIME_CONFIG").map(PathBuf::from))
        .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|p| p.is_file()))
}
