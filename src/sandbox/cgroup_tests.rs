use std::{
    process::{Child, Stdio},
    thread::sleep,
};

use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn our_own_group_is_found_below_whatever_mount_shows_it() {
    let mount = |root: &str, at: &str, kind: &str| {
        format!("35 24 0:30 {root} {at} rw,nosuid shared:9 - {kind} {kind} rw,nsdelegate\n")
    };
    let tmpfs = mount("/", "/tmp", "tmpfs");
    let v1 = mount("/", "/sys/fs/cgroup/memory", "cgroup");
    let plain = format!("{tmpfs}{v1}{}", mount("/", "/sys/fs/cgroup", "cgroup2"));
    let found = own_group("0::/system.slice/a b.service\n", &plain);
    assert_eq!(found, Some("/sys/fs/cgroup/system.slice/a b.service".into()));
    let hybrid = "4:memory:/x\n0::/y\n";
    let unified = mount("/", "/sys/fs/cgroup/unified", "cgroup2");
    assert_eq!(own_group(hybrid, &unified), Some("/sys/fs/cgroup/unified/y".into()));
    // A bind mount of a part, at a path with a space.
    let part = mount("/user.slice", "/mnt/my\\040groups", "cgroup2");
    assert_eq!(own_group("0::/user.slice/u", &part), Some("/mnt/my groups/u".into()));
    assert_eq!(own_group("0::/other", &part), None, "this mount does not show it");
    assert_eq!(own_group("0::/../outside", &unified), None, "above our namespace");
    assert_eq!(own_group("4:memory:/x\n", &unified), None, "version 1 only");
    assert_eq!(own_group("0::/y\n", &v1), None, "not mounted");
}

#[test]
fn nothing_is_taken_that_is_not_ours_alone_or_has_no_memory_controller() {
    assert_eq!(
        wanted("cpuset cpu io memory hugetlb pids\n").as_deref(),
        Some("+memory +pids +cpu")
    );
    assert_eq!(wanted("memory\n").as_deref(), Some("+memory"));
    assert_eq!(wanted("cpu pids\n"), None);
    assert_eq!(wanted(""), None);
    assert_eq!(stranger("10\n", 10), None);
    assert_eq!(stranger("", 11), None);
    assert_eq!(stranger("10\n12\n", 10), Some(12));
    let tree = Tree::new();
    tree.file("cgroup.procs", "1\n");
    assert!(matches!(Groups::take_at(tree.path(), TOOLS), Err(NotDelegated::Shared(1))));
    let tree = Tree::new();
    tree.file("cgroup.controllers", "cpu pids\n");
    assert!(matches!(Groups::take_at(tree.path(), TOOLS), Err(NotDelegated::NoMemory)));
    let tree = Tree::new();
    fs::remove_file(tree.path().join("cgroup.events")).unwrap();
    assert!(matches!(Groups::take_at(tree.path(), TOOLS), Err(NotDelegated::Root)));
    let tree = Tree::new();
    fs::remove_file(tree.path().join("daemon/cgroup.procs")).unwrap();
    assert!(matches!(Groups::take_at(tree.path(), TOOLS), Err(NotDelegated::File { .. })));
}

#[test]
fn a_delegated_group_is_divided_and_a_call_is_bounded() {
    let tree = Tree::new();
    // Started again from within the leaf of an older daemon, which is the same service.
    for start in [tree.path().to_owned(), tree.path().join(DAEMON)] {
        let groups = Groups::take_at(&start, TOOLS).unwrap();
        let own = std::process::id();
        assert_eq!(tree.content("daemon/cgroup.procs"), own.to_string());
        assert_eq!(tree.content("cgroup.subtree_control"), "+memory +pids +cpu");
        assert_eq!(tree.content("tools/cgroup.subtree_control"), "+memory +pids +cpu");
        assert_eq!(tree.content("tools/cpu.weight"), "10");
        assert_eq!(*groups.tools, tree.path().join("tools"));
        for file in [
            "daemon/cgroup.procs",
            "cgroup.subtree_control",
            "tools/cgroup.subtree_control",
            "tools/cpu.weight",
        ] {
            tree.file(file, "");
        }
    }
    let limits =
        ToolLimits { memory_total_bytes: 100 * MIB, processes: 30, ..ToolLimits::default() };
    let expected = [
        ("memory.max", (70 * MIB).to_string()),
        ("memory.swap.max", "0".to_owned()),
        ("memory.oom.group", "1".to_owned()),
        ("pids.max", "31".to_owned()),
    ];
    assert_eq!(bounds(&limits, 30 * MIB), expected);
    assert_eq!(bounds(&limits, 300 * MIB)[0].1, "0", "nothing is left");
}

#[test]
fn what_the_kernel_tells_of_a_group_is_understood() {
    let tree = Tree::new();
    let group = Groups::below(tree.path().join(TOOLS)).group(tree.path().to_owned());
    assert_eq!((group.cpu(), group.memory_bytes()), (None, None));
    assert_eq!((group.killed_for(), group.refused_for()), (None, None));
    tree.file("cpu.stat", "usage_usec 1500000\nuser_usec 1\n");
    tree.file("memory.current", "4096\n");
    tree.file("memory.events", "low 0\nmax 17\noom 1\noom_kill 0\noom_group_kill 0\n");
    tree.file("pids.events", "max 0\n");
    assert_eq!(
        (group.cpu(), group.memory_bytes()),
        (Some(Duration::from_millis(1500)), Some(4096))
    );
    assert_eq!((group.killed_for(), group.refused_for()), (None, None));
    tree.file("memory.events", "low 0\nmax 17\noom 1\noom_kill 2\noom_group_kill 1\n");
    tree.file("pids.events", "max 3\n");
    assert_eq!(group.killed_for(), Some("memory_total_bytes"));
    assert_eq!(group.refused_for(), Some("processes"));
    std::mem::forget(group);
}

/// Runs on the real hierarchy, which needs no controller for this: a group counts CPU time, is
/// killed as a whole, and what an older daemon left is ended.
#[test]
fn a_real_group_counts_and_kills_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let base = real_base();
    let tools = base.join(TOOLS);
    make(&base).unwrap();
    make(&tools).unwrap();
    let groups = Groups::below(tools.clone());
    let group = groups.make(&ToolLimits::default(), 0).unwrap();
    // It begins when it is in the group: a child from before would stay outside, for ever.
    let mut hog = shell("read begin; while :; do :; done & while :; do :; done");
    group.take_in(hog.id().cast_signed()).unwrap();
    drop(hog.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(20);
    while group.cpu().unwrap() < Duration::from_millis(200) {
        assert!(Instant::now() < deadline, "{:?}", group.cpu());
        sleep(EMPTY_LOOK);
    }
    let path = group.path.clone();
    drop(group);
    assert!(hog.wait().unwrap().code().is_none(), "killed");
    let deadline = Instant::now() + EMPTY_WAIT;
    while !groups.sweep() {
        assert!(Instant::now() < deadline, "{} stays", path.display());
        sleep(EMPTY_LOOK);
    }
    assert!(!path.exists());
    // A daemon dies without a word: its successor finds the group with a process in it.
    let left = groups.make(&ToolLimits::default(), 0).unwrap();
    let mut orphan = shell("exec sleep 1000");
    left.take_in(orphan.id().cast_signed()).unwrap();
    let left_at = left.path.clone();
    std::mem::forget(left);
    Groups::below(tools.clone()).end_leftovers();
    assert!(orphan.wait().unwrap().code().is_none(), "killed");
    assert!(!left_at.exists());
    // The top of the hierarchy is never ours.
    let top = base.parent().unwrap();
    assert!(matches!(Groups::take_at(top, TOOLS), Err(NotDelegated::Root)));
    fs::remove_dir(&tools).unwrap();
    fs::remove_dir(&base).unwrap();
}

/// Runs where the hierarchy of version 2 has the controllers: the kernel kills what takes too much
/// memory, as a whole, refuses processes, and both are told. Elsewhere it shows that we notice.
#[test]
fn where_memory_is_handed_down_the_kernel_bounds_a_call() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let base = real_base().with_extension("bounds");
    let offered = fs::read_to_string(base.parent().unwrap().join("cgroup.controllers")).unwrap();
    make(&base).unwrap();
    let Some(wanted) = wanted(&offered) else {
        assert!(matches!(Groups::take_at(&base, TOOLS), Err(NotDelegated::NoMemory)));
        fs::remove_dir(&base).unwrap();
        return;
    };
    write(&base.parent().unwrap().join("cgroup.subtree_control"), &wanted).unwrap();
    // Our own process moves into the leaf, as a daemon's does.
    let groups = Groups::take_at(&base, TOOLS).unwrap();
    let limits = ToolLimits { memory_total_bytes: 64 * MIB, processes: 6, ..ToolLimits::default() };
    let group = groups.make(&limits, 0).unwrap();
    let mut hog = shell("read go; sleep 1000 & tail /dev/zero");
    group.take_in(hog.id().cast_signed()).unwrap();
    assert_eq!(group.killed_for(), None);
    drop(hog.stdin.take());
    assert!(hog.wait().unwrap().code().is_none(), "killed as a whole");
    assert_eq!(group.killed_for(), Some("memory_total_bytes"));
    assert!(group.memory_bytes().unwrap() < 64 * MIB);
    drop(group);
    let group = groups.make(&limits, 0).unwrap();
    let mut forks = shell("read go; for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait");
    group.take_in(forks.id().cast_signed()).unwrap();
    drop(forks.stdin.take());
    let deadline = Instant::now() + EMPTY_WAIT;
    while group.refused_for().is_none() {
        assert!(Instant::now() < deadline, "more processes than it may have");
        sleep(EMPTY_LOOK);
    }
    assert_eq!((group.refused_for(), group.killed_for()), (Some("processes"), None));
    drop(group);
    forks.wait().unwrap();
    let deadline = Instant::now() + EMPTY_WAIT;
    while !groups.sweep() && Instant::now() < deadline {
        sleep(EMPTY_LOOK);
    }
    write(&base.parent().unwrap().join("cgroup.procs"), &std::process::id().to_string()).unwrap();
    for path in [base.join(TOOLS), base.join(DAEMON), base] {
        fs::remove_dir(path).unwrap();
    }
}

/// A group of our own at the top of the hierarchy.
fn real_base() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let top = own_group("0::/", &mounts).expect("a mounted hierarchy of version 2");
    top.join(format!("agent-runtime-test-{}", std::process::id()))
}

fn shell(script: &str) -> Child {
    #[expect(clippy::disallowed_methods, reason = "something to put into a group")]
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// A directory that looks like a delegated group.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for directory in [DAEMON, TOOLS] {
            fs::create_dir(tree.path().join(directory)).unwrap();
        }
        for file in [
            "cgroup.events",
            "cgroup.procs",
            "cgroup.subtree_control",
            "daemon/cgroup.procs",
            "tools/cgroup.subtree_control",
            "tools/cpu.weight",
        ] {
            tree.file(file, "");
        }
        tree.file("cgroup.controllers", "cpu io memory pids\n");
        tree.file("cgroup.procs", &format!("{}\n", std::process::id()));
        tree
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).unwrap();
    }

    fn content(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }
}
