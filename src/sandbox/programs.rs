//! Which files a list of programs needs, found by the names of the view itself.
//!
//! Invariants: reads names and the first bytes of files, and starts nothing. A name is followed
//! link by link as the kernel would, so what is found is what the view shows; what is not found is
//! left out, which can only make the view smaller. Bounded in links, interpreters and bytes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsString,
    fs::File,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Component, Path, PathBuf},
};

/// Links that are followed for one name, as the kernel's own bound (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;
/// Programs found for one list, helpers and interpreters counted.
const PROGRAMS_MAX: usize = 512;
/// Bytes of a `#!` line that the kernel looks at (`BINPRM_BUF_SIZE`).
const SCRIPT_BYTES: usize = 256;
/// Program headers of an ELF file that are looked at, and bytes of its loader's name.
const HEADERS_MAX: u16 = 64;
const LOADER_BYTES_MAX: u64 = 256;

/// Directories that hold programs and nothing else: in a view with a list they are empty but for
/// what the list needs.
const COVERED: [&str; 10] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/games",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/games",
    "/usr/local/libexec",
    // Real directories only where `/usr` is not merged.
    "/bin",
    "/sbin",
];

/// Directories of programs below those of libraries: empty in a view in which nothing of them is
/// needed, so that the loader cannot be used to run what lies there.
const HIDDEN: [&str; 11] = [
    "/usr/lib/git-core",
    "/usr/lib/gcc",
    "/usr/lib/gcc-cross",
    "/usr/lib/rustlib",
    "/usr/lib/openssh",
    "/usr/lib/systemd",
    "/usr/lib/apt",
    "/usr/lib/gnupg",
    "/usr/lib/polkit-1",
    "/usr/lib/dbus-1.0",
    "/usr/local/lib/git-core",
];
/// Where suites keep a `bin` of their own, one or two levels down: `/usr/lib/jvm/x/bin`.
const SUITES: [&str; 2] = ["/usr/lib", "/usr/local/lib"];
/// Directories that are looked through for such a `bin`.
const LOOKED_AT_MAX: usize = 2_000;

/// The directories of programs on this machine: what a view with a list covers.
pub(super) fn directories() -> Vec<PathBuf> {
    let named = COVERED.iter().chain(&HIDDEN).map(PathBuf::from);
    let suites = SUITES.iter().flat_map(|lib| subdirectories(Path::new(lib)));
    let deeper = suites.flat_map(|suite| {
        let below = subdirectories(&suite);
        std::iter::once(suite).chain(below)
    });
    let bins = deeper.take(LOOKED_AT_MAX).map(|suite| suite.join("bin"));
    let bins = bins.filter(|bin| holds_binaries(bin));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in named.chain(bins) {
        let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        if is_directory && !found.iter().any(|known| path.starts_with(known)) {
            found.push(path);
        }
    }
    found
}

/// Scripts may load what lies beside them, and the loader runs none.
fn holds_binaries(bin: &Path) -> bool {
    let entries = std::fs::read_dir(bin).into_iter().flatten().flatten().take(LOOKED_AT_MAX);
    let is_binary = |path: &Path| {
        let mut magic = [0; 4];
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        file.is_ok_and(|f| f.read_exact_at(&mut magic, 0).is_ok()) && magic == *b"\x7fELF"
    };
    entries.map(|e| e.path()).any(|path| is_binary(&path))
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let is_directory = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_directory).map(|e| e.path()).collect()
}

/// What programs of one family start by themselves. Reviewed: nobody gets a row for convenience,
/// only where the program cannot do its work without.
struct Family {
    names: &'static [&'static str],
    /// Programs, found beside the one that is listed or along the search path.
    programs: &'static [&'static str],
    /// Directories of helpers, relative to the directory of the real program.
    trees: &'static [&'static str],
}

const FAMILIES: [Family; 7] = [
    // Transports and the less common commands are programs of their own; local transport, aliases
    // and submodules go through the shell.
    Family {
        names: &["git"],
        programs: &["sh"],
        trees: &["../libexec/git-core", "../lib/git-core"],
    },
    // The driver starts compiler, assembler and linker.
    Family {
        names: &["gcc", "g++", "cc", "c++", "c89", "c99", "cpp", "clang", "clang++"],
        programs: &["as", "ld"],
        trees: &["../lib/gcc", "../libexec/gcc"],
    },
    // Recipes and scripts are lines of the shell.
    Family { names: &["make", "gmake"], programs: &["sh"], trees: &[] },
    Family { names: &["npm", "npx"], programs: &["sh"], trees: &[] },
    // Compression is done by filters, which it starts through the shell.
    Family { names: &["tar"], programs: &["sh", "gzip", "bzip2", "xz", "zstd"], trees: &[] },
    Family { names: &["rustc", "rustdoc"], programs: &["cc"], trees: &["../lib/rustlib"] },
    Family { names: &["cargo"], programs: &["rustc", "rustdoc"], trees: &[] },
];

/// Where a path really leads, every link followed by the names of this machine.
pub(super) fn follow(path: &Path) -> Option<PathBuf> {
    let (search, needs, seen) = (Vec::new(), Needs::default(), BTreeSet::new());
    Finder { root: Path::new("/"), search, needs, seen }.follow(path).map(|found| found.real)
}

/// What a list of programs needs to start and to work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Links in covered directories on the way to a program, with their targets.
    pub(super) links: BTreeMap<PathBuf, PathBuf>,
    /// Files that may be executed: programs, interpreters, loaders. Real paths.
    pub(super) files: BTreeSet<PathBuf>,
    /// Directories of helpers. Real paths.
    pub(super) trees: BTreeSet<PathBuf>,
}

/// Finds what a list needs: bare names along `search`, or absolute paths. Other names need nothing.
pub(super) fn resolve(names: &[String], search: &str) -> Needs {
    resolve_below(Path::new("/"), names, search)
}

fn resolve_below(root: &Path, names: &[String], search: &str) -> Needs {
    let search = search.split(':').map(PathBuf::from).collect();
    let mut finder = Finder { root, search, needs: Needs::default(), seen: BTreeSet::new() };
    for name in names {
        finder.add(name, None);
    }
    finder.needs
}

struct Finder<'r> {
    /// What the view's `/` is: another directory in tests.
    root: &'r Path,
    search: Vec<PathBuf>,
    needs: Needs,
    seen: BTreeSet<PathBuf>,
}

/// A name that was followed to its end.
struct Followed {
    real: PathBuf,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Finder<'_> {
    /// Adds a program by name or path; `beside` is looked into before the search path.
    fn add(&mut self, name: &str, beside: Option<&Path>) {
        let candidates: Vec<PathBuf> = if name.starts_with('/') {
            vec![PathBuf::from(name)]
        } else if name.is_empty() || name.contains('/') {
            Vec::new()
        } else {
            let directories = beside.into_iter().chain(self.search.iter().map(PathBuf::as_path));
            directories.map(|directory| directory.join(name)).collect()
        };
        for candidate in candidates {
            if let Some((real, file)) = self.program(&candidate) {
                self.and_what_it_starts(name, &real, &file);
                return;
            }
        }
    }

    /// The real file of a program, if there is one.
    fn program(&mut self, path: &Path) -> Option<(PathBuf, File)> {
        let Followed { real, links } = self.follow(path)?;
        // NONBLOCK: an operator may have named something in a tree where a tool has put a fifo.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(self.below(&real))
            .ok()?;
        let found = file.metadata().ok()?;
        if !found.is_file() || found.mode() & 0o111 == 0 {
            return None;
        }
        self.needs.links.extend(links);
        Some((real, file))
    }

    fn and_what_it_starts(&mut self, name: &str, real: &Path, file: &File) {
        if self.seen.len() >= PROGRAMS_MAX || !self.seen.insert(real.join(name)) {
            return;
        }
        self.needs.files.insert(real.to_owned());
        let mut head = [0; SCRIPT_BYTES];
        let length = file.read_at(&mut head, 0).unwrap_or(0);
        let head = head.get(..length).unwrap_or_default();
        if let Some(line) = head.strip_prefix(b"#!") {
            self.interpreter(line);
        } else if let Some(Followed { real, .. }) = loader(file).and_then(|path| self.follow(&path))
        {
            self.needs.files.insert(real);
        }
        let names = [Path::new(name).file_name(), real.file_name()];
        let is_of = |family: &Family| {
            names.iter().flatten().filter_map(|n| n.to_str()).any(|n| belongs(n, family))
        };
        let directory = real.parent().unwrap_or(real).to_owned();
        for family in FAMILIES.iter().filter(|family| is_of(family)) {
            for program in family.programs {
                self.add(program, Some(&directory));
            }
            for tree in family.trees {
                let found = self.follow(&directory.join(tree)).map(|f| f.real);
                self.needs.trees.extend(found.filter(|path| self.below(path).is_dir()));
            }
        }
    }

    /// What a `#!` line names, and for `env` the program after it.
    fn interpreter(&mut self, line: &[u8]) {
        let end = line.iter().position(|b| *b == b'\n').unwrap_or(line.len());
        let Some(Ok(line)) = line.get(..end).map(std::str::from_utf8) else { return };
        let mut words = line.split_ascii_whitespace();
        let Some(path) = words.next() else { return };
        self.add(path, None);
        if Path::new(path).file_name().is_some_and(|name| name == "env")
            && let Some(program) = words.find(|word| !word.starts_with('-') && !word.contains('='))
        {
            self.add(program, None);
        }
    }

    /// Follows a path of the view to its end, link by link.
    fn follow(&self, path: &Path) -> Option<Followed> {
        let mut at = PathBuf::from("/");
        let mut links = Vec::new();
        let mut pending: VecDeque<OsString> = parts(path).collect();
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            match std::fs::read_link(self.below(&next)) {
                Ok(target) => {
                    if links.len() >= LINKS_MAX {
                        return None;
                    }
                    for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                        pending.push_front(part);
                    }
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    links.push((next, target));
                }
                // Not a link.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => at = next,
                Err(_) => return None,
            }
        }
        let is_within = |link: &Path| {
            link.parent().is_some_and(|parent| COVERED.iter().any(|c| parent.starts_with(c)))
        };
        links.retain(|(link, _)| is_within(link));
        Some(Followed { real: at, links })
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Whether a name is one of a family, a version at its end or not: `gcc`, `gcc-12`.
fn belongs(name: &str, family: &Family) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let stem = stem.trim_end_matches('-');
    family.names.iter().any(|n| *n == name || *n == stem)
}

/// The loader that an ELF program names (`PT_INTERP`), as the kernel reads it (elf(5)).
fn loader(file: &File) -> Option<PathBuf> {
    const PT_INTERP: u32 = 3;
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let headers = u64::from_le_bytes(head.get(32..40)?.try_into().ok()?);
    let size = u16::from_le_bytes(head.get(54..56)?.try_into().ok()?);
    let count = u16::from_le_bytes(head.get(56..58)?.try_into().ok()?);
    for number in 0..count.min(HEADERS_MAX) {
        let mut header = [0; 56];
        let at = headers.checked_add(u64::from(number) * u64::from(size))?;
        file.read_exact_at(&mut header, at).ok()?;
        if u32::from_le_bytes(header.get(..4)?.try_into().ok()?) != PT_INTERP {
            continue;
        }
        let at = u64::from_le_bytes(header.get(8..16)?.try_into().ok()?);
        let length = u64::from_le_bytes(header.get(32..40)?.try_into().ok()?);
        let mut name = vec![0; usize::try_from(length.min(LOADER_BYTES_MAX)).ok()?];
        file.read_exact_at(&mut name, at).ok()?;
        let name = name.split(|b| *b == 0).next()?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name));
        return path.is_absolute().then_some(path);
    }
    None
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
