//! Our own sandbox inside a hardened container: the shipped seccomp profile is what it takes.

use std::path::Path;

use crate::lab::{IMAGE, docker};

/// Runs `doctor` in a container as docs/SANDBOX.md describes it; what it says.
fn doctor(security: &[&str]) -> String {
    let binary = format!("{}:/usr/local/bin/agent-runtime:ro", env!("CARGO_BIN_EXE_agent-runtime"));
    let mut args = vec![
        "run",
        "--rm",
        "--user",
        "10001:10001",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--network",
        "none",
        "--tmpfs",
        "/data:uid=10001,gid=10001,mode=0700",
        "--tmpfs",
        "/tmp",
        "--volume",
        &binary,
    ];
    for option in security {
        args.extend(["--security-opt", option]);
    }
    args.extend([IMAGE, "agent-runtime", "--data-dir", "/data", "doctor"]);
    let ran = docker(&args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&ran.stdout) + &text(&ran.stderr)
}

fn profile() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/seccomp/agent-runtime.json");
    format!("seccomp={}", file.display())
}

#[test]
fn the_shipped_profile_gives_full_noproc_and_with_an_unmasked_proc_full() {
    let said = doctor(&[&profile()]);
    assert!(said.contains("level full-noproc"), "{said}");
    let said = doctor(&[&profile(), "systempaths=unconfined"]);
    assert!(said.contains("level full:"), "{said}");
}

#[test]
fn the_engines_own_profile_gives_no_level_and_the_reason() {
    let said = doctor(&[]);
    assert!(said.contains("level none") && said.contains("new namespaces"), "{said}");
}
