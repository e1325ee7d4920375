//! Changes made ahead of the metadata service: one mount works in a directory for a while, then another one looks, and must see
//! every change that had returned. `DGFS_AHEAD_SEED` repeats the choices.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::process::Signal;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::process::{signal, wait_until};
use dgfs_tests::rng::Rng;
use dgfs_tests::watched::Watched;

use super::rounds;

/// Names there may be in a directory.
const NAMES: u64 = 12;
/// Changes of one mount before another looks, at most.
const BURST_MAX: u64 = 40;
/// Below this much, files lie in the metadata; some are longer.
const BYTES_MAX: u64 = 6000;
/// A session that is silent for 15 s is dead; checks may be late.
const DEAD_AFTER: Duration = Duration::from_secs(40);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File { bytes: Vec<u8>, mode: u32 },
    Link(PathBuf),
    Directory(Tree),
}

type Tree = BTreeMap<String, Node>;

/// What there is below a directory.
fn found(directory: &Path) -> Tree {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), node(&entry.path()))).collect()
}

fn node(path: &Path) -> Node {
    let attr = fs::symlink_metadata(path).unwrap();
    if attr.is_dir() {
        let tree = found(path);
        assert_eq!(attr.size(), tree.len() as u64, "{}: a directory shows how many entries it has", path.display());
        return Node::Directory(tree);
    }
    assert_eq!(attr.nlink(), 1, "{}", path.display());
    if attr.is_symlink() {
        return Node::Link(fs::read_link(path).unwrap());
    }
    let bytes = fs::read(path).unwrap();
    assert_eq!(attr.size(), bytes.len() as u64, "{}", path.display());
    Node::File { bytes, mode: attr.mode() & 0o7777 }
}

/// One change at `root`, below which directories go `deep` further, and of the model.
fn change(rng: &mut Rng, root: &Path, tree: &mut Tree, deep: u32) {
    // Half of the changes happen in a directory below, if there is one.
    let directories: Vec<String> =
        tree.iter().filter(|(_, node)| matches!(node, Node::Directory(_))).map(|(name, _)| name.clone()).collect();
    if !directories.is_empty() && rng.chance(50) {
        let name = rng.pick(&directories).clone();
        if let Some(Node::Directory(below)) = tree.get_mut(&name) {
            return change(rng, &root.join(name), below, deep - 1);
        }
    }
    let name = format!("n{}", rng.below(NAMES));
    let path = root.join(&name);
    match tree.get(&name).cloned() {
        None => make(rng, &path, &name, tree, deep),
        Some(Node::File { bytes, mode }) => match rng.below(4) {
            0 => {
                let mode = if mode == 0o640 { 0o755 } else { 0o640 };
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                tree.insert(name, Node::File { bytes, mode });
            }
            1 => {
                let (len, mut longer) = (1 + rng.below(500), bytes);
                let more = rng.bytes(len as usize);
                File::options().append(true).open(&path).unwrap().write_all(&more).unwrap();
                longer.extend(more);
                tree.insert(name, Node::File { bytes: longer, mode });
            }
            2 => rename(rng, root, &name, tree),
            _ => {
                fs::remove_file(&path).unwrap();
                tree.remove(&name);
            }
        },
        Some(Node::Link(_)) => {
            fs::remove_file(&path).unwrap();
            tree.remove(&name);
        }
        Some(Node::Directory(below)) if below.is_empty() && rng.chance(50) => {
            fs::remove_dir(&path).unwrap();
            tree.remove(&name);
        }
        Some(Node::Directory(below)) if !below.is_empty() && rng.chance(20) => {
            assert!(fs::remove_dir(&path).is_err(), "{} is not empty", path.display());
        }
        Some(Node::Directory(_)) => rename(rng, root, &name, tree),
    }
}

fn make(rng: &mut Rng, path: &Path, name: &str, tree: &mut Tree, deep: u32) {
    let node = match rng.below(10) {
        0..2 if deep > 0 => {
            fs::create_dir(path).unwrap();
            Node::Directory(Tree::new())
        }
        2 => {
            symlink("../elsewhere", path).unwrap();
            Node::Link("../elsewhere".into())
        }
        _ => {
            let len = if rng.chance(30) { 0 } else { rng.below(BYTES_MAX) };
            let bytes = rng.bytes(len as usize);
            let mut file = File::create_new(path).unwrap();
            file.write_all(&bytes).unwrap();
            Node::File { bytes, mode: file.metadata().unwrap().mode() & 0o7777 }
        }
    };
    tree.insert(name.to_owned(), node);
}

fn rename(rng: &mut Rng, root: &Path, name: &str, tree: &mut Tree) {
    let to = format!("n{}", rng.below(NAMES));
    let over = match (tree.get(name), tree.get(&to)) {
        (_, None) => true,
        (Some(Node::Directory(_)), Some(Node::Directory(below))) => below.is_empty(),
        (Some(moved), Some(target)) => !matches!(moved, Node::Directory(_)) && !matches!(target, Node::Directory(_)),
        (None, _) => false,
    };
    let renamed = fs::rename(root.join(name), root.join(&to));
    assert_eq!(renamed.is_ok(), over || to == name, "{name} to {to}: {renamed:?}");
    if over
        && to != name
        && let Some(moved) = tree.remove(name)
    {
        tree.insert(to, moved);
    }
}

/// Bursts of changes by one mount, each seen whole by the others when they look.
fn bursts(plan: ClusterPlan<'_>) {
    let (mut rng, _) = Rng::announced("DGFS_AHEAD_SEED");
    let mut cluster = Cluster::start(plan);
    let mounts = [Watched::of(&mut cluster), Watched::of(&mut cluster), Watched::of(&mut cluster)];
    fs::create_dir(mounts[0].mount.join("d")).unwrap();
    let mut tree = Tree::new();
    for round in 0..rounds(150) {
        // Mostly the same one, as where somebody works.
        let worker = if rng.chance(70) { 0 } else { rng.below(3) as usize };
        let looker = (worker + 1 + rng.below(2) as usize) % 3;
        let root = mounts[worker].mount.join("d");
        for _ in 0..=rng.below(BURST_MAX) {
            change(&mut rng, &root, &mut tree, 2);
        }
        let seen = found(&mounts[looker].mount.join("d"));
        assert!(seen == tree, "round {round}: {worker} worked, {looker} saw\n{seen:#?}\ninstead of\n{tree:#?}");
    }
    let ahead: u64 = mounts.iter().map(|mount| mount.metric("dgfs_client_kept_back_total")).sum();
    assert!(ahead > rounds(150), "only {ahead} changes were made ahead");
    mounts.iter().for_each(Watched::assert_told_right);
    println!("{ahead} changes were made ahead");
}

#[test]
fn what_one_mount_makes_ahead_another_sees_whole_when_it_looks() {
    bursts(ClusterPlan::default());
}

#[test]
fn what_one_mount_makes_ahead_another_sees_whole_with_metadata_in_the_embedded_engine() {
    bursts(ClusterPlan { embedded_engine: true, ..ClusterPlan::default() });
}

/// A mount that works ahead is stopped for longer than its lease: others see the first so many of its changes and none after
/// them; what it had made ahead and not told does not come later, and its programs hear of it.
#[test]
fn of_a_mount_that_was_declared_dead_a_beginning_of_what_it_made_ahead_stays() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let (worker, looker) = (Watched::of(&mut cluster), Watched::of(&mut cluster));
    let root = worker.mount.join("d");
    fs::create_dir(&root).unwrap();
    let names = |directory: &Path| {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut numbers: Vec<u64> = entries.map(|name| name.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    let mut made = 0;
    // Until something is on its way or waits while the mount is stopped.
    while made < 200 || worker.metric("dgfs_client_kept_back") == 0 {
        drop(File::create_new(root.join(made.to_string())).unwrap());
        made += 1;
    }
    let directory = File::open(&root).unwrap();
    for _ in 0..50 {
        drop(File::create_new(root.join(made.to_string())).unwrap());
        made += 1;
    }
    signal(worker.mount.pid(), Signal::STOP);
    let theirs = looker.mount.join("d");
    let seen = names(&theirs);
    assert!(seen.len() as u64 <= made && seen == (0..seen.len() as u64).collect::<Vec<_>>(), "{seen:?}");
    fs::write(theirs.join("100000"), b"after the dead").unwrap();
    signal(worker.mount.pid(), Signal::CONT);
    wait_until("the mount hears that it is dead", DEAD_AFTER, || directory.sync_all().is_err());
    assert!(File::create_new(root.join("200000")).is_err());
    let mut after = seen;
    after.push(100_000);
    assert_eq!(names(&theirs), after, "something of the dead came later");
    assert!(worker.mount.log().contains("has ended this session"), "the log says so:\n{}", worker.mount.log());
}

/// The lock must not reach meta before the file.
#[test]
fn a_file_that_was_made_a_moment_ago_can_be_waited_for_to_lock() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mount = Watched::of(&mut cluster);
    for at in 0..rounds(100) {
        let file = File::create_new(mount.mount.join(format!("lock{at}"))).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
    }
    assert!(mount.metric("dgfs_client_kept_back_total") > 0);
}
