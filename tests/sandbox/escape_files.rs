//! Attempts on files outside: read, change, link, rename, and the daemon's own.

use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
};

use agent_runtime::{domain::Access, sandbox};

use crate::{
    attempt::{Attempt, Seen, attempt, judge},
    support::{Lab, allow, job},
};

const SECRET: &str = "the-secret-outside";

fn leaks(seen: &Seen) -> bool {
    seen.output.contains(SECRET)
}

/// A file outside that every user of the machine may read and write, so that only the sandbox
/// stands in the way.
fn outside(lab: &Lab, name: &str) -> PathBuf {
    let path = lab.base.path().join(name);
    open_up(lab.base.path());
    fill(&path);
    path
}

fn fill(path: &Path) {
    std::fs::write(path, SECRET).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
}

fn open_up(directory: &Path) {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).unwrap();
}

fn changed(path: &Path) -> impl Fn(&Seen) -> bool + 'static {
    let path = path.to_owned();
    move |_| std::fs::read_to_string(&path).map_or(true, |text| text != SECRET)
}

fn refill(path: &Path) -> impl Fn() + 'static {
    let path = path.to_owned();
    move || fill(&path)
}

fn appears(path: &Path) -> impl Fn(&Seen) -> bool + 'static {
    let path = path.to_owned();
    move |_| path.symlink_metadata().is_ok()
}

fn remove(path: &Path) -> impl Fn() + 'static {
    let path = path.to_owned();
    move || drop(std::fs::remove_file(&path))
}

#[tokio::test]
async fn files_outside_are_neither_read_nor_changed() {
    let lab = Lab::new().await;
    let file = outside(&lab, "outside.txt");
    let created = lab.base.path().join("created");
    let usr = PathBuf::from(format!("/usr/agent-runtime-escape-{}", std::process::id()));
    let link = lab.workspace.join("hard-link");
    let mine = lab.workspace.join("mine");
    let moved = lab.base.path().join("moved");
    let root_path = |prefix: &str| format!("{prefix}{}", file.display());
    let is_linked = {
        let file = file.clone();
        move |_: &Seen| file.metadata().unwrap().nlink() > 1
    };
    let make_mine = {
        let (mine, moved) = (mine.clone(), moved.clone());
        move || {
            std::fs::write(&mine, "mine").unwrap();
            sandbox::give_to_tools(std::fs::File::open(&mine).unwrap()).unwrap();
            drop(std::fs::remove_file(&moved));
        }
    };
    let attempts: Vec<Attempt> = vec![
        attempt("read a file outside", &[&"read", &file]).if_seen(leaks),
        attempt(
            "read through a symbolic link",
            &[&"symlink-read", &file, &lab.workspace.join("l")],
        )
        .if_seen(leaks),
        attempt("read by many ..", &[&"dotdot-read", &file]).if_seen(leaks),
        attempt("read by /proc/self/root", &[&"read", &root_path("/proc/self/root")])
            .if_seen(leaks),
        attempt("read by /proc/1/root", &[&"read", &root_path("/proc/1/root")])
            .unconfined(&[&"read", &root_path("/proc/self/root")])
            .if_seen(leaks),
        attempt("read by /proc/1/cwd", &[&"read", &"/proc/1/cwd/outside.txt"])
            .unconfined(&[&"read", &"/proc/self/cwd/outside.txt"])
            .if_seen(leaks),
        attempt("read from a program in a memfd", &[&"memfd-read", &file]).if_seen(leaks),
        attempt("read the host's fstab", &[&"read", &"/etc/fstab"]),
        attempt("write a file outside", &[&"write", &file])
            .if_seen(changed(&file))
            .after(refill(&file)),
        attempt("delete a file outside", &[&"unlink", &file])
            .if_seen(changed(&file))
            .after(refill(&file)),
        attempt("change a mode outside", &[&"chmod", &file])
            .if_seen({
                let file = file.clone();
                move |_| file.metadata().unwrap().mode() & 0o777 == 0o777
            })
            .after(refill(&file)),
        attempt("change times outside", &[&"utime", &file])
            .if_seen({
                let file = file.clone();
                move |_| file.metadata().unwrap().mtime() == 1
            })
            .after(refill(&file)),
        attempt("create a file outside", &[&"create", &created])
            .if_seen(appears(&created))
            .after(remove(&created)),
        attempt("hard-link a file into the workspace", &[&"link", &file, &link])
            .if_seen(is_linked)
            .after(remove(&link)),
        attempt("move a file out of the workspace", &[&"rename", &mine, &moved])
            .if_seen(appears(&moved))
            .after(make_mine),
        attempt("write to /usr", &[&"create", &usr])
            .if_seen(appears(&usr))
            .after(remove(&usr))
            .needs_root(),
        attempt("write to /proc/sys", &[&"rewrite-sysctl", &"/proc/sys/vm/swappiness"])
            .needs_root(),
        attempt("make a device node", &[&"mknod", &lab.workspace.join("null")])
            .if_seen(appears(&lab.workspace.join("null")))
            .after(remove(&lab.workspace.join("null")))
            .needs_root(),
        attempt("open a file by its handle", &[&"handle"]).needs_root(),
    ];
    assert_eq!(attempts.len(), 19);
    judge(&lab, attempts).await;
}

#[tokio::test]
async fn the_daemons_data_and_other_agents_are_out_of_reach() {
    let lab = Lab::new().await;
    open_up(lab.base.path());
    let data = lab.base.path().join("data");
    open_up(&data);
    let lock = data.join("tools.lock");
    std::fs::set_permissions(&lock, PermissionsExt::from_mode(0o666)).unwrap();
    let other = data.join("workspaces/two");
    sandbox::prepare_workspace(&other).unwrap();
    open_up(&other);
    let theirs = other.join("notes");
    fill(&theirs);
    let store = data.join("runtime.db");
    fill(&store);
    let attempts = vec![
        attempt("read the store", &[&"read", &store]).if_seen(leaks),
        attempt("write the store", &[&"write", &store])
            .if_seen(changed(&store))
            .after(refill(&store)),
        attempt("delete tools.lock", &[&"unlink", &lock])
            .if_seen({
                let lock = lock.clone();
                move |_| !lock.exists()
            })
            .after({
                let lock = lock.clone();
                move || drop(std::fs::OpenOptions::new().append(true).create(true).open(&lock))
            }),
        attempt("read another agent's workspace", &[&"read", &theirs]).if_seen(leaks),
        attempt("write another agent's workspace", &[&"write", &theirs])
            .if_seen(changed(&theirs))
            .after(refill(&theirs)),
        attempt("reach it from one's own", &[&"read", &lab.workspace.join("../two/notes")])
            .if_seen(leaks),
    ];
    judge(&lab, attempts).await;
}

#[tokio::test]
async fn a_tree_to_read_is_not_written() {
    let lab = Lab::new().await;
    let tree = lab.base.path().join("library");
    std::fs::create_dir(&tree).unwrap();
    open_up(&tree);
    let file = tree.join("book");
    fill(&file);
    let new = tree.join("new");
    let grant = || {
        let mut grant = lab.grant();
        grant.paths = vec![allow(&tree, Access::Ro)];
        grant
    };
    let attempts = vec![
        attempt("write in a read-only tree", &[&"write", &file])
            .if_seen(changed(&file))
            .after(refill(&file))
            .under(grant()),
        attempt("create in a read-only tree", &[&"create", &new])
            .if_seen(appears(&new))
            .after(remove(&new))
            .under(grant()),
        attempt("delete in a read-only tree", &[&"unlink", &file])
            .if_seen(changed(&file))
            .after(refill(&file))
            .under(grant()),
        attempt("change a mode in a read-only tree", &[&"chmod", &file])
            .if_seen({
                let file = file.clone();
                move |_| file.metadata().is_ok_and(|m| m.mode() & 0o777 == 0o777)
            })
            .after(refill(&file))
            .under(grant()),
    ];
    judge(&lab, attempts).await;
}

#[tokio::test]
async fn a_program_with_the_setuid_bit_gains_nothing() {
    if !crate::attempt::is_root() {
        // Only root can make one that belongs to somebody else.
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(std::os::unix::fs::chown(file.path(), Some(0), None).is_err());
        return;
    }
    let lab = Lab::new().await;
    open_up(lab.base.path());
    let tree = lab.base.path().join("bin");
    std::fs::create_dir(&tree).unwrap();
    open_up(&tree);
    let mut grant = lab.grant();
    grant.paths = vec![allow(&tree, Access::Ro)];
    let program = tree.join("whoami");
    std::fs::copy("/usr/bin/id", &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    let path = program.to_str().unwrap();
    let inside = lab.run_job(job(grant, &[path, "-u"])).await.unwrap();
    assert_eq!(crate::support::text(&inside).trim(), sandbox::TOOL_UID.to_string());
    #[expect(clippy::disallowed_methods, reason = "the control runs without the sandbox")]
    let free = std::process::Command::new(path)
        .arg("-u")
        .uid(sandbox::TOOL_UID)
        .gid(sandbox::TOOL_UID)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&free.stdout).trim(), "0", "the control proves nothing");
}

#[tokio::test]
async fn tmp_belongs_to_one_call() {
    let lab = Lab::new().await;
    let name = format!("/tmp/agent-runtime-{}", std::process::id());
    let writer =
        format!("echo {SECRET} > {name}; touch ready; while ! test -e read; do sleep 0.01; done");
    let reader =
        format!("while ! test -e ready; do sleep 0.01; done; cat {name}; touch read; ls /tmp");
    let (wrote, read) = tokio::join!(lab.sh(&writer), lab.sh(&reader));
    assert_eq!(wrote.end, sandbox::End::Exited(0));
    assert!(!crate::support::text(&read).contains(SECRET), "{read:?}");
    assert!(!Path::new(&name).exists(), "it is not the host's /tmp either");
    // A later call finds nothing of an earlier one; the control is the workspace, which stays.
    let left = crate::support::good(lab.sh("ls -A /tmp /dev/shm /var/tmp; ls ready").await);
    assert!(left.contains("ready") && !left.contains("agent-runtime-"), "{left}");
}
