//! How the systems before this one failed, each as a test: tags that broke the query, taggers that were lost for good, files that
//! were mistaken for their namesakes.
//!
//! Never a fault in the middle of a tagger by hand: the tagger of [`MISBEHAVES`] does what the name of its file says.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, children, kill9, run, signal, wait_until};
use dgfs_tests::program::dgfs;

const PATIENCE: Duration = Duration::from_secs(120);
/// Tags that broke the ancestors, and each as a component of a path.
const AWKWARD: &[(&str, &str)] = &[
    ("summer trip", "summer trip"),
    ("it's", "it's"),
    ("say \"cheese\"", "say \"cheese\""),
    ("back\\slash", "back\\slash"),
    ("in/out", "in%2Fout"),
    ("50% off", "50%25 off"),
    ("x'}) MATCH (n) DETACH DELETE n //", "x'}) MATCH (n) DETACH DELETE n %2F%2F"),
    ("'); DROP TABLE tag; --", "'); DROP TABLE tag; --"),
    ("`n` RETURN 1", "`n` RETURN 1"),
    ("$tag", "$tag"),
    ("{a}", "{a}"),
    ("*", "*"),
    ("海滩", "海滩"),
];
/// A tagger that misbehaves on one file, as its name says.
const MISBEHAVES: &str = r#"
import json, os, sys, time
for line in sys.stdin:
    job = json.loads(line)
    name = job["name"]
    if name.startswith("crash"):
        os.kill(os.getpid(), 11)
    if name.startswith("hang"):
        time.sleep(3600)
    if name.startswith("eat"):
        eaten = []
        while True:
            eaten.append(bytearray(1 << 20))
    if name.startswith("rubbish"):
        print("\x00 no JSON {", flush=True)
        continue
    print(json.dumps({"id": job["id"], "tags": ["looked-at"]}), flush=True)
"#;
const REGISTRATION: &str = "name = \"moody\"\nversion = 1\ncommand = [\"python3\", \"moody.py\"]\nclasses = [\"text\"]\n\
                            timeout_ms = 10000\nmemory_bytes = 134217728\n";

#[track_caller]
fn call(words: &[&str]) -> String {
    run(dgfs(), words, PATIENCE).expect_success(&format!("dgfs {words:?}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[track_caller]
fn examined(mount: &Mount) {
    let _ = call(&["index", "wait", "--taggers", "--timeout", "100", text(mount.path())]);
}

fn attribute(path: &Path, name: &str) -> Outcome {
    run("getfattr", &["--only-values", "-n", name, text(path)], PATIENCE)
}

fn tags(path: &Path) -> String {
    attribute(path, "user.xdg.tags").output
}

fn links(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('@'));
    names.sort();
    names
}

/// A file of that name that is not tagged.
fn file(mount: &Mount, name: &str) -> PathBuf {
    let path = mount.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("11 {name} 22\n")).unwrap();
    path
}

#[test]
fn a_tag_with_spaces_quotes_slashes_or_cypher_is_one_tag_by_every_way() {
    let mount = Mount::embedded();
    let (one, two, three) = (file(&mount, "one"), file(&mount, "two"), file(&mount, "three"));
    let bystander = file(&mount, "bystander");
    let _ = call(&["tag", "add", "kept", text(&bystander)]);
    for (tag, component) in AWKWARD {
        let place = mount.join(".tags").join(component);
        let set = run("setfattr", &["-n", "user.xdg.tags", "-v", tag, text(&one)], PATIENCE);
        let _ = set.expect_success(tag);
        let _ = call(&["tag", "add", "--", tag, text(&two)]);
        fs::hard_link(&three, place.join("three")).unwrap_or_else(|error| panic!("{tag}: {error}"));
        for path in [&one, &two, &three] {
            assert_eq!(tags(path), *tag);
        }
        assert_eq!(links(&place), ["one", "three", "two"], "{tag}");
        assert!(links(&mount.join(".tags")).contains(&(*component).to_owned()), "{tag} is listed as {component}");
        let quoted = format!("\"{}\"", tag.replace('\\', "\\\\").replace('"', "\\\""));
        assert_eq!(call(&["find", "--count", "--in", text(mount.path()), "--", &quoted]), "3\n", "{quoted}");
        fs::remove_file(place.join("three")).unwrap();
        let _ = call(&["tag", "rm", "--", tag, text(&two)]);
        let _ = run("setfattr", &["-x", "user.xdg.tags", text(&one)], PATIENCE).expect_success(tag);
        assert_eq!(links(&place), [""; 0], "{tag}");
        fs::remove_dir(&place).unwrap();
        assert!(!place.exists(), "{tag}");
    }
    assert_eq!((tags(&bystander).as_str(), links(&mount.join(".tags/kept"))), ("kept", vec!["bystander".to_owned()]));
    let _ = call(&["index", "check", text(mount.path())]);
}

#[test]
fn deleting_a_file_leaves_the_tags_of_its_namesake_elsewhere() {
    let mount = Mount::embedded();
    let (here, there) = (file(&mount, "here/report.txt"), file(&mount, "there/report.txt"));
    let _ = call(&["tag", "add", "office,draft", text(&here), text(&there)]);
    fs::remove_file(&here).unwrap();
    assert_eq!(links(&mount.join(".tags/office")), ["report.txt"]);
    let target = fs::canonicalize(mount.join(".tags/office/report.txt")).unwrap();
    assert_eq!(target, there);
    // Another one comes to the place of the first: it is not tagged.
    let again = file(&mount, "here/report.txt");
    assert_eq!((tags(&again).as_str(), tags(&there).as_str()), ("", "office,draft"));
    fs::rename(&again, &there).unwrap();
    assert_eq!((tags(&there).as_str(), links(&mount.join(".tags/office")).len()), ("", 0));
}

#[test]
fn two_users_files_of_one_name_are_two_files() {
    let mount = Mount::embedded();
    fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let users = [65534, 65533];
    for uid in users {
        let path = file(&mount, &format!("home{uid}/notes.txt"));
        chown(&path, Some(uid), Some(uid)).unwrap();
        let home = path.parent().unwrap();
        chown(home, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let as_user = |uid: u32, line: &str| {
        let line = format!("cd '{}'; {line}", mount.path().display());
        let ids = [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()];
        let output = Command::new("setpriv").args(ids).args(["sh", "-euc", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    fs::create_dir(mount.join(".tags/mine")).unwrap();
    for uid in users {
        assert_eq!(as_user(uid, &format!("ln home{uid}/notes.txt .tags/mine/")), "");
    }
    for (uid, other) in [(users[0], users[1]), (users[1], users[0])] {
        assert_eq!(as_user(uid, "ls .tags/mine"), "@counts\n@refine\nnotes.txt\n");
        assert_eq!(as_user(uid, "cat .tags/mine/notes.txt"), format!("11 home{uid}/notes.txt 22\n"));
        assert!(as_user(uid, "grep mine .tags/@counts").starts_with("1\t"));
        let refused = as_user(uid, &format!("setfattr -n user.xdg.tags -v x home{other}/notes.txt || true"));
        assert!(refused.contains("Permission denied"), "{refused}");
    }
    assert_eq!(links(&mount.join(".tags/mine")).len(), 2, "root sees both, by two names");
    assert_eq!(as_user(users[0], "rm .tags/mine/notes.txt"), "");
    assert_eq!(tags(&mount.join(format!("home{}/notes.txt", users[1]))), "mine");
    assert_eq!(tags(&mount.join(format!("home{}/notes.txt", users[0]))), "");
}

/// A mount whose index has the tagger that misbehaves.
fn moody() -> Mount {
    let mut mount = Mount::embedded();
    let registrations = mount.path().parent().unwrap().join("data/taggers");
    mount.umount();
    fs::create_dir_all(&registrations).unwrap();
    fs::write(registrations.join("moody.py"), MISBEHAVES).unwrap();
    fs::write(registrations.join("moody.toml"), REGISTRATION).unwrap();
    mount.start();
    mount
}

fn state(path: &Path) -> String {
    attribute(path, "user.dgfs.index").output
}

/// One file is failed, for this tagger, with these words; the others are looked at, also those that come later.
#[track_caller]
fn only_that_one_fails(name: &str) {
    let mount = moody();
    let before = file(&mount, "before.txt");
    examined(&mount);
    let (bad, beside) = (file(&mount, &format!("{name}.txt")), file(&mount, "beside.txt"));
    examined(&mount);
    let after = file(&mount, "after.txt");
    examined(&mount);
    assert_eq!(state(&bad), "failed:moody");
    let told = call(&["tagger", "test", text(&bad)]);
    assert!(told.contains("examined: failed:moody"), "{told}");
    assert!(told.contains("type=text"), "what other taggers say stays: {told}");
    for path in [&before, &beside, &after] {
        assert_eq!(state(path), "done", "{}", path.display());
    }
    assert_eq!(links(&mount.join(".tags/looked-at")), ["after.txt", "before.txt", "beside.txt"]);
    let _ = call(&["tag", "add", "by-hand", text(&bad)]);
    assert_eq!(links(&mount.join(".tags/by-hand")), [format!("{name}.txt")], "people can tag it all the same");
    // The same bytes by another name are looked at once more when somebody says so.
    fs::rename(&bad, mount.join("better.txt")).unwrap();
    let _ = call(&["tagger", "run", text(&mount.join("better.txt"))]);
    examined(&mount);
    assert_eq!(state(&mount.join("better.txt")), "done");
    assert_eq!(links(&mount.join(".tags/looked-at")), ["after.txt", "before.txt", "beside.txt", "better.txt"]);
}

#[test]
fn a_tagger_that_crashes_on_a_file_fails_on_that_one() {
    only_that_one_fails("crash");
}

#[test]
fn a_tagger_that_hangs_on_a_file_fails_on_that_one() {
    only_that_one_fails("hang");
}

#[test]
fn a_tagger_that_eats_memory_on_a_file_fails_on_that_one() {
    only_that_one_fails("eat");
}

#[test]
fn a_tagger_that_prints_rubbish_on_a_file_fails_on_that_one() {
    only_that_one_fails("rubbish");
}

/// A built-in tagger's process that is stopped in the middle of a job is one that hangs: it is killed when its time is up.
#[test]
fn a_worker_that_hangs_costs_the_file_it_had_and_another_gets_work_again() {
    let mount = Mount::embedded();
    let _ = file(&mount, "before.txt");
    examined(&mount);
    wait_until("a worker waits for its next job", PATIENCE, || !children(mount.pid()).is_empty());
    let stopped = children(mount.pid());
    stopped.iter().for_each(|pid| signal(*pid, Signal::STOP));
    let stuck = file(&mount, "stuck.txt");
    examined(&mount);
    // Before it is tried again, half a minute later.
    assert!(state(&stuck).starts_with("failed:"), "{}", state(&stuck));
    let after = file(&mount, "after.txt");
    examined(&mount);
    assert_eq!(state(&after), "done");
    assert!(stopped.iter().all(|pid| !children(mount.pid()).contains(pid)), "what hung was replaced");
    let _ = call(&["tagger", "run", text(&stuck)]);
    examined(&mount);
    assert_eq!(state(&stuck), "done", "it is looked at once more when somebody says so");
}

/// The ancestors' taggers took no more work after they were started again.
#[test]
fn a_tagger_that_was_killed_gets_work_again() {
    let mut mount = moody();
    let _ = file(&mount, "first.txt");
    examined(&mount);
    for round in 0..3 {
        wait_until("taggers run", PATIENCE, || !children(mount.pid()).is_empty());
        children(mount.pid()).into_iter().for_each(kill9);
        // A program that died between two jobs may cost the next one; nothing is lost for good.
        let _ = file(&mount, &format!("next{round}.txt"));
        examined(&mount);
        let later = file(&mount, &format!("later{round}.txt"));
        examined(&mount);
        assert_eq!(state(&later), "done", "round {round}");
    }
    mount.kill9();
    mount.start();
    let last = file(&mount, "last.txt");
    examined(&mount);
    assert_eq!(state(&last), "done");
    let looked_at = links(&mount.join(".tags/looked-at"));
    for name in ["first.txt", "last.txt", "later0.txt", "later1.txt", "later2.txt"] {
        assert!(looked_at.contains(&name.to_owned()), "{name} is not in {looked_at:?}");
    }
}
