//! The environment as a value: the process's own variables, and below them those of `.env`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    keys::{KEYS, Kind, OTHER_VARIABLES, PREFIX, env_part},
    problem::Problems,
    secret_file,
};

/// A variable and where it was set.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) value: String,
    /// The `.env` file, when it came from one.
    pub(crate) file: Option<PathBuf>,
}

impl std::fmt::Debug for Variable {
    /// Without the value, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variable").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Every variable that this program may read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, Variable>);

impl Environment {
    /// The process's variables. Read once, at start.
    pub(crate) fn of_process() -> Self {
        let own = |(name, value)| (name, Variable { value, file: None });
        let vars = std::env::vars_os();
        Self(
            vars.filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
                .map(own)
                .collect(),
        )
    }

    /// For tests: exactly these.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Variable { value: (*value).to_owned(), file: None })
        };
        Self(pairs.iter().map(own).collect())
    }

    /// Adds what a `.env` file says, never over what is set already. A missing file is nothing.
    pub(crate) fn add_dotenv(&mut self, path: &Path, problems: &mut Problems) {
        if !path.is_file() {
            return;
        }
        // It is where secrets are put, and whoever can write it decides everything.
        if let Err(error) = secret_file::check(path) {
            problems.add(path.display().to_string(), error.to_string());
            return;
        }
        let entries = match dotenvy::from_path_iter(path) {
            Ok(entries) => entries,
            Err(error) => {
                problems.add(path.display().to_string(), format!("cannot be read: {error}"));
                return;
            }
        };
        for entry in entries {
            match entry {
                Ok((name, value)) => {
                    let file = Some(path.to_owned());
                    self.0.entry(name).or_insert(Variable { value, file });
                }
                Err(error) => problems.add(path.display().to_string(), dotenv_error(&error)),
            }
        }
    }

    /// A variable; an empty one counts as not set.
    pub(crate) fn get(&self, name: &str) -> Option<&Variable> {
        self.0.get(name).filter(|v| !v.value.is_empty())
    }

    /// A variable's text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|v| v.value.as_str())
    }

    /// Complains about every prefixed variable that names no setting: a typing error would
    /// otherwise go unnoticed. `models` are the names that the file uses.
    pub(super) fn check_names(&self, models: &[String], problems: &mut Problems) {
        let known = known_variables(models);
        for (name, variable) in &self.0 {
            if !name.starts_with(PREFIX) || known.contains(name) {
                continue;
            }
            let nearest = known
                .iter()
                .min_by_key(|k| strsim::damerau_levenshtein(k, name))
                .map_or_else(String::new, |k| format!(": did you mean `{k}`?"));
            let place = variable
                .file
                .as_ref()
                .map_or_else(|| "environment".to_owned(), |f| f.display().to_string());
            problems.add(place, format!("unknown variable `{name}`{nearest}"));
        }
    }
}

/// A line of `.env` may hold a secret: say which line is wrong, not what it says.
fn dotenv_error(error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(_, at) => {
            format!("a line cannot be parsed (character {at} of it)")
        }
        other => format!("cannot be read: {other}"),
    }
}

/// Every variable with the prefix that means something.
pub(crate) fn known_variables(models: &[String]) -> Vec<String> {
    let mut known: Vec<String> = OTHER_VARIABLES.iter().map(|o| format!("{PREFIX}{o}")).collect();
    for key in KEYS.iter().filter(|k| !k.env.is_empty()) {
        let names = if key.env.contains('*') {
            models.iter().map(|m| key.env.replace('*', &env_part(m))).collect()
        } else {
            vec![key.env.to_owned()]
        };
        for name in names {
            if key.kind == Kind::Secret {
                known.push(format!("{PREFIX}{name}_FILE"));
            }
            known.push(format!("{PREFIX}{name}"));
        }
    }
    known
}
