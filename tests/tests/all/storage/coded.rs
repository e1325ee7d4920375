//! Files stored as shards: 4 of data, 2 of parity.

use std::ffi::OsString;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::known::{KnownFile, KnownFiles};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{run, wait_until};
use dgfs_tests::program::{dgfs, is_long};
use dgfs_tests::rng::Rng;

use super::{FULL_AGAIN, KNOWN_DOWN, READ_AT_ONCE, SEED, drop_caches, pick, read_by_a_new_mount};

/// The class of the directory.
const CLASS: &str = "ec:4+2";
/// Servers.
const SERVERS: usize = 7;
/// Whole chunks, and a last one in part that is still large enough to be cut into shards.
const LENS: [usize; 4] = [4 << 20, 12 << 20, (8 << 20) + 300_000, 100_000];
/// Seconds after which a lost server is given up: longer than a pair is away here.
const GRACE_S: u64 = 40;

/// A cluster with a directory `coded`, whose files are coded once its policy holds.
fn coded_cluster() -> (Cluster, Mount) {
    let plan = ClusterPlan { servers: SERVERS as u32, replicas: 3, grace_s: Some(GRACE_S), ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let mount = cluster.mount();
    set_policy(&mount);
    // That it holds at once has a test of its own: the others are about shards.
    let mut rng = Rng::new(0);
    wait_until("the policy holds", KNOWN_DOWN, || {
        let probe = KnownFile::write(mount.path(), "coded/probe", LENS[0], &mut rng).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        classes(&mount, &probe) == [CLASS]
    });
    std::fs::remove_file(mount.join("coded/probe")).unwrap();
    (cluster, mount)
}

fn set_policy(mount: &Mount) {
    std::fs::create_dir(mount.join("coded")).unwrap();
    let words: [OsString; 5] =
        ["policy".into(), "set".into(), mount.join("coded").into(), "--redundancy".into(), CLASS.into()];
    let _ = run(dgfs(), &words, KNOWN_DOWN).expect_success("dgfs policy set");
}

/// Files of which every chunk is coded.
#[track_caller]
fn write_coded(mount: &Mount, count: usize, rng: &mut Rng) -> KnownFiles {
    let files = KnownFiles::write(mount.path(), "coded", count, &LENS, rng);
    assert_coded(mount, &files.0);
    files
}

#[track_caller]
fn assert_coded(mount: &Mount, files: &[KnownFile]) {
    let all = files.iter().map(|file| (&file.name, file.len, classes(mount, file)));
    let copied: Vec<_> = all.filter(|(_, _, classes)| classes.iter().any(|class| class != CLASS)).collect();
    assert!(copied.is_empty(), "not stored as shards: {copied:?}");
}

/// Classes of a file's chunks, as `dgfs info` tells.
fn classes(mount: &Mount, file: &KnownFile) -> Vec<String> {
    let words: [OsString; 3] = ["info".into(), "--json".into(), mount.join(&file.name).into()];
    let text = run(dgfs(), &words, KNOWN_DOWN).expect_success("dgfs info");
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    info["chunks"].as_array().unwrap().iter().map(|chunk| chunk["class"].as_str().unwrap().to_owned()).collect()
}

fn used_bytes(cluster: &Cluster) -> u64 {
    let status = cluster.status();
    status["stores"].as_array().unwrap().iter().map(|store| store["used_bytes"].as_u64().unwrap()).sum()
}

/// The bug: a mount went by a policy only once it had asked for a newer map, so that for a second or two files followed the old one.
#[test]
fn a_policy_holds_for_the_first_file_that_is_written_after_it_was_set_on_every_mount() {
    let (mut rng, _) = Rng::announced(SEED);
    let plan = ClusterPlan { servers: SERVERS as u32, replicas: 3, ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let (mount, other) = (cluster.mount(), cluster.mount());
    set_policy(&mount);
    let by_other = KnownFile::write(other.path(), "coded/by-another-mount", LENS[0], &mut rng).unwrap();
    let own = KnownFile::write(mount.path(), "coded/own", LENS[0], &mut rng).unwrap();
    assert_coded(&mount, &[by_other, own]);
}

#[test]
fn with_any_two_of_seven_servers_killed_coded_files_are_readable_at_once() {
    let (mut rng, _) = Rng::announced(SEED);
    let (mut cluster, mount) = coded_cluster();
    let before = used_bytes(&cluster);
    let mut files = write_coded(&mount, 24, &mut rng);
    let overhead = (used_bytes(&cluster) - before) as f64 / files.len_bytes() as f64;
    println!("{overhead:.3} bytes are used for each byte");
    assert!((1.4..=1.6).contains(&overhead), "{overhead:.3} bytes are used for each byte");
    let mut pairs: Vec<Vec<String>> = Vec::new();
    for one in 1..=SERVERS {
        pairs.extend((one + 1..=SERVERS).map(|other| vec![format!("stored-{one}"), format!("stored-{other}")]));
    }
    for at in (1..pairs.len()).rev() {
        pairs.swap(at, rng.index(at + 1));
    }
    for pair in pairs.iter().take(if is_long() { pairs.len() } else { 4 }) {
        let fresh = cluster.mount();
        cluster.kill9_all(pair);
        drop_caches();
        let slowest = [fresh.path(), mount.path()].map(|root| files.read(root).unwrap());
        println!("{pair:?} away: read at once, {slowest:?} at most");
        assert!(slowest.iter().all(|slowest| *slowest < READ_AT_ONCE), "a read waited {slowest:?}");
        cluster.wait_until_down(pair, KNOWN_DOWN);
        // One that is patched, and one that is new, while they are away.
        let name = format!("coded/without-{}", pair.join("-"));
        files.0.push(KnownFile::write(mount.path(), &name, (4 << 20) + 77, &mut rng).unwrap());
        drop(fresh);
        read_by_a_new_mount(&mut cluster, &files);
        cluster.start_the_dead();
        println!("full again after {:?}", cluster.wait_until_full(FULL_AGAIN));
    }
    read_by_a_new_mount(&mut cluster, &files);
    drop(mount);
    cluster.fsck().unwrap();
}

#[test]
fn the_shards_of_a_server_that_does_not_return_are_rebuilt_on_the_rest() {
    let (mut rng, _) = Rng::announced(SEED);
    let (mut cluster, mount) = coded_cluster();
    let files = write_coded(&mount, 24, &mut rng);
    let lost = pick(&mut rng, 1, SERVERS);
    println!("{lost:?} does not return");
    cluster.kill9_all(&lost);
    let given_up =
        cluster.wait_for_servers("it is given up", KNOWN_DOWN + Duration::from_secs(GRACE_S), |servers, _| {
            servers.iter().any(|server| server.name == lost[0] && server.state == "out")
        });
    println!("given up after {given_up:?}, full again after {:?} more", cluster.wait_until_full(FULL_AGAIN));
    read_by_a_new_mount(&mut cluster, &files);
    cluster.fsck().unwrap();
    let rest: Vec<String> =
        (1..=SERVERS).map(|number| format!("stored-{number}")).filter(|it| *it != lost[0]).collect();
    let mut pair = rest.clone();
    while pair.len() > 2 {
        pair.remove(rng.index(pair.len()));
    }
    println!("and then {pair:?}");
    cluster.kill9_all(&pair);
    drop_caches();
    files.read(mount.path()).unwrap();
    read_by_a_new_mount(&mut cluster, &files);
    drop(mount);
    // The one that was given up comes back with them and is welcome.
    cluster.start_the_dead();
    cluster.wait_until_full(FULL_AGAIN);
    read_by_a_new_mount(&mut cluster, &files);
    cluster.fsck().unwrap();
}

/// A patched chunk turns into copies: nothing of its old shards may show.
#[test]
fn coded_files_that_are_overwritten_in_part_stay_right_and_redundant() {
    use std::os::unix::fs::FileExt as _;
    let (mut rng, _) = Rng::announced(SEED);
    let (mut cluster, mount) = coded_cluster();
    let files = write_coded(&mount, 8, &mut rng);
    let mut contents: Vec<(String, Vec<u8>)> = files.0.iter().map(|file| (file.name.clone(), file.bytes())).collect();
    let pair = pick(&mut rng, 2, SERVERS);
    let assert_right = |mount: &Mount, contents: &[(String, Vec<u8>)]| {
        for (name, bytes) in contents {
            assert!(std::fs::read(mount.join(name)).unwrap() == *bytes, "{name}");
        }
    };
    for round in 0..4 {
        if round == 1 {
            cluster.kill9_all(&pair[..1]);
        }
        for (name, bytes) in &mut contents {
            let at = rng.index(bytes.len() - 10_000);
            let patch = rng.bytes(1 + rng.clone().index(9_999));
            bytes[at..at + patch.len()].copy_from_slice(&patch);
            let file = std::fs::File::options().write(true).open(mount.join(&*name)).unwrap();
            file.write_all_at(&patch, at as u64).unwrap();
            file.sync_all().unwrap();
        }
        if round == 2 {
            cluster.start_the_dead();
            cluster.wait_until_full(FULL_AGAIN);
        }
        assert_right(&cluster.mount(), &contents);
    }
    cluster.wait_until_full(FULL_AGAIN);
    cluster.kill9_all(&pair);
    drop_caches();
    assert_right(&mount, &contents);
    assert_right(&cluster.mount(), &contents);
    cluster.start_the_dead();
    cluster.wait_until_full(FULL_AGAIN);
    drop(mount);
    cluster.fsck().unwrap();
}
