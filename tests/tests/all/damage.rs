//! Damage to an embedded volume, and what people are told of it: at the mount, by `dgfs status`, by `dgfs fsck`.
//!
//! Never expects that anything is repaired in secret: what is gone is named, what is there is served.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, run, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::scratch::Scratch;

const COMMAND: Duration = Duration::from_secs(60);

fn call(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Outcome {
    let words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
    run(dgfs(), &words, COMMAND)
}

fn has_all(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// A mounted volume with three files of 1 MiB, and its data directory.
fn volume() -> (Arc<Scratch>, PathBuf, Mount) {
    let scratch = Arc::new(Scratch::new("damage"));
    let data = scratch.join("data");
    let mount = Mount::of_data(&scratch, &data, "mnt");
    fs::create_dir(mount.join("dir")).unwrap();
    for name in ["dir/first", "dir/second", "third"] {
        fs::write(mount.join(name), vec![7; 1 << 20]).unwrap();
    }
    fs::write(mount.join("small"), "small").unwrap();
    (scratch, data, mount)
}

fn segment(data: &Path) -> PathBuf {
    data.join("chunks/segments/00000001.seg")
}

#[test]
fn a_segment_that_vanished_after_a_clean_end_is_named_everywhere_until_its_files_are_gone() {
    let (_scratch, data, mut mount) = volume();
    mount.umount();
    fs::remove_file(segment(&data)).unwrap();
    let sentence = "segment file 00000001.seg is missing: 3 chunk versions with 3145728 bytes";
    let check = || call(&[&"fsck", &"--data-dir", &data]);
    let found = check();
    assert_eq!(found.status.code(), Some(4));
    has_all(&found.output, &[sentence, "/dir/first: bytes 0 to 1048575 (inode ", "/dir/second", "/third"]);
    let repaired = call(&[&"fsck", &"--repair", &"--json", &"--data-dir", &data]);
    assert_eq!(repaired.status.code(), Some(4), "files that lack data are left");
    has_all(&repaired.output, &[r#""damaged_files":["/dir/first","/dir/second","/third"]"#]);
    mount.start();
    has_all(&mount.log(), &[sentence]);
    has_all(&call(&[&"status", &mount.path()]).output, &["LOST 3 chunk versions, 3.0 MiB", sentence]);
    assert_eq!(fs::read(mount.join("third")).unwrap_err().raw_os_error(), Some(libc_eio()));
    assert_eq!(fs::read_to_string(mount.join("small")).unwrap(), "small");
    fs::remove_dir_all(mount.join("dir")).unwrap();
    fs::remove_file(mount.join("third")).unwrap();
    mount.umount();
    let repaired = call(&[&"fsck", &"--repair", &"--data-dir", &data]);
    assert!(matches!(repaired.status.code(), Some(0 | 1)), "{}", repaired.output);
    assert_eq!(check().status.code(), Some(0));
}

fn libc_eio() -> i32 {
    rustix::io::Errno::IO.raw_os_error()
}

#[test]
fn a_cut_segment_and_a_ruined_index_are_named_and_the_rest_is_served() {
    let (_scratch, data, mut mount) = volume();
    mount.umount();
    fs::write(data.join("chunks/index/db"), [0xa5; 100_000]).unwrap();
    let file = fs::OpenOptions::new().write(true).open(segment(&data)).unwrap();
    file.set_len(2_500_000).unwrap();
    mount.start();
    has_all(&mount.log(), &["thrown away and rebuilt", "00000001.seg is cut off at byte 2500000"]);
    has_all(&call(&[&"status", &mount.path()]).output, &["mended: the chunk index", "cut off at byte 2500000"]);
    let read = ["dir/first", "dir/second", "third"].map(|name| fs::read(mount.join(name)).is_ok());
    assert_eq!(read.iter().filter(|read| **read).count(), 2, "two of three records end before the cut");
    mount.umount();
    assert_eq!(call(&[&"fsck", &"--data-dir", &data]).status.code(), Some(4));
    assert_eq!(call(&[&"fsck", &"--bogus"]).status.code(), Some(16));
}

#[test]
fn bytes_of_a_write_that_a_kill_interrupted_are_told_and_are_no_damage() {
    let (_scratch, data, mut mount) = volume();
    mount.kill9();
    let mut file = fs::OpenOptions::new().append(true).open(segment(&data)).unwrap();
    file.write_all(&[0x5a; 100_000]).unwrap();
    drop(file);
    let checked = call(&[&"fsck", &"--data-dir", &data]);
    has_all(&checked.output, &["given up when the volume was opened: segment 00000001", "an interrupted write"]);
    assert_eq!(checked.status.code(), Some(0), "{}", checked.output);
    mount.start();
    for name in ["dir/first", "dir/second", "third"] {
        assert!(fs::read(mount.join(name)).unwrap().iter().all(|byte| *byte == 7));
    }
}

#[test]
fn half_a_volume_is_refused_with_a_sentence() {
    let (scratch, data, mut mount) = volume();
    mount.umount();
    for (half, words) in
        [("meta", ["names and attributes", "backup"]), ("chunks", ["contents of files lay there", "mkdir"])]
    {
        fs::rename(data.join(half), scratch.join("away")).unwrap();
        let refused = mount.try_start().unwrap_err();
        has_all(&refused, &words);
        assert!(!data.join(half).exists(), "nothing was made in its place");
        fs::rename(scratch.join("away"), data.join(half)).unwrap();
    }
    mount.start();
    assert_eq!(fs::read(mount.join("third")).unwrap().len(), 1 << 20);
}

#[test]
fn a_refused_mount_leaves_nothing_and_a_mounted_one_only_private_files() {
    let (scratch, data, _mount) = volume();
    let (new, point) = (scratch.join("new"), scratch.join("nowhere"));
    assert_eq!(call(&[&"mount", &"--background", &"--data-dir", &new, &point]).status.code(), Some(32));
    assert!(!new.exists());
    let hidden = call(&[&"mount", &"-o", &"nonempty", &"--data-dir", &data, &scratch.path()]);
    has_all(&hidden.errors, &["the mount would hide it"]);
    let background = scratch.dir("background");
    assert_eq!(call(&[&"mount", &"--background", &"--data-dir", &new, &background]).status.code(), Some(0));
    assert_eq!(call(&[&"umount", &background]).status.code(), Some(0));
    for entry in [new.clone(), new.join("lock"), new.join("mount.log"), new.join("meta"), new.join("chunks")] {
        let mode = fs::metadata(&entry).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.display());
    }
    std::os::unix::fs::chown(new.join("meta"), Some(12_345), None).unwrap();
    let of_another = call(&[&"fsck", &"--data-dir", &new]);
    assert_eq!(of_another.status.code(), Some(8));
    has_all(&of_another.errors, &["belongs to user 12345", "runuser"]);
}

#[test]
fn a_read_from_the_kernels_pages_renews_the_access_time() {
    let (_scratch, _data, mount) = volume();
    let path = mount.join("third");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
    fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().atime(), 5);
    assert_eq!(fs::read(&path).unwrap().len(), 1 << 20);
    wait_until("the access time is renewed", COMMAND, || fs::metadata(&path).unwrap().atime() > 5);
    assert_eq!(fs::metadata(&path).unwrap().mtime(), 5);
}

/// A port nobody listens at now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_embedded_mount_shows_the_metrics_of_all_its_parts_by_the_rules() {
    let scratch = Arc::new(Scratch::new("metrics"));
    let at = format!("127.0.0.1:{}", free_port());
    let words = vec!["--data-dir".into(), scratch.join("data").into(), "--metrics".into(), OsString::from(&at)];
    let mount = Mount::with_words(&scratch, "mnt", words);
    fs::write(mount.join("f"), vec![7; 1 << 20]).unwrap();
    let mut page = String::new();
    let mut connection = TcpStream::connect(&at).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    connection.read_to_string(&mut page).unwrap();
    has_all(
        &page,
        &["dgfs_mount_operations_total", "dgfs_client_", "dgfs_meta_mutations_total", "dgfs_stored_puts_total 1"],
    );
    for line in page.lines() {
        let Some(rest) = line.strip_prefix("# TYPE ") else { continue };
        let (name, kind) = rest.split_once(' ').unwrap();
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        // What every process has is called as in Prometheus' own libraries.
        let ours = name.starts_with("dgfs_") || name.starts_with("process_");
        assert!(ours && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        let reserved = ["_count", "_sum", "_bucket", "_ms", "_milliseconds", "_kib", "_mib"];
        assert!(!reserved.iter().any(|end| name.ends_with(end)), "{name}");
    }
}
