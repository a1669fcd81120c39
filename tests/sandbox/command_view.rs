//! With a list of programs nothing else exists, and nothing else is executed.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use agent_runtime::{
    domain::{Access, CommandRule, Grant, ToolStatus},
    sandbox::{self, End, SandboxError},
};

use serde_json::json;

use crate::{
    support::{Lab, allow, good, job, text},
    tool_calls::Bench,
};

fn only(lab: &Lab, names: &[&str]) -> Grant {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    Grant { commands: CommandRule::Only(names), may_execute_files: false, ..lab.grant() }
}

/// Puts a file of the tools' user into the workspace.
fn place(lab: &Lab, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = lab.workspace.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    sandbox::give_to_tools(std::fs::File::open(&path).unwrap()).unwrap();
    path
}

#[tokio::test]
async fn each_program_works_where_it_alone_is_listed() {
    let lab = Lab::new().await;
    let hello = "#include <stdio.h>\nint main(){puts(\"c\");}\n";
    place(&lab, "a.c", hello);
    place(&lab, "a.cc", hello);
    place(&lab, "Makefile", "all:\n\t@echo made; echo $$((1+1))\n");
    place(&lab, "package.json", r#"{"scripts": {"hi": "echo from npm"}}"#);
    let python = "import json,threading,ctypes,ssl,sqlite3,multiprocessing; print('py')";
    let identity = ["-c", "user.email=a@b", "-c", "user.name=n"];
    let commit = [&["git", "-C", "r"], &identity[..], &["commit", "-qm", "one", "--allow-empty"]];
    let commit = commit.concat();
    // Each with what is listed, what is run, and the end of what it says.
    let runs: Vec<(&str, Vec<Vec<&str>>, &str)> = vec![
        (
            "git",
            vec![
                vec!["git", "init", "-q", "r"],
                commit,
                vec!["git", "clone", "-q", "r", "clone"],
                vec!["git", "-C", "clone", "gc", "-q"],
                vec!["git", "-C", "clone", "log", "--format=%s"],
            ],
            "one\n",
        ),
        ("python3", vec![vec!["python3", "-c", python]], "py\n"),
        ("node", vec![vec!["node", "-e", "setTimeout(()=>console.log('js'),5)"]], "js\n"),
        ("npm", vec![vec!["npm", "run", "--silent", "hi"]], "from npm\n"),
        ("make", vec![vec!["make"]], "made\n2\n"),
        ("bash", vec![vec!["bash", "-c", "x=(a b); printf '%s\\n' ${x[1]}"]], "b\n"),
        ("curl", vec![vec!["curl", "-s", "file:///etc/hosts"]], "localhost\n"),
        ("jq", vec![vec!["jq", "-n", "[1,2]|add"]], "3\n"),
        ("tar", vec![vec!["tar", "czf", "t.tgz", "a.c"], vec!["tar", "tzf", "t.tgz"]], "a.c\n"),
        ("/usr/bin/env", vec![vec!["/usr/bin/env", "-i", "A=b", "/usr/bin/env"]], "A=b\n"),
    ];
    for (name, commands, expected) in runs {
        let mut last = String::new();
        for argv in commands {
            let outcome = lab.run_job(job(only(&lab, &[name]), &argv)).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{argv:?}: {error}"));
            assert_eq!(outcome.end, End::Exited(0), "{argv:?}: {}", text(&outcome));
            last = text(&outcome);
        }
        assert!(last.ends_with(expected), "{name}: {last}");
    }
    // What a compiler makes is run where the operator says that files may be.
    for argv in [&["gcc", "-O1", "a.c", "-o", "a"][..], &["g++", "a.cc", "-o", "b"]] {
        let grant = || Grant { may_execute_files: true, ..only(&lab, &argv[..1]) };
        good(lab.run_job(job(grant(), argv)).await.unwrap());
        let made = format!("./{}", argv.last().unwrap());
        assert_eq!(good(lab.run_job(job(grant(), &[&made])).await.unwrap()), "c\n");
        let refused = lab.run_job(job(only(&lab, &["gcc"]), &[&made])).await;
        assert!(is_not_executed(&refused, libc::EACCES), "{refused:?}");
    }
}

fn is_not_executed(result: &Result<sandbox::Outcome, SandboxError>, errno: i32) -> bool {
    matches!(result, Err(SandboxError::NotExecuted { failure }) if failure.errno == errno)
}

#[tokio::test]
async fn the_view_holds_the_listed_names_and_what_they_need() {
    let lab = Lab::new().await;
    let script = "import os\nfor d in ['/usr/bin','/usr/sbin','/usr/local/bin','/usr/libexec','/bin']:\n \
                  print(d, sorted(os.listdir(d)) if os.path.isdir(d) else '-')";
    let listing = |names: &'static [&'static str]| {
        let grant = only(&lab, names);
        let lab = &lab;
        async move { good(lab.run_job(job(grant, &["/usr/bin/python3", "-c", script])).await.unwrap()) }
    };
    let alone = listing(&["python3"]).await;
    let bin = alone.lines().next().unwrap();
    let is_python = |name: &&str| name.contains("'python3");
    let names: Vec<_> = bin.split(' ').skip(1).collect();
    assert!(names.len() <= 2 && names.iter().all(is_python), "{alone}");
    assert!(alone.contains("/usr/sbin []"), "{alone}");
    let more = listing(&["python3", "npm"]).await;
    for name in ["'npm'", "'node'", "'env'", "'dash'"] {
        assert!(more.contains(name), "{more}");
    }
    // The control: everything is there without a list.
    let any = Grant { commands: CommandRule::Any, ..only(&lab, &[]) };
    let all = good(lab.run_job(job(any, &["/usr/bin/python3", "-c", script])).await.unwrap());
    assert!(all.contains("'id'") && all.contains("'ls'"), "{all}");
}

#[tokio::test]
async fn what_is_not_listed_cannot_be_run_in_any_way() {
    let lab = Lab::new().await;
    let copy = place(&lab, "copied", std::fs::read("/usr/bin/id").unwrap());
    let library = lab.workspace.join("library.so");
    library_that_speaks(&library);
    let program = include_str!("probes/executes.py");
    let argv = |original: &'static str| {
        let (copy, library) = (copy.to_str().unwrap(), library.to_str().unwrap());
        ["/usr/bin/python3", "-c", program, copy, library, original]
    };
    let ran = |grant: Grant, original: &'static str| {
        let argv = argv(original);
        let lab = &lab;
        async move {
            let output = good(lab.run_job(job(grant, &argv)).await.unwrap());
            assert_eq!(output.lines().count(), 17, "{output}");
            let of = |end: &str| {
                let lines = output.lines().filter_map(|l| l.strip_suffix(end));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            (of(" ran"), of(" refused"))
        }
    };
    let none: [&str; 0] = [];
    for names in [&["python3"][..], &["/usr/bin/python3", "git", "bash"]] {
        assert_eq!(ran(only(&lab, names), "/usr/bin/id").await.0, none, "with {names:?}");
    }
    // The controls: all of it works where everything is allowed, and what concerns files in
    // writable places is refused by that alone.
    let loose = lab.grant();
    // A file in memory cannot be had at all; that it could be run is for the machine to show.
    let in_memory = [
        "a copy in memory",
        "a copy in memory, by its name in /proc",
        "a copy in memory, through the loader",
    ];
    assert_eq!(ran(loose, "/usr/bin/id").await.1, in_memory);
    let [python, rest @ ..] = argv("/usr/bin/id");
    #[expect(clippy::disallowed_methods, reason = "the control runs without the sandbox")]
    let free = std::process::Command::new(python).args(rest).current_dir(&lab.workspace).output();
    let free = String::from_utf8(free.unwrap().stdout).unwrap();
    for place in ["/tmp/placed", "/dev/shm/placed"] {
        std::fs::remove_file(place).ok();
    }
    for name in in_memory {
        assert!(free.lines().any(|line| line == format!("{name} ran")), "{free}");
    }
    let any = Grant { may_execute_files: false, ..lab.grant() };
    let by_name = ["by its path", "by its path, through the loader", "through a link"];
    assert_eq!(ran(any, "/usr/bin/id").await.0, by_name);
}

/// A library whose constructor writes what the attempts look for.
fn library_that_speaks(path: &Path) {
    let source = path.with_extension("c");
    let code = "#include <unistd.h>\n__attribute__((constructor)) static void f(void){\
                write(1, \"uid=library\", 11);}\n";
    std::fs::write(&source, code).unwrap();
    #[expect(clippy::disallowed_methods, reason = "compiles a library for the attempts")]
    let status = std::process::Command::new("gcc")
        .args(["-shared", "-fPIC", "-o"])
        .args([path, &source])
        .status();
    assert!(status.unwrap().success());
    sandbox::give_to_tools(std::fs::File::open(path).unwrap()).unwrap();
}

#[tokio::test]
async fn an_unlisted_program_is_missing_for_the_call_itself_too() {
    let lab = Lab::new().await;
    let copy = place(&lab, "copied", std::fs::read("/usr/bin/id").unwrap());
    let copy = copy.to_str().unwrap();
    let loader = "/lib64/ld-linux-x86-64.so.2";
    for (argv, errno) in [
        (&["id"][..], libc::ENOENT),
        (&["/usr/bin/id"], libc::ENOENT),
        (&["/bin/id"], libc::ENOENT),
        (&["ls"], libc::ENOENT),
        (&["curl"], libc::ENOENT),
        (&["./copied"], libc::EACCES),
        (&[copy], libc::EACCES),
    ] {
        let refused = lab.run_job(job(only(&lab, &["bash"]), argv)).await;
        assert!(is_not_executed(&refused, errno), "{argv:?}: {refused:?}");
        let any = lab.run_job(job(lab.grant(), argv)).await;
        assert!(any.is_ok(), "the control, {argv:?}: {any:?}");
    }
    for argv in [[loader, "/usr/bin/id"], [loader, copy]] {
        let outcome = lab.run_job(job(only(&lab, &["bash"]), &argv)).await.unwrap();
        assert!(!text(&outcome).contains("uid="), "{argv:?}: {outcome:?}");
        let any = good(lab.run_job(job(lab.grant(), &argv)).await.unwrap());
        assert!(any.contains("uid="), "the control, {argv:?}: {any}");
    }
    // Executable by its mode, visible, and in no list: only the rule for execution refuses it.
    let libc_so = good(lab.sh("ls /lib/*/libc.so.6 | head -1").await);
    let direct = lab.run_job(job(only(&lab, &["bash"]), &[libc_so.trim()])).await;
    assert!(is_not_executed(&direct, libc::EACCES), "{direct:?}");
    // What remains, and SANDBOX.md says so: the loader runs what libraries hold.
    let argv = [loader, libc_so.trim()];
    good(lab.run_job(job(only(&lab, &["bash"]), &argv)).await.unwrap());
}

#[tokio::test]
async fn helpers_of_a_program_that_is_not_listed_are_gone_with_it() {
    let lab = Lab::new().await;
    let script = "for f in /usr/lib/git-core/git /usr/local/libexec/git-core/git /usr/lib/gcc/*/*/cc1 /usr/lib/jvm/*/bin/java /usr/lib/llvm-*/bin/llc; do \
                  [ -e $f ] && echo $f; done; :";
    let run = |grant| lab.run_job(job(grant, &["/bin/sh", "-c", script]));
    assert_eq!(good(run(only(&lab, &["sh"])).await.unwrap()), "");
    let with_git = good(run(only(&lab, &["sh", "git"])).await.unwrap());
    assert!(with_git.contains("git-core/git") && !with_git.contains("cc1"), "{with_git}");
    let with_gcc = good(run(only(&lab, &["sh", "gcc"])).await.unwrap());
    assert!(!with_gcc.contains("git-core/git") && with_gcc.contains("cc1"), "{with_gcc}");
}

#[tokio::test]
async fn a_tree_to_read_holds_programs_only_if_one_is_listed() {
    let lab = Lab::new().await;
    let tree = lab.base.path().join("tools");
    std::fs::create_dir(&tree).unwrap();
    for name in ["mine", "other"] {
        std::fs::copy("/usr/bin/id", tree.join(name)).unwrap();
    }
    let (mine, other) = (tree.join("mine"), tree.join("other"));
    let (mine, other) = (mine.to_str().unwrap(), other.to_str().unwrap());
    let grant =
        |names: &[&str], access| Grant { paths: vec![allow(&tree, access)], ..only(&lab, names) };
    good(lab.run_job(job(grant(&[mine], Access::Ro), &[mine])).await.unwrap());
    for (names, access, program) in [
        (&[mine][..], Access::Ro, other),
        (&["git"], Access::Ro, mine),
        // What can be written is not executed, listed or not.
        (&[mine], Access::Rw, mine),
    ] {
        let refused = lab.run_job(job(grant(names, access), &[program])).await;
        assert!(is_not_executed(&refused, libc::EACCES), "{names:?} {program}: {refused:?}");
    }
    let loader = ["/lib64/ld-linux-x86-64.so.2", mine];
    let outcome = lab.run_job(job(grant(&["git"], Access::Ro), &loader)).await.unwrap();
    assert_ne!(outcome.end, End::Exited(0), "{outcome:?}");
}

#[tokio::test]
async fn writable_places_are_mounted_without_execution() {
    let lab = Lab::new().await;
    let rw = lab.base.path().join("rw");
    sandbox::prepare_workspace(&rw).unwrap();
    let grant = |may_execute_files| Grant {
        may_execute_files,
        paths: vec![allow(&rw, Access::Rw)],
        ..lab.grant()
    };
    let mounts = |grant| async {
        good(lab.run_job(job(grant, &["cat", "/proc/self/mounts"])).await.unwrap())
    };
    let places = [lab.workspace.to_str().unwrap(), rw.to_str().unwrap(), "/tmp"];
    for (may_execute_files, expected) in [(false, 3), (true, 0)] {
        let mounts = mounts(grant(may_execute_files)).await;
        let fields = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
        let noexec = fields.filter(|f| places.contains(&f[1]) && f[3].contains("noexec")).count();
        assert_eq!(noexec, expected, "{mounts}");
    }
}

#[tokio::test]
async fn whoever_misses_a_program_is_told_which_and_what_the_operator_can_do() {
    let bench = Bench::new().await;
    place(&bench.lab, "script.sh", "#!/bin/sh\necho ran\n");
    let grant = || only(&bench.lab, &["bash", "not-installed"]);
    for (argv, words) in [
        (json!(["curl", "x"]), &["cannot run curl", "only: bash", "`allowed_commands`"][..]),
        (
            json!(["bash", "-c", "curl x"]),
            &["curl: command not found", "only: bash", "`allowed_commands`"],
        ),
        (json!(["not-installed"]), &["`not-installed` is not installed on this machine"]),
        (json!(["./script.sh"]), &["cannot run ./script.sh", "`may_execute_files`"]),
        (json!(["bash", "-c", "./script.sh"]), &["Permission denied", "`may_execute_files`"]),
    ] {
        let outcome = bench.call_as(grant(), "exec", json!({"argv": argv})).await;
        assert_eq!(outcome.status, ToolStatus::Error, "{argv}");
        let has = |word: &&str| outcome.output.contains(*word);
        assert!(words.iter().all(has), "{argv}: {}", outcome.output);
    }
    // The control: what is there says nothing of it, and neither does a failure of its own.
    for script in ["echo fine", "exit 1"] {
        let args = json!({"argv": ["bash", "-c", script]});
        let outcome = bench.call_as(grant(), "exec", args).await;
        assert!(!outcome.output.contains("allowed_commands"), "{}", outcome.output);
    }
    let args = json!({"argv": ["bash", "script.sh"]});
    assert_eq!(bench.call_as(grant(), "exec", args).await.output, "ran\n");
}
