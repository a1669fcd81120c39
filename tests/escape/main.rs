//! Attempts to get out, through the daemon's own door: a model chooses the calls, REST starts the
//! runs, and what happened is judged by effects outside. Every attempt is made again without the
//! sandbox, to show that it would work there. All of it in each room: the levels of confinement,
//! as root and as a user without any capability.
#![cfg(test)]
#![expect(
    clippy::future_not_send,
    clippy::disallowed_methods,
    reason = "each test runs on one thread; the machines outside are plain threads and processes"
)]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod files;
mod kernel;
mod network;
mod processes;
mod resources;
mod room;
mod upstream;
mod world;

use room::{Level, Room, User};
use upstream::Machines;
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
    let room = Room::open(level, user, &world, "").await;
    case::judge(&world, &room, cases(&world)).await;
}

async fn only_the_listed_machines_are_reached(level: Level, user: User) {
    let world = World::new(user);
    let machines = Machines::start();
    let room = Room::open(level, user, &world, &network::config(&world, &machines)).await;
    network::allowed_gets_through(&world, &room, &machines).await;
    network::judge(&world, &room, &machines).await;
    // A network opens nothing else: every other attempt again, by an agent that has one.
    let all = cases(&world).into_iter().map(case::Case::with_network).collect();
    case::judge(&world, &room, all).await;
}

#[tokio::test]
async fn only_the_listed_machines_are_reached_at_full_as_root() {
    only_the_listed_machines_are_reached(Level::Full, User::Root).await;
}

#[tokio::test]
async fn only_the_listed_machines_are_reached_at_full_as_a_user_without_capabilities() {
    only_the_listed_machines_are_reached(Level::Full, User::Plain).await;
}

#[tokio::test]
async fn only_the_listed_machines_are_reached_at_full_noproc_as_a_user_without_capabilities() {
    only_the_listed_machines_are_reached(Level::FullNoproc, User::Plain).await;
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
