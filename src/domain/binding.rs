//! What an answer to a question holds for: not the names on the card but what they stood for.
//!
//! Invariants: pure values; two equal ones mean the same bytes would be run in the same place. Names
//! are kept for people, everything else is compared.

use serde::{Deserialize, Serialize};

/// A directory by what it is. Its name may come to mean another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BoundDirectory {
    /// Where it was found, absolute.
    pub path: String,
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

/// A file by what it is, as `stat(2)` tells it. Times are nanoseconds since 1970; the time of the
/// last change of the inode cannot be set by whoever writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BoundFile {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// When its content was last changed.
    pub mtime_ns: i64,
    /// When anything about it was last changed.
    pub ctime_ns: i64,
}

/// The program that would be executed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BoundExecutable {
    /// Where it really lies, every link followed.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub file: BoundFile,
    /// SHA-256 (hex) of its content, where somebody beside root could write to it. Such a program
    /// is executed from a sealed copy of exactly these bytes.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// The file that a file tool would write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BoundTarget {
    /// Its path, absolute.
    pub path: String,
    /// Its directory; where that does not exist yet, the nearest one above that does.
    pub directory: BoundDirectory,
    /// What lies there now; nothing when it would be new.
    pub file: Option<BoundFile>,
}

/// What of a call is found out by looking at the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bound {
    /// Working directory of a program.
    #[serde(default)]
    pub cwd: Option<BoundDirectory>,
    /// The program; none where the backend's own image provides it, which `profile` names.
    #[serde(default)]
    pub executable: Option<BoundExecutable>,
    /// What a file tool writes.
    #[serde(default)]
    pub target: Option<BoundTarget>,
    /// SHA-256 (hex) over everything that the call may touch, its limits, the backend and its level.
    #[serde(default)]
    pub profile: String,
}

impl Bound {
    /// What is another than it was, for people and models; nothing when all is the same.
    pub fn difference(&self, now: &Self) -> Option<&'static str> {
        if self.cwd != now.cwd {
            Some("the working directory is another than the one that was approved")
        } else if self.executable != now.executable {
            Some("the program is another than the one that was approved")
        } else if self.target != now.target {
            Some("the file to be written, or its directory, is another than was approved")
        } else if self.profile != now.profile {
            Some("what the call may touch is not what was approved")
        } else {
            None
        }
    }
}

/// Everything that an approval binds; its hash is `approval.binding`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Binding<'a> {
    /// SHA-256 (hex) over tool and canonical arguments.
    pub args_hash: &'a str,
    /// What was found on the machine.
    pub bound: &'a Bound,
    /// Where the call could send something.
    pub egress: &'a [String],
    /// The version of agent and policy.
    pub policy_version: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Bound {
        let directory = BoundDirectory { path: "/w".to_owned(), dev: 1, ino: 2 };
        let file = BoundFile { dev: 1, ino: 3, bytes: 4, mtime_ns: 5, ctime_ns: 6 };
        Bound {
            cwd: Some(directory.clone()),
            executable: Some(BoundExecutable { path: "/w/x".to_owned(), file, sha256: None }),
            target: Some(BoundTarget { path: "/w/f".to_owned(), directory, file: Some(file) }),
            profile: "p".to_owned(),
        }
    }

    #[test]
    fn each_part_alone_makes_a_difference() {
        let was = bound();
        assert_eq!(was.difference(&bound()), None);
        let changes: [fn(&mut Bound); 8] = [
            |b| b.cwd.as_mut().unwrap().ino += 1,
            |b| b.cwd = None,
            |b| b.executable.as_mut().unwrap().file.ctime_ns += 1,
            |b| b.executable.as_mut().unwrap().sha256 = Some("x".to_owned()),
            |b| b.target.as_mut().unwrap().directory.dev += 1,
            |b| b.target.as_mut().unwrap().file = None,
            |b| b.profile.push('x'),
            |b| b.executable = None,
        ];
        for change in changes {
            let mut now = bound();
            change(&mut now);
            assert!(was.difference(&now).is_some(), "{now:?}");
        }
    }
}
