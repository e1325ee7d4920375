//! Whose tags and saved queries are, and that nobody lets other people's files be found by tags that are not his.

use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::limits::TAGS_PER_FILE_MAX;
use dgfs_proto::log::Change;
use dgfs_proto::meta::{Actor, Mutation, TagCommand, TagEdit, XattrMode};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::Bench;
use super::rules::BIG;
use super::tags::{file, shown, tag, tags};

const ANN: Actor = Actor { uid: 1000, operator: false };
const BOB: Actor = Actor { uid: 1001, operator: false };
const ROOT: Actor = Actor { uid: 0, operator: false };
const OPERATOR: Actor = Actor { uid: 1002, operator: true };

fn add(bench: &mut Bench, inos: &[Ino], add: &[&str], by: Actor) {
    bench.must(&Mutation::Tag(TagEdit { inos: inos.to_vec(), add: tags(add), uid: by.uid, ..TagEdit::default() }));
}

fn change(bench: &mut Bench, command: TagCommand, by: Actor) -> Result<(), Status> {
    bench.mutate(&Mutation::Tags { command, by }).map(drop)
}

fn rename(from: &str, to: &str) -> TagCommand {
    TagCommand::Rename { from: tag(from), to: tag(to) }
}

fn merge(from: &str, into: &str) -> TagCommand {
    TagCommand::Merge { from: tag(from), into: tag(into) }
}

fn alias(name: &str, of: Option<&str>) -> TagCommand {
    TagCommand::Alias { alias: tag(name), tag: of.map(tag) }
}

fn imply(first: &str, implied: &str) -> TagCommand {
    TagCommand::Imply { tag: tag(first), implied: tag(implied), on: true }
}

fn delete(name: &str) -> TagCommand {
    TagCommand::Delete { tag: tag(name), unused_at: None }
}

fn save(name: &str, expression: Option<&str>, replace: bool, by: Actor) -> Mutation {
    Mutation::SaveQuery { name: name.to_owned(), expression: expression.map(str::to_owned), replace, by }
}

fn owner_of_last_made(bench: &Bench) -> Option<u32> {
    let made = |change: &Change| match change {
        Change::Tagged { made, .. } => made.last().map(|(_, facts)| facts.owner),
        Change::TagsChanged(changed) => changed.last().and_then(|(_, facts)| facts.as_ref()).map(|facts| facts.owner),
        _ => None,
    };
    bench.events().iter().rev().find_map(|event| made(&event.change))
}

/// A stranger's `dgfs tag merge keep junk` changed a file of root's in a directory that nobody else could enter, for good.
#[test]
fn a_tag_is_its_makers_and_others_only_tag_with_it() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    add(&mut bench, &[ino], &["keep"], ANN);
    assert_eq!(owner_of_last_made(&bench), Some(1000));
    change(&mut bench, TagCommand::Make(tag("junk")), BOB).unwrap();
    change(&mut bench, alias("rubbish", Some("junk")), BOB).unwrap();
    let refused = [
        merge("keep", "junk"),
        merge("junk", "keep"),
        rename("keep", "kept"),
        alias("hold", Some("keep")),
        imply("keep", "junk"),
        imply("junk", "keep"),
        delete("keep"),
    ];
    for command in refused {
        assert_eq!(change(&mut bench, command.clone(), BOB), Err(Status::NotPermitted), "{command:?}");
    }
    assert_eq!(change(&mut bench, alias("rubbish", None), ANN), Err(Status::NotPermitted));
    add(&mut bench, &[ino], &["junk"], ANN);
    assert_eq!(shown(&mut bench, ino).as_deref(), Some("keep,junk"), "everybody may tag with a tag that is there");
    change(&mut bench, rename("keep", "kept"), ANN).unwrap();
    change(&mut bench, imply("junk", "kept"), ROOT).unwrap();
    change(&mut bench, merge("kept", "junk"), OPERATOR).unwrap();
    change(&mut bench, delete("junk"), BOB).unwrap();
    assert_eq!(shown(&mut bench, ino), None);
}

#[test]
fn a_tag_that_the_attribute_makes_is_whose_hand_set_it() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    let (name, value) = (b"user.xdg.tags".to_vec(), b"new".to_vec());
    bench.must(&Mutation::SetXattr { ino, name, value, mode: XattrMode::Any, uid: 1001 });
    assert_eq!(change(&mut bench, delete("new"), ANN), Err(Status::NotPermitted));
    change(&mut bench, delete("new"), BOB).unwrap();
}

/// `find del-me -0 | xargs rm` of root's must not meet what a stranger has brought there: by an implication, a name below the
/// tag, a tag between.
#[test]
fn nobody_gives_carriers_to_the_tag_of_another() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    add(&mut bench, &[ino], &["popular", "free:of:charge"], ANN);
    add(&mut bench, &[ino], &["del-me", "between"], ROOT);
    change(&mut bench, TagCommand::Make(tag("del-me:mine")), ANN).unwrap();
    change(&mut bench, imply("between", "del-me"), ROOT).unwrap();
    let refused = [
        imply("popular", "del-me"),
        imply("popular", "del-me:mine"),
        rename("popular", "del-me:popular"),
        merge("popular", "del-me:mine"),
        merge("del-me:mine", "popular"),
        alias("del-me:x", Some("popular")),
        rename("popular", "between:popular"),
    ];
    for command in refused {
        assert_eq!(change(&mut bench, command.clone(), ANN), Err(Status::NotPermitted), "{command:?}");
    }
    change(&mut bench, TagCommand::Make(tag("free")), BOB).unwrap();
    assert_eq!(
        change(&mut bench, rename("free", "del"), BOB),
        Err(Status::NotPermitted),
        "what is below it moves, too"
    );
    // What was found by the tag above is found by it still.
    change(&mut bench, rename("del-me:mine", "del-me:own"), ANN).unwrap();
    change(&mut bench, TagCommand::Make(tag("del-me:more")), ANN).unwrap();
    change(&mut bench, merge("del-me:more", "del-me:own"), ANN).unwrap();
    change(&mut bench, rename("popular", "liked"), ANN).unwrap();
}

#[test]
fn a_saved_query_is_its_makers_and_is_not_overwritten_by_mistake() {
    let mut bench = Bench::new(BIG);
    bench.must(&save("q", Some("a"), false, ANN));
    assert_eq!(bench.mutate(&save("q", Some("b"), false, ANN)), Err(Status::Exists));
    assert_eq!(bench.mutate(&save("q", Some("b"), true, BOB)), Err(Status::NotPermitted));
    assert_eq!(bench.mutate(&save("q", None, false, BOB)), Err(Status::NotPermitted));
    bench.must(&save("q", Some("b"), true, OPERATOR));
    bench.must(&save("q", None, false, ANN));
    assert_eq!(bench.mutate(&save("q", None, false, ANN)), Err(Status::NotFound));
}

#[test]
fn saved_queries_follow_tags_that_get_another_name() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    add(&mut bench, &[ino], &["place", "place:cn", "pic", "photo", "year=2020"], ANN);
    let texts = [
        ("both", "place:CN or not place pic", "(Ort:CN or -Ort) (Ort:CN or pic)"),
        ("year", "year=2020", "taken-in=2020"),
        ("no-tag", "place:nowhere", "Ort:nowhere"),
        ("other", "placebo", "placebo"),
        ("broken", "((", "(("),
    ];
    for (name, before, _) in texts {
        bench.must(&save(name, Some(before), false, ANN));
    }
    change(&mut bench, rename("place", "Ort"), ANN).unwrap();
    change(&mut bench, rename("year=2020", "taken-in=2020"), ANN).unwrap();
    assert_eq!(told(&bench), texts.map(|(name, _, after)| (name.to_owned(), after.to_owned())).into());
    change(&mut bench, merge("pic", "photo"), ANN).unwrap();
    assert_eq!(told(&bench)["both"], "(Ort:CN or -Ort) (Ort:CN or photo)");
    assert_eq!(bench.mutate(&save("both", None, false, BOB)), Err(Status::NotPermitted), "it is whose it was");
}

/// Saved queries as whoever follows the log has them.
fn told(bench: &Bench) -> std::collections::BTreeMap<String, String> {
    let mut told = std::collections::BTreeMap::new();
    for event in bench.events() {
        if let Change::Saved { name, expression: Some(text) } = event.change {
            told.insert(name, text);
        }
    }
    told
}

/// `place:cn` stayed where it was when `place` was named by its alias.
#[test]
fn a_tag_named_by_its_alias_takes_what_is_below_it_along() {
    let mut bench = Bench::new(BIG);
    let (a, b) = (file(&mut bench, "a"), file(&mut bench, "b"));
    add(&mut bench, &[a], &["place:cn", "place"], ANN);
    change(&mut bench, alias("ort", Some("place")), ANN).unwrap();
    add(&mut bench, &[b], &["ort:de"], ANN);
    change(&mut bench, rename("ort", "lieu"), ANN).unwrap();
    assert_eq!(shown(&mut bench, a).as_deref(), Some("lieu:cn,lieu"));
    assert_eq!(shown(&mut bench, b).as_deref(), Some("ort:de"), "it was never below the tag's own name");
}

/// The 65th merge in a row took the tag from the files.
#[test]
fn no_chain_of_merges_is_too_long() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    add(&mut bench, &[ino], &["t0"], ANN);
    for at in 1..200 {
        let into = format!("t{at}");
        change(&mut bench, TagCommand::Make(tag(&into)), ANN).unwrap();
        change(&mut bench, merge(&format!("t{}", at - 1), &into), ANN).unwrap();
        // Names of what ended are not needed: there are at most 64.
        change(&mut bench, alias(&format!("t{}", at - 1), None), ANN).unwrap();
        assert_eq!(shown(&mut bench, ino), Some(into));
    }
}

/// A chain as volumes have it from before merges led straight on.
#[test]
fn an_old_chain_of_merges_is_followed_to_its_end() {
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    add(&mut bench, &[ino], &["t0"], ANN);
    for at in 1..100 {
        change(&mut bench, TagCommand::Make(tag(&format!("t{at}"))), ANN).unwrap();
    }
    bench.chain_tags(&(0..100).map(|at| tag(&format!("t{at}"))).collect::<Vec<Tag>>());
    assert_eq!(shown(&mut bench, ino).as_deref(), Some("t99"));
}

/// A thousand new tags took four seconds: each row that was needed began the change again.
#[test]
fn a_change_of_many_tags_asks_for_all_rows_at_once() {
    let many: Vec<String> = (0..TAGS_PER_FILE_MAX).map(|at| format!("t{at}")).collect();
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    let (name, value) = (b"user.xdg.tags".to_vec(), many.join(",").into_bytes());
    let before = bench.attempts;
    bench.must(&Mutation::SetXattr { ino, name: name.clone(), value, mode: XattrMode::Any, uid: 1000 });
    assert!(bench.attempts - before < 10, "{} attempts", bench.attempts - before);
    let other = file(&mut bench, "g");
    let (add, remove) = (many.iter().map(|one| tag(&format!("x{one}"))).collect(), many.iter().map(|one| tag(one)));
    let edit = TagEdit { inos: vec![other], add, remove: remove.collect(), ..TagEdit::default() };
    let before = bench.attempts;
    bench.must(&Mutation::Tag(edit));
    assert!(bench.attempts - before < 10, "{} attempts", bench.attempts - before);
}

#[test]
fn more_tags_than_a_file_may_have_are_too_many_not_malformed() {
    let many: Vec<Tag> = (0..=TAGS_PER_FILE_MAX).map(|at| tag(&format!("t{at}"))).collect();
    let mut bench = Bench::new(BIG);
    let ino = file(&mut bench, "f");
    let (name, value) = (b"user.xdg.tags".to_vec(), dgfs_proto::tag::to_csv(&many));
    let set = Mutation::SetXattr { ino, name, value, mode: XattrMode::Any, uid: 0 };
    assert_eq!(bench.mutate(&set), Err(Status::XattrTooBig));
    let edit = TagEdit { inos: vec![ino], add: many, ..TagEdit::default() };
    assert_eq!(bench.mutate(&Mutation::Tag(edit)), Err(Status::XattrTooBig));
}

impl Bench {
    /// Merges each into the next one, and nothing else.
    fn chain_tags(&mut self, tags: &[Tag]) {
        let ids: Vec<TagId> = tags.iter().map(|tag| self.tag_id(tag)).collect();
        for pair in ids.windows(2) {
            self.edit_tag(pair[0], |facts| facts.merged_into = Some(pair[1]));
        }
    }
}
