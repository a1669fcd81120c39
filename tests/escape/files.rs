//! Files outside, the daemon's own, and trees that may only be read.

use std::{fs, os::unix::fs::MetadataExt};

use crate::{
    case::{Case, case},
    room::Seen,
    world::{SECRET, World, fill, open_up},
};

fn changed(name: &'static str) -> impl Fn(&World, &Seen) -> bool {
    move |world, _| fs::read_to_string(world.path(name)).map_or(true, |text| text != SECRET)
}

fn refill(name: &'static str) -> impl Fn(&World) {
    move |world| world.fill(name)
}

/// As [`refill`], and the file is the tools' own: only its owner may change a mode or a time.
fn own(name: &'static str) -> impl Fn(&World) {
    move |world| {
        world.fill(name);
        let uid = Some(world.user().tool_uid());
        std::os::unix::fs::chown(world.path(name), uid, uid).unwrap();
    }
}

fn appears(name: &'static str) -> impl Fn(&World, &Seen) -> bool {
    move |world, _| world.path(name).symlink_metadata().is_ok()
}

fn vanish(name: &'static str) -> impl Fn(&World) {
    move |world| drop(fs::remove_file(world.path(name)))
}

/// Landlock has no right for it (landlock(7): "the following file-related actions cannot be
/// restricted").
const NO_RIGHT: &str = "Landlock does not restrict chmod, utime, stat";

/// Every attempt on files.
pub(crate) fn cases(world: &World) -> Vec<Case> {
    world.fill("file");
    let file = world.at("file");
    let file = file.as_str();
    let by_root = format!("/proc/self/root{file}");
    let by_pid_1 = format!("/proc/1/root{file}");
    let victims_root = format!("/proc/{}/root{file}", world.victim());
    let library = world.path("library");
    drop(fs::create_dir(&library));
    open_up(&library);
    fill(&library.join("book"));
    let book = world.at("library/book");
    let usr = format!("/usr/agent-runtime-escape-{}", std::process::id());
    let usr_seen = usr.clone();
    let usr_gone = usr.clone();
    vec![
        case("read a file outside", &["read", file]).if_leaks(),
        case("read through a symbolic link", &["symlink-read", file, "link"]).if_leaks(),
        case("read by many ..", &["dotdot-read", file]).if_leaks(),
        case("read by /proc/self/root", &["read", &by_root]).if_leaks(),
        case("read by /proc/1/root", &["read", &by_pid_1])
            .unconfined(&["read", &by_root])
            .if_leaks(),
        case("read by another process's root", &["read", &victims_root]).if_leaks(),
        case("read by a program in a memfd", &["memfd-read", file]).if_leaks(),
        case("read the host's accounts", &["read", "/etc/shadow"]),
        case("read the machine's table of mounts", &["read", "/etc/fstab"]),
        case("write a file outside", &["write", file])
            .if_seen(changed("file"))
            .reset(refill("file")),
        case("delete a file outside", &["unlink", file])
            .if_seen(changed("file"))
            .reset(refill("file")),
        case("change a mode outside", &["chmod", file])
            .if_seen(|world, _| {
                world.path("file").metadata().is_ok_and(|m| m.mode() & 0o777 == 0o777)
            })
            .reset(own("file"))
            .remains_at_landlock(NO_RIGHT),
        case("change times outside", &["utime", file])
            .if_seen(|world, _| world.path("file").metadata().is_ok_and(|m| m.mtime() == 1))
            .reset(own("file"))
            .remains_at_landlock(NO_RIGHT),
        case("see that a file outside exists", &["stat", file]).remains_at_landlock(NO_RIGHT),
        case("create a file outside", &["create", &world.at("made")])
            .if_seen(appears("made"))
            .reset(vanish("made")),
        case("hard-link a file into the workspace", &["link", file, "hard-link"])
            .if_seen(|world, _| world.path("file").metadata().is_ok_and(|m| m.nlink() > 1))
            .reset(|world| {
                drop(fs::remove_file(world.path("hard-link")));
                world.fill("file");
            }),
        case("move a file out", &["move-out", "mine", &world.at("moved")])
            .if_seen(appears("moved"))
            .reset(vanish("moved")),
        case("write to /usr", &["create", &usr])
            .if_seen(move |_, _| fs::exists(&usr_seen).unwrap())
            .reset(move |_| drop(fs::remove_file(&usr_gone))),
        case("write to /proc/sys", &["rewrite-sysctl", "/proc/sys/vm/swappiness"]),
        case("make a device node", &["mknod", "node"])
            .reset(|world| drop(fs::remove_file(world.path("node")))),
        case("open a file by its handle", &["handle"]),
        case("write in a tree to read", &["write", &book])
            .by("reader2")
            .if_seen(changed("library/book"))
            .reset(refill("library/book")),
        case("create in a tree to read", &["create", &world.at("library/new")])
            .by("reader2")
            .if_seen(appears("library/new"))
            .reset(vanish("library/new")),
        case("delete in a tree to read", &["unlink", &book])
            .by("reader2")
            .if_seen(changed("library/book"))
            .reset(refill("library/book")),
    ]
}
