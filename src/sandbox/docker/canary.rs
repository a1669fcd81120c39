//! Tries to get out of a container, as a tool would, before any tool runs in one.
//!
//! Invariants: an attempt that succeeds, or one that is not reported, makes the backend unusable.
//! The attempts need no more of the image than `sh` and `cat`; those that need a program which it
//! may lack (`bash`, `unshare`, `mount`) are made where it is there.

use std::path::Path;

/// Prints one line per attempt: `name` and whether it succeeded. `$1` is a file outside, `$2` a
/// port on which the daemon listens.
pub(super) const SCRIPT: &str = r#"
outside=$1 port=$2
say() { if eval "$2" >/dev/null 2>&1; then echo "$1 1"; else echo "$1 0"; fi; }
field() { while read -r name value; do [ "$name" = "$1:" ] && echo "$value" && return; done </proc/self/status; }
say read-a-file-outside 'cat "$outside"'
say write-a-file-outside 'echo escaped >>"$outside"'
say write-to-the-root 'echo x >/agent-runtime-canary'
say write-to-usr 'echo x >/usr/agent-runtime-canary'
say write-to-proc-sys 'echo x >/proc/sys/kernel/hostname'
say have-capabilities '[ "$(field CapEff)$(field CapPrm)$(field CapBnd)" != 000000000000000000000000000000000000000000000000 ]'
say gain-privileges '[ "$(field NoNewPrivs)" != 1 ]'
say call-without-a-filter '[ "$(field Seccomp)" != 2 ]'
say have-an-address 'grep -qv -e "^ *lo:" -e "|" /proc/net/dev'
say have-a-route '[ "$(cat /proc/net/route | wc -l)" -gt 1 ]'
say reach-the-engine '[ -e /run/docker.sock ] || [ -e /var/run/docker.sock ]'
say end-its-keeper 'kill -9 1'
say read-its-keepers-files 'cat /proc/1/environ'
say read-a-device 'cat /dev/mem || cat /dev/kmsg || cat /dev/sda || cat /dev/vda'
say connect-over-tcp 'bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"'
say make-a-namespace 'unshare --user true'
say mount 'mount -t tmpfs none /tmp'
echo done 0
"#;

/// What the script tries, in order; `done` closes it.
const ATTEMPTS: [&str; 18] = [
    "read-a-file-outside",
    "write-a-file-outside",
    "write-to-the-root",
    "write-to-usr",
    "write-to-proc-sys",
    "have-capabilities",
    "gain-privileges",
    "call-without-a-filter",
    "have-an-address",
    "have-a-route",
    "reach-the-engine",
    "end-its-keeper",
    "read-its-keepers-files",
    "read-a-device",
    "connect-over-tcp",
    "make-a-namespace",
    "mount",
    "done",
];

/// The script as a command.
pub(super) fn command(outside: &Path, port: u16) -> Vec<String> {
    let words = ["sh", "-c", SCRIPT, "canary"].map(str::to_owned);
    words.into_iter().chain([outside.display().to_string(), port.to_string()]).collect()
}

/// Whether every attempt was made and failed; otherwise why not.
pub(super) fn judge(output: &str) -> Result<(), String> {
    let mut lines = output.lines();
    for attempt in ATTEMPTS {
        match lines.next().and_then(|line| line.split_once(' ')) {
            Some((name, "0")) if name == attempt => {}
            Some((name, "1")) if name == attempt => {
                return Err(format!("a container lets its tools {}", attempt.replace('-', " ")));
            }
            _ => return Err(format!("the attempt to {attempt} was not reported")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_must_be_reported_and_fail() {
        let good = ATTEMPTS.map(|a| format!("{a} 0\n")).concat();
        assert_eq!(judge(&good), Ok(()));
        for (at, attempt) in ATTEMPTS.iter().enumerate() {
            let escaped = good.replace(&format!("{attempt} 0"), &format!("{attempt} 1"));
            assert!(judge(&escaped).is_err(), "{attempt}");
            let cut = good.split_inclusive('\n').take(at).collect::<String>();
            assert!(judge(&cut).unwrap_err().contains(attempt), "{attempt}");
        }
        assert!(judge("").is_err());
    }

    #[test]
    fn the_script_makes_exactly_these_attempts() {
        let made: Vec<&str> = SCRIPT
            .lines()
            .filter_map(|l| l.strip_prefix("say ").or(l.strip_prefix("echo ")))
            .map(|l| l.split(' ').next().unwrap())
            .collect();
        assert_eq!(made, ATTEMPTS);
    }

    #[test]
    fn the_attempts_succeed_where_nothing_confines_them() {
        // The negative control: the same script, run as a plain process.
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        std::fs::write(&outside, "secret").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Without what would hurt this machine.
        let is_harmless = |line: &&str| {
            let harmful = ["to-usr", "to-the-root", "proc-sys", "keeper", "device", "mount"];
            !line.starts_with("say ") || !harmful.iter().any(|word| line.contains(word))
        };
        let script: String = SCRIPT.split_inclusive('\n').filter(is_harmless).collect();
        #[expect(clippy::disallowed_methods, reason = "the control runs outside the sandbox")]
        let ran = std::process::Command::new("sh")
            .args(["-c", &script, "canary"])
            .arg(&outside)
            .arg(port.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        for attempt in [
            "read-a-file-outside",
            "write-a-file-outside",
            "gain-privileges",
            "call-without-a-filter",
            "connect-over-tcp",
        ] {
            assert!(said.contains(&format!("{attempt} 1")), "{attempt}: {said}");
        }
        assert!(std::fs::read_to_string(&outside).unwrap().contains("escaped"));
    }
}
