//! A server's directory is lost for good.

use std::fs;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::known::KnownFiles;
use dgfs_tests::ledger::{Ledger, Promise};
use dgfs_tests::rng::Rng;

use super::{FULL_AGAIN, LENS, SEED, go_on, pick, read_by_a_new_mount};

/// Seconds after which a lost server is given up.
const GRACE_S: u64 = 5;

#[test]
fn a_wiped_server_joins_as_a_new_one_and_the_old_one_is_given_up_and_replaced() {
    let (mut rng, _) = Rng::announced(SEED);
    let plan = ClusterPlan { servers: 4, replicas: 3, grace_s: Some(GRACE_S), ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let mut mount = cluster.mount();
    let files = KnownFiles::write(mount.path(), "known", 40, &LENS, &mut rng);
    let mut ledger = Ledger::new(mount.path(), 2, Promise::Returned, &mut rng);
    let [wiped] = &pick(&mut rng, 1, 4)[..] else { unreachable!("one") };
    let old = cluster.server(wiped);
    println!("{old:?} is wiped");
    let failures = ledger.work(mount.path(), |working| {
        go_on("writers before the loss", working);
        cluster.kill9_all(&[wiped]);
        fs::remove_dir_all(cluster.dir().join(wiped)).unwrap();
        cluster.start_the_dead();
        files.read(mount.path()).unwrap();
        let took = cluster.wait_for_servers("the old one is given up", FULL_AGAIN, |servers, _| {
            servers.iter().any(|server| server.id == old.id && server.state == "out")
        });
        println!("given up after {took:?}; full after {:?} more", cluster.wait_until_full(FULL_AGAIN));
        go_on("writers after the loss", working);
    });
    assert!(failures.is_empty(), "{failures:?}\n{}", mount.log());
    ledger.verify(mount.path()).unwrap();
    cluster.wait_until_full(FULL_AGAIN);
    let servers = cluster.server_list();
    let given_up = servers.iter().find(|server| server.id == old.id).expect("it is still listed");
    assert_eq!((given_up.places, given_up.extras), (0, 0), "{given_up:?}");
    let new = cluster.server(wiped);
    assert!(new.id != old.id && new.places.abs_diff(old.places) <= old.places / 20, "{new:?} after {old:?}");
    let removed = cluster.server_command(&["remove", &old.id.to_string()]);
    let _ = removed.expect_success("dgfs server remove of one that was given up");
    assert_eq!(cluster.server_list().len(), 4);
    cluster.fsck().unwrap();
    // The new one and one more are enough: two of the others go.
    let others: Vec<String> = (1..=4).map(|number| format!("stored-{number}")).filter(|role| role != wiped).collect();
    mount.umount();
    cluster.kill9_all(&others[..2]);
    read_by_a_new_mount(&mut cluster, &files);
    let other = cluster.mount();
    ledger.verify(other.path()).unwrap();
    drop(other);
    cluster.start_the_dead();
    cluster.wait_until_full(FULL_AGAIN);
    cluster.fsck().unwrap();
}
