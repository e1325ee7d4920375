//! Joining, standing and commands as a table.

use dgfs_proto::chunk::Upkeep;
use dgfs_proto::class::Class;
use dgfs_proto::ids::{Epoch, Partition, ServerId, Uuid};
use dgfs_proto::limits::SERVER_DOWN_MS;
use dgfs_proto::map::{Labels, Standing};
use dgfs_proto::meta::{Filled, ServerCommand};
use dgfs_proto::status::Status;

use super::{Cluster, Joining, Space, Stored};

const GRACE_MS: u64 = 60_000;

fn r(copies: u8) -> Class {
    Class::replicated(copies).unwrap()
}

fn joining(identity: u8, id: Option<u32>) -> Joining {
    let labels = Labels { host: format!("h{identity}"), ..Labels::default() };
    let space = Space { disk: 0, capacity_bytes: 100 << 30, used_bytes: 0, free_bytes: 100 << 30 };
    let (address, label) = (format!("10.0.0.{identity}:1"), format!("s{identity}"));
    Joining { identity: Uuid([identity; 16]), id: id.map(ServerId), address, label, labels, space }
}

fn cluster(servers: u8, class: Class) -> Cluster {
    let stored =
        Stored { next_server: 1, epoch: Epoch(1), grace_ms: GRACE_MS, silence_ms: SERVER_DOWN_MS, ..Stored::default() };
    let mut cluster = Cluster::new(stored, u32::from(servers), 0);
    cluster.want(class);
    for identity in 1..=servers {
        cluster.join(0, joining(identity, None)).unwrap();
    }
    assert!(cluster.is_assigned(class));
    cluster
}

/// All but `silent` beat, once a second, until `until_ms`.
fn pass(cluster: &mut Cluster, from_ms: u64, until_ms: u64, silent: &[u32]) {
    for now in (from_ms..=until_ms).step_by(1000) {
        let ids: Vec<ServerId> = cluster.members().map(|member| member.row.id).collect();
        for id in ids.into_iter().filter(|id| !silent.contains(&id.0)) {
            cluster.beat(now, id, Space { capacity_bytes: 100 << 30, ..Space::default() }, Upkeep::default()).unwrap();
        }
        cluster.tick(now);
    }
}

fn places(cluster: &Cluster, id: u32) -> u64 {
    cluster.server_list(0).iter().find(|server| server.info.id.0 == id).map_or(0, |server| server.places)
}

/// Every member that is not full says that it is.
fn fill(cluster: &mut Cluster) {
    let map = cluster.map(Class::SINGLE, 0);
    for class in &map.classes {
        for (partition, placement) in (0_u16..).zip(&class.placements) {
            for member in placement.members.iter().filter(|member| !member.full && map.is_up(member.server)) {
                let filled = Filled { class: class.class, partition: Partition(partition), since: member.since };
                cluster.filled(member.server, &[filled]);
            }
        }
    }
}

#[test]
fn nothing_is_assigned_before_the_servers_of_the_beginning_have_joined() {
    let stored = Stored { next_server: 1, grace_ms: GRACE_MS, silence_ms: SERVER_DOWN_MS, ..Stored::default() };
    let mut cluster = Cluster::new(stored, 3, 0);
    for identity in 1..=2 {
        cluster.join(0, joining(identity, None)).unwrap();
        assert!(!cluster.want(r(2)));
    }
    cluster.join(0, joining(3, None)).unwrap();
    assert!(cluster.want(r(2)));
    assert_eq!((1..=3).map(|id| places(&cluster, id)).sum::<u64>(), 2 * 4096);
}

#[test]
fn a_disk_keeps_its_number_and_an_empty_one_gets_a_new_one() {
    let mut cluster = cluster(2, r(1));
    assert_eq!(cluster.join(5, joining(2, Some(2))), Ok(ServerId(2)));
    assert_eq!(cluster.join(5, joining(7, None)), Ok(ServerId(3)), "same machine, empty disk");
    assert_eq!(cluster.join(5, joining(8, Some(2))), Err(Status::Forbidden), "a disk of another cluster");
    let long = Joining { label: "x".repeat(65), ..joining(9, None) };
    assert_eq!(cluster.join(5, long), Err(Status::Malformed));
}

#[test]
fn a_silent_server_is_down_its_writes_go_to_a_stand_in_and_when_it_returns_it_has_to_catch_up() {
    let mut cluster = cluster(4, r(3));
    let before = cluster.epoch();
    pass(&mut cluster, 0, SERVER_DOWN_MS + 2000, &[2]);
    assert!(cluster.epoch() > before);
    let map = cluster.map(r(3), 0);
    assert!(!map.is_up(ServerId(2)));
    let of_two = |map: &dgfs_proto::map::ClusterMap| {
        let placements = map.classes[0].placements.clone();
        placements.into_iter().filter(|p| p.members.iter().any(|m| m.server == ServerId(2))).collect::<Vec<_>>()
    };
    for placement in of_two(&map) {
        assert!(placement.members.iter().all(|member| member.full == (member.server != ServerId(2))));
        assert_eq!(placement.extras.len(), 1, "{placement:?}");
        assert!(map.is_up(placement.extras[0].server));
    }
    // A report of before does not count.
    let stale: Vec<Filled> = vec![Filled { class: r(3), partition: Partition(0), since: Epoch(1) }];
    cluster.filled(ServerId(2), &stale);
    pass(&mut cluster, SERVER_DOWN_MS + 3000, SERVER_DOWN_MS + 4000, &[]);
    let map = cluster.map(r(3), 0);
    assert!(of_two(&map).iter().all(|p| p.members.iter().any(|m| m.server == ServerId(2) && !m.full)));
    fill(&mut cluster);
    let map = cluster.map(r(3), 0);
    assert!(of_two(&map).iter().all(|p| p.extras.is_empty() && p.members.iter().all(|m| m.full)));
    assert_eq!(cluster.health()[0].full, 4096);
    let history = &cluster.server_list(20_000)[1];
    assert_eq!(history.downs, 1);
    assert!(history.down_ms >= 1000, "{history:?}");
}

#[test]
fn a_server_that_stays_away_is_given_up_and_takes_part_again_when_it_returns() {
    let mut cluster = cluster(4, r(2));
    let long = SERVER_DOWN_MS + GRACE_MS + 3000;
    pass(&mut cluster, 0, long, &[4]);
    assert_eq!(cluster.member(ServerId(4)).unwrap().state.standing, Standing::Out);
    assert_eq!(places(&cluster, 4), 0);
    fill(&mut cluster);
    assert_eq!(cluster.health()[0].full, 4096);
    pass(&mut cluster, long + 1000, long + 2000, &[]);
    assert_eq!(cluster.member(ServerId(4)).unwrap().state.standing, Standing::Active);
    assert!(places(&cluster, 4) > 1900);
}

#[test]
fn a_writer_that_stood_still_calls_nobody_down_for_its_own_silence() {
    let mut cluster = cluster(3, r(2));
    pass(&mut cluster, 0, 3000, &[]);
    cluster.tick(100_000);
    assert!(cluster.members().all(|member| member.state.up));
    pass(&mut cluster, 101_000, 101_000 + SERVER_DOWN_MS + 2000, &[1]);
    assert!(!cluster.member(ServerId(1)).unwrap().state.up);
}

#[test]
fn a_server_is_removed_only_when_it_holds_nothing_or_by_force() {
    let mut cluster = cluster(3, r(2));
    let refused = cluster.command(ServerId(3), &ServerCommand::Remove { force: false }).unwrap_err();
    assert!(refused.contains("drain 3"), "{refused}");
    cluster.command(ServerId(3), &ServerCommand::Drain).unwrap();
    assert_eq!(places(&cluster, 3), 0);
    let refused = cluster.command(ServerId(3), &ServerCommand::Remove { force: false }).unwrap_err();
    assert!(refused.contains("still holds"), "it holds until the others are full: {refused}");
    fill(&mut cluster);
    let refused = cluster.command(ServerId(3), &ServerCommand::Remove { force: false }).unwrap_err();
    assert!(refused.contains("still runs"), "{refused}");
    pass(&mut cluster, 0, SERVER_DOWN_MS + 2000, &[3]);
    cluster.command(ServerId(3), &ServerCommand::Remove { force: false }).unwrap();
    assert!(cluster.member(ServerId(3)).is_none());
    cluster.command(ServerId(2), &ServerCommand::Remove { force: true }).unwrap();
    let map = cluster.map(r(2), 0);
    let holders: Vec<ServerId> =
        map.classes[0].placements.iter().flat_map(|p| p.members.iter().map(|m| m.server)).collect();
    assert!(holders.iter().all(|id| *id == ServerId(1)) && holders.len() == 4096);
    assert!(cluster.command(ServerId(9), &ServerCommand::Drain).unwrap_err().contains("dgfs server ls"));
}

#[test]
fn what_an_operator_names_a_server_stays_when_it_joins_again() {
    let mut cluster = cluster(2, r(1));
    let words =
        ServerCommand::Label { label: Some("big".to_owned()), zone: Some("north".to_owned()), host: None, disk: None };
    cluster.command(ServerId(1), &words).unwrap();
    cluster.join(9, joining(1, Some(1))).unwrap();
    let info = cluster.server_list(9).remove(0).info;
    assert_eq!((info.label.as_str(), info.labels.zone.as_str(), info.labels.host.as_str()), ("big", "north", "h1"));
}

#[test]
fn the_state_is_the_same_when_a_writer_takes_over() {
    let mut cluster = cluster(4, r(3));
    pass(&mut cluster, 0, SERVER_DOWN_MS + 2000, &[2]);
    let stored = Stored {
        epoch: cluster.epoch(),
        next_server: cluster.next_server(),
        servers: cluster.members().map(|member| member.row.clone()).collect(),
        states: cluster.members().map(|member| (member.row.id, member.state.clone())).collect(),
        classes: vec![cluster.class_map(r(3)).unwrap()],
        grace_ms: GRACE_MS,
        silence_ms: SERVER_DOWN_MS,
        ..Stored::default()
    };
    let mut taken = Cluster::new(stored, 4, 10_000);
    let (before, after) = (cluster.map(r(3), 0), taken.map(r(3), 0));
    assert_eq!((before.epoch, &before.classes), (after.epoch, &after.classes));
    pass(&mut taken, 10_000, 11_000, &[2]);
    assert!(!taken.member(ServerId(2)).unwrap().state.up, "it is still down");
    assert!(taken.member(ServerId(1)).unwrap().state.up);
}

#[test]
fn a_volume_from_before_there_were_classes_goes_on_with_its_assignment() {
    let assignment: Vec<Vec<ServerId>> = (0..4096).map(|at| vec![ServerId(1 + at % 2)]).collect();
    let row = |id: u32| crate::rows::ServerRow {
        id: ServerId(id),
        identity: Uuid([id as u8; 16]),
        address: String::new(),
        label: String::new(),
    };
    let stored = Stored {
        epoch: Epoch(7),
        next_server: 3,
        servers: vec![row(1), row(2)],
        assignment,
        grace_ms: GRACE_MS,
        silence_ms: SERVER_DOWN_MS,
        ..Stored::default()
    };
    let cluster = Cluster::new(stored, 2, 0);
    let map = cluster.map(Class::SINGLE, 0);
    let old = dgfs_proto::ids::ChunkId::new(4096 * 5 + 3).unwrap();
    assert_eq!(map.write_set(old).targets, [(ServerId(2), 0)]);
    assert!(map.placement(old).unwrap().members[0].full);
}
