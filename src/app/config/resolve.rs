//! Decides which source gives each setting its value, and remembers which one did.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    env::Environment,
    file::FileValues,
    keys::{KEYS, Key, Kind, PREFIX, env_part, is_shared},
    problem::Problems,
    secret_file,
};
use crate::domain::Secret;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// A line of the configuration file.
    File { path: PathBuf, line: usize },
    /// A variable; `file` is the `.env` that set it.
    Variable { name: String, file: Option<PathBuf> },
    /// An option of the command line.
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable { name, file: None } => write!(f, "environment {name}"),
            Self::Variable { name, file: Some(file) } => write!(f, "{} {name}", file.display()),
            Self::Option(name) => f.write_str(name),
        }
    }
}

/// A setting as it is in force.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The value; a secret's is the path of its file, or null.
    pub(crate) value: Value,
    /// Where it came from.
    pub(crate) origin: Origin,
    /// The secret itself; `None` for everything else and for a secret that is not set.
    pub(crate) secret: Option<Secret<String>>,
    /// What the key takes.
    pub(crate) kind: Kind,
}

/// Every setting as it is in force, by concrete path.
pub(crate) type Effective = BTreeMap<String, Entry>;

/// One option of the command line that overrides a setting.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    /// The setting.
    pub(crate) key: &'static str,
    /// The option's name, for messages.
    pub(crate) option: &'static str,
    /// What was given.
    pub(crate) value: String,
}

/// The sources, lowest first after the defaults.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    pub(super) path: Option<&'a Path>,
    pub(super) file: &'a FileValues,
    pub(super) environment: &'a Environment,
    pub(super) overrides: &'a [Override],
}

impl Sources<'_> {
    /// The names that the operator chose in a section; `models` and `agents` always have a `default`.
    pub(super) fn names(&self, section: &str) -> BTreeSet<String> {
        let prefix = format!("{section}.");
        let names = self.file.keys().filter_map(|path| path.strip_prefix(&prefix));
        let mut names: BTreeSet<String> =
            names.filter_map(|rest| rest.split('.').next()).map(str::to_owned).collect();
        if matches!(section, "models" | "agents") {
            names.insert("default".to_owned());
        }
        names
    }

    /// Every setting with its value.
    pub(super) fn resolve(&self, problems: &mut Problems) -> Effective {
        let mut out = Effective::new();
        for key in KEYS {
            match key.path.split_once(".*.") {
                None => {
                    out.insert(key.path.to_owned(), self.entry(key, key.path, key.env, problems));
                }
                Some((section, rest)) => {
                    for name in self.names(section) {
                        let path = format!("{section}.{name}.{rest}");
                        let env = key.env.replace('*', &env_part(&name));
                        let entry = self.entry(key, &path, &env, problems);
                        out.insert(path, entry);
                    }
                }
            }
        }
        out
    }

    fn entry(&self, key: &Key, path: &str, env: &str, problems: &mut Problems) -> Entry {
        if key.kind == Kind::Secret {
            return self.secret(key, path, env, problems);
        }
        let plain = |value, origin| Entry { value, origin, secret: None, kind: key.kind };
        if let Some(given) = self.overrides.iter().find(|o| o.key == path) {
            let origin = Origin::Option(given.option);
            return plain(checked(key, &given.value, &origin, problems), origin);
        }
        let from_file =
            self.file.get(path).map(|found| (found.value.clone(), self.line(found.line)));
        let mut from_env = || {
            let (_, text, origin) = self.variable(key, env, problems)?;
            Some((checked(key, &text, &origin, problems), origin))
        };
        // A variable that every entry shares fills gaps; any other one overrides the file.
        let found =
            if is_shared(key) { from_file.or_else(from_env) } else { from_env().or(from_file) };
        let (value, origin) = found.unwrap_or_else(|| {
            let default = text_value(key.kind, key.default).unwrap_or(Value::Null);
            (default, Origin::Default)
        });
        plain(value, origin)
    }

    fn line(&self, line: usize) -> Origin {
        Origin::File { path: self.path.unwrap_or(Path::new("")).to_owned(), line }
    }

    /// The variable of a key that is no secret; its names must not contradict each other.
    fn variable(
        &self,
        key: &Key,
        env: &str,
        problems: &mut Problems,
    ) -> Option<(String, String, Origin)> {
        let mut found: Option<(String, String, Origin)> = None;
        for name in variable_names(key, env) {
            let Some(variable) = self.environment.get(&name) else { continue };
            match &found {
                None => {
                    let origin =
                        Origin::Variable { name: name.clone(), file: variable.file.clone() };
                    found = Some((name, variable.value.clone(), origin));
                }
                Some((first, value, _)) if *value != variable.value => {
                    problems.add("environment", contradiction(first, &name));
                }
                Some(_) => {}
            }
        }
        found
    }

    fn secret(&self, key: &Key, path: &str, env: &str, problems: &mut Problems) -> Entry {
        let mut found: Vec<Found> = Vec::new();
        for name in variable_names(key, env) {
            for (name, is_file) in [(name.clone(), false), (format!("{name}_FILE"), true)] {
                if let Some(variable) = self.environment.get(&name) {
                    let origin =
                        Origin::Variable { name: name.clone(), file: variable.file.clone() };
                    let holder = variable.file.as_deref();
                    found.extend(read(name, &variable.value, is_file, holder, origin, problems));
                }
            }
        }
        if found.is_empty() {
            for (name, is_file) in [(path.to_owned(), false), (format!("{path}_file"), true)] {
                if let Some(value) = self.file.get(&name)
                    && let Some(text) = value.value.as_str().filter(|t| !t.is_empty())
                {
                    let origin = self.line(value.line);
                    found.extend(read(name, text, is_file, self.path, origin, problems));
                }
            }
        }
        let mut found = found.into_iter();
        let Some(first) = found.next() else {
            let value = Value::Null;
            return Entry { value, origin: Origin::Default, secret: None, kind: key.kind };
        };
        for other in found.filter(|o| o.secret.expose() != first.secret.expose()) {
            problems.add(other.origin.to_string(), contradiction(&first.name, &other.name));
        }
        let value = first.file.map_or(Value::Null, |f| json!(f));
        Entry { value, origin: first.origin, secret: Some(first.secret), kind: key.kind }
    }
}

/// A secret that some source gave.
struct Found {
    name: String,
    secret: Secret<String>,
    file: Option<String>,
    origin: Origin,
}

/// Takes a secret from where it is named, checking who else could read it there. `holder` is the
/// file that holds the value itself, if any.
fn read(
    name: String,
    text: &str,
    is_file: bool,
    holder: Option<&Path>,
    origin: Origin,
    problems: &mut Problems,
) -> Option<Found> {
    let result = if is_file {
        secret_file::read(Path::new(text)).map(|secret| (secret, Some(text.to_owned())))
    } else {
        holder.map_or(Ok(()), secret_file::check).map(|()| (Secret::new(text.to_owned()), None))
    };
    match result {
        Ok((secret, file)) => Some(Found { name, secret, file, origin }),
        Err(error) => {
            problems.add(origin.to_string(), format!("`{name}`: {error}"));
            None
        }
    }
}

fn variable_names(key: &Key, env: &str) -> Vec<String> {
    if env.is_empty() {
        return Vec::new();
    }
    // In an alias such as PICOCLAW_PROVIDERS_*_API_KEY the star is what it was in `env`.
    let (before, after) = key.env.split_once('*').unwrap_or((key.env, ""));
    let star = env.strip_prefix(before).and_then(|e| e.strip_suffix(after)).unwrap_or_default();
    let mut names = vec![format!("{PREFIX}{env}")];
    names.extend(key.aliases.iter().map(|alias| alias.replace('*', star)));
    names
}

fn contradiction(first: &str, second: &str) -> String {
    format!("`{first}` and `{second}` are both set and differ: keep one of them")
}

/// The same, with the default and a complaint for what does not fit.
fn checked(key: &Key, text: &str, origin: &Origin, problems: &mut Problems) -> Value {
    text_value(key.kind, text).unwrap_or_else(|wanted| {
        problems.add(origin.to_string(), format!("`{text}` is not {wanted}"));
        text_value(key.kind, key.default).unwrap_or(Value::Null)
    })
}

/// The value that a variable's text means, or what it should have been.
pub(super) fn text_value(kind: Kind, text: &str) -> Result<Value, &'static str> {
    match kind {
        Kind::Text | Kind::Secret => Ok(json!(text)),
        Kind::Bool => match text {
            "true" | "1" | "yes" | "on" => Ok(json!(true)),
            "false" | "0" | "no" | "off" => Ok(json!(false)),
            _ => Err("true or false"),
        },
        Kind::Int => text.parse::<u64>().map(|i| json!(i)).ok().ok_or("a whole number"),
        Kind::List | Kind::Hosts => Ok(json!(items(text).collect::<Vec<_>>())),
        Kind::Paths => items(text)
            .map(|item| {
                let (path, access) = item.rsplit_once(':').unwrap_or((item, "ro"));
                matches!(access, "ro" | "rw").then(|| json!({ "path": path, "access": access }))
            })
            .collect::<Option<Vec<_>>>()
            .map(Value::Array)
            .ok_or("a list such as /srv/docs:ro,/srv/out:rw"),
        Kind::Map => items(text)
            .map(|item| {
                let (from, to) = item.split_once('=')?;
                Some((from.trim().to_owned(), json!(to.trim())))
            })
            .collect::<Option<serde_json::Map<_, _>>>()
            .map(Value::Object)
            .ok_or("a list such as a.example:443=10.0.0.1:8443"),
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}
