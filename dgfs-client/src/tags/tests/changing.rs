//! Changing: every row of the table of operations in `docs/TAGS.md`, what it does and what it refuses.

use dgfs_proto::attr::FileKind;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{Caller, NewNode, RemoveKind, RenameMode};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::{ROOT, USER, World, name};
use crate::tags::Who;
use crate::vfs::{Access, Create, OpenFlags};

async fn world() -> World {
    let world = World::new().await;
    world.truth.file("f", &["a"]);
    world.truth.file("dir/g", &["b"]);
    world.truth.file("plain", &[]);
    world
}

fn ino(world: &World, path: &str) -> Ino {
    world.truth.make(path, FileKind::File)
}

#[tokio::test]
async fn mkdir_makes_a_tag() {
    let world = world().await;
    assert_eq!(world.mkdir(".tags/new").await.unwrap().kind, FileKind::Directory);
    assert_eq!(world.mkdir(".tags/a/place:cn").await.unwrap().kind, FileKind::Directory);
    assert_eq!(world.mkdir(".tags/year=2024").await.unwrap().kind, FileKind::Directory);
    assert!(world.ls(".tags", ROOT).await.unwrap().contains(&"new/".to_owned()), "kept when empty");
    let rows = [
        (".tags/new", Status::Exists),
        (".tags/NEW", Status::Exists),
        (".tags/@counts", Status::Exists),
        (".tags/a::b", Status::Invalid),
        (".tags/a,,b", Status::Invalid),
        (".tags/x,y", Status::NotPermitted),
        (".tags/-x", Status::NotPermitted),
        (".tags/size=5..", Status::NotPermitted),
        (".tags/x=", Status::NotPermitted),
        (".tags/?word", Status::NotPermitted),
        (".tags/@all", Status::NotPermitted),
        (".tags/@saved/x", Status::NotPermitted),
        (".tags/a/@refine/x", Status::NotPermitted),
    ];
    for (path, expected) in rows {
        assert_eq!(world.mkdir(path).await.map(|_| ()), Err(expected), "{path}");
    }
}

#[tokio::test]
async fn rmdir_deletes_an_unused_tag() {
    let world = world().await;
    world.mkdir(".tags/new").await.unwrap();
    world.mkdir(".tags/new:below").await.unwrap();
    world.mkdir(".tags/newer").await.unwrap();
    let rows = [
        (".tags/a", Err(Status::NotEmpty)),
        ("dir/.tags/b", Err(Status::NotEmpty)),
        // Below this directory nobody carries it: there is nothing to remove.
        ("dir/.tags/a", Ok(())),
        (".tags/a/b", Err(Status::NotPermitted)),
        (".tags/-a", Err(Status::NotPermitted)),
        (".tags/@all", Err(Status::NotPermitted)),
        (".tags", Err(Status::NotPermitted)),
        (".tags/a/@refine", Ok(())),
        (".tags/a/f", Err(Status::NotDirectory)),
        (".tags/new", Ok(())),
    ];
    for (path, expected) in rows {
        assert_eq!(world.rmdir(path).await, expected, "{path}");
    }
    let left: Vec<String> = world.truth.volume.lock().catalogue.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["a", "b", "newer"]);
}

#[tokio::test]
async fn a_hard_link_tags_with_every_tag_of_the_path() {
    let world = world().await;
    let f = ino(&world, "f");
    let linked = world.link("f", ".tags/a/b", ROOT).await.unwrap();
    assert_eq!((linked.ino, linked.kind), (f, FileKind::File), "the kernel is told the file itself");
    assert_eq!(world.truth.tags(f), ["a", "b"]);
    world.mkdir(".tags/year=2024").await.unwrap();
    world.truth.file("x", &["year=2024"]);
    world.link("plain", ".tags/year=2024", ROOT).await.unwrap();
    world.link("f", ".tags/year=/2024", ROOT).await.unwrap();
    assert_eq!(world.truth.tags(f), ["a", "b", "year=2024"]);
    let rows = [
        (".tags/a/b", Status::Exists),
        (".tags/a,b", Status::Invalid),
        (".tags/a/-b", Status::Invalid),
        (".tags/size=1..", Status::Invalid),
        (".tags/?word", Status::Invalid),
        (".tags/@all", Status::Invalid),
        (".tags", Status::Invalid),
        (".tags/@saved", Status::Invalid),
        (".tags/@of", Status::Invalid),
    ];
    for (path, expected) in rows {
        assert_eq!(world.link("f", path, ROOT).await.map(|_| ()), Err(expected), "{path}");
    }
    // ln(1) without -L links a found entry's own symlink: its file is meant.
    let source = world.at(".tags/a/f", ROOT).await.unwrap().ino;
    world.rm(".tags/b/f", ROOT).await.unwrap();
    let target = world.at(".tags/b", ROOT).await.unwrap().ino;
    assert_eq!(world.tags().link(source, target, ROOT).await.unwrap().ino, source);
    assert_eq!(world.truth.tags(f), ["a", "b", "year=2024"]);
}

#[tokio::test]
async fn a_symlink_tags_what_it_leads_to() {
    let world = world().await;
    let made = |path: &'static str, target: &'static str| (path, target);
    let link = world.truth.make("dir/link", FileKind::Symlink);
    world.truth.edit(link, |link| link.target = b"../dir".to_vec());
    let accepted = [
        made(".tags/t/1", "../../plain"),
        made(".tags/t/2", "f"),
        made(".tags/t/3", "/mnt/graph/dir/g"),
        made(".tags/t/4", "../../dir"),
        made("dir/.tags/t/5", "g2"),
        made(".tags/t/6", "../../dir/link"),
        made(".tags/t/7", "../../dir/link/g3"),
        made(".tags/t/8", "../a/f2"),
    ];
    for path in ["dir/g2", "dir/g3"] {
        world.truth.make(path, FileKind::File);
    }
    world.truth.file("dir/f2", &["a"]);
    world.mkdir(".tags/t").await.unwrap();
    for (path, target) in accepted {
        let made = world.symlink(target, path).await.unwrap_or_else(|status| panic!("{target}: {status}"));
        assert_eq!(made.kind, FileKind::Symlink, "{target}");
    }
    for path in ["plain", "f", "dir/g", "dir", "dir/g2", "dir/link", "dir/g3", "dir/f2"] {
        assert!(world.truth.tags(ino(&world, path)).contains(&"t".to_owned()), "{path}");
    }
    let rows = [
        (".tags/a/x", "nothing", Status::NotFound),
        (".tags/a/x", "/etc/passwd", Status::CrossDevice),
        (".tags/a/x", "/mnt/graphic", Status::CrossDevice),
        (".tags/a/x", "../../../etc/passwd", Status::CrossDevice),
        (".tags/a/x", "../../plain/below", Status::NotDirectory),
        (".tags/a,b/x", "f", Status::Invalid),
        (".tags/-a/x", "f", Status::Invalid),
        (".tags/t/x", "../../f", Status::Exists),
    ];
    for (path, target, expected) in rows {
        assert_eq!(world.symlink(target, path).await.map(|_| ()), Err(expected), "{path} -> {target}");
    }
}

#[tokio::test]
async fn queries_are_saved_renamed_and_forgotten() {
    let world = world().await;
    world.symlink("a/b,c/-d", ".tags/@saved/n").await.unwrap();
    assert_eq!(world.truth.volume.lock().saved.get("n").unwrap(), "a (b or c) -d");
    assert_eq!(world.readlink(".tags/@saved/n").await.unwrap(), "../a/b,c/-d");
    world.symlink("../a/b,c/-d", ".tags/@saved/same").await.unwrap();
    world.rm("dir/.tags/@saved/same", ROOT).await.unwrap();
    assert!(world.truth.volume.lock().saved.contains_key("same"), "they are not the directory's");
    assert_eq!(world.symlink("a", ".tags/@saved/n").await.map(|_| ()), Err(Status::Exists));
    assert_eq!(world.symlink("a,,b", ".tags/@saved/m").await.map(|_| ()), Err(Status::Invalid));
    assert_eq!(world.symlink("a/@refine", ".tags/@saved/m").await.map(|_| ()), Err(Status::Invalid));
    world.mv(".tags/@saved/n", ".tags/@saved/m").await.unwrap();
    assert_eq!(world.mv(".tags/@saved/m", ".tags/@saved/same").await, Err(Status::Exists));
    assert_eq!(world.mv(".tags/@saved/m", ".tags/m").await, Err(Status::NotPermitted));
    world.rm(".tags/@saved/m", ROOT).await.unwrap();
    assert_eq!(world.rm(".tags/@saved/m", ROOT).await, Err(Status::NotFound));
    world.truth.volume.lock().saved.insert("dir".to_owned(), "@untagged or a".to_owned());
    world.rmdir(".tags/@saved/dir").await.unwrap();
    assert_eq!(world.ls(".tags/@saved", ROOT).await.unwrap(), ["same@"]);
}

#[tokio::test]
async fn rm_takes_the_last_tag_off_and_vetoes_what_taggers_say() {
    let world = world().await;
    let f = world.truth.file("f", &["b", "place:cn", "place:de"]);
    world.truth.edit(f, |f| f.said = vec!["photo".to_owned(), "place:fr".to_owned()]);
    world.truth.volume.lock().implied.push((Tag::parse("a").unwrap(), Tag::parse("letter").unwrap()));
    world.truth.volume.lock().aliases.push((Tag::parse("alpha").unwrap(), Tag::parse("a").unwrap()));
    world.rm(".tags/a/b/f", ROOT).await.unwrap();
    assert_eq!(world.truth.tags(f), ["a", "place:cn", "place:de"]);
    world.rm(".tags/place/f", ROOT).await.unwrap();
    assert_eq!(world.truth.tags(f), ["a"]);
    world.rm(".tags/photo/f", ROOT).await.unwrap();
    assert_eq!(
        world.truth.edit(f, |f| f.vetoes.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ["place:fr", "photo"]
    );
    assert_eq!(world.at(".tags/photo/f", ROOT).await.map(|_| ()), Err(Status::NotFound));
    let rows = [
        (".tags/letter/f", Status::NotPermitted),
        (".tags/-b/f", Status::NotPermitted),
        (".tags/a,b/f", Status::NotPermitted),
        (".tags/@all/f", Status::NotPermitted),
        (".tags/a/@all/f", Status::NotPermitted),
        (".tags/a/nothing", Status::NotFound),
        (".tags/@ask", Status::NotPermitted),
        (".tags/a", Status::IsDirectory),
        (".tags", Status::IsDirectory),
    ];
    for (path, expected) in rows {
        assert_eq!(world.rm(path, ROOT).await, Err(expected), "{path}");
    }
    for path in [".tags/@counts", ".tags/a/@counts", ".tags/a/@explain", ".tags/a/@refine/a"] {
        assert_eq!(world.rm(path, ROOT).await, Ok(()), "{path}");
    }
    assert_eq!(world.truth.tags(f), ["a"]);
    world.rm(".tags/alpha/f", ROOT).await.unwrap();
    assert_eq!(world.truth.tags(f), [""; 0]);
}

/// As rm(1) does it: all entries, directories after what is in them.
async fn rm_r(world: &World, path: &str) {
    let mut directories = vec![path.to_owned()];
    let mut at = 0;
    while let Some(directory) = directories.get(at).cloned() {
        for entry in world.entries(&directory, ROOT).await.unwrap() {
            let below = format!("{directory}/{}", String::from_utf8(entry.name).unwrap());
            if entry.kind == FileKind::Directory {
                directories.push(below);
            } else {
                world.rm(&below, ROOT).await.unwrap();
            }
        }
        at += 1;
    }
    for directory in directories.iter().rev() {
        world.rmdir(directory).await.unwrap_or_else(|status| panic!("rmdir {directory}: {status}"));
    }
}

#[tokio::test]
async fn rm_r_of_a_tag_untags_everything_and_ends_the_tag() {
    let world = world().await;
    let files: Vec<Ino> = (0..50).map(|n| world.truth.file(&format!("d/x{n}"), &["x:y", "keep"])).collect();
    world.truth.edit(files[7], |file| file.said = vec!["x".to_owned()]);
    rm_r(&world, ".tags/x").await;
    assert!(files.iter().all(|file| world.truth.tags(*file) == ["keep"]));
    assert!(!world.truth.volume.lock().catalogue.iter().any(|tag| tag.as_str().starts_with('x')));
    assert_eq!(world.at(".tags/x", ROOT).await.map(|_| ()), Err(Status::NotFound));
    assert!(world.at("d/x7", ROOT).await.is_ok(), "no file is touched");
}

#[tokio::test]
async fn mv_between_tags_is_one_change() {
    let world = world().await;
    let f = world.truth.file("f", &["keep", "b:c"]);
    world.truth.volume.lock().changes.clear();
    world.mkdir(".tags/new").await.unwrap();
    world.mv(".tags/a/keep/f", ".tags/keep/new/f").await.unwrap();
    assert_eq!(world.truth.tags(f), ["b:c", "keep", "new"]);
    assert_eq!(world.truth.volume.lock().changes.len(), 2, "the tag, and one change of the file");
    // What is put on stays on, also below what is taken off.
    world.mv(".tags/b/f", ".tags/b:c/f").await.map_err(|status| panic!("{status}")).unwrap();
    assert_eq!(world.truth.tags(f), ["b:c", "keep", "new"]);
    let rows = [
        (".tags/keep/f", ".tags/keep/other", Status::Invalid),
        (".tags/keep/f", ".tags/a,b/f", Status::Invalid),
        (".tags/keep/-a/f", ".tags/a/f", Status::Invalid),
        (".tags/keep/f", ".tags/f", Status::Invalid),
        (".tags/keep/f", "f2", Status::NotPermitted),
        ("plain", ".tags/a/plain", Status::NotPermitted),
        (".tags/a/@counts", ".tags/b/@counts", Status::NotPermitted),
        (".tags", "elsewhere", Status::NotPermitted),
        ("plain", "dir/.tags", Status::Exists),
    ];
    for (from, to, expected) in rows {
        assert_eq!(world.mv(from, to).await, Err(expected), "{from} to {to}");
    }
    let (from, to) = (world.at(".tags/keep", ROOT).await.unwrap().ino, world.at(".tags/a", ROOT).await.unwrap().ino);
    let f = name("f");
    assert_eq!(world.tags().rename((from, &f), (to, &f), RenameMode::Exchange, ROOT).await, Err(Status::Invalid));
}

#[tokio::test]
async fn mv_of_a_tag_renames_it() {
    let world = world().await;
    let f = world.truth.file("f", &["a:b"]);
    world.mv(".tags/a", ".tags/c").await.unwrap();
    assert_eq!(world.truth.tags(f), ["c", "c:b"]);
    world.mv(".tags/c", ".tags/C").await.unwrap();
    assert_eq!(world.truth.tags(f), ["C", "C:b"]);
    let rows = [
        (".tags/C", ".tags/b", Status::Exists),
        // mv(1) moves into a directory that exists.
        (".tags/C", ".tags/b/C", Status::Exists),
        (".tags/C", ".tags/x,y", Status::Invalid),
        (".tags/C", ".tags/-x", Status::Invalid),
        (".tags/C", ".tags/@saved/x", Status::Invalid),
        (".tags/-C", ".tags/x", Status::NotPermitted),
        (".tags/@all", ".tags/x", Status::NotPermitted),
    ];
    for (from, to, expected) in rows {
        assert_eq!(world.mv(from, to).await, Err(expected), "{from} to {to}");
    }
}

#[tokio::test]
async fn relations_are_made_and_taken_back_by_hand() {
    let world = World::new().await;
    let (a, b) = (ino(&world, "a"), ino(&world, "b"));
    for relation in ["links-to", "linked-from", "derived", "sources", "versions", "related"] {
        let directory = format!(".tags/@of/a/{relation}");
        world.symlink("../b", &format!("{directory}/b")).await.unwrap_or_else(|status| panic!("{relation}: {status}"));
        assert_eq!(world.ls(&directory, ROOT).await.unwrap(), ["@counts", "@refine/", "b@"], "{relation}");
        assert_eq!(world.link("b", &directory, ROOT).await.map(|_| ()), Err(Status::Exists), "{relation}");
        world.rm(&format!("{directory}/b"), ROOT).await.unwrap();
        assert_eq!(world.ls(&directory, ROOT).await.unwrap(), ["@counts", "@refine/"], "{relation}");
    }
    world.link("b", ".tags/@of/a/derived", ROOT).await.unwrap();
    let derived = vec![(dgfs_proto::graph::HandRelation::DerivedFrom, a)];
    assert_eq!(world.truth.edit(b, |b| b.related.clone()), derived, "what is derived was made from it");
    for relation in ["similar", "same-content", "tags", "authors"] {
        let made = world.symlink("../b", &format!(".tags/@of/a/{relation}/b")).await;
        assert_eq!(made.map(|_| ()), Err(Status::NotPermitted), "{relation}");
    }
    for file in [a, b] {
        world.truth.edit(file, |file| file.attr.size = 9);
    }
    assert_eq!(world.rm(".tags/@of/a/same-content/b", ROOT).await, Err(Status::NotPermitted));
    assert_eq!(world.link("a", ".tags/@of/a/related", ROOT).await.map(|_| ()), Err(Status::Invalid));
}

#[tokio::test]
async fn files_cannot_be_made_and_attributes_not_set() {
    let world = world().await;
    let at = world.at(".tags/a", ROOT).await.unwrap().ino;
    assert_eq!(world.tags().make(at, &name("x"), &NewNode::File, ROOT).await.map(|_| ()), Err(Status::NotPermitted));
    let set = dgfs_proto::meta::SetAttr { mode: Some(0o600), ..Default::default() };
    assert_eq!(world.tags().setattr(at, set, ROOT).await.map(|_| ()), Err(Status::NotPermitted));
    assert_eq!(world.tags().getxattr(at, b"user.dgfs.id", ROOT).await, Err(Status::NoXattr));
}

#[tokio::test]
async fn nobody_makes_an_entry_of_the_virtual_name() {
    let world = world().await;
    let (root, tags) = (Ino::ROOT, || name(".tags"));
    let access = Access { mode: 0o644, umask: 0, caller: Caller::default() };
    let create = Create { parent: root, name: tags(), access, flags: OpenFlags::default(), exclusive: false };
    assert_eq!(world.vfs.create(create).await.map(|_| ()), Err(Status::Exists));
    assert_eq!(world.vfs.make(root, tags(), NewNode::Directory, access).await.map(|_| ()), Err(Status::Exists));
    assert_eq!(world.vfs.link(ino(&world, "f"), root, tags()).await.map(|_| ()), Err(Status::Exists));
    let from = (root, name("f"));
    assert_eq!(world.vfs.rename(from, (root, tags()), RenameMode::Replace).await, Err(Status::Exists));
}

#[tokio::test]
async fn tagging_needs_the_right_to_write() {
    let world = world().await;
    let f = ino(&world, "f");
    assert_eq!(world.link("f", ".tags/b", USER).await.map(|_| ()), Err(Status::AccessDenied));
    assert_eq!(world.rm(".tags/a/f", USER).await, Err(Status::AccessDenied));
    let acl = |uid: u32| {
        let entries: [(u16, u16, u32); 5] = [(1, 6, 0), (2, 6, uid), (4, 4, 0), (16, 6, 0), (32, 4, 0)];
        let bytes = entries
            .iter()
            .flat_map(|(tag, bits, id)| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat());
        [2, 0, 0, 0].into_iter().chain(bytes).collect::<Vec<u8>>()
    };
    let listed = world.truth.make("listed", FileKind::File);
    world.truth.edit(listed, |file| {
        file.acl = Some(acl(USER.uid));
        file.attr.flags.set(dgfs_proto::attr::AttrFlags::HAS_ACCESS_ACL, true);
    });
    world.link("listed", ".tags/b", USER).await.unwrap();
    let other = Who { uid: 1001, gid: 1001, pid: 0 };
    assert_eq!(world.link("listed", ".tags/a", other).await.map(|_| ()), Err(Status::AccessDenied));
    let own = world.truth.make("own", FileKind::File);
    world.truth.edit(own, |file| file.attr.uid = USER.uid);
    world.link("own", ".tags/b", USER).await.unwrap();
    let link = world.truth.make("link", FileKind::Symlink);
    world.truth.edit(link, |link| link.attr.mode = 0o777);
    assert_eq!(world.link("link", ".tags/b", USER).await.map(|_| ()), Err(Status::NotPermitted));
    assert_eq!((world.truth.tags(f), world.truth.tags(own)), (vec!["a".to_owned()], vec!["b".to_owned()]));
}

#[tokio::test]
async fn an_fsync_of_the_directory_waits_for_every_index() {
    let world = world().await;
    let handle = world.tags().opendir(world.at(".tags", ROOT).await.unwrap().ino, ROOT).unwrap();
    let before = world.truth.asked.load(std::sync::atomic::Ordering::Acquire);
    world.tags().fsyncdir(handle).await.unwrap();
    assert_eq!(world.truth.asked.load(std::sync::atomic::Ordering::Acquire), before + 1);
    world.tags().releasedir(handle);
    assert_eq!(world.tags().fsyncdir(handle).await, Err(Status::BadHandle));
}

#[tokio::test]
async fn removing_by_a_kind_that_does_not_fit_is_refused() {
    let world = world().await;
    let at = world.at(".tags", ROOT).await.unwrap().ino;
    assert_eq!(world.tags().remove(at, &name("@counts"), RemoveKind::Rmdir, ROOT).await, Err(Status::NotDirectory));
    assert_eq!(world.tags().remove(at, &name("@all"), RemoveKind::Unlink, ROOT).await, Err(Status::IsDirectory));
}
