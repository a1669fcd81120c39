//! Files of a workspace that belong to a person: removed when the person is erased, read when their
//! data is exported. Nothing else of the daemon touches a workspace but through tools.

use std::path::{Path, PathBuf};

use super::Tools;
use crate::{
    domain::Timestamp,
    runtime::Tasks,
    sandbox::dir::{Dir, DirError, WritableDir},
};

pub use crate::sandbox::dir::{Emptied, FileRemoval};

/// Largest file that an export holds.
pub const EXPORT_BYTES_MAX: u64 = 8 << 20;
/// Entries of one directory that are emptied at once.
const ENTRIES_MAX: usize = 100_000;

impl Tools {
    /// Removes a file that calls wrote, named as they named it, unless it was changed after
    /// `not_after`.
    ///
    /// # Errors
    /// A sentence for whoever looks at it by hand.
    pub async fn remove_file(
        &self,
        workspace: PathBuf,
        path: String,
        not_after: Timestamp,
    ) -> Result<FileRemoval, String> {
        let not_after = seconds(not_after);
        blocking(move || {
            let beneath = beneath(&workspace, &path)?;
            WritableDir::open(&workspace, &workspace)?.remove(&beneath, not_after)
        })
        .await
    }

    /// Removes every file of a workspace but for what is protected there.
    ///
    /// # Errors
    /// A sentence for whoever looks at it by hand.
    pub async fn empty_workspace(&self, workspace: PathBuf) -> Result<Emptied, String> {
        blocking(move || WritableDir::open(&workspace, &workspace)?.remove_all(ENTRIES_MAX)).await
    }

    /// What stands in a file that calls wrote, named as they named it; none where it was changed after
    /// `not_after`, by somebody else perhaps.
    ///
    /// # Errors
    /// A sentence that says why there is nothing.
    pub async fn read_file(
        &self,
        workspace: PathBuf,
        path: String,
        not_after: Timestamp,
    ) -> Result<Option<Vec<u8>>, String> {
        let not_after = seconds(not_after);
        blocking(move || {
            let beneath = beneath(&workspace, &path)?;
            Dir::open(&workspace)?.read_unchanged(&beneath, not_after, EXPORT_BYTES_MAX)
        })
        .await
    }
}

/// A file system may count whole seconds.
fn seconds(at: Timestamp) -> i64 {
    at.as_micros() / 1_000_000 + 1
}

/// The path within the workspace; one in an allowed path elsewhere is the operator's.
fn beneath(workspace: &Path, path: &str) -> Result<PathBuf, DirError> {
    let full = workspace.join(path);
    let outside = |_| DirError::Outside(PathBuf::from(path));
    full.strip_prefix(workspace).map(Path::to_owned).map_err(outside)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DirError> + Send + 'static,
) -> Result<T, String> {
    match Tasks::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panicked) => Err(panicked.to_string()),
    }
}
