//! One program in a container, from its start to its end.
//!
//! Invariants: output is bounded by the same capture as everywhere; a program is over when the
//! engine says that it has ended, whatever still holds its output. This file kills nothing: whoever
//! called removes the container when the end was not the program's own.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    api::{ApiError, in_query},
    container::Container,
};
use crate::{
    domain::event::OutputStream,
    sandbox::{
        End, SandboxError,
        output::{Capture, Flow},
        wire::Failure,
    },
};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// First and longest pause between two looks at whether the program has ended.
const LOOK_FIRST: Duration = Duration::from_millis(25);
const LOOK_LONGEST: Duration = Duration::from_millis(400);
/// How long output may still arrive after the program's end; longer only if something that it left
/// behind holds the pipe, and that is killed.
const LAST_WORDS: Duration = Duration::from_millis(150);
/// How long the engine may take to tell of memory that ran out.
const OOM_WAIT: Duration = Duration::from_millis(100);

/// A program to run.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: String,
    pub(super) user: (u32, u32),
    pub(super) stdin: Vec<u8>,
    pub(super) wall: Duration,
    pub(super) capture: Capture,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) output: Vec<u8>,
    pub(super) is_truncated: bool,
    /// Whether nothing but the program's own end can have changed the container.
    pub(super) is_own_end: bool,
}

#[derive(Deserialize)]
struct Made {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    exit_code: Option<i32>,
    pid: i64,
}

/// Runs a program to its end, to the wall clock's or to the token's.
pub(super) async fn run(
    container: &Container,
    exec: Exec,
    stop: &CancellationToken,
) -> Result<Ended, SandboxError> {
    let Exec { argv, env, cwd, user, stdin, wall, capture } = exec;
    let api = &container.inner().api;
    let program = argv.first().cloned().unwrap_or_default();
    let began = now();
    let deadline = Instant::now() + wall;
    let what = json!({
        "Cmd": argv,
        "Env": env.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>(),
        "WorkingDir": cwd,
        "User": format!("{}:{}", user.0, user.1),
        "AttachStdin": !stdin.is_empty(),
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": false,
        "Privileged": false,
    });
    let path = format!("/containers/{}/exec", container.name());
    let made: Made = match api.make("prepare a program", &path, &what).await {
        Err(error) if error.is_gone() => return Err(SandboxError::Gone),
        made => made?,
    };
    let start = json!({ "Detach": false, "Tty": false });
    let path = format!("/exec/{}/start", made.id);
    let (stream, first) = match api.hijack("start a program", &path, Some(&start)).await {
        Err(error) if error.is_gone() => return Err(SandboxError::Gone),
        started => started?,
    };
    let mut call = Call { id: made.id, container, capture, frames: Frames(first), forced: None };
    let state = call.follow(stream, &stdin, deadline, stop).await?;
    let Call { capture, forced, .. } = call;
    let (output, is_truncated) = capture.finish();
    if forced.is_none() && state.is_some_and(|s| s.pid == 0) {
        return Err(not_started(&program, &output));
    }
    let (end, is_own_end) = match (forced, state.and_then(|s| s.exit_code)) {
        (Some(end), _) => (end, false),
        (None, None) => return Err(SandboxError::Lost),
        (None, Some(code)) => judge(container, code, began).await?,
    };
    Ok(Ended { end, output, is_truncated, is_own_end })
}

/// What an exit code means. The engine tells an end by a signal as 128 and its number, as a shell
/// does, so that the two cannot be told apart; only those of a limit are given their name.
async fn judge(
    container: &Container,
    code: i32,
    began: String,
) -> Result<(End, bool), SandboxError> {
    if code == 0 {
        return Ok((End::Exited(0), true));
    }
    if code == 128 + libc::SIGKILL {
        // The engine may hear of it later than of the death.
        tokio::time::sleep(OOM_WAIT).await;
    }
    let filters = json!({ "container": [container.name()], "event": ["oom"] }).to_string();
    let path = format!("/events?since={began}&until={}&filters={}", now(), in_query(&filters));
    if container.inner().api.lines("read its events", &path).await? > 0 {
        return Ok((End::Limit("memory_total_bytes"), false));
    }
    Ok(match code.checked_sub(128) {
        Some(libc::SIGXCPU) => (End::Limit("cpu_secs"), true),
        Some(libc::SIGXFSZ) => (End::Limit("file_bytes"), true),
        _ => (End::Exited(code), true),
    })
}

/// The engine's reason, which it writes where the program's output would be.
fn not_started(program: &str, output: &[u8]) -> SandboxError {
    let said = String::from_utf8_lossy(output);
    let errno = if said.contains("not found") || said.contains("no such file") {
        libc::ENOENT
    } else if said.contains("permission denied") {
        libc::EACCES
    } else {
        libc::EIO
    };
    if said.contains("chdir to cwd") {
        let failure = Failure { step: "enter the working directory".to_owned(), errno };
        return SandboxError::Setup { failure };
    }
    SandboxError::NotExecuted { failure: Failure { step: program.to_owned(), errno } }
}

/// Seconds and nanoseconds since 1970, as the engine's events are asked for.
fn now() -> String {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    format!("{}.{:09}", time.tv_sec, time.tv_nsec)
}

struct Call<'c> {
    id: String,
    container: &'c Container,
    capture: Capture,
    frames: Frames,
    forced: Option<End>,
}

impl Call<'_> {
    /// Reads until the program has ended and its output is read, or until it must be ended.
    async fn follow(
        &mut self,
        stream: UnixStream,
        stdin: &[u8],
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Result<Option<State>, SandboxError> {
        let (mut reader, mut writer) = stream.into_split();
        let mut input = std::pin::pin!(async move {
            if !stdin.is_empty() {
                // Whoever does not read its input does not get it.
                writer.write_all(stdin).await.ok();
                writer.shutdown().await.ok();
            }
            // Held: closing this half as well would end the stream.
            std::future::pending::<()>().await;
            drop(writer);
        });
        let mut buffer = vec![0_u8; READ_BYTES];
        let mut pause = LOOK_FIRST;
        let mut look_at = Instant::now() + pause;
        let mut is_open = true;
        let mut ended: Option<State> = None;
        self.take(&[]);
        while self.forced.is_none() && (is_open || ended.is_none()) {
            // Cancel-safe branches all: a read that takes nothing unless it returns, a write that
            // is polled in place, timers and a token.
            tokio::select! {
                () = &mut input => {}
                count = reader.read(&mut buffer), if is_open => {
                    let bytes = count.ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n));
                    if let Some(bytes) = bytes {
                        self.take(bytes);
                    } else {
                        (is_open, look_at) = (false, Instant::now());
                    }
                }
                () = sleep_until(look_at) => {
                    if ended.is_some() {
                        break;
                    }
                    ended = self.look().await?;
                    pause = (pause * 2).min(LOOK_LONGEST);
                    look_at = Instant::now() + if ended.is_some() { LAST_WORDS } else { pause };
                }
                () = sleep_until(deadline) => self.forced = Some(End::TimedOut),
                () = stop.cancelled() => self.forced = Some(End::Stopped),
            }
        }
        Ok(ended)
    }

    /// The program's state, once it has ended.
    async fn look(&self) -> Result<Option<State>, SandboxError> {
        let path = format!("/exec/{}/json", self.id);
        match self.container.inner().api.get::<State>("look at a program", &path).await {
            Ok(state) => Ok(Some(state).filter(|s| !s.running)),
            // The engine is gone, or the container with all that it knew.
            Err(ApiError::Silent { .. }) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "a tool call was lost");
                Err(SandboxError::Lost)
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.frames.0.extend_from_slice(bytes);
        while let Some((stream, piece)) = self.frames.take() {
            if self.capture.push(stream, &piece) == Flow::TooMuch {
                self.forced = Some(End::Limit("output_bytes"));
            }
        }
    }
}

/// Bytes of the engine's stream that are not yet a whole frame's part: a head of eight bytes (which
/// stream, three zeros, the length), then as many bytes.
struct Frames(Vec<u8>);

impl Frames {
    /// The next piece of output: as much of a frame as is there.
    fn take(&mut self) -> Option<(OutputStream, Vec<u8>)> {
        let [kind, _, _, _, a, b, c, d] = *self.0.first_chunk::<8>()?;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let there = (self.0.len() - 8).min(length);
        if there == 0 && length > 0 {
            return None;
        }
        let stream = if kind == 2 { OutputStream::Stderr } else { OutputStream::Stdout };
        let mut piece = self.0.split_off(8);
        let rest = piece.split_off(there);
        if there < length {
            // The rest of the frame will come: a head for it takes the old one's place.
            let left = u32::try_from(length - there).unwrap_or(u32::MAX).to_be_bytes();
            self.0.truncate(4);
            self.0.extend_from_slice(&left);
        } else {
            self.0.clear();
        }
        self.0.extend_from_slice(&rest);
        Some((stream, piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[kind, 0, 0, 0][..], &length, text.as_bytes()].concat()
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let whole = [frame(1, "hello"), frame(1, ""), frame(2, "oops"), frame(1, "!")].concat();
        for size in 1..=whole.len() {
            let (mut out, mut err) = (String::new(), String::new());
            let mut frames = Frames(Vec::new());
            for piece in whole.chunks(size) {
                frames.0.extend_from_slice(piece);
                while let Some((stream, bytes)) = frames.take() {
                    let text = String::from_utf8(bytes).unwrap();
                    match stream {
                        OutputStream::Stdout => out.push_str(&text),
                        OutputStream::Stderr => err.push_str(&text),
                    }
                }
            }
            assert_eq!((out.as_str(), err.as_str()), ("hello!", "oops"), "cut at {size}");
        }
    }

    #[test]
    fn a_frame_that_claims_gigabytes_costs_what_has_come() {
        let mut frames = Frames([&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..], b"abc"].concat());
        assert_eq!(frames.take(), Some((OutputStream::Stdout, b"abc".to_vec())));
        assert_eq!(frames.take(), None);
        assert_eq!(frames.0.len(), 8);
    }

    #[test]
    fn a_program_that_was_not_started_says_why() {
        let said = b"OCI runtime exec failed: exec: \"nope\": executable file not found in $PATH";
        let SandboxError::NotExecuted { failure } = not_started("nope", said) else { panic!() };
        assert_eq!((failure.step.as_str(), failure.errno), ("nope", libc::ENOENT));
        let said = b"chdir to cwd (\"/x\") set in config.json failed: no such file or directory";
        assert!(matches!(not_started("a", said), SandboxError::Setup { .. }));
    }
}
