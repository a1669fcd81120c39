//! No failpoint is in a release build.

use std::{fs, path::Path, process::Command};

use agent_runtime::runtime::failpoint::Point;

const FILE: &str = "src/runtime/failpoint.rs";

/// Compiles the facility alone. It needs nothing; what is armed needs the rest of the crate.
fn compile(debug_assertions: &str, into: &Path) -> bool {
    #[expect(clippy::disallowed_methods, reason = "the test starts the compiler")]
    let mut rustc = Command::new(option_env!("RUSTC").unwrap_or("rustc"));
    let compiled = rustc
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "rlib",
            "--crate-name",
            "failpoint",
            "--emit",
            "obj",
            "-O",
        ])
        .args(["-C", debug_assertions, "-A", "warnings", "-o"])
        .arg(into)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE))
        .output()
        .expect("the compiler starts");
    compiled.status.success()
}

fn names_in(bytes: &[u8]) -> Vec<&'static str> {
    let names = Point::ALL.iter().map(|p| p.name()).chain(["FAILPOINTS"]);
    names.filter(|n| bytes.windows(n.len()).any(|w| w == n.as_bytes())).collect()
}

fn sources(dir: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn a_release_build_holds_no_failpoint() {
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("failpoint.o");
    // With debug assertions it wants the armed half, which this compiler has no parts for; without
    // them it is whole by itself: the armed half is not in it.
    assert!(!compile("debug-assertions=on", &object));
    assert!(compile("debug-assertions=off", &object));
    assert_eq!(names_in(&fs::read(&object).unwrap()), Vec::<&str>::new());
    // The names stand nowhere else that could be compiled into it.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<String>();
        let is_armed = file.ends_with("src/runtime/failpoint/armed.rs");
        assert!(is_armed || names_in(code.as_bytes()).is_empty(), "{}", file.display());
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("debug-assertions"), "a profile changes what a release build is");
}

/// For a binary that was built somewhere else: `AGENT_RUNTIME_TEST_RELEASE=target/release/agent-runtime`.
#[test]
fn a_given_release_binary_holds_no_name_of_a_failpoint() {
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    let given = std::env::var("AGENT_RUNTIME_TEST_RELEASE").ok();
    // Without one this looks at its own program, which must hold them: the search works.
    let Some(file) = given else {
        let own = fs::read(env!("CARGO_BIN_EXE_agent-runtime")).unwrap();
        assert_eq!(names_in(&own).len(), Point::ALL.len() + 1);
        return;
    };
    assert_eq!(names_in(&fs::read(file).unwrap()), Vec::<&str>::new());
}
