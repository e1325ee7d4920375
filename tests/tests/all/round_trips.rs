//! How many calls an operation costs: counted, not timed, so the machine does not matter.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::watched::Watched;

/// Each operation is done so many times; sporadic calls (heartbeats, grants) do not hide in a single one.
const TIMES: u64 = 20;
/// Calls that belong to no operation: sessions, the map, ids in advance, closes told later.
const BACKGROUND: [&str; 5] = ["session", "map", "grant", "release", "other"];

/// A mount whose calls can be counted.
struct Counted(Watched);

impl Deref for Counted {
    type Target = Watched;

    fn deref(&self) -> &Watched {
        &self.0
    }
}

impl Counted {
    fn of(cluster: &mut Cluster) -> Self {
        Self(Watched::of(cluster))
    }

    /// Calls to meta by kind.
    fn calls(&self) -> BTreeMap<String, u64> {
        let text = self.metrics();
        let line = |line: &str| {
            let rest = line.strip_prefix("dgfs_client_meta_calls_total{kind=\"")?;
            let (kind, count) = rest.split_once("\"} ")?;
            Some((kind.to_owned(), count.trim().parse::<f64>().ok()? as u64))
        };
        let calls: BTreeMap<String, u64> = text.lines().filter_map(line).collect();
        assert!(calls.contains_key("make"), "no call counts in:\n{text}");
        calls
    }

    /// A directory in which changes are made ahead: the mount has the right to, and inode numbers.
    fn directory(&self) -> PathBuf {
        let dir = self.mount.join("d");
        fs::create_dir(&dir).unwrap();
        for at in 0.. {
            let made = || self.calls()["make"];
            let before = made();
            let path = dir.join(format!("first{at}"));
            drop(File::create_new(&path).unwrap());
            let is_ahead = made() == before;
            fs::remove_file(&path).unwrap();
            if is_ahead {
                break;
            }
        }
        dir
    }

    /// What `operation`, done `TIMES` times, called, without the background.
    fn count(&self, mut operation: impl FnMut(u64)) -> BTreeMap<String, u64> {
        let before = self.calls();
        for at in 0..TIMES {
            operation(at);
        }
        let after = self.calls();
        after
            .into_iter()
            .map(|(kind, count)| (kind.clone(), count - before.get(&kind).copied().unwrap_or(0)))
            .filter(|(kind, count)| *count > 0 && !BACKGROUND.contains(&kind.as_str()))
            .collect()
    }
}

/// What a mount knows of a directory is asked again when a heartbeat was late, as on a busy machine: not with each operation.
const RENEWALS_MAX: u64 = 2;

#[track_caller]
fn assert_costs(what: &str, calls: &BTreeMap<String, u64>, exactly: &[(&str, u64)], at_most: &[(&str, u64)]) {
    for (kind, each) in exactly {
        assert_eq!(calls.get(*kind).copied().unwrap_or(0), each * TIMES, "{what}: {kind} in {calls:?}");
    }
    for (kind, count) in calls {
        let renewed = if kind == "getattr" { RENEWALS_MAX } else { 0 };
        let each = exactly.iter().chain(at_most).find(|(name, _)| name == kind).map_or(0, |(_, each)| *each);
        let allowed = each * TIMES + renewed;
        assert!(*count <= allowed, "{what}: {count} {kind} for {TIMES} operations, in {calls:?}");
    }
}

#[test]
fn each_operation_costs_its_round_trips_and_no_more() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let counted = Counted::of(&mut cluster);
    let dir = counted.directory();
    let path = |at: u64| dir.join(format!("f{at}"));
    // A mount that is alone knows what is in a directory it made, and makes changes ahead: many go in one message.
    let create = counted.count(|at| drop(File::create_new(path(at)).unwrap()));
    assert_costs("create", &create, &[], &[("kept_back", 1)]);

    // Closing waits for one round trip, which may find another under way.
    let small = counted.count(|at| fs::write(dir.join(format!("small{at}")), [7; 4096]).unwrap());
    assert_costs("create, 4 KiB, close", &small, &[], &[("kept_back", 2)]);

    let stat = counted.count(|at| assert!(fs::metadata(path(at)).unwrap().is_file()));
    assert_costs("stat of a known file", &stat, &[], &[]);

    let missing = counted.count(|at| assert!(fs::metadata(dir.join(format!("none{at}"))).is_err()));
    assert_costs("stat of a name that is not there", &missing, &[], &[]);

    let open = counted.count(|at| drop(File::open(path(at)).unwrap()));
    assert_costs("open", &open, &[], &[]);

    let read = counted.count(|at| assert_eq!(fs::read(dir.join(format!("small{at}"))).unwrap().len(), 4096));
    // The first read of a file moves its access time (relatime).
    assert_costs("open, read 4 KiB, close", &read, &[], &[("content", 1), ("kept_back", 1)]);

    let overwrite = counted.count(|at| {
        let mut file = OpenOptions::new().write(true).open(dir.join(format!("small{at}"))).unwrap();
        file.write_all(b"new").unwrap();
    });
    assert_costs("open, write, close", &overwrite, &[], &[("content", 1), ("kept_back", 2)]);

    let chmod = counted.count(|at| fs::set_permissions(path(at), fs::Permissions::from_mode(0o600)).unwrap());
    assert_costs("chmod", &chmod, &[], &[("kept_back", 1)]);

    let rename = counted.count(|at| fs::rename(path(at), dir.join(format!("g{at}"))).unwrap());
    assert_costs("rename", &rename, &[], &[("kept_back", 1)]);

    let unlink = counted.count(|at| fs::remove_file(dir.join(format!("g{at}"))).unwrap());
    assert_costs("unlink", &unlink, &[], &[("kept_back", 1)]);

    let list = counted.count(|_| assert_eq!(fs::read_dir(&dir).unwrap().count() as u64, TIMES));
    assert_costs("readdir", &list, &[], &[("readdir", 1), ("kept_back", 1)]);
    counted.assert_told_right();
}

/// With a second mount that looks on, what is leased is as cheap as what is one's own.
#[test]
fn each_operation_costs_its_round_trips_with_a_second_mount_too() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let counted = Counted::of(&mut cluster);
    let other = cluster.mount();
    let dir = counted.directory();
    let path = |at: u64| dir.join(format!("f{at}"));
    let create = counted.count(|at| drop(File::create_new(path(at)).unwrap()));
    assert_costs("create", &create, &[], &[("kept_back", 1)]);

    let small = counted.count(|at| fs::write(dir.join(format!("small{at}")), [7; 4096]).unwrap());
    assert_costs("create, 4 KiB, close", &small, &[], &[("kept_back", 2)]);

    let stat = counted.count(|at| assert!(fs::metadata(path(at)).unwrap().is_file()));
    assert_costs("stat of a known file", &stat, &[], &[]);

    let missing = counted.count(|at| assert!(fs::metadata(dir.join(format!("none{at}"))).is_err()));
    assert_costs("stat of a name that is not there", &missing, &[], &[]);

    let read = counted.count(|at| assert_eq!(fs::read(dir.join(format!("small{at}"))).unwrap().len(), 4096));
    assert_costs("open, read 4 KiB, close", &read, &[], &[("content", 1), ("kept_back", 1)]);

    let again = counted.count(|at| assert_eq!(fs::read(dir.join(format!("small{at}"))).unwrap().len(), 4096));
    assert_costs("read again", &again, &[], &[]);

    let rename = counted.count(|at| fs::rename(path(at), dir.join(format!("g{at}"))).unwrap());
    assert_costs("rename", &rename, &[], &[("kept_back", 1)]);

    let unlink = counted.count(|at| fs::remove_file(dir.join(format!("g{at}"))).unwrap());
    assert_costs("unlink", &unlink, &[], &[("kept_back", 1)]);

    // The other mount looks, and comes to know; after that each change of this one is told to it first.
    let theirs = other.join("d");
    let look = || fs::read_dir(&theirs).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>();
    assert_eq!(look(), TIMES * 4096);
    let create = counted.count(|at| drop(File::create_new(path(at)).unwrap()));
    assert_costs("create in a directory that another mount knows", &create, &[], &[("make", 1), ("kept_back", 1)]);
    assert_eq!(look(), TIMES * 4096);
    // A file that is written at one mount and looked at by the other, by turns.
    let shared = dir.join("small0");
    let alternate = counted.count(|_| {
        let mut file = OpenOptions::new().append(true).open(&shared).unwrap();
        file.write_all(b"more").unwrap();
        drop(file);
        assert!(fs::metadata(theirs.join("small0")).unwrap().len() > 4096);
    });
    assert_costs(
        "append and look by turns",
        &alternate,
        &[],
        &[("open", 1), ("commit", 1), ("lease", 1), ("content", 1), ("recall", 1), ("kept_back", 1)],
    );
    counted.assert_told_right();
}

#[test]
fn a_mount_that_comes_to_a_directory_reads_it_as_a_whole_instead_of_asking_for_each_name() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mut mount = cluster.mount();
    fs::create_dir(mount.join("d")).unwrap();
    for at in 0..1000 {
        File::create_new(mount.join(format!("d/f{at}"))).unwrap();
    }
    mount.umount();
    let counted = Counted::of(&mut cluster);
    let calls = counted.count(|round| {
        for at in 0..1000 / TIMES {
            assert!(fs::metadata(counted.mount.join(format!("d/f{}", round * (1000 / TIMES) + at))).is_ok());
        }
    });
    // Some names are asked for while the reading is under way.
    let asked: u64 = calls.values().sum();
    assert!(asked < 500, "{calls:?} for 1,000 names");
}

/// Looking a small file up brings its bytes; whoever reads one after the other gets many with each question.
#[test]
fn small_files_that_were_never_seen_are_read_with_few_calls() {
    const EACH: u64 = 25;
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mut mount = cluster.mount();
    fs::create_dir(mount.join("many")).unwrap();
    for at in 0..TIMES {
        let alone = mount.join(format!("alone{at}"));
        fs::create_dir(&alone).unwrap();
        fs::write(alone.join("small"), at.to_string()).unwrap();
        for number in 0..EACH {
            fs::write(mount.join(format!("many/{at}.{number}")), vec![at as u8; 10 + 300 * number as usize]).unwrap();
        }
    }
    mount.umount();
    let counted = Counted::of(&mut cluster);
    let alone = counted.count(|at| {
        let text = fs::read_to_string(counted.mount.join(format!("alone{at}/small"))).unwrap();
        assert_eq!(text, at.to_string());
    });
    // At most one for the directory, one for the file, with its bytes; the access times follow later.
    assert_costs("lookup, open, read, close", &alone, &[], &[("lookup", 2), ("readdir", 1), ("kept_back", 1)]);
    let many: Vec<_> = fs::read_dir(counted.mount.join("many")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(many.len() as u64, TIMES * EACH);
    let mut files = many.iter();
    let read = counted.count(|_| {
        for path in files.by_ref().take(EACH as usize) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let (at, number) = name.split_once('.').unwrap();
            let expected = vec![at.parse::<u8>().unwrap(); 10 + 300 * number.parse::<usize>().unwrap()];
            assert!(fs::read(path).unwrap() == expected, "{name}");
        }
    });
    let asked = read.get("content").copied().unwrap_or(0);
    assert!(asked <= TIMES * EACH / 8, "{read:?} for {} files", TIMES * EACH);
    counted.assert_told_right();
}

#[test]
fn a_commit_group_costs_one_call_to_redis() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mount = cluster.mount();
    fs::create_dir(mount.join("d")).unwrap();
    let numbers = |cluster: &Cluster| {
        let status = cluster.status();
        let number = |name: &str| status["meta"][name].as_u64().unwrap_or_else(|| panic!("no meta.{name} in {status}"));
        (number("mutations"), number("commits"), number("engine_calls"))
    };
    let began = Instant::now();
    let before = numbers(&cluster);
    for at in 0..200 {
        fs::write(mount.join(format!("d/f{at}")), b"x").unwrap();
    }
    let after = numbers(&cluster);
    let (mutations, commits, calls) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
    assert!(mutations >= 400, "{mutations} mutations for 200 files");
    // Besides: the writer's lease and the tick, a few times a second; nothing is loaded, the directory is new.
    let aside = 4 * (began.elapsed().as_secs() + 2);
    assert!(calls <= commits + aside, "{calls} calls for {commits} commit groups ({aside} aside)");
}
