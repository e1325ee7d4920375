//! A mount that keeps its graph in a real Neo4j as well.
//!
//! Never asserts how fast it follows: what is to be there is waited for. Always: whatever happens to the server, files and `.tags`
//! answer as they do without it.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dgfs_tests::mount::Mount;
use dgfs_tests::neo4j::{PASSWORD, Server, write_password};
use dgfs_tests::process::{Outcome, run, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::scratch::Scratch;
use serde_json::Value;

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(120);
/// How long Neo4j may be behind, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(240);
/// Exit codes.
const MISUSED: i32 = 2;
const REFUSED: i32 = 3;

const ON_THE_BEACH: &str =
    "MATCH (:Tag {key: 'beach'})<-[:TAGGED {src: 'user'}]-(f:File) RETURN f.name AS name ORDER BY name";

fn call(words: &[&dyn AsRef<OsStr>]) -> Outcome {
    let words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
    run(dgfs(), &words, COMMAND)
}

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

fn mounted(scratch: &Arc<Scratch>, address: &str, password_file: &Path) -> Mount {
    let data = scratch.join("data").into_os_string();
    let words: [OsString; 6] = [
        "--data-dir".into(),
        data,
        "--graph".into(),
        address.into(),
        "--graph-password-file".into(),
        password_file.into(),
    ];
    Mount::with_words(scratch, "mnt", words.to_vec())
}

fn status(mount: &Mount) -> Value {
    serde_json::from_str(&said(&[&"graph", &"status", &"--json", &"--in", &mount.path()])).unwrap()
}

/// Waits until Neo4j answers a question with these names.
#[track_caller]
fn wait_for_names(mount: &Mount, cypher: &str, names: &[&str]) {
    let wanted: String = names.iter().map(|name| format!("{{\"name\":\"{name}\"}}\n")).collect();
    wait_until(&format!("Neo4j answers {cypher} with {names:?}"), SOON, || {
        call(&[&"graph", &"query", &cypher, &"--in", &mount.path()]).output == wanted
    });
}

#[track_caller]
fn assert_clean(mount: &Mount) {
    let _ = said(&[&"index", &"wait", &mount.path(), &"--timeout", &"60"]);
    let checked = call(&[&"graph", &"check", &"--in", &mount.path()]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", checked.output, checked.errors);
}

#[test]
fn tags_given_through_a_mount_are_in_neo4j_which_may_die_and_comes_back() {
    let mut server = Server::start(None);
    let scratch = Arc::new(Scratch::new("neo4j"));
    let mut mount = mounted(&scratch, &server.address(), &server.password_file());
    for name in ["a.jpg", "b.jpg", "c.txt"] {
        std::fs::write(mount.join(name), name).unwrap();
    }
    let _ = said(&[&"tag", &"add", &"beach,it's a \"tag\",year=2020", &mount.join("a.jpg")]);
    std::fs::hard_link(mount.join("b.jpg"), mount.join(".tags/beach/b.jpg")).unwrap();
    wait_for_names(&mount, ON_THE_BEACH, &["a.jpg", "b.jpg"]);
    let quoted = "MATCH (f:File)-[:TAGGED]->(:Tag {key: 'it\\'s a \"tag\"'}) RETURN f.name AS name";
    wait_for_names(&mount, quoted, &["a.jpg"]);
    for write in ["CREATE (n:File)", "MATCH (f:File) DETACH DELETE f", "MATCH (f:File) SET f.size = 1 RETURN f"] {
        let refused = call(&[&"graph", &"query", &write, &"--in", &mount.path()]);
        assert_ends(&refused, REFUSED, &["this query is refused"]);
    }
    assert_clean(&mount);

    server.kill();
    wait_until("the status says that Neo4j is away", SOON, || {
        status(&mount)["error"].as_str().is_some_and(|error| error.contains("no connection to Neo4j"))
    });
    let _ = said(&[&"tag", &"add", &"beach", &mount.join("c.txt")]);
    std::fs::remove_file(mount.join("b.jpg")).unwrap();
    let _ = said(&[&"index", &"wait", &mount.path(), &"--timeout", &"60"]);
    let mut listed: Vec<_> =
        std::fs::read_dir(mount.join(".tags/beach")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    listed.retain(|name| !name.as_encoded_bytes().starts_with(b"@"));
    listed.sort();
    assert_eq!(listed, ["a.jpg", "c.txt"]);
    let away = call(&[&"graph", &"query", &ON_THE_BEACH, &"--in", &mount.path()]);
    assert_ends(&away, REFUSED, &["no connection to Neo4j"]);

    server.restart();
    wait_for_names(&mount, ON_THE_BEACH, &["a.jpg", "c.txt"]);
    assert_clean(&mount);
    assert!(status(&mount)["error"].is_null(), "{}", status(&mount));
    let _ = said(&[&"tag", &"rename", &"beach", &"shore", &"--in", &mount.path()]);
    wait_for_names(&mount, &ON_THE_BEACH.replace("beach", "shore"), &["a.jpg", "c.txt"]);
    wait_for_names(&mount, ON_THE_BEACH, &[]);
    let _ = said(&[&"graph", &"rebuild", &"--in", &mount.path()]);
    std::fs::write(mount.join("d.txt"), "d").unwrap();
    wait_for_names(&mount, "MATCH (f:File {name: 'd.txt'}) RETURN f.name AS name", &["d.txt"]);
    assert_clean(&mount);
    mount.umount();
    assert!(!mount.log().contains(PASSWORD), "the log shows the password");

    mount.start();
    let _ = said(&[&"tag", &"add", &"again", &mount.join("d.txt")]);
    wait_for_names(&mount, "MATCH (f:File)-[:TAGGED]->(:Tag {key: 'again'}) RETURN f.name AS name", &["d.txt"]);
    assert_clean(&mount);
}

#[test]
fn a_neo4j_that_is_not_there_keeps_nobody_from_anything() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scratch = Arc::new(Scratch::new("neo4j"));
    let password = scratch.join("password");
    write_password(&password, PASSWORD);
    let mount = mounted(&scratch, &format!("bolt://{nobody}"), &password);
    std::fs::write(mount.join("a"), "a").unwrap();
    let _ = said(&[&"tag", &"add", &"here", &mount.join("a")]);
    assert_eq!(said(&[&"find", &"here", &"--count", &"--in", &mount.path()]), "1\n");
    wait_until("the status says that Neo4j is away", SOON, || {
        call(&[&"graph", &"status", &"--in", &mount.path()]).output.contains("no connection to Neo4j")
    });
    let checked = call(&[&"graph", &"check", &"--in", &mount.path()]);
    assert_eq!(checked.status.code(), Some(1), "{}", checked.errors);
    assert!(checked.output.contains("was not compared: no connection to Neo4j"), "{}", checked.output);
}

#[test]
fn words_about_neo4j_that_cannot_be_used_are_refused_before_anything_is_made() {
    let scratch = Scratch::new("neo4j");
    let (point, data, password) = (scratch.dir("mnt"), scratch.join("data"), scratch.join("password"));
    write_password(&password, PASSWORD);
    let mount = |words: &[&dyn AsRef<OsStr>]| {
        let own: [&dyn AsRef<OsStr>; 5] = [&"mount", &"--background", &"--data-dir", &data, &point];
        call(&[&own, words].concat())
    };
    assert_ends(&mount(&[&"--graph", &"bolt://h:1"]), MISUSED, &["needs --graph-password-file"]);
    let given = |address: &str| mount(&[&"--graph", &address, &"--graph-password-file", &password]);
    assert_ends(&given("http://h:1"), MISUSED, &["must begin with bolt://"]);
    assert_ends(&given("bolt://me:secret@h:1"), MISUSED, &["must not hold a user or a password"]);
    let options = format!("graph=bolt://h:1/x,graph-password-file={}", password.display());
    assert_ends(&mount(&[&"-o", &options]), MISUSED, &["nothing after the port"]);
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_ends(&given("bolt://h:1"), MISUSED, &["can be read by everybody"]);
    assert!(!data.exists(), "nothing is made");
}
