//! When a workspace is counted, and what a count means for a call.
//!
//! Invariants: pure. A tree is counted when its file system has lost so much room that the quota
//! may be near, and now and then in any case; never so often that counting costs more than a
//! tenth of one processor. A call that begins above the quota may go on as long as it adds
//! nothing: cleaning up must stay possible.

use std::time::Duration;

use tokio::time::Instant;

use super::space::{Held, Room};
use crate::domain::ToolLimits;

/// Time after which a count is repeated although the file system shows no loss of room: what one
/// program takes another may have given back meanwhile.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// The same where the file system does not tell how many files it holds.
const COUNT_EVERY_BLIND: Duration = Duration::from_secs(1);
/// A count that took a while is not repeated before so many times that while.
const REST_PER_COST: u32 = 10;
/// Loss of room that is no reason to count even when the quota is used up: others write too.
const SLACK: Held = Held { bytes: 64 << 10, inodes: 16 };
/// Room that a call must have seen vanish before a full disk is laid to its account.
const STARVING_BYTES: u64 = 1 << 20;
/// Part of a file system that is never asked to stay free, so that small ones can be used.
const FLOOR_PART: u64 = 20;

/// The last count of a tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) held: Held,
    /// What was free when the count began.
    pub(super) free: Held,
    pub(super) at: Instant,
    pub(super) cost: Duration,
}

/// What a workspace may hold.
pub(super) const fn quota(limits: &ToolLimits) -> Held {
    Held { bytes: limits.workspace_bytes, inodes: limits.workspace_inodes }
}

/// Whether a tree is to be counted now.
pub(super) fn is_due(known: Option<&Known>, room: &Room, quota: Held, now: Instant) -> bool {
    if is_out_of_reach(room, quota) {
        return false;
    }
    let Some(known) = known else { return true };
    let age = now.saturating_duration_since(known.at);
    if age < known.cost * REST_PER_COST {
        return false;
    }
    let every = if room.total.inodes == 0 { COUNT_EVERY_BLIND } else { COUNT_EVERY };
    age >= every || has_shrunk(known, room, quota)
}

/// Whether the file system has lost so much since the count that the quota may be near.
pub(super) fn has_shrunk(known: &Known, room: &Room, quota: Held) -> bool {
    let left = |quota: u64, held: u64, slack: u64| (quota.saturating_sub(held) / 4).max(slack);
    let taken = Held {
        bytes: known.free.bytes.saturating_sub(room.free.bytes),
        inodes: known.free.inodes.saturating_sub(room.free.inodes),
    };
    taken.bytes > left(quota.bytes, known.held.bytes, SLACK.bytes)
        || taken.inodes > left(quota.inodes, known.held.inodes, SLACK.inodes)
}

/// The whole file system is smaller than the quota.
const fn is_out_of_reach(room: &Room, quota: Held) -> bool {
    let has_few_files = room.total.inodes > 0 && room.total.inodes <= quota.inodes;
    room.total.bytes <= quota.bytes && has_few_files
}

/// What one call may let its workspace grow to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    quota: Held,
    allowed: Option<Held>,
}

impl Allowance {
    pub(super) const fn new(quota: Held) -> Self {
        Self { quota, allowed: None }
    }

    /// Whether it is known what the call began with.
    pub(super) const fn has_begun(&self) -> bool {
        self.allowed.is_some()
    }

    /// Takes a count: the first says what the call began with. Names the limit that is passed.
    pub(super) fn judge(&mut self, held: Held) -> Option<&'static str> {
        let allowed = *self.allowed.get_or_insert(Held {
            bytes: self.quota.bytes.max(held.bytes),
            inodes: self.quota.inodes.max(held.inodes),
        });
        if held.bytes > allowed.bytes {
            Some("workspace_bytes")
        } else if held.inodes > allowed.inodes {
            Some("workspace_inodes")
        } else {
            None
        }
    }
}

/// Whether the file system is so full that the daemon's own store is in danger, and became fuller
/// while this call ran.
pub(super) fn is_starved(room: &Room, floor_bytes: u64, free_at_start: u64) -> bool {
    let floor = floor_bytes.min(room.total.bytes / FLOOR_PART);
    room.free.bytes < floor && room.free.bytes.saturating_add(STARVING_BYTES) <= free_at_start
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const QUOTA: Held = Held { bytes: 100 * MIB, inodes: 1_000 };

    fn room(free_bytes: u64, free_inodes: u64) -> Room {
        let total = Held { bytes: 10_000 * MIB, inodes: 100_000 };
        let free = Held { bytes: free_bytes, inodes: free_inodes };
        Room { total, free, used: Held::default() }
    }

    fn known(bytes: u64, inodes: u64, at: Instant) -> Known {
        let free = Held { bytes: 5_000 * MIB, inodes: 50_000 };
        Known { held: Held { bytes, inodes }, free, at, cost: Duration::from_millis(10) }
    }

    #[test]
    fn a_tree_is_counted_when_room_vanishes_and_now_and_then_but_not_all_the_time() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let same = room(5_000 * MIB, 50_000);
        assert!(is_due(None, &same, QUOTA, start), "never counted");
        let k = known(60 * MIB, 600, start);
        assert!(!is_due(Some(&k), &same, QUOTA, after(1_000)), "nothing has changed");
        assert!(is_due(Some(&k), &same, QUOTA, after(5_000)), "it was long ago");
        let fuller = room(4_989 * MIB, 50_000);
        assert!(is_due(Some(&k), &fuller, QUOTA, after(200)), "a quarter of what was left");
        assert!(!is_due(Some(&k), &fuller, QUOTA, after(99)), "counting may not cost more");
        assert!(!is_due(Some(&k), &room(4_991 * MIB, 50_000), QUOTA, after(200)));
        assert!(is_due(Some(&k), &room(5_000 * MIB, 49_899), QUOTA, after(200)), "files");
        // Above the quota every loss counts but the noise of others.
        let k = known(160 * MIB, 600, start);
        assert!(is_due(Some(&k), &room(4_999 * MIB, 50_000), QUOTA, after(200)));
        assert!(!is_due(Some(&k), &room(5_000 * MIB - 4_096, 49_999), QUOTA, after(200)));
    }

    #[test]
    fn a_quota_beyond_the_file_system_is_not_watched() {
        let mut small = room(MIB, 10);
        small.total = Held { bytes: 100 * MIB, inodes: 1_000 };
        assert!(!is_due(None, &small, QUOTA, Instant::now()));
        small.total.inodes = 1_001;
        assert!(is_due(None, &small, QUOTA, Instant::now()));
        small.total.inodes = 0;
        assert!(is_due(None, &small, QUOTA, Instant::now()), "it does not tell");
    }

    #[test]
    fn only_growth_above_the_quota_is_punished() {
        let held = |bytes, inodes| Held { bytes: bytes * MIB, inodes };
        let mut within = Allowance::new(QUOTA);
        assert_eq!(within.judge(held(10, 10)), None);
        assert_eq!(within.judge(held(100, 1_000)), None);
        assert_eq!(within.judge(held(101, 10)), Some("workspace_bytes"));
        assert_eq!(within.judge(held(10, 1_001)), Some("workspace_inodes"));
        let mut above = Allowance::new(QUOTA);
        assert_eq!(above.judge(held(500, 10)), None, "it began so");
        assert_eq!(above.judge(held(300, 10)), None, "it cleans up");
        assert_eq!(above.judge(held(501, 10)), Some("workspace_bytes"));
    }

    #[test]
    fn a_full_disk_ends_calls_that_saw_it_fill() {
        let floor = 256 * MIB;
        let room = |free| Room { free: Held { bytes: free, inodes: 9 }, ..room(0, 9) };
        assert!(is_starved(&room(255 * MIB), floor, 300 * MIB));
        assert!(!is_starved(&room(257 * MIB), floor, 300 * MIB), "above the floor");
        assert!(!is_starved(&room(255 * MIB), floor, 255 * MIB), "it was as full before");
        assert!(!is_starved(&room(255 * MIB), floor, 100 * MIB), "it is being emptied");
        let mut small = room(90 * MIB);
        small.total.bytes = 1_000 * MIB;
        assert!(!is_starved(&small, floor, 300 * MIB), "a twentieth is enough on a small disk");
    }
}
