//! Small file systems, for tests about a disk that is full or may not be written. They need root,
//! which CI has.

use std::{
    ffi::CString,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// A small file system at a path, gone when dropped.
pub(crate) struct Mount {
    at: PathBuf,
}

impl Mount {
    /// None where this process may not mount: then the caller must find another way.
    pub(crate) fn small(at: &Path, kib: u32) -> Option<Self> {
        fs::create_dir_all(at).expect("a mount point");
        let options = CString::new(format!("size={kib}k,mode=0711")).expect("options");
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), options.as_c_str()).ok()?;
        Some(Self { at: at.to_owned() })
    }

    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        let flags = if is_read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        // A helper that has lost its daemon ends a moment later, and holds a file open until then.
        let is_done = (0..2_000).any(|_| {
            let done = mount_remount(&self.at, flags, "");
            if done.is_err() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            done.is_ok()
        });
        assert!(is_done, "a remount");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Already gone is as good.
        unmount(&self.at, UnmountFlags::DETACH).ok();
    }
}

/// Takes every byte that is left; the file that holds them.
pub(crate) fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("filler");
    let mut file = fs::File::create(&path).expect("a file");
    for size in [1 << 16, 4_096, 512, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    path
}
