//! Each refusal has its counterpart: the same operation inside succeeds.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::sandbox::give_to_tools;

/// A tree of the tools' user beside a workspace.
fn held() -> (tempfile::TempDir, WritableDir) {
    let base = tempfile::tempdir().unwrap();
    let (inside, workspace) = (base.path().join("inside"), base.path().join("workspace"));
    for path in [&inside, &workspace] {
        crate::sandbox::prepare_workspace(path).unwrap();
    }
    std::fs::write(base.path().join("secret"), "outside").unwrap();
    let dir = WritableDir::open(&inside, &workspace).unwrap();
    (base, dir)
}

fn read(dir: &WritableDir, path: &str) -> Result<Vec<u8>, DirError> {
    dir.dir().read(Path::new(path), 1_000)
}

#[test]
fn names_that_lead_out_are_refused_and_names_that_stay_are_not() {
    let (base, dir) = held();
    let inside = base.path().join("inside");
    std::fs::create_dir(inside.join("sub")).unwrap();
    std::fs::write(inside.join("file"), "inside").unwrap();
    symlink("../secret", inside.join("out")).unwrap();
    symlink(base.path().join("secret"), inside.join("absolute")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    symlink("../file", inside.join("sub/link")).unwrap();
    symlink("/proc/self/root", inside.join("magic")).unwrap();
    for path in ["../secret", "sub/../../secret", "out", "absolute", "up/secret", "/etc/passwd"] {
        assert!(matches!(read(&dir, path), Err(DirError::Outside(_))), "{path}");
    }
    assert!(read(&dir, "magic/etc/passwd").is_err());
    for path in ["file", "sub/../file", "sub/link", "./file"] {
        assert_eq!(read(&dir, path).unwrap(), b"inside", "{path}");
    }
}

#[test]
fn writes_that_lead_out_are_refused_and_leave_nothing() {
    let (base, dir) = held();
    let inside = base.path().join("inside");
    symlink("..", inside.join("up")).unwrap();
    symlink("../secret", inside.join("out")).unwrap();
    for path in ["../new", "up/new", "/tmp/new", ".."] {
        assert!(dir.replace(Path::new(path), b"x").is_err(), "{path}");
        assert!(dir.create(Path::new(path), b"x").is_err(), "{path}");
        assert!(dir.append(Path::new(path), b"x", 100).is_err(), "{path}");
    }
    assert!(matches!(dir.append(Path::new("out"), b"x", 100), Err(DirError::Outside(_))));
    assert!(!base.path().join("new").exists());
    // A link in the last place is replaced, its target is not touched.
    dir.replace(Path::new("out"), b"mine").unwrap();
    assert_eq!(std::fs::read(base.path().join("secret")).unwrap(), b"outside");
    assert_eq!(read(&dir, "out").unwrap(), b"mine");
}

#[test]
fn replacing_makes_directories_keeps_the_mode_and_leaves_no_temporary_file() {
    let (base, dir) = held();
    dir.replace(Path::new("a/b/run.sh"), b"one").unwrap();
    let path = base.path().join("inside/a/b/run.sh");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir.replace(Path::new("a/b/run.sh"), b"two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o755);
    let (entries, has_more) = dir.dir().list(Path::new("a/b"), 10).unwrap();
    assert_eq!((entries.len(), has_more), (1, false));
}

#[test]
fn only_regular_files_are_read_and_a_fifo_does_not_block() {
    let (base, dir) = held();
    let inside = base.path().join("inside");
    rustix::fs::mkfifoat(CWD, inside.join("fifo"), Mode::from_raw_mode(0o644)).unwrap();
    assert!(matches!(read(&dir, "fifo"), Err(DirError::NotAFile(_))));
    assert!(matches!(read(&dir, "."), Err(DirError::NotAFile(_))));
    assert!(dir.append(Path::new("fifo"), b"x", 10).is_err());
    assert!(matches!(dir.replace(Path::new("fifo"), b"x"), Err(DirError::NotAFile(_))));
}

#[test]
fn sizes_are_bounded_and_creation_is_exclusive() {
    let (_base, dir) = held();
    dir.create(Path::new("f"), b"12345").unwrap();
    assert!(matches!(dir.create(Path::new("f"), b"x"), Err(DirError::Exists(_))));
    assert!(matches!(dir.dir().read(Path::new("f"), 4), Err(DirError::TooLarge { .. })));
    assert_eq!(dir.dir().read(Path::new("f"), 5).unwrap(), b"12345");
    dir.append(Path::new("f"), b"6", 6).unwrap();
    assert!(matches!(dir.append(Path::new("f"), b"7", 6), Err(DirError::TooLarge { .. })));
    assert_eq!(dir.dir().read(Path::new("f"), 10).unwrap(), b"123456");
}

#[test]
fn a_listing_tells_kinds_is_sorted_and_bounded() {
    let (base, dir) = held();
    let inside = base.path().join("inside");
    std::fs::create_dir(inside.join("b")).unwrap();
    std::fs::write(inside.join("a"), "123").unwrap();
    symlink("a", inside.join("c")).unwrap();
    let (entries, has_more) = dir.dir().list(Path::new(""), 10).unwrap();
    let seen: Vec<_> = entries.iter().map(|e| (e.path.to_str().unwrap(), e.kind)).collect();
    assert_eq!(seen, [("a", Kind::File), ("b", Kind::Directory), ("c", Kind::Link)]);
    assert!(!has_more);
    assert!(dir.dir().list(Path::new(""), 2).unwrap().1);
    symlink("b", inside.join("d")).unwrap();
    assert!(dir.dir().list(Path::new("d"), 10).is_ok());
    assert!(dir.dir().list_no_links(Path::new("d"), 10).is_err());
}

#[test]
fn one_of_several_hard_links_is_replaced_and_the_others_keep_their_content() {
    let (base, dir) = held();
    let inside = base.path().join("inside");
    give_to_tools(File::open(base.path().join("secret")).unwrap()).unwrap();
    for name in ["a", "b"] {
        std::fs::hard_link(base.path().join("secret"), inside.join(name)).unwrap();
    }
    dir.append(Path::new("a"), b" and more", 100).unwrap();
    dir.replace(Path::new("b"), b"new").unwrap();
    assert_eq!(read(&dir, "a").unwrap(), b"outside and more");
    assert_eq!(read(&dir, "b").unwrap(), b"new");
    assert_eq!(std::fs::read(base.path().join("secret")).unwrap(), b"outside");
    // The control: a file with one name is written in place.
    let number = |name: &str| inside.join(name).metadata().unwrap().ino();
    let before = number("b");
    dir.append(Path::new("b"), b"er", 100).unwrap();
    assert_eq!((read(&dir, "b").unwrap(), number("b")), (b"newer".to_vec(), before));
}

#[test]
fn under_root_a_file_tool_may_do_what_the_tools_user_may() {
    if !rustix::process::geteuid().is_root() {
        // Whoever is not root has the tools' rights already.
        let (_base, dir) = held();
        dir.create(Path::new("mine"), b"x").unwrap();
        return;
    }
    let (base, dir) = held();
    let inside = base.path().join("inside");
    std::fs::write(inside.join("private"), "of root").unwrap();
    std::fs::set_permissions(inside.join("private"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    std::fs::create_dir(inside.join("closed")).unwrap();
    std::fs::set_permissions(inside.join("closed"), std::fs::Permissions::from_mode(0o700))
        .unwrap();
    std::fs::write(inside.join("public"), "of root").unwrap();
    let is_refused = |result: Result<(), DirError>| {
        let Err(DirError::Io { source, .. }) = result else { panic!("{result:?}") };
        assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
    };
    is_refused(read(&dir, "private").map(drop));
    is_refused(dir.append(Path::new("private"), b"x", 100));
    is_refused(dir.append(Path::new("public"), b"x", 100));
    is_refused(dir.create(Path::new("closed/new"), b"x"));
    is_refused(dir.dir().list(Path::new("closed"), 10).map(drop));
    assert_eq!(read(&dir, "public").unwrap(), b"of root");
    // What is made belongs to the tools, and afterwards the thread is root again.
    dir.create(Path::new("new/file"), b"x").unwrap();
    for made in ["new", "new/file"] {
        let found = inside.join(made).metadata().unwrap();
        assert_eq!(
            (found.uid(), found.gid()),
            (crate::sandbox::TOOL_UID, crate::sandbox::TOOL_UID)
        );
    }
    assert_eq!(std::fs::read(inside.join("private")).unwrap(), b"of root");
}
