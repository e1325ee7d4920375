//! What taggers say of files on real mounts, and what becomes of it.
//!
//! Never looks inside: paths below `.tags`, attributes and commands tell. Always: a test waits for the taggers by
//! `dgfs index wait --taggers`.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{kill9, run, wait_until};
use dgfs_tests::program::dgfs;

const PATIENCE: Duration = Duration::from_secs(60);
const NOTES: &str = "# Distributed file systems\n\nErasure coding and replication keep the data of a file system safe. \
                     Metadata servers keep the namespace of the file system.\n";
const CHINESE: &str = "分布式文件系统把文件存储在许多机器上。纠删码和复制保证数据安全。元数据服务器管理命名空间。";

fn examined(mount: &Mount) {
    let path = mount.path().to_str().unwrap();
    let _ = run(dgfs(), &["index", "wait", "--taggers", "--timeout", "60", path], PATIENCE * 2).expect_success("wait");
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('@'));
    names.sort();
    names
}

fn attribute(path: &Path, name: &str) -> String {
    run("getfattr", &["--only-values", "-n", name, path.to_str().unwrap()], PATIENCE).expect_success(name)
}

/// A keyword that taggers found in a file.
fn keyword(file: &Path) -> String {
    let said: serde_json::Value = serde_json::from_str(&attribute(file, "user.dgfs.tags.auto")).unwrap();
    let tags = said.as_array().unwrap().iter().filter_map(|mark| mark["tag"].as_str());
    tags.map(str::to_owned).find(|tag| !tag.contains('=')).unwrap_or_else(|| panic!("no keyword in {said}"))
}

#[test]
fn files_are_found_by_what_they_are_and_say() {
    let mount = Mount::embedded();
    fs::write(mount.join("notes.md"), NOTES).unwrap();
    fs::write(mount.join("zh.txt"), CHINESE).unwrap();
    fs::write(mount.join("main.rs"), "use std::io;\nfn main() { println!(\"hello\"); }\n").unwrap();
    fs::write(mount.join("noise"), [7, 0, 255, 3].repeat(40_000)).unwrap();
    fs::copy(mount.join("notes.md"), mount.join("copy.md")).unwrap();
    examined(&mount);
    let tags = mount.join(".tags");
    assert_eq!(names(&tags.join("type=/code")), ["main.rs"]);
    assert_eq!(names(&tags.join("type=data")), ["noise"], "a value by one component");
    assert_eq!(names(&tags.join("text:erasure coding")), ["copy.md", "notes.md"]);
    assert_eq!(names(&tags.join("text:文件系统")), ["zh.txt"]);
    assert_eq!(names(&tags.join("text:纠删码/lang=zh")), ["zh.txt"]);
    assert_eq!(names(&tags.join("@of/notes.md/same-content")), ["copy.md"]);
    assert_eq!(attribute(&mount.join("notes.md"), "user.dgfs.index"), "done");
    assert!(attribute(&mount.join("notes.md"), "user.dgfs.tags.auto").contains("\"tagger\":\"text\""));
}

/// The first of them decided for all.
#[test]
fn equal_files_of_different_names_have_kinds_of_their_own() {
    let mount = Mount::embedded();
    for name in ["a.txt", "a.md", "a.py"] {
        fs::write(mount.join(name), NOTES).unwrap();
        examined(&mount);
    }
    let tags = mount.join(".tags");
    let of_kind = |mime: &str| names(&tags.join(format!("mime={}", mime.replace('/', "%2F"))));
    assert_eq!(of_kind("text/markdown"), ["a.md"]);
    assert_eq!(of_kind("text/x-python"), ["a.py"]);
    assert_eq!(of_kind("text/plain"), ["a.txt"]);
    assert_eq!(names(&tags.join("@of/a.md/same-content")), ["a.py", "a.txt"]);
    assert_eq!(names(&tags.join("text:erasure coding")), ["a.md", "a.py", "a.txt"]);
    fs::rename(mount.join("a.txt"), mount.join("b.md")).unwrap();
    examined(&mount);
    assert_eq!(of_kind("text/markdown"), ["a.md", "b.md"], "a name that says something else is a reason to look");
    assert_eq!(names(&tags.join("@of/a.md/same-content")), ["a.py", "b.md"]);
}

const LARGE_BYTES: u64 = 70 << 20;

/// A file of 70 MiB with holes, which ends in `last`.
fn large(path: &Path, last: &[u8]) {
    let file = fs::File::create(path).unwrap();
    file.write_all_at(b"begins alike", 0).unwrap();
    file.write_all_at(&NOTES.repeat(1000).into_bytes(), 40 << 20).unwrap();
    file.write_all_at(last, LARGE_BYTES - last.len() as u64).unwrap();
}

/// Taggers read 64 MiB of a file: what is longer was equal to nothing.
#[test]
fn large_files_are_compared_as_a_whole() {
    let mount = Mount::embedded();
    large(&mount.join("a.bin"), b"end");
    examined(&mount);
    let same = |name: &str| names(&mount.join(format!(".tags/@of/{name}/same-content")));
    assert_eq!(same("a.bin"), Vec::<String>::new(), "alone of its size, it is not read to its end");
    large(&mount.join("b.bin"), b"end");
    large(&mount.join("c.bin"), b"enD");
    examined(&mount);
    assert_eq!((same("a.bin"), same("b.bin")), (vec!["b.bin".to_owned()], vec!["a.bin".to_owned()]));
    assert_eq!(same("c.bin"), Vec::<String>::new(), "its last byte differs");
    fs::File::options().write(true).open(mount.join("c.bin")).unwrap().write_all_at(b"d", LARGE_BYTES - 1).unwrap();
    fs::File::options().write(true).open(mount.join("a.bin")).unwrap().write_all_at(b"B", 0).unwrap();
    examined(&mount);
    assert_eq!((same("b.bin"), same("a.bin")), (vec!["c.bin".to_owned()], Vec::new()), "a later change begins anew");
    assert_eq!(attribute(&mount.join("b.bin"), "user.dgfs.index"), "done");
}

#[test]
fn a_tag_that_was_taken_away_is_not_brought_back() {
    let mount = Mount::embedded();
    let file = mount.join("notes.md");
    fs::write(&file, NOTES).unwrap();
    examined(&mount);
    let word = keyword(&file);
    let tag = mount.join(".tags").join(&word);
    assert_eq!(names(&tag), ["notes.md"]);
    fs::remove_file(tag.join("notes.md")).unwrap();
    fs::write(&file, format!("{NOTES}\n{word}, and once more: {word}.\n")).unwrap();
    examined(&mount);
    assert!(!tag.exists() || names(&tag).is_empty(), "{word}");
    assert!(!attribute(&file, "user.dgfs.tags.auto").contains(&format!("\"{word}\"")), "{word}");
    assert_eq!(names(&mount.join(format!(".tags/text:{word}"))), ["notes.md"], "its text is found all the same");
}

#[test]
fn a_file_whose_owner_does_not_want_it_is_not_read() {
    let mount = Mount::embedded();
    let file = mount.join("secret.md");
    fs::File::create(&file).unwrap();
    let _ = run("setfattr", &["-n", "user.xdg.robots.index", "-v", "false", file.to_str().unwrap()], PATIENCE)
        .expect_success("setfattr");
    examined(&mount);
    fs::write(&file, NOTES).unwrap();
    examined(&mount);
    assert!(!names(&mount.join(".tags")).contains(&"replication".to_owned()));
    assert_eq!(names(&mount.join(".tags/name:*.md")), ["secret.md"]);
}

/// The ancestors lost their taggers for good with the first bad file.
#[test]
fn a_worker_that_dies_costs_at_most_the_file_it_had() {
    let mount = Mount::embedded();
    fs::write(mount.join("first.md"), NOTES).unwrap();
    examined(&mount);
    for at in 0..40 {
        fs::write(mount.join(format!("f{at}.md")), format!("{NOTES}\nfile number {at}\n")).unwrap();
    }
    wait_until("a worker", PATIENCE, || !workers(&mount).is_empty());
    workers(&mount).into_iter().for_each(kill9);
    examined(&mount);
    let done = (0..40).filter(|at| attribute(&mount.join(format!("f{at}.md")), "user.dgfs.index") == "done").count();
    assert!(done >= 39, "{done} of 40");
    assert_eq!(names(&mount.join(".tags/name:f*.md")).len(), 41, "nothing but what taggers say is missing");
}

#[test]
fn a_tagger_that_a_user_wrote_is_asked_and_one_that_is_broken_fails_alone() {
    let mut mount = Mount::embedded();
    let registrations = mount.path().parent().unwrap().join("data/taggers");
    mount.umount();
    fs::create_dir_all(&registrations).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    for name in ["word-count-tagger.py", "word-count-tagger.toml"] {
        fs::copy(examples.join(name), registrations.join(name)).unwrap();
    }
    let broken = "name = \"broken\"\nversion = 1\ncommand = [\"false\"]\nclasses = [\"text\"]\n";
    fs::write(registrations.join("broken.toml"), broken).unwrap();
    mount.start();
    fs::write(mount.join("notes.md"), NOTES).unwrap();
    examined(&mount);
    assert!(attribute(&mount.join("notes.md"), "user.dgfs.tags.auto").contains("\"word-count\""));
    assert_eq!(attribute(&mount.join("notes.md"), "user.dgfs.index"), "failed:broken");
    let told = |words: &[&str]| run(dgfs(), words, PATIENCE).expect_success("dgfs");
    let notes = mount.join("notes.md");
    let why = told(&["tagger", "test", notes.to_str().unwrap()]);
    assert!(why.contains("failed: broken: the tagger process ended before it answered"), "{why}");
    let list = told(&["tagger", "ls", "--in", mount.path().to_str().unwrap()]);
    assert!(list.contains("failed 1,") && list.contains("waiting-for-another-try 1"), "{list}");
    let unknown = run(dgfs(), &["tagger", "run", "--tagger", "nobody", notes.to_str().unwrap()], PATIENCE);
    assert!(unknown.errors.contains("no tagger is called \"nobody\""), "{}", unknown.errors);
    let _: String = keyword(&mount.join("notes.md"));
}

/// Processes that the mount's process started.
fn workers(mount: &Mount) -> Vec<u32> {
    let children: PathBuf = format!("/proc/{}/task", mount.pid()).into();
    let lists =
        fs::read_dir(children).unwrap().filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

#[test]
fn two_mounts_of_a_cluster_see_each_others_tags_at_once() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 1, ..ClusterPlan::default() });
    let (a, b) = (cluster.mount(), cluster.mount());
    fs::write(a.join("notes.md"), NOTES.repeat(200)).unwrap();
    for round in 0..20 {
        fs::write(a.join(format!("f{round}")), "x").unwrap();
        let path = a.join(format!("f{round}"));
        let _ = run("setfattr", &["-n", "user.xdg.tags", "-v", "seen", path.to_str().unwrap()], PATIENCE)
            .expect_success("setfattr");
        assert_eq!(names(&b.join(".tags/seen")).len(), round + 1, "the other mount sees it at once");
    }
    fs::hard_link(b.join("notes.md"), b.join(".tags/seen/notes.md")).unwrap();
    assert_eq!(attribute(&a.join("notes.md"), "user.xdg.tags"), "seen");
    fs::rename(a.join(".tags/seen"), a.join(".tags/found")).unwrap();
    assert_eq!(attribute(&b.join("f3"), "user.xdg.tags"), "found");
    examined(&a);
    assert_eq!(names(&b.join(".tags/type=text/replication")), ["notes.md"]);
    cluster.kill9("index-1");
    assert_eq!(fs::read_to_string(a.join("f3")).unwrap(), "x", "files work without an index");
    cluster.start_the_dead();
    fs::write(a.join("after"), "y").unwrap();
    assert_eq!(names(&b.join(".tags/name:after")), ["after"], "it goes on where it was");
}
