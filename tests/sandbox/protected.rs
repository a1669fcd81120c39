//! `.git/hooks` and `.agent-runtime` of a workspace are read and never changed, by anybody.

use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::Path,
};

use agent_runtime::{
    domain::{Access, Grant, ToolStatus},
    sandbox::{self, SandboxError},
};
use serde_json::json;

use crate::{
    attempt::is_root,
    support::{Lab, allow, good, job, text},
    tool_calls::Bench,
};

/// What must stay as it is: who the protected directories are, and what they hold.
fn state(workspace: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in [".git", ".git/hooks", ".agent-runtime"] {
        let path = workspace.join(name);
        let Ok(meta) = path.symlink_metadata() else {
            found.push(format!("{name} is gone"));
            continue;
        };
        let kind = (meta.is_dir(), meta.mode() & 0o7777);
        found.push(format!("{name} {} {kind:?}", meta.ino()));
        if name == ".git" {
            continue;
        }
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            let content = std::fs::read_to_string(entry.path()).unwrap_or_default();
            found.push(format!("{} {content:?}", entry.path().display()));
        }
    }
    found
}

/// A workspace with everything that a tool could want to change, and the tools' own.
fn furnish(workspace: &Path) {
    for name in [".git", ".git/hooks", ".agent-runtime"] {
        let path = workspace.join(name);
        if !path.exists() {
            std::fs::create_dir(&path).unwrap();
        }
        give(&path);
    }
    for name in [".git/hooks/old", ".agent-runtime/old"] {
        std::fs::write(workspace.join(name), "old").unwrap();
        std::fs::set_permissions(workspace.join(name), PermissionsExt::from_mode(0o666)).unwrap();
        give(&workspace.join(name));
    }
}

fn give(path: &Path) {
    sandbox::give_to_tools(std::fs::File::open(path).unwrap()).unwrap();
}

/// Scripts that change something protected where nothing protects it.
const ATTACKS: [&str; 20] = [
    "echo x > .git/hooks/pre-commit",
    "echo x >> .git/hooks/old",
    "rm .git/hooks/old",
    "mv .git/hooks/old .git/old",
    "mkdir .git/hooks/d",
    "ln -s /tmp .git/hooks/l",
    "chmod 700 .git/hooks",
    "mv .git x && mkdir -p .git/hooks && echo x > .git/hooks/pre-commit",
    "mv .git/hooks .git/h; mkdir .git/hooks; echo x > .git/hooks/pre-commit",
    "rm -rf .git; mkdir -p .git/hooks && echo x > .git/hooks/pre-commit",
    "rm -rf .git; ln -s elsewhere .git",
    "mkdir n && mv -T --exchange n .git || mv .git y",
    "ln -s .git/hooks l && echo x > l/pre-commit",
    "ln .git/hooks/old hard && echo x >> hard",
    "cd /proc/self/cwd/.git/hooks && echo x > pre-commit",
    "echo x > .agent-runtime/x",
    "echo x > .agent-runtime/old",
    "mv .agent-runtime y; mkdir .agent-runtime; echo x > .agent-runtime/x",
    "rm -rf .agent-runtime; ln -s /tmp .agent-runtime",
    "chmod 777 .agent-runtime",
];

#[tokio::test]
async fn a_process_changes_no_protected_name_whatever_it_moves() {
    let lab = Lab::new().await;
    for script in ATTACKS {
        let workspace = lab.base.path().join(format!("data/workspaces/{}", number()));
        sandbox::prepare_workspace(&workspace).unwrap();
        furnish(&workspace);
        let before = state(&workspace);
        let grant = Grant { workspace: workspace.clone(), ..lab.grant() };
        let outcome = lab.run_job(job(grant, &["/bin/sh", "-c", script])).await.unwrap();
        assert_eq!(state(&workspace), before, "{script}: {}", text(&outcome));
        // The control: the same where nothing protects.
        let free = lab.base.path().join(format!("free-{}", number()));
        sandbox::prepare_workspace(&free).unwrap();
        furnish(&free);
        let before = state(&free);
        unconfined(&free, script);
        assert_ne!(state(&free), before, "{script} proves nothing");
    }
}

fn number() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn unconfined(directory: &Path, script: &str) {
    for above in directory.ancestors().skip(1).take(1) {
        std::fs::set_permissions(above, PermissionsExt::from_mode(0o755)).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "the control runs without the sandbox")]
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", script]).current_dir(directory).stderr(std::process::Stdio::null());
    if is_root() {
        command.uid(sandbox::TOOL_UID).gid(sandbox::TOOL_UID);
    }
    command.status().unwrap();
}

#[tokio::test]
async fn they_are_protected_before_they_exist() {
    let lab = Lab::new().await;
    assert!(!lab.workspace.join(".git").exists());
    let script = "mkdir -p .git/hooks .agent-runtime; echo x > .git/hooks/pre-commit; \
                  echo x > .agent-runtime/x; ls -A .git/hooks .agent-runtime";
    let outcome = lab.sh(script).await;
    assert!(!text(&outcome).contains("pre-commit\n"), "{}", text(&outcome));
    assert!(!lab.workspace.join(".git/hooks/pre-commit").exists());
    assert!(!lab.workspace.join(".agent-runtime/x").exists());
}

#[tokio::test]
async fn git_works_in_a_workspace() {
    let lab = Lab::new().await;
    let script = "set -e; git init -q; git config user.email a@b; git config user.name n; \
                  echo x > f; git add f; git commit -qm one; git checkout -q -b other; \
                  git clone -q . sub; git clone -q --no-local . far; git -C sub log --format=%s; \
                  git gc -q; git worktree add -q tree -b third; git mv f g; git commit -qm two; \
                  git stash list; git status --short; git log --format=%s | cat";
    let output = good(lab.sh(script).await);
    assert!(output.starts_with("one\n") && output.ends_with("two\none\n"), "{output}");
    // A repository that was there before, with hooks of its person.
    let hook = lab.workspace.join(".git/hooks/pre-commit");
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    let output = good(lab.sh("git commit -q --allow-empty -m three; git log --format=%s -1").await);
    assert!(output.ends_with("three\n"), "hooks are not executed in the sandbox: {output}");
}

#[tokio::test]
async fn a_link_in_their_place_refuses_the_call_and_says_why() {
    let bench = Bench::new().await;
    let lab = &bench.lab;
    let elsewhere = lab.base.path().join("elsewhere");
    std::fs::create_dir_all(elsewhere.join("hooks")).unwrap();
    let ws = &lab.workspace;
    for name in [".git", ".agent-runtime", ".git/hooks"] {
        let path = ws.join(name);
        if name == ".git/hooks" {
            std::fs::create_dir_all(ws.join(".git")).unwrap();
        }
        drop(std::fs::remove_dir_all(&path));
        symlink(&elsewhere, &path).unwrap();
        let refused = lab.run_job(lab.job(&["true"])).await;
        assert!(matches!(refused, Err(SandboxError::Protected(_))), "{name}: {refused:?}");
        let write = json!({"path": "f", "content": "x", "mode": "overwrite"});
        let outcome = bench.call("write_file", write.clone()).await;
        assert_eq!(outcome.status, ToolStatus::Error);
        assert!(outcome.output.contains("not a link"), "{name}: {}", outcome.output);
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1, "nothing was made there");
        std::fs::remove_file(&path).unwrap();
        good(lab.run_job(lab.job(&["true"])).await.unwrap());
        assert_eq!(bench.call("write_file", write).await.status, ToolStatus::Ok);
    }
}

#[tokio::test]
async fn a_repository_that_lies_elsewhere_is_pointed_at_by_nobody_else() {
    let lab = Lab::new().await;
    std::fs::write(lab.workspace.join(".git"), "gitdir: /elsewhere\n").unwrap();
    give(&lab.workspace.join(".git"));
    lab.sh("echo evil > .git; mv .git x; rm -f .git; echo evil > .git").await;
    let content = std::fs::read_to_string(lab.workspace.join(".git")).unwrap();
    assert_eq!(content, "gitdir: /elsewhere\n");
}

#[tokio::test]
async fn a_file_tool_changes_no_protected_name_whatever_leads_there() {
    let bench = Bench::new().await;
    let lab = &bench.lab;
    let ws = lab.workspace.clone();
    furnish(&ws);
    // An allowed tree that holds the workspace, and one inside of it.
    let outer = lab.base.path().join("outer");
    let inner = outer.join("inner");
    for path in [&outer, &inner] {
        sandbox::prepare_workspace(path).unwrap();
    }
    furnish(&inner);
    symlink(".git/hooks", ws.join("link")).unwrap();
    symlink(".git", ws.join("git")).unwrap();
    symlink(".git/hooks/old", ws.join("file")).unwrap();
    symlink(".agent-runtime/new", ws.join("dangling")).unwrap();
    symlink("inner/.git", outer.join("around")).unwrap();
    std::fs::hard_link(ws.join(".git/hooks/old"), ws.join("hard")).unwrap();
    std::fs::hard_link(ws.join(".git/hooks/old"), ws.join("hard2")).unwrap();
    let own = || lab.grant();
    let around = || Grant {
        workspace: inner.clone(),
        paths: vec![allow(&outer, Access::Rw)],
        ..lab.grant()
    };
    let beneath =
        || Grant { paths: vec![allow(&ws.join(".git/hooks"), Access::Rw)], ..lab.grant() };
    let at = |path: &Path| path.to_str().unwrap().to_owned();
    let cases: Vec<(Grant, String)> = vec![
        (own(), ".git/hooks/new".to_owned()),
        (own(), ".git/hooks/old".to_owned()),
        (own(), "./.git//hooks/./old".to_owned()),
        (own(), ".git/../.git/hooks/new".to_owned()),
        (own(), ".git/hooks/deep/er/new".to_owned()),
        (own(), ".git/hooks".to_owned()),
        (own(), ".git".to_owned()),
        (own(), ".agent-runtime".to_owned()),
        (own(), ".agent-runtime/new".to_owned()),
        (own(), "link/new".to_owned()),
        (own(), "link/old".to_owned()),
        (own(), "git/hooks/new".to_owned()),
        (own(), at(&ws.join(".git/hooks/new"))),
        (around(), ".git/hooks/new".to_owned()),
        (around(), at(&outer.join("inner/.git/hooks/new"))),
        (around(), at(&outer.join("around/hooks/new"))),
        (beneath(), at(&ws.join(".git/hooks/new"))),
    ];
    let states = || (state(&ws), state(&inner));
    let before = states();
    for (grant, path) in &cases {
        for mode in ["create", "overwrite", "append"] {
            let args = json!({"path": path, "content": "x", "mode": mode});
            let outcome = bench.call_as(grant.clone(), "write_file", args).await;
            assert_eq!(outcome.status, ToolStatus::Error, "{mode} {path}: {outcome:?}");
            assert_eq!(states(), before, "{mode} {path}: {outcome:?}");
        }
        let args = json!({"path": path, "old": "old", "new": "changed"});
        let outcome = bench.call_as(grant.clone(), "edit_file", args).await;
        assert_eq!(outcome.status, ToolStatus::Error, "edit {path}: {outcome:?}");
        assert_eq!(states(), before, "edit {path}: {outcome:?}");
    }
    // Names outside that share a file with one inside: they get a content of their own.
    for (path, mode) in
        [("hard", "append"), ("hard2", "overwrite"), ("file", "append"), ("dangling", "overwrite")]
    {
        let args = json!({"path": path, "content": "x", "mode": mode});
        let outcome = bench.call("write_file", args).await;
        assert_eq!(outcome.status, ToolStatus::Ok, "{path}: {outcome:?}");
        assert_eq!(states(), before, "{path}");
    }
    // The control: beside them everything is written.
    for path in [".git/new", ".git/deep/new", "git/info/x", "hooks/x", "sub/.agent-runtime/x"] {
        let args = json!({"path": path, "content": "x", "mode": "create"});
        assert_eq!(bench.call("write_file", args).await.status, ToolStatus::Ok, "{path}");
    }
}

#[tokio::test]
async fn a_process_cannot_link_a_file_of_a_read_only_tree_into_the_workspace() {
    let lab = Lab::new().await;
    let tree = lab.base.path().join("data/library");
    std::fs::create_dir(&tree).unwrap();
    let file = tree.join("book");
    std::fs::write(&file, "old").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    give(&file);
    let link = format!("ln {} here && echo x >> here", file.display());
    let grant = |access| Grant { paths: vec![allow(&tree, access)], ..lab.grant() };
    for access in [Access::Ro, Access::Rw] {
        lab.run_job(job(grant(access), &["/bin/sh", "-c", &link])).await.unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 1, "{access:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    }
    // The control: both lie on one file system, where a link can be made.
    std::fs::hard_link(&file, lab.workspace.join("here")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 2);
}
