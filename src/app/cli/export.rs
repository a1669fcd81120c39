//! `export`: everything that is stored about a person, as files. Speaks to the daemon's admin door.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use super::{
    Context, Failure, args,
    door::{Door, refused},
    identities::person_id,
    out,
    runs::encoded,
};
use crate::app::client::Page;

/// What each file holds, for its readers.
const KINDS: &[(&str, &str)] = &[
    ("principal", "who they are: name, role, since when"),
    ("tokens", "their tokens; the text of a token is never kept"),
    ("links", "their accounts on chat platforms"),
    ("conversations", "their conversations"),
    ("messages", "what was said in these, in order"),
    ("runs", "what they asked agents to do, and what came of it"),
    ("steps", "each call of a model: which, and how many tokens"),
    ("tool_calls", "each call of a tool: arguments and outcome"),
    ("approvals", "what people were asked for these runs, and what they decided"),
    ("events", "what happened in these runs, in order"),
    ("usage", "what they used, by day"),
    (
        "files",
        "files that their runs wrote and that are still there: which, and where below files/",
    ),
];

pub(super) async fn export(context: &Context, asked: args::Export) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    let id = person_id(&door, &asked.principal).await?;
    let mut files = Files::new(&asked.out)?;
    let path = format!("/admin/v1/principals/{id}/export");
    let mut cursor = String::new();
    let mut kind = String::new();
    loop {
        let piece: Page<Value> =
            door.client.get(&format!("{path}{cursor}")).await.map_err(refused)?;
        for item in piece.items {
            files.take(item)?;
        }
        let Some(next) = piece.next_cursor else { break };
        let now = next.split(' ').next().unwrap_or_default().to_owned();
        if now != kind && !asked.output.json {
            out::note(format_args!("{now} …"));
        }
        kind = now;
        cursor = format!("?cursor={}", encoded(&next));
    }
    let counts = files.finish(&id)?;
    if asked.output.json {
        out::json(&json!({ "out": asked.out, "counts": counts }));
    } else {
        let rows: Vec<_> = counts.iter().map(|(k, n)| [k.clone(), n.to_string()]).collect();
        out::table(["KIND", "COUNT"], &rows);
        out::line(format_args!("written to {}", asked.out.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The files of an export, one open for each kind.
struct Files {
    out: PathBuf,
    open: BTreeMap<String, File>,
    counts: BTreeMap<String, u64>,
}

impl Files {
    fn new(out: &Path) -> Result<Self, Failure> {
        // It holds what somebody said in private.
        fs::DirBuilder::new().mode(0o700).create(out).map_err(|e| {
            Failure::usage(format!("{} cannot be made: {e}", out.display()))
                .next("name a directory that does not exist yet")
        })?;
        Ok(Self { out: out.to_owned(), open: BTreeMap::new(), counts: BTreeMap::new() })
    }

    fn take(&mut self, mut item: Value) -> Result<(), Failure> {
        let kind = item.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = if kind == "file" { "files".to_owned() } else { kind };
        if !KINDS.iter().any(|(known, _)| *known == kind) {
            return Err(Failure::fault(
                "the daemon sent something that this version does not know",
            ));
        }
        if let Some(fields) = item.as_object_mut() {
            fields.remove("kind");
            if let Some(Value::String(bytes)) = fields.remove("base64") {
                let n = self.counts.get("files").copied().unwrap_or(0);
                let path = fields.get("path").and_then(Value::as_str).unwrap_or_default();
                let place = self.keep(n, path, &bytes)?;
                fields.insert("file".to_owned(), Value::String(place));
            }
        }
        if !self.open.contains_key(&kind) {
            let file = create(&self.out.join(format!("{kind}.jsonl")))?;
            self.open.insert(kind.clone(), file);
        }
        if let Some(file) = self.open.get_mut(&kind) {
            writeln!(file, "{item}").map_err(|e| failed(&self.out, &e))?;
        }
        *self.counts.entry(kind).or_default() += 1;
        Ok(())
    }

    /// Stores a file under its number and its own name: a path of somebody else's making leads
    /// nowhere here.
    fn keep(&self, n: u64, path: &str, base64: &str) -> Result<String, Failure> {
        let bytes = data_encoding::BASE64
            .decode(base64.as_bytes())
            .map_err(|e| Failure::fault(format!("a file came damaged: {e}")))?;
        let name = match Path::new(path).components().next_back() {
            Some(Component::Normal(name)) => name.to_string_lossy().into_owned(),
            Some(_) | None => "file".to_owned(),
        };
        let place = Path::new("files").join(format!("{n:06}")).join(name);
        let full = self.out.join(&place);
        let parent = full.parent().unwrap_or(&self.out);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|e| failed(parent, &e))?;
        create(&full)?.write_all(&bytes).map_err(|e| failed(&full, &e))?;
        Ok(place.display().to_string())
    }

    fn finish(mut self, id: &str) -> Result<BTreeMap<String, u64>, Failure> {
        use std::fmt::Write as _;
        let mut text = format!("# Data of {id}\n\nEach file has one JSON object a line.\n\n");
        for (kind, what) in KINDS {
            let count = self.counts.entry((*kind).to_owned()).or_default();
            let line = match count {
                0 => format!("- {kind}: none ({what})"),
                count => format!("- `{kind}.jsonl` ({count}): {what}"),
            };
            writeln!(text, "{line}").unwrap_or_default();
        }
        text.push_str(
            "\nNot in here: what others said and did in their own conversations, and the audit trail, \
             which names this person by id (`agent-runtime audit query --actor`).\n",
        );
        let readme = self.out.join("README.md");
        create(&readme)?.write_all(text.as_bytes()).map_err(|e| failed(&readme, &e))?;
        for file in self.open.values() {
            file.sync_all().map_err(|e| failed(&self.out, &e))?;
        }
        Ok(self.counts)
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|e| failed(path, &e))
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::fault(format!("{} cannot be written: {error}", path.display()))
}
