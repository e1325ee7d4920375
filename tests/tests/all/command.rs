//! The `dgfs` command as people use it: mounts come and go in every usual way, and bad input gets a sentence.
//!
//! Never looks inside: what is asserted is what a person sees.

use std::ffi::OsString;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dgfs_meta::engine::testing::RedisServer;
use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::{Mount, fsck};
use dgfs_tests::process::{Outcome, lives, run, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::scratch::{Scratch, mounts_below};
use rustix::process::Signal;

/// How a mount is ended.
type Way = fn(&mut Mount);

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(60);
/// Exit code of a helper that could not mount, as mount(8) knows it.
const NOT_MOUNTED: i32 = 32;

fn call(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Outcome {
    let words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
    run(dgfs(), &words, COMMAND)
}

#[track_caller]
fn assert_says(outcome: &Outcome, code: i32, words: &[&str]) {
    // A mount in the foreground logs to the terminal too; the last line is for the person.
    let said = outcome.errors.lines().last().unwrap_or_default();
    assert_eq!(outcome.status.code(), Some(code), "{}", outcome.errors);
    assert!(said.starts_with("dgfs: "), "{}", outcome.errors);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn a_bad_mount_point_gets_a_sentence() {
    let scratch = Scratch::new("command");
    let (full, file) = (scratch.dir("full"), scratch.join("file"));
    std::fs::write(full.join("x"), "x").unwrap();
    std::fs::write(&file, "x").unwrap();
    let cases: [(PathBuf, &[&str]); 3] = [
        (scratch.join("missing"), &["missing", "does not exist", "mkdir"]),
        (full, &["is not empty", "nonempty"]),
        (file, &["not a directory"]),
    ];
    for (point, words) in cases {
        assert_says(&call(&[&"mount", &"--data-dir", &scratch.join("data"), &point]), NOT_MOUNTED, words);
    }
    let unknown = call(&[&"mount", &"-o", &"bogus", &"--data-dir", &scratch.join("data"), &scratch.dir("point")]);
    assert_says(&unknown, NOT_MOUNTED, &["bogus", "--help"]);
    assert_says(&call(&[&"umount", &scratch.path()]), 1, &["is not a mount point"]);
    assert_says(&call(&[&"status", &scratch.path()]), 1, &["is not on a DGFS mount"]);
}

#[test]
fn whoever_comes_second_is_told_who_has_the_volume() {
    let scratch = Arc::new(Scratch::new("command"));
    let data = scratch.join("data");
    let mount = Mount::of_data(&scratch, &data, "mnt");
    let at = mount.path().display().to_string();
    let pid = format!("pid {}", mount.pid());
    let second = scratch.dir("second");
    assert_says(&call(&[&"mount", &"--data-dir", &data, &second]), NOT_MOUNTED, &[&at, &pid, "--data-dir"]);
    assert_says(&call(&[&"fsck", &"--data-dir", &data]), 8, &[&at, &pid]);
    let again = call(&[&"mount", &"--data-dir", &scratch.join("other"), &mount.path()]);
    assert_says(&again, NOT_MOUNTED, &["is a mount point already"]);
}

#[test]
fn every_way_to_unmount_writes_everything() {
    let mut mount = Mount::embedded();
    let ways: [(&str, Way); 5] = [
        ("dgfs umount", Mount::umount),
        ("umount", |mount| unmount_by("umount", mount)),
        ("fusermount3 -u", |mount| unmount_by("fusermount3", mount)),
        ("SIGTERM", |mount| mount.end_by(Signal::TERM)),
        ("SIGINT", |mount| mount.end_by(Signal::INT)),
    ];
    for (at, (way, end)) in ways.into_iter().enumerate() {
        let content = vec![at as u8 + 1; 6 << 20];
        std::fs::write(mount.join(format!("f{at}")), &content).unwrap();
        std::fs::write(mount.join(format!("small{at}")), way).unwrap();
        end(&mut mount);
        assert_eq!(mounts_below(mount.path()), Vec::<PathBuf>::new(), "after {way}");
        mount.start();
        assert!(std::fs::read(mount.join(format!("f{at}"))).unwrap() == content, "after {way}");
        assert_eq!(std::fs::read_to_string(mount.join(format!("small{at}"))).unwrap(), way);
    }
}

fn unmount_by(program: &str, mount: &mut Mount) {
    let point = mount.path().to_owned();
    let words: &[OsString] = if program == "umount" { &[point.into()] } else { &["-u".into(), point.into()] };
    // Between fork and exec a process of another test may have the mount open.
    wait_until(program, COMMAND, || run(program, words, COMMAND).status.success());
    mount.wait_for_end();
}

#[test]
fn a_mount_whose_process_was_killed_is_recovered_by_the_next_mount_on_its_path() {
    let mut mount = Mount::embedded();
    std::fs::write(mount.join("f"), "kept").unwrap();
    mount.kill9();
    let error = std::fs::read(mount.join("f")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    mount.start();
    assert_eq!(std::fs::read_to_string(mount.join("f")).unwrap(), "kept");
}

#[test]
fn a_mount_in_the_background_answers_when_the_command_returns() {
    let scratch = Scratch::new("command");
    let (data, point) = (scratch.join("data"), scratch.dir("mnt"));
    let helper = scratch.join("mount.dgfs");
    std::os::unix::fs::symlink(dgfs(), &helper).unwrap();
    // As mount(8) calls it for `mount -t dgfs DATA POINT -o noatime`.
    let words: [&Path; 4] = [&data, &point, Path::new("-o"), Path::new("rw,noatime")];
    let _ = run(&helper, &words, COMMAND).expect_success("mount.dgfs");
    std::fs::write(point.join("f"), "x").unwrap();
    let status = call(&[&"status", &"--json", &point]).expect_success("dgfs status");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let pid = status["mount"]["pid"].as_u64().unwrap() as u32;
    assert!(lives(pid));
    let _ = call(&[&"umount", &point]).expect_success("dgfs umount");
    assert!(!lives(pid), "umount returns when everything is written");
    fsck(&data).unwrap();
}

/// mount(8) finds the helper in /sbin, so the test takes a mount table, a /sbin and process numbers of its own.
#[test]
fn fstab_mounts_a_volume_and_a_cluster() {
    let cluster = Cluster::start(ClusterPlan::default());
    let scratch = Scratch::new("command");
    let (fstab, a, b) = (scratch.join("fstab"), scratch.dir("a"), scratch.dir("b"));
    let (data, client) = (scratch.join("data"), cluster.dir().join("client.toml"));
    let sbin = run("cp", &[OsString::from("-a"), "/usr/sbin".into(), scratch.join("sbin").into()], COMMAND);
    let _ = sbin.expect_success("copy /usr/sbin");
    std::os::unix::fs::symlink(dgfs(), scratch.join("sbin/mount.dgfs")).unwrap();
    let lines = [
        format!("{} {} dgfs _netdev,noatime,nosuid,noauto,x-systemd.automount 0 0", data.display(), a.display()),
        format!("{} {} dgfs _netdev,nofail,soft 0 0", client.display(), b.display()),
    ];
    std::fs::write(&fstab, lines.join("\n") + "\n").unwrap();
    let script = r#"
        set -eu
        mount --bind "$1/sbin" /usr/sbin
        trap 'umount -l "$1/a" "$1/b" 2>/dev/null || true' EXIT
        table() { grep " $1/$2 " /proc/self/mountinfo; }
        for round in 1 2; do
            mount -T "$1/fstab" "$1/a"
            mount -T "$1/fstab" -a
            table "$1" a | grep -q 'nosuid.*noatime.* - fuse.dgfs ' || { table "$1" a; exit 3; }
            table "$1" b | grep -q ' - fuse.dgfs ' || { table "$1" b; exit 3; }
            for at in a b; do
                [ $round = 1 ] || [ "$(cat "$1/$at/1")" = "$at of 1" ]
                echo "$at of $round" >"$1/$at/$round"
            done
            umount "$1/a"
            umount "$1/b"
        done
        mount -T "$1/fstab" -o ro "$1/a"
        [ "$(cat "$1/a/2")" = "a of 2" ]
        if touch "$1/a/3" 2>"$1/refused"; then exit 4; fi
        grep -q 'Read-only file system' "$1/refused"
        umount "$1/a"
    "#;
    // What is unmounted outside goes here, too: a disk of another test is not held.
    let slave = "--propagation=slave";
    let words = ["--mount", slave, "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"];
    let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
    words.push(scratch.path().into());
    let _ = run("unshare", &words, 2 * COMMAND).expect_success("mount -t dgfs by fstab");
}

#[test]
fn info_tells_where_the_bytes_are() {
    let mount = Mount::embedded();
    std::fs::write(mount.join("small"), "x").unwrap();
    std::fs::write(mount.join("large"), vec![1; 5 << 20]).unwrap();
    let info = |name: &str| -> serde_json::Value {
        let text = call(&[&"info", &"--json", &mount.join(name)]).expect_success("dgfs info");
        serde_json::from_str(&text).unwrap()
    };
    let (small, large) = (info("small"), info("large"));
    assert_eq!((&small["inline"], &small["size"]), (&true.into(), &1.into()));
    assert_eq!(large["chunks"].as_array().unwrap().len(), 2);
    assert_eq!(large["size"], 5 << 20);
}

#[test]
fn info_and_policy_usage_tell_of_every_chunk_of_a_large_file() {
    const CHUNK: u64 = 64 << 10;
    let mount = Mount::embedded_with_chunks(CHUNK as u32);
    let path = mount.join("large");
    let expected: Vec<u64> = (0..1100).chain([5000, 5030, 1_000_000]).collect();
    {
        let file = std::fs::File::create_new(&path).unwrap();
        for index in &expected {
            file.write_all_at(&vec![1; CHUNK as usize], index * CHUNK).unwrap();
        }
    }
    let text = call(&[&"info", &"--json", &path]).expect_success("dgfs info");
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    let shown: Vec<u64> =
        info["chunks"].as_array().unwrap().iter().map(|chunk| chunk["index"].as_u64().unwrap()).collect();
    assert!(info.get("next").is_none(), "pages are put together");
    assert_eq!(shown, expected);
    let usage = call(&[&"policy", &"usage", &mount.path()]).expect_success("dgfs policy usage");
    assert!(usage.contains(&format!("{} chunks, {} bytes", expected.len(), expected.len() as u64 * CHUNK)), "{usage}");
    let words = ["-c", "\"$0\" info \"$1\" | head -n 1", &dgfs().display().to_string(), &path.display().to_string()];
    let cut = run("sh", &words, COMMAND);
    assert!(cut.output.starts_with("inode") && cut.errors.is_empty(), "{cut:?}");
}

#[test]
fn up_names_its_daemons_and_down_ends_them() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, ..ClusterPlan::default() });
    let daemons = cluster.daemons();
    let roles: Vec<_> = daemons.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["index-1", "meta-1", "meta-2", "stored-1", "stored-2"]);
    cluster.start_the_dead();
    assert_eq!(cluster.daemons(), daemons, "a second `up` leaves alone what runs");
    cluster.kill9("stored-2");
    cluster.start_the_dead();
    let roles_now: Vec<_> = cluster.daemons().into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles_now, roles);
    let down = call(&[&"down", &cluster.dir()]);
    assert!(down.status.success(), "{}", down.errors);
    assert_eq!(cluster.daemons(), []);
}

#[test]
fn an_unsuitable_redis_is_refused_with_what_mends_it() {
    let format = |url: &str| call(&[&"format", &"--redis", &url]);
    assert_says(&format("redis://127.0.0.1:1/"), 1, &["127.0.0.1:1", "refused"]);
    let locked = RedisServer::start(&["--requirepass", "secret"]);
    let wrong = format!("redis://:wrong@127.0.0.1:{}/", locked.port());
    assert_says(&format(&wrong), 1, &["password"]);
    assert!(!format(&wrong).errors.contains(":wrong@"), "no password in a message");
    let evicting = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    assert_says(&format(&evicting.url()), 1, &["CONFIG SET maxmemory-policy noeviction"]);
    let forgetful = RedisServer::start(&["--appendonly", "no"]);
    assert_says(&format(&forgetful.url()), 1, &["appendonly"]);
}

#[test]
fn a_certificate_of_another_cluster_is_refused() {
    let cluster = Cluster::start(ClusterPlan::default());
    let scratch = Scratch::new("command");
    let other = scratch.join("other");
    let _ = call(&[&"cluster", &"init", &other]).expect_success("dgfs cluster init");
    let text = std::fs::read_to_string(cluster.dir().join("client.toml")).unwrap();
    let foreign = scratch.join("client.toml");
    let identity = format!("identity = \"{}\"", other.join("certs/client").display());
    let lines = text.lines().map(|line| if line.starts_with("identity") { identity.as_str() } else { line });
    std::fs::write(&foreign, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let refused = call(&[&"mount", &"--config", &foreign, &scratch.dir("mnt")]);
    assert_says(&refused, NOT_MOUNTED, &["certificate"]);
}

#[test]
fn a_lost_chunk_index_is_rebuilt_when_the_volume_opens() {
    let scratch = Arc::new(Scratch::new("command"));
    let data = scratch.join("data");
    let mut mount = Mount::of_data(&scratch, &data, "mnt");
    let content: Vec<u8> = (0..9_u32 << 20).map(|at| (at / 4096) as u8).collect();
    std::fs::write(mount.join("f"), &content).unwrap();
    mount.umount();
    let index = data.join("chunks/index");
    for entry in walk(&index) {
        let len = entry.metadata().unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(&entry).unwrap();
        file.write_all_at(&vec![0xA5; len as usize], 0).unwrap();
    }
    mount.start();
    assert!(std::fs::read(mount.join("f")).unwrap() == content);
    mount.umount();
    fsck(&data).unwrap();
}

#[test]
fn a_damaged_segment_spoils_its_own_file_and_is_named() {
    let scratch = Arc::new(Scratch::new("command"));
    let data = scratch.join("data");
    let mut mount = Mount::of_data(&scratch, &data, "mnt");
    for name in ["first", "second"] {
        std::fs::write(mount.join(name), vec![7; 1 << 20]).unwrap();
    }
    mount.umount();
    let segments = walk(&data.join("chunks")).into_iter().filter(|path| !path.starts_with(data.join("chunks/index")));
    let largest = segments.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&largest).unwrap();
    file.write_all_at(&[0; 64], 300_000).unwrap();
    let found = fsck(&data).unwrap_err();
    assert!(found.contains("exit status: 4") && found.contains("inode 2 "), "{found}");
    mount.start();
    let error = std::fs::read(mount.join("first")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert!(std::fs::read(mount.join("second")).unwrap() == vec![7; 1 << 20]);
}

/// Files below a directory.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
