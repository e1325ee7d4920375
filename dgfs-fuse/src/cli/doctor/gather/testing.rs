//! A cluster as tests of checks need it: healthy, and changed in one thing.

use dgfs_proto::chunk::Upkeep;
use dgfs_proto::ids::ServerId;
use dgfs_proto::map::{Labels, ServerInfo, Standing};
use dgfs_proto::meta::ServerStatus;
use dgfs_proto::watch::Facts;

use super::{DaemonSeen, Gathered, Life, Machine, MountSeen, Told, VERSION};
use crate::cli::numbers::Numbers;

/// This machine's clock.
pub(crate) const NOW_US: u64 = 1_800_000_000_000_000;

/// These daemons, and a machine that can mount.
pub(crate) fn gathered(daemons: Vec<DaemonSeen>) -> Gathered {
    Gathered {
        now_us: NOW_US,
        config: Some("client.toml".to_owned()),
        up: None,
        identity: None,
        daemons,
        servers: Vec::new(),
        health: Vec::new(),
        sessions: Vec::new(),
        mounts: Vec::new(),
        machine: Machine { kernel: "6.1.0".to_owned(), has_fuse: true, has_fusermount: true, is_root: false },
        faults: Vec::new(),
        unclaimed: Vec::new(),
        cluster: None,
    }
}

/// A daemon that tells these numbers, and facts that are well but for `change`.
pub(crate) fn daemon<T>(part: &'static str, numbers: &str, change: impl FnOnce(&mut Facts) -> T) -> DaemonSeen {
    let mut facts = Facts {
        part: part.to_owned(),
        version: VERSION.to_owned(),
        host: format!("{part}-host"),
        started_us: NOW_US - 1_000_000,
        now_us: NOW_US,
        descriptors: 20,
        descriptors_max: 65_536,
        certificate_until_s: (NOW_US / 1_000_000) as i64 + 300 * 86_400,
        ..Facts::default()
    };
    change(&mut facts);
    let told = Told { facts, numbers: Numbers::parse(numbers), text: numbers.to_owned(), asked_us: NOW_US, took_us: 0 };
    DaemonSeen { told: Ok(told), ..silent(part) }
}

/// A daemon that does not answer.
pub(crate) fn silent(part: &'static str) -> DaemonSeen {
    let (address, named) = (format!("{part}:1"), format!("{part} {part}:1"));
    let told = Err(format!("{named} does not answer"));
    DaemonSeen { part, address, number: (part == "stored").then_some(1), named, told, process: None, log: None }
}

/// A mount that tells these numbers.
pub(crate) fn mount(path: &str, numbers: &str) -> MountSeen {
    MountSeen {
        path: path.to_owned(),
        life: Life::Answers,
        version: Some(VERSION.to_owned()),
        numbers: Some(Numbers::parse(numbers)),
        text: numbers.to_owned(),
        pid: None,
        log: None,
    }
}

/// A storage server as the metadata service knows it.
pub(crate) fn server(id: u32, up: bool, standing: Standing) -> ServerStatus {
    ServerStatus {
        info: ServerInfo {
            id: ServerId(id),
            address: format!("10.0.0.{id}:7442"),
            label: format!("s{id}"),
            labels: Labels::default(),
            weight: 1,
            standing,
            up,
            capacity_bytes: 100,
            used_bytes: 0,
            free_bytes: 100,
        },
        idle_ms: 100,
        places: 1,
        extras: 0,
        places_left: 0,
        known_ms: 1,
        down_ms: 0,
        downs: 0,
        upkeep: Upkeep::default(),
    }
}
