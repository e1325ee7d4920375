//! The virtual directories `.tags` through the kernel: with the programs that people use, and what each promises.
//!
//! Never asks the index directly: what a program sees is what is tested. A change that returned is in the next answer, so
//! nothing is waited for.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dgfs_tests::mount::Mount;
use dgfs_tests::process::run;
use dgfs_tests::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(60);

/// A mount with some files and tags.
fn mount() -> Mount {
    let mount = Mount::embedded();
    fs::create_dir_all(mount.join("photos/2020")).unwrap();
    fs::create_dir(mount.join("docs")).unwrap();
    for (file, tags) in [
        ("photos/2020/a.jpg", "beach,sun"),
        ("photos/b.jpg", "beach"),
        ("docs/a.jpg", "beach,office"),
        ("docs/report.txt", "office,place:cn:hefei"),
        ("docs/plain.txt", ""),
    ] {
        fs::write(mount.join(file), file).unwrap();
        if !tags.is_empty() {
            set_tags(&mount.join(file), tags);
        }
    }
    // What taggers say comes in between otherwise.
    mount.wait_for_taggers();
    mount
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn set_tags(path: &Path, tags: &str) {
    let words = ["-n", "user.xdg.tags", "-v", tags, path.to_str().unwrap()];
    let _ = run("setfattr", &words, PATIENCE).expect_success("setfattr");
}

/// Tags of a file, sorted.
fn tags(path: &Path) -> Vec<String> {
    let words = ["--only-values", "-n", "user.xdg.tags", path.to_str().unwrap()];
    let mut tags: Vec<String> = run("getfattr", &words, PATIENCE).output.split(',').map(str::to_owned).collect();
    tags.retain(|tag| !tag.is_empty());
    tags.sort();
    tags
}

fn ls(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a line in `sh`, in the mount's root.
fn sh(mount: &Mount, line: &str) -> String {
    run("sh", &["-euc", &format!("cd '{}'; {line}", mount.path().display())], PATIENCE).expect_success(line)
}

fn sh_fails(mount: &Mount, line: &str, sentence: &str) {
    let outcome = run("sh", &["-euc", &format!("cd '{}'; {line}", mount.path().display())], PATIENCE);
    assert!(!outcome.status.success(), "{line} succeeded");
    assert!(outcome.errors.contains(sentence), "{line}: {}", outcome.errors);
}

#[test]
fn files_are_found_by_tag_and_opened_through_the_link() {
    let mount = mount();
    assert!(!ls(mount.path()).contains(&".tags".to_owned()), "not listed");
    let top = ls(&mount.join(".tags"));
    for tag in ["beach", "sun", "office", "place"] {
        assert!(top.contains(&tag.to_owned()), "{top:?}");
    }
    assert_eq!(ls(&mount.join(".tags/beach/office")), ["@counts", "@refine", "a.jpg"]);
    assert_eq!(ls(&mount.join("photos/.tags/beach/-sun")), ["@counts", "@refine", "b.jpg"]);
    assert_eq!(fs::read_to_string(mount.join(".tags/beach/sun/a.jpg")).unwrap(), "photos/2020/a.jpg");
    assert_eq!(fs::read_link(mount.join(".tags/sun/a.jpg")).unwrap(), Path::new("../../photos/2020/a.jpg"));
    assert_eq!(ls(&mount.join(".tags/beach")).len(), 5, "two of one name");
    fs::rename(mount.join("photos"), mount.join("pictures")).unwrap();
    assert_eq!(fs::read_to_string(mount.join(".tags/sun/a.jpg")).unwrap(), "photos/2020/a.jpg", "moves are followed");
    fs::write(mount.join(".tags/sun/a.jpg"), "new").unwrap();
    assert_eq!(fs::read_to_string(mount.join("pictures/2020/a.jpg")).unwrap(), "new");
    assert_eq!(fs::metadata(mount.join(".tags/nobody")).unwrap_err().raw_os_error(), Some(2));
    assert_eq!(fs::metadata(mount.join(".tags/a,,b")).unwrap_err().raw_os_error(), Some(22));
}

#[test]
fn what_stat_shows_is_what_is_there() {
    let mount = mount();
    let link = fs::symlink_metadata(mount.join(".tags/sun/a.jpg")).unwrap();
    assert!(link.file_type().is_symlink() && !link.file_type().is_fifo());
    assert_eq!((link.mode() & 0o7777, link.len()), (0o777, "../../photos/2020/a.jpg".len() as u64));
    let directory = fs::metadata(mount.join(".tags/sun")).unwrap();
    assert!(directory.is_dir() && directory.mode() & 0o7777 == 0o777);
    assert_eq!(directory.ino(), fs::metadata(mount.join(".tags/sun")).unwrap().ino(), "numbers stay");
    let counts = mount.join(".tags/office/@counts");
    let text = fs::read_to_string(&counts).unwrap();
    assert_eq!(fs::metadata(&counts).unwrap().len(), text.len() as u64);
    assert!(text.contains("1\tbeach\n"), "{text}");
    assert!(!fs::read_to_string(mount.join(".tags/office/@explain")).unwrap().is_empty());
    let _ = run("stat", &["-f", mount.join(".tags/sun").to_str().unwrap()], PATIENCE).expect_success("statfs");
}

#[test]
fn find_ends_and_visits_each_pair_of_tag_and_file_once() {
    let mount = mount();
    let found = sh(&mount, "find .tags/beach .tags/office .tags/sun -maxdepth 1 -type l | sort");
    assert_eq!(found.lines().count(), 3 + 2 + 1, "{found}");
    let all = sh(&mount, "find .tags | wc -l");
    assert!(all.trim().parse::<u32>().unwrap() < 2000, "{all}");
    sh(&mount, "du -s .tags && ls -lR .tags >/dev/null");
}

#[test]
fn links_tag_and_removals_untag() {
    let mount = mount();
    let plain = mount.join("docs/plain.txt");
    sh(&mount, "mkdir .tags/new && ln docs/plain.txt .tags/new/");
    assert_eq!(tags(&plain), ["new"]);
    assert_eq!(fs::metadata(&plain).unwrap().nlink(), 1, "no second name was made");
    sh(&mount, "ln -s docs/plain.txt .tags/beach/office/plain.txt");
    assert_eq!(tags(&plain), ["beach", "new", "office"]);
    sh(&mount, "ln -sr docs .tags/new/paper && ls .tags/new/docs/plain.txt");
    assert_eq!(tags(&mount.join("docs")), ["new"], "directories can be tagged");
    sh(&mount, "mv .tags/new/plain.txt .tags/sun/");
    assert_eq!(tags(&plain), ["beach", "office", "sun"]);
    sh(&mount, "rm .tags/beach/sun/plain.txt");
    assert_eq!(tags(&plain), ["beach", "office"]);
    sh(&mount, "mv .tags/beach .tags/shore");
    assert_eq!(tags(&plain), ["office", "shore"]);
    sh_fails(&mount, "mv .tags/shore .tags/office", "File exists");
    sh_fails(&mount, "ln docs/report.txt .tags/shore,sun/", "Invalid argument");
    sh_fails(&mount, "rm .tags/-sun/plain.txt", "Operation not permitted");
    sh_fails(&mount, "cp docs/plain.txt .tags/shore/other", "Operation not permitted");
    sh_fails(&mount, "mv docs/report.txt .tags/shore/", "Operation not permitted");
    sh_fails(&mount, "mv .tags/shore/plain.txt .", "Operation not permitted");
    sh_fails(&mount, "mkdir .tags/shore", "File exists");
    sh_fails(&mount, "rmdir .tags/shore", "not empty");
    sh_fails(&mount, "mkdir docs/.tags", "File exists");
    sh_fails(&mount, "ln -s /etc/passwd .tags/shore/", "cross-device");
    assert_eq!(fs::read_to_string(&plain).unwrap(), "docs/plain.txt");
}

#[test]
fn rm_rf_of_a_tag_untags_everything_and_keeps_every_byte() {
    let mount = mount();
    for number in 0..700 {
        let file = mount.join(format!("docs/many{number}"));
        fs::write(&file, format!("{number}")).unwrap();
        sh(&mount, &format!("ln docs/many{number} .tags/office/"));
    }
    sh(&mount, "rm -rf .tags/office");
    assert!(!mount.join(".tags/office").exists());
    assert_eq!(tags(&mount.join("docs/a.jpg")), ["beach"]);
    for number in 0..700 {
        assert_eq!(fs::read_to_string(mount.join(format!("docs/many{number}"))).unwrap(), format!("{number}"));
    }
}

#[test]
fn archives_and_copies_end_and_leave_everything_as_it_was() {
    let mount = mount();
    let to = mount.join("copy");
    fs::create_dir(&to).unwrap();
    sh(&mount, "tar -cf /dev/null .tags/beach");
    sh(&mount, "rsync -a .tags/beach/ copy/ && test -L copy/b.jpg");
    sh(
        &mount,
        "rsync -aL --exclude='@*' .tags/office/ copy2/ && test -f copy2/report.txt && ! test -L copy2/report.txt",
    );
    sh(
        &mount,
        "git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm all && git status --short",
    );
    assert!(!sh(&mount, "git ls-files").contains(".tags"), "what is virtual is not committed");
    sh(&mount, "cp -r --no-dereference .tags/beach copy3");
    assert_eq!(tags(&mount.join("photos/b.jpg")), ["beach"]);
}

#[test]
fn queries_are_saved_as_links() {
    let mount = mount();
    symlink("beach/-sun", mount.join(".tags/@saved/shade")).unwrap();
    assert_eq!(fs::read_link(mount.join(".tags/@saved/shade")).unwrap(), Path::new("../beach/-sun"));
    assert!(ls(&mount.join(".tags/@saved/shade")).contains(&"b.jpg".to_owned()));
    fs::remove_file(mount.join(".tags/@saved/shade")).unwrap();
    assert_eq!(ls(&mount.join(".tags/@saved")), [""; 0]);
}

fn ask(mount: &Mount, request: &str) -> String {
    let mut file = OpenOptions::new().read(true).write(true).open(mount.join(".tags/@ask")).unwrap();
    file.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    file.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn requests_are_written_and_answers_read_by_one_handle() {
    let mount = mount();
    let found = ask(&mount, r#"{"find": "office and not beach"}"#);
    assert!(found.contains("\"path\":\"docs/report.txt\"") && found.contains("\"end\":true"), "{found}");
    let tagged = ask(&mount, r#"{"tag": {"paths": ["docs/plain.txt"], "add": ["asked"]}}"#);
    assert_eq!(tagged, "{\"tagged\":1}\n");
    assert_eq!(tags(&mount.join("docs/plain.txt")), ["asked"]);
    let refused = ask(&mount, r#"{"find": "(a"}"#);
    assert!(refused.contains("\"error\":") && refused.contains("\"at\":"), "{refused}");
    sh(&mount, r#"exec 3<>.tags/@ask; echo '{"count": "asked"}' >&3; cat <&3 | grep -q '"count":1'"#);
    sh(&mount, r#"echo '{"tags-command": {"make": "by-echo"}}' > .tags/@ask; test -d .tags/by-echo"#);
}

#[test]
fn virtual_attributes_are_read_but_neither_listed_nor_set() {
    let mount = mount();
    let file = mount.join("docs/report.txt");
    let path = file.to_str().unwrap();
    for name in ["user.dgfs.id", "user.dgfs.index", "user.dgfs.relations", "user.dgfs.tags.auto", "user.dgfs.seq"] {
        let _ = run("getfattr", &["-n", name, path], PATIENCE).expect_success(name);
    }
    let listed = run("getfattr", &["-m", "-", path], PATIENCE).expect_success("list attributes");
    assert!(listed.contains("user.xdg.tags") && !listed.contains("user.dgfs"), "{listed}");
    let set = run("setfattr", &["-n", "user.dgfs.id", "-v", "x", path], PATIENCE);
    assert!(set.errors.contains("Operation not permitted"), "{}", set.errors);
    // SAFETY: both are C strings that live as long as the call.
    let removed = unsafe { libc::removexattr(c_string(&file).as_ptr(), c"user.dgfs.seq".as_ptr()) };
    assert_eq!((removed, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
}

#[test]
fn a_user_sees_and_tags_only_what_is_his() {
    let mount = mount();
    for open in ["", "docs", "photos"] {
        fs::set_permissions(mount.join(open), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(mount.join("docs"), fs::Permissions::from_mode(0o700)).unwrap();
    let as_user = |line: &str| {
        let line = format!("cd '{}'; {line}", mount.path().display());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &line]);
        command.output().unwrap()
    };
    assert_eq!(String::from_utf8(as_user("ls .tags/office").stdout).unwrap(), "@counts\n@refine\n");
    let refused = as_user("ln photos/b.jpg .tags/sun/");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not permitted"), "hard links need the file's ownership");
    let refused = as_user("ln -s photos/b.jpg .tags/sun/");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"), "{refused:?}");
    assert_eq!(tags(&mount.join("photos/b.jpg")), ["beach"]);
}

#[test]
fn tags_outlive_the_mount_and_an_fsync_of_the_directory_returns() {
    let mut mount = mount();
    File::open(mount.join(".tags")).unwrap().sync_all().unwrap();
    mount.remount();
    assert_eq!(ls(&mount.join(".tags/sun")), ["@counts", "@refine", "a.jpg"]);
    assert_eq!(tags(&mount.join("docs/report.txt")), ["office", "place:cn:hefei"]);
}

#[test]
fn files_that_are_made_in_a_tag_lie_in_the_inbox_and_carry_it() {
    let scratch = Arc::new(Scratch::new("inbox"));
    let data = scratch.join("data");
    let words = ["--data-dir".into(), data.into(), "-o".into(), "inbox=/In/box".into()];
    let mount = Mount::with_words(&scratch, "mnt", words.to_vec());
    fs::create_dir_all(mount.join(".tags/sun")).unwrap();
    let source = scratch.join("a.txt");
    fs::write(&source, "content").unwrap();
    let copy = |to: &str| run("cp", &[source.as_path(), &mount.join(to)], PATIENCE);
    let outcome = copy(".tags/sun/");
    assert!(outcome.errors.contains("No such file or directory"), "the inbox is not there: {}", outcome.errors);

    fs::create_dir_all(mount.join("In/box")).unwrap();
    let _ = copy(".tags/sun/").expect_success("cp into a tag");
    assert_eq!(fs::read_to_string(mount.join("In/box/a.txt")).unwrap(), "content");
    assert_eq!(fs::read_to_string(mount.join(".tags/sun/a.txt")).unwrap(), "content");
    assert_eq!(tags(&mount.join("In/box/a.txt")), ["sun"]);
    // The name is taken in the inbox, by a file that this tag's directory does not show.
    fs::create_dir(mount.join(".tags/rain")).unwrap();
    fs::write(&source, "another").unwrap();
    let _ = copy(".tags/rain/").expect_success("cp of the same name");
    assert_eq!(fs::read_to_string(mount.join("In/box/a.txt")).unwrap(), "content", "nothing is replaced");
    assert_eq!(fs::read_to_string(mount.join(".tags/rain/a (2).txt")).unwrap(), "another");
    // What is there is written, not made anew.
    fs::write(mount.join(".tags/sun/a.txt"), "written").unwrap();
    assert_eq!(fs::read_to_string(mount.join("In/box/a.txt")).unwrap(), "written");
    assert_eq!(fs::read_dir(mount.join("In/box")).unwrap().count(), 2);

    for (place, sentence) in [(".tags/-sun/b.txt", "not permitted"), (".tags/sun,rain/b.txt", "not permitted")] {
        let outcome = copy(place);
        assert!(outcome.errors.contains(sentence), "{place}: {}", outcome.errors);
    }
    fs::set_permissions(mount.join("In/box"), fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["-u", "nobody", "--", "cp", source.to_str().unwrap(), mount.join(".tags/sun/c.txt").to_str().unwrap()]
        .map(str::to_owned);
    let outcome = run("runuser", &words, PATIENCE);
    assert!(outcome.errors.contains("Permission denied"), "{}", outcome.errors);
    assert_eq!(fs::read_dir(mount.join("In/box")).unwrap().count(), 2, "what is refused leaves nothing");
}
