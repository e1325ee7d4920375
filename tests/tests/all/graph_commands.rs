//! The commands of the graph on real mounts, as people and scripts use them.
//!
//! Never looks inside: what is asserted is output, exit codes and attributes. Always: a test that asks what was found waits for the
//! index first, by `dgfs index wait`.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, run, spawn, wait, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::scratch::Scratch;
use serde_json::Value;

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(60);
/// Exit codes.
const NOTHING: i32 = 1;
const MISUSED: i32 = 2;
const REFUSED: i32 = 3;

fn call(words: &[&dyn AsRef<OsStr>]) -> Outcome {
    let words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
    run(dgfs(), &words, COMMAND)
}

/// What a command prints that ends with 0.
#[track_caller]
fn said(words: &[&dyn AsRef<OsStr>]) -> String {
    let what = words.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    call(words).expect_success(&format!("dgfs {what}"))
}

#[track_caller]
fn assert_ends(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.status.code(), Some(code), "{}{}", outcome.output, outcome.errors);
    for word in words {
        assert!(outcome.errors.contains(word), "{word:?} is not in: {}", outcome.errors);
    }
}

/// A mount with three pictures, two of them tagged, and what was said of them in the index.
fn tagged() -> Mount {
    let mount = Mount::embedded();
    std::fs::create_dir(mount.join("photos")).unwrap();
    for name in ["photos/a.jpg", "photos/b.jpg", "c.txt"] {
        std::fs::write(mount.join(name), name).unwrap();
    }
    let _ = said(&[&"tag", &"add", &"beach,year=2020", &mount.join("photos/a.jpg"), &mount.join("photos/b.jpg")]);
    let _ = said(&[&"tag", &"add", &"sun", &mount.join("photos/b.jpg")]);
    indexed(&mount);
    mount
}

#[track_caller]
fn indexed(mount: &Mount) {
    let _ = said(&[&"index", &"wait", &mount.path(), &"--timeout", &"30"]);
}

fn below(mount: &Mount, names: &[&str]) -> String {
    names.iter().map(|name| format!("{}\n", mount.join(name).display())).collect()
}

#[test]
fn what_is_tagged_is_found_counted_and_explained() {
    let mount = tagged();
    let root = mount.path();
    assert_eq!(said(&[&"find", &"beach", &"--in", &root]), below(&mount, &["photos/a.jpg", "photos/b.jpg"]));
    assert_eq!(said(&[&"find", &"beach", &"not:sun", &"--in", &root]), below(&mount, &["photos/a.jpg"]));
    assert_eq!(said(&[&"find", &"year=2019..2020", &"--in", &root, &"--count"]), "2\n");
    assert_eq!(
        said(&[&"find", &"beach", &"--in", &mount.join("photos"), &"-0", &"--limit", &"1"]).matches('\0').count(),
        1
    );
    let line: Value = serde_json::from_str(&said(&[&"find", &"sun", &"--in", &root, &"--json"])).unwrap();
    assert_eq!((&line["path"], &line["kind"]), (&"photos/b.jpg".into(), &"file".into()));
    assert!(said(&[&"facets", &"sun", &"--in", &root]).contains("1\tbeach\n"));
    assert!(said(&[&"explain", &"sun", &"--in", &root]).contains("answered from the change log up to"));
    assert_eq!(
        said(&[&"untagged", &"--in", &root, &"-0"]).split('\0').filter(|path| path.ends_with("c.txt")).count(),
        1
    );
    assert_eq!(call(&[&"find", &"beach", &"sun", &"ext=txt", &"--in", &root]).status.code(), Some(NOTHING));
}

#[test]
fn tags_are_the_attribute_that_other_programs_use() {
    let mount = tagged();
    let file = mount.join("photos/b.jpg");
    let attribute = || {
        let mut bytes = [0; 256];
        let len = rustix::fs::getxattr(&file, "user.xdg.tags", &mut bytes).unwrap_or(0);
        let mut tags: Vec<String> = String::from_utf8_lossy(&bytes[..len]).split(',').map(str::to_owned).collect();
        tags.sort_unstable();
        tags.join(",")
    };
    assert_eq!(attribute(), "beach,sun,year=2020");
    let _ = said(&[&"tag", &"rm", &"sun,year=2020", &file]);
    assert_eq!((attribute().as_str(), said(&[&"tag", &"ls", &file]).as_str()), ("beach", "beach\n"));
    let _ = said(&[&"tag", &"set", &"x,y", &file]);
    assert_eq!(attribute(), "x,y");
    let _ = said(&[&"tag", &"set", &"", &file]);
    assert_eq!((attribute().as_str(), call(&[&"tag", &"ls", &file]).status.code()), ("", Some(NOTHING)));
    let entry = mount.join(".tags/beach/a.jpg");
    let _ = said(&[&"tag", &"add", &"through", &entry]);
    assert!(said(&[&"tag", &"ls", &mount.join("photos/a.jpg")]).contains("through\n"), "an entry means its file");
}

#[test]
fn tags_are_renamed_merged_aliased_implied_and_deleted() {
    let mount = tagged();
    let root = mount.path();
    let _ = said(&[&"tag", &"rename", &"beach", &"shore", &"--in", &root]);
    let _ = said(&[&"tag", &"alias", &"strand", &"shore", &"--in", &root]);
    let _ = said(&[&"tag", &"make", &"outside", &"--in", &root]);
    let _ = said(&[&"tag", &"imply", &"shore", &"outside", &"--in", &root]);
    indexed(&mount);
    for tag in ["shore", "strand", "outside"] {
        assert_eq!(said(&[&"find", &tag, &"--in", &root, &"--count"]), "2\n", "{tag}");
    }
    assert!(said(&[&"tag", &"ls", &"--in", &root]).contains("shore\t(alias strand; implies outside)"));
    let _ = said(&[&"tag", &"merge", &"sun", &"shore", &"--in", &root]);
    assert_ends(&call(&[&"tag", &"delete", &"shore", &"--in", &root]), REFUSED, &["files carry this tag"]);
    let _ = said(&[&"tag", &"delete", &"--force", &"shore", &"--in", &root]);
    indexed(&mount);
    assert!(std::fs::exists(mount.join("photos/b.jpg")).unwrap(), "no file is deleted");
}

#[test]
fn wrong_words_and_places_end_with_their_codes() {
    let scratch = Scratch::new("graph");
    let place = scratch.path();
    assert_ends(&call(&[&"find", &"beach", &"--in", &place]), REFUSED, &["is not on a DGFS mount"]);
    assert_ends(&call(&[&"find", &"a (b", &"--in", &place]), MISUSED, &["not an expression: expected", "a (b\n    ^"]);
    assert_ends(&call(&[&"tag", &"add", &"a::b", &place]), MISUSED, &["\"a::b\" is not a tag"]);
    assert_ends(
        &call(&[&"tag", &"add", &"a", &place]),
        REFUSED,
        &["not on a DGFS mount", "1 of 1 files were not changed"],
    );
    assert_ends(&call(&[&"link", &place, &"likes", &place]), MISUSED, &["\"likes\" is no relation"]);
    assert_ends(&call(&[&"find"]), MISUSED, &["EXPR"]);
    assert_ends(&call(&[&"index", &"status", &scratch.join("gone")]), REFUSED, &["No such file"]);
}

#[test]
fn one_file_that_is_not_there_does_not_keep_the_others_from_being_tagged() {
    let mount = tagged();
    let (here, gone) = (mount.join("c.txt"), mount.join("gone"));
    let outcome = call(&[&"tag", &"add", &"late", &gone, &here]);
    assert_ends(&outcome, REFUSED, &["gone: No such file", "1 of 2 files were not changed"]);
    assert_eq!(said(&[&"tag", &"ls", &here]), "late\n");
}

#[test]
fn relations_and_saved_queries_are_kept() {
    let mount = tagged();
    let (a, c) = (mount.join("photos/a.jpg"), mount.join("c.txt"));
    let _ = said(&[&"link", &c, &"links-to", &a]);
    indexed(&mount);
    assert!(said(&[&"related", &c]).starts_with("links-to"));
    assert_eq!(said(&[&"related", &c, &"-0"]), format!("{}\0", a.display()));
    let _ = said(&[&"link", &c, &"links-to", &a, &"--remove"]);
    indexed(&mount);
    assert!(!call(&[&"related", &c]).output.contains("links-to"));
    let _ = said(&[&"save", &"mine", &"beach", &"not:sun", &"--in", &mount.path()]);
    assert_eq!(said(&[&"save", &"--list", &"--in", &mount.path()]), "mine\tbeach -sun\n");
    let _ = said(&[&"save", &"--remove", &"mine", &"--in", &mount.path()]);
    assert_eq!(call(&[&"save", &"--list", &"--in", &mount.path()]).status.code(), Some(NOTHING));
}

#[test]
fn what_is_exported_is_imported_elsewhere_and_again_without_harm() {
    let first = tagged();
    rustix::fs::setxattr(first.join("c.txt"), "user.xdg.comment", b"mine", rustix::fs::XattrFlags::empty()).unwrap();
    let _ = said(&[&"link", &first.join("c.txt"), &"links-to", &first.join("photos/a.jpg")]);
    let _ = said(&[&"tag", &"alias", &"strand", &"beach", &"--in", &first.path()]);
    indexed(&first);
    let scratch = Scratch::new("graph");
    let (lines, database) = (scratch.join("lines"), scratch.join("db"));
    let _ = said(&[&"export", &first.path(), &"-o", &lines]);
    let _ = said(&[&"export", &first.path(), &"--format", &"tmsu", &"-o", &database]);
    let second = Mount::embedded();
    std::fs::create_dir(second.join("photos")).unwrap();
    for name in ["photos/a.jpg", "c.txt"] {
        std::fs::write(second.join(name), name).unwrap();
    }
    let dry = call(&[&"import", &lines, &"--in", &second.path(), &"--dry-run"]);
    assert_ends(&dry, NOTHING, &["photos/b.jpg: No such file"]);
    assert!(call(&[&"tag", &"ls", &second.join("photos/a.jpg")]).output.is_empty(), "nothing was changed");
    for round in 0..2 {
        let outcome = call(&[&"import", &lines, &"--in", &second.path()]);
        assert_ends(&outcome, NOTHING, &["photos/b.jpg: No such file"]);
        assert!(outcome.output.contains("; 1 problems"), "round {round}: {}{}", outcome.output, outcome.errors);
        indexed(&second);
    }
    assert_eq!(said(&[&"find", &"strand", &"--in", &second.path()]), below(&second, &["photos/a.jpg"]));
    assert!(said(&[&"related", &second.join("c.txt")]).contains("photos/a.jpg"));
    let _ = said(&[&"tag", &"set", &"", &second.join("photos/a.jpg")]);
    assert_ends(&call(&[&"import", &database, &"--in", &second.path()]), NOTHING, &["photos/b.jpg"]);
    assert_eq!(said(&[&"tag", &"ls", &second.join("photos/a.jpg")]), "beach\nyear=2020\n");
}

#[test]
fn changes_are_seen_as_they_happen() {
    let mount = tagged();
    let mut command = Command::new(dgfs());
    let place = mount.path().as_os_str();
    let words =
        [OsStr::new("watch"), OsStr::new("beach"), OsStr::new("--json"), OsStr::new("--limit"), OsStr::new("1")];
    command.args(words).arg("--in").arg(place).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watch = spawn(command).unwrap();
    let mut round = 0;
    // From when on it watches nobody says: so something changes until it has seen it.
    wait_until("a change is seen", COMMAND, || {
        round += 1;
        let _ = said(&[&"tag", &"add", &format!("round-{round}"), &mount.join("photos/a.jpg")]);
        watch.try_wait().unwrap().is_some()
    });
    assert!(wait(&mut watch, COMMAND).unwrap().success());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut watch.stdout.take().unwrap(), &mut text).unwrap();
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["change"], "tagged");
    assert!(text.contains("photos/a.jpg"), "{text}");
}

/// `@ask` cannot be opened for writing there, and `.tags` is called something else.
#[test]
fn a_read_only_mount_answers_whatever_its_tags_are_called_and_changes_nothing() {
    let scratch = Arc::new(Scratch::new("read-only"));
    let data = scratch.join("data");
    let mut first = Mount::of_data(&scratch, &data, "first");
    std::fs::write(first.join("a"), "a").unwrap();
    std::fs::write(first.join("b"), "b").unwrap();
    let _ = said(&[&"tag", &"add", &"beach,sun", &first.join("b")]);
    indexed(&first);
    first.umount();
    let words: Vec<OsString> = vec!["--data-dir".into(), data.into(), "-o".into(), "ro,tags=.q".into()];
    let mount = Mount::with_words(&scratch, "second", words);
    assert_eq!(said(&[&"find", &"beach sun", &"--in", &mount.path()]), below(&mount, &["b"]));
    // More than one piece of a request.
    let long = format!("beach{}", " ".repeat(40_000));
    assert_eq!(said(&[&"find", &long, &"--count", &"--in", &mount.path()]), "1\n");
    assert_ends(&call(&[&"tag", &"add", &"x", &mount.join("a")]), REFUSED, &["read-only"]);
    assert_ends(&call(&[&"tag", &"make", &"x", &"--in", &mount.path()]), REFUSED, &["read-only"]);
}

#[test]
fn what_taggers_say_is_vetoed_by_taking_it_off_and_what_is_not_there_is_told() {
    let mount = tagged();
    assert_ends(
        &call(&[&"tag", &"rm", &"sun", &mount.join("photos/a.jpg")]),
        NOTHING,
        &["a.jpg: does not carry \"sun\""],
    );
    assert_ends(
        &call(&[&"tag", &"delete", &"nosuch", &"--in", &mount.path()]),
        REFUSED,
        &["no tag is called \"nosuch\""],
    );
    let nothing = call(&[&"find", &"nosuch", &"--in", &mount.path()]);
    assert_ends(&nothing, NOTHING, &["no file carries a tag or key \"nosuch\""]);
    assert_eq!(call(&[&"find", &"nosuch", &"-0", &"--in", &mount.path()]).errors, "");
    assert_eq!(said(&[&"find", &"owner=root type=file", &"--count", &"--in", &mount.path()]), "3\n");
    assert_ends(&call(&[&"find", &"owner=no-such-account", &"--in", &mount.path()]), REFUSED, &["no user is called"]);
}

#[test]
fn the_index_says_how_far_it_is_and_that_it_is_right() {
    let mount = tagged();
    let status: Value = serde_json::from_str(&said(&[&"index", &"status", &"--json", &mount.path()])).unwrap();
    assert!(status["inodes"].as_u64().unwrap() >= 4, "{status}");
    let _ = said(&[&"index", &"check", &mount.path()]);
    let _ = said(&[&"index", &"rebuild", &mount.path()]);
    indexed(&mount);
    assert_eq!(said(&[&"find", &"beach", &"--count", &"--in", &mount.path()]), "2\n");
    assert_ends(&call(&[&"graph", &"status", &"--in", &mount.path()]), REFUSED, &["no Neo4j is configured"]);
}

#[test]
fn bash_completes_commands_and_tags() {
    let mount = tagged();
    let script = r#"
        PATH="$1:$PATH"
        cd "$2" || exit 9
        eval "$(dgfs completion bash)"
        for COMP_LINE in 'dgfs fin' 'dgfs tag add be' 'dgfs find year=20' 'dgfs find --nu'; do
            COMP_POINT=${#COMP_LINE} COMPREPLY=()
            _dgfs 2>/dev/null
            printf '%s|' "${COMPREPLY[@]}"
        done
    "#;
    let program: &Path = dgfs();
    let words =
        ["-c".into(), script.into(), "bash".into(), program.parent().unwrap().into(), OsString::from(mount.path())];
    assert_eq!(run("bash", &words, COMMAND).expect_success("bash"), "find|beach|2020|--null|");
}
