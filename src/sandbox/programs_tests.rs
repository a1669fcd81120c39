//! On a made-up root directory, and on the real one.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const SEARCH: &str = "/usr/local/bin:/usr/bin";

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, path: &str, content: &str, mode: u32) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn needs(&self, names: &[&str]) -> Needs {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        resolve_below(self.0.path(), &names, SEARCH)
    }
}

fn texts<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Vec<&'p str> {
    paths.into_iter().map(|p| p.to_str().unwrap()).collect()
}

#[test]
fn a_name_is_followed_over_every_link_to_its_file() {
    let root = Root::new();
    root.file("/usr/bin/python3.11", "", 0o755);
    root.link("/usr/bin/python3", "python3.11");
    root.link("/usr/bin/python", "/etc/alternatives/python");
    root.link("/etc/alternatives/python", "/bin/python3");
    root.link("/bin", "usr/bin");
    let needs = root.needs(&["python"]);
    assert_eq!(texts(&needs.files), ["/usr/bin/python3.11"]);
    // Only links that covering would take away; the others stay where they are.
    assert_eq!(texts(needs.links.keys()), ["/usr/bin/python", "/usr/bin/python3"]);
    assert_eq!(root.needs(&["/bin/python3"]).files, needs.files);
}

#[test]
fn a_script_brings_its_interpreters() {
    let root = Root::new();
    root.file("/usr/bin/env", "", 0o755);
    root.file("/usr/bin/node", "", 0o755);
    root.file("/usr/bin/sh", "", 0o755);
    root.file("/usr/bin/other", "", 0o755);
    root.file("/usr/bin/plain", "#! /usr/bin/sh -e\n", 0o755);
    root.file("/usr/bin/outer", "#!/usr/bin/plain\n", 0o755);
    root.file("/usr/lib/npm/cli.js", "#!/usr/bin/env -S X=y node --flag\nother", 0o755);
    root.link("/usr/bin/npm", "../lib/npm/cli.js");
    root.file("/usr/bin/loop", "#!/usr/bin/loop\n", 0o755);
    assert_eq!(texts(&root.needs(&["plain"]).files), ["/usr/bin/plain", "/usr/bin/sh"]);
    let outer = ["/usr/bin/outer", "/usr/bin/plain", "/usr/bin/sh"];
    assert_eq!(texts(&root.needs(&["outer"]).files), outer);
    let npm = ["/usr/bin/env", "/usr/bin/node", "/usr/bin/sh", "/usr/lib/npm/cli.js"];
    assert_eq!(texts(&root.needs(&["npm"]).files), npm);
    assert_eq!(texts(&root.needs(&["loop"]).files), ["/usr/bin/loop"]);
}

#[test]
fn what_is_no_program_needs_nothing() {
    let root = Root::new();
    root.file("/usr/bin/data", "", 0o644);
    root.link("/usr/bin/dangling", "nowhere");
    root.link("/usr/bin/around", "around");
    root.link("/usr/bin/directory", "/usr");
    root.file("/usr/bin/sub/x", "", 0o755);
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        root.0.path().join("usr/bin/fifo"),
        rustix::fs::Mode::from_raw_mode(0o777),
    )
    .unwrap();
    for name in
        ["", "missing", "data", "dangling", "around", "directory", "fifo", "sub/x", "./x", "*"]
    {
        assert_eq!(root.needs(&[name]), Needs::default(), "{name}");
    }
}

#[test]
fn the_first_of_a_name_on_the_search_path_is_meant() {
    let root = Root::new();
    root.file("/usr/local/bin/git", "", 0o755);
    root.file("/usr/bin/git", "", 0o755);
    root.file("/usr/local/libexec/git-core/git-x", "", 0o755);
    root.file("/usr/lib/git-core/git-x", "", 0o755);
    let needs = root.needs(&["git"]);
    assert_eq!(texts(&needs.files), ["/usr/local/bin/git"]);
    assert_eq!(texts(&needs.trees), ["/usr/local/libexec/git-core"]);
}

#[test]
fn a_family_brings_its_helpers_and_nothing_else() {
    let root = Root::new();
    for name in ["gcc-12", "as", "ld", "ls", "python3"] {
        root.file(&format!("/usr/bin/{name}"), "", 0o755);
    }
    root.file("/usr/lib/gcc/cc1", "", 0o755);
    root.link("/usr/bin/gcc", "gcc-12");
    for name in ["gcc", "gcc-12"] {
        let needs = root.needs(&[name]);
        assert_eq!(texts(&needs.files), ["/usr/bin/as", "/usr/bin/gcc-12", "/usr/bin/ld"]);
        assert_eq!(texts(&needs.trees), ["/usr/lib/gcc"]);
    }
    assert_eq!(texts(&root.needs(&["python3"]).files), ["/usr/bin/python3"]);
    // A toolchain elsewhere brings its own.
    for name in ["cargo", "rustc"] {
        root.file(&format!("/opt/rust/bin/{name}"), "", 0o755);
    }
    root.file("/opt/rust/lib/rustlib/x", "", 0o644);
    let needs = root.needs(&["/opt/rust/bin/cargo"]);
    assert_eq!(texts(&needs.files), ["/opt/rust/bin/cargo", "/opt/rust/bin/rustc"]);
    assert_eq!(texts(&needs.trees), ["/opt/rust/lib/rustlib"]);
}

#[test]
fn an_elf_program_brings_its_loader() {
    let needs = resolve(&["env".to_owned()], "/usr/bin:/bin");
    assert_eq!(needs.files.len(), 2, "{needs:?}");
    let is_loader = |p: &&PathBuf| p.file_name().is_some_and(|n| n.as_bytes().starts_with(b"ld-"));
    assert_eq!(needs.files.iter().filter(is_loader).count(), 1, "{needs:?}");
}
