//! Disks that are full, read-only, slow, hung or wrong, and copies that are missing.
//!
//! Never leaves a file system behind, nor a file that it made for a fault. Faults of a disk are of that of `stored-3` alone.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use dgfs_tests::cluster::servers::Check;
use dgfs_tests::faults::{Fault, Stage};
use dgfs_tests::flip::flip_bits;
use dgfs_tests::known::KnownFiles;
use dgfs_tests::mount::Mount;
use dgfs_tests::process::run;
use dgfs_tests::program::dgfs;
use dgfs_tests::rng::Rng;

/// In the order in which they happen.
pub(super) const ROWS: &[Fault] = &[
    Fault {
        name: "disk full",
        inject: |stage| stage.disk().fill(),
        heal: |stage| stage.disk().make_room(),
        metric: "dgfs_stored_free_bytes <= 0",
        alert: "DgfsDiskFull",
        panel: ("One server", "Room"),
        short: false,
    },
    Fault {
        name: "disk read-only after an error",
        inject: |stage| stage.disk().turn_read_only(),
        heal: |stage| {
            stage.cluster.kill9_all(&[ROLE]);
            stage.disk().mend();
            stage.cluster.start_the_dead();
        },
        metric: "dgfs_stored_disk_read_only == 1",
        alert: "DgfsDiskReadOnly",
        panel: ("One server", "Read-only"),
        short: false,
    },
    Fault {
        name: "disk slow",
        inject: |stage| stage.disk_mut().slow_down(),
        heal: |stage| stage.disk_mut().go_on(),
        metric: "rate(dgfs_stored_sync_seconds_sum[1m]) / rate(dgfs_stored_sync_seconds_count[1m]) > 0.5",
        alert: "DgfsDiskSlow",
        panel: ("One server", "Sync latency"),
        short: false,
    },
    Fault {
        name: "disk hung: its device does not answer",
        inject: |stage| stage.disk().hang_device(),
        heal: |stage| stage.disk_mut().go_on(),
        metric: "dgfs_stored_disk_waiting_seconds > 5",
        alert: "DgfsDiskHung",
        panel: ("One server", "Waiting for the disk"),
        short: false,
    },
    Fault {
        name: "disk hung: its file system takes no write",
        inject: |stage| stage.disk().hang_writes(),
        heal: |stage| stage.disk_mut().go_on(),
        metric: "dgfs_stored_disk_waiting_seconds > 5",
        alert: "DgfsDiskHung",
        panel: ("One server", "Waiting for the disk"),
        short: false,
    },
    Fault {
        name: "bits flipped, found by a read",
        inject: |stage| read_flipped_bits(stage),
        heal: |stage| mend_flipped_bits(stage),
        metric: "increase(dgfs_stored_damaged_reads_total[2m]) > 0",
        alert: "DgfsDataDamaged",
        panel: ("Repair and scrub", "Damage"),
        short: false,
    },
    Fault {
        name: "bits flipped, found by the scrub",
        inject: |stage| drop(make_flipped_bits(stage)),
        heal: |stage| mend_flipped_bits(stage),
        metric: "increase(dgfs_stored_scrub_errors_total[2m]) > 0",
        alert: "DgfsScrubErrors",
        panel: ("Repair and scrub", "Damage"),
        short: false,
    },
    Fault {
        name: "storage server given up",
        inject: |stage| stage.cluster.kill9_all(&[ROLE]),
        heal: |stage| stage.cluster.start_the_dead(),
        metric: "dgfs_meta_server_out == 1 and on (instance) dgfs_meta_active == 1",
        alert: "DgfsServerOut",
        panel: ("Servers", "Given up"),
        short: false,
    },
    Fault {
        name: "three copies wanted, and two servers",
        inject: |stage| lack_a_copy(stage),
        heal: |stage| {
            stage.cluster.start_the_dead();
            let _ = stage.cluster.wait_until_full(PATIENCE);
            fs::remove_dir_all(stage.watched.mount.join(THRICE)).unwrap();
        },
        metric: "sum by (class) (dgfs_meta_partitions{state=\"degraded\"}) > 0",
        alert: "DgfsUnderReplicated",
        panel: ("Repair and scrub", "Partitions by state"),
        short: false,
    },
];

/// The daemon on the disk.
pub(super) const ROLE: &str = "stored-3";
/// Its data there.
pub(super) const STORE: &str = "store";
/// A daemon with more room, which therefore has copies of more files.
const LARGE: &str = "stored-1";
/// How long the cluster may take to be whole again, or to make a policy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Files that are damaged.
const FLIPPED: &str = "flipped";
/// A directory of three copies.
const THRICE: &str = "thrice";

/// A mount that has read none of the files.
static READER: Mutex<Option<Mount>> = Mutex::new(None);

/// Files of which copies on another server have a flipped bit.
fn make_flipped_bits(stage: &mut Stage) -> KnownFiles {
    // Taggers read them, too, and are to be done before.
    let files = KnownFiles::write(stage.watched.mount.path(), FLIPPED, 24, &[100_000, 300_001], &mut Rng::new(1));
    stage.watched.mount.wait_for_taggers();
    let flipped = flip_bits(&stage.cluster.dir().join(LARGE), &files.0);
    assert!(flipped.chunks > 0, "two copies on three servers, and none of 24 files on {LARGE}");
    files
}

fn read_flipped_bits(stage: &mut Stage) {
    let reader = stage.cluster.mount();
    let files = make_flipped_bits(stage);
    files.read(reader.path()).expect("there are good copies");
    *READER.lock().unwrap() = Some(reader);
}

/// Mends what neither a read nor the scrub has come upon yet, and makes sure that all is whole.
fn mend_flipped_bits(stage: &mut Stage) {
    *READER.lock().unwrap() = None;
    let _ = stage.cluster.check_copies(&["--repair"]);
    assert_eq!(stage.cluster.check_copies(&[]), Check { code: 0, degraded: 0, repaired: 0 });
    fs::remove_dir_all(stage.watched.mount.join(FLIPPED)).unwrap();
}

/// Files of three copies, and the third server is away for longer than the grace time.
fn lack_a_copy(stage: &mut Stage) {
    let directory = stage.watched.mount.join(THRICE);
    fs::create_dir(&directory).unwrap();
    let words = ["policy".as_ref(), "set".as_ref(), "--redundancy".as_ref(), "r3".as_ref(), directory.as_os_str()];
    let _ = run(dgfs(), &words, PATIENCE).expect_success("dgfs policy set");
    fs::write(directory.join("file"), vec![7; 100_000]).unwrap();
    stage.cluster.kill9_all(&[ROLE]);
}
