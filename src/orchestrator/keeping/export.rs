//! What a person is given of their own: everything that is stored about them, piece by piece.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Keeper, entry,
    files::{Told, Wrote},
};
use crate::{
    auth::{ExportPersons, Permit, authn::local_operator},
    domain::{AuditKind, PrincipalId, Role},
    orchestrator::{Orchestrator, error::CommandError},
    runtime::tasks::lock,
    store::{Exportable, Reader, StoreError},
};

/// Rows of one piece.
const PAGE: u32 = 200;
/// The last kind: files of workspaces.
const FILES: &str = "files";
/// An export whose next piece is asked for later than this is recorded once more.
const GOES_ON: Duration = Duration::from_secs(600);
/// Exports that go on at the same time.
const EXPORTS_MAX: usize = 256;
/// Bytes of rows in one piece, after which it ends early.
const BYTES_MAX: usize = 1 << 20;

/// How far an export came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPlace {
    step: Step,
    key: (String, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rows(Exportable),
    Files,
}

/// A piece of an export.
#[derive(Debug)]
pub struct ExportPiece {
    /// Its lines: `{"kind", …}` with the row, a file, or what is missing.
    pub lines: Vec<Value>,
    /// Where the next piece begins; none at the end.
    pub next: Option<ExportPlace>,
}

impl Default for ExportPlace {
    fn default() -> Self {
        Self { step: Step::Rows(Exportable::Principal), key: (String::new(), -1) }
    }
}

impl ExportPlace {
    fn after_rows(kind: Exportable) -> Self {
        let mut rest = Exportable::ALL.into_iter().skip_while(|k| *k != kind).skip(1);
        let step = rest.next().map_or(Step::Files, Step::Rows);
        Self { step, key: (String::new(), -1) }
    }
}

/// As a cursor: `messages 12 conv_01…`.
impl fmt::Display for ExportPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Rows(kind) => kind.as_str(),
            Step::Files => FILES,
        };
        write!(f, "{step} {} {}", self.key.1, self.key.0)
    }
}

/// The text is no place of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the `next_cursor` of an export")]
pub struct ExportPlaceError;

impl FromStr for ExportPlace {
    type Err = ExportPlaceError;

    fn from_str(text: &str) -> Result<Self, ExportPlaceError> {
        let mut parts = text.splitn(3, ' ');
        let mut part = || parts.next().ok_or(ExportPlaceError);
        let (step, number, key) = (part()?, part()?, part()?);
        let kind = Exportable::ALL.into_iter().find(|kind| kind.as_str() == step);
        let step = match kind {
            Some(kind) => Step::Rows(kind),
            None if step == FILES => Step::Files,
            None => return Err(ExportPlaceError),
        };
        let number = number.parse().ok().ok_or(ExportPlaceError)?;
        Ok(Self { step, key: (key.to_owned(), number) })
    }
}

impl Orchestrator {
    /// Looks whether a person's data may be exported, and records that it is: the first piece, and any
    /// that does not follow one which was recorded here.
    ///
    /// # Errors
    /// When nobody knows them, or they stand higher than who asks.
    pub async fn begin_export(
        &self,
        permit: &Permit<ExportPersons>,
        person: PrincipalId,
        place: &ExportPlace,
    ) -> Result<(), CommandError> {
        let all = self.inner.everybody().await?;
        let role = all.iter().find(|view| view.id == person).map(|view| view.role);
        let mut reader = self.inner.store.read().await?;
        let is_known = role.is_some() || reader.erasures().is_known(person).await?;
        drop(reader);
        if !is_known || person == local_operator().id {
            return Err(CommandError::NotFound { what: "the principal" });
        }
        // Nobody knows any more how high somebody stood who is in no table.
        permit.reaches(role.unwrap_or(Role::Overlord))?;
        let who = permit.context().principal.id;
        let is_first = *place == ExportPlace::default();
        if !is_first && self.inner.keeper.goes_on(who, person) {
            return Ok(());
        }
        let what = if is_first { "exported" } else { "exported further" };
        let data = json!({ "what": what, "principal": person });
        let row = entry(AuditKind::PersonExport, Some(permit.context()), data);
        self.inner.store.audit(row).await?;
        self.inner.keeper.begin_export(who, person);
        Ok(())
    }

    /// The next piece.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn export_piece(
        &self,
        _permit: &Permit<ExportPersons>,
        person: PrincipalId,
        place: ExportPlace,
    ) -> Result<ExportPiece, CommandError> {
        let mut reader = self.inner.store.read().await?;
        let mut piece = match place.step {
            Step::Rows(kind) => rows(&mut reader, kind, person, place).await?,
            Step::Files => self.files(&mut reader, person, place).await?,
        };
        // What became a secret of the daemon after it was stored does not leave with it.
        let masked = |line| self.inner.redactor.redact_json(line);
        piece.lines = piece.lines.into_iter().map(masked).collect();
        Ok(piece)
    }

    /// The files that the next run of theirs wrote as a whole and nobody changed later.
    async fn files(
        &self,
        reader: &mut Reader,
        person: PrincipalId,
        place: ExportPlace,
    ) -> Result<ExportPiece, CommandError> {
        let (after, done) = place.key;
        let Some(run) = reader.erasures().runs(person, &after, 1).await?.pop() else {
            return Ok(ExportPiece { lines: Vec::new(), next: None });
        };
        let mut files = BTreeMap::new();
        for call in reader.erasures().calls_on_files(run.id).await? {
            if let Told::File { path, wrote: Wrote::Whole } = Told::of(&call) {
                files.insert(path, call.before.unwrap_or_else(|| self.inner.clock.now()));
            }
        }
        let agents = self.inner.authorizer.agents();
        let agent = agents.values().find(|agent| agent.name.as_str() == run.agent);
        let at = usize::try_from(done.saturating_add(1)).unwrap_or(0);
        // One file to a piece: its bytes are the piece.
        let (Some((path, before)), Some(agent)) = (files.into_iter().nth(at), agent) else {
            let key = (run.id.to_string(), -1);
            return Ok(ExportPiece {
                lines: Vec::new(),
                next: Some(ExportPlace { step: Step::Files, key }),
            });
        };
        let mut line =
            json!({ "kind": "file", "agent": run.agent, "run_id": run.id, "path": path });
        let missing = |why: &str| ("missing", why.to_owned());
        let (name, value) =
            match self.inner.tools.read_file(agent.workspace.clone(), path, before).await {
                Ok(Some(bytes)) if self.holds_secret(&bytes) => {
                    missing("it holds a secret of the daemon")
                }
                Ok(Some(bytes)) => ("base64", data_encoding::BASE64.encode(&bytes)),
                Ok(None) => missing("it was changed later, by somebody else perhaps"),
                Err(why) => ("missing", why),
            };
        if let Some(line) = line.as_object_mut() {
            line.insert(name.to_owned(), Value::String(value));
        }
        let next = Some(ExportPlace { step: Step::Files, key: (after, done.saturating_add(1)) });
        Ok(ExportPiece { lines: vec![line], next })
    }

    fn holds_secret(&self, bytes: &[u8]) -> bool {
        self.inner.redactor.finds_secret(&String::from_utf8_lossy(bytes))
    }
}

impl Keeper {
    /// Whether somebody's export of a person, recorded here not long ago, goes on.
    fn goes_on(&self, who: PrincipalId, person: PrincipalId) -> bool {
        let mut exports = lock(&self.exports);
        exports.retain(|_, last| last.elapsed() < GOES_ON);
        exports.get_mut(&(who, person)).map(|last| *last = Instant::now()).is_some()
    }

    fn begin_export(&self, who: PrincipalId, person: PrincipalId) {
        let mut exports = lock(&self.exports);
        if exports.len() >= EXPORTS_MAX {
            // Those that are still going on are recorded once more.
            exports.clear();
        }
        exports.insert((who, person), Instant::now());
    }
}

async fn rows(
    reader: &mut Reader,
    kind: Exportable,
    person: PrincipalId,
    place: ExportPlace,
) -> Result<ExportPiece, StoreError> {
    let page = reader.exports().page(kind, person, &place.key, PAGE).await?;
    let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
    let (mut lines, mut bytes, mut key) = (Vec::new(), 0, place.key);
    let mut is_whole = true;
    for (at, mut row) in page {
        if bytes >= BYTES_MAX {
            is_whole = false;
            break;
        }
        if let Some(row) = row.as_object_mut() {
            row.insert("kind".to_owned(), Value::from(kind.as_str()));
        }
        bytes += row.to_string().len();
        lines.push(row);
        key = at;
    }
    let next = if is_last && is_whole {
        ExportPlace::after_rows(kind)
    } else {
        ExportPlace { step: Step::Rows(kind), key }
    };
    Ok(ExportPiece { lines, next: Some(next) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_and_every_kind_is_reached() {
        let mut place = ExportPlace::default();
        for _ in Exportable::ALL {
            assert_eq!(place.to_string().parse(), Ok(place.clone()));
            let Step::Rows(kind) = place.step else { panic!("{place}") };
            place = ExportPlace::after_rows(kind);
        }
        assert_eq!(place.step, Step::Files);
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!("nonsense 1 x".parse::<ExportPlace>().is_err());
        assert!("messages x y".parse::<ExportPlace>().is_err());
    }
}
