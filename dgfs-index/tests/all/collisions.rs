//! Names of hits: none twice, each leads back to its inode.

use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;
use dgfs_proto::query::entry::ino_id;
use dgfs_proto::status::Status;

use crate::rig::{Rig, expr};
use crate::truth::{Truth, ino, name};

async fn entry(rig: &Rig, text: &str, shown: Name) -> Result<u64, GraphAnswer> {
    let sought = Sought { scope: Ino::ROOT, query: expr(text) };
    match rig.ask(GraphRequest::Entry { sought, name: shown }).await {
        GraphAnswer::Hits { hits, .. } => Ok(hits[0].ino.get()),
        other => Err(other),
    }
}

#[tokio::test]
async fn the_lowest_inode_keeps_the_name_and_every_name_leads_back() {
    let mut truth = Truth::new();
    let dirs: Vec<Ino> = ["a", "b", "c", "d"].iter().map(|text| truth.dir(Ino::ROOT, text)).collect();
    let mut files = Vec::new();
    for dir in &dirs[..3] {
        files.push(truth.file(*dir, "photo.jpg"));
    }
    let long = "ü".repeat(125) + ".text";
    files.push(truth.file(dirs[0], &long));
    files.push(truth.file(dirs[1], &long));
    // A base name that looks like the name of another hit.
    let forged = format!("photo~{}.jpg", ino_id(files[1]));
    files.push(truth.file(dirs[3], &forged));
    files.push(truth.file(dirs[3], "only.txt"));
    for file in &files {
        truth.tag(*file, &["t"]);
    }
    let rig = Rig::new(truth);
    for limit in [1, 2, 100] {
        let hits = rig.hits_as(Viewer::root(), Ino::ROOT, &expr("t"), limit).await;
        let names: std::collections::BTreeSet<Name> = hits.iter().map(|hit| hit.name.clone()).collect();
        assert_eq!((hits.len(), names.len()), (files.len(), files.len()), "no name twice");
        assert_eq!(hits[0].name, name("photo.jpg"));
        assert_eq!(hits[1].name, name(&forged));
        for hit in hits {
            assert_eq!(entry(&rig, "t", hit.name.clone()).await, Ok(hit.ino.get()), "{}", hit.name);
        }
    }
    let by_id = |file: Ino, stem: &str, ext: &str| name(&format!("{stem}~{}{ext}", ino_id(file)));
    assert_eq!(
        entry(&rig, "t", by_id(files[0], "photo", ".jpg")).await,
        Ok(files[0].get()),
        "also where it is not needed"
    );
    assert_eq!(entry(&rig, "t", by_id(files[6], "only", ".txt")).await, Ok(files[6].get()));
    for wrong in [name("nothing"), by_id(files[6], "other", ".txt"), by_id(ino(999), "only", ".txt")] {
        assert_eq!(entry(&rig, "t", wrong).await, Err(GraphAnswer::Refused(Status::NotFound)));
    }
}

/// More hits than are put in order at once: the first pages and names are found by passing over all, the later ones in order.
#[tokio::test]
async fn a_large_result_shows_the_same_names_whether_it_is_in_order_or_not() {
    const FILES: usize = 5000;
    let mut truth = Truth::new();
    let dirs: Vec<Ino> = (0..50).map(|number| truth.dir(Ino::ROOT, &format!("d{number}"))).collect();
    let mut expected = Vec::new();
    let mut owners = std::collections::BTreeMap::new();
    for number in 0..FILES {
        // Each name twice, in two directories.
        let text = format!("f{}.txt", number % (FILES / 2));
        let file = truth.file(dirs[(number * 7 + number / (FILES / 2)) % dirs.len()], &text);
        truth.tag(file, &["t"]);
        let owner = *owners.entry(text.clone()).or_insert(file);
        let shown = if owner == file { text } else { text.replace(".txt", &format!("~{}.txt", ino_id(file))) };
        expected.push((file.get(), name(&shown)));
    }
    let rig = Rig::new(truth);
    for viewer in [Viewer::root(), Viewer { uid: 1000, gids: vec![1000] }] {
        for limit in [1024, 300] {
            let hits = rig.hits_as(viewer.clone(), Ino::ROOT, &expr("t"), limit).await;
            let shown: Vec<(u64, Name)> = hits.into_iter().map(|hit| (hit.ino.get(), hit.name)).collect();
            assert!(shown == expected, "{viewer:?} in pages of {limit}");
        }
    }
    // Another question each, so that none finds the hits in order.
    for (round, (number, shown)) in expected.iter().step_by(499).enumerate() {
        let text = format!("t not name:none{round}");
        assert_eq!(entry(&rig, &text, shown.clone()).await, Ok(*number), "{shown}");
    }
    assert_eq!(entry(&rig, "t -name:x", name("f1~zzz.txt")).await, Err(GraphAnswer::Refused(Status::NotFound)));
}

#[tokio::test]
async fn a_step_is_an_entry_or_else_a_tag_and_places_come_in_the_order_asked() {
    let mut truth = Truth::new();
    let dir = truth.dir(Ino::ROOT, "dir");
    let (file, sun) = (truth.file(dir, "f.txt"), truth.file(Ino::ROOT, "sun"));
    truth.tag(file, &["t", "rain"]);
    truth.tag(sun, &["t", "sun"]);
    let rig = Rig::new(truth);
    let step = |text: &str, component: &str| {
        let sought = Sought { scope: Ino::ROOT, query: expr(text) };
        let clause = expr(component).clauses.remove(0);
        rig.ask(GraphRequest::Step { sought, name: name(component), clause })
    };
    let GraphAnswer::Hits { hits, .. } = step("t", "sun").await else { panic!("the file comes before the tag") };
    assert_eq!(hits.iter().map(|hit| hit.ino).collect::<Vec<_>>(), [sun]);
    assert_eq!(step("t", "rain").await, GraphAnswer::Done);
    assert_eq!(step("rain", "sun").await, GraphAnswer::Done, "no such file among these");
    assert_eq!(step("t", "nobody").await, GraphAnswer::Refused(Status::NotFound));
    let places = |inos| rig.ask(GraphRequest::Places { scope: Ino::ROOT, inos });
    let expected = vec![Some(vec![name("sun")]), None, Some(vec![name("dir"), name("f.txt")])];
    assert_eq!(places(vec![sun, ino(999), file]).await, GraphAnswer::Places(expected));
    assert_eq!(places(vec![sun; 65]).await, GraphAnswer::Refused(Status::Malformed), "more than one message holds");
}
