//! Bombs: what they can take is bounded, and they are gone with the call.

use crate::{
    case::{Case, case},
    world::World,
};

/// Every attempt to take more than is granted, by the agent `tight`.
pub(crate) fn cases(world: &World) -> Vec<Case> {
    let bomb = world.at("bomb");
    let bomb = bomb.as_str();
    let inodes = world.path("inodes");
    drop(std::fs::create_dir(&inodes));
    let inodes = inodes.display().to_string();
    let clean = |world: &World| {
        let directory = world.path("inodes");
        drop(std::fs::remove_dir_all(&directory));
        std::fs::create_dir(directory).unwrap();
    };
    let more = |word: &'static str, bound: u64| {
        move |_: &World, seen: &crate::room::Seen| seen.number(word) > bound
    };
    vec![
        case("start 300 processes", &["fork-bomb", "300"]).by("tight").if_seen(more("made", 50)),
        case("take 512 MiB of memory", &["memory-bomb", "512"])
            .by("tight")
            .if_seen(more("got", 256)),
        case("fill /tmp", &["disk-bomb", "40", "/tmp/bomb"])
            .unconfined(&["disk-bomb", "40", bomb])
            .by("tight")
            .if_seen(more("got", 16)),
        case("fill /dev/shm", &["disk-bomb", "40", "/dev/shm/bomb"])
            .unconfined(&["disk-bomb", "40", bomb])
            .by("tight")
            .if_seen(more("got", 16)),
        case("make 2,000 files in /tmp", &["inode-bomb", "2000", "/tmp"])
            .unconfined(&["inode-bomb", "2000", &inodes])
            .by("tight")
            .if_seen(more("got", 1_000))
            .reset(clean),
        case("write a large file", &["disk-bomb", "40", "large"])
            .unconfined(&["disk-bomb", "40", bomb])
            .by("tight")
            .if_seen(more("got", 20)),
        case("open 500 files", &["fd-bomb", "500"]).by("tight").if_seen(more("got", 64)),
    ]
}
