//! Limits of a call in a container, each named when it ends one.

use std::time::Duration;

use agent_runtime::{domain::ToolLimits, sandbox::End};

use crate::lab::{Lab, good, job, text};

async fn python(lab: &Lab, limits: ToolLimits, code: &str) -> (End, String) {
    let mut grant = lab.grant();
    grant.limits = ToolLimits { wall_secs: 30, ..limits };
    let outcome = lab.run(job(grant, &["python3", "-c", code])).await.unwrap();
    (outcome.end, text(&outcome))
}

#[tokio::test]
async fn memory_cpu_file_size_and_output_are_bounded_and_named() {
    let lab = Lab::new().await;
    let small = ToolLimits { memory_total_bytes: 64 << 20, ..ToolLimits::default() };
    let eat = "x = bytearray(40 << 20); print('fits')";
    assert_eq!(python(&lab, small, eat).await, (End::Exited(0), "fits\n".to_owned()));
    let eat = "x = bytearray(200 << 20)";
    assert_eq!(python(&lab, small, eat).await.0, End::Limit("memory_total_bytes"));
    // By a child, which the program reports as its own failure.
    let eat = "import subprocess, sys; \
               sys.exit(subprocess.call([sys.executable, '-c', 'bytearray(200<<20)']) != 0)";
    assert_eq!(python(&lab, small, eat).await.0, End::Limit("memory_total_bytes"));

    let short = ToolLimits { cpu_secs: 1, ..ToolLimits::default() };
    assert_eq!(python(&lab, short, "while True: pass").await.0, End::Limit("cpu_secs"));
    let small = ToolLimits { file_bytes: 1 << 20, ..ToolLimits::default() };
    let write = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); \
                 open('big', 'wb').write(bytes(2 << 20))";
    assert_eq!(python(&lab, small, write).await.0, End::Limit("file_bytes"));
    assert_eq!(std::fs::metadata(lab.workspace.join("big")).unwrap().len(), 1 << 20);

    let outcome = lab.sh("yes").await;
    assert_eq!(outcome.end, End::Limit("output_bytes"));
    assert!(outcome.truncated && outcome.output.len() < 2 << 20);
}

#[tokio::test]
async fn processes_open_files_and_tmp_are_bounded() {
    let lab = Lab::new().await;
    let few = ToolLimits {
        processes: 20,
        open_files: 32,
        tmp_bytes: 1 << 20,
        tmp_inodes: 16,
        ..ToolLimits::default()
    };
    let fork = "import os, time\nn = 0\ntry:\n  while n < 500:\n    if os.fork() == 0: time.sleep(60)\n    n += 1\nexcept OSError: pass\nprint(n, flush=True)\nos._exit(0)";
    let (end, said) = python(&lab, few, fork).await;
    assert_eq!(end, End::Exited(0), "{said}");
    let made: u64 = said.trim().parse().unwrap();
    // The engine's own starter is given some more, which tools can use once it has gone.
    assert!((10..=40).contains(&made), "{made}");
    let open = "import os\nn = 0\ntry:\n  while n < 500: os.open('/dev/null', 0); n += 1\nexcept OSError: pass\nprint(n)";
    let (_, said) = python(&lab, few, open).await;
    assert!(said.trim().parse::<u64>().unwrap() < 32, "{said}");
    let fill = "open('/tmp/a', 'wb').write(bytes(2 << 20))";
    let (end, said) = python(&lab, few, fill).await;
    assert!(end == End::Exited(1) && said.contains("No space left"), "{said}");
    let many = "[open(f'/tmp/{i}', 'w') for i in range(20)]";
    let (end, said) = python(&lab, few, many).await;
    assert!(end == End::Exited(1) && said.contains("No space left"), "{said}");
}

#[tokio::test]
async fn a_fork_bomb_ends_at_the_wall_clock_and_the_next_call_is_fine() {
    let lab = Lab::new().await;
    let mut bomb = lab.script("b(){ b|b& };b; sleep 971101");
    bomb.wall = Duration::from_secs(3);
    let outcome = lab.run(bomb).await.unwrap();
    assert!(matches!(outcome.end, End::TimedOut | End::Exited(_)), "{:?}", outcome.end);
    assert_eq!(crate::lab::alive("971101"), 0);
    assert_eq!(good(&lab.sh("echo fine").await), "fine\n");
}
