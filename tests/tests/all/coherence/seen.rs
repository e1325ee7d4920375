//! Each change, seen by the other mount when the call returned, although it had looked before and caches what it saw.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, getxattr, setxattr, utimensat};

use dgfs_tests::cluster::ClusterPlan;

use super::{Trio, both, names, rounds};

/// A change on `one`, seen on `other`; both had looked at the names before.
type Change = fn(one: &Path, other: &Path);

fn exists(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn create_and_unlink(one: &Path, other: &Path) {
    let (mine, theirs) = both(one, other, "created");
    assert!(!exists(&theirs) && names(other) == ["kept"], "{:?}", names(other));
    drop(File::create_new(&mine).unwrap());
    assert!(exists(&theirs), "a negative name outlived a create");
    assert_eq!(names(other), ["created", "kept"]);
    fs::remove_file(&mine).unwrap();
    assert!(!exists(&theirs), "a name outlived its unlink");
    assert_eq!(names(other), ["kept"]);
}

fn mkdir_and_rmdir(one: &Path, other: &Path) {
    let (mine, theirs) = both(one, other, "dir");
    assert!(!exists(&theirs));
    fs::create_dir(&mine).unwrap();
    assert!(fs::metadata(&theirs).unwrap().is_dir() && names(&theirs).is_empty());
    fs::write(mine.join("inside"), b"x").unwrap();
    assert_eq!(names(&theirs), ["inside"]);
    assert_eq!(fs::remove_dir(&theirs).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::remove_file(theirs.join("inside")).unwrap();
    fs::remove_dir(&mine).unwrap();
    assert!(!exists(&theirs));
}

fn rename_and_replace(one: &Path, other: &Path) {
    fs::write(one.join("from"), b"moved").unwrap();
    fs::write(one.join("onto"), b"replaced").unwrap();
    assert_eq!(fs::read(other.join("onto")).unwrap(), b"replaced");
    let moved = fs::metadata(other.join("from")).unwrap().ino();
    fs::rename(one.join("from"), one.join("onto")).unwrap();
    assert!(!exists(&other.join("from")));
    assert_eq!(fs::read(other.join("onto")).unwrap(), b"moved");
    assert_eq!(fs::metadata(other.join("onto")).unwrap().ino(), moved);
    fs::rename(one.join("onto"), one.join("away")).unwrap();
    assert!(!exists(&other.join("onto")) && exists(&other.join("away")));
    fs::remove_file(other.join("away")).unwrap();
    assert!(!exists(&one.join("away")));
}

fn attributes(one: &Path, other: &Path) {
    let (mine, theirs) = both(one, other, "kept");
    let mode = fs::metadata(&theirs).unwrap().mode() & 0o777;
    fs::set_permissions(&mine, fs::Permissions::from_mode(mode ^ 0o044)).unwrap();
    assert_eq!(fs::metadata(&theirs).unwrap().mode() & 0o777, mode ^ 0o044);
    let before = fs::metadata(&theirs).unwrap().mtime();
    let time = Timespec { tv_sec: before + 7, tv_nsec: 5 };
    utimensat(CWD, &mine, &Timestamps { last_access: time, last_modification: time }, AtFlags::empty()).unwrap();
    let after = fs::metadata(&theirs).unwrap();
    assert_eq!((after.mtime(), after.mtime_nsec(), after.atime()), (before + 7, 5, before + 7));
    let links = after.nlink();
    fs::hard_link(&mine, one.join("linked")).unwrap();
    assert_eq!(fs::metadata(&theirs).unwrap().nlink(), links + 1);
    assert_eq!(fs::metadata(other.join("linked")).unwrap().ino(), after.ino());
    fs::remove_file(one.join("linked")).unwrap();
    assert_eq!(fs::metadata(&theirs).unwrap().nlink(), links);
}

fn xattrs(one: &Path, other: &Path) {
    let (mine, theirs) = both(one, other, "kept");
    let value = |path: &Path| {
        let mut buffer = [0; 64];
        getxattr(path, "user.tag", &mut buffer[..]).map(|len| buffer[..len].to_vec()).unwrap_or_default()
    };
    let next = [value(&theirs).first().map_or(1, |byte| byte.wrapping_add(1))];
    setxattr(&mine, "user.tag", &next, XattrFlags::empty()).unwrap();
    assert_eq!(value(&theirs), next);
}

fn symlinks(one: &Path, other: &Path) {
    let (mine, theirs) = both(one, other, "link");
    for target in ["first", "second-and-longer"] {
        let _ = fs::remove_file(&mine);
        symlink(target, &mine).unwrap();
        assert_eq!(fs::read_link(&theirs).unwrap(), Path::new(target));
    }
    fs::remove_file(&mine).unwrap();
    assert!(!exists(&theirs));
}

fn sizes(one: &Path, other: &Path) {
    let (mine, theirs) = both(one, other, "kept");
    let read = || fs::read(&theirs).unwrap();
    let size = || fs::metadata(&theirs).unwrap().len();
    fs::write(&mine, vec![b'w'; 10_000]).unwrap();
    assert!(read() == vec![b'w'; 10_000] && size() == 10_000, "write, then close");
    OpenOptions::new().write(true).open(&mine).unwrap().set_len(10).unwrap();
    assert!(read() == [b'w'; 10] && size() == 10, "truncate");
    OpenOptions::new().append(true).open(&mine).unwrap().write_all(b"appended").unwrap();
    assert_eq!(read(), b"wwwwwwwwwwappended");
    // Written while it is open and not closed, fsynced or flushed: the writer keeps it back, until somebody looks.
    let mut open = OpenOptions::new().read(true).write(true).open(&mine).unwrap();
    open.write_all(b"not closed yet, and longer than what was there").unwrap();
    assert_eq!(size(), 46);
    assert_eq!(read(), b"not closed yet, and longer than what was there");
    open.set_len(0).unwrap();
    assert_eq!((size(), read().len()), (0, 0));
}

fn open_on_both(one: &Path, other: &Path) {
    let (mine, theirs) = both(one, other, "shared");
    let open = |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    let (mut first, mut second) = (open(&mine), open(&theirs));
    first.set_len(0).unwrap();
    for turn in 0..4_u8 {
        let (writer, reader) = if turn % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let bytes = vec![turn + 1; 5000 + 1000 * usize::from(turn)];
        writer.seek(SeekFrom::Start(0)).unwrap();
        writer.write_all(&bytes).unwrap();
        assert_eq!(reader.metadata().unwrap().len(), bytes.len() as u64, "turn {turn}");
        let mut seen = Vec::new();
        reader.seek(SeekFrom::Start(0)).unwrap();
        reader.read_to_end(&mut seen).unwrap();
        assert!(seen == bytes, "turn {turn}: {} bytes, the first {:?}", seen.len(), seen.first());
    }
    fs::remove_file(&mine).unwrap();
    // The descriptors live on, everywhere.
    first.seek(SeekFrom::Start(0)).unwrap();
    first.write_all(b"nameless").unwrap();
    let mut seen = [0; 8];
    second.seek(SeekFrom::Start(0)).unwrap();
    second.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"nameless");
}

const CHANGES: [(&str, Change); 8] = [
    ("create and unlink", create_and_unlink),
    ("mkdir and rmdir", mkdir_and_rmdir),
    ("rename and replace", rename_and_replace),
    ("attributes", attributes),
    ("xattrs", xattrs),
    ("symlinks", symlinks),
    ("sizes", sizes),
    ("open on both", open_on_both),
];

#[test]
fn every_change_is_seen_by_the_other_mount_when_it_returned() {
    see_every_change(&Trio::new());
}

#[test]
fn every_change_is_seen_with_metadata_in_the_embedded_engine_too() {
    see_every_change(&Trio::of(ClusterPlan { embedded_engine: true, ..ClusterPlan::default() }));
}

fn see_every_change(trio: &Trio) {
    trio.stirred("d", |a, b| {
        fs::write(a.join("kept"), b"kept").unwrap();
        for round in 0..rounds(40) {
            for (at, (what, change)) in CHANGES.iter().enumerate() {
                println!("round {round}: {what}");
                if (round as usize + at).is_multiple_of(2) { change(a, b) } else { change(b, a) }
            }
        }
    });
}
