//! The cluster in a simulation: the real state machine and map, servers and writers as small models, everything in one
//! random order.
//!
//! Servers are killed and woken, drained, added and weighed; their maps and the writers' lag behind; puts, lists and copies are
//! single steps between which anything may happen. Checked after each step: copies of a partition lie apart; no planned move and no
//! step of a repair takes a committed version below its copies; what is committed is readable while fewer servers are down than
//! the class has copies. At the end: once all servers are up, everything becomes full again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dgfs_proto::chunk::Upkeep;
use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkId, Epoch, Partition, ServerId, Uuid};
use dgfs_proto::map::{ClusterMap, Labels, Placement};
use dgfs_proto::meta::{Filled, ServerCommand};

use super::{Cluster, Joining, Space, Stored};

/// Partitions of the simulated cluster: few, so that thousands of runs take seconds.
const PARTITIONS: u16 = 16;
const SEEDS: u64 = 3000;
const STEPS: usize = 400;
const TICK_MS: u64 = 1000;
/// Short, so that servers are given up in most runs.
const GRACE_MS: u64 = 12_000;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}

/// A storage server: what is on its disk survives it.
struct Server {
    id: ServerId,
    identity: u8,
    host: String,
    runs: bool,
    map: Arc<ClusterMap>,
    /// (partition, version).
    disk: BTreeSet<(u16, u64)>,
    filling: Option<Filling>,
    reports: Vec<Filled>,
}

/// A partition being filled: it was listed, and is copied version by version.
struct Filling {
    filled: Filled,
    left: Vec<u64>,
    complete: bool,
}

/// A put under way.
struct Put {
    partition: u16,
    version: u64,
    stored: Vec<(ServerId, u8, Epoch)>,
}

struct World {
    rng: Rng,
    now_ms: u64,
    class: Class,
    cluster: Cluster,
    servers: Vec<Server>,
    writer: Arc<ClusterMap>,
    put: Option<Put>,
    versions: u64,
    committed: BTreeSet<(u16, u64)>,
    log: Vec<String>,
}

fn chunk(class: Class, partition: u16) -> ChunkId {
    ChunkId::of(class, u64::from(dgfs_proto::limits::PARTITIONS) + u64::from(partition)).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let copies = 2 + rng.below(2) as u8;
        let class = Class::replicated(copies).unwrap();
        let servers = u64::from(copies) + 1 + rng.below(3);
        let stored =
            Stored { next_server: 1, epoch: Epoch(1), grace_ms: GRACE_MS, silence_ms: 5000, ..Stored::default() };
        let mut cluster = Cluster::with_partitions(stored, servers as u32, 0, PARTITIONS);
        assert!(!cluster.want(class));
        let mut world = Self {
            rng,
            now_ms: 0,
            class,
            cluster,
            servers: Vec::new(),
            writer: Arc::default(),
            put: None,
            versions: 0,
            committed: BTreeSet::new(),
            log: Vec::new(),
        };
        for _ in 0..servers {
            world.add();
        }
        world
    }

    fn add(&mut self) {
        let identity = self.servers.len() as u8 + 1;
        // Sometimes two servers on one host.
        let host =
            if self.rng.below(5) == 0 && identity > 4 { format!("h{}", identity - 1) } else { format!("h{identity}") };
        let id = self.cluster.join(self.now_ms, joining(identity, None, &host)).unwrap();
        let map = Arc::new(self.cluster.map(self.class, 0));
        let disk = BTreeSet::new();
        let (filling, reports) = (None, Vec::new());
        self.servers.push(Server { id, identity, host, runs: true, map, disk, filling, reports });
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..30 => self.step_put(),
            30..60 => self.step_fill(),
            60..75 => self.beat(),
            75..83 => self.tick(),
            83..88 => self.vacate(),
            88..92 => self.kill_or_wake(),
            92..96 => self.writer = Arc::new(self.cluster.map(self.class, 0)),
            96 if self.servers.len() < 8 => self.add(),
            97 => self.drain_or_not(),
            98 => self.weigh(),
            _ => {}
        }
        self.check();
    }

    fn tick(&mut self) {
        self.now_ms += TICK_MS;
        for server in self.servers.iter().filter(|server| server.runs) {
            self.cluster.beat(self.now_ms, server.id, space(), Upkeep::default()).unwrap();
        }
        self.cluster.tick(self.now_ms);
    }

    fn beat(&mut self) {
        let at = self.rng.below(self.servers.len() as u64) as usize;
        let server = &mut self.servers[at];
        if !server.runs {
            return;
        }
        self.cluster.beat(self.now_ms, server.id, space(), Upkeep::default()).unwrap();
        let reports = std::mem::take(&mut server.reports);
        self.cluster.filled(server.id, &reports);
        server.map = Arc::new(self.cluster.map(self.class, 0));
    }

    /// Servers that may be down so that everything stays readable.
    fn down(&self) -> usize {
        self.servers.iter().filter(|server| !server.runs).count()
    }

    fn kill_or_wake(&mut self) {
        let at = self.rng.below(self.servers.len() as u64) as usize;
        let may_kill = self.down() < self.class.tolerates() && self.is_whole();
        let server = &mut self.servers[at];
        if server.runs && may_kill {
            server.runs = false;
            server.filling = None;
            server.reports.clear();
            self.log.push(format!("killed {}", server.id));
        } else if !server.runs {
            server.runs = true;
            let joining = joining(server.identity, Some(server.id), &server.host.clone());
            self.cluster.join(self.now_ms, joining).unwrap();
            self.log.push(format!("woke {}", self.servers[at].id));
        }
    }

    /// Every committed version is on as many running servers as its class tolerates losing, and one more; or nobody is down.
    fn is_whole(&self) -> bool {
        let needed = self.class.tolerates() + 1 - self.down();
        self.committed.iter().all(|(partition, version)| self.copies(*partition, *version) >= needed)
    }

    fn copies(&self, partition: u16, version: u64) -> usize {
        self.servers.iter().filter(|server| server.runs && server.disk.contains(&(partition, version))).count()
    }

    fn drain_or_not(&mut self) {
        let at = self.rng.below(self.servers.len() as u64) as usize;
        let id = self.servers[at].id;
        let command = if self.rng.below(2) == 0 { ServerCommand::Drain } else { ServerCommand::Undrain };
        let done = self.cluster.command(id, &command);
        self.log.push(format!("{command:?} {id}: {done:?}"));
    }

    fn weigh(&mut self) {
        let at = self.rng.below(self.servers.len() as u64) as usize;
        let weight = self.rng.below(4) as u32 + 1;
        self.cluster.command(self.servers[at].id, &ServerCommand::Weight(Some(weight))).unwrap();
    }

    fn server(&mut self, id: ServerId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.id == id)
    }

    /// A server hears of a map; it asks meta when that is newer than its own.
    fn reach(&mut self, id: ServerId, epoch: Epoch) {
        let newest = Arc::new(self.cluster.map(self.class, 0));
        if let Some(server) = self.server(id)
            && server.map.epoch < epoch
        {
            server.map = newest;
        }
    }

    /// One message of one put.
    fn step_put(&mut self) {
        let class = self.class;
        let map = Arc::clone(&self.writer);
        let Some(mut put) = self.put.take() else {
            if self.cluster.is_assigned(class) {
                self.versions += 1;
                let partition = self.rng.below(4) as u16;
                self.put = Some(Put { partition, version: self.versions, stored: Vec::new() });
            }
            return;
        };
        let set = map.write_set(chunk(class, put.partition));
        let placement = map.placement(chunk(class, put.partition)).cloned().unwrap_or_default();
        put.stored.retain(|(server, place, epoch)| {
            let member = placement.members.get(usize::from(*place)).filter(|member| member.server == *server);
            member.map_or(placement.changed <= *epoch, |member| member.since <= *epoch)
        });
        let missing: Vec<(ServerId, u8)> = set
            .targets
            .iter()
            .copied()
            .filter(|(server, place)| !put.stored.iter().any(|(id, at, _)| (id, at) == (server, place)))
            .collect();
        if missing.is_empty() && set.enough {
            self.committed.insert((put.partition, put.version));
            return;
        }
        let target = self.rng.pick(&missing).copied().filter(|_| set.enough);
        let Some((id, place)) = target else {
            self.writer = Arc::new(self.cluster.map(class, 0));
            self.put = Some(put);
            return;
        };
        self.reach(id, map.epoch);
        let Some(server) = self.server(id).filter(|server| server.runs) else {
            // It does not answer: the writer looks at meta's map before it tries again.
            self.writer = Arc::new(self.cluster.map(class, 0));
            self.put = Some(put);
            return;
        };
        let theirs = Arc::clone(&server.map);
        let current =
            theirs.placement(chunk(class, put.partition)).is_some_and(|p| p.changed <= map.epoch && p.holds(id));
        if current {
            server.disk.insert((put.partition, put.version));
            put.stored.push((id, place, map.epoch));
        } else if theirs.epoch > map.epoch {
            self.writer = theirs;
        }
        self.put = Some(put);
    }

    /// One step of one server's filling.
    fn step_fill(&mut self) {
        let at = self.rng.below(self.servers.len() as u64) as usize;
        if !self.servers[at].runs {
            return;
        }
        match self.servers[at].filling.take() {
            None => self.begin_fill(at),
            Some(mut filling) => {
                let Some(version) = filling.left.pop() else {
                    if filling.complete {
                        self.servers[at].reports.push(filling.filled);
                    }
                    return;
                };
                let key = (filling.filled.partition.0, version);
                let id = self.servers[at].id;
                let somewhere = self.servers.iter().any(|s| s.runs && s.id != id && s.disk.contains(&key));
                if somewhere {
                    self.servers[at].disk.insert(key);
                    self.servers[at].filling = Some(filling);
                }
            }
        }
    }

    fn begin_fill(&mut self, at: usize) {
        let id = self.servers[at].id;
        let map = Arc::clone(&self.servers[at].map);
        let mut work = Vec::new();
        for (partition, placement) in (0_u16..).zip(map.classes.iter().flat_map(|class| &class.placements)) {
            let mine = placement.members.iter().find(|member| member.server == id && !member.full);
            work.extend(mine.map(|member| (partition, *member, placement.clone())));
        }
        let Some((partition, member, placement)) = self.rng.pick(&work).cloned() else { return };
        let filled = Filled { class: self.class, partition: Partition(partition), since: member.since };
        let mut others: Vec<ServerId> = map.read_order(&placement, None);
        others.retain(|other| *other != id);
        let (mut listed, mut complete) = (BTreeSet::new(), true);
        for other in others {
            self.reach(other, map.epoch);
            let Some(server) = self.server(other).filter(|server| server.runs) else {
                complete = false;
                continue;
            };
            if server.map.epoch < map.epoch {
                complete = false;
                continue;
            }
            listed.extend(server.disk.iter().filter(|(p, _)| *p == partition).map(|(_, version)| *version));
            if placement.suffices(other, &member) {
                complete = true;
                break;
            }
        }
        let own: BTreeSet<u64> =
            self.servers[at].disk.iter().filter(|(p, _)| *p == partition).map(|(_, version)| *version).collect();
        let left = listed.difference(&own).copied().collect();
        self.servers[at].filling = Some(Filling { filled, left, complete });
    }

    /// A server drops what its map says has moved away.
    fn vacate(&mut self) {
        let at = self.rng.below(self.servers.len() as u64) as usize;
        let server = &mut self.servers[at];
        let (id, map) = (server.id, Arc::clone(&server.map));
        let Some(class) = map.classes.first() else { return };
        let width = class.class.width();
        let gone = |placement: &Placement| {
            placement.members.len() == width && placement.members.iter().all(|m| m.full) && !placement.holds(id)
        };
        server.disk.retain(|(partition, _)| !class.placements.get(usize::from(*partition)).is_some_and(gone));
    }

    fn check(&self) {
        let map = self.cluster.map(self.class, 0);
        let Some(class) = map.classes.first() else { return };
        let hosts: BTreeMap<ServerId, &str> =
            self.servers.iter().map(|server| (server.id, server.host.as_str())).collect();
        let apart: BTreeSet<&str> = hosts.values().copied().collect();
        for placement in &class.placements {
            let distinct: BTreeSet<_> = placement.members.iter().map(|member| member.server).collect();
            assert_eq!(distinct.len(), placement.members.len(), "a server twice in a partition");
            if apart.len() == hosts.len() {
                let on: BTreeSet<&str> =
                    placement.members.iter().filter_map(|m| hosts.get(&m.server).copied()).collect();
                assert_eq!(on.len(), placement.members.len(), "two copies on one host");
            }
        }
        for (partition, version) in &self.committed {
            let on_disk = self.servers.iter().filter(|server| server.disk.contains(&(*partition, *version))).count();
            assert!(on_disk >= self.class.minimum(), "version {version} of partition {partition} has {on_disk} copies");
            let placement = class.placements.get(usize::from(*partition)).unwrap();
            let readable = map.read_order(placement, None).into_iter().any(|id| {
                self.servers.iter().any(|s| s.id == id && s.runs && s.disk.contains(&(*partition, *version)))
            });
            assert!(readable, "version {version} of partition {partition} cannot be read: {placement:?}");
            for member in placement.members.iter().filter(|member| member.full) {
                let server = self.servers.iter().find(|server| server.id == member.server).unwrap();
                let has = server.disk.contains(&(*partition, *version));
                assert!(has, "{} is called full and lacks version {version} of partition {partition}", server.id);
            }
        }
    }

    /// Everybody runs and nobody is drained: how long until everything is full?
    fn settle(&mut self) {
        for at in 0..self.servers.len() {
            if !self.servers[at].runs {
                self.servers[at].runs = true;
            }
            self.cluster.command(self.servers[at].id, &ServerCommand::Undrain).unwrap();
        }
        for _ in 0..60 {
            self.tick();
            for _ in 0..40 * self.servers.len() {
                self.step_fill();
                self.beat();
            }
            self.check();
            let map = self.cluster.map(self.class, 0);
            let full = |p: &Placement| {
                p.extras.is_empty() && p.members.len() == self.class.width() && p.members.iter().all(|m| m.full)
            };
            if map.classes.iter().flat_map(|class| &class.placements).all(full) {
                return;
            }
        }
        panic!("the cluster does not become full again: {:?}", self.cluster.health());
    }
}

fn joining(identity: u8, id: Option<ServerId>, host: &str) -> Joining {
    let labels = Labels { host: host.to_owned(), ..Labels::default() };
    Joining {
        identity: Uuid([identity; 16]),
        id,
        address: format!("s{identity}"),
        label: String::new(),
        labels,
        space: space(),
    }
}

fn space() -> Space {
    Space { disk: 0, capacity_bytes: 10 << 30, used_bytes: 0, free_bytes: 10 << 30 }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
    }));
    if outcome.is_err() {
        panic!("seed {seed}; {:?}", world.log);
    }
}

#[test]
fn copies_stay_apart_readable_and_enough_while_servers_come_and_go() {
    let only = std::env::var("DGFS_SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok());
    match only {
        Some(seed) => run(seed),
        None => (1..=SEEDS).for_each(run),
    }
}
