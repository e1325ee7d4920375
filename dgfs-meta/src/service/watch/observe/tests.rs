//! Looks at a cluster, and what they tell.

use dgfs_proto::class::Class;
use dgfs_proto::ids::{ServerId, SessionId};
use dgfs_proto::map::Standing;
use dgfs_proto::meta::{ClassHealth, EventKind};

use super::{MAP_TOLD_MS, Observer};
use crate::core::{ConsumerSeen, Seen, ServerSeen, SessionSeen};

fn server(id: u32) -> ServerSeen {
    ServerSeen {
        id: ServerId(id),
        label: "a".to_owned(),
        up: true,
        standing: Standing::Active,
        empty: false,
        silent_ms: 0,
        capacity_bytes: 0,
        free_bytes: 0,
        damaged: 0,
        healed: 0,
    }
}

fn seen(servers: Vec<ServerSeen>) -> Seen {
    Seen { epoch: 1, servers, ..Seen::default() }
}

fn observer(first: &Seen) -> Observer {
    let mut observer = Observer::default();
    assert!(observer.look(0, first.clone(), &[]).is_empty(), "the first look says nothing");
    observer
}

/// Kinds of what a second look tells.
fn kinds(first: &Seen, second: Seen) -> Vec<EventKind> {
    observer(first).look(1, second, &[]).into_iter().map(|(kind, _, _)| kind).collect()
}

#[test]
fn each_change_of_a_server_is_told_once() {
    let all = seen(vec![server(1)]);
    let with = |change: fn(&mut ServerSeen)| {
        let mut changed = server(1);
        change(&mut changed);
        seen(vec![changed])
    };
    let down = with(|server| server.up = false);
    let out = with(|server| (server.up, server.standing) = (false, Standing::Out));
    let draining = with(|server| server.standing = Standing::Draining);
    let empty = with(|server| (server.standing, server.empty) = (Standing::Draining, true));
    assert_eq!(kinds(&all, all.clone()), []);
    assert_eq!(kinds(&all, down.clone()), [EventKind::ServerDown]);
    assert_eq!(kinds(&down, all.clone()), [EventKind::ServerUp]);
    assert_eq!(kinds(&down, out), [EventKind::ServerOut]);
    assert_eq!(kinds(&all, draining.clone()), [EventKind::ServerDraining]);
    assert_eq!(kinds(&draining, all.clone()), [EventKind::ServerUndrained]);
    assert_eq!(kinds(&draining, empty.clone()), [EventKind::ServerDrained]);
    assert_eq!(kinds(&empty, empty.clone()), []);
    assert_eq!(kinds(&all, seen(Vec::new())), [EventKind::ServerRemoved]);
    assert_eq!(kinds(&all, seen(vec![server(1), server(2)])), [EventKind::ServerJoined]);
}

#[test]
fn damage_is_counted_also_when_a_daemon_began_anew() {
    let mut before = server(1);
    (before.damaged, before.healed) = (5, 5);
    let mut after = server(1);
    after.damaged = 2;
    let told = observer(&seen(vec![before.clone()])).look(1, seen(vec![after]), &[]);
    assert_eq!(told.len(), 1);
    assert!(told[0].0 == EventKind::DamageFound && told[0].2.contains("met 2 times"), "{told:?}");
    let mut more = before.clone();
    (more.damaged, more.healed) = (6, 8);
    assert_eq!(kinds(&seen(vec![before]), seen(vec![more])), [EventKind::DamageFound, EventKind::DamageHealed]);
}

fn health(counts: [u32; 3], places_left: u32) -> Seen {
    let [degraded, under_minimum, unavailable] = counts;
    let health = ClassHealth { class: Class::SINGLE, full: 1, degraded, under_minimum, unavailable, places_left };
    Seen { health: Some(vec![health]), ..seen(Vec::new()) }
}

#[test]
fn partitions_are_told_when_their_state_changes_its_kind() {
    let good = health([0; 3], 0);
    let degraded = health([90, 0, 0], 90);
    assert_eq!(kinds(&good, degraded.clone()), [EventKind::PartitionsWorse, EventKind::RepairBegun]);
    assert_eq!(kinds(&degraded, health([40, 0, 0], 40)), []);
    assert_eq!(kinds(&degraded, health([40, 0, 1], 41)), [EventKind::PartitionsWorse]);
    assert_eq!(kinds(&health([40, 3, 1], 41), health([40, 3, 0], 41)), [EventKind::PartitionsBetter]);
    assert_eq!(kinds(&degraded, good.clone()), [EventKind::PartitionsBetter, EventKind::RepairEnded]);
    let mut observer = observer(&good);
    assert!(observer.look(1, seen(Vec::new()), &[]).is_empty(), "no new count is as before");
    assert_eq!(observer.look(2, degraded, &[]).len(), 2);
}

#[test]
fn a_mount_that_was_fenced_is_told_apart_from_one_that_ended() {
    let session = || SessionSeen { host: "h".into(), mount: "/m".into(), calls: 0, silent_ms: 0, locked: 0 };
    let id = SessionId::new(7).unwrap();
    let with = Seen { sessions: [(id, session())].into(), ..seen(Vec::new()) };
    let without = seen(Vec::new());
    assert_eq!(kinds(&without, with.clone()), [EventKind::SessionOpened]);
    assert_eq!(kinds(&with, without.clone()), [EventKind::SessionEnded]);
    let told = observer(&with).look(1, without, &[id]);
    assert_eq!(told[0].0, EventKind::SessionExpired);
    assert_eq!(told[0].1, "h at /m");
}

#[test]
fn a_follower_is_behind_once_until_it_has_caught_up() {
    let of = |lag, silent_ms| Seen {
        consumers: vec![ConsumerSeen { name: "index".into(), lag, silent_ms }],
        ..seen(Vec::new())
    };
    let mut observer = observer(&seen(Vec::new()));
    let mut look = |next| observer.look(1, next, &[]).into_iter().map(|(kind, _, _)| kind).collect::<Vec<_>>();
    assert_eq!(look(of(0, 0)), [EventKind::ConsumerAppeared]);
    assert_eq!(look(of(20_000, 0)), [EventKind::ConsumerBehind]);
    assert_eq!(look(of(15_000, 0)), []);
    assert_eq!(look(of(10, 20_000)), []);
    assert_eq!(look(of(10, 0)), [EventKind::ConsumerCaughtUp]);
    assert_eq!(look(of(0, 40_000)), [EventKind::ConsumerBehind]);
    assert_eq!(look(seen(Vec::new())), [EventKind::ConsumerGone]);
}

#[test]
fn changes_of_the_map_are_told_once_a_minute() {
    let mut observer = observer(&seen(Vec::new()));
    let mut look = |now_ms, epoch| observer.look(now_ms, Seen { epoch, ..seen(Vec::new()) }, &[]).len();
    assert_eq!(look(1, 2), 0);
    assert_eq!(look(MAP_TOLD_MS, 9), 1);
    assert_eq!(look(MAP_TOLD_MS + 1, 10), 0);
    assert_eq!(look(3 * MAP_TOLD_MS, 10), 1);
    assert_eq!(look(9 * MAP_TOLD_MS, 10), 0);
}
