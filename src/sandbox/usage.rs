//! What the processes of a call use together, read from `/proc` as the daemon sees it.
//!
//! Invariants: read-only; every file read is one that a tool can neither hide nor write
//! (`stat`, `status` and `children` ask for no right over the process, and a process is found
//! through its parents, which it cannot choose); a process that ends while it is looked at counts
//! as nothing. It blocks for about 20 µs per process: call it off the async threads.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read},
    path::Path,
    time::Duration,
};

use rustix::param::{clock_ticks_per_second, page_size};

/// Processes that one look takes in: far above what `processes` lets a call have, so that a loop
/// made by reused numbers ends.
const PROCESSES_MAX: usize = 1 << 16;

/// What a call uses at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processes and threads, pid 1 of the sandbox included, as `RLIMIT_NPROC` counts them.
    pub(super) tasks: u64,
    /// CPU time of the living and of the dead that somebody has waited for.
    pub(super) cpu: Duration,
    /// Pages in memory, each counted once per process that maps it: never too little.
    pub(super) resident_bytes: u64,
    /// The largest address space of one process.
    pub(super) address_bytes_max: u64,
    /// The most open descriptors of one process; nothing before Linux 6.2.
    pub(super) open_files_max: u64,
}

/// One process, from `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    cpu_ticks: u64,
    threads: u64,
    address_bytes: u64,
    resident_pages: u64,
}

/// Looks at pid 1 of a sandbox and everything below it.
///
/// # Errors
/// When pid 1 itself cannot be read: it is gone, or this `/proc` does not show it.
pub(super) fn read(first: i32) -> io::Result<(Usage, Vec<i32>)> {
    let mut usage = Usage::default();
    let mut ticks = 0_u64;
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let mut waiting = vec![(first, 0)];
    while let Some((pid, parent)) = waiting.pop() {
        if found.len() >= PROCESSES_MAX || !seen.insert(pid) {
            continue;
        }
        let process = match stat(pid) {
            // Orphans go to pid 1; any other parent means that the number has a new owner.
            Ok(p) if pid == first || p.parent == parent || p.parent == first => whole(pid, p),
            Err(error) if pid == first => return Err(error),
            Ok(_) | Err(_) => continue,
        };
        found.push(pid);
        ticks = ticks.saturating_add(process.cpu_ticks);
        usage.tasks = usage.tasks.saturating_add(process.threads);
        let resident = process.resident_pages.saturating_mul(page_size() as u64);
        usage.resident_bytes = usage.resident_bytes.saturating_add(resident);
        usage.address_bytes_max = usage.address_bytes_max.max(process.address_bytes);
        usage.open_files_max = usage.open_files_max.max(open_files(with_memory(pid)));
        children(pid, process.threads, |child| waiting.push((child, pid)));
    }
    let millis = ticks.saturating_mul(1_000) / clock_ticks_per_second().max(1);
    usage.cpu = Duration::from_millis(millis);
    Ok((usage, found))
}

/// Memory that these processes and nobody else keep from being free: private and shared pages
/// without a file, page tables and swap. First as the kernel counts it per process; if that is
/// above `bytes_max`, with what several share divided among them, which costs a walk over their
/// page tables.
pub(super) fn memory(processes: &[i32], bytes_max: u64) -> u64 {
    let quick = processes.iter().map(|pid| quick_bytes(*pid)).fold(0, u64::saturating_add);
    if quick <= bytes_max {
        return quick;
    }
    let exact = |pid: &i32| shared_out_bytes(*pid).unwrap_or_else(|| quick_bytes(*pid));
    processes.iter().map(exact).fold(0, u64::saturating_add)
}

/// A process whose first thread has ended shows the memory and the descriptors of that thread:
/// none. Its other threads still have them, and `/proc` knows each thread by its own number.
fn with_memory(pid: i32) -> i32 {
    let has_memory =
        |of: i32| text(format!("/proc/{of}/status")).is_ok_and(|status| status.contains("VmRSS:"));
    if has_memory(pid) {
        return pid;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let numbers = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    numbers.into_iter().find(|thread| *thread != pid && has_memory(*thread)).unwrap_or(pid)
}

/// Its memory as a living thread has it, if the first one has ended.
fn whole(pid: i32, process: Process) -> Process {
    if process.address_bytes > 0 || process.threads <= 1 {
        return process;
    }
    let Ok(other) = stat(with_memory(pid)) else { return process };
    Process { address_bytes: other.address_bytes, resident_pages: other.resident_pages, ..process }
}

fn quick_bytes(pid: i32) -> u64 {
    let pid = with_memory(pid);
    let text = text(format!("/proc/{pid}/status")).unwrap_or_default();
    sum_of_kib(&text, &["RssAnon:", "RssShmem:", "VmPTE:", "VmSwap:"])
}

/// `None` where the kernel does not let us look, or does not know these fields.
fn shared_out_bytes(pid: i32) -> Option<u64> {
    let pid = with_memory(pid);
    let text = text(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let fields = ["Pss_Anon:", "Pss_Shmem:", "SwapPss:"];
    text.contains("Pss_Anon:").then(|| sum_of_kib(&text, &fields))
}

/// Memory of the whole machine that could still be had, and all of it, in bytes.
pub(super) fn machine_memory() -> Option<(u64, u64)> {
    let text = text("/proc/meminfo").ok()?;
    let field = |name| text.contains(name).then(|| sum_of_kib(&text, &[name]));
    Some((field("MemAvailable:")?, field("MemTotal:")?))
}

fn sum_of_kib(text: &str, fields: &[&str]) -> u64 {
    text.lines()
        .filter_map(|line| {
            let rest = fields.iter().find_map(|field| line.strip_prefix(field))?;
            rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
        .fold(0, |sum, kib| sum.saturating_add(kib.saturating_mul(1_024)))
}

fn stat(pid: i32) -> io::Result<Process> {
    let text = text(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The name stands in brackets and may hold anything, brackets too: what counts begins after the
/// last one (proc_pid_stat(5), whose field numbers are used here).
fn parse_stat(text: &str) -> Option<Process> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let cpu_ticks = [14, 15, 16, 17].into_iter().map(field).sum::<Option<u64>>()?;
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        cpu_ticks,
        threads: field(20)?,
        address_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

/// Since Linux 6.2 the directory's size is the number of descriptors.
fn open_files(pid: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/fd")).map_or(0, |found| found.len())
}

fn children(pid: i32, threads: u64, mut found: impl FnMut(i32)) {
    let mut of_thread = |thread: &str| {
        let text = text(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|n| n.parse().ok()).for_each(&mut found);
    };
    if threads <= 1 {
        return of_thread(&pid.to_string());
    }
    // Each thread has the children that it has made itself.
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        task.file_name().to_str().map(&mut of_thread);
    }
}

/// Names are bytes that a process chooses: what is no UTF-8 must not hide the rest.
fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(1 << 10);
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "77 (a) R 1 (x) S 42 77 77 0 -1 4194560 500 0 0 0 10 20 3 4 20 0 5 0 99 \
                        4096000 250 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0";

    #[test]
    fn a_processs_name_cannot_pose_as_its_numbers() {
        let found = parse_stat(STAT).unwrap();
        let expected = Process {
            parent: 42,
            cpu_ticks: 37,
            threads: 5,
            address_bytes: 4_096_000,
            resident_pages: 250,
        };
        assert_eq!(found, expected);
        assert_eq!(parse_stat("77 (a) R 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn fields_are_added_up_and_others_left_alone() {
        let text = "VmRSS:\t 9 kB\nRssAnon:\t 100 kB\nRssFile:\t 1 kB\nRssShmem:\t     8 kB\n";
        assert_eq!(sum_of_kib(text, &["RssAnon:", "RssShmem:"]), 108 << 10);
        assert_eq!(sum_of_kib("RssAnon: x kB", &["RssAnon:"]), 0);
    }

    #[test]
    fn this_process_and_its_memory_are_seen() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (before, _) = read(own).unwrap();
        assert!(before.tasks >= 1 && before.address_bytes_max > before.resident_bytes);
        assert!(before.open_files_max >= 3, "{before:?}");
        let ballast = vec![1_u8; 64 << 20];
        let (after, processes) = read(own).unwrap();
        assert!(after.resident_bytes >= before.resident_bytes + (60 << 20), "{before:?} {after:?}");
        // The quick count and the exact one agree on memory that nobody shares.
        let (quick, exact) = (memory(&processes, u64::MAX), memory(&processes, 0));
        assert!(quick >= 60 << 20 && exact >= 60 << 20, "{quick} {exact}");
        assert!(exact <= quick + (8 << 20), "{quick} {exact}");
        drop(ballast);
        assert!(read(i32::MAX).is_err());
        let (available, all) = machine_memory().unwrap();
        assert!(available > 0 && available <= all);
    }
}
