//! `@ask` and the attributes that the graph answers.

use serde_json::{Value, json};

use dgfs_proto::attr::FileKind;
use dgfs_proto::ids::Ino;
use dgfs_proto::status::Status;

use super::{ROOT, USER, World};
use crate::tags::{ASK_BYTES_MAX, Who};
use crate::vfs::OpenFlags;

const READ_WRITE: OpenFlags =
    OpenFlags { read: true, write: true, append: false, truncate: false, direct: false, sync: false };

/// Neither root nor, most likely, whoever runs this.
const STRANGER: Who = Who { uid: 54_321, gid: 54_321, pid: 0 };

async fn world() -> World {
    let world = World::new().await;
    world.truth.file("photos/a.jpg", &["beach"]);
    world.truth.file("photos/b.jpg", &["beach", "sun"]);
    world.truth.file("docs/c.txt", &["office"]);
    world
}

async fn ask_in(world: &World, directory: &str, request: &str, who: Who) -> Vec<Value> {
    ask_by(world, (directory, READ_WRITE), request, who).await
}

async fn ask_by(world: &World, (directory, flags): (&str, OpenFlags), request: &str, who: Who) -> Vec<Value> {
    let ino = world.at(&format!("{directory}/.tags/@ask"), who).await.unwrap().ino;
    let (handle, is_stream) = world.tags().open(ino, flags, who).await.unwrap();
    assert!(is_stream);
    world.tags().write(handle, request.as_bytes(), who).await.unwrap();
    let mut text = Vec::new();
    loop {
        // Small reads at whatever offset: the answer goes on where the last one ended.
        let part = world.tags().read(handle, 5, 100, who).await.unwrap();
        if part.is_empty() {
            break;
        }
        text.extend_from_slice(&part);
    }
    world.tags().release(handle);
    String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn ask(world: &World, request: &str) -> Vec<Value> {
    ask_in(world, "", request, ROOT).await
}

fn strings(lines: &[Value], key: &str) -> Vec<String> {
    lines.iter().filter_map(|line| Some(line.get(key)?.as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn questions_are_answered_in_lines() {
    let world = world().await;
    let found = ask(&world, r#"{"find": "beach or office"}"#).await;
    assert_eq!(strings(&found, "path"), ["photos/a.jpg", "photos/b.jpg", "docs/c.txt"]);
    assert_eq!(found[0]["kind"], "file");
    assert_eq!(found[3]["end"], true);
    let page = ask(&world, r#"{"find": "beach", "limit": 1}"#).await;
    assert_eq!((page.len(), &page[1]["end"]), (2, &json!(false)));
    let next = ask(&world, &format!(r#"{{"find": "beach", "after": {}}}"#, page[1]["after"])).await;
    assert_eq!(strings(&next, "path"), ["photos/b.jpg"]);
    assert_eq!(strings(&ask_in(&world, "photos", r#"{"find": ""}"#, ROOT).await, "path"), ["a.jpg", "b.jpg"]);
    assert_eq!(ask(&world, r#"{"count": "beach -sun"}"#).await[0]["count"], 1);
    let facets = ask(&world, r#"{"facets": "beach", "limit": 1}"#).await;
    assert_eq!(facets, [json!({ "name": "beach", "count": 2 })]);
    assert!(ask(&world, r#"{"explain": "beach"}"#).await[0]["explain"].as_str().unwrap().contains("beach"));
    assert_eq!(strings(&ask(&world, r#"{"tags": null}"#).await, "tag"), ["beach", "office", "sun"]);
    assert!(ask(&world, r#"{"status": true}"#).await[0]["head"].is_u64());
    assert!(ask(&world, r#"{"wait": true}"#).await[0]["seq"].is_u64());
    assert!(ask(&world, r#"{"watch": null, "after": 3}"#).await[0]["seq"].is_u64());
    assert_eq!(ask(&world, r#"{"tagger": "list"}"#).await, [json!({ "tagger": "type" })]);
    assert_eq!(ask(&world, r#"{"rebuild": true}"#).await, [json!({ "done": true })]);
    let checked = [
        json!({ "difference": "inode 5: no name" }),
        json!({ "end": true, "summary": "9 inodes compared, 1 differs" }),
    ];
    assert_eq!(ask(&world, r#"{"check": true}"#).await, checked);
    assert!(ask(&world, r#"{"duplicates": true}"#).await.is_empty());
    assert_eq!(ask(&world, r#"{"cypher": "x"}"#).await, [json!({ "error": "Cypher needs Neo4j" })]);
}

#[tokio::test]
async fn commands_change_what_they_name() {
    let world = world().await;
    let a = world.truth.make("photos/a.jpg", FileKind::File);
    let request = r#"{"tag": {"paths": ["photos/a.jpg", "/mnt/graph/photos/b.jpg"], "add": ["new", "k=v"], "remove": ["beach"]}}"#;
    assert_eq!(ask(&world, request).await, [json!({ "tagged": 2 })]);
    assert_eq!(world.truth.tags(a), ["k=v", "new"]);
    let request =
        format!(r#"{{"tag": {{"inos": [{a}, "~{}"], "add": ["again"]}}}}"#, dgfs_proto::query::entry::ino_id(a));
    assert_eq!(ask(&world, &request).await, [json!({ "tagged": 1 })], "named twice, tagged once");
    let done = [json!({ "done": true })];
    for request in [
        r#"{"tags-command": {"make": "empty"}}"#,
        r#"{"tags-command": {"delete": {"tag": "empty"}}}"#,
        r#"{"tags-command": {"rename": {"from": "new", "to": "newer"}}}"#,
        r#"{"tags-command": {"imply": {"tag": "newer", "implied": "sun"}}}"#,
        r#"{"tags-command": {"alias": {"alias": "job", "tag": "office"}}}"#,
        r#"{"relate": {"from": "photos/a.jpg", "relation": "links-to", "to": "docs/c.txt"}}"#,
        r#"{"save": "mine", "expression": "newer and -sun"}"#,
    ] {
        assert_eq!(ask(&world, request).await, done, "{request}");
    }
    assert_eq!(ask(&world, r#"{"saved": true}"#).await, [json!({ "name": "mine", "expression": "newer -sun" })]);
    let related = ask(&world, r#"{"related": "photos/a.jpg"}"#).await;
    assert_eq!(
        (strings(&related, "relation"), strings(&related, "path")),
        (vec!["links-to".into()], vec!["docs/c.txt".into()])
    );
    let marks = ask(&world, r#"{"marks": "photos/a.jpg"}"#).await;
    assert_eq!(marks[0]["index"], "done");
    assert_eq!(ask(&world, r#"{"save": "mine", "expression": null}"#).await, done);
}

#[tokio::test]
async fn a_refusal_is_a_sentence_with_its_place() {
    let world = world().await;
    let rows = [
        ("{", "not JSON"),
        ("{}", "expected an object with exactly one of the keys"),
        (r#"{"find": "(a"}"#, "expected"),
        (r#"{"find": "nothing-known", "limit": "x"}"#, "in the request \"find\""),
        (r#"{"tag": {"paths": [], "add": ["x"]}}"#, "expected 1 to 512 files"),
        (r#"{"tag": {"paths": ["docs/c.txt"]}}"#, "expected a tag in"),
        (r#"{"tag": {"paths": ["docs/c.txt"], "add": ["a,b"]}}"#, "\"a,b\": not a tag"),
        (r#"{"tag": {"paths": ["docs/gone"], "add": ["x"]}}"#, "docs/gone: no such file"),
        (r#"{"tag": {"paths": ["../out"], "add": ["x"]}}"#, "../out: crosses devices"),
        (r#"{"tags-command": {"delete": {"tag": "office"}}}"#, "files carry this tag"),
        (r#"{"tags-command": {"make": "office"}}"#, "there is a tag already"),
        (r#"{"relate": {"from": 1, "relation": "likes", "to": 2}}"#, "\"likes\" is no relation"),
        (r#"{"save": "a/b", "expression": "x"}"#, "expected"),
        (r#"{"marks": 0}"#, "0 is no inode's number"),
    ];
    for (request, expected) in rows {
        let answer = ask(&world, request).await;
        let sentence = answer[0]["error"].as_str().unwrap_or_else(|| panic!("{request}: {answer:?}"));
        assert!(sentence.contains(expected), "{request}: {sentence}");
        assert_eq!(answer.len(), 1, "{request}");
    }
    let answer = ask(&world, r#"{"find": "a (b"}"#).await;
    assert!(answer[0]["at"].is_u64() && answer[0]["expected"].is_string(), "{answer:?}");
    assert!(world.truth.volume.lock().changes.is_empty(), "a refused command changes nothing");
}

#[tokio::test]
async fn the_rights_are_those_of_who_wrote() {
    let world = world().await;
    let docs = world.at("docs", ROOT).await.unwrap().ino;
    let c = world.truth.make("docs/c.txt", FileKind::File);
    world.truth.edit(c, |file| file.attr.mode = 0o666);
    let tag = format!(r#"{{"tag": {{"inos": [{c}], "add": ["x"]}}}}"#);
    assert_eq!(ask_in(&world, "", &tag, USER).await, [json!({ "tagged": 1 })]);
    world.truth.edit(docs, |docs| docs.attr.mode = 0o700);
    assert!(ask_in(&world, "", &tag, USER).await[0]["error"].is_string(), "what cannot be reached cannot be named");
    assert_eq!(strings(&ask_in(&world, "", r#"{"find": "office"}"#, USER).await, "path"), [""; 0]);
    let foreign = r#"{"tag": {"paths": ["photos/a.jpg"], "add": ["x"]}}"#;
    let sentence = ask_in(&world, "", foreign, USER).await[0]["error"].as_str().unwrap().to_owned();
    assert!(sentence.contains("the right to write the file"), "{sentence}");
    for request in [r#"{"rebuild": true}"#, r#"{"check": true}"#, r#"{"cypher": "x"}"#, r#"{"tagger": "pause"}"#] {
        let answer = ask_in(&world, "", request, Who { uid: 4_000_000, gid: 1, pid: 0 }).await;
        assert!(answer[0]["error"].as_str().unwrap().starts_with("only root"), "{request}: {answer:?}");
    }
}

/// A user gives the handle to `su` as its output, which writes a line break behind his request with the rights of root.
#[tokio::test]
async fn nobody_lends_his_rights_to_what_another_has_written() {
    let world = world().await;
    let ino = world.at(".tags/@ask", USER).await.unwrap().ino;
    let (handle, _) = world.tags().open(ino, READ_WRITE, USER).await.unwrap();
    let request = br#"{"tags-command": {"delete": {"tag": "beach", "unused": false}}}"#;
    world.tags().write(handle, request, USER).await.unwrap();
    assert_eq!(world.tags().write(handle, b"\n", ROOT).await, Err(Status::NotPermitted));
    let answer = world.tags().read(handle, 0, 1000, ROOT).await.unwrap();
    assert!(std::str::from_utf8(&answer).unwrap().contains("only that user, root"), "{answer:?}");
    assert!(world.truth.volume.lock().changes.is_empty());
}

/// A stranger merged root's tag away, and wrote over root's saved queries.
#[tokio::test]
async fn tags_and_saved_queries_are_changed_by_whom_they_belong_to() {
    let world = world().await;
    ask_in(&world, "", r#"{"tags-command": {"make": "own"}}"#, STRANGER).await;
    ask(&world, r#"{"save": "q", "expression": "sun"}"#).await;
    let owned = "was made by user 0: only that user, root and whoever mounted can change it";
    let refused = [
        (r#"{"tags-command": {"merge": {"from": "office", "into": "own"}}}"#, owned),
        (r#"{"tags-command": {"imply": {"tag": "own", "implied": "office"}}}"#, owned),
        (r#"{"tags-command": {"delete": {"tag": "office", "unused": false}}}"#, owned),
        (r#"{"save": "q", "expression": "x", "replace": true}"#, "another user saved this query"),
        (r#"{"save": "q", "expression": null}"#, "another user saved this query"),
    ];
    for (request, sentence) in refused {
        let said = ask_in(&world, "", request, STRANGER).await[0]["error"].as_str().unwrap().to_owned();
        assert!(said.contains(sentence), "{request}: {said}");
    }
    let said = ask(&world, r#"{"save": "q", "expression": "x"}"#).await[0]["error"].as_str().unwrap().to_owned();
    assert!(said.contains("saved already"), "{said}");
    assert_eq!(ask(&world, r#"{"save": "q", "expression": "x", "replace": true}"#).await, [json!({ "done": true })]);
    let renamed = r#"{"tags-command": {"rename": {"from": "own", "to": "mine"}}}"#;
    assert_eq!(ask_in(&world, "", renamed, STRANGER).await, [json!({ "done": true })]);
    assert_eq!(world.rm(".tags/@saved/q", STRANGER).await, Err(Status::NotPermitted));
}

#[tokio::test]
async fn a_handle_that_cannot_read_is_carried_out_at_its_close() {
    let world = world().await;
    let ino = world.at(".tags/@ask", ROOT).await.unwrap().ino;
    let flags = OpenFlags { write: true, ..OpenFlags::default() };
    let (handle, _) = world.tags().open(ino, flags, ROOT).await.unwrap();
    world.tags().write(handle, br#"{"tags-command": "#, ROOT).await.unwrap();
    world.tags().write(handle, br#"{"make": "new"}}"#, ROOT).await.unwrap();
    world.tags().flush(handle, ROOT).await.unwrap();
    world.tags().flush(handle, ROOT).await.unwrap();
    assert_eq!(world.truth.volume.lock().changes.len(), 1, "once");
    world.tags().write(handle, br#"{"tags-command": {"make": "new"}}"#, ROOT).await.unwrap();
    assert_eq!(world.tags().flush(handle, ROOT).await, Err(Status::Exists));
    let long = vec![b' '; ASK_BYTES_MAX + 1];
    assert_eq!(world.tags().write(handle, &long, ROOT).await, Err(Status::FileTooBig));
    world.tags().release(handle);
    assert_eq!(world.tags().write(handle, b"x", ROOT).await, Err(Status::BadHandle));
    let counts = world.at(".tags/@counts", ROOT).await.unwrap().ino;
    assert_eq!(world.tags().open(counts, flags, ROOT).await.map(|_| ()), Err(Status::NotPermitted));
}

#[tokio::test]
async fn virtual_attributes_say_what_the_graph_knows() {
    let world = world().await;
    let a: Ino = world.truth.make("photos/a.jpg", FileKind::File);
    world.truth.edit(a, |a| a.said = vec!["photo".to_owned()]);
    let value = |name: &'static str| {
        let world = &world;
        async move { String::from_utf8(world.tags().getxattr(a, name.as_bytes(), ROOT).await.unwrap()).unwrap() }
    };
    assert_eq!(value("user.dgfs.id").await, format!("~{}", dgfs_proto::query::entry::ino_id(a)));
    let auto: Value = serde_json::from_str(&value("user.dgfs.tags.auto").await).unwrap();
    assert_eq!(auto, json!([{ "tag": "photo", "tagger": "type", "version": 1, "confidence": 0.9 }]));
    assert_eq!((value("user.dgfs.index").await, value("user.dgfs.relations").await), ("done".into(), "[]".into()));
    assert!(value("user.dgfs.seq").await.parse::<u64>().is_ok());
    assert_eq!(world.tags().getxattr(a, b"user.dgfs.other", ROOT).await, Err(Status::NoXattr));
}

/// `dgfs tag rm` of what only a tagger said did nothing and called that success.
#[tokio::test]
async fn taking_off_what_a_tagger_says_vetoes_it_and_what_is_not_carried_is_told() {
    let world = world().await;
    let (a, b) = (world.truth.make("photos/a.jpg", FileKind::File), world.truth.make("photos/b.jpg", FileKind::File));
    world.truth.edit(a, |thing| thing.said = vec!["photo".to_owned()]);
    world
        .truth
        .volume
        .lock()
        .implied
        .push((dgfs_proto::tag::Tag::parse("sun").unwrap(), dgfs_proto::tag::Tag::parse("warm").unwrap()));
    let request = r#"{"tag": {"paths": ["photos/a.jpg"], "remove": ["photo", "beach"]}}"#;
    assert_eq!(ask(&world, request).await, [json!({ "tagged": 1 })]);
    assert_eq!((world.truth.tags(a), world.truth.edit(a, |thing| thing.vetoes.len())), (vec![], 1));
    assert_eq!(ask(&world, r#"{"count": "photo"}"#).await[0]["count"], 0);
    let request = r#"{"tag": {"paths": ["photos/a.jpg", "photos/b.jpg"], "remove": ["beach", "warm"]}}"#;
    let told = [
        json!({ "lacks": "beach", "ino": a, "implied": false }),
        json!({ "lacks": "warm", "ino": a, "implied": false }),
        json!({ "lacks": "warm", "ino": b, "implied": true }),
        json!({ "tagged": 2 }),
    ];
    assert_eq!(ask(&world, request).await, told);
    assert_eq!(world.truth.tags(b), ["sun"], "the others are taken off all the same");
}

#[tokio::test]
async fn accounts_are_asked_for_by_the_numbers_of_this_machine() {
    let world = world().await;
    assert_eq!(
        ask(&world, r#"{"save": "mine", "expression": "owner=root or group=root"}"#).await,
        [json!({ "done": true })]
    );
    assert_eq!(ask(&world, r#"{"saved": true}"#).await[0]["expression"], "owner=0 or group=0");
    let refused = ask(&world, r#"{"find": "owner=no-such-account"}"#).await;
    assert_eq!(refused[0]["error"], "no user is called \"no-such-account\" on the machine of the mount");
    let refused = ask(&world, r#"{"count": "beach -group=no-such-account"}"#).await;
    assert_eq!(refused[0]["error"], "no group is called \"no-such-account\" on the machine of the mount");
    assert_eq!(world.at(".tags/owner=no-such-account", ROOT).await.map(|_| ()), Err(Status::NotFound));
    assert!(world.at(".tags/owner=root", ROOT).await.is_ok());
}

#[tokio::test]
async fn a_refusal_names_what_is_not_known() {
    let world = world().await;
    world.truth.edit(world.truth.make("photos/a.jpg", FileKind::File), |thing| thing.said = vec!["photo".to_owned()]);
    let rows = [
        (r#"{"find": "beach @saved/nothing"}"#, "no saved query is called \"nothing\""),
        (r#"{"save": "nothing", "expression": null}"#, "\"nothing\": no query of this name is saved"),
        (r#"{"tags-command": {"delete": {"tag": "nosuch"}}}"#, "no tag is called \"nosuch\""),
        (r#"{"tags-command": {"rename": {"from": "nosuch", "to": "x"}}}"#, "no tag is called \"nosuch\""),
        (r#"{"tags-command": {"rename": {"from": "photo", "to": "x"}}}"#, "nobody set \"photo\" by hand"),
        (r#"{"tags-command": {"imply": {"tag": "beach", "implied": "outdoors"}}}"#, "no tag is called \"outdoors\""),
        (
            r#"{"relate": {"from": "photos/a.jpg", "relation": "similar", "to": "docs/c.txt"}}"#,
            "found out by the index",
        ),
        (
            r#"{"relate": {"from": "photos/a.jpg", "relation": "links-to", "to": "photos/a.jpg"}}"#,
            "no relation to itself",
        ),
        (
            r#"{"relate": {"from": "photos/a.jpg", "relation": "links-to", "to": "docs/c.txt", "on": false}}"#,
            "nobody made",
        ),
    ];
    for (request, sentence) in rows {
        let line = ask(&world, request).await.remove(0);
        assert!(line["error"].as_str().is_some_and(|error| error.contains(sentence)), "{request}: {line}");
    }
    let nothing = ask(&world, r#"{"find": "nosuch key=5 beach"}"#).await;
    assert_eq!(nothing[0]["unknown"], json!(["nosuch", "key"]));
    assert!(ask(&world, r#"{"find": "beach"}"#).await.last().unwrap().get("unknown").is_none());
    assert_eq!(world.mv(".tags/photo", ".tags/picture").await, Err(Status::NotPermitted));
}

#[tokio::test]
async fn a_number_is_no_word_of_a_refusal() {
    let world = world().await;
    let c = world.truth.make("docs/c.txt", FileKind::File);
    world.truth.edit(c, |thing| (thing.attr.uid, thing.attr.mode) = (0, 0o644));
    let request = format!(r#"{{"tag": {{"inos": [{c}], "add": ["x"]}}}}"#);
    let line = ask_in(&world, "", &request, USER).await.remove(0);
    assert_eq!(line["error"], "permission denied: tagging needs the right to write the file");
}

/// On a mount that is read-only `@ask` cannot be opened for writing.
#[tokio::test]
async fn a_handle_that_is_only_read_asks_and_changes_nothing() {
    let world = world().await;
    let only_read = OpenFlags { write: false, ..READ_WRITE };
    let counted = ask_by(&world, ("", only_read), r#"{"count": "beach"}"#, ROOT).await;
    assert_eq!(counted[0]["count"], 2);
    for request in [
        r#"{"tags-command": {"make": "x"}}"#,
        r#"{"tag": {"paths": ["docs/c.txt"], "add": ["x"]}}"#,
        r#"{"tagger": "pause"}"#,
        r#"{"rebuild": true}"#,
        r#"{"save": "n", "expression": "beach"}"#,
    ] {
        let line = ask_by(&world, ("", only_read), request, ROOT).await.remove(0);
        assert!(line["error"].as_str().is_some_and(|error| error.contains("read-only")), "{request}: {line}");
    }
    assert_eq!(world.truth.volume.lock().changes, []);
}
