//! What a tool reaches from inside a container, each with a control that shows the attempt works
//! where it is allowed.

use std::{
    net::TcpListener,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
};

use agent_runtime::{
    domain::{Access, PathRule},
    sandbox::{End, SandboxError, TOOL_UID},
};
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, docker_says, good, job, text};

/// Runs Python inside; its exit code.
async fn python(lab: &Lab, code: &str) -> (End, String) {
    let outcome = lab.run(job(lab.grant(), &["python3", "-c", code])).await.unwrap();
    (outcome.end, text(&outcome))
}

#[tokio::test]
async fn there_is_no_network_not_even_to_this_machine() {
    let lab = Lab::new().await;
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = |host: &str| {
        format!("import socket; socket.create_connection(({host:?}, {port}), 2).send(b'x')")
    };
    for host in ["127.0.0.1", "172.17.0.1", "169.254.169.254", "192.0.2.1", "::1"] {
        let (end, said) = python(&lab, &connect(host)).await;
        assert_eq!(end, End::Exited(1), "{host}: {said}");
    }
    assert!(listener.accept().is_err(), "nothing arrived");
    assert_eq!(good(&lab.sh("ls /sys/class/net").await), "lo\n");
    let (end, said) = python(&lab, "import socket; socket.getaddrinfo('example.com', 80)").await;
    assert_eq!(end, End::Exited(1), "{said}");
    // The control: the listener is there, and inside the container two sockets can talk.
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(listener.accept().is_ok());
    let own = "import socket; s=socket.create_server(('127.0.0.1',0)); \
               socket.create_connection(s.getsockname()).send(b'x')";
    assert_eq!(python(&lab, own).await.0, End::Exited(0));
}

#[tokio::test]
async fn the_host_is_not_visible_and_the_image_is_read_only() {
    let lab = Lab::new().await;
    let secret = lab.base.path().join("data/secret");
    std::fs::write(&secret, "hidden").unwrap();
    let docs = lab.base.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("page"), "shown").unwrap();
    let secret = secret.display().to_string();
    let docs_text = docs.display().to_string();
    let mut grant = lab.grant();
    grant.paths = vec![PathRule { path: docs, access: Access::Ro }];
    let try_it = |script: String| lab.run(job(grant.clone(), &["sh", "-c", &script]));
    for attempt in [
        format!("cat {secret}"),
        format!("echo x >{docs_text}/page"),
        "echo x >/new".to_owned(),
        "echo x >/usr/new".to_owned(),
        "echo x >/etc/passwd".to_owned(),
        "echo x >/dev/new".to_owned(),
        "echo core >/proc/sys/kernel/core_pattern".to_owned(),
        "test -e /run/docker.sock || test -e /var/run/docker.sock".to_owned(),
        "cat /dev/mem || cat /dev/kmsg || cat /dev/vda || cat /dev/sda".to_owned(),
        "cat /proc/1/environ".to_owned(),
        "kill -9 1".to_owned(),
        "mount -t tmpfs none /tmp".to_owned(),
        "unshare --user true".to_owned(),
        "cp /bin/true /tmp/t && /tmp/t".to_owned(),
        format!("ls /proc/{}/root", std::process::id()),
    ] {
        let outcome = try_it(attempt.clone()).await.unwrap();
        assert_ne!(outcome.end, End::Exited(0), "{attempt}: {}", text(&outcome));
    }
    // The controls: what is granted can be read and written, and nothing of ours is in the way.
    let said =
        try_it(format!("cat {docs_text}/page && echo y >made && cat made && echo z >/tmp/z"));
    assert_eq!(good(&said.await.unwrap()), "showny\n");
    assert_eq!(std::fs::read_to_string(lab.workspace.join("made")).unwrap(), "y\n");
}

#[tokio::test]
async fn protected_names_in_the_workspace_cannot_be_changed_even_before_they_exist() {
    let lab = Lab::new().await;
    for attempt in [
        "echo x >.git/hooks/pre-commit",
        "mv .git .moved",
        "rm -r .git",
        "mkdir .agent-runtime/x",
        "mv .agent-runtime .moved",
        "chmod 777 .git/hooks",
    ] {
        let outcome = lab.sh(attempt).await;
        assert_ne!(outcome.end, End::Exited(0), "{attempt}: {}", text(&outcome));
    }
    // The control: everything else of the repository is the tool's.
    good(&lab.sh("echo x >.git/config && mkdir .git/objects && mv .git/objects .git/o").await);
    assert!(lab.workspace.join(".git/config").exists());
}

#[tokio::test]
async fn tools_have_no_capability_no_way_to_one_and_nothing_of_our_environment() {
    let lab = Lab::new().await;
    let said = good(&lab.sh("cat /proc/self/status; id -u; env").await);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(said.contains(&format!("{set}:\t0000000000000000")), "{set}: {said}");
    }
    assert!(said.contains("NoNewPrivs:\t1") && said.contains("Seccomp:\t2"), "{said}");
    assert!(said.lines().any(|l| l == TOOL_UID.to_string()), "{said}");
    let names: Vec<&str> =
        said.lines().filter_map(|l| l.split_once('=')).map(|(name, _)| name).collect();
    for name in &names {
        let known = ["PATH", "HOME", "TMPDIR", "LANG", "GIT_TEMPLATE_DIR", "HOSTNAME", "PWD"];
        assert!(known.contains(name), "{name} in {said}");
    }
    assert!(names.contains(&"HOME"));
    // As the engine sees it.
    let stop = CancellationToken::new();
    let session = lab.sandbox.open(&lab.grant(), &stop).await.unwrap();
    good(&session.run(lab.script("true"), stop).await.unwrap());
    let id = lab.containers().remove(0);
    let seen = docker_says(&["inspect", "--format", "{{json .HostConfig}}", &id]);
    for wanted in [
        r#""NetworkMode":"none""#,
        r#""CapDrop":["ALL"]"#,
        r#""ReadonlyRootfs":true"#,
        r#""IpcMode":"none""#,
        r#""Privileged":false"#,
        r#""SecurityOpt":["no-new-privileges"]"#,
    ] {
        assert!(seen.contains(wanted), "{wanted}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_is_swapped_for_a_link_is_never_followed() {
    let lab = Lab::new().await;
    let hidden = lab.base.path().join("hidden");
    let (real, tree) = (lab.base.path().join("real"), lab.base.path().join("tree"));
    for directory in [&hidden, &real] {
        std::fs::create_dir(directory).unwrap();
    }
    std::fs::write(hidden.join("secret"), "leaked").unwrap();
    let mut grant = lab.grant();
    grant.paths = vec![PathRule { path: tree.clone(), access: Access::Ro }];
    let look = format!("cat {}/secret; true", tree.display());
    // A link that stands there is refused.
    symlink(&hidden, &tree).unwrap();
    let refused = lab.run(job(grant.clone(), &["sh", "-c", &look])).await.unwrap_err();
    assert!(matches!(refused, SandboxError::Setup { .. }), "{refused}");
    std::fs::remove_file(&tree).unwrap();
    // One that comes and goes while containers are made is never mounted.
    let is_over = AtomicBool::new(false);
    let link = lab.base.path().join("link");
    symlink(&hidden, &link).unwrap();
    std::fs::rename(&real, &tree).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::fs::rename(&tree, &real).unwrap();
                std::fs::rename(&link, &tree).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(3));
                std::fs::rename(&tree, &link).unwrap();
                std::fs::rename(&real, &tree).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            for _ in 0..8 {
                let tried = lab.run(job(grant.clone(), &["sh", "-c", &look]));
                if let Ok(outcome) = runtime.block_on(tried) {
                    assert!(!text(&outcome).contains("leaked"));
                }
            }
        });
        is_over.store(true, Ordering::Relaxed);
    });
    // The control: whoever mounts by name without looking does follow it.
    std::fs::rename(&tree, &real).unwrap();
    std::fs::rename(&link, &tree).unwrap();
    let bind = format!("{}:/t:ro", tree.display());
    let seen =
        docker_says(&["run", "--rm", "--volume", &bind, crate::lab::IMAGE, "cat", "/t/secret"]);
    assert_eq!(seen, "leaked");
}
