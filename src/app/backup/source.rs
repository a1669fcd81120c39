//! What lies beside the database.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    app::{cluster::MARKER, config::Settings},
    orchestrator::EgressRuleView,
    runtime::Redactor,
    sandbox::{
        dir::DirError,
        walk::{What, walk},
    },
    store::archive::{ArchiveError, Pack, SmallFile, Source},
};

/// Name of the directory with certificates.
pub(super) const PKI: &str = "pki";
/// Name of the directory that tools work in.
pub(super) const WORKSPACES: &str = "workspaces";
/// Name of the file with the checkpoints of the audit trail.
pub(super) const CHECKPOINTS: &str = "audit-checkpoints.jsonl";
/// Name of the file with what was configured.
pub(super) const CONFIGURATION: &str = "configuration.toml";

/// What the daemon of these settings has beside its database.
#[derive(Debug)]
pub(super) struct Beside {
    pki: PathBuf,
    workspaces: PathBuf,
    checkpoint_file: PathBuf,
    configured: Vec<SmallFile>,
}

impl Beside {
    pub(super) fn of(settings: &Settings, redactor: &Redactor) -> Self {
        // Secrets of the configuration are not in it; one that somebody wrote elsewhere goes too.
        let clean = |text: &str| redactor.redact(text).into_owned().into_bytes();
        let file =
            |name: &str, text: &str| SmallFile { name: name.to_owned(), content: clean(text) };
        let hosts: Vec<_> = settings
            .agents
            .iter()
            .flat_map(|agent| EgressRuleView::of_policy(&agent.name, &agent.hosts))
            .collect();
        let hosts = serde_json::to_string_pretty(&hosts).unwrap_or_default();
        let mut configured = vec![
            file("README.txt", include_str!("readme.txt")),
            file(CONFIGURATION, &settings.backup.configuration),
            file("hosts.json", &hosts),
        ];
        for agent in &settings.agents {
            configured.push(file(&format!("prompts/{}.md", agent.name), &agent.system_prompt));
        }
        let checkpoint_file = settings.checkpoint_file();
        let (pki, workspaces) = (settings.data_dir.join(PKI), settings.workspaces_dir.clone());
        Self { pki, workspaces, checkpoint_file, configured }
    }
}

impl Source for Beside {
    fn files(&self) -> Result<Vec<SmallFile>, ArchiveError> {
        let mut files = self.configured.clone();
        match fs::read(&self.checkpoint_file) {
            Ok(content) => files.push(SmallFile { name: CHECKPOINTS.to_owned(), content }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let doing = format!("read {}", self.checkpoint_file.display());
                return Err(ArchiveError::io(doing)(error));
            }
        }
        Ok(files)
    }

    fn trees(&self, pack: &mut Pack, step: &dyn Fn(&str)) -> Result<(), ArchiveError> {
        for (name, top) in [(PKI, &self.pki), (WORKSPACES, &self.workspaces)] {
            step(name);
            tree(pack, top, Path::new(name))?;
        }
        Ok(())
    }
}

/// Why a tree could not be put in.
enum TreeError {
    Dir(DirError),
    Archive(ArchiveError),
}

impl From<DirError> for TreeError {
    fn from(error: DirError) -> Self {
        Self::Dir(error)
    }
}

fn tree(pack: &mut Pack, top: &Path, name: &Path) -> Result<(), ArchiveError> {
    // It may be a link of the operator's; what tools have made beneath it is never followed.
    if let Ok(found) = fs::metadata(top)
        && found.is_dir()
    {
        pack.directory(name, found.mode() & 0o7777, 0)?;
    }
    let walked = walk(top, |found| {
        // It names the cluster that these workspaces belong to; a copy belongs to another.
        if found.path == Path::new(MARKER) {
            return Ok(());
        }
        let path = name.join(&found.path);
        let put = match found.what {
            What::File(file, bytes) => {
                pack.count_file();
                pack.stream(&path, found.mode, found.modified, bytes, file)
            }
            What::Directory => pack.directory(&path, found.mode, found.modified),
            What::Link(target) => pack.link(&path, &target),
            What::Special => {
                pack.leave_out(|left| left.special += 1);
                Ok(())
            }
            What::Unreadable => {
                pack.leave_out(|left| left.unreadable += 1);
                Ok(())
            }
        };
        put.map_err(TreeError::Archive)
    });
    walked.map_err(|error| match error {
        TreeError::Archive(error) => error,
        TreeError::Dir(error) => {
            ArchiveError::io(format!("read {}", top.display()))(io::Error::other(error))
        }
    })
}
