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
