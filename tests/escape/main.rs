//! Attempts to get out, through the daemon's own door: a model chooses the calls, REST starts the
//! runs, and what happened is judged by effects outside. Every attempt is made again without the
//! sandbox, to show that it would work there. All of it in each room: the levels of confinement,
//! as root and as a user without any capability.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod files;
mod kernel;
mod processes;
mod resources;
mod room;
mod world;

use room::{Level, Room, User};
use world::World;

/// Every attempt on this world.
fn cases(world: &World) -> Vec<case::Case> {
    let mut all = files::cases(world);
    all.extend(processes::cases(world));
    all.extend(kernel::cases());
    all.extend(resources::cases(world));
    all
}

async fn nothing_leaks(level: Level, user: User) {
    let world = World::new(user);
    let room = Room::open(level, user, &world).await;
    case::judge(&world, &room, cases(&world)).await;
}

#[tokio::test]
async fn nothing_leaks_at_full_as_root() {
    nothing_leaks(Level::Full, User::Root).await;
}

#[tokio::test]
async fn nothing_leaks_at_full_as_a_user_without_capabilities() {
    nothing_leaks(Level::Full, User::Plain).await;
}

#[tokio::test]
async fn nothing_leaks_at_full_noproc_as_root() {
    nothing_leaks(Level::FullNoproc, User::Root).await;
}

#[tokio::test]
async fn nothing_leaks_at_full_noproc_as_a_user_without_capabilities() {
    nothing_leaks(Level::FullNoproc, User::Plain).await;
}

#[tokio::test]
async fn only_the_documented_remainder_leaks_at_landlock_as_root() {
    nothing_leaks(Level::Landlock, User::Root).await;
}

#[tokio::test]
async fn only_the_documented_remainder_leaks_at_landlock_as_a_user_without_capabilities() {
    nothing_leaks(Level::Landlock, User::Plain).await;
}
