//! Links of storage servers are cut while the servers run: nobody is told, and some hear who cannot answer.
//!
//! Each server is a host of its own in a network of the test; metadata services, the index, Redis and the mounts are on the machine.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dgfs_tests::cluster::Cluster;
use dgfs_tests::cluster::servers::is_full;
use dgfs_tests::ledger::{Ledger, Promise, Working};
use dgfs_tests::load::{Load, LoadPlan};
use dgfs_tests::network::{Cut, Network};
use dgfs_tests::process::wait_until;
use dgfs_tests::program::{is_long, seconds};
use dgfs_tests::rng::Rng;
use dgfs_tests::spread;

use super::{FULL_AGAIN, KNOWN_DOWN, SEED, WRITES_GO_ON, assert_well, cluster, go_on, pick};

/// Servers.
const SERVERS: usize = 5;
/// Longer than a server may be silent.
const CUT: Duration = Duration::from_secs(8);
/// How often the load and the cluster are asked.
const LOOK: Duration = Duration::from_millis(100);
/// What is cut, and of how many servers; with three copies two may be away.
const CUTS: [(Cut, usize); 4] = [(Cut::BothWays, 1), (Cut::BothWays, 2), (Cut::FromIt, 1), (Cut::TowardsIt, 1)];
/// And what the long form cuts, too.
const MORE_CUTS: [(Cut, usize); 2] = [(Cut::FromIt, 2), (Cut::TowardsIt, 2)];

/// A cluster whose storage daemons are on hosts of their own.
struct Spread {
    daemons: spread::Spread,
    cluster: Cluster,
}

impl Spread {
    fn start() -> Self {
        let network = Network::new(SERVERS);
        let mut cluster = cluster(SERVERS as u32, 3);
        let daemons = spread::Spread::over(&mut cluster, network, SERVERS);
        let spread = Self { daemons, cluster };
        spread.wait_until_well();
        spread
    }

    /// Waits until every server is up and has everything; how long that took.
    #[track_caller]
    fn wait_until_well(&self) -> Duration {
        self.cluster.wait_for_servers("all are up and everything is full", FULL_AGAIN, |servers, health| {
            let all_up = servers.iter().all(|server| server.state == "up" && server.places_left == 0);
            servers.len() == SERVERS && all_up && is_full(health)
        })
    }

    /// Looks at the list only: `dgfs status` asks those that are away, too, and waits for them.
    #[track_caller]
    fn wait_until_down(&self, roles: &[String]) {
        wait_until("servers whose links are cut are known to be down", KNOWN_DOWN, || {
            sleep(LOOK);
            self.cluster.server_list().iter().all(|server| !roles.contains(&server.name) || !server.is_up)
        });
    }

    /// Cuts some links, under load, until it is known that their servers are away and work goes on; then everything is full again.
    #[track_caller]
    fn survive(&self, cut: Cut, hosts: &[usize], load: &mut Load, working: &mut Working<'_>) {
        let (roles, began): (Vec<String>, _) = (hosts.iter().map(|host| role(*host)).collect(), Instant::now());
        hosts.iter().for_each(|host| self.daemons.network.cut(*host, cut));
        let before = load.look();
        self.wait_until_down(&roles);
        let known = began.elapsed();
        wait_until("reads and writes of the load go on", WRITES_GO_ON, || {
            let now = load.look();
            assert_well(&now);
            now.written > before.written && now.read > before.read
        });
        go_on("writers with links cut", working);
        while began.elapsed() < CUT {
            assert_well(&load.look());
            sleep(LOOK);
        }
        let lasted = began.elapsed();
        hosts.iter().for_each(|host| self.daemons.network.mend(*host, cut));
        let well = self.wait_until_well();
        assert_well(&load.look());
        println!(
            "{cut:?} of {roles:?} for {lasted:?}: known to be down after {known:?}, well {well:?} after the mending"
        );
    }
}

fn role(host: usize) -> String {
    format!("stored-{}", host + 1)
}

/// Different hosts.
fn pick_hosts(rng: &mut Rng, many: usize) -> Vec<usize> {
    let picked = pick(rng, many, SERVERS);
    (0..SERVERS).filter(|host| picked.contains(&role(*host))).collect()
}

fn shuffle<T>(rng: &mut Rng, items: &mut [T]) {
    for at in (1..items.len()).rev() {
        items.swap(at, rng.index(at + 1));
    }
}

#[test]
fn writers_and_readers_go_on_while_links_of_storage_servers_are_cut_both_ways_and_one_way_and_everything_is_full_again()
{
    let (mut rng, _) = Rng::announced(SEED);
    let mut spread = Spread::start();
    let mut writes = spread.cluster.mount();
    // A small cache: most reads ask the servers.
    let reads = [(); 2].map(|()| spread.cluster.mount_with(&["--cache-mb", "16"]));
    let mut ledger = Ledger::new(writes.path(), 1, Promise::Returned, &mut rng);
    let plan = LoadPlan { write: writes.path(), read: &[reads[0].path(), reads[1].path()], writers: 2, readers: 2 };
    let mut load = Load::start(plan, &mut rng);
    let mut cuts = CUTS.to_vec();
    cuts.extend(MORE_CUTS.iter().filter(|_| is_long()));
    // Every kind once, and then until this is over.
    let end = Instant::now() + seconds("DGFS_LINKS_SECS", 0, 540);
    let failures = ledger.work(writes.path(), |working| {
        go_on("writers before the first cut", working);
        loop {
            shuffle(&mut rng, &mut cuts);
            for (cut, many) in &cuts {
                spread.survive(*cut, &pick_hosts(&mut rng, *many), &mut load, working);
            }
            if Instant::now() >= end {
                break;
            }
        }
    });
    let done = load.end();
    println!("{done:?}");
    assert_well(&done);
    assert!(failures.is_empty(), "{failures:?}\n{}", writes.log());
    ledger.verify(writes.path()).unwrap();
    writes.umount();
    drop(reads);
    spread.wait_until_well();
    spread.cluster.fsck().unwrap();
    read_all_by_a_new_mount(&mut spread.cluster, &mut ledger, &mut load);
}

#[track_caller]
fn read_all_by_a_new_mount(cluster: &mut Cluster, ledger: &mut Ledger, load: &mut Load) {
    let mut mount = cluster.mount();
    let root: &Path = mount.path();
    ledger.verify(root).unwrap();
    println!("{} files of the load are whole", load.verify(root).unwrap());
    mount.umount();
}
