//! Calls begin, end, and leave nothing alive.

use std::{os::unix::fs::symlink, time::Duration};

use agent_runtime::{
    domain::{CommandRule, Confinement},
    sandbox::{End, SandboxError},
};
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, alive, docker_says, eventually, good, job, socket, text};

#[tokio::test]
async fn a_call_gives_output_exit_code_and_level_and_sees_what_it_was_given() {
    let lab = Lab::new().await;
    let mut call = lab.script("cat; echo err >&2; pwd; echo $GIVEN; exit 3");
    call.stdin = b"typed\n".to_vec();
    call.env = vec![("GIVEN".to_owned(), "$HOME `id`".to_owned())];
    let outcome = lab.run(call).await.unwrap();
    assert_eq!((outcome.end, outcome.level), (End::Exited(3), Confinement::Docker));
    let said = text(&outcome);
    assert!(said.contains("typed\n") && said.contains("err\n"), "{said}");
    assert!(said.contains("$HOME `id`"), "no shell of ours reads the arguments: {said}");
    assert!(said.contains(lab.workspace.to_str().unwrap()), "{said}");

    let large = vec![b'x'; 300_000];
    let mut call = lab.script("wc -c");
    call.stdin.clone_from(&large);
    assert_eq!(good(&lab.run(call).await.unwrap()).trim(), "300000");

    let error = lab.run(job(lab.grant(), &["no-such-program"])).await.unwrap_err();
    assert!(matches!(error, SandboxError::NotExecuted { .. }), "{error}");
    let mut call = lab.script("true");
    call.cwd = "missing".to_owned();
    let error = lab.run(call).await.unwrap_err();
    assert!(matches!(error, SandboxError::Setup { .. }), "{error}");
}

#[tokio::test]
async fn one_container_serves_the_calls_of_a_session_and_goes_with_it() {
    let lab = Lab::new().await;
    let session = lab.sandbox.open(&lab.grant(), &CancellationToken::new()).await.unwrap();
    let run = |text: &str| session.run(lab.script(text), CancellationToken::new());
    good(&run("echo kept >/tmp/note; echo kept >note").await.unwrap());
    let first = lab.containers();
    assert_eq!(good(&run("cat /tmp/note note").await.unwrap()), "kept\nkept\n");
    assert_eq!(lab.containers(), first);
    assert_eq!(first.len(), 1);
    assert!(session.is_alive());
    drop(session);
    eventually("the container is gone", || lab.containers().is_empty()).await;
}

#[tokio::test]
async fn calls_of_one_session_at_once_take_turns() {
    let lab = Lab::new().await;
    let session = lab.sandbox.open(&lab.grant(), &CancellationToken::new()).await.unwrap();
    let run = |text: &str| session.run(lab.script(text), CancellationToken::new());
    let (a, b, c) = tokio::join!(run("echo a"), run("sleep 0.3; echo b"), run("echo c"));
    let said = [a, b, c].map(|outcome| good(&outcome.unwrap()));
    assert_eq!(said, ["a\n", "b\n", "c\n"]);
    assert_eq!(lab.containers().len(), 1);
}

#[tokio::test]
async fn nothing_survives_a_call_that_ended_by_itself() {
    let lab = Lab::new().await;
    let session = lab.sandbox.open(&lab.grant(), &CancellationToken::new()).await.unwrap();
    let script = "(setsid sleep 971001 &) ; sleep 971001 & nohup sleep 971001 >/dev/null 2>&1 & \
                  echo left";
    let outcome = session.run(lab.script(script), CancellationToken::new()).await.unwrap();
    assert_eq!(good(&outcome), "left\n");
    assert!(outcome.duration < Duration::from_secs(8), "{:?}", outcome.duration);
    assert_eq!(alive("971001"), 0);
    let again = session.run(lab.script("echo again"), CancellationToken::new()).await.unwrap();
    assert_eq!(good(&again), "again\n");
}

#[tokio::test]
async fn nothing_survives_the_wall_clock_the_stop_or_a_dropped_call() {
    let lab = Lab::new().await;
    let script = |marker: &str| {
        lab.script(&format!("setsid sleep {marker} & nohup sleep {marker} & sleep {marker}"))
    };
    // The negative control: while the call runs, the host sees its processes.
    let mut late = script("971002");
    late.wall = Duration::from_secs(2);
    let outcome = lab.run(late);
    let seen = eventually("the processes are there", || alive("971002") == 3);
    let (outcome, ()) = tokio::join!(outcome, seen);
    assert_eq!(outcome.unwrap().end, End::TimedOut);
    assert_eq!(alive("971002"), 0);

    let stop = CancellationToken::new();
    let call = lab.sandbox.run(script("971003"), stop.clone());
    let stopper = async {
        eventually("the processes are there", || alive("971003") == 3).await;
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(call, stopper);
    assert_eq!(outcome.unwrap().end, End::Stopped);
    assert_eq!(alive("971003"), 0);

    tokio::select! {
        outcome = lab.run(script("971004")) => panic!("{outcome:?}"),
        () = eventually("the processes are there", || alive("971004") == 3) => {}
    }
    eventually("the dropped call is dead", || alive("971004") == 0).await;
    eventually("no container is left", || lab.containers().is_empty()).await;
}

#[tokio::test]
async fn a_container_that_somebody_removed_is_replaced_and_a_call_in_it_is_lost() {
    let lab = Lab::new().await;
    let session = lab.sandbox.open(&lab.grant(), &CancellationToken::new()).await.unwrap();
    let run = |text: &str| session.run(lab.script(text), CancellationToken::new());
    good(&run("true").await.unwrap());
    docker_says(&["rm", "--force", &lab.containers()[0]]);
    assert_eq!(good(&run("echo new").await.unwrap()), "new\n");
    let remover = async {
        eventually("the call runs", || alive("971005") == 1).await;
        docker_says(&["rm", "--force", &lab.containers()[0]]);
    };
    let (outcome, ()) = tokio::join!(run("sleep 971005"), remover);
    match outcome {
        // The engine may still have told the end by the signal.
        Err(SandboxError::Lost) | Ok(_) => {}
        Err(other) => panic!("{other}"),
    }
    assert_eq!(alive("971005"), 0);
    assert_eq!(good(&run("echo newer").await.unwrap()), "newer\n");
}

#[tokio::test]
async fn an_engine_that_goes_is_named_and_one_that_comes_back_is_used() {
    let base = tempfile::tempdir().unwrap();
    let link = base.path().join("engine.sock");
    let lab = Lab::with(link.clone(), crate::lab::IMAGE).await;
    let status = lab.sandbox.status();
    let reason = status.reason.unwrap();
    assert!(!status.usable && status.level == Confinement::None);
    assert!(reason.contains("cannot connect to the docker engine"), "{reason}");
    let refused = lab.run(lab.script("true")).await.unwrap_err();
    assert!(matches!(&refused, SandboxError::Unavailable { reason } if reason.contains("docker")));

    symlink(socket(), &link).unwrap();
    eventually("the engine is found", || lab.sandbox.status().usable).await;
    good(&lab.sh("true").await);

    std::fs::remove_file(&link).unwrap();
    let refused = lab.run(lab.script("touch ran")).await.unwrap_err();
    assert!(refused.to_string().contains("cannot connect"), "{refused}");
    eventually("the status says so", || !lab.sandbox.status().usable).await;
    assert!(!lab.workspace.join("ran").exists());
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_refused_with_the_reason() {
    let lab = Lab::with(socket(), "no-such-image:ever").await;
    let reason = lab.sandbox.status().reason.unwrap();
    assert!(reason.contains("no-such-image:ever") && reason.contains("pull"), "{reason}");

    let lab = Lab::new().await;
    let mut grant = lab.grant();
    grant.commands = CommandRule::Only(vec!["ls".to_owned()]);
    let refused = lab.run(job(grant, &["ls"])).await.unwrap_err();
    assert!(refused.to_string().contains("list of allowed commands"), "{refused}");
    let mut grant = lab.grant();
    grant.commands = CommandRule::None;
    let refused = lab.run(job(grant, &["ls"])).await.unwrap_err();
    assert!(matches!(refused, SandboxError::NotGranted), "{refused}");
    assert!(lab.containers().is_empty());
}
