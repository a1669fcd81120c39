//! What a file system promises only when asked.

use std::{fs::File, io, path::Path};

/// Makes the name of a file durable, which an fsync of the file alone does not promise: without
/// this a new or renamed file may be gone after a loss of power, however well it was written.
///
/// # Errors
/// When its directory cannot be opened or synced.
pub fn sync_name(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
