//! Tags, vetoes, relations and saved queries, as tables.

use std::collections::BTreeMap;

use dgfs_proto::graph::{HandRelation, NodeFacts};
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::limits::TAGS_PER_FILE_MAX;
use dgfs_proto::log::Change;
use dgfs_proto::meta::{
    Actor, MetaReply, Mutation, NewNode, Query, RemoveKind, RenameMode, TagCommand, TagEdit, XattrMode,
};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::Bench;
use super::rules::BIG;

const ROOT: Actor = Actor { uid: 0, operator: false };

pub(super) fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

pub(super) fn tags(texts: &[&str]) -> Vec<Tag> {
    texts.iter().map(|text| tag(text)).collect()
}

fn edit(inos: &[Ino], add: &[&str], remove: &[&str]) -> Mutation {
    Mutation::Tag(TagEdit { inos: inos.to_vec(), add: tags(add), remove: tags(remove), ..TagEdit::default() })
}

fn command(command: TagCommand) -> Mutation {
    Mutation::Tags { command, by: ROOT }
}

pub(super) fn shown(bench: &mut Bench, ino: Ino) -> Option<String> {
    match bench.query(&Query::GetXattr { ino, name: b"user.xdg.tags".to_vec() }) {
        Ok(MetaReply::Bytes(value)) => Some(String::from_utf8(value).unwrap()),
        Err(Status::NoXattr) => None,
        other => panic!("{other:?}"),
    }
}

fn set(bench: &mut Bench, ino: Ino, value: &str) -> Result<(), Status> {
    let name = b"user.xdg.tags".to_vec();
    bench
        .mutate(&Mutation::SetXattr { ino, name, value: value.as_bytes().to_vec(), mode: XattrMode::Any, uid: 0 })
        .map(drop)
}

pub(super) fn file(bench: &mut Bench, name: &str) -> Ino {
    bench.make(Ino::ROOT, name, NewNode::File).unwrap().ino
}

#[test]
fn the_attribute_and_the_edit_are_one_set() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    assert_eq!(shown(&mut bench, ino), None);
    set(&mut bench, ino, " beach, Sea ,,beach").unwrap();
    assert_eq!(shown(&mut bench, ino).as_deref(), Some("beach,Sea"));
    bench.must(&edit(&[ino], &["sun", "SEA"], &["beach"]));
    assert_eq!(shown(&mut bench, ino).as_deref(), Some("Sea,sun"), "a tag is one whatever its case");
    let Ok(MetaReply::Names(names)) = bench.query(&Query::ListXattr(ino)) else { panic!() };
    assert_eq!(names, [b"user.xdg.tags".to_vec()], "how tags are kept is not shown");
    bench.must(&Mutation::RemoveXattr { ino, name: b"user.xdg.tags".to_vec() });
    assert_eq!(shown(&mut bench, ino), None);
    let gone = Mutation::RemoveXattr { ino, name: b"user.xdg.tags".to_vec() };
    assert_eq!(bench.mutate(&gone), Err(Status::NoXattr));
    assert_eq!(set(&mut bench, ino, "a\u{1}b"), Err(Status::Invalid));
    let hidden = Mutation::SetXattr { ino, name: b"graph.tags".to_vec(), value: vec![1], mode: XattrMode::Any, uid: 0 };
    assert_eq!(bench.mutate(&hidden), Err(Status::NotSupported));
}

#[test]
fn a_tag_gets_another_name_everywhere_with_what_is_below_it() {
    let mut bench = Bench::new(BIG);
    let (a, b) = (file(&mut bench, "a"), file(&mut bench, "b"));
    bench.must(&edit(&[a], &["Place:cn:Hefei", "place", "placebo"], &[]));
    bench.must(&edit(&[b], &["place:de"], &[]));
    let rename = |from: &str, to: &str| command(TagCommand::Rename { from: tag(from), to: tag(to) });
    bench.must(&rename("place", "ort"));
    assert_eq!(shown(&mut bench, a).as_deref(), Some("ort:cn:Hefei,ort,placebo"));
    assert_eq!(shown(&mut bench, b).as_deref(), Some("ort:de"));
    assert_eq!(bench.mutate(&rename("ort", "placebo")), Err(Status::Exists));
    assert_eq!(bench.mutate(&rename("place", "x")), Err(Status::NotFound));
    bench.must(&rename("ort", "Ort"));
    assert_eq!(shown(&mut bench, b).as_deref(), Some("Ort:de"));
    let events = bench.events();
    let Some(Change::TagsChanged(changed)) = events.last().map(|event| &event.change) else { panic!("{events:?}") };
    assert_eq!(changed.len(), 3, "one event for all of them");
}

#[test]
fn a_merged_tag_is_carried_as_the_other_and_stays_a_name_of_it() {
    let mut bench = Bench::new(BIG);
    let (a, both) = (file(&mut bench, "a"), file(&mut bench, "both"));
    bench.must(&edit(&[a, both], &["pic"], &[]));
    bench.must(&edit(&[both], &["photo"], &[]));
    bench.must(&command(TagCommand::Merge { from: tag("pic"), into: tag("photo") }));
    assert_eq!(shown(&mut bench, a).as_deref(), Some("photo"));
    assert_eq!(shown(&mut bench, both).as_deref(), Some("photo"));
    bench.must(&edit(&[a], &[], &["PIC"]));
    assert_eq!(shown(&mut bench, a), None, "the old name means the tag");
    bench.must(&edit(&[a], &["pic"], &[]));
    assert_eq!(shown(&mut bench, a).as_deref(), Some("photo"));
    let into_itself = command(TagCommand::Merge { from: tag("pic"), into: tag("photo") });
    assert_eq!(bench.mutate(&into_itself), Err(Status::Invalid));
}

#[test]
fn a_deleted_tag_is_gone_from_every_inode_and_its_number_is_not_used_again() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    bench.must(&edit(&[ino], &["x", "y"], &[]));
    let seq = bench.events().last().unwrap().seq;
    let delete = |unused_at| command(TagCommand::Delete { tag: tag("x"), unused_at });
    assert_eq!(bench.mutate(&delete(Some(Seq(seq.0 - 1)))), Err(Status::NotEmpty), "it was given to one since");
    bench.must(&delete(Some(seq)));
    assert_eq!(shown(&mut bench, ino).as_deref(), Some("y"));
    bench.must(&command(TagCommand::Make(tag("x"))));
    assert_eq!(shown(&mut bench, ino).as_deref(), Some("y"), "a new tag of that name is another one");
    assert_eq!(bench.mutate(&command(TagCommand::Make(tag("X")))), Err(Status::Exists));
}

#[test]
fn edits_are_refused_whole_or_done_whole() {
    let mut bench = Bench::new(BIG);
    let (a, gone) = (file(&mut bench, "a"), file(&mut bench, "gone"));
    bench.remove(Ino::ROOT, "gone", RemoveKind::Unlink).unwrap();
    assert_eq!(bench.mutate(&edit(&[gone], &["x"], &[])), Err(Status::Stale));
    bench.must(&edit(&[gone, a], &["x"], &[]));
    assert_eq!(shown(&mut bench, a).as_deref(), Some("x"), "one that is gone does not hold up the others");
    let exclusive = TagEdit { inos: vec![a], add: tags(&["x"]), exclusive: true, ..TagEdit::default() };
    assert_eq!(bench.mutate(&Mutation::Tag(exclusive)), Err(Status::Exists));
    let many: Vec<String> = (0..TAGS_PER_FILE_MAX).map(|at| format!("t{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let before = bench.events().len();
    assert_eq!(
        bench.mutate(&edit(&[a], &many, &[])),
        Err(Status::XattrTooBig),
        "with the one it has it is one too many"
    );
    assert_eq!(bench.events().len(), before);
    assert_eq!(bench.mutate(&command(TagCommand::Merge { from: tag("t1"), into: tag("x") })), Err(Status::NotFound));
    bench.must(&edit(&[a], &many, &["x"]));
    let before = bench.events().len();
    bench.must(&edit(&[a], &["t1"], &["nothing"]));
    assert_eq!(bench.events().len(), before, "what changes nothing is no event");
}

#[test]
fn vetoes_relations_and_saved_queries_are_kept() {
    let mut bench = Bench::new(BIG);
    let (a, b) = (file(&mut bench, "a"), file(&mut bench, "b"));
    let veto = TagEdit { inos: vec![a], veto: tags(&["cat"]), ..TagEdit::default() };
    bench.must(&Mutation::Tag(veto.clone()));
    bench.must(&Mutation::Tag(veto));
    let unveto = TagEdit { inos: vec![a], unveto: tags(&["CAT"]), ..TagEdit::default() };
    bench.must(&Mutation::Tag(unveto));
    let relate = |to, on| Mutation::Relate { from: a, relation: HandRelation::LinksTo, to, on };
    bench.must(&relate(b, true));
    assert_eq!(bench.mutate(&relate(b, true)), Err(Status::Exists));
    assert_eq!(bench.mutate(&relate(a, true)), Err(Status::Invalid));
    bench.must(&relate(b, false));
    assert_eq!(bench.mutate(&relate(b, false)), Err(Status::NotFound));
    let nobody = Ino::new(1 << 40).unwrap();
    assert_eq!(bench.mutate(&relate(nobody, true)), Err(Status::NotFound), "no session ended");
    let from_nobody = Mutation::Relate { from: nobody, relation: HandRelation::LinksTo, to: a, on: true };
    assert_eq!(bench.mutate(&from_nobody), Err(Status::NotFound));
    let save = |name: &str, text: Option<&str>| Mutation::SaveQuery {
        name: name.to_owned(),
        expression: text.map(str::to_owned),
        replace: true,
        by: ROOT,
    };
    bench.must(&save("trips", Some("beach")));
    bench.must(&save("trips", Some("beach and sea")));
    bench.must(&save("trips", None));
    assert_eq!(bench.mutate(&save("trips", None)), Err(Status::NotFound));
    assert_eq!(bench.mutate(&save("a/b", Some("x"))), Err(Status::Invalid));
    let kinds: Vec<String> = bench.events().iter().skip(2).map(|event| format!("{:?}", event.change)).collect();
    let expected = ["Tagged", "Tagged", "Related", "Related", "Saved", "Saved", "Saved"];
    assert_eq!(kinds.len(), expected.len(), "{kinds:?}");
    assert!(kinds.iter().zip(expected).all(|(kind, word)| kind.starts_with(word)), "{kinds:?}");
}

#[test]
fn aliases_and_implications_lead_to_living_tags() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    bench.must(&edit(&[ino], &["cat", "animal"], &[]));
    let alias = |name: &str, of: Option<&str>| command(TagCommand::Alias { alias: tag(name), tag: of.map(tag) });
    bench.must(&alias("kitty", Some("cat")));
    assert_eq!(bench.mutate(&alias("animal", Some("cat"))), Err(Status::Exists));
    bench.must(&edit(&[ino], &[], &["Kitty"]));
    assert_eq!(shown(&mut bench, ino).as_deref(), Some("animal"));
    bench.must(&alias("kitty", None));
    assert_eq!(bench.mutate(&alias("cat", None)), Err(Status::Invalid), "its own name is no alias");
    let imply = |a: &str, b: &str, on| command(TagCommand::Imply { tag: tag(a), implied: tag(b), on });
    bench.must(&imply("cat", "animal", true));
    assert_eq!(bench.mutate(&imply("cat", "animal", true)), Err(Status::Exists));
    assert_eq!(bench.mutate(&imply("cat", "cat", true)), Err(Status::Invalid));
    bench.must(&imply("cat", "animal", false));
    assert_eq!(bench.mutate(&imply("cat", "animal", false)), Err(Status::NotFound));
}

/// What follows the log has the attributes of every inode, whatever changed them.
#[test]
fn events_carry_the_attributes_of_all_they_touch() {
    for memory in [BIG, 20_000] {
        let mut bench = Bench::new(memory);
        let dir = bench.make(Ino::ROOT, "d", NewNode::Directory).unwrap().ino;
        let ino = bench.make(dir, "f", NewNode::File).unwrap().ino;
        bench.write_chunk(ino, 0, 7).unwrap();
        bench.mutate(&Mutation::Link { ino, parent: Ino::ROOT, name: super::name("g") }).map(drop).unwrap();
        bench.rename((dir, "f"), (Ino::ROOT, "h"), RenameMode::Replace).unwrap();
        bench.remove(Ino::ROOT, "g", RemoveKind::Unlink).unwrap();
        set(&mut bench, ino, "x").unwrap();
        let mut followed: BTreeMap<Ino, NodeFacts> = BTreeMap::new();
        for event in bench.events() {
            followed.extend(event.nodes.into_iter().map(|node| (node.ino, node)));
        }
        for ino in [Ino::ROOT, dir, ino] {
            let attr = bench.attr(ino).unwrap();
            assert_eq!(followed.get(&ino), Some(&NodeFacts::from(&attr)), "with {memory} bytes of memory");
        }
    }
}
