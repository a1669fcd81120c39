//! The policy's file, read whole and checked.

use std::{fs, io::Read, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use super::{super::secret_file::effective_uid, Reader};
use crate::auth::policy::Policy;

/// The setting that names the file.
const KEY: &str = "policy.file";
/// No policy is longer; a wrong path such as a disk image must not be read whole.
const BYTES_MAX: u64 = 1 << 20;

impl Reader<'_> {
    /// The policy of the file; whatever is wrong with it is a problem with the file's line.
    pub(super) fn policy(&mut self) -> Option<Arc<Policy>> {
        let path = self.some(KEY)?;
        let text = match read(Path::new(&path)) {
            Ok(text) => text,
            Err(what) => {
                self.bad(KEY, format!("= `{path}` {what}"));
                return None;
            }
        };
        match Policy::parse(&text) {
            Ok(policy) => Some(Arc::new(policy)),
            Err(error) => {
                for problem in error.problems {
                    self.problems.add(format!("{path}:{}", problem.line), problem.what);
                }
                None
            }
        }
    }
}

/// The file's text. Whoever can write to it decides what agents may do: only we and root may.
fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for somebody to write.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let file = fs::File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if ![0, effective_uid()].contains(&found.uid()) {
        return Err(format!(
            "belongs to uid {}: run `chown {} {}`",
            found.uid(),
            effective_uid(),
            path.display()
        ));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!("can be written by others: run `chmod go-w {}`", path.display()));
    }
    let mut text = String::new();
    file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > BYTES_MAX {
        return Err(format!("is larger than {BYTES_MAX} bytes"));
    }
    Ok(text)
}
