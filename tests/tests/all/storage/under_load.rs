//! Servers killed and stopped at random while files are written and read all the time.

use std::time::{Duration, Instant};

use dgfs_tests::cluster::Cluster;
use dgfs_tests::cluster::servers::Server;
use dgfs_tests::ledger::{Ledger, Promise};
use dgfs_tests::load::{Load, LoadPlan};
use dgfs_tests::program::seconds;
use dgfs_tests::rng::Rng;
use rustix::process::Signal;

use super::{FULL_AGAIN, SEED, assert_well, cluster};

/// Servers.
const SERVERS: u32 = 5;
/// Away or not yet full at once, at most.
const AWAY_MAX: usize = 2;
/// Longer than a server may be silent: it is known to be down when it wakes.
const STOPPED: Duration = Duration::from_secs(8);

/// A server that was made to go away, and when it is to come back.
struct Away {
    role: String,
    until: Instant,
    is_killed: bool,
}

/// What is done to the servers.
struct Faults {
    away: Vec<Away>,
    kills: u32,
    stops: u32,
    rng: Rng,
}

impl Faults {
    /// Those whose time has come come back; perhaps another one goes.
    fn step(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        if self.away.iter().any(|away| away.is_killed && away.until <= now) {
            // All that are dead are started, as an operator would.
            self.away.retain(|away| !away.is_killed);
            cluster.start_the_dead();
        }
        for away in self.away.extract_if(.., |away| !away.is_killed && away.until <= now) {
            cluster.signal(&away.role, Signal::CONT);
        }
        let servers = cluster.server_list();
        let is_well = |server: &Server| {
            server.state == "up" && server.places_left == 0 && self.away.iter().all(|away| away.role != server.name)
        };
        let (well, ill): (Vec<&Server>, Vec<&Server>) = servers.iter().partition(|server| is_well(server));
        if ill.len() < AWAY_MAX && self.rng.chance(30) {
            let role = self.rng.pick(&well).name.clone();
            let is_killed = self.rng.chance(60);
            let lasts = if is_killed { Duration::from_millis(self.rng.below(12_000)) } else { STOPPED };
            println!("{role}: {} for {lasts:?}", if is_killed { "killed" } else { "stopped" });
            if is_killed {
                cluster.kill9_all(&[&role]);
                self.kills += 1;
            } else {
                cluster.signal(&role, Signal::STOP);
                self.stops += 1;
            }
            self.away.push(Away { role, until: Instant::now() + lasts, is_killed });
        }
    }

    fn end(&mut self, cluster: &mut Cluster) {
        for away in self.away.drain(..).filter(|away| !away.is_killed) {
            cluster.signal(&away.role, Signal::CONT);
        }
        cluster.start_the_dead();
    }
}

#[test]
fn with_two_servers_away_at_any_time_every_read_is_right_and_nothing_acknowledged_is_lost() {
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(SERVERS, 3);
    let mut writes = cluster.mount();
    // A small cache: most reads ask the servers.
    let reads = [(); 2].map(|()| cluster.mount_with(&["--cache-mb", "16"]));
    let mut ledger = Ledger::new(writes.path(), 1, Promise::Returned, &mut rng);
    let plan = LoadPlan { write: writes.path(), read: &[reads[0].path(), reads[1].path()], writers: 2, readers: 2 };
    let mut load = Load::start(plan, &mut rng);
    let mut faults = Faults { away: Vec::new(), kills: 0, stops: 0, rng };
    let end = Instant::now() + seconds("DGFS_STORAGE_SECS", 60, 900);
    let failures = ledger.work(writes.path(), |_| {
        while Instant::now() < end {
            faults.step(&mut cluster);
            assert_well(&load.look());
        }
        faults.end(&mut cluster);
        println!("full again after {:?}", cluster.wait_until_full(FULL_AGAIN));
    });
    let done = load.end();
    println!("{} kills, {} stops, {done:?}", faults.kills, faults.stops);
    assert_well(&done);
    assert!(failures.is_empty(), "{failures:?}\n{}", writes.log());
    assert!(faults.kills + faults.stops >= 3 && done.written > 20 && done.read > 100, "something was done");
    ledger.verify(writes.path()).unwrap();
    writes.umount();
    drop(reads);
    cluster.wait_until_full(FULL_AGAIN);
    let other = cluster.mount();
    ledger.verify(other.path()).unwrap();
    println!("{} files of the load are whole", load.verify(other.path()).unwrap());
    drop(other);
    cluster.fsck().unwrap();
}
