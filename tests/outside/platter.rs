//! A disk as it may look after the power went: what was synced, and any part of what was not.
//!
//! The model is that of POSIX, which promises least. A write counts after an fsync of its file, a
//! name after an fsync of its directory. Before that each write may have reached the disk or not,
//! whole or in sectors of 512 bytes and in any order. Names reach it in order. What a failed fsync
//! was about may be lost for ever, whatever later ones say: the kernel forgets that it is dirty.

use std::collections::BTreeMap;

use super::dice::Dice;

/// The unit that a disk writes whole.
const SECTOR: usize = 512;
/// Begins every record of the shim's log.
const MAGIC: u32 = 0x5ead_10c5;
const HEAD: usize = 19;

/// One call of the daemon, as the shim has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The log's length behind this record.
    pub(crate) end: u64,
    pub(crate) call: Call,
    pub(crate) name: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Call {
    Write(usize, Vec<u8>),
    Truncate(usize),
    Synced,
    SyncFailed,
    Created,
    Removed,
    RenamedTo(String),
}

/// Reads the log.
pub(crate) fn records(log: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEAD <= log.len() {
        let number = |from: usize, to: usize| {
            log[at + from..at + to].iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte))
        };
        assert_eq!(number(0, 4), u64::from(MAGIC), "the log is torn at {at}");
        let op = log[at + 4];
        let length = |from, to| usize::try_from(number(from, to)).expect("a length");
        let (name_len, offset, len) = (length(5, 7), length(7, 15), length(15, 19));
        let begin = at + HEAD + name_len;
        if begin + len > log.len() {
            break;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a name");
        let name = text(&log[at + HEAD..begin]);
        let data = &log[begin..begin + len];
        let call = match op {
            b'W' => Call::Write(offset, data.to_vec()),
            b'T' => Call::Truncate(offset),
            b'S' => Call::Synced,
            b'F' => Call::SyncFailed,
            b'C' => Call::Created,
            b'U' => Call::Removed,
            b'R' => Call::RenamedTo(text(data)),
            other => panic!("the log holds {other}"),
        };
        at = begin + len;
        found.push(Record { end: at as u64, call, name });
    }
    found
}

/// The same log as SQLite with `synchronous=NORMAL` would have written it: the log of the database
/// is synced before a checkpoint copies it, and when it begins, but not at a commit.
pub(crate) fn without_commit_syncs(records: &[Record]) -> Vec<Record> {
    let is_database = |name: &str| name.starts_with("agent-runtime.db");
    let mut kept = Vec::with_capacity(records.len());
    for (n, record) in records.iter().enumerate() {
        let is_sync_of_log = matches!(record.call, Call::Synced) && record.name.ends_with("-wal");
        let mut others = records[n + 1..].iter().filter(|r| is_database(&r.name));
        let is_before_checkpoint = others.next().is_some_and(|next| {
            next.name == "agent-runtime.db" && matches!(next.call, Call::Write(..))
        });
        let before = records[..n].iter().rev().find(|r| is_database(&r.name));
        let begins = before
            .is_some_and(|before| matches!(&before.call, Call::Write(0, data) if data.len() == 32));
        if !is_sync_of_log || is_before_checkpoint || begins {
            kept.push(record.clone());
        }
    }
    kept
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Created(String, usize),
    Removed(String),
    Renamed(String, String),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// How much of what was not synced reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing.
    All,
    /// Some writes, each whole.
    SomeWrites,
    /// Some sectors.
    SomeSectors,
    /// All of it: only the process died.
    Nothing,
}

impl Loss {
    pub(crate) fn any(dice: &mut Dice) -> Self {
        match dice.roll(10) {
            0..3 => Self::All,
            3..6 => Self::SomeWrites,
            6..9 => Self::SomeSectors,
            _ => Self::Nothing,
        }
    }
}

/// The disk while the daemon works.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platter {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<Naming>,
}

impl Platter {
    /// The daemon makes a call. `dice` say what a failed fsync has lost.
    pub(crate) fn take(&mut self, record: &Record, dice: &mut Dice) {
        let name = &record.name;
        match &record.call {
            Call::Created => {
                self.files.push(File::default());
                self.rename(Naming::Created(name.clone(), self.files.len() - 1));
            }
            Call::Removed => self.rename(Naming::Removed(name.clone())),
            Call::RenamedTo(new) => self.rename(Naming::Renamed(name.clone(), new.clone())),
            Call::Write(offset, data) => {
                self.change(name, Change::Write(*offset, data.clone()));
            }
            Call::Truncate(len) => self.change(name, Change::Truncate(*len)),
            Call::Synced if name.is_empty() => {
                for naming in std::mem::take(&mut self.pending_names) {
                    apply_naming(&mut self.durable_names, naming);
                }
            }
            Call::Synced => {
                if let Some(file) = self.file(name) {
                    for change in std::mem::take(&mut file.pending) {
                        apply(&mut file.durable, &change);
                    }
                }
            }
            Call::SyncFailed => {
                if let Some(file) = self.file(name) {
                    let loss = Loss::any(dice);
                    let durable = std::mem::take(&mut file.durable);
                    file.durable = after(durable, &std::mem::take(&mut file.pending), loss, dice);
                }
            }
        }
    }

    fn file(&mut self, name: &str) -> Option<&mut File> {
        let index = *self.names.get(name)?;
        self.files.get_mut(index)
    }

    fn change(&mut self, name: &str, change: Change) {
        // A name that was replaced while its file was open is nobody's any more.
        if let Some(file) = self.file(name) {
            file.pending.push(change);
        }
    }

    fn rename(&mut self, naming: Naming) {
        apply_naming(&mut self.names, naming.clone());
        self.pending_names.push(naming);
    }

    /// The power goes now: the files that are there when it comes back.
    pub(crate) fn image(&self, loss: Loss, dice: &mut Dice) -> BTreeMap<String, Vec<u8>> {
        let mut names = self.durable_names.clone();
        let kept = match loss {
            Loss::All => 0,
            Loss::Nothing => self.pending_names.len(),
            Loss::SomeWrites | Loss::SomeSectors => dice.below(self.pending_names.len() + 1),
        };
        for naming in &self.pending_names[..kept] {
            apply_naming(&mut names, naming.clone());
        }
        let content = |index: usize, dice: &mut Dice| {
            let file = &self.files[index];
            after(file.durable.clone(), &file.pending, loss, dice)
        };
        names.into_iter().map(|(name, index)| (name, content(index, dice))).collect()
    }
}

fn apply_naming(names: &mut BTreeMap<String, usize>, naming: Naming) {
    match naming {
        Naming::Created(name, index) => {
            names.insert(name, index);
        }
        Naming::Removed(name) => {
            names.remove(&name);
        }
        Naming::Renamed(old, new) => {
            if let Some(index) = names.remove(&old) {
                names.insert(new, index);
            }
        }
    }
}

fn after(mut bytes: Vec<u8>, pending: &[Change], loss: Loss, dice: &mut Dice) -> Vec<u8> {
    for change in pending {
        let is_whole = match loss {
            Loss::All => continue,
            Loss::Nothing => true,
            Loss::SomeWrites => dice.roll(2) == 0,
            Loss::SomeSectors => matches!(change, Change::Truncate(_)) && dice.roll(2) == 0,
        };
        match change {
            _ if is_whole => apply(&mut bytes, change),
            Change::Write(offset, data) if loss == Loss::SomeSectors => {
                let mut at = 0;
                while at < data.len() {
                    let end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
                    let end = end.min(data.len());
                    if dice.roll(2) == 0 {
                        apply(&mut bytes, &Change::Write(offset + at, data[at..end].to_vec()));
                    }
                    at = end;
                }
            }
            Change::Write(..) | Change::Truncate(_) => {}
        }
    }
    bytes
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
        Change::Truncate(len) => bytes.resize(*len, 0),
    }
}

#[test]
fn a_platter_keeps_what_was_synced_and_any_part_of_the_rest() {
    let record = |name: &str, call| Record { end: 0, call, name: name.to_owned() };
    let mut dice = Dice::new(7);
    let mut platter = Platter::default();
    for call in [Call::Created, Call::Write(0, vec![1; 2_048]), Call::Synced] {
        platter.take(&record("a", call), &mut dice);
    }
    assert!(platter.image(Loss::All, &mut dice).is_empty(), "the name was not synced");
    platter.take(&record("", Call::Synced), &mut dice);
    platter.take(&record("a", Call::Write(512, vec![2; 1_536])), &mut dice);
    let image = |loss, dice: &mut Dice| platter.image(loss, dice).remove("a").expect("a file");
    assert_eq!(image(Loss::All, &mut dice), vec![1; 2_048]);
    assert_eq!(image(Loss::Nothing, &mut dice)[512..], [2; 1_536]);
    let mut torn = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let bytes = image(Loss::SomeSectors, &mut dice);
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR).all(|s| s.iter().all(|b| *b == s[0])), "within a sector");
        torn.insert(sectors);
    }
    assert_eq!(torn.len(), 8, "every choice of three sectors");
    // What a failed fsync lost does not come back with the next one.
    let mut lost = 0;
    for seed in 1..100 {
        let (mut dice, mut platter) = (Dice::new(seed), platter.clone());
        platter.take(&record("a", Call::SyncFailed), &mut dice);
        platter.take(&record("a", Call::Synced), &mut dice);
        lost += u32::from(platter.image(Loss::Nothing, &mut dice)["a"][512..] != [2; 1_536]);
    }
    assert!((20..99).contains(&lost), "{lost}");
}
