//! A full disk: what was synced stays, what does not fit is refused with ENOSPC, and removing files gives the room back.
//!
//! Never fills the machine's own disk: the data lie on a small ext4 of their own.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::{Mount, fsck};
use dgfs_tests::power::Disk;
use dgfs_tests::process::{run, wait_until};
use dgfs_tests::rng::Rng;
use dgfs_tests::scratch::Scratch;

/// MiB of the small disk.
const DISK_MIB: u64 = 512;
/// MiB of the disk that names fill.
const NAMES_DISK_MIB: u64 = 256;
/// Bytes of one file that fills it: several chunks, the last one in part.
const PIECE: usize = (9 << 20) + 1234;
/// How long the room of removed files may take to come back: garbage is dropped by age, then segments are compacted.
const COMES_BACK: Duration = Duration::from_secs(90);

/// A file that was synced.
struct Synced {
    name: String,
    len: usize,
    seed: u64,
}

impl Synced {
    fn write(root: &Path, name: &str, len: usize, seed: u64) -> io::Result<Self> {
        let mut file = File::create(root.join(name))?;
        file.write_all(&Rng::new(seed).bytes(len))?;
        file.sync_all()?;
        Ok(Self { name: name.to_owned(), len, seed })
    }

    #[track_caller]
    fn assert_whole(&self, root: &Path) {
        let found = fs::read(root.join(&self.name)).unwrap_or_else(|error| panic!("read {}: {error}", self.name));
        let written = Rng::new(self.seed).bytes(self.len);
        let wrong: Vec<usize> =
            (0..written.len().max(found.len())).filter(|at| found.get(*at) != written.get(*at)).collect();
        let zeros = wrong.iter().filter(|at| found.get(**at) == Some(&0)).count();
        assert!(
            wrong.is_empty(),
            "{} has {} bytes, written were {}; {} differ between {:?} and {:?}, {zeros} of them zeros",
            self.name,
            found.len(),
            written.len(),
            wrong.len(),
            wrong.first(),
            wrong.last()
        );
    }
}

#[track_caller]
fn assert_whole(files: &[Synced], root: &Path) {
    assert!(!files.is_empty(), "there is something to look at");
    for file in files {
        file.assert_whole(root);
    }
}

/// Files of all kinds while there is room.
fn write_some(root: &Path) -> Vec<Synced> {
    let lens = [0, 1, 3000, 4097, 300_000, (4 << 20) + 5];
    let write = |(at, len): (usize, &usize)| Synced::write(root, &format!("kept{at}"), *len, at as u64).unwrap();
    lens.iter().enumerate().map(write).collect()
}

/// Writes until the disk is full: the files that were synced, and the name of the one that was refused.
fn fill(root: &Path, first: u64) -> (Vec<Synced>, String) {
    let mut synced = Vec::new();
    for number in first..first + 2 * (DISK_MIB << 20) / PIECE as u64 {
        let name = format!("fill{number}");
        match Synced::write(root, &name, PIECE, 1000 + number) {
            Ok(file) => synced.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "after {} files: {error}", synced.len());
                return (synced, name);
            }
        }
    }
    panic!("{} MiB took {} files of {PIECE} bytes", DISK_MIB, synced.len());
}

/// What was refused may be there in part; reading it never fails and shows nothing that was not written.
#[track_caller]
fn assert_part(root: &Path, name: &str) {
    let number: u64 = name.trim_start_matches("fill").parse().unwrap();
    let found = fs::read(root.join(name)).unwrap_or_else(|error| panic!("read what was refused: {error}"));
    let written = Rng::new(1000 + number).bytes(PIECE);
    assert!(found.len() <= PIECE);
    let wrong = found.iter().zip(&written).position(|(found, written)| found != written && *found != 0);
    assert_eq!(wrong, None, "a byte that was never written");
}

/// A program that does not sync learns it too, at write or close.
#[track_caller]
fn assert_dd_is_told(root: &Path) {
    let to = format!("of={}", root.join("by-dd").display());
    let words = ["if=/dev/zero", &to, "bs=1M", "count=64", "status=none"];
    let outcome = run("dd", &words, Duration::from_secs(60));
    assert!(!outcome.status.success() && outcome.errors.contains("No space left"), "dd: {outcome:?}");
}

/// Removes every second file that fills the disk and waits until as much can be written again.
fn make_room(root: &Path, filled: &mut Vec<Synced>, refused: &str, next: u64) {
    fs::remove_file(root.join(refused)).expect("remove a file on a full disk");
    let _ = fs::remove_file(root.join("by-dd"));
    let mut at = 0;
    filled.retain(|file| {
        at += 1;
        let stays = at % 2 == 0;
        if !stays {
            fs::remove_file(root.join(&file.name)).expect("remove a file on a full disk");
        }
        stays
    });
    let again = filled.len() as u64 / 2;
    for number in next..next + again {
        wait_until("the room of removed files comes back", COMES_BACK, || {
            let written = Synced::write(root, &format!("fill{number}"), PIECE, 1000 + number);
            match written {
                Ok(file) => filled.push(file),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
                    return false;
                }
            }
            true
        });
    }
}

#[test]
fn a_full_disk_under_an_embedded_volume_refuses_and_recovers() {
    let disk = Disk::new(DISK_MIB);
    let scratch = Arc::new(Scratch::new("full"));
    let data = disk.path().join("data");
    let mut mount = Mount::of_data(&scratch, &data, "mnt");
    let root = mount.path().to_owned();
    let kept = write_some(&root);
    let (mut filled, refused) = fill(&root, 0);
    println!("{} files of {PIECE} bytes fit on {DISK_MIB} MiB", filled.len());
    assert!(filled.len() as u64 * PIECE as u64 > (DISK_MIB << 20) / 2, "only {} files fit", filled.len());
    assert_dd_is_told(&root);
    assert_whole(&kept, &root);
    assert_whole(&filled, &root);
    mount.remount();
    assert_whole(&kept, &root);
    assert_whole(&filled, &root);
    assert_part(&root, &refused);
    mount.kill9();
    mount.start();
    assert_whole(&filled, &root);
    make_room(&root, &mut filled, &refused, 1000);
    mount.umount();
    fsck(&data).unwrap();
    mount.start();
    assert_whole(&kept, &root);
    assert_whole(&filled, &root);
}

#[test]
fn a_full_disk_under_a_storage_daemon_refuses_and_recovers() {
    let disk = Disk::new(DISK_MIB);
    let dir = disk.path().join("up");
    let mut cluster = Cluster::start(ClusterPlan { dir: Some(&dir), ..ClusterPlan::default() });
    let mut mount = cluster.mount();
    let root = mount.path().to_owned();
    let kept = write_some(&root);
    let (mut filled, refused) = fill(&root, 0);
    println!("{} files of {PIECE} bytes fit on {DISK_MIB} MiB", filled.len());
    assert!(filled.len() as u64 * PIECE as u64 > (DISK_MIB << 20) / 2, "only {} files fit", filled.len());
    assert_dd_is_told(&root);
    // Metadata lie elsewhere: names can still be made.
    fs::create_dir(root.join("made-when-full")).unwrap();
    assert_whole(&kept, &root);
    mount.umount();
    assert_eq!(cluster.kill9("stored"), 1);
    cluster.start_the_dead();
    mount.start();
    assert_whole(&kept, &root);
    assert_whole(&filled, &root);
    assert_part(&root, &refused);
    make_room(&root, &mut filled, &refused, 1000);
    mount.remount();
    assert_whole(&kept, &root);
    assert_whole(&filled, &root);
    drop(mount);
    cluster.fsck().unwrap();
}

/// Metadata grow without a byte of content: links whose targets are as long as may be.
#[test]
fn names_alone_fill_a_disk_and_removing_them_frees_it() {
    let disk = Disk::new(NAMES_DISK_MIB);
    let scratch = Arc::new(Scratch::new("full"));
    let data = disk.path().join("data");
    let mut mount = Mount::of_data(&scratch, &data, "mnt");
    let root = mount.path().to_owned();
    let kept = write_some(&root);
    let made = make_links(&root);
    println!("{made} links fit on {NAMES_DISK_MIB} MiB");
    assert!(made > 1000, "only {made} links fit");
    let look = |root: &Path| {
        assert_whole(&kept, root);
        for number in [0, made / 2, made - 1] {
            assert_eq!(fs::read_link(link(root, number)).unwrap(), target(number));
        }
        assert_eq!(fs::read_dir(root.join("links")).unwrap().count() as u64, made);
    };
    look(&root);
    mount.remount();
    look(&root);
    mount.kill9();
    mount.start();
    look(&root);
    for number in 0..made {
        fs::remove_file(link(&root, number)).unwrap_or_else(|error| panic!("remove link {number} of {made}: {error}"));
    }
    wait_until("there is room again", COMES_BACK, || fs::create_dir(root.join("again")).is_ok());
    for number in 0..made / 4 {
        let made = std::os::unix::fs::symlink(target(number), link(&root, number));
        made.unwrap_or_else(|error| panic!("make link {number} again: {error}"));
    }
    assert_whole(&kept, &root);
    mount.umount();
    fsck(&data).unwrap();
}

fn link(root: &Path, number: u64) -> PathBuf {
    root.join("links").join(format!("link{number}"))
}

fn target(number: u64) -> PathBuf {
    Path::new(&format!("{number:04000}")).to_owned()
}

/// Until there is no room; how many there are.
fn make_links(root: &Path) -> u64 {
    fs::create_dir(root.join("links")).unwrap();
    for number in 0.. {
        if let Err(error) = std::os::unix::fs::symlink(target(number), link(root, number)) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "after {number} links: {error}");
            return number;
        }
        assert!(number < (NAMES_DISK_MIB << 20) / 1000, "there is no end");
    }
    unreachable!("the loop ends by the assertion");
}
