//! Things outside the daemon that notice what a tool did, and that notice nothing if it was stopped.

use std::{
    io::ErrorKind,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::app::cli::Failure;

/// A listener on loopback that counts who reaches it.
#[derive(Debug)]
pub(super) struct Door(TcpListener);

impl Door {
    pub(super) fn open() -> Result<Self, Failure> {
        let fault = |e: std::io::Error| Failure::fault(format!("cannot listen on loopback: {e}"));
        let listener = TcpListener::bind("127.0.0.1:0").map_err(fault)?;
        listener.set_nonblocking(true).map_err(fault)?;
        Ok(Self(listener))
    }

    pub(super) fn port(&self) -> Result<u16, Failure> {
        self.0.local_addr().map(|a| a.port()).map_err(|e| Failure::fault(e.to_string()))
    }

    /// How many came since the last question.
    pub(super) fn visitors(&self) -> usize {
        let mut count = 0;
        loop {
            match self.0.accept() {
                Ok(_) => count += 1,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return count,
            }
        }
    }
}

/// Words for a program that opens a connection, from what this machine has.
pub(super) fn knock(port: u16) -> Option<Vec<String>> {
    let python = format!(
        "import socket; socket.create_connection(('127.0.0.1', {port}), 3); print('connected')"
    );
    let perl = format!(
        "use IO::Socket::INET; IO::Socket::INET->new('127.0.0.1:{port}') or die \"$!\\n\"; print 'connected'"
    );
    let shell = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected");
    [("bash", "-c", shell), ("python3", "-c", python), ("perl", "-e", perl)]
        .into_iter()
        .find(|(program, ..)| Path::new("/usr/bin").join(program).exists())
        .map(|(program, flag, script)| vec![program.to_owned(), flag.to_owned(), script])
}

/// Runs the same words without any sandbox: the control that shows what the sandbox is for.
pub(super) fn unconfined(argv: &[String]) -> bool {
    let Some((program, rest)) = argv.split_first() else { return false };
    #[expect(
        clippy::disallowed_methods,
        reason = "the control experiment must run outside the sandbox"
    )]
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let is_good = command.status().is_ok_and(|status| status.success());
    // The listener sees the connection a moment after the program has ended.
    std::thread::sleep(Duration::from_millis(50));
    is_good
}

/// The words as the built-in model reads them.
pub(super) fn as_instruction(argv: &[String]) -> String {
    let quote = |word: &String| {
        let is_plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if is_plain { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}
