//! Files of a workspace that belong to a person: removed when the person is erased, read when their
//! data is exported. Nothing else of the daemon touches a workspace but through tools.

use std::path::{Path, PathBuf};

use super::Tools;
use crate::{
    domain::Timestamp,
    runtime::Tasks,
    sandbox::dir::{Dir, DirError, WritableDir},
};

pub use crate::sandbox::dir::FileRemoval;

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
        // A file system may count whole seconds.
        let not_after = not_after.as_micros() / 1_000_000 + 1;
        blocking(move || {
            let beneath = beneath(&workspace, &path)?;
            WritableDir::open(&workspace, &workspace)?.remove(&beneath, not_after)
        })
        .await
    }

    /// Removes every file of a workspace; how many.
    ///
    /// # Errors
    /// A sentence for whoever looks at it by hand.
    pub async fn empty_workspace(&self, workspace: PathBuf) -> Result<u64, String> {
        blocking(move || WritableDir::open(&workspace, &workspace)?.remove_all(ENTRIES_MAX)).await
    }

    /// What stands in a file that calls wrote, named as they named it.
    ///
    /// # Errors
    /// A sentence that says why there is nothing.
    pub async fn read_file(&self, workspace: PathBuf, path: String) -> Result<Vec<u8>, String> {
        blocking(move || {
            let beneath = beneath(&workspace, &path)?;
            Dir::open(&workspace)?.read(&beneath, EXPORT_BYTES_MAX)
        })
        .await
    }
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
